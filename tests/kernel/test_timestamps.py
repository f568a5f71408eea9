"""Timestamps with the kernel: negotiated whoever opens, in each segment, and echoed as its own round trips show."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from tcpstack.core.config import Config
from tcpstack.core.events import SegmentIn, SegmentOut
from tcpstack.core.segment import RST

# Speaks with a stack that echoes, from either side, and tells what tcp_info has.
PEER = """
import json, socket, sys
if sys.argv[1] == "opens":
    s = socket.create_connection(("10.9.0.2", 9000), timeout=30)
else:
    listener = socket.create_server(("10.9.0.1", 9001))
    print("ready", flush=True)
    s, _ = listener.accept()
for size in (1, 100, 100_000):
    s.sendall(bytes(size))
    left = size
    while left:
        left -= len(s.recv(left))
info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
print(json.dumps({"timestamps": bool(info[5] & 1), "mss": int.from_bytes(info[16:20], sys.byteorder)}), flush=True)
s.close()
"""

# Ends without a word: nobody answers for the connection any more.
VANISHES = """
import socket
s = socket.create_connection(("10.9.0.2", 9000), timeout=30)
s.sendall(b"hello")
s.recv(1)
s.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
s.close()
print("gone", flush=True)
s = socket.socket()
"""


async def echo(reader, writer):
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("who", ["opens", "listens"])
@pytest.mark.parametrize("ours", [True, False])
async def test_each_segment_carries_them_where_both_ends_offer_them(open_stack, namespace, who, ours):
    events = []
    stack = await open_stack(config=Config(timestamps=ours), tracer=events.append)
    if who == "opens":
        await stack.start_server(echo, port=9000)
        done = await namespace.run(sys.executable, "-c", PEER, who)
        told = json.loads(done.stdout)
    else:
        process = await namespace.spawn(sys.executable, "-c", PEER, who)
        assert await process.stdout.readline() == b"ready\n"
        await echo(*await stack.open_connection("10.9.0.1", 9001))
        told = json.loads(await process.stdout.readline())
    assert told == {"timestamps": ours, "mss": 1448 if ours else 1460}
    both = [event.segment for event in events if isinstance(event, (SegmentIn, SegmentOut))]
    seen = {bool(each.options and each.options.timestamps) for each in both[2:] if not each.flags & RST}
    assert seen == {ours}
    if ours:
        echoes = {each.segment.options.timestamps[1] for each in events if isinstance(each, SegmentIn)} - {0}
        assert echoes <= {each.segment.options.timestamps[0] for each in events if isinstance(each, SegmentOut)}


async def test_reset_without_timestamps_ends_a_connection_that_has_them(open_stack, namespace):
    events = []
    stack = await open_stack(tracer=events.append)
    ended = asyncio.get_running_loop().create_future()
    go_on = asyncio.Event()

    async def speak(reader, writer):
        assert await reader.readexactly(5) == b"hello"
        writer.write(b"!")
        await go_on.wait()
        try:
            writer.write(b"are you there?")
            await reader.read()
            ended.set_result(None)
        except OSError as error:
            ended.set_result(error)

    await stack.start_server(speak, port=9000)
    done = await namespace.run(sys.executable, "-c", VANISHES)
    assert done.stdout == b"gone\n", done.stderr
    go_on.set()
    assert isinstance(await asyncio.wait_for(ended, 10), ConnectionResetError)
    [reset] = [each.segment for each in events if isinstance(each, SegmentIn) and each.segment.flags & RST]
    assert reset.options is None
    assert all(each.segment.options.timestamps for each in events if isinstance(each, SegmentOut))
