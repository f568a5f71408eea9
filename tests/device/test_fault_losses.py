"""Rules that lose packets by a pattern: bursts, black holes, small MTUs; and rules limited to some packets."""

from __future__ import annotations

from itertools import groupby

import pytest

from tcpstack.core import segment as tcp
from tcpstack.core.segment import Segment
from tcpstack.device.faults import IN, OUT, SYN, Blackhole, BurstLoss, Loss, Mtu, Rule
from tcpstack.wire.dpkt_codec import decode
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.packet import Packet
from tests.device.faulty_pair import a_packet, a_ping, faulty, received, sent
from tests.device.faulty_wire import MS, SECOND, Wire, a_segment, an_echo, as_octets


def fates(rule: Rule | str, count: int = 20_000) -> list[bool]:
    """For each of so many packets, whether it got through."""
    wire = Wire(rule)
    packet = a_packet()
    passed = []
    for _ in range(count):
        before = len(wire.delivered)
        wire.chain.put(packet, OUT, 0)
        passed.append(len(wire.delivered) > before)
    return passed


# --- burst-loss -------------------------------------------------------------------------------------------


def test_burst_loss_loses_runs_of_the_length_that_leave_says() -> None:
    passed = fates("burst-loss enter=1% leave=25%")
    lost = [len(list(run)) for through, run in groupby(passed) if not through]
    # Gilbert: a share of enter / (enter + leave), in runs of 1 / leave.
    assert 0.03 < sum(lost) / len(passed) < 0.05
    assert 3.3 < sum(lost) / len(lost) < 4.7


def test_burst_loss_loses_by_the_state_that_the_wire_is_in() -> None:
    assert not all(fates(BurstLoss(0.0, 0.5, loss_in_good=0.5), 100))
    assert all(fates(BurstLoss(0.0, 0.5), 1000))
    assert not any(fates(BurstLoss(1.0, 0.0), 1000))
    half = fates(BurstLoss(1.0, 0.0, loss_in_bad=0.5), 2000)
    assert 900 < sum(half) < 1100


def test_burst_loss_repeats_with_its_seed_and_has_a_wire_in_each_direction() -> None:
    rule = "burst-loss enter=10% leave=30%"
    assert fates(rule, 500) == fates(rule, 500)
    assert fates(rule, 500) != fates(rule + " seed=1", 500)
    wire = Wire("burst-loss enter=100% leave=0% dir=out")
    wire.put(a_packet(), OUT)
    wire.put(a_packet(incoming=True), IN)
    assert [direction for _, direction, _ in wire.delivered] == [IN]


