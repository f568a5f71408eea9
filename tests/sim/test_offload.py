"""Superpackets on simulated links: joined as they are divided, and the same streams with them and without."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from itertools import pairwise, product

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import MILLISECOND_NS, Config
from tcpstack.core.events import ConnectionClosed, FaultHit, SegmentIn, SegmentOut
from tcpstack.core.readiness import CONNECTED, EOF, READABLE
from tcpstack.core.segment import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Options, Segment
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network
from tcpstack.sim.offload import joined, wire_size
from tcpstack.sim.search import Case, Plan, Talk, Violation, draw_case, play
from tcpstack.wire.codec import DPKT
from tcpstack.wire.objects import OBJECTS, ObjectPacket, decode
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED
from tcpstack.wire.segmentation import wire_packets

CODECS = pytest.mark.parametrize("codec", [OBJECTS, DPKT], ids=["objects", "octets"])
FAMILIES = pytest.mark.parametrize("prefix", ["10.0.0.{}/24", "fd00::{}/64"], ids=["v4", "v6"])
WHO_OFFLOADS = ((False, False), (True, False), (False, True), (True, True))


class Dialogue:
    """Each end of one connection says what `seed` says, in bursts, and half-closes; each hears all of it."""

    def __init__(
        self, offloads, line, faults=(), *, says=None, config=None,
        seed=0, codec=OBJECTS, prefix="10.0.0.{}/24", routers=0, mtu=1500,
    ):  # fmt: skip
        self.network = Network(seed, codec=codec, tracer=self.watch)
        self.events, self.segments_in, self.resets, self.closed = [], [], 0, []
        self.hosts = [
            self.network.host(name, prefix.format(number), faults=rules, offload=offload, config=config)
            for number, (name, offload, rules) in enumerate(zip("ab", offloads, (faults, ()), strict=True), 1)
        ]
        nodes = [self.hosts[0], *(self.network.router(f"r{n}") for n in range(routers)), self.hosts[1]]
        self.links = [self.network.link(near, far, line, mtu=mtu) for near, far in pairwise(nodes)]
        draw = random.Random(seed)
        sizes = says or [draw.choice((0, 1, 1_461, 30_000, 120_000)) for _ in self.hosts]
        self.said = [draw.randbytes(size) for size in sizes]
        self.steps = [draw.choice((500, 4_000, 1 << 20)) if says is None else 1 << 20 for _ in self.hosts]
        self.heard = [bytearray(), bytearray()]
        self.eof = [False, False]
        for number, host in enumerate(self.hosts):
            host.notify = lambda connection, mask, number=number: self.on_readiness(number, connection, mask)
        listener = self.hosts[1].listen(80)
        listener.on_connection = lambda: self.begin(1, listener.accept())
        self.hosts[0].connect(self.hosts[1].stack.addresses[0].ip.packed, 80).user = "a"

    def watch(self, event):
        self.events.append(event)
        if isinstance(event, SegmentOut):
            # One from CLOSED or LISTEN answers what the network doubled and brought when all was over.
            self.resets += bool(event.segment.flags & RST and event.state not in (st.CLOSED, st.LISTEN))
        elif isinstance(event, SegmentIn):
            self.segments_in.append(event.segment)
        elif isinstance(event, ConnectionClosed):
            self.closed.append((event.flow[1] == 80, event.bytes_in, event.bytes_out, event.error))

    def begin(self, number, connection):
        connection.user = "ab"[number]
        for at in range(0, len(self.said[number]), self.steps[number]):
            text = self.said[number][at : at + self.steps[number]]
            self.network.clock.call_after(at // 20 * 1_000, lambda text=text: self.hosts[number].send(connection, text))
        last_ns = len(self.said[number]) // 20 * 1_000
        self.network.clock.call_after(last_ns, lambda: self.hosts[number].shutdown(connection))
        self.on_readiness(number, connection, READABLE | EOF)

    def on_readiness(self, number, connection, mask):
        if mask & CONNECTED and number == 0:
            self.begin(0, connection)
        for chunk in self.hosts[number].receive(connection, 1 << 30):
            self.heard[number] += chunk
        self.eof[number] = self.eof[number] or connection.eof_received

    def outcome(self):
        """What must not hang on offload: what was heard, how it ended, that nothing is left and nothing was reset."""
        self.network.run(seconds=4_000)
        left = [(len(host.stack.connections), host.stack.time_waits, host.stack.deadline_ns) for host in self.hosts]
        heard = [hashlib.sha256(text).hexdigest() for text in self.heard]
        return heard, self.eof, sorted(self.closed), left, self.resets

    @property
    def superpackets_in(self):
        return [segment for segment in self.segments_in if segment.gso_size]


LINKS = {
    "ideal": (Line(), ()),
    "delayed": (Line(delay_ns=15 * MILLISECOND_NS, jitter_ns=5 * MILLISECOND_NS), ()),
    "queued": (Line(20_000_000, 5 * MILLISECOND_NS, queue_bytes=30_000), ()),
    "lossy": (Line(delay_ns=5 * MILLISECOND_NS), ("loss 4%",)),
    "reordering": (Line(delay_ns=5 * MILLISECOND_NS), ("reorder 10%", "duplicate 10%")),
    "awful": (Line(delay_ns=MILLISECOND_NS), ("loss 8%", "reorder 8%", "duplicate 8%", "corrupt 2%")),
}


@pytest.mark.parametrize("name", LINKS)
def test_streams_and_ends_are_the_same_with_and_without_offload(name):
    line, faults = LINKS[name]
    superpackets = 0
    for seed in range(40):
        codec, prefix = (OBJECTS, DPKT)[seed % 2], ("10.0.0.{}/24", "fd00::{}/64")[seed // 2 % 2]
        outcomes = []
        for offloads in WHO_OFFLOADS:
            dialogue = Dialogue(offloads, line, faults, seed=seed, codec=codec, prefix=prefix, routers=seed // 4 % 2)
            outcomes.append(dialogue.outcome())
            assert dialogue.heard == dialogue.said[::-1], (seed, offloads)
            superpackets += len(dialogue.superpackets_in)
        assert outcomes == outcomes[:1] * 4, seed
        assert outcomes[0][1:] == ([True, True], outcomes[0][2], [(0, 0, None)] * 2, 0), seed
        assert all(error is None for *_, error in outcomes[0][2]), seed
    assert (superpackets > 0) == (name not in ("queued",))


def test_cases_of_the_search_hold_whoever_offloads():
    for seed in range(60):
        for offloads in WHO_OFFLOADS:
            try:
                play(replace(draw_case(seed), offloads=offloads))
            except Violation as violation:
                pytest.fail(f"seed {seed}, offloads {offloads}: {violation}")


def test_old_cases_have_no_offload_and_drawn_ones_have_all_kinds():
    assert Case(seed=1).offloads == (False, False)
    assert {draw_case(seed).offloads for seed in range(50)} == set(product((False, True), repeat=2))


def test_case_has_one_corrupting_rule_at_most():
    drawn = [[rule for rules in draw_case(seed).faults for rule in rules] for seed in range(500)]
    assert {sum(rule.startswith("corrupt") for rule in rules) for rules in drawn} == {0, 1}


def test_superpacket_that_cannot_be_divided_is_a_violation(monkeypatch):
    monkeypatch.setattr("tcpstack.core.tcb.chunk_bytes_for", lambda superpacket_bytes, mss, address: 20 * mss)
    talk = Talk(0, 0, 1, (Plan(writes=((MILLISECOND_NS, 50_000),)), Plan()))
    with pytest.raises(Violation, match=r"a: no device could divide .* by 1448"):
        play(Case(seed=1, talks=(talk,)))


# Links


@CODECS
@FAMILIES
def test_ideal_link_carries_superpackets_to_a_host_that_takes_them(codec, prefix):
    dialogue = Dialogue((True, True), Line(delay_ns=MILLISECOND_NS), codec=codec, prefix=prefix, says=(100_000, 2_000))
    dialogue.outcome()
    sent = [event.segment for event in dialogue.events if isinstance(event, SegmentOut) and event.segment.gso_size]
    assert sent
    assert {each.packet_id for each in sent} == {each.packet_id for each in dialogue.superpackets_in}


@CODECS
@pytest.mark.parametrize("offloads", [(True, False), (False, False)])
def test_host_without_offload_gets_wire_packets(codec, offloads):
    dialogue = Dialogue(offloads, Line(delay_ns=MILLISECOND_NS), codec=codec, says=(100_000, 2_000))
    dialogue.outcome()
    assert not [segment for segment in dialogue.superpackets_in if segment.dport == 80]
    assert max(segment.payload_len for segment in dialogue.segments_in if segment.dport == 80) == 1_448


@CODECS
def test_what_arrives_at_once_is_joined_for_a_host_with_offload(codec):
    dialogue = Dialogue((False, True), Line(delay_ns=MILLISECOND_NS), codec=codec, says=(100_000, 2_000))
    dialogue.outcome()
    assert {segment.gso_size for segment in dialogue.superpackets_in} == {1_448}
    assert all(segment.dport == 80 for segment in dialogue.superpackets_in)


@CODECS
def test_rated_link_divides_and_nothing_is_joined_behind_it(codec):
    dialogue = Dialogue((True, True), Line(100_000_000, MILLISECOND_NS), codec=codec, says=(100_000, 2_000))
    dialogue.outcome()
    assert not dialogue.superpackets_in


def test_queue_drops_wire_packets_of_a_superpacket_one_by_one():
    dialogue = Dialogue((True, True), Line(10_000_000, MILLISECOND_NS, queue_packets=4), says=(100_000, 2_000))
    dialogue.outcome()
    lost = [event.segment for event in dialogue.events if isinstance(event, FaultHit)]
    sent = {event.segment.packet_id: event.segment for event in dialogue.events if isinstance(event, SegmentOut)}
    assert dialogue.links[0].counters["queue full"] == len(lost) > 0
    assert all(not segment.gso_size and segment.payload_len <= 1_460 for segment in lost)
    assert any(sent[segment.packet_id].gso_size for segment in lost)


@CODECS
def test_superpacket_is_judged_by_its_wire_packets_mtu(codec):
    dialogue = Dialogue((True, True), Line(), codec=codec, says=(100_000, 2_000), mtu=1_500)
    dialogue.outcome()
    assert dialogue.superpackets_in
    assert not dialogue.links[0].counters
    too_big = Dialogue((True, True), Line(), codec=codec, says=(100_000, 2_000), mtu=1_499)
    too_big.network.run(seconds=1)
    assert too_big.links[0].counters["above the link's MTU"] > 0


@CODECS
def test_router_passes_wire_packets(codec):
    one, many = (
        Dialogue((offload, offload), Line(delay_ns=MILLISECOND_NS), codec=codec, routers=1, says=(100_000, 2_000))
        for offload in (True, False)
    )
    forwarded = []
    for dialogue in (one, many):
        dialogue.outcome()
        forwarded.append(dialogue.links[0].ends[1].counters)
    assert forwarded[0].keys() == forwarded[1].keys() == {"forwarded"}
    assert min(counter["forwarded"] for counter in forwarded) > len(one.said[0]) / 1_460


def test_partial_checksums_are_complete_for_a_host_without_offload():
    dialogue = Dialogue((True, False), Line(), codec=DPKT, says=(100_000, 2_000))
    seen = []
    inner = dialogue.hosts[1].interface.deliver
    dialogue.hosts[1].interface.deliver = lambda packet, link: (seen.append(packet.checksum), inner(packet, link))
    dialogue.outcome()
    assert set(seen) == {CHECKSUM_UNVERIFIED}
    assert not dialogue.hosts[1].stack.counters


def trace(seed, codec):
    digest = hashlib.sha256()

    def see(event):
        digest.update(f"{event!r}".encode())
        if isinstance(event, SegmentIn | SegmentOut):
            digest.update(f"{event.segment!r} {event.segment.gso_size} {event.segment.packet_id}".encode())

    line = Line(delay_ns=10 * MILLISECOND_NS, jitter_ns=MILLISECOND_NS)
    dialogue = Dialogue((True, True), line, ("loss 2%", "reorder 2%"), seed=seed, codec=codec, says=(90_000, 90_000))
    dialogue.outcome()
    assert dialogue.superpackets_in
    for event in dialogue.events:
        see(event)
    return digest.hexdigest()


def test_links_that_carry_octets_and_objects_give_the_same_trace_with_offload():
    assert trace(2, OBJECTS) == trace(2, OBJECTS) == trace(2, DPKT)


# Joining

SRC, DST = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
SRC6, DST6 = bytes.fromhex("fd00" + "00" * 13 + "01"), bytes.fromhex("fd00" + "00" * 13 + "02")


def segment(seq=1, size=100, flags=ACK, wnd=500, *, ack=7, options=None, v6=False, sport=1, packet_id=0, up=0):
    src, dst = (SRC6, DST6) if v6 else (SRC, DST)
    text = bytes((seq + at) % 251 for at in range(size))
    return Segment(
        src, sport, dst, 2, seq, ack, flags, wnd, (text,) if size else (), size, options, up=up, packet_id=packet_id
    )  # fmt: skip


def packets(codec, *segments):
    return [codec.encode(each, False) for each in segments]


def sizes(codec, *segments):
    return [decode(packet).payload_len for packet in joined(packets(codec, *segments))]


@CODECS
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_joined_is_divided_into_the_same_again(codec, v6):
    draw = random.Random(1)
    for _ in range(100):
        count, size = draw.randrange(2, 45), draw.choice((1, 2, 99, 1_000, 1_460))
        first = draw.choice((5, (1 << 32) - 3, (1 << 32) - size * count // 2))
        run = [segment((first + at * size) & 0xFFFFFFFF, size, v6=v6) for at in range(count)]
        run[-1].payload_len -= (short := draw.randrange(size))
        run[-1].payload = (run[-1].payload[0][: size - short],)
        run[-1].flags |= draw.choice((0, PSH, FIN, PSH | FIN))
        for each in run:
            each.options = draw.choice((None, Options(timestamps=(1, 2)))) if each is run[0] else run[0].options
        wire = packets(codec, *run)
        (whole,) = joined(wire)
        assert (whole.gso_size, len(whole), whole.id) == (size, len(wire[0]) - size + size * count - short, wire[0].id)
        assert wire_size(whole) == len(wire[0])
        again = [decode(packet) for packet in wire_packets(whole)]
        for before, after in zip(run, again, strict=True):
            assert (repr(after), after.text(), after.up) == (repr(before), before.text(), 0)


@CODECS
@pytest.mark.parametrize(
    "second",
    [
        segment(102), segment(100), segment(1), segment(101, 101), segment(101, 0), segment(101, flags=ACK | SYN),
        segment(101, flags=ACK | RST), segment(101, flags=ACK | URG, up=3), segment(101, flags=ACK | CWR),
        segment(101, flags=ACK | ECE), segment(101, flags=0), segment(101, ack=8), segment(101, wnd=501),
        segment(101, options=Options(timestamps=(1, 1))), segment(101, sport=3), segment(101, v6=True),
    ],
    ids=repr,
)  # fmt: skip
def test_packet_that_differs_is_not_joined(codec, second):
    assert sizes(codec, segment(), second, segment(201)) == [100, second.payload_len, 100]


@CODECS
@pytest.mark.parametrize("flags", [ACK | PSH, ACK | FIN, ACK | PSH | FIN])
def test_push_or_fin_ends_what_is_joined(codec, flags):
    run = [segment(1), segment(101, flags=flags), segment(201), segment(301)]
    whole = joined(packets(codec, *run))
    assert [decode(packet).payload_len for packet in whole] == [200, 200]
    assert [decode(packet).flags for packet in whole] == [flags, ACK]


@CODECS
def test_shorter_text_ends_what_is_joined(codec):
    assert sizes(codec, segment(1), segment(101, 60), segment(161), segment(261)) == [160, 200]


@CODECS
def test_flow_that_another_interrupts_begins_anew(codec):
    run = [segment(1), segment(101), segment(1, sport=9), segment(201), segment(301)]
    assert sizes(codec, *run) == [200, 100, 200]


@CODECS
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_superpacket_holds_no_more_than_an_ip_packet_may(codec, v6):
    run = [segment(1 + at * 1_460, 1_460, v6=v6) for at in range(60)]
    assert sizes(codec, *run) == [44 * 1_460, 16 * 1_460]


@CODECS
def test_superpacket_that_arrives_is_left_as_it_is(codec):
    whole = segment(1, 300)
    whole.gso_size = 100
    given = [codec.encode(whole, True), *packets(codec, segment(301), segment(401))]
    after = joined(given)
    assert (after[0], len(after)) == (given[0], 2)


def test_hop_limit_and_congestion_must_be_alike():
    near = [ObjectPacket(segment(1), 64), ObjectPacket(segment(101), 63), ObjectPacket(segment(201), 63, 3)]
    assert joined(near) == near
    (whole,) = joined([ObjectPacket(segment(1), 9, 3), ObjectPacket(segment(101), 9, 3)])
    assert isinstance(whole, ObjectPacket)
    assert (whole.hop_limit, whole.congestion) == (9, 3)


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_ip_fields_of_octets_must_be_alike(v6):
    one, other = packets(DPKT, segment(1, v6=v6), segment(101, v6=v6))
    octets = bytearray(other.data())
    if v6:
        octets[1] |= 0x20  # the traffic class
    else:
        octets[1] |= 2
        octets[10:12] = ((octets[10] << 8 | octets[11]) - 2).to_bytes(2, "big")
    other.buffers = (bytes(octets),)
    assert isinstance(decode(other), Segment)
    assert joined([one, other]) == [one, other]


def test_wrong_checksum_is_not_joined_and_a_joined_one_is_left_to_be_completed():
    one, wrong, after = packets(DPKT, segment(1), segment(101), segment(201))
    octets = bytearray(wrong.data())
    octets[-1] ^= 1
    wrong.buffers = (bytes(octets),)
    assert joined([one, wrong, after]) == [one, wrong, after]
    (whole,) = joined(packets(DPKT, segment(1), segment(101)))
    assert whole.checksum == CHECKSUM_PARTIAL
    partial = DPKT.encode(segment(1, 200), True).data()
    assert whole.data()[:40] == partial[:40]


def test_unknown_option_is_not_joined():
    pair = [ObjectPacket(segment(at, options=Options(unknown=(99,)))) for at in (1, 101)]
    assert joined(pair) == pair


@pytest.mark.parametrize("window", [1, 500, 2_000, 70_000])
def test_small_windows_carry_the_same_with_offload(window):
    config = Config(receive_buffer_bytes=window)
    for offloads in WHO_OFFLOADS:
        dialogue = Dialogue(
            offloads, Line(delay_ns=MILLISECOND_NS), config=config, says=(20 * window, min(40 * window, 100_000))
        )
        dialogue.outcome()
        assert dialogue.heard == dialogue.said[::-1]
