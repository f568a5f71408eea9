"""Each example of docs/faults.md is a rule, and does what its line says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

import tcpstack
from tcpstack.core import segment as tcp
from tcpstack.core.segment import Options, Segment
from tcpstack.device.faults import IN, OUT, FaultRuleError, parse_rule
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.icmp import IcmpMessage
from tests.device.faulty_wire import MS, SECOND, SYN_OPTIONS, Wire, a_segment, with_ecn

PAGE = (Path(tcpstack.__file__).parent.parent / "docs" / "faults.md").read_text()
EXAMPLES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)


def through(wire: Wire, *segments: Segment, direction: str = OUT, gap_ns: int = 0) -> list[int]:
    """Which of the segments came out at the other end, by their place; 1 is the first."""
    wire.delivered.clear()
    for n, segment in enumerate(segments):
        segment.packet_id = n + 1
        wire.put(encode(segment), direction, n * gap_ns)
    wire.run()
    return wire.ids(direction)


def acks(count: int, incoming: bool = False) -> list[Segment]:
    return [a_segment(seq=n, incoming=incoming) for n in range(count)]


def texts(count: int, size: int = 1, incoming: bool = False) -> list[Segment]:
    return [a_segment(text=bytes(size), seq=n, incoming=incoming) for n in range(count)]


def segments_of(wire: Wire) -> list[Segment]:
    return [content for _, _, packet in wire.delivered if isinstance(content := decode(packet), Segment)]


def drop_syn(wire: Wire) -> None:
    assert through(wire, a_segment(tcp.SYN), a_segment(tcp.SYN)) == [2]


def drop_data(wire: Wire) -> None:
    assert through(wire, *texts(7)) == [1, 2, 3, 4, 5, 6, 7]
    assert through(wire, *texts(7, incoming=True), direction=IN) == [1, 2, 6, 7]


def loss(wire: Wire) -> None:
    assert 0.015 < 1 - len(through(wire, *acks(10_000))) / 10_000 < 0.025


def bursts(wire: Wire) -> None:
    passed = set(through(wire, *acks(10_000)))
    lost = [len(list(run)) for gone, run in groupby(n not in passed for n in range(1, 10_001)) if gone]
    assert 0.02 < sum(lost) / 10_000 < 0.05
    assert 2.5 < sum(lost) / len(lost) < 4.5


def softer_bursts(wire: Wire) -> None:
    passed = set(through(wire, *acks(10_000)))
    lost = [len(list(run)) for gone, run in groupby(n not in passed for n in range(1, 10_001)) if gone]
    assert 0.015 < sum(lost) / 10_000 < 0.04
    assert 1.5 < sum(lost) / len(lost) < 2.7


def duplicate(wire: Wire) -> None:
    ids = through(wire, *acks(5_000))
    assert ids == sorted(ids)
    assert 25 < sum(count == 2 for count in Counter(ids).values()) == len(ids) - 5_000 < 75


def reorder(wire: Wire) -> None:
    ids = through(wire, *acks(5_000))
    assert sorted(ids) == list(range(1, 5_001))
    overtaken = [place for place, n in enumerate(ids) if any(later > n for later in ids[max(0, place - 6) : place])]
    assert 100 < len(overtaken) < 200


def corrupt(wire: Wire) -> None:
    sent = [encode(segment).data() for segment in texts(10_000)]
    through(wire, *texts(10_000))
    damage = [
        int.from_bytes(before, "big") ^ int.from_bytes(packet.data(), "big")
        for before, (_, _, packet) in zip(sent, wire.delivered, strict=True)
    ]
    assert {bits.bit_count() for bits in damage} == {0, 1}
    assert 3 <= sum(map(bool, damage)) <= 20


def delay(wire: Wire) -> None:
    through(wire, *acks(9), gap_ns=MS)
    assert [at for at, _, _ in wire.delivered] == [(40 + n) * MS for n in range(9)]


def jitter(wire: Wire) -> None:
    assert through(wire, *acks(100), gap_ns=MS) == list(range(1, 101))
    late = [at - n * MS for n, (at, _, _) in enumerate(wire.delivered)]
    assert 40 * MS <= min(late) < max(late) <= 45 * MS


def rate(wire: Wire) -> None:
    assert through(wire, *texts(60, 1210)) == list(range(1, 53))  # one is being sent, 51 of 1,250 octets wait
    assert [at for at, _, _ in wire.delivered] == [n * MS for n in range(1, 53)]


def marking_rate(wire: Wire) -> None:
    wire.delivered.clear()
    for segment in texts(60, 1210):
        wire.put(with_ecn(encode(segment), 2))
    wire.run()
    bits = [packet.data()[1] & 3 for _, _, packet in wire.delivered]
    assert bits == [2] * 25 + [3] * 26  # one is being sent, 24 of 1,250 octets wait


def blackhole(wire: Wire) -> None:
    assert through(wire, *acks(10), gap_ns=SECOND) == [1, 2, 8, 9, 10]


def mtu(wire: Wire) -> None:
    assert through(wire, a_segment(text=bytes(1240)), a_segment(text=bytes(1241))) == [1]
    ((_, _, answer),) = [each for each in wire.delivered if each[1] == IN]
    message = decode(answer)
    assert isinstance(message, IcmpMessage)
    assert message.mtu == 1280


def silent_mtu(wire: Wire) -> None:
    assert through(wire, a_segment(text=bytes(1240)), a_segment(text=bytes(1241))) == [1]
    assert len(wire.delivered) == 1


def strip_sack(wire: Wire) -> None:
    through(wire, a_segment(tcp.SYN, options=SYN_OPTIONS), a_segment(options=Options(sack=((1, 2),))))
    syn, ack = segments_of(wire)
    assert syn.options == Options(mss=1460, wscale=7, timestamps=(1, 0))
    assert ack.options is None


def no_window(wire: Wire) -> None:
    through(wire, *texts(3), a_segment(tcp.SYN))
    assert [segment.wnd for segment in segments_of(wire)] == [0] * 4


def rewrite_options(wire: Wire) -> None:
    through(wire, a_segment(tcp.SYN, options=SYN_OPTIONS), a_segment(tcp.SYN, options=Options(mss=1460)))
    through_options = [segment.options for segment in segments_of(wire)]
    assert through_options == [
        Options(mss=536, wscale=0, sack_permitted=True, timestamps=(1, 0)), Options(mss=536),
    ]  # fmt: skip


def loss_of_data(wire: Wire) -> None:
    assert through(wire, *acks(1000)) == list(range(1, 1001))
    assert 400 < len(through(wire, *texts(1000))) < 600


def second_ack_twice(wire: Wire) -> None:
    assert through(wire, *texts(1), *acks(3)) == [1, 2, 3, 3, 4]


def no_window_in_two_acks(wire: Wire) -> None:
    through(wire, *acks(1), *texts(1), *acks(3))
    assert [segment.wnd for segment in segments_of(wire)] == [5000, 5000, 0, 0, 5000]
    through(wire, *acks(3, incoming=True), direction=IN)
    assert [segment.wnd for segment in segments_of(wire)] == [5000] * 3


def late_packet(wire: Wire) -> None:
    assert through(wire, *texts(6), gap_ns=MS) == [1, 2, 3, 5, 6, 4]
    assert wire.delivered[-1][0] == 203 * MS


def other_loss(wire: Wire) -> None:
    passed = through(wire, *acks(10_000))
    assert 0.015 < 1 - len(passed) / 10_000 < 0.025
    assert passed != through(Wire("loss 2%"), *acks(10_000))


EFFECTS: dict[str, Callable[[Wire], None]] = {
    "drop syn nth=1": drop_syn,
    "drop data nth=3..5 dir=in": drop_data,
    "loss 2%": loss,
    "burst-loss enter=1% leave=30%": bursts,
    "burst-loss enter=1% leave=30% loss-in-good=0.1% loss-in-bad=80%": softer_bursts,
    "duplicate 1%": duplicate,
    "reorder 3%": reorder,
    "corrupt 0.1%": corrupt,
    "delay 40ms": delay,
    "delay 40ms jitter 5ms": jitter,
    "rate 10mbit queue 64kB": rate,
    "rate 10mbit queue 50p mark 30kB": marking_rate,
    "blackhole after=2s for=5s": blackhole,
    "mtu 1280": mtu,
    "mtu 1280 silent": silent_mtu,
    "strip option=sack": strip_sack,
    "rewrite window=0": no_window,
    "rewrite mss=536 wscale=0 syn": rewrite_options,
    "loss 50% data": loss_of_data,
    "duplicate 100% ack nth=2": second_ack_twice,
    "rewrite window=0 ack dir=out nth=2..3": no_window_in_two_acks,
    "delay 200ms data nth=4": late_packet,
    "loss 2% seed=7": other_loss,
}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_example_of_the_page_does_what_it_says(rule: str) -> None:
    EFFECTS[rule](Wire(rule))


def test_page_has_every_example_whose_effect_is_known() -> None:
    assert Counter(EXAMPLES) == Counter(list(EFFECTS))


@pytest.mark.parametrize("rule", EFFECTS)
def test_wire_without_rules_does_none_of_that(rule: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        EFFECTS[rule](Wire())


def test_rules_on_the_command_lines_of_the_page_are_rules() -> None:
    written = re.findall(r"--fault '([^']+)'", PAGE)
    assert len(written) >= 2
    assert [parse_rule(rule).text for rule in written] == written


def test_objects_of_the_page_are_the_rules_of_its_tables() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, list[object]] = {}
    exec(code, names)
    examples = [parse_rule(rule) for rule in EXAMPLES]
    assert len(names["faults"]) >= 15
    assert all(rule in examples for rule in names["faults"])


def test_error_on_the_page_is_the_one_that_the_rule_gets() -> None:
    (shown,) = re.findall(r"```\n(mtu takes.*?)\n```", PAGE, re.DOTALL)
    with pytest.raises(FaultRuleError) as caught:
        parse_rule("mtu 1280 quiet")
    assert str(caught.value) == shown
