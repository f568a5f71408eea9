"""Windows against the kernel: readers that stop, writers that never pause, and the stalls that others have."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time

import pytest

import tcpstack
from tcpstack.core.events import SegmentIn, SegmentOut
from tcpstack.core.segment import ACK, SYN

DATA = random.Random(3).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()

SEND_FILE = """
import socket, sys
s = socket.create_connection(("10.9.0.2", 9000))
s.sendall(open(sys.argv[1], "rb").read())
s.shutdown(socket.SHUT_WR)
print(len(s.recv(10)))
"""

# Reads a little, stops for as long as it is told (which our side cannot see but by the window), reads the rest.
READ_WITH_PAUSE = """
import hashlib, socket, sys, time
s = socket.create_connection(("10.9.0.2", 9000))
digest = hashlib.sha256(s.recv(1000))
time.sleep(float(sys.argv[1]))
began = time.monotonic()
while chunk := s.recv(65536):
    digest.update(chunk)
print(digest.hexdigest(), time.monotonic() - began)
"""

READ_INTO_SMALL_BUFFER = """
import hashlib, socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
s.connect(("10.9.0.2", 9000))
digest = hashlib.sha256()
while chunk := s.recv(65536):
    digest.update(chunk)
print(digest.hexdigest())
"""

ECHO_OCTETS = """
import socket
listener = socket.create_server(("10.9.0.1", 9003))
print("listening", flush=True)
connection, _ = listener.accept()
while octets := connection.recv(100):
    connection.sendall(octets)
"""


@pytest.fixture
def events():
    return []


async def test_our_reader_stops_for_three_seconds_and_nothing_is_lost(open_stack, namespace, events, tmp_path):
    stack = await open_stack(tracer=events.append)
    done = asyncio.get_running_loop().create_future()

    async def read_with_pause(reader, writer):
        digest = hashlib.sha256(await reader.read(1000))
        await asyncio.sleep(3)
        while chunk := await reader.read(65536):
            digest.update(chunk)
        done.set_result(digest.hexdigest())
        writer.close()

    await stack.start_server(read_with_pause, port=9000)
    (tmp_path / "data").write_bytes(DATA)
    await namespace.run(sys.executable, "-c", SEND_FILE, tmp_path / "data")

    assert await asyncio.wait_for(done, 10) == SHA256
    closed = next(index for index, e in enumerate(events) if isinstance(e, SegmentOut) and e.segment.wnd == 0)
    # The reads reopen the window at once: an update for its own sake, and text within the same moment.
    update = next(
        e for e in events[closed:] if isinstance(e, SegmentOut) and e.segment.reason.startswith("window update")
    )
    text = next(
        e for e in events if isinstance(e, SegmentIn) and e.time_ns > update.time_ns and e.segment.payload_len > 1
    )
    assert update.segment.wnd > 0
    assert text.time_ns - update.time_ns < 150_000_000  # the kernel's own probe timer is 200 ms and more


@pytest.mark.any_loop
async def test_kernels_reader_stops_for_three_seconds_and_we_go_on_at_once(open_stack, namespace, events):
    stack = await open_stack(tracer=events.append)

    async def pour(reader, writer):
        writer.write(DATA)
        await writer.drain()
        writer.close()

    await stack.start_server(pour, port=9000)
    result = await namespace.run(sys.executable, "-c", READ_WITH_PAUSE, "3")

    digest, seconds = result.stdout.split()
    assert digest.decode() == SHA256
    assert float(seconds) < 1.0  # our probes come at 200 ms and later: the window update alone must reopen us
    windows = [e for e in events if isinstance(e, SegmentIn) and not e.segment.flags & SYN]
    closed = next(index for index, e in enumerate(windows) if e.segment.wnd == 0)
    reopened = next(e for e in windows[closed:] if e.segment.wnd > 0)
    texts = [e for e in events if isinstance(e, SegmentOut) and e.segment.payload_len]
    answer = next(e for e in texts if e.time_ns >= reopened.time_ns)
    assert answer.time_ns == reopened.time_ns  # in the very turn


async def test_writer_that_never_pauses_is_held_back(stack, namespace):
    """The kernel's reader stops; our writer, which drains after each write, must stop as well."""
    written = 0
    stopped = asyncio.Event()

    async def pour(reader, writer):
        nonlocal written
        while True:
            writer.write(bytes(65536))
            written += 65536
            try:
                async with asyncio.timeout(0.5):
                    await writer.drain()
            except TimeoutError:
                stopped.set()
                writer.transport.abort()
                return

    await stack.start_server(pour, port=9000)
    client = await namespace.spawn(sys.executable, "-c", READ_WITH_PAUSE, "60")
    await asyncio.wait_for(stopped.wait(), 20)
    client.kill()
    # What the kernel's socket takes (6 MB at most by default), our send buffer, and the high-water mark.
    assert written < 6 * 1024 * 1024 + tcpstack.Config().send_buffer_bytes + 2 * 65536 + 64 * 1024


