"""What many of each cost: octets for a SYN record and for a TIME-WAIT, and work for a packet among them."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Options
from tcpstack.core.timewait import TimeWait
from tcpstack.stack.stack import Stack
from tcpstack.stack.timewait import TimeWaitTable
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet
from tests.scripted import IRS, ISS, OURS, PEER, SECOND, START_NS, KnownIsn, Scripted

MANY = 10_000


def sources(version: int) -> Iterator[bytes]:
    base = PEER[version][:-2]
    return (base + (1000 + number).to_bytes(2, "big") for number in range(MANY))


def octets_each(work: Callable[[], object]) -> float:
    """What is still allocated after `work`, for each of MANY."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / MANY
    finally:
        tracemalloc.stop()
        del kept


@pytest.mark.parametrize(("version", "limit"), [(4, 400), (6, 424)])
def test_syn_record_costs_at_most_400_octets(version: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcpstack.stack.unclaimed.SYN_QUEUE", MANY)
    host = Scripted(version=version)
    stack = Stack(("10.0.0.1/16", "fd00::1/64"))
    stack.listen(80)
    options = Options(mss=1460, wscale=7, sack_permitted=True, timestamps=(1, 0))

    def flood() -> None:
        for source in sources(version):
            stack.on_packets([encode(host.segment(SYN, IRS, src=source, options=options))], START_NS)

    assert octets_each(flood) <= limit
    assert stack.syn_records == MANY


@pytest.mark.parametrize(("version", "limit"), [(4, 250), (6, 274)])
def test_time_wait_costs_at_most_250_octets(version: int, limit: int) -> None:
    def fill() -> TimeWaitTable:
        table = TimeWaitTable()
        for number, source in enumerate(sources(version)):
            flow = (OURS[version], 80, source, number)
            table.add(TimeWait(flow, number << 20, number << 21, 1 << 20, 4096, 60 * SECOND, START_NS + number))
        return table

    assert octets_each(fill) <= limit


# ------------------------------------------------------------------ work


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python `work` runs: what time it takes, without the clock."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    gc.collect()
    gc.disable()  # what other tests left may have finalizers, in Python
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def serving(connections: int) -> Stack:
    """A stack with so many established connections from the peer's ports 1, 2, ..."""
    host = Scripted()
    stack = Stack(("10.0.0.1/24",))
    stack.isn = KnownIsn(ISS)
    stack.listen(80, backlog=connections)
    for port in range(1, connections + 1):
        for segment in (host.segment(SYN, IRS, sport=port), host.segment(ACK, IRS + 1, ISS + 1, sport=port)):
            stack.on_packets([encode(segment)], START_NS)
    assert len(stack.connections) == connections
    return stack


def packet(flags: int, seq: int, ack: int, port: int, text: bytes = b"") -> Packet:
    return Packet((encode(Scripted().segment(flags, seq, ack, sport=port, text=text)).data(),))


def test_established_packet_costs_the_same_among_one_and_among_many() -> None:
    def cost(connections: int) -> int:
        stack = serving(connections)
        arrived = packet(ACK | PSH, IRS + 1, ISS + 1, 1, b"text")

        def turn() -> None:
            stack.on_packets([arrived], START_NS + 1)
            assert stack.deadline_ns is not None
            assert stack.has_connections

        return lines_run(turn)

    assert cost(1) == cost(500)


def test_time_waits_by_the_thousand_cost_a_packet_and_the_look_at_the_deadline_nothing() -> None:
    def cost(time_waits: int) -> list[int]:
        stack = serving(1)
        for number in range(time_waits):
            flow = (OURS[4], 80, PEER[4], 2 + number)
            stack._time_waits.add(TimeWait(flow, ISS, IRS, 1000, 1000, 60 * SECOND, START_NS + number))
        stack._deadlines.arm(stack._unclaimed)
        last = time_waits + 1
        arrivals = (
            packet(ACK | PSH, IRS + 1, ISS + 1, 1, b"text"),  # of a connection
            packet(FIN | ACK, IRS - 1, ISS, last),  # of a TIME-WAIT: it begins anew
            packet(ACK, IRS, ISS, 60_000),  # of nobody
            packet(RST, IRS, 0, last),  # of a TIME-WAIT: it ends
        )
        costs = [lines_run(partial(stack.on_packets, [arrived], START_NS + 5)) for arrived in arrivals]
        assert stack.time_waits == time_waits - 1
        costs.append(lines_run(lambda: stack.deadline_ns))
        # Each expires alone.
        costs.append(lines_run(partial(stack.on_timer, START_NS + 60 * SECOND)))
        assert stack.time_waits == time_waits - 2
        return costs

    assert cost(3) == cost(5_000)
