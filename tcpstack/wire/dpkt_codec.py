"""The reference codec: every packet can go through it, in both directions.

In: dpkt parses the headers; it believes every length and verifies nothing, so each length and checksum is
examined here first, and only what holds is given to it. Its parsers of other protocols are never reached:
they recurse without bound on packets nested in packets. The peer cannot raise: what is not right is a
`Dropped` that names its counter.

Out: struct builds, dpkt being some thirty times slower at it. A segment's header is one bytes object; the
text follows in the chunks the segment has, uncopied.
"""

from __future__ import annotations

import struct

from dpkt import Error as DpktError
from dpkt import ip as dpkt_ip
from dpkt import ip6 as dpkt_ip6
from dpkt import tcp as dpkt_tcp

from ..core.segment import Options, Segment, SegmentOptions
from .checksum import PROTOCOL_TCP, VALID, complement, ones_complement_sum, pseudo_header
from .dropped import Dropped
from .icmp import DONT_FRAGMENT, PROTOCOL_ICMP, PROTOCOL_ICMPV6, IcmpMessage, decode_icmp
from .packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, Packet

__all__ = ["Dropped", "IcmpMessage", "decode", "decode_options", "encode", "encode_options"]

# IPv6 extension headers, by their protocol numbers (RFC 8200 4).
HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT = 44
DESTINATION_OPTIONS = 60

# Option kinds: RFC 9293 3.1, RFC 7323 (window scale, timestamps), RFC 2018 (SACK).
END_OF_OPTIONS = 0
NO_OPERATION = 1
MSS = 2
WINDOW_SCALE = 3
SACK_PERMITTED = 4
SACK = 5
TIMESTAMPS = 8

_FIXED_LENGTHS = {MSS: 4, WINDOW_SCALE: 3, SACK_PERMITTED: 2, TIMESTAMPS: 10}

_IPV4_TCP = struct.Struct("!BBHHHBBH4s4sHHIIHHHH")
_IPV6_TCP = struct.Struct("!IHBB16s16sHHIIHHHH")
_TWO_WORDS = struct.Struct("!II")
_MSS_OPTION = struct.Struct("!BBH")
_TIMESTAMPS_OPTION = struct.Struct("!HBBII")
_NOP_NOP = NO_OPERATION << 8 | NO_OPERATION
_SACK_PERMITTED_OPTION = SACK_PERMITTED << 8 | 2
_UNSPECIFIED_V6 = bytes(16)
_BROADCAST_V4 = b"\xff\xff\xff\xff"


def decode(packet: Packet) -> Segment | IcmpMessage | Dropped:
    """What the packet carries: a TCP segment, an ICMP message, or the reason why it is dropped.

    Raises nothing, whatever the octets. The segment's text is a memoryview of the packet's buffer, which
    must therefore outlive it (a packet of several buffers is joined first). Verified are all lengths, the
    IPv4 header checksum, and the TCP or ICMP checksum where the device has not done so. Octets past the
    IP length are padding and ignored.
    """
    buffers = packet.buffers
    view = memoryview(buffers[0] if len(buffers) == 1 else packet.data())
    if not view:
        return Dropped("ip_truncated")
    version = view[0] >> 4
    if version == 4:
        return _decode_ipv4(packet, view)
    if version == 6:
        return _decode_ipv6(packet, view)
    return Dropped("ip_unknown_version")


def encode(
    segment: Segment, partial: bool = False, hop_limit: int = 64, traffic_class: int = 0, *, ident: int = 0
) -> Packet:
    """The packet for a segment: buffers are one bytes object with all headers, then the segment's own chunks.

    With `partial` the checksum field holds the pseudo-header's sum, for the device to complete. A superpacket's lengths
    are those of the whole. IPv4 packets say Don't Fragment. Raises ValueError where the options take more than 40
    octets or the packet more than 65,535: that is the caller's mistake, never the peer's.
    """
    src, dst = segment.src, segment.dst
    options = encode_options(segment.options) if segment.options is not None else b""
    tcp_len = 20 + len(options) + segment.payload_len
    offset_flags = (5 << 12) + (len(options) << 10) | segment.flags
    addresses = int.from_bytes(src + dst, "big")
    # Each addend is congruent to the sum of its 16-bit words (see checksum.py), so fields go in as they are.
    # First the pseudo-header, then the header's fields, in order; then options and text.
    total = addresses + PROTOCOL_TCP + tcp_len
    payload = segment.payload
    if partial:
        checksum = total % 0xFFFF or 0xFFFF
    else:
        total += segment.sport + segment.dport + segment.seq + segment.ack
        total += offset_flags + segment.wnd + segment.up
        if options:
            total += int.from_bytes(options, "big")
        if payload:
            total += ones_complement_sum(payload)
        checksum = complement(total)
    tcp_fields = (
        segment.sport, segment.dport, segment.seq, segment.ack, offset_flags, segment.wnd, checksum, segment.up,
    )  # fmt: skip
    if tcp_len > 0xFFFF - (20 if len(src) == 4 else 0):
        raise ValueError(f"a segment of {tcp_len} octets does not fit into an IP packet")
    if len(src) == 4:
        ip_total = (0x4500 | traffic_class) + 20 + tcp_len + ident + DONT_FRAGMENT
        ip_total += (hop_limit << 8 | PROTOCOL_TCP) + addresses
        header = _IPV4_TCP.pack(
            0x45, traffic_class, 20 + tcp_len, ident, DONT_FRAGMENT, hop_limit, PROTOCOL_TCP, complement(ip_total),
            src, dst, *tcp_fields,
        )  # fmt: skip
    else:
        version_class = 6 << 28 | traffic_class << 20
        header = _IPV6_TCP.pack(version_class, tcp_len, PROTOCOL_TCP, hop_limit, src, dst, *tcp_fields)
    state = CHECKSUM_PARTIAL if partial else CHECKSUM_UNVERIFIED
    return Packet((header + options, *payload), state, segment.gso_size, segment.packet_id)