async def test_small_writes_do_not_wait_for_the_kernels_delayed_ack(stack, namespace):
    """100 writes of 100 octets each, then a long one, by a protocol that leaves Nagle on: one delayed
    acknowledgement of 40 ms at most, not one for each write."""

    async def speak(reader, writer):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(6, 1, 0)  # TCP_NODELAY off
        began = time.monotonic()
        for _ in range(100):
            writer.write(b"x" * 100)
            await asyncio.sleep(0)
        writer.write(b"y" * 2190)  # one and a half segments
        writer.write_eof()
        await reader.read()
        seconds.set_result(time.monotonic() - began)
        writer.close()

    seconds = asyncio.get_running_loop().create_future()
    await stack.start_server(speak, port=9000)
    result = await namespace.run("nc", "-N", "10.9.0.2", "9000", timeout=20)
    assert result.stdout == b"x" * 10_000 + b"y" * 2190
    assert await seconds < 2.0  # 101 waits would be 4 seconds


async def test_window_scale_zero_is_not_taken_as_absent(open_stack, namespace, events):
    """A kernel with a receive buffer under 64 KB offers a shift of 0: scaling is on, with factor one."""
    stack = await open_stack(tracer=events.append)

    async def pour(reader, writer):
        writer.write(DATA)
        await writer.drain()
        writer.close()

    await stack.start_server(pour, port=9000)
    result = await namespace.run(sys.executable, "-c", READ_INTO_SMALL_BUFFER)
    assert result.stdout.decode().strip() == SHA256
    syn = next(e.segment for e in events if isinstance(e, SegmentIn) and e.segment.flags & SYN)
    assert syn.options.wscale == 0
    # We never send beyond what a factor of one allows.
    edge = 0
    for event in events:
        if isinstance(event, SegmentIn) and event.segment.flags & ACK:
            edge = max(edge, event.segment.ack + event.segment.wnd)
        elif isinstance(event, SegmentOut) and event.segment.payload_len > 1:
            assert event.segment.seq + event.segment.payload_len <= edge


async def test_first_packet_is_an_ipv6_syn(stack, namespace):
    async def hello(reader, writer):
        writer.write(b"hello")
        writer.close()

    await stack.start_server(hello, port=9000)
    result = await namespace.run("nc", "-N", "fd09::2", "9000")
    assert result.stdout == b"hello"


async def test_each_write_leaves_in_its_own_turn_and_each_answer_arrives(open_stack, namespace, events):
    """A segment leaves from the write call itself: there is no tick to wait for."""
    stack = await open_stack(tracer=events.append)
    server = await namespace.spawn(sys.executable, "-c", ECHO_OCTETS)
    assert await server.stdout.readline() == b"listening\n"
    reader, writer = await stack.open_connection("10.9.0.1", 9003)
    for index in range(50):
        events.clear()
        writer.write(bytes((index,)))
        assert any(isinstance(e, SegmentOut) and e.segment.payload_len == 1 for e in events)
        assert await asyncio.wait_for(reader.readexactly(1), 5) == bytes((index,))
    writer.close()
