"""Faults on a joined pair: what each rule does to which packets, in which order, and what is told of it."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core import segment as tcp
from tcpstack.core.events import Event, FaultHit
from tcpstack.core.segment import Segment
from tcpstack.device.base import Device, next_packet_id
from tcpstack.device.faults import (
    HOLD_LIMIT_NS,
    MOST_OVERTAKING,
    SYN,
    Corrupt,
    Drop,
    Duplicate,
    FaultyDevice,
    Loss,
    Reorder,
    Rule,
    parse_rule,
)
from tcpstack.device.memory import MemoryDevice, pair
from tcpstack.wire.dpkt_codec import Dropped, decode, encode
from tcpstack.wire.icmp import IcmpMessage, encode_icmp
from tcpstack.wire.packet import CHECKSUM_VERIFIED, Packet

OURS, PEER = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])
OURS_V6, PEER_V6 = bytes.fromhex("fd09" + "00" * 13 + "02"), bytes.fromhex("fd09" + "00" * 13 + "01")


def faulty(*rules: Rule | str, tracer: list[Event] | None = None) -> tuple[FaultyDevice, MemoryDevice]:
    """Our device with the rules on it, and the peer's end."""
    ours, peer = pair(queue_packets=100_000)
    parsed = [parse_rule(rule) if isinstance(rule, str) else rule for rule in rules]
    return FaultyDevice(ours, parsed, tracer.append if tracer is not None else None), peer


def a_packet(
    flags: int = tcp.ACK, text: bytes = b"", *, incoming: bool = False, seq: int = 0, v6: bool = False
) -> Packet:
    ours, peer = (OURS_V6, PEER_V6) if v6 else (OURS, PEER)
    src, dst = (peer, ours) if incoming else (ours, peer)
    sport, dport = (80, 40000) if incoming else (40000, 80)
    payload = (text,) if text else ()
    return encode(Segment(src, sport, dst, dport, seq, 0, flags, 0, payload, len(text), packet_id=next_packet_id()))


def a_ping(incoming: bool = False) -> Packet:
    src, dst = (PEER, OURS) if incoming else (OURS, PEER)
    return encode_icmp(IcmpMessage(src, dst, 8, 0, bytes(8), packet_id=next_packet_id()))


def sent(device: FaultyDevice, peer: MemoryDevice, packets: list[Packet], now_ns: int = 0) -> list[int]:
    """Send the packets; the ids of what came out at the other end."""
    for packet in packets:
        assert device.send(packet, now_ns)
    return [packet.id for packet in peer.receive(100_000, now_ns)]


def received(device: FaultyDevice, peer: MemoryDevice, packets: list[Packet], now_ns: int = 0) -> list[int]:
    for packet in packets:
        assert peer.send(packet, now_ns)
    return [packet.id for packet in device.receive(100_000, now_ns)]


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


# --- chance ---------------------------------------------------------------------------------------------


def lost(device: FaultyDevice, peer: MemoryDevice, incoming: bool = False, count: int = 4000) -> list[int]:
    packets = [a_packet(incoming=incoming, seq=n) for n in range(count)]
    passed = set((received if incoming else sent)(device, peer, packets))
    return [n for n, packet in enumerate(packets) if packet.id not in passed]


def test_loss_loses_about_its_share_and_the_same_packets_again_with_the_same_seed() -> None:
    first = lost(*faulty("loss 5% seed=7"))
    assert 150 <= len(first) <= 250
    assert lost(*faulty("loss 5% seed=7")) == first
    assert lost(*faulty(Loss(0.05, seed=7))) == first
    assert lost(*faulty("loss 5% seed=8")) != first


def test_loss_hits_do_not_depend_on_what_passes_in_the_other_direction() -> None:
    alone = lost(*faulty("loss 20%"), count=200)
    device, peer = faulty("loss 20%")
    lost(device, peer, incoming=True, count=33)
    assert lost(device, peer, count=200) == alone
    assert lost(*faulty("loss 20%"), incoming=True, count=200) != alone


