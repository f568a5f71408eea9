"""ICMP (RFC 792) and ICMPv6 (RFC 4443): what a TCP host needs of them.

Two uses: echo, so that ping works; and errors that quote a segment of ours, which `IcmpMessage.quoted` names
from our point of view. An error quotes a packet as its reporter saw it, cut off after as few as 8 octets of
TCP (RFC 792): the ports and the sequence number, no more. Nothing of it is authenticated; RFC 5927 4.1 asks
that the quoted sequence number be one in flight before an error is believed, hence `quoted_seq`.
"""

from __future__ import annotations

import struct

from ..core.segment import Buffer, FourTuple
from .checksum import PROTOCOL_TCP, VALID, checksum, ones_complement_sum, pseudo_header
from .dropped import Dropped
from .packet import Packet

PROTOCOL_ICMP = 1
PROTOCOL_ICMPV6 = 58

# Types, RFC 792.
ECHO_REPLY = 0
UNREACHABLE = 3
REDIRECT = 5
ECHO_REQUEST = 8
TIME_EXCEEDED = 11
PARAMETER_PROBLEM = 12
# Types, RFC 4443. Types below 128 are errors.
V6_UNREACHABLE = 1
V6_PACKET_TOO_BIG = 2
V6_TIME_EXCEEDED = 3
V6_PARAMETER_PROBLEM = 4
V6_ECHO_REQUEST = 128
V6_ECHO_REPLY = 129
# Codes of unreachable.
CODE_PROTOCOL = 2
CODE_PORT = 3
CODE_FRAGMENTATION_NEEDED = 4
V6_CODE_PORT = 4

_ERRORS_V4 = frozenset({UNREACHABLE, 4, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM})  # 4: source quench
_QUOTE_LIMIT_V4 = 576 - 28
"""RFC 1812 4.3.2.3: as much of the packet as fits into 576 octets, after the outer IP and ICMP headers."""
_QUOTE_LIMIT_V6 = 1280 - 48
"""RFC 4443 3.1: as much of the packet as fits into the minimum IPv6 MTU."""

DONT_FRAGMENT = 0x4000
"""RFC 6864 4.1: with this set and nothing fragmented, the Identification may be any value, so 0."""

_PORTS_AND_SEQ = struct.Struct("!HHI")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")


class IcmpMessage:
    """One ICMP or ICMPv6 message.

    src, dst    packed addresses of the IP header (4 octets: ICMP, 16: ICMPv6)
    type, code  as on the wire
    body        all that follows the checksum field: 4 octets whose meaning hangs on the type, then data
    quoted      for an error about a TCP segment of ours: the connection's name, local (quoted source) first
    quoted_seq  for such an error: SEG.SEQ of the quoted segment, as on the wire
    mtu         the next hop's MTU in octets from "fragmentation needed" or "packet too big", else 0;
                routers before RFC 1191 send 0 there
    packet_id   as in Packet
    """

    __slots__ = ("body", "code", "dst", "mtu", "packet_id", "quoted", "quoted_seq", "src", "type")

    def __init__(
        self,
        src: bytes,
        dst: bytes,
        type: int,
        code: int,
        body: bytes,
        quoted: FourTuple | None = None,
        quoted_seq: int = 0,
        mtu: int = 0,
        packet_id: int = 0,
    ) -> None:
        self.src = src
        self.dst = dst
        self.type = type
        self.code = code
        self.body = body
        self.quoted = quoted
        self.quoted_seq = quoted_seq
        self.mtu = mtu
        self.packet_id = packet_id

    @property
    def version(self) -> int:
        """4 for ICMP, 6 for ICMPv6."""
        return 4 if len(self.src) == 4 else 6

    @property
    def is_error(self) -> bool:
        """Whether it reports about a packet: then it must never be answered with another error."""
        return self.type in _ERRORS_V4 if len(self.src) == 4 else self.type < 128

    @property
    def is_echo_request(self) -> bool:
        """Whether `echo_reply` has an answer to it."""
        return self.type == (ECHO_REQUEST if len(self.src) == 4 else V6_ECHO_REQUEST) and self.code == 0

    def __repr__(self) -> str:
        about = f" about {self.quoted} seq={self.quoted_seq}" if self.quoted else ""
        return f"<IcmpMessage v{self.version} type={self.type} code={self.code} len={len(self.body)}{about}>"