# --- blackhole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "through"),
    [
        ("blackhole after=2s for=5s", [0, 1, 7, 8, 9]),
        ("blackhole for=3s", [3, 4, 5, 6, 7, 8, 9]),
        ("blackhole after=4s", [0, 1, 2, 3]),
        ("blackhole", []),
        ("blackhole nth=3..4", [0, 1, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_blackhole_swallows_everything_in_its_time(rule: str, through: list[int]) -> None:
    for direction in (OUT, IN):
        wire = Wire(rule)
        for second in range(10):
            wire.put(as_octets(a_segment(packet_id=second)), direction, 77 * SECOND + second * SECOND)
        assert wire.ids(direction) == through


def test_blackhole_time_counts_from_the_first_segment_of_either_direction() -> None:
    wire = Wire("blackhole after=2s dir=out")
    wire.put(a_ping(), OUT, 0)
    wire.put(a_packet(incoming=True), IN, 10 * SECOND)
    wire.put(a_ping(), OUT, 11 * SECOND)
    wire.put(a_ping(), OUT, 12 * SECOND)
    wire.put(a_packet(incoming=True), IN, 13 * SECOND)
    assert [(at // SECOND, direction) for at, direction, _ in wire.delivered] == [
        (0, OUT), (10, IN), (11, OUT), (13, IN),
    ]  # fmt: skip


def test_blackhole_from_the_start_needs_no_segment_to_begin() -> None:
    wire = Wire(Blackhole(for_ns=SECOND))
    wire.put(a_ping(), OUT, 0)
    assert wire.delivered == []
    assert wire.chain.hits == {"blackhole after=0s for=1s": 1}
    assert wire.hits == []


# --- mtu --------------------------------------------------------------------------------------------------


def a_large_packet(octets: int, *, incoming: bool = False, v6: bool = False) -> Packet:
    text = bytes(octets - (60 if v6 else 40))
    return as_octets(a_segment(text=text, incoming=incoming, v6=v6, seq=5, packet_id=3))


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("direction", [OUT, IN])
def test_mtu_silent_drops_what_is_larger_without_a_word(v6: bool, direction: str) -> None:
    wire = Wire("mtu 1280 silent")
    wire.put(a_large_packet(1280, incoming=direction == IN, v6=v6), direction)
    wire.put(a_large_packet(1281, incoming=direction == IN, v6=v6), direction)
    assert [(d, len(packet)) for _, d, packet in wire.delivered] == [(direction, 1280)]
    assert [(hit.action, hit.packet_id) for hit in wire.hits] == [("dropped", 3)]


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(("direction", "back"), [(OUT, IN), (IN, OUT)])
def test_mtu_tells_the_sender_as_a_router_would(v6: bool, direction: str, back: str) -> None:
    wire = Wire("mtu 1280")
    packet = a_large_packet(1281, incoming=direction == IN, v6=v6)
    segment = decode(packet)
    assert isinstance(segment, Segment)
    wire.put(packet, direction, 7)
    ((at, way, answer),) = wire.delivered
    message = decode(answer)
    assert isinstance(message, IcmpMessage)
    assert (at, way, message.dst, message.mtu) == (7, back, segment.src, 1280)
    assert message.quoted == (segment.src, segment.sport, segment.dst, segment.dport)
    assert message.quoted_seq == 5
    assert answer.id == 1_000_000


def test_answer_to_what_was_sent_is_receivable_on_a_device() -> None:
    device, peer = faulty(Mtu(100))
    calls: list[int] = []
    device.on_ready = lambda: calls.append(1)
    assert device.send(a_large_packet(101), 5)
    assert device.deadline_ns == 5
    device.on_timer(5)
    assert calls == [1]
    (answer,) = device.receive(9, 5)
    assert isinstance(decode(answer), IcmpMessage)
    assert peer.receive(9, 5) == []


def test_answer_goes_back_through_the_rules_behind_its_own_only() -> None:
    for rules, through in (
        (["mtu 100", "drop any dir=in"], 0),
        (["drop any dir=in", "mtu 100"], 1),
        (["mtu 100", "drop any dir=out"], 1),
    ):
        wire = Wire(*rules)
        wire.put(a_large_packet(101), OUT)
        assert len(wire.delivered) == through
    wire = Wire("mtu 100", "delay 40ms")
    wire.put(a_large_packet(101), OUT, 0)
    wire.run()
    assert [(at, way) for at, way, _ in wire.delivered] == [(40 * MS, IN)]


def test_mtu_answers_large_echoes_and_leaves_errors_and_garbage_unanswered() -> None:
    wire = Wire("mtu 100")
    wire.put(as_octets(an_echo(length=200)), OUT)
    assert [way for _, way, _ in wire.delivered] == [IN]
    error = wire.delivered.pop()[2]
    wire.put(error, OUT)
    wire.put(Packet((b"\xff" * 200,)), OUT)
    assert wire.delivered == []
    assert wire.chain.hits == {"mtu 100": 3}


# --- rules for some packets only --------------------------------------------------------------------------


def test_match_limits_a_rule_that_draws_to_its_kind() -> None:
    device, peer = faulty("loss 100% data")
    ack, data = a_packet(), a_packet(text=b"x")
    assert sent(device, peer, [ack, data, ack]) == [ack.id, ack.id]


def test_nth_limits_a_rule_that_draws_to_those_packets() -> None:
    device, peer = faulty("duplicate 100% data nth=2..3")
    packets = [a_packet(text=b"x", seq=n) for n in range(4)]
    one, two, three, four = (packet.id for packet in packets)
    assert sent(device, peer, packets) == [one, two, two, three, three, four]


def test_other_kinds_and_directions_draw_nothing() -> None:
    def lost(noise: bool) -> list[int]:
        wire = Wire(Loss(0.5, match=SYN, direction=OUT))
        for n in range(50):
            wire.put(as_octets(a_segment(tcp.SYN, packet_id=n)), OUT)
            if noise:
                wire.put(a_packet(), OUT)
                wire.put(a_packet(tcp.SYN, incoming=True), IN)
        return [hit.packet_id for hit in wire.hits]

    assert lost(False) == lost(True)


def test_reorder_of_one_kind_is_overtaken_by_any() -> None:
    device, peer = faulty("reorder 100% data nth=1")
    data, acks = a_packet(text=b"x"), [a_packet(seq=n) for n in range(3)]
    order = sent(device, peer, [data, *acks])
    assert sorted(order) == sorted([data.id, *(ack.id for ack in acks)])
    assert order[0] == acks[0].id


def test_incoming_only_rule_counts_incoming_packets_only() -> None:
    device, peer = faulty("mtu 100 nth=2 dir=in silent")
    large = [a_large_packet(101, incoming=True) for _ in range(3)]
    for n, packet in enumerate(large):
        packet.id = n + 1
    sent(device, peer, [a_large_packet(101)])
    assert received(device, peer, large) == [1, 3]
