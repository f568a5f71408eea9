"""What fault rules do to the octets of a packet: flipping bits, rewriting TCP headers.

A packet is never changed in place, since others may hold it: each function makes a new one. A simulated packet that
carries an object is encoded where its octets are to change; what merely passes stays an object.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from ..core.segment import Segment
from ..wire import icmp
from ..wire.icmp import IcmpMessage
from ..wire.objects import ObjectPacket, decode, wire_packet
from ..wire.packet import CHECKSUM_VERIFIED, Packet
from ..wire.segmentation import renew_checksums, renew_ip_checksum, tcp_start

_END_OF_OPTIONS, _NO_OPERATION, _MSS, _WINDOW_SCALE = 0, 1, 2, 3
_ECN_CAPABLE = (1, 2)  # ECT(1), ECT(0): RFC 3168 5
_CONGESTION_EXPERIENCED = 3


def segment_of(packet: Packet) -> Segment | None:
    """The segment in a packet, right checksum or not; None where it has none."""
    if not isinstance(packet, ObjectPacket):
        packet = Packet((packet.data(),), CHECKSUM_VERIFIED, id=packet.id)
    content = decode(packet)
    return content if isinstance(content, Segment) else None


def with_a_flipped_bit(packet: Packet, draw: Callable[[int], int]) -> Packet:
    """The packet with one bit the other way, by `draw(n)`, which gives 0 to n - 1. Nobody vouches for its checksum."""
    octets = bytearray(packet.data())
    # Not in the version: a TUN device takes nothing but 4 and 6, so no such packet would reach the wire.
    bit = 4 + draw(max(len(octets) * 8, 5) - 4)
    if octets:
        octets[bit // 8] ^= 0x80 >> bit % 8
    return Packet((bytes(octets),), gso_size=packet.gso_size, id=packet.id)


def without_options(packet: Packet, kinds: Collection[int]) -> Packet | None:
    """The packet with no TCP option of these kinds, or None where it has none. No-operations take their places, so
    that it keeps its length."""
    segment = segment_of(packet)
    if segment is None or segment.options is None:
        return None

    def edit(tcp: bytearray) -> None:
        for kind, position, length in _options(tcp):
            if kind in kinds:
                tcp[position : position + length] = bytes((_NO_OPERATION,)) * length

    return _with_edited_header(packet, edit)


def with_fields(packet: Packet, window: int | None, mss: int | None, wscale: int | None) -> Packet | None:
    """The packet with these in its TCP header, as far as it has such options; None where it has all of it already."""

    def edit(tcp: bytearray) -> None:
        if window is not None:
            tcp[14:16] = window.to_bytes(2, "big")
        for kind, position, length in _options(tcp):
            if kind == _MSS and length == 4 and mss is not None:
                tcp[position + 2 : position + 4] = mss.to_bytes(2, "big")
            elif kind == _WINDOW_SCALE and length == 3 and wscale is not None:
                tcp[position + 2] = wscale

    return _with_edited_header(packet, edit)


def with_congestion_marked(packet: Packet) -> Packet | None:
    """The segment's packet with "congestion experienced"; None where its sender did not say that it understands that,
    where it says so already (RFC 3168 5), or where the packet holds no right segment."""
    if not isinstance(decode(packet), Segment):
        return None
    if isinstance(packet, ObjectPacket):
        if packet.congestion not in _ECN_CAPABLE:
            return None
        marked = ObjectPacket(packet.content, packet.hop_limit, packet.traffic_class | _CONGESTION_EXPERIENCED)
        marked.id = packet.id
        return marked
    octets = bytearray(packet.data())
    is_v4 = octets[0] >> 4 == 4
    shift = 0 if is_v4 else 4
    if octets[1] >> shift & 3 not in _ECN_CAPABLE:
        return None
    octets[1] |= _CONGESTION_EXPERIENCED << shift
    if is_v4:
        renew_ip_checksum(octets)
    return Packet((bytes(octets),), packet.checksum, packet.gso_size, packet.id)


def too_big(packet: Packet, mtu: int) -> IcmpMessage | None:
    """What a router says of a packet that does not fit into its next link's `mtu`; None where it must not (RFC 1122
    3.2.2: of ICMP errors), or can't, where the packet is neither TCP nor ICMP.

    Don't Fragment is taken as set. The message comes from the address that the packet went to: a router has one of its
    own, but that the host may refuse, for having no way back to it (RFC 3704).
    """
    content = decode(packet)
    if not isinstance(content, Segment | IcmpMessage) or (isinstance(content, IcmpMessage) and content.is_error):
        return None
    is_v4 = len(content.src) == 4
    kind = icmp.UNREACHABLE if is_v4 else icmp.V6_PACKET_TOO_BIG
    code = icmp.CODE_FRAGMENTATION_NEEDED if is_v4 else 0
    return icmp.error(content.dst, content.src, kind, code, packet.data(), mtu)


def _with_edited_header(packet: Packet, edit: Callable[[bytearray], None]) -> Packet | None:
    """The packet with its TCP header, of which `edit` gets all octets, changed, and its checksum made anew. None
    where nothing changed; or where the packet holds no right segment: a wrong checksum must not be mended here."""
    if not isinstance(decode(packet), Segment):
        return None
    octets = wire_packet(packet).data()
    start = tcp_start(octets)
    end = start + (octets[start + 12] >> 4) * 4
    header = bytearray(octets[start:end])
    edit(header)
    if header == octets[start:end]:
        return None
    edited = bytearray(octets)
    edited[start:end] = header
    renew_checksums(edited, start)
    return Packet((bytes(edited),), id=packet.id)


def _options(tcp: bytearray) -> Iterator[tuple[int, int, int]]:
    """Kind, position and length of each option in a TCP header, up to one of an illegal length."""
    position, end = 20, len(tcp)
    while position < end and tcp[position] != _END_OF_OPTIONS:
        kind = tcp[position]
        length = 1 if kind == _NO_OPERATION else tcp[position + 1] if position + 1 < end else 0
        if length < 1 or position + length > end or (length == 1 and kind != _NO_OPERATION):
            return
        yield kind, position, length
        position += length
