"""A connection of the script and the connection on the wire: addresses, ports and sequence numbers of one in terms
of the other.

A script counts from 0 at each end's SYN and has no ports; the wire has the initial sequence numbers that came up,
ports, and timestamps of its own clock. As in packetdrill, the numbers of a SYN itself are taken as written, so a
script may say `S 123:123(0)` and go on with 1.
"""

from __future__ import annotations

from ..core.segment import ACK, RST, SYN, FourTuple, Segment
from ..core.seq import MASK
from ..wire.checksum import checksum, pseudo_header
from .octets import decode_options, encode_options, ip_packet, tcp_packet, tcp_segment
from .script import Icmp, IpInfo, Option, Packet

REMOTE_ISN = 0xFFFF_F000
"""The ISN of the end that the script speaks for: its numbers wrap after 4,096 octets, so every longer drill is one
of sequence arithmetic too."""

_PROTOCOL_TCP, _PROTOCOL_ICMP, _PROTOCOL_ICMPV6 = 6, 1, 58
_PATTERN = bytes(range(251)) * 512
"""What unnamed text consists of. Its length is no power of two, so a displaced segment shows."""
_TIMESTAMPS = "TS"


def pattern(offset: int, size: int) -> bytes:
    """`size` octets of the text that every unnamed stream consists of, from its octet number `offset` on."""
    start = offset % 251
    if start + size <= len(_PATTERN):
        return _PATTERN[start : start + size]
    return bytes((offset + index) % 251 for index in range(size))