def test_rules_of_the_same_seed_do_not_hit_the_same_packets() -> None:
    losing = lost(*faulty("loss 30%"), count=200)
    device, peer = faulty("duplicate 30%")
    packets = [a_packet(seq=n) for n in range(200)]
    counts = Counter(sent(device, peer, packets))
    doubled = [n for n, packet in enumerate(packets) if counts[packet.id] == 2]
    assert 30 <= len(doubled) <= 90
    assert doubled != losing


@pytest.mark.parametrize(("percentage", "passed"), [("0%", 50), ("100%", 0)])
def test_loss_of_none_and_of_all(percentage: str, passed: int) -> None:
    device, peer = faulty(f"loss {percentage}")
    assert len(sent(device, peer, [a_packet() for _ in range(50)])) == passed


def test_percentages_act_on_packets_that_are_not_tcp() -> None:
    device, peer = faulty("loss 100%")
    assert sent(device, peer, [a_ping(), KINDS["garbage"]]) == []
    assert received(device, peer, [a_ping(incoming=True)]) == []
    assert device.hits == {"loss 100%": 3}


def test_chance_of_one_direction_leaves_the_other_alone() -> None:
    device, peer = faulty("loss 100% dir=in")
    assert received(device, peer, [a_packet(incoming=True)]) == []
    assert len(sent(device, peer, [a_packet()])) == 1


def test_duplicate_passes_a_packet_twice_in_a_row_under_one_number() -> None:
    device, peer = faulty("duplicate 100%")
    packets = [a_packet(text=bytes([n])) for n in range(3)]
    assert sent(device, peer, packets) == [p.id for p in packets for _ in range(2)]
    assert received(device, peer, packets) == [p.id for p in packets for _ in range(2)]


# --- corrupt --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("incoming", [False, True])
def test_corrupt_flips_exactly_one_bit_and_leaves_number_and_version(v6: bool, incoming: bool) -> None:
    device, peer = faulty("corrupt 100%")
    flipped = set()
    for n in range(300):
        packet = a_packet(text=b"some text", incoming=incoming, seq=n, v6=v6)
        packet.checksum = CHECKSUM_VERIFIED
        before = packet.data()
        (device if not incoming else peer).send(packet, 0)
        (after,) = (peer if not incoming else device).receive(9, 0)
        difference = int.from_bytes(before, "big") ^ int.from_bytes(after.data(), "big")
        assert difference.bit_count() == 1
        flipped.add(len(before) * 8 - difference.bit_length())
        assert after.id == packet.id
        assert packet.data() == before
        # Nobody vouches for it any more, so the codec notices (but for what IPv6 covers with nothing).
        if not v6:
            assert isinstance(decode(after), Dropped)
    assert min(flipped) >= 4
    assert min(flipped) < 160 < max(flipped)  # in the IP header as well as behind it


def test_corrupted_segment_still_matches_as_what_it_was() -> None:
    events: list[Event] = []
    device, peer = faulty("corrupt 100%", "drop syn", tracer=events)
    assert sent(device, peer, [a_packet(tcp.SYN) for _ in range(50)]) == []
    assert device.hits == {"corrupt 100%": 50, "drop syn": 50}
    assert all(isinstance(e, FaultHit) and e.segment.flags == tcp.SYN for e in events)


# --- reorder --------------------------------------------------------------------------------------------


def test_reorder_lets_one_to_three_later_packets_overtake() -> None:
    events: list[Event] = []
    device, peer = faulty("reorder 10%", tracer=events)
    packets = [a_packet(seq=n) for n in range(500)]
    place = {packet_id: at for at, packet_id in enumerate(sent(device, peer, packets))}
    held = {event.packet_id for event in events if isinstance(event, FaultHit)}
    assert 30 <= len(held) <= 70
    for n, packet in enumerate(packets[:-10]):
        overtaking = [later for later in packets[n + 1 : n + 30] if later.id in place and later.id not in held]
        ahead = sum(place[later.id] < place[packet.id] for later in overtaking)
        assert 1 <= ahead <= MOST_OVERTAKING if packet.id in held else ahead == 0


