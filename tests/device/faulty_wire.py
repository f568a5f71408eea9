"""A chain of fault rules with nothing around it, and packets to put into it, as octets or as objects."""

from __future__ import annotations

import itertools

import dpkt
from hypothesis import strategies as st

from tcpstack.core import segment as tcp
from tcpstack.core.events import Event, FaultHit
from tcpstack.core.segment import Options, Segment
from tcpstack.device.fault_rules import MATCHES, OPTION_KINDS
from tcpstack.device.faults import (
    IN,
    OUT,
    Blackhole,
    BurstLoss,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    FaultChain,
    Loss,
    Mtu,
    Rate,
    Reorder,
    Rewrite,
    Rule,
    Strip,
    parse_rule,
)
from tcpstack.wire.checksum import ones_complement_sum
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.icmp import IcmpMessage, encode_icmp
from tcpstack.wire.objects import ObjectPacket
from tcpstack.wire.packet import Packet
from tests.device.faulty_pair import OURS, OURS_V6, PEER, PEER_V6

MS = 1_000_000
SECOND = 1_000_000_000


class Wire:
    """A chain, what came out of it as (time, direction, packet), and its hits."""

    def __init__(self, *rules: Rule | str) -> None:
        self.delivered: list[tuple[int, str, Packet]] = []
        self.hits: list[FaultHit] = []
        parsed = [parse_rule(rule) if isinstance(rule, str) else rule for rule in rules]
        self.chain = FaultChain(parsed, self._deliver, self._note, itertools.count(1_000_000).__next__)

    def put(self, packet: Packet, direction: str = OUT, now_ns: int = 0) -> None:
        """At `now_ns`, what fell due before being let go first."""
        self.run(now_ns)
        self.chain.put(packet, direction, now_ns)

    def run(self, until_ns: int | None = None) -> None:
        """Let time pass; None: until nothing is held back."""
        while (due_ns := self.chain.deadline_ns) is not None and (until_ns is None or due_ns <= until_ns):
            self.chain.on_timer(due_ns)

    def ids(self, direction: str = OUT) -> list[int]:
        return [packet.id for _, d, packet in self.delivered if d == direction]

    @property
    def told(self) -> list[tuple[object, ...]]:
        """The hits, but for the segments' text."""
        return [
            (hit.time_ns, hit.flow, hit.direction, hit.rule, hit.action, hit.packet_id, hit.segment.seq)
            for hit in self.hits
        ]

    @property
    def octets(self) -> list[tuple[int, str, int, bytes]]:
        return [(at, direction, packet.id, packet.data()) for at, direction, packet in self.delivered]

    def _deliver(self, packet: Packet, direction: str, now_ns: int) -> bool:
        self.delivered.append((now_ns, direction, packet))
        return True

    def _note(self, event: Event) -> None:
        assert isinstance(event, FaultHit)
        self.hits.append(event)


def a_segment(
    flags: int = tcp.ACK,
    text: bytes = b"",
    *,
    options: Options | None = None,
    incoming: bool = False,
    seq: int = 0,
    wnd: int = 5000,
    v6: bool = False,
    packet_id: int = 1,
) -> Segment:
    ours, peer = (OURS_V6, PEER_V6) if v6 else (OURS, PEER)
    src, dst = (peer, ours) if incoming else (ours, peer)
    sport, dport = (80, 40000) if incoming else (40000, 80)
    payload = (text,) if text else ()
    return Segment(src, sport, dst, dport, seq, 7, flags, wnd, payload, len(text), options, packet_id=packet_id)


def an_echo(*, incoming: bool = False, length: int = 8, packet_id: int = 1) -> IcmpMessage:
    src, dst = (PEER, OURS) if incoming else (OURS, PEER)
    return IcmpMessage(src, dst, 8, 0, bytes(length), packet_id=packet_id)


def as_octets(content: Segment | IcmpMessage) -> Packet:
    return encode(content) if isinstance(content, Segment) else encode_icmp(content)


def as_object(content: Segment | IcmpMessage) -> Packet:
    return ObjectPacket(content)


def with_ecn(packet: Packet, bits: int) -> Packet:
    """The packet with these two bits of ECN (RFC 3168 5)."""
    octets = bytearray(packet.data())
    if octets[0] >> 4 == 4:
        octets[1] |= bits
        octets[10:12] = b"\0\0"
        octets[10:12] = (0xFFFF ^ ones_complement_sum((bytes(octets[:20]),))).to_bytes(2, "big")
    else:
        octets[1] |= bits << 4
    return Packet((bytes(octets),), packet.checksum, packet.gso_size, packet.id)


def parsed(packet: Packet) -> dpkt.ip.IP | dpkt.ip6.IP6:
    """The packet as dpkt sees it, which also agrees with its lengths and checksums."""
    octets = packet.data()
    ip = dpkt.ip.IP(octets) if octets[0] >> 4 == 4 else dpkt.ip6.IP6(octets)
    again = dpkt.ip.IP(octets) if octets[0] >> 4 == 4 else dpkt.ip6.IP6(octets)
    again.sum = again.data.sum = 0  # dpkt computes on output what is zero
    assert bytes(again) == octets
    assert (ip.len if octets[0] >> 4 == 4 else ip.plen + 40) == len(octets)
    return ip


SYN_OPTIONS = Options(mss=1460, wscale=7, sack_permitted=True, timestamps=(1, 0))

_NUMBERS = st.integers(0, 10**18 - 1)
_CHANCES = st.floats(0, 1)
_SPANS = st.integers(1, 10**9) | st.tuples(st.integers(1, 99), st.none() | st.integers(99, 10**9))
_LIMITS = {
    "match": st.sampled_from(list(MATCHES.values())),
    "nth": st.none() | _SPANS,
    "direction": st.sampled_from([None, IN, OUT]),
}
_REWRITTEN = st.tuples(
    st.none() | st.integers(0, 65535), st.none() | st.integers(0, 65535), st.none() | st.integers(0, 255)
).filter(lambda fields: any(field is not None for field in fields))

ANY_RULE: st.SearchStrategy[Rule] = st.one_of(
    st.builds(Drop, **_LIMITS),
    *(st.builds(rule, _CHANCES, _NUMBERS, **_LIMITS) for rule in (Loss, Duplicate, Reorder, Corrupt)),
    st.builds(BurstLoss, _CHANCES, _CHANCES, _CHANCES, _CHANCES, _NUMBERS, **_LIMITS),
    st.builds(Blackhole, _NUMBERS, st.none() | _NUMBERS.filter(bool), **_LIMITS),
    st.builds(Delay, _NUMBERS, _NUMBERS, _NUMBERS, **_LIMITS),
    st.builds(Rate, _NUMBERS.filter(bool), st.none() | _NUMBERS, st.none() | _NUMBERS, **_LIMITS),
    st.builds(Rate, _NUMBERS.filter(bool), st.none(), st.none() | _NUMBERS, _NUMBERS, **_LIMITS),
    st.builds(Rate, _NUMBERS.filter(bool), st.just(50_000), st.none() | _NUMBERS, st.integers(0, 50_000), **_LIMITS),
    st.builds(Mtu, st.integers(68, 65535), st.booleans(), **_LIMITS),
    st.builds(Strip, st.sampled_from(list(OPTION_KINDS)), **_LIMITS),
    st.builds(lambda fields, **limits: Rewrite(*fields, **limits), _REWRITTEN, **_LIMITS),
)
"""Every rule that there is."""