class Flow:
    """name   as on the wire, the side under test first
    ports  as the script writes them, (its, the tested side's); None where it does not
    sent   the text that the tested side's application wrote, to be found in its segments again
    """

    __slots__ = (
        "_first_ts", "_local_isn", "_local_isn_written", "_remote_isn_written", "_ts_by_written", "name", "ports",
        "sent", "urgent",
    )  # fmt: skip

    def __init__(self, name: FourTuple, ports: tuple[int, int] | None = None) -> None:
        self.name = name
        self.ports = ports
        self.sent = bytearray()
        self.urgent = False
        self._local_isn = 0
        self._local_isn_written: int | None = None
        self._remote_isn_written: int | None = None
        self._first_ts: tuple[int, int] | None = None  # the tested side's first TSval: as written, on the wire
        self._ts_by_written: dict[int, int] = {}

    @property
    def live_ports(self) -> tuple[int, int]:
        """(the script's, the tested side's) as on the wire."""
        _, lport, _, rport = self.name
        return rport, lport

    # ------------------------------------------------------------------ from the script to the wire

    def octets_of(self, packet: Packet) -> bytes:
        """The IP packet to inject for a packet of the script."""
        local, lport, remote, rport = self.name
        syn = bool(packet.flags & SYN)
        if syn and self._remote_isn_written is None:
            self._remote_isn_written = packet.seq
        seq = self._remote_number(packet.seq, syn)
        ack = self._local_number(packet.ack or 0, syn) if packet.flags & ACK or packet.ack else 0
        options = encode_options([self._live_option(option, syn) for option in packet.options or ()])
        self.urgent = self.urgent or bool(packet.urg)
        text = pattern(max(packet.seq - 1, 0) if not syn else 0, packet.size)
        win = 0 if packet.win is None else packet.win
        body = tcp_segment(
            remote, rport, local, lport, seq=seq, ack=ack, flags=packet.flags, win=win, urg=packet.urg,
            options=options, text=text,
        )  # fmt: skip
        return ip_packet(remote, local, _PROTOCOL_TCP, body, tos=packet.ip.tos, ttl=packet.ip.ttl)

    def octets_of_icmp(self, icmp: Icmp) -> bytes:
        """The IP packet to inject for an ICMP error of the script, from the remote host."""
        local, lport, remote, rport = self.name
        seq = self._local_number(icmp.seq, False)
        quoted_tcp = tcp_segment(local, lport, remote, rport, seq=seq, ack=0, flags=ACK, win=0, text=bytes(icmp.size))
        quote = ip_packet(local, remote, _PROTOCOL_TCP, quoted_tcp)[: (20 if len(local) == 4 else 40) + 28]
        v4 = len(local) == 4
        # RFC 1191 4: the MTU stands in the lower half of the word; RFC 4443 3.2: it is the word.
        rest = icmp.mtu.to_bytes(4, "big") + quote
        head = bytes((icmp.type, icmp.code))
        covered = (head, b"\0\0", rest)
        if v4:
            body = head + checksum(covered).to_bytes(2, "big") + rest
            return ip_packet(remote, local, _PROTOCOL_ICMP, body)
        pseudo = pseudo_header(remote, local, 4 + len(rest), _PROTOCOL_ICMPV6)
        body = head + checksum((pseudo, *covered)).to_bytes(2, "big") + rest
        return ip_packet(remote, local, _PROTOCOL_ICMPV6, body)

    # ------------------------------------------------------------------ from the wire to the script

    def learn(self, segment: Segment, expected: Packet) -> None:
        """The script expects this packet, and this segment has come: what follows is counted by the two."""
        if segment.flags & SYN and self._local_isn_written is None:
            self._local_isn = segment.seq
            self._local_isn_written = expected.seq if expected.flags & SYN else 0

    def written(self, segment: Segment, octets: bytes, expected: Packet | None = None) -> Packet:
        """An outgoing segment as the script would write it; timestamps as `expected` has them, where it has."""
        syn = bool(segment.flags & SYN)
        seq = (segment.seq - self._local_isn + (self._local_isn_written or 0) * syn) & MASK
        if segment.flags & RST and segment.seq == 0:
            seq = 0  # RFC 9293 3.10.7.1: <SEQ=0>, which counts from nowhere
        ack = (segment.ack - REMOTE_ISN + (self._remote_isn_written or 0) * syn) & MASK
        raw_options, tos, ttl = tcp_packet(octets)
        options = tuple(self._written_option(option, syn, expected) for option in decode_options(raw_options))
        ports = (segment.sport, segment.dport)
        return Packet(
            False, segment.flags, seq, segment.payload_len, ack if segment.flags & ACK else segment.ack or None,
            segment.wnd, segment.up, options, ports, IpInfo(tos=tos, tos_mask=0xFF, ttl=ttl),
        )  # fmt: skip

    # ------------------------------------------------------------------ inside

    def _remote_number(self, number: int, syn: bool) -> int:
        return (number - (self._remote_isn_written or 0) * syn + REMOTE_ISN) & MASK

    def _local_number(self, number: int, syn: bool) -> int:
        return (number - (self._local_isn_written or 0) * syn + self._local_isn) & MASK

    def _live_option(self, option: Option, syn: bool) -> Option:
        if option.name == "sack":
            return Option("sack", tuple(self._local_number(edge, syn) for edge in option.numbers))
        if option.name == _TIMESTAMPS:
            value, echo = option.numbers
            return Option(_TIMESTAMPS, (value, self._live_echo(echo)))
        return option

    def _live_echo(self, echo: int) -> int:
        """The TSval that the script echoes: the very one that it wrote so, else one as far from the first."""
        if echo in self._ts_by_written:
            return self._ts_by_written[echo]
        if self._first_ts is None:
            return echo
        first_written, first_live = self._first_ts
        return (echo - first_written + first_live) & MASK

    def _written_option(self, option: Option, syn: bool, expected: Packet | None) -> Option:
        if option.name == "sack":
            base = (self._remote_isn_written or 0) * syn - REMOTE_ISN
            return Option("sack", tuple((edge + base) & MASK for edge in option.numbers))
        if option.name != _TIMESTAMPS:
            return option
        value, echo = option.numbers
        for other in (expected.options or ()) if expected is not None else ():
            if other.name == _TIMESTAMPS:
                self._ts_by_written[other.numbers[0]] = value
                self._first_ts = self._first_ts or (other.numbers[0], value)
        if self._first_ts is not None:
            first_written, first_live = self._first_ts
            value = (value - first_live + first_written) & MASK
        return Option(_TIMESTAMPS, (value, echo))
