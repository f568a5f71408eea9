"""What a network card does to a packet that leaves: it divides superpackets and completes partial checksums.

In software, for whoever looks at packets as they are on the wire (fault rules, captures), where the device would have
done it behind our back; and the oracle for what devices do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..core.segment import CWR, FIN, PSH, Buffer, Segment
from .checksum import PROTOCOL_TCP, VALID, checksum, complement, ones_complement_sum, pseudo_header
from .dpkt_codec import decode
from .objects import ObjectPacket
from .packet import CHECKSUM_PARTIAL, CHECKSUM_VERIFIED, Packet

_PROTOCOL_UDP = 17
_CHECKSUM_OFFSETS = {PROTOCOL_TCP: 16, _PROTOCOL_UDP: 6}
_FRAGMENT = 0x3FFF  # IPv4's More Fragments, and the offset
_SHORT = struct.Struct("!H")
_TWO_SHORTS = struct.Struct("!HH")
_WORD = struct.Struct("!I")


def wire_packets(packet: Packet) -> Sequence[Packet]:
    """The packets that a network card would make of this one: it, unless offload left something to do.

    A TCP superpacket is divided into segments of gso_size octets of text: each with its own length, sequence number
    and checksums and, in IPv4, the next Identification; FIN and PSH only on the last, CWR only on the first (RFC 3168
    6.1.2: one loss is one reduction). All keep the packet's id, and a simulated one's are simulated packets too. A
    partial checksum is completed. A superpacket that is not TCP stays as it is; so does an urgent pointer, as on Linux.
    """
    if not packet.gso_size:
        return (completed(packet),)
    if isinstance(packet, ObjectPacket):
        return _divided_object(packet)
    octets = packet.data()
    found = _transport(octets)
    if found is None or found[0] != PROTOCOL_TCP:
        return (packet,)
    _, start, end = found
    text_start = start + (octets[start + 12] >> 4) * 4
    if not start + 20 <= text_start <= end:
        return (packet,)
    return _divided_octets(packet, octets, start, text_start, end)


def completed(packet: Packet) -> Packet:
    """The packet with its partial TCP or UDP checksum made complete, a superpacket's as that of one large packet; it
    itself where there is nothing to do."""
    if packet.checksum != CHECKSUM_PARTIAL:
        return packet
    octets = packet.data()
    found = _transport(octets)
    if found is None or found[0] not in _CHECKSUM_OFFSETS:
        return packet
    protocol, start, end = found
    field = start + _CHECKSUM_OFFSETS[protocol]
    view = memoryview(octets)
    src, dst = _addresses(octets)
    covered = (pseudo_header(src, dst, end - start, protocol), view[start:field], view[field + 2 : end])
    total = checksum(covered)
    if not total and protocol == _PROTOCOL_UDP:
        total = 0xFFFF  # RFC 768: zero would mean that there is none
    whole = b"".join((view[:field], _SHORT.pack(total), view[field + 2 :]))
    return Packet((whole,), gso_size=packet.gso_size, id=packet.id)


def divided(segment: Segment) -> list[Segment]:
    """The segments that a superpacket stands for, with views of its text; the segment itself where it is none.

    Options, reason and packet_id are the same in each.
    """
    step, length, flags = segment.gso_size, segment.payload_len, segment.flags
    if not step:
        return [segment]
    pieces = []
    chunks = _Chunks(segment.payload)
    for offset in range(0, max(length, 1), step):
        taken = min(step, length - offset)
        pieces.append(
            Segment(
                segment.src, segment.sport, segment.dst, segment.dport,
                (segment.seq + offset) & 0xFFFFFFFF, segment.ack,
                _piece_flags(flags, not offset, offset + taken == length),
                segment.wnd, chunks.take(taken), taken,
                segment.options, segment.up, segment.reason, segment.packet_id,
            )
        )  # fmt: skip
    return pieces


def tcp_start(octets: Buffer) -> int:
    """Where the TCP header begins in a packet that is known to decode as a segment."""
    if octets[0] >> 4 == 4:
        return (octets[0] & 15) * 4
    start, protocol = 40, octets[6]
    while protocol != PROTOCOL_TCP:  # an extension header: the next one's kind, its own length (RFC 8200 4)
        protocol, start = octets[start], start + 8 + octets[start + 1] * 8
    return start


def renew_checksums(octets: bytearray, start: int) -> None:
    """Make the checksum of the TCP header at `start` anew, and that of an IPv4 header; octets past the IP length are
    padding."""
    if octets[0] >> 4 == 4:
        renew_ip_checksum(octets)
        end = int.from_bytes(octets[2:4], "big")
    else:
        end = 40 + int.from_bytes(octets[4:6], "big")
    octets[start + 16 : start + 18] = b"\0\0"
    src, dst = _addresses(bytes(octets[:40]))
    covered = (pseudo_header(src, dst, end - start), bytes(octets[start:end]))
    octets[start + 16 : start + 18] = checksum(covered).to_bytes(2, "big")


def renew_ip_checksum(octets: bytearray) -> None:
    """Make the checksum of an IPv4 header anew."""
    length = (octets[0] & 15) * 4
    octets[10:12] = b"\0\0"
    octets[10:12] = checksum((bytes(octets[:length]),)).to_bytes(2, "big")


class _Chunks:
    """Chunks of text, of which `take` cuts the next octets off, as views."""

    __slots__ = ("_at", "_chunks", "_index")

    def __init__(self, chunks: tuple[Buffer, ...]) -> None:
        self._chunks = chunks
        self._index = 0
        self._at = 0

    def take(self, count: int) -> tuple[Buffer, ...]:
        """The next `count` octets; there must be as many."""
        taken: list[Buffer] = []
        while count:
            chunk = self._chunks[self._index]
            part = memoryview(chunk)[self._at : self._at + count]
            count -= len(part)
            self._at += len(part)
            if self._at == len(chunk):
                self._index += 1
                self._at = 0
            if part:
                taken.append(part)
        return tuple(taken)


def _divided_object(packet: ObjectPacket) -> list[Packet]:
    assert isinstance(packet.content, Segment), "gso_size is a segment's"
    pieces: list[Packet] = []
    for segment in divided(packet.content):
        piece = ObjectPacket(segment, packet.hop_limit, packet.traffic_class)
        piece.id = packet.id
        pieces.append(piece)
    return pieces


def _divided_octets(packet: Packet, octets: bytes, start: int, text_start: int, end: int) -> list[Packet]:
    """The pieces of a packet whose TCP header is at `start`, its text from text_start to `end`.

    All headers are the packet's own but for a few fields: what is the same in each is summed up once.
    """
    step, is_v4 = packet.gso_size, octets[0] >> 4 == 4
    seq, flags = _WORD.unpack_from(octets, start + 4)[0], octets[start + 13]
    ident = octets[4] << 8 | octets[5]
    header = bytearray(octets[:text_start])
    if is_v4:
        header[2:6] = bytes(4)
        header[10:12] = bytes(2)
    header[start + 4 : start + 8] = bytes(4)
    header[start + 13] = 0
    header[start + 16 : start + 18] = bytes(2)
    ip_sum = ones_complement_sum((bytes(header[:start]),)) if is_v4 else 0
    tcp_sum = ones_complement_sum((pseudo_header(*_addresses(octets), 0), bytes(header[start:])))
    view = memoryview(octets)
    pieces: list[Packet] = []
    for number, offset in enumerate(range(text_start, max(end, text_start + 1), step)):
        text = view[offset : min(offset + step, end)]
        length = text_start + len(text)
        piece_flags = _piece_flags(flags, not number, offset + step >= end)
        piece_seq = (seq + offset - text_start) & 0xFFFFFFFF
        if is_v4:
            piece_ident = (ident + number) & 0xFFFF
            _TWO_SHORTS.pack_into(header, 2, length, piece_ident)
            _SHORT.pack_into(header, 10, complement(ip_sum + length + piece_ident))
        else:
            _SHORT.pack_into(header, 4, length - 40)
        _WORD.pack_into(header, start + 4, piece_seq)
        header[start + 13] = piece_flags
        total = tcp_sum + length - start + piece_seq + piece_flags + ones_complement_sum((text,))
        _SHORT.pack_into(header, start + 16, complement(total))
        pieces.append(Packet((b"".join((header, text)),), id=packet.id))
    return pieces


def _piece_flags(flags: int, first: bool, last: bool) -> int:
    if not first:
        flags &= ~CWR
    return flags if last else flags & ~(FIN | PSH)


def _addresses(octets: bytes) -> tuple[bytes, bytes]:
    """Source and destination, packed."""
    return (octets[12:16], octets[16:20]) if octets[0] >> 4 == 4 else (octets[8:24], octets[24:40])


def _transport(octets: bytes) -> tuple[int, int, int] | None:
    """The transport protocol's number, where its header starts, and where the packet ends without padding; None where
    it is not a whole packet with a right IP header and enough behind that for a TCP (or UDP) header."""
    version = octets[0] >> 4 if octets else 0
    if version == 4 and len(octets) >= 20:
        protocol, start = octets[9], (octets[0] & 15) * 4
        end = octets[2] << 8 | octets[3]
        if start < 20 or _SHORT.unpack_from(octets, 6)[0] & _FRAGMENT or end > len(octets):
            return None
        if ones_complement_sum((octets[:start],)) != VALID:
            return None
    elif version == 6 and len(octets) >= 40:
        protocol, start = octets[6], 40
        end = 40 + (octets[4] << 8 | octets[5])
        if end > len(octets):
            return None
        if protocol not in _CHECKSUM_OFFSETS:  # extension headers, or nothing of ours
            if not isinstance(decode(Packet((octets,), CHECKSUM_VERIFIED)), Segment):
                return None
            protocol, start = PROTOCOL_TCP, tcp_start(octets)
    else:
        return None
    return (protocol, start, end) if start + (20 if protocol == PROTOCOL_TCP else 8) <= end else None