def test_reorder_with_nothing_to_overtake_lets_go_after_its_limit() -> None:
    device, peer = faulty("reorder 100%")
    first, second = a_packet(seq=1), a_packet(seq=2)
    assert sent(device, peer, [first], now_ns=1_000) == []
    assert sent(device, peer, [second], now_ns=5_000) == []
    assert device.deadline_ns == 1_000 + HOLD_LIMIT_NS
    device.on_timer(999 + HOLD_LIMIT_NS)
    assert peer.receive(9, 0) == []
    device.on_timer(1_000 + HOLD_LIMIT_NS)
    assert [p.id for p in peer.receive(9, 0)] == [first.id]
    assert device.deadline_ns == 5_000 + HOLD_LIMIT_NS
    device.on_timer(5_000 + HOLD_LIMIT_NS)
    assert [p.id for p in peer.receive(9, 0)] == [second.id]
    assert device.deadline_ns is None


def test_reorder_of_an_incoming_packet_makes_it_receivable_when_due() -> None:
    device, peer = faulty("reorder 100% dir=in")
    calls: list[int] = []
    device.on_ready = lambda: calls.append(1)
    packet = a_packet(incoming=True)
    assert received(device, peer, [packet]) == []
    assert len(calls) == 1
    assert device.deadline_ns == HOLD_LIMIT_NS
    device.on_timer(HOLD_LIMIT_NS)
    assert len(calls) == 2
    assert [p.id for p in device.receive(9, HOLD_LIMIT_NS)] == [packet.id]


def test_reorder_is_not_overtaken_by_packets_of_the_other_direction() -> None:
    device, peer = faulty(Reorder(1.0, direction="out"))
    sent(device, peer, [a_packet()])
    assert len(received(device, peer, [a_packet(incoming=True) for _ in range(9)])) == 9
    assert peer.receive(9, 0) == []


def test_two_reorder_rules_let_go_at_once_pass_each_packet_once() -> None:
    # What the first lets go may overtake, and so release, what the second holds: it must not leave twice.
    for seed in range(40):
        device, peer = faulty(Reorder(0.6, seed=seed), Reorder(0.6, seed=seed + 1))
        packets = [a_packet(seq=n) for n in range(6)]
        arrived = sent(device, peer, packets)
        now_ns = 0
        while device.deadline_ns is not None:
            now_ns = device.deadline_ns
            device.on_timer(now_ns)
            arrived += [p.id for p in peer.receive(9, 0)]
        assert sorted(arrived) == sorted(p.id for p in packets)
        assert now_ns <= 2 * HOLD_LIMIT_NS


def test_rule_that_never_hits_changes_nothing_for_the_one_before_it() -> None:
    orders = []
    for rules in (["reorder 30%"], ["reorder 30%", "reorder 0%"]):
        device, peer = faulty(*rules)
        packets = [a_packet(seq=n) for n in range(60)]
        numbers = {packet.id: n for n, packet in enumerate(packets)}
        orders.append([numbers[packet_id] for packet_id in sent(device, peer, packets)])
    assert orders[0] == orders[1]


def test_packet_held_back_keeps_the_octets_it_had() -> None:
    device, peer = faulty("reorder 100%")
    text = bytearray(b"before")
    packet = a_packet()
    packet.buffers = (packet.buffers[0], memoryview(text))
    device.send(packet, 0)
    text[:] = b"after!"
    device.on_timer(HOLD_LIMIT_NS)
    (arrived,) = peer.receive(1, 0)
    assert arrived.data().endswith(b"before")


def test_deadline_of_the_device_inside_is_kept() -> None:
    inner, peer = faulty("reorder 100%")
    device = FaultyDevice(inner, [parse_rule("reorder 100%")])
    packet = a_packet(incoming=True)
    peer.send(packet, 0)
    assert device.receive(9, 0) == []
    assert device.deadline_ns == HOLD_LIMIT_NS
    device.on_timer(HOLD_LIMIT_NS)
    assert device.receive(9, HOLD_LIMIT_NS) == []  # now the outer one holds it
    assert device.deadline_ns == 2 * HOLD_LIMIT_NS
    device.on_timer(2 * HOLD_LIMIT_NS)
    assert [p.id for p in device.receive(9, 2 * HOLD_LIMIT_NS)] == [packet.id]


def test_close_forgets_what_is_held() -> None:
    device, peer = faulty("reorder 100%")
    device.send(a_packet(), 0)
    device.close()
    device.close()
    assert device.deadline_ns is None
    device.on_timer(HOLD_LIMIT_NS)
    assert peer.receive(9, 0) == []


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
