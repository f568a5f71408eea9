"""The fast codec: struct for the segments that make up nearly all traffic, dpkt_codec for everything else.

Plain is an unfragmented TCP segment whose IP header has no options and no extension headers. What is not plain, and
whatever is wrong (a length, a checksum, an address), is declined: dpkt_codec looks at it once more and says what it is.
So the reasons to drop a packet are written down in one place, and every result is the one that dpkt_codec gives.

One unpack reads both headers. The checksums are then sums of the integers that came out of it, for a number of any
length is congruent to the sum of its 16-bit words (see checksum.py). A plain segment costs 0.8 us instead of 5, and
the sum over its text where the device has not verified that. Timestamps alone, laid out as RFC 7323 appendix A
recommends, are read here; all other options as dpkt_codec reads them, which makes a SYN cost 3 us instead of 17.
"""

from __future__ import annotations

import struct

from ..core.segment import Buffer, Segment, SegmentOptions, TimestampsAlone
from . import dpkt_codec
from .checksum import PROTOCOL_TCP, congruent_sum, ones_complement_sum
from .dropped import Dropped
from .icmp import DONT_FRAGMENT, IcmpMessage
from .packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, LARGEST_PACKET, Packet

# Fields of IPv4 that stand side by side are read and written as one number where that is enough: version, IHL and TOS;
# identification, flags and offset; TTL, protocol and header checksum.
_IPV4_TCP = struct.Struct("!HHII4s4sHHIIHHHH")
_IPV6_TCP = struct.Struct("!IHBB16s16sHHIIHHHH")
_THREE_WORDS = struct.Struct("!III")
_TIMESTAMPS_LEAD = 0x0101080A
"""No-operation, no-operation, kind 8 (timestamps), length 10."""
_UNSPECIFIED_V6 = bytes(16)

# Looked up once: they are used for each packet.
_unpack_ipv4_tcp = _IPV4_TCP.unpack_from
_unpack_ipv6_tcp = _IPV6_TCP.unpack_from
_pack_ipv4_tcp = _IPV4_TCP.pack
_pack_ipv6_tcp = _IPV6_TCP.pack
_number = int.from_bytes
_pack_three_words = _THREE_WORDS.pack
_new_segment = Segment.__new__
_new_options = TimestampsAlone.__new__


def decode(packet: Packet) -> Segment | IcmpMessage | Dropped:
    """What the packet carries, in every case what dpkt_codec.decode says. Raises nothing, whatever the octets."""
    buffers = packet.buffers
    buffer = buffers[0] if len(buffers) == 1 else packet.data()
    size = len(buffer)
    segment = None
    if size >= 40:
        first = buffer[0]
        if first == 0x45:
            segment = _plain_ipv4(packet, buffer, size)
        elif first >> 4 == 6 and size >= 60:
            segment = _plain_ipv6(packet, buffer, size)
    return dpkt_codec.decode(packet) if segment is None else segment


def encode(segment: Segment, partial: bool = False, hop_limit: int = 64, traffic_class: int = 0) -> Packet:
    """The packet for a segment, octet for octet as dpkt_codec.encode makes it; raises ValueError where that does."""
    src = segment.src
    dst = segment.dst
    payload = segment.payload
    options = segment.options
    if options is None:
        encoded = b""
    elif type(options) is TimestampsAlone:
        encoded = _pack_three_words(_TIMESTAMPS_LEAD, *options.timestamps)
    else:
        encoded = dpkt_codec.encode_options(options)
    tcp_len = 20 + len(encoded) + segment.payload_len
    offset_flags = 0x5000 + (len(encoded) << 10) | segment.flags
    addresses = _number(src + dst)
    total = addresses + PROTOCOL_TCP + tcp_len
    if partial:
        checksum = total % 0xFFFF or 0xFFFF
    else:
        total += segment.sport + segment.dport + segment.seq + segment.ack + offset_flags + segment.wnd + segment.up
        if encoded:
            total += _number(encoded)
        if payload:
            total += congruent_sum(payload[0]) if len(payload) == 1 else ones_complement_sum(payload)
        checksum = -total % 0xFFFF  # checksum.complement
    if len(src) == 4:
        length = 20 + tcp_len
        if length > LARGEST_PACKET:
            raise ValueError(f"a segment of {tcp_len} octets does not fit into an IP packet")
        version_tos = 0x4500 | traffic_class
        hops_protocol = hop_limit << 8 | PROTOCOL_TCP
        ip_checksum = -(version_tos + length + DONT_FRAGMENT + hops_protocol + addresses) % 0xFFFF
        header = _pack_ipv4_tcp(
            version_tos, length, DONT_FRAGMENT, hops_protocol << 16 | ip_checksum, src, dst,
            segment.sport, segment.dport, segment.seq, segment.ack, offset_flags, segment.wnd, checksum, segment.up,
        )  # fmt: skip
    else:
        if tcp_len > LARGEST_PACKET:
            raise ValueError(f"a segment of {tcp_len} octets does not fit into an IP packet")
        header = _pack_ipv6_tcp(
            6 << 28 | traffic_class << 20, tcp_len, PROTOCOL_TCP, hop_limit, src, dst,
            segment.sport, segment.dport, segment.seq, segment.ack, offset_flags, segment.wnd, checksum, segment.up,
        )  # fmt: skip
    if encoded:
        header += encoded
    state = CHECKSUM_PARTIAL if partial else CHECKSUM_UNVERIFIED
    return Packet((header, *payload), state, segment.gso_size, segment.packet_id)