def decode_options(data: bytes) -> Options | None:
    """The options in a header's option octets; None where there are none (or padding only).

    Raises nothing. Unknown kinds are skipped by their length (MUST-6). A length below 2, one past the
    header's end, or one that its kind cannot have ends the parse with `malformed` set (MUST-7).
    A kind that comes twice counts as it came last.
    """
    options: Options | None = None
    position, end = 0, len(data)
    while position < end:
        kind = data[position]
        if kind == NO_OPERATION:
            position += 1
            continue
        if kind == END_OF_OPTIONS:
            break
        if options is None:
            options = Options()
        length = data[position + 1] if position + 1 < end else 0
        following = position + length
        if length < 2 or following > end or not _set_option(options, kind, data[position + 2 : following]):
            options.malformed = True
            break
        position = following
    return options


def encode_options(options: SegmentOptions) -> bytes:
    """The option octets, a multiple of four, in the order and with the padding that Linux uses.

    `unknown` and `malformed` speak of what arrived and are not encoded. Raises ValueError above 40 octets.
    """
    parts = []
    if options.mss is not None:
        parts.append(_MSS_OPTION.pack(MSS, 4, options.mss))
    if options.timestamps is not None:
        # SACK-Permitted takes the place of the two octets that would align the timestamps.
        lead = _SACK_PERMITTED_OPTION if options.sack_permitted else _NOP_NOP
        parts.append(_TIMESTAMPS_OPTION.pack(lead, TIMESTAMPS, 10, *options.timestamps))
    elif options.sack_permitted:
        parts.append(bytes((NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2)))
    if options.wscale is not None:
        parts.append(bytes((NO_OPERATION, WINDOW_SCALE, 3, options.wscale)))
    if options.sack:
        parts.append(bytes((NO_OPERATION, NO_OPERATION, SACK, 2 + 8 * len(options.sack))))
        parts.extend(_TWO_WORDS.pack(left, right) for left, right in options.sack)
    encoded = b"".join(parts)
    if len(encoded) > 40:
        raise ValueError(f"{options} take {len(encoded)} octets, and a TCP header has room for 40")
    return encoded


def _decode_ipv4(packet: Packet, view: memoryview) -> Segment | IcmpMessage | Dropped:
    """RFC 791 3.1, and RFC 1122 3.2.1 on what a host must check."""
    if len(view) < 20:
        return Dropped("ip_truncated")
    header_len = (view[0] & 0x0F) * 4
    total_len = view[2] << 8 | view[3]
    if header_len < 20 or total_len < header_len:
        return Dropped("ip_bad_length")
    if total_len > len(view):
        return Dropped("ip_truncated")
    if ones_complement_sum((view[:header_len],)) != VALID:
        return Dropped("ip_bad_checksum")
    if (view[6] << 8 | view[7]) & 0x3FFF:  # More Fragments, or an offset
        return Dropped("ip_fragment")
    protocol = view[9]
    if protocol == PROTOCOL_ICMP:
        return decode_icmp(
            bytes(view[12:16]), bytes(view[16:20]), view[header_len:total_len],
            verify=packet.checksum == CHECKSUM_UNVERIFIED, packet_id=packet.id,
        )  # fmt: skip
    if protocol != PROTOCOL_TCP:
        return Dropped("ip_other_protocol")
    if fault := _tcp_length_fault(view[header_len:total_len]):
        return Dropped(fault)
    try:
        ip = dpkt_ip.IP(view[:total_len])
    except (DpktError, struct.error, IndexError, ValueError):
        return Dropped("ip_unparsable")
    if ip.src[0] == 0 or _is_group_v4(ip.src) or _is_group_v4(ip.dst):
        return Dropped("tcp_bad_address")
    return _segment_from(packet, ip.src, ip.dst, ip.data, view[header_len:total_len])


