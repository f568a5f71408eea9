"""Rules that keep packets for a while: delay and rate, alone, in a chain and on a device."""

from __future__ import annotations

import pytest

from tcpstack.core import segment as tcp
from tcpstack.core.events import Event, FaultHit
from tcpstack.device.faults import DATA, IN, OUT, Delay, FaultChain, Rate
from tcpstack.wire.objects import ObjectPacket
from tcpstack.wire.packet import Packet
from tests.device.faulty_pair import a_packet, a_ping, faulty, received, sent
from tests.device.faulty_wire import MS, SECOND, Wire, a_segment, as_octets, with_ecn


def a_sized_packet(octets: int, packet_id: int = 1) -> Packet:
    return as_octets(a_segment(text=bytes(octets - 40), packet_id=packet_id))


# --- delay ------------------------------------------------------------------------------------------------


def test_delay_keeps_each_packet_for_its_time_in_both_directions() -> None:
    wire = Wire(Delay(40 * MS))
    wire.put(a_packet(), OUT, 0)
    wire.put(a_packet(incoming=True), IN, 5 * MS)
    assert wire.chain.deadline_ns == 40 * MS
    wire.chain.on_timer(40 * MS - 1)
    assert wire.delivered == []
    wire.run()
    assert [(at, direction) for at, direction, _ in wire.delivered] == [(40 * MS, OUT), (45 * MS, IN)]
    assert wire.chain.deadline_ns is None


def test_jitter_spreads_arrivals_and_keeps_order() -> None:
    wire = Wire("delay 40ms jitter 10ms seed=3")
    for n in range(200):
        wire.put(as_octets(a_segment(packet_id=n)), OUT, n * 20 * MS)
    wire.run()
    late = [at - n * 20 * MS for n, (at, _, _) in enumerate(wire.delivered)]
    assert wire.ids() == list(range(200))
    assert min(late) < 42 * MS
    assert max(late) > 48 * MS
    assert all(40 * MS <= each <= 50 * MS for each in late)
    assert len(set(late)) > 150


def test_jitter_does_not_depend_on_what_passes_in_the_other_direction() -> None:
    times = []
    for both in (False, True):
        wire = Wire("delay 1ms jitter 5ms")
        for n in range(20):
            wire.put(a_packet(), OUT, n * 10 * MS)
            if both:
                wire.put(a_packet(incoming=True), IN, n * 10 * MS)
        wire.run()
        times.append([at for at, direction, _ in wire.delivered if direction == OUT])
    assert times[0] == times[1]


def test_delay_of_nothing_passes_at_once() -> None:
    wire = Wire("delay 0ms")
    wire.put(a_packet(), OUT, 5)
    assert [at for at, _, _ in wire.delivered] == [5]


def test_delay_of_one_packet_lets_the_later_ones_overtake_and_tells_of_it() -> None:
    wire = Wire(Delay(40 * MS, match=DATA, nth=2))
    for n in range(4):
        wire.put(as_octets(a_segment(text=b"x", packet_id=n)), OUT, n)
    wire.run()
    assert wire.ids() == [0, 2, 3, 1]
    assert [(hit.action, hit.packet_id) for hit in wire.hits] == [("held back", 1)]


def test_delay_of_everything_is_no_hit() -> None:
    wire = Wire("delay 40ms", "rate 1mbit")
    wire.put(a_packet(), OUT, 0)
    wire.run()
    assert len(wire.delivered) == 1
    assert wire.hits == []
    assert not wire.chain.hits


def test_late_timer_lets_go_of_everything_due_in_order() -> None:
    wire = Wire("delay 10ms", "delay 5ms dir=in")
    wire.chain.put(as_octets(a_segment(packet_id=1)), OUT, 0)
    wire.chain.put(as_octets(a_segment(packet_id=2, incoming=True)), IN, 1 * MS)
    wire.chain.put(as_octets(a_segment(packet_id=3)), OUT, 2 * MS)
    wire.chain.on_timer(SECOND)
    assert [(at, packet.id) for at, _, packet in wire.delivered] == [(SECOND, 1), (SECOND, 3)]
    wire.run()
    assert [(at, packet.id) for at, _, packet in wire.delivered[2:]] == [(SECOND + 5 * MS, 2)]


def test_packet_that_comes_before_a_late_timer_does_not_overtake() -> None:
    wire = Wire("delay 10ms")
    for n, now_ns in enumerate((0, 1 * MS, 30 * MS)):
        wire.chain.put(as_octets(a_segment(packet_id=n)), OUT, now_ns)
    wire.chain.on_timer(SECOND)
    assert wire.ids() == [0, 1, 2]


def test_delayed_packet_keeps_the_octets_it_had() -> None:
    text = bytearray(b"before")
    packet = a_packet()
    packet.buffers = (packet.buffers[0], memoryview(text))
    wire = Wire("delay 1ms")
    wire.put(packet)
    text[:] = b"after!"
    wire.run()
    assert wire.delivered[0][2].data().endswith(b"before")


def test_delayed_incoming_packet_becomes_receivable_when_due() -> None:
    device, peer = faulty("delay 40ms")
    calls: list[int] = []
    device.on_ready = lambda: calls.append(1)
    packet = a_packet(incoming=True)
    assert received(device, peer, [packet]) == []
    assert device.deadline_ns == 40 * MS
    before = len(calls)
    device.on_timer(40 * MS)
    assert len(calls) == before + 1
    assert [p.id for p in device.receive(9, 40 * MS)] == [packet.id]
    assert device.deadline_ns is None


