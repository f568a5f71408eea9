"""Keep-alives between the kernel and us: each answers the other's, and we notice when it is gone."""

from __future__ import annotations

import asyncio
import errno
import sys

import pytest

import tcpstack
from tcpstack.core.config import MILLISECOND_NS
from tcpstack.core.events import Event, SegmentIn, SegmentOut
from tcpstack.core.segment import ACK, RST

# A single one that goes unanswered would end it, a second later.
ASKING = """
import socket
s = socket.create_connection(("10.9.0.2", 9000))
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
    s.setsockopt(socket.IPPROTO_TCP, option, 1)
try:
    print(s.recv(100).decode())
except TimeoutError:
    print("timed out")
"""
LISTENING = """
import socket
s = socket.create_server(("10.9.0.1", 9000))
print("listening", flush=True)
c, _ = s.accept()
c.recv(1)
"""


async def test_kernels_keepalive_is_answered_and_its_connection_stays(open_stack, namespace):
    events: list[Event] = []
    answered = asyncio.get_running_loop().create_future()

    def tracer(event: Event) -> None:
        events.append(event)
        answers = isinstance(event, SegmentOut) and event.segment.reason == "ACK: segment outside the window"
        if answers and not answered.done():
            answered.set_result(events[-2])

    async def wait(reader, writer):
        await answered
        await asyncio.sleep(1.1)  # the kernel would have given up by then
        writer.write(b"still there")
        writer.close()

    stack = await open_stack(tracer=tracer)
    await stack.start_server(wait, port=9000)
    done = await namespace.run(sys.executable, "-c", ASKING, timeout=10)

    assert done.stdout == b"still there\n"
    probe = answered.result()
    assert isinstance(probe, SegmentIn)
    assert (probe.segment.flags, probe.segment.payload_len) == (ACK, 0)


@pytest.mark.rfc9293("MAY-5", "SHLD-12")
async def test_our_keepalive_is_answered_by_the_kernel_until_it_is_gone(open_stack, namespace):
    probes, answers, reset = [], [], []
    # Longer than tcp_invalid_ratelimit, within which the kernel answers once; when it is gone, the interval counts.
    idle_ns, interval_ns = 600 * MILLISECOND_NS, 100 * MILLISECOND_NS
    config = tcpstack.Config(
        keepalive=True, keepalive_idle_ns=idle_ns, keepalive_interval_ns=interval_ns, keepalive_probes=3
    )

    def tracer(event: Event) -> None:
        if isinstance(event, SegmentOut) and event.segment.reason.startswith("keep-alive probe"):
            probes.append(event)
        elif isinstance(event, SegmentIn) and probes:
            answers.append(event)
        elif isinstance(event, SegmentOut) and event.segment.flags & RST:
            reset.append(event)

    stack = await open_stack(tracer=tracer, config=config)
    server = await namespace.spawn(sys.executable, "-c", LISTENING)
    assert await server.stdout.readline() == b"listening\n"
    reader, writer = await stack.open_connection("10.9.0.1", 9000)
    async with asyncio.timeout(10):
        while len(answers) < 2:
            await asyncio.sleep(0.01)
        gone = await namespace.run("ip", "address", "flush", "to", "10.9.0.1")
        assert gone.returncode == 0, gone.stderr
        with pytest.raises(TimeoutError, match="keep-alives went unanswered") as caught:
            await reader.read()

    assert caught.value.errno == errno.ETIMEDOUT
    counts = [probe.segment.reason.partition(":")[0] for probe in probes]
    assert counts[-3:] == ["keep-alive probe", "keep-alive probe 2 of 3", "keep-alive probe 3 of 3"]
    assert counts[:-3] == ["keep-alive probe"] * len(answers)
    assert len(reset) == 1
    assert reset[0].time_ns - answers[-1].time_ns >= idle_ns + 3 * interval_ns
    writer.close()
    assert not stack.connections
