"""The same packets as octets and as simulated objects: the same hits, and the same packets delivered."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core import segment as tcp
from tcpstack.core.segment import Options, Segment
from tcpstack.device.fault_grammar import FORMS
from tcpstack.device.faults import IN, OUT, Rule
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.objects import ObjectPacket, decode
from tests.device.faulty_wire import ANY_RULE, MS, SYN_OPTIONS, Wire, a_segment, an_echo, as_object, as_octets

RULES = [
    "drop syn nth=1",
    "drop data nth=3..5 dir=in",
    "loss 20%",
    "burst-loss enter=10% leave=30% loss-in-good=2% loss-in-bad=90%",
    "duplicate 20%",
    "reorder 20%",
    "corrupt 30%",
    "delay 40ms jitter 5ms",
    "delay 4ms data nth=2..",
    "rate 1mbit queue 8kB",
    "rate 500kbit queue 5p mark 1kB",
    "blackhole after=100ms for=200ms",
    "mtu 600 silent",
    "mtu 600",
    "strip option=sack",
    "strip option=timestamps",
    "strip option=mss",
    "strip option=wscale",
    "rewrite window=0",
    "rewrite mss=536 wscale=2",
]

Content = Segment | IcmpMessage


@functools.cache
def traffic(seed: int = 0, count: int = 300) -> list[tuple[int, str, Content]]:
    """Packets of all kinds in both directions, with the times at which they are sent."""
    draw = random.Random(seed)
    sent: list[tuple[int, str, Content]] = []
    now_ns = 0
    for n in range(1, count + 1):
        now_ns += draw.choice((0, 0, 100_000, 3 * MS))
        direction = draw.choice((IN, OUT))
        sent.append((now_ns, direction, a_content(draw, direction == IN, n)))
    return sent


def a_content(draw: random.Random, incoming: bool, number: int) -> Content:
    kind = draw.choice(("syn", "synack", "ack", "data", "data", "data", "fin", "rst", "echo"))
    if kind == "echo":
        return an_echo(incoming=incoming, length=draw.choice((8, 900)), packet_id=number)
    flags = {"syn": tcp.SYN, "synack": tcp.SYN | tcp.ACK, "fin": tcp.FIN | tcp.ACK, "rst": tcp.RST}.get(kind, tcp.ACK)
    options: Options | None = Options(timestamps=(number, 1))
    if flags & tcp.SYN:
        options = SYN_OPTIONS
    elif kind == "ack":
        options = draw.choice((None, Options(sack=((1, 2), (5, 9))), Options(timestamps=(3, 4), sack=((1, 2),))))
    text = draw.randbytes(draw.choice((1, 100, 1460))) if kind == "data" else b""
    return a_segment(
        flags, text, options=options, incoming=incoming, seq=number * 1000, wnd=draw.choice((0, 5000)),
        v6=draw.random() < 0.3, packet_id=number,
    )  # fmt: skip


def carried(sent: list[tuple[int, str, Content]], *rules: Rule | str, as_objects: bool) -> Wire:
    wire = Wire(*rules)
    for at_ns, direction, content in sent:
        wire.put((as_object if as_objects else as_octets)(content), direction, at_ns)
    wire.run()
    return wire


def assert_alike(sent: list[tuple[int, str, Content]], *rules: Rule | str) -> Wire:
    octets, objects = (carried(sent, *rules, as_objects=as_objects) for as_objects in (False, True))
    assert objects.told == octets.told
    assert objects.chain.hits == octets.chain.hits
    assert objects.octets == octets.octets
    for (_, _, one), (_, _, other) in zip(objects.delivered, octets.delivered, strict=True):
        assert seen(decode(one)) == seen(decode(other))
    again = carried(sent, *rules, as_objects=True)
    assert (again.told, again.octets) == (objects.told, objects.octets)
    return objects


def seen(content: object) -> object:
    """What a stack sees of a packet."""
    if isinstance(content, Segment):
        return (
            content.src, content.sport, content.dst, content.dport, content.seq, content.ack, content.flags,
            content.wnd, content.text(), content.options, content.up, content.packet_id,
        )  # fmt: skip
    if isinstance(content, IcmpMessage):
        return tuple(getattr(content, name) for name in IcmpMessage.__slots__)
    return content


@pytest.mark.parametrize("rule", RULES)
def test_rule_treats_octets_and_objects_alike(rule: str) -> None:
    wire = assert_alike(traffic(), rule)
    assert wire.chain.hits or rule.startswith("delay 40ms")


def test_every_kind_of_rule_is_among_those_compared() -> None:
    assert {rule.split()[0] for rule in RULES} == set(FORMS)


@given(st.lists(st.sampled_from(RULES) | ANY_RULE, max_size=4), st.integers(0, 20))
def test_chains_of_rules_treat_octets_and_objects_alike(rules: list[Rule | str], seed: int) -> None:
    assert_alike(traffic(seed, 30), *rules)


@given(
    st.lists(st.sampled_from(RULES) | ANY_RULE, max_size=4),
    st.lists(st.tuples(st.binary(max_size=80) | st.just(b"\x45" + bytes(60)), st.sampled_from([IN, OUT]))),
)
def test_octets_that_are_no_packet_pass_any_rules_without_a_hitch(
    rules: list[Rule | str], packets: list[tuple[bytes, str]]
) -> None:
    wire = Wire(*rules)
    for n, (octets, direction) in enumerate(packets):
        packet = as_octets(a_segment())
        packet.buffers = (octets,)
        wire.put(packet, direction, n * MS)
    wire.run()


def test_shared_segments_are_as_they_were_after_every_rule() -> None:
    sent = traffic()
    before = [as_octets(content).data() for _, _, content in sent]
    carried(sent, *(rule for rule in RULES if not rule.startswith(("drop", "blackhole"))), as_objects=True)
    assert [as_octets(content).data() for _, _, content in sent] == before


def test_what_no_rule_changes_stays_the_object_that_it_was() -> None:
    contents = [a_segment(text=b"text", packet_id=n) for n in range(9)]
    wire = Wire("loss 0%", "delay 1ms", "strip option=sack", "mtu 1500", "reorder 50%", "duplicate 50%")
    for content in contents:
        wire.put(as_object(content))
    wire.run()
    assert {id(p.content) for _, _, p in wire.delivered if isinstance(p, ObjectPacket)} == set(map(id, contents))


def test_same_seed_hits_the_same_packets_in_another_chain_and_another_seed_others() -> None:
    for verb in ("loss 20%", "duplicate 20%", "reorder 20%", "corrupt 20%", "burst-loss enter=20% leave=20%"):
        runs = [carried(traffic(), f"{verb} seed={seed}", as_objects=True).told for seed in (1, 1, 2)]
        assert [hit[2:] for hit in runs[0]] == [hit[2:] for hit in runs[1]]
        assert [hit[5] for hit in runs[0]] != [hit[5] for hit in runs[2]]
