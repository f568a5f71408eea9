"""What fault rules do to the octets of a packet: dividing superpackets, flipping bits, rewriting TCP headers.

A packet is never changed in place, since others may hold it: each function makes a new one. A simulated packet that
carries an object is encoded where its octets are to change; what merely passes stays an object.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from ..core.segment import CWR, FIN, PSH, Segment
from ..wire import icmp
from ..wire.checksum import PROTOCOL_TCP, checksum, pseudo_header
from ..wire.icmp import IcmpMessage
from ..wire.objects import ObjectPacket, decode, wire_packet
from ..wire.packet import CHECKSUM_PARTIAL, CHECKSUM_VERIFIED, Packet

_END_OF_OPTIONS, _NO_OPERATION, _MSS, _WINDOW_SCALE = 0, 1, 2, 3
_ECN_CAPABLE = (1, 2)  # ECT(1), ECT(0): RFC 3168 5
_CONGESTION_EXPERIENCED = 3


def segment_of(packet: Packet) -> Segment | None:
    """The segment in a packet, right checksum or not; None where it has none."""
    if not isinstance(packet, ObjectPacket):
        packet = Packet((packet.data(),), CHECKSUM_VERIFIED, id=packet.id)
    content = decode(packet)
    return content if isinstance(content, Segment) else None


def as_on_the_wire(packet: Packet) -> Sequence[Packet]:
    """The packets that a network card would make of this one: it, unless offload left something to do.

    A TCP superpacket is divided into segments of gso_size octets of text: each with its own length, sequence number
    and checksums and, in IPv4, the next Identification; FIN and PSH only on the last, CWR only on the first (RFC 3168
    6.1.2: one loss is one reduction). A partial checksum is completed. All keep the packet's id. What is not TCP stays
    as it is; so does an urgent pointer, as on Linux.
    """
    if not packet.gso_size and packet.checksum != CHECKSUM_PARTIAL:
        return (packet,)
    octets = wire_packet(packet).data()
    segment = segment_of(Packet((octets,)))
    if segment is None:
        return (packet,)
    start = _tcp_start(octets)
    end = start + (octets[start + 12] >> 4) * 4
    text_end = end + segment.payload_len
    step = packet.gso_size or segment.payload_len or 1
    pieces = []
    for offset in range(end, max(text_end, end + 1), step):
        piece = bytearray(octets[:end] + octets[offset : min(offset + step, text_end)])
        _set_ip_length(piece, (offset - end) // step)
        piece[start + 4 : start + 8] = ((segment.seq + offset - end) & 0xFFFFFFFF).to_bytes(4, "big")
        if offset + step < text_end:
            piece[start + 13] &= ~(FIN | PSH)
        if offset > end:
            piece[start + 13] &= ~CWR
        _renew_checksums(piece, start)
        pieces.append(Packet((bytes(piece),), id=packet.id))
    return pieces


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
        marked = ObjectPacket(packet.content, packet.hop_limit, _CONGESTION_EXPERIENCED)
        marked.id = packet.id
        return marked
    octets = bytearray(packet.data())
    is_v4 = octets[0] >> 4 == 4
    shift = 0 if is_v4 else 4
    if octets[1] >> shift & 3 not in _ECN_CAPABLE:
        return None
    octets[1] |= _CONGESTION_EXPERIENCED << shift
    if is_v4:
        _renew_ip_checksum(octets)
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
    start = _tcp_start(octets)
    end = start + (octets[start + 12] >> 4) * 4
    header = bytearray(octets[start:end])
    edit(header)
    if header == octets[start:end]:
        return None
    edited = bytearray(octets)
    edited[start:end] = header
    _renew_checksums(edited, start)
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


def _tcp_start(octets: bytes) -> int:
    """Where the TCP header begins in a packet that is known to decode as a segment."""
    if octets[0] >> 4 == 4:
        return (octets[0] & 15) * 4
    start, protocol = 40, octets[6]
    while protocol != PROTOCOL_TCP:  # an extension header: the next one's kind, its own length (RFC 8200 4)
        protocol, start = octets[start], start + 8 + octets[start + 1] * 8
    return start


def _set_ip_length(octets: bytearray, number: int) -> None:
    """Have the IP header tell this packet's length, as the `number`th that was made of one."""
    if octets[0] >> 4 == 4:
        octets[2:4] = len(octets).to_bytes(2, "big")
        octets[4:6] = ((int.from_bytes(octets[4:6], "big") + number) & 0xFFFF).to_bytes(2, "big")
    else:
        octets[4:6] = (len(octets) - 40).to_bytes(2, "big")


def _renew_checksums(octets: bytearray, start: int) -> None:
    """Make the TCP checksum anew, and that of an IPv4 header; octets past the IP length are padding."""
    if octets[0] >> 4 == 4:
        _renew_ip_checksum(octets)
        source, destination, end = octets[12:16], octets[16:20], int.from_bytes(octets[2:4], "big")
    else:
        source, destination, end = octets[8:24], octets[24:40], 40 + int.from_bytes(octets[4:6], "big")
    octets[start + 16 : start + 18] = b"\0\0"
    covered = (pseudo_header(bytes(source), bytes(destination), end - start), bytes(octets[start:end]))
    octets[start + 16 : start + 18] = checksum(covered).to_bytes(2, "big")


def _renew_ip_checksum(octets: bytearray) -> None:
    length = (octets[0] & 15) * 4
    octets[10:12] = b"\0\0"
    octets[10:12] = checksum((bytes(octets[:length]),)).to_bytes(2, "big")