def test_closed_device_has_nothing_under_way() -> None:
    device, peer = faulty("delay 40ms", "rate 1mbit")
    sent(device, peer, [a_packet()])
    device.close()
    assert device.deadline_ns is None
    device.on_timer(SECOND)
    assert peer.receive(9, 0) == []


# --- rate -------------------------------------------------------------------------------------------------


def test_rate_spaces_packets_by_their_size() -> None:
    wire = Wire("rate 10mbit")
    for n in range(4):
        wire.put(a_sized_packet(1250, n), OUT, 0)
    wire.run()
    assert [(at, packet.id) for at, _, packet in wire.delivered] == [(n * MS, n - 1) for n in range(1, 5)]


def test_rate_counts_each_direction_by_itself_and_packets_that_are_not_tcp() -> None:
    wire = Wire("rate 1mbit")
    wire.put(a_sized_packet(1250), OUT, 0)
    wire.put(a_ping(incoming=True), IN, 0)
    wire.run()
    assert [(at, direction) for at, direction, _ in wire.delivered] == [(32 * 8_000, IN), (10 * MS, OUT)]


@pytest.mark.parametrize("queue", ["queue 2500B", "queue 2p", "queue 2.5kB queue 9p", "queue 1MB queue 2p"])
def test_rate_drops_what_its_queue_has_no_room_for_and_tells_of_it(queue: str) -> None:
    wire = Wire(f"rate 10mbit {queue}")
    for n in range(5):
        assert wire.chain.put(a_sized_packet(1250, n), OUT, 0)
    wire.run()
    assert wire.ids() == [0, 1, 2]
    assert [(hit.action, hit.packet_id, hit.rule) for hit in wire.hits] == [
        ("dropped", 3, f"rate 10mbit {queue}"),
        ("dropped", 4, f"rate 10mbit {queue}"),
    ]


def test_rate_that_drops_a_packet_has_not_marked_it() -> None:
    wire = Wire(Rate(10_000_000, queue_bytes=3000, mark_bytes=1000))
    for number in range(6):
        wire.put(ObjectPacket(a_segment(text=bytes(1210), packet_id=number), 64, 2))
    assert [hit.action for hit in wire.hits] == ["marked", "dropped", "dropped", "dropped"]


@pytest.mark.parametrize("carried", [False, True])
def test_rate_marks_congestion_on_what_is_ecn_capable(carried: bool) -> None:
    segments = [a_segment(text=bytes(1210), packet_id=n) for n in range(5)]
    wire = Wire(Rate(10_000_000, mark_bytes=2500))
    for n, segment in enumerate(segments):
        ecn = 2 if n != 3 else 0
        wire.put(ObjectPacket(segment, 64, ecn) if carried else with_ecn(as_octets(segment), ecn), OUT, 0)
    wire.run()
    bits = [p.congestion if isinstance(p, ObjectPacket) else p.data()[1] & 3 for _, _, p in wire.delivered]
    assert bits == [2, 2, 2, 0, 3]
    assert [(hit.action, hit.packet_id) for hit in wire.hits] == [("marked", 4)]


def test_delay_behind_rate_adds_up() -> None:
    wire = Wire("rate 10mbit", "delay 40ms")
    for n in range(3):
        wire.put(a_sized_packet(1250, n), OUT, 0)
    wire.run()
    assert [at for at, _, _ in wire.delivered] == [41 * MS, 42 * MS, 43 * MS]


# --- the chain --------------------------------------------------------------------------------------------


def test_chain_lets_go_in_the_order_in_which_things_fall_due() -> None:
    wire = Wire("delay 30ms dir=out", "delay 20ms dir=in", "reorder 100% dir=in")
    wire.chain.put(a_packet(), OUT, 0)
    wire.chain.put(a_packet(incoming=True), IN, 0)
    wire.run()
    assert [(at, direction) for at, direction, _ in wire.delivered] == [(30 * MS, OUT), (40 * MS, IN)]


def test_superpacket_is_divided_before_the_first_rule_and_each_piece_judged_by_itself() -> None:
    wire = Wire("drop data nth=2")
    packet = as_octets(a_segment(tcp.ACK | tcp.PSH, bytes(3000), seq=100, packet_id=9))
    packet.gso_size = 1000
    wire.put(packet)
    assert [len(p) for _, _, p in wire.delivered] == [1040, 1040]
    assert wire.ids() == [9, 9]
    assert [(hit.segment.seq, hit.segment.payload_len, hit.packet_id) for hit in wire.hits] == [(1100, 1000, 9)]


def test_chain_without_rules_delivers() -> None:
    wire = Wire()
    packet = a_packet()
    wire.put(packet, OUT, 3)
    assert wire.delivered == [(3, OUT, packet)]
    assert wire.chain.deadline_ns is None


def test_put_says_false_where_any_piece_is_refused_behind_the_chain() -> None:
    answers = iter((True, False, True))
    chain = FaultChain([], lambda packet, direction, now_ns: next(answers))
    packet = as_octets(a_segment(text=bytes(3000)))
    packet.gso_size = 1000
    assert not chain.put(packet, OUT, 0)
    assert next(answers, None) is None


def test_tracer_may_be_absent() -> None:
    events: list[Event] = []
    chain = FaultChain([Rate(1, queue_packets=0)], lambda *_: True)
    chain.put(a_packet(), OUT, 0)
    chain.put(a_packet(), OUT, 0)
    chain.tracer = events.append
    chain.put(a_packet(), OUT, 0)
    assert chain.hits.total() == 2
    assert [isinstance(event, FaultHit) for event in events] == [True]