def decode_icmp(
    src: bytes, dst: bytes, data: Buffer, *, verify: bool = True, packet_id: int = 0
) -> IcmpMessage | Dropped:
    """The message in `data`, which is what follows the IP header, or Dropped.

    Never raises. With verify=False the checksum is taken as good.
    """
    if len(data) < 8:
        return Dropped("icmp_truncated")
    if verify:
        # ICMPv6 covers the pseudo-header (RFC 4443 2.3), ICMP does not.
        covered = (data,) if len(src) == 4 else (pseudo_header(src, dst, len(data), PROTOCOL_ICMPV6), data)
        if ones_complement_sum(covered) != VALID:
            return Dropped("icmp_bad_checksum")
    message = IcmpMessage(src, dst, data[0], data[1], bytes(data[4:]), packet_id=packet_id)
    if message.is_error:
        _read_quote(message)
    return message


def encode_icmp(message: IcmpMessage, *, hop_limit: int = 64, ident: int = 0) -> Packet:
    """The IP packet that carries the message. Its quote and mtu, if any, are those in `body`."""
    src, dst, body = message.src, message.dst, message.body
    length = 4 + len(body)
    head = bytes((message.type, message.code))
    if len(src) == 4:
        icmp_sum = checksum((head, b"\0\0", body))
        fields = (0x45, 0, 20 + length, ident, DONT_FRAGMENT, hop_limit, PROTOCOL_ICMP)
        ip = _IPV4.pack(*fields, checksum((_IPV4.pack(*fields, 0, src, dst),)), src, dst)
    else:
        icmp_sum = checksum((pseudo_header(src, dst, length, PROTOCOL_ICMPV6), head, b"\0\0", body))
        ip = _IPV6.pack(6 << 28, length, PROTOCOL_ICMPV6, hop_limit, src, dst)
    return Packet((ip + head + icmp_sum.to_bytes(2, "big") + body,), id=message.packet_id)


def echo_reply(request: IcmpMessage) -> IcmpMessage:
    """The answer to an echo request: the same identifier, number and data, the other way round."""
    reply = ECHO_REPLY if len(request.src) == 4 else V6_ECHO_REPLY
    return IcmpMessage(request.dst, request.src, reply, 0, request.body)


def error(src: bytes, dst: bytes, type: int, code: int, original: Buffer, word: int = 0) -> IcmpMessage:
    """An error from `src` to `dst` (the original's source), with as much of the original packet as the RFCs allow.

    `word` is what the 4 octets before the quote say: the MTU, for those that have one. The caller sees to it that
    the original deserves an answer: it was no ICMP error, no fragment but the first, and went from and to a single
    host (RFC 1122 3.2.2, RFC 4443 2.4).
    """
    quote = bytes(original[: _QUOTE_LIMIT_V4 if len(src) == 4 else _QUOTE_LIMIT_V6])
    message = IcmpMessage(src, dst, type, code, word.to_bytes(4, "big") + quote)
    _read_quote(message)
    return message


def _read_quote(message: IcmpMessage) -> None:
    """Fill in mtu, quoted and quoted_seq from the body of an error, as far as it tells them."""
    body = message.body
    if len(message.src) == 4:
        if message.type == UNREACHABLE and message.code == CODE_FRAGMENTATION_NEEDED:
            message.mtu = int.from_bytes(body[2:4], "big")  # RFC 1191 4
        found = _quoted_v4(body[4:])
    else:
        if message.type == V6_PACKET_TOO_BIG:
            message.mtu = int.from_bytes(body[:4], "big")
        found = _quoted_v6(body[4:])
    if found is not None:
        message.quoted, message.quoted_seq = found


def _quoted_v4(quote: bytes) -> tuple[FourTuple, int] | None:
    """The connection and SEG.SEQ of a quoted IPv4 packet, or None where it is not the start of a segment."""
    # Total length and checksum of the quoted header are left alone: routers and some stacks rewrite them.
    if len(quote) < 20 or quote[0] >> 4 != 4 or quote[9] != PROTOCOL_TCP:
        return None
    header_len = (quote[0] & 0x0F) * 4
    if header_len < 20 or len(quote) < header_len + 8:
        return None
    if int.from_bytes(quote[6:8], "big") & 0x1FFF:  # a later fragment: no TCP header in it
        return None
    sport, dport, seq = _PORTS_AND_SEQ.unpack_from(quote, header_len)
    return (quote[12:16], sport, quote[16:20], dport), seq


def _quoted_v6(quote: bytes) -> tuple[FourTuple, int] | None:
    """The same for IPv6. Our segments have no extension headers, so a quote that has some is not ours."""
    if len(quote) < 48 or quote[0] >> 4 != 6 or quote[6] != PROTOCOL_TCP:
        return None
    sport, dport, seq = _PORTS_AND_SEQ.unpack_from(quote, 40)
    return (quote[8:24], sport, quote[24:40], dport), seq
