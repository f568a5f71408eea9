"""Faults on a joined pair: being a device, drop, and what the chain of rules tells."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core import segment as tcp
from tcpstack.core.events import Event, FaultHit
from tcpstack.device.base import Device, next_packet_id
from tcpstack.device.faults import (
    SYN,
    Corrupt,
    Drop,
    Duplicate,
    FaultyDevice,
    Loss,
    Reorder,
    Rule,
)
from tcpstack.device.memory import pair
from tcpstack.wire.packet import Packet
from tests.device.faulty_pair import OURS, PEER, a_packet, a_ping, faulty, received, sent

# --- being a device -------------------------------------------------------------------------------------


def test_device_without_rules_is_the_device_inside() -> None:
    inner, peer = pair(mtu=1280)
    device: Device = FaultyDevice(inner, [])
    calls: list[int] = []
    device.on_ready = lambda: calls.append(1)
    assert (device.name, device.mtu, device.fileno(), device.deadline_ns) == ("memory-a", 1280, -1, None)
    device.mtu = 1400
    assert inner.mtu == 1400
    out, back = a_packet(text=b"out"), a_packet(text=b"in", incoming=True)
    assert device.send(out, 0)
    assert peer.send(back, 0)
    assert len(calls) == 1
    assert [p.data() for p in peer.receive(9, 0)] == [out.data()]
    assert [p.data() for p in device.receive(9, 0)] == [back.data()]
    device.close()
    assert not peer.send(back, 0)


def test_send_says_false_where_the_device_inside_drops_and_true_where_a_rule_does() -> None:
    inner, _ = pair(queue_packets=1)
    device = FaultyDevice(inner, [Drop(SYN)])
    assert device.send(a_packet(tcp.SYN), 0)
    assert device.send(a_packet(), 0)
    assert not device.send(a_packet(), 0)


def test_receive_gives_fewer_where_rules_drop_and_never_more_than_asked_for() -> None:
    device, peer = faulty("drop data nth=1..3", "duplicate 100%")
    for n in range(6):
        peer.send(a_packet(text=b"x", incoming=True, seq=n), 0)
    assert device.receive(2, 0) == []
    assert len(device.receive(2, 0)) == 2
    assert len(device.receive(100, 0)) == 4


def test_copies_beyond_the_asked_for_number_come_later_and_in_order() -> None:
    device, peer = faulty("duplicate 100%")
    calls: list[int] = []
    device.on_ready = lambda: calls.append(1)
    packets = [a_packet(incoming=True, seq=n) for n in range(3)]
    for packet in packets:
        peer.send(packet, 0)
    first, second, third = (packet.id for packet in packets)
    assert [p.id for p in device.receive(3, 7)] == [first, first, second]
    # Nothing polls for the one that is left (the device inside is empty): the deadline stands for it.
    assert device.deadline_ns == 7
    before = len(calls)
    device.on_timer(8)
    assert len(calls) == before + 1
    assert [p.id for p in device.receive(9, 8)] == [second, third, third]
    assert device.deadline_ns is None


# --- drop -----------------------------------------------------------------------------------------------

KINDS = {
    "syn": a_packet(tcp.SYN),
    "synack": a_packet(tcp.SYN | tcp.ACK),
    "ack": a_packet(tcp.ACK),
    "data": a_packet(tcp.ACK | tcp.PSH, b"text"),
    "data v6": a_packet(tcp.ACK, b"text", v6=True),
    "fin": a_packet(tcp.FIN | tcp.ACK),
    "fin with data": a_packet(tcp.FIN | tcp.ACK, b"text"),
    "rst": a_packet(tcp.RST),
    "rst ack": a_packet(tcp.RST | tcp.ACK),
    "no flags": a_packet(0),
    "ping": a_ping(),
    "garbage": Packet((b"\xff" * 30,), id=next_packet_id()),
}


@pytest.mark.parametrize(
    ("match", "kinds"),
    [
        ("syn", {"syn"}),
        ("synack", {"synack"}),
        ("ack", {"ack"}),
        ("data", {"data", "data v6", "fin with data"}),
        ("fin", {"fin", "fin with data"}),
        ("rst", {"rst", "rst ack"}),
        ("any", set(KINDS)),
    ],
)
def test_drop_drops_what_matches_and_nothing_else(match: str, kinds: set[str]) -> None:
    device, peer = faulty(f"drop {match}")
    passed = sent(device, peer, list(KINDS.values()))
    assert {kind for kind, packet in KINDS.items() if packet.id not in passed} == kinds


@pytest.mark.parametrize(
    ("nth", "dropped"),
    [("1", [1]), ("3", [3]), ("2..4", [2, 3, 4]), ("4..", [4, 5, 6])],
)
def test_drop_nth_counts_only_packets_that_match(nth: str, dropped: list[int]) -> None:
    device, peer = faulty(f"drop data nth={nth}")
    data = [a_packet(text=b"x", seq=n) for n in range(6)]
    mixed = [packet for one in data for packet in (a_packet(), one)]
    passed = sent(device, peer, mixed)
    assert [n for n, packet in enumerate(data, 1) if packet.id not in passed] == dropped
    assert len(passed) == len(mixed) - len(dropped)


def test_drop_nth_counts_over_both_directions_unless_it_names_one() -> None:
    device, peer = faulty("drop syn nth=2")
    assert len(received(device, peer, [a_packet(tcp.SYN, incoming=True)])) == 1
    assert sent(device, peer, [a_packet(tcp.SYN)]) == []
    device, peer = faulty("drop syn nth=1 dir=out")
    assert len(received(device, peer, [a_packet(tcp.SYN, incoming=True)] * 2)) == 2
    assert sent(device, peer, [a_packet(tcp.SYN)]) == []
    device, peer = faulty("drop syn nth=1 dir=in")
    assert len(sent(device, peer, [a_packet(tcp.SYN)])) == 1
    assert received(device, peer, [a_packet(tcp.SYN, incoming=True)]) == []


def test_one_rule_object_counts_anew_on_each_device() -> None:
    rule = Drop(SYN, nth=1)
    for _ in range(2):
        device, peer = faulty(rule)
        assert sent(device, peer, [a_packet(tcp.SYN)]) == []


# --- the chain, and what is told ------------------------------------------------------------------------


def test_what_one_rule_drops_the_later_ones_never_see() -> None:
    device, peer = faulty("drop data nth=1", "drop data nth=1")
    packets = [a_packet(text=b"x", seq=n) for n in range(3)]
    assert sent(device, peer, packets) == [packets[2].id]


def test_each_copy_goes_through_the_later_rules_by_itself() -> None:
    device, peer = faulty("duplicate 100%", "drop any nth=1")
    packet = a_packet()
    assert sent(device, peer, [packet]) == [packet.id]


@pytest.mark.parametrize(
    ("rule", "action"),
    [
        ("drop data", "dropped"),
        ("loss 100%", "dropped"),
        ("duplicate 100% seed=3", "duplicated"),
        ("reorder 100%", "held back"),
        ("corrupt 100% dir=in", "corrupted"),
    ],
)
def test_each_hit_is_told_with_rule_action_flow_and_packet(rule: str, action: str) -> None:
    events: list[Event] = []
    device, peer = faulty(rule, tracer=events)
    packet = a_packet(text=b"abc", incoming=True, seq=99)
    received(device, peer, [packet], now_ns=1234)
    (event,) = events
    assert isinstance(event, FaultHit)
    assert (event.time_ns, event.rule, event.action, event.direction) == (1234, rule, action, "in")
    assert event.flow == (OURS, 40000, PEER, 80)
    assert (event.packet_id, event.segment.packet_id, event.segment.seq) == (packet.id, packet.id, 99)


def test_hit_on_an_outgoing_segment_names_the_local_socket_first_too() -> None:
    events: list[Event] = []
    device, peer = faulty("loss 100%", tracer=events)
    sent(device, peer, [a_packet()])
    assert (events[0].flow, events[0].direction) == ((OURS, 40000, PEER, 80), "out")  # type: ignore[attr-defined]


def test_tracer_that_raises_is_dropped_and_the_packet_goes_its_way(caplog: pytest.LogCaptureFixture) -> None:
    def tracer(event: Event) -> None:
        raise RuntimeError("tracer's own fault")

    device, peer = faulty("duplicate 100%")
    device.tracer = tracer
    with caplog.at_level(logging.ERROR):
        assert len(sent(device, peer, [a_packet(), a_packet()])) == 4
    assert device.tracer is None
    assert len(caplog.records) == 1


RULES = st.lists(
    st.one_of(
        st.builds(Loss, st.sampled_from([0.0, 0.2, 1.0]), st.integers(0, 9)),
        st.builds(Duplicate, st.sampled_from([0.2, 1.0]), st.integers(0, 9)),
        st.builds(Reorder, st.sampled_from([0.2, 0.7, 1.0]), st.integers(0, 9)),
        st.builds(Corrupt, st.sampled_from([0.2]), st.integers(0, 9)),
    ),
    max_size=4,
)


def outcome(rules: list[Rule], directions: list[bool], batch: int) -> tuple[list[int], list[int], dict[str, int]]:
    """What comes out at either end, as places in the sequence that went in, and the hits by action."""
    events: list[Event] = []
    device, peer = faulty(*rules, tracer=events)
    announced: list[bool] = []
    device.on_ready = lambda: announced.append(True)
    ids: dict[int, int] = {}
    ins: list[int] = []
    for n, incoming in enumerate(directions):
        packet = a_packet(incoming=incoming, seq=n)
        ids[packet.id] = n
        if incoming:
            peer.send(packet, n)
        else:
            device.send(packet, n)
        announced.clear()
        ins += [ids[p.id] for p in device.receive(batch, n)]
    # No more but what the device itself asks for, by on_ready and by its deadline: it must be enough.
    now_ns = len(directions)
    while announced or device.deadline_ns is not None:
        if not announced and device.deadline_ns is not None:
            now_ns = max(now_ns, device.deadline_ns)
            device.on_timer(now_ns)
        announced.clear()
        received_now = device.receive(batch, now_ns)
        assert len(received_now) <= batch
        ins += [ids[p.id] for p in received_now]
    actions = Counter(event.action for event in events if isinstance(event, FaultHit))
    return ins, [ids[p.id] for p in peer.receive(100_000, 0)], actions


@given(RULES, st.lists(st.booleans(), max_size=20), st.integers(1, 3))
def test_rules_lose_and_double_just_what_they_tell_and_repeat_with_their_seeds(
    rules: list[Rule], directions: list[bool], batch: int
) -> None:
    ins, outs, actions = outcome(rules, directions, batch)
    assert len(ins) + len(outs) == len(directions) - actions.get("dropped", 0) + actions.get("duplicated", 0)
    assert all(directions[n] for n in ins)
    assert not any(directions[n] for n in outs)
    assert outcome(rules, directions, batch) == (ins, outs, actions)