def _plain_ipv4(packet: Packet, buffer: Buffer, size: int) -> Segment | None:
    """The segment in an IPv4 packet of at least 40 octets and with a header of 20; None if it is not plain."""
    (
        version_tos, end, ident_fragment, hops_protocol_sum, src, dst,
        sport, dport, seq, ack, offset_flags, wnd, checksum, up,
    ) = _unpack_ipv4_tcp(buffer)  # fmt: skip
    addresses = _number(src + dst)
    if (
        not 40 <= end <= size
        or hops_protocol_sum & 0xFF_0000 != PROTOCOL_TCP << 16
        or ident_fragment & 0x3FFF  # More Fragments, or an offset
        or not b"\x01" <= src < b"\xe0" > dst
        or (version_tos + end + ident_fragment + hops_protocol_sum + addresses) % 0xFFFF
    ):
        return None
    return _plain_tcp(
        packet, buffer, 40, end, addresses, src, dst, sport, dport, seq, ack, offset_flags, wnd, checksum, up
    )


def _plain_ipv6(packet: Packet, buffer: Buffer, size: int) -> Segment | None:
    """The segment in an IPv6 packet of at least 60 octets; None if it is not plain."""
    (
        _, tcp_len, protocol, _, src, dst,
        sport, dport, seq, ack, offset_flags, wnd, checksum, up,
    ) = _unpack_ipv6_tcp(buffer)  # fmt: skip
    end = 40 + tcp_len
    if not 60 <= end <= size or protocol != PROTOCOL_TCP or not _UNSPECIFIED_V6 < src < b"\xff" > dst:
        return None
    addresses = _number(src + dst)
    return _plain_tcp(
        packet, buffer, 60, end, addresses, src, dst, sport, dport, seq, ack, offset_flags, wnd, checksum, up
    )


def _plain_tcp(
    packet: Packet, buffer: Buffer, text_at: int, end: int, addresses: int, src: bytes, dst: bytes,
    sport: int, dport: int, seq: int, ack: int, offset_flags: int, wnd: int, checksum: int, up: int,
) -> Segment | None:  # fmt: skip
    """The segment of these header fields, whose text, or options, start at `text_at`; None if something is wrong."""
    total = PROTOCOL_TCP + 20 + end - text_at
    options: SegmentOptions | None = None
    offset = offset_flags >> 12
    if offset != 5:
        options_at, text_at = text_at, text_at + 4 * offset - 20
        if not options_at < text_at <= end:
            return None
        lead = tsval = tsecr = 0
        if offset == 8:
            lead, tsval, tsecr = _THREE_WORDS.unpack_from(buffer, options_at)
        if lead == _TIMESTAMPS_LEAD:
            options = stamped = _new_options(TimestampsAlone)
            stamped.timestamps = (tsval, tsecr)
            total += lead + tsval + tsecr
        else:
            octets = bytes(buffer[options_at:text_at])
            options = dpkt_codec.decode_options(octets)
            total += _number(octets)
    payload = (memoryview(buffer)[text_at:end],) if text_at < end else ()
    if packet.checksum == CHECKSUM_UNVERIFIED:
        total += addresses + sport + dport + seq + ack + offset_flags + wnd + checksum + up
        if payload:
            total += congruent_sum(buffer[text_at:end])
        if total % 0xFFFF:
            return None
    # As the constructor does, which takes half as long again; for the options likewise.
    segment = _new_segment(Segment)
    segment.src = src
    segment.sport = sport
    segment.dst = dst
    segment.dport = dport
    segment.seq = seq
    segment.ack = ack
    segment.flags = offset_flags & 0xFF
    segment.wnd = wnd
    segment.payload = payload
    segment.payload_len = end - text_at
    segment.options = options
    segment.up = up
    segment.reason = ""
    segment.packet_id = packet.id
    segment.gso_size = packet.gso_size
    return segment
