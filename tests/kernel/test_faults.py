"""2 MB each way at the same time, against the kernel, over a wire that loses, doubles, reorders and corrupts."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from pathlib import Path

import pytest

import tcpstack
from tcpstack.core.events import FaultHit, SegmentOut
from tcpstack.core.segment import ACK, SYN

CLIENT = Path(__file__).with_name("exchange_client.py")
OURS = random.Random(1).randbytes(2_000_000)
THEIRS = random.Random(2).randbytes(2_000_000)

# Each rule, and what the trace must show that it brought about.
RULES = {
    "drop syn nth=1": "dropped",
    "drop synack nth=1": "dropped",
    "loss 5% seed=7": "dropped",
    "duplicate 5%": "duplicated",
    "reorder 5%": "held back",
    "corrupt 1%": "corrupted",
}


@pytest.fixture
def events():
    return []


@pytest.mark.any_loop
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("host", ["10.9.0.2", "fd09::2"])
async def test_2_megabytes_each_way_arrive_intact_despite(namespace, open_stack, events, rule, host, tmp_path):
    stack = await open_stack(faults=[rule], tracer=events.append)
    received = asyncio.get_running_loop().create_future()

    async def exchange(reader, writer):
        async def speak():
            writer.write(OURS)
            writer.write_eof()

        _, theirs = await asyncio.gather(speak(), reader.read())
        received.set_result(theirs)
        writer.close()

    await stack.start_server(exchange, port=9000)
    (tmp_path / "theirs").write_bytes(THEIRS)
    result = await namespace.run(sys.executable, CLIENT, host, "9000", tmp_path / "theirs", timeout=120)

    assert result.stdout.decode().strip() == hashlib.sha256(OURS).hexdigest(), result.stderr
    assert await asyncio.wait_for(received, 60) == THEIRS
    hits = [event for event in events if isinstance(event, FaultHit)]
    assert hits
    assert all(event.action == RULES[rule] for event in hits)
    again = retransmissions(events)
    assert all(segment.reason.startswith(("retransmission: ", "SYN,ACK again: ")) for segment in again)
    if rule in ("drop synack nth=1", "loss 5% seed=7", "corrupt 1%"):
        assert again
    if rule.startswith("drop"):
        assert len(hits) == 1


def retransmissions(events):
    """The segments whose sequence space we had sent before, each connection by itself."""
    highest: dict[tuple[object, ...], int] = {}
    again = []
    for event in events:
        if not isinstance(event, SegmentOut):
            continue
        segment = event.segment
        if segment.len == 0:
            continue
        edge = segment.seq + segment.len  # the ISNs are far enough from 2^32 in 2 MB, or the test would say so
        if segment.flags & SYN:
            edge = segment.seq + 1
        if edge <= highest.get(event.flow, -1):
            again.append(segment)
        highest[event.flow] = max(edge, highest.get(event.flow, -1))
    return again


async def test_our_lost_syn_is_sent_again_after_a_second(namespace, open_stack, events):
    stack = await open_stack(faults=["drop syn nth=1 dir=out"], tracer=events.append)
    server = await namespace.spawn(sys.executable, "-c", SERVER)
    assert await server.stdout.readline() == b"listening\n"
    reader, writer = await stack.open_connection("10.9.0.1", 9002)
    assert await reader.read() == b"hello"
    writer.close()

    syns = [e for e in events if isinstance(e, SegmentOut) and e.segment.flags & (SYN | ACK) == SYN]
    assert len(syns) == 2
    assert syns[0].segment.seq == syns[1].segment.seq
    assert syns[1].segment.reason.startswith("retransmission: timeout")
    assert tcpstack.Config().rto_initial_ns <= syns[1].time_ns - syns[0].time_ns < 2 * tcpstack.Config().rto_initial_ns


SERVER = """
import socket
listener = socket.create_server(("10.9.0.1", 9002))
print("listening", flush=True)
connection, _ = listener.accept()
connection.sendall(b"hello")
"""