def _decode_ipv6(packet: Packet, view: memoryview) -> Segment | IcmpMessage | Dropped:
    """RFC 8200 3 and 4."""
    if len(view) < 40:
        return Dropped("ip_truncated")
    payload_len = view[4] << 8 | view[5]
    end = 40 + payload_len
    if end > len(view):
        return Dropped("ip_truncated")
    walked = _skip_extensions(view[:end], view[6])
    if isinstance(walked, Dropped):
        return walked
    protocol, start = walked
    if protocol == PROTOCOL_ICMPV6:
        return decode_icmp(
            bytes(view[8:24]), bytes(view[24:40]), view[start:end],
            verify=packet.checksum == CHECKSUM_UNVERIFIED, packet_id=packet.id,
        )  # fmt: skip
    if protocol != PROTOCOL_TCP:
        return Dropped("ip_other_protocol")
    if fault := _tcp_length_fault(view[start:end]):
        return Dropped(fault)
    try:
        ip = dpkt_ip6.IP6(view[:end])
    except (DpktError, struct.error, IndexError, ValueError):
        return Dropped("ip_unparsable")
    if ip.src == _UNSPECIFIED_V6 or ip.src[0] == 0xFF or ip.dst[0] == 0xFF:
        return Dropped("tcp_bad_address")
    return _segment_from(packet, ip.src, ip.dst, ip.data, view[start:end])


def _skip_extensions(view: memoryview, protocol: int) -> tuple[int, int] | Dropped:
    """The protocol behind the extension headers of an IPv6 packet, and the offset at which it starts."""
    start, end = 40, len(view)
    while True:
        if protocol == FRAGMENT:
            return Dropped("ip_fragment")
        if protocol == ROUTING:
            return Dropped("ip6_routing_header")
        if protocol not in (HOP_BY_HOP, DESTINATION_OPTIONS):
            return protocol, start
        if protocol == HOP_BY_HOP and start != 40:  # RFC 8200 4.1: only right behind the IPv6 header
            return Dropped("ip6_bad_extension")
        if start + 8 > end:
            return Dropped("ip_truncated")
        next_start = start + 8 + view[start + 1] * 8
        if next_start > end:
            return Dropped("ip_truncated")
        if not _options_can_be_skipped(view[start + 2 : next_start]):
            return Dropped("ip6_bad_extension")
        protocol, start = view[start], next_start


def _options_can_be_skipped(options: memoryview) -> bool:
    """Whether a host that knows none of these options may go on (RFC 8200 4.2): they fit their header,
    and each one's two highest bits say "skip over this option"."""
    position, end = 0, len(options)
    while position < end:
        kind = options[position]
        if kind == 0:  # Pad1, the one option without a length
            position += 1
            continue
        if kind & 0xC0 or position + 2 > end:
            return False
        position += 2 + options[position + 1]
    return position == end


def _is_group_v4(address: bytes) -> bool:
    """Multicast or the limited broadcast, which TCP never talks to (MUST-57, MUST-63)."""
    return address[0] & 0xF0 == 0xE0 or address == _BROADCAST_V4


def _tcp_length_fault(tcp: memoryview) -> str:
    """The counter for a TCP header that does not fit into its packet, or "". dpkt would parse such ones."""
    if len(tcp) < 20:
        return "tcp_truncated"
    return "" if 20 <= (tcp[12] >> 4) * 4 <= len(tcp) else "tcp_bad_offset"


def _segment_from(
    packet: Packet, src: bytes, dst: bytes, tcp: dpkt_tcp.TCP, octets: memoryview
) -> Segment | Dropped:
    """The Segment for dpkt's view of a TCP header whose lengths are known to hold; `octets` is all of it."""
    if packet.checksum == CHECKSUM_UNVERIFIED:
        if ones_complement_sum((pseudo_header(src, dst, len(octets)), octets)) != VALID:
            return Dropped("tcp_bad_checksum")
    text = tcp.data
    payload_len = len(text)
    return Segment(
        src, tcp.sport, dst, tcp.dport, tcp.seq, tcp.ack,
        tcp.flags & 0xFF,  # dpkt's flags have nine bits; the ninth is reserved again since RFC 8311
        tcp.win,
        (text,) if payload_len else (),
        payload_len,
        decode_options(bytes(tcp.opts)) if tcp.opts else None,
        tcp.urp,
        packet_id=packet.id,
        gso_size=packet.gso_size,
    )  # fmt: skip


def _set_option(options: Options, kind: int, body: bytes) -> bool:
    """Take one option into `options`; False where its length is not one that its kind has."""
    length = 2 + len(body)
    if kind == SACK:
        # RFC 2018 3: pairs of edges. One with no pair says nothing, and nobody has reason to send it.
        if length < 10 or length % 8 != 2:
            return False
        options.sack = tuple(_TWO_WORDS.iter_unpack(body))
        return True
    fixed = _FIXED_LENGTHS.get(kind)
    if fixed is None:
        options.unknown += (kind,)
        return True
    if length != fixed:
        return False
    if kind == MSS:
        options.mss = int.from_bytes(body, "big")
    elif kind == WINDOW_SCALE:
        options.wscale = body[0]
    elif kind == SACK_PERMITTED:
        options.sack_permitted = True
    else:
        tsval, tsecr = _TWO_WORDS.unpack(body)
        options.timestamps = (tsval, tsecr)
    return True
