"""What a simulated network card does with superpackets beyond dividing them (wire/segmentation.py).

Receive offload, which Linux calls GRO: of the packets of one read, those that follow each other in one flow and differ
in nothing but what dividing makes differ become the superpacket that they might have been. What is joined here,
`wire_packets` divides into the same again, but for packet ids and IPv4's Identification.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.segment import ACK, FIN, PSH, RST, SYN, URG, Segment
from ..core.seq import MASK
from ..wire.checksum import ones_complement_sum, pseudo_header
from ..wire.objects import ObjectPacket, decode
from ..wire.packet import CHECKSUM_PARTIAL, LARGEST_PACKET, Packet
from ..wire.segmentation import renew_ip_checksum, tcp_start


def wire_size(packet: Packet) -> int:
    """The octets of the packet, and of a superpacket those of the largest that it stands for."""
    segment = decode(packet) if packet.gso_size else None
    return len(packet) if not isinstance(segment, Segment) else len(packet) - segment.payload_len + packet.gso_size


def joined(packets: Sequence[Packet]) -> list[Packet]:
    """The packets of one read, in order, with those joined that can be. Superpackets among them stay as they are."""
    if len(packets) < 2:
        return list(packets)
    runs: list[_Run] = []
    for packet in packets:
        content = decode(packet)
        segment = content if isinstance(content, Segment) and _can_be_joined(packet, content) else None
        if segment is None or not runs or not runs[-1].take(packet, segment):
            runs.append(_Run(packet, segment))
    return [run.packet() for run in runs]


class _Run:
    """A packet, and those that came behind it and belong to it. `segment` is None where there can be none."""

    __slots__ = ("_first", "_ip_fields", "_open", "_segment", "_segments", "_size")

    def __init__(self, first: Packet, segment: Segment | None) -> None:
        self._first = first
        self._segment = segment
        self._segments: list[Segment] = []
        self._size = len(first)
        self._open = False
        if segment is not None:
            self._segments.append(segment)
            self._ip_fields = _ip_fields(first)
            self._open = not segment.flags & (PSH | FIN)

    def take(self, packet: Packet, segment: Segment) -> bool:
        """Take the packet as the next one, if it is."""
        first = self._segment
        if first is None or not self._open or self._size + segment.payload_len > LARGEST_PACKET:
            return False
        last = self._segments[-1]
        follows = (
            (segment.src, segment.sport, segment.dst, segment.dport) == (first.src, first.sport, first.dst, first.dport)
            and segment.seq == (last.seq + last.payload_len) & MASK
            and segment.payload_len <= first.payload_len
            and segment.flags & ~(PSH | FIN) == first.flags
            and (segment.ack, segment.wnd, segment.options) == (first.ack, first.wnd, first.options)
            and _ip_fields(packet) == self._ip_fields
        )
        if follows:
            self._segments.append(segment)
            self._size += segment.payload_len
            # FIN, PSH and a shorter text are the last one's.
            self._open = segment.payload_len == first.payload_len and not segment.flags & (PSH | FIN)
        return follows

    def packet(self) -> Packet:
        """The packet for all of them: the first itself, where it is alone."""
        if len(self._segments) < 2:
            return self._first
        first, last, packet = self._segments[0], self._segments[-1], self._first
        payload = tuple(chunk for segment in self._segments for chunk in segment.payload)
        size = sum(segment.payload_len for segment in self._segments)
        if not isinstance(packet, ObjectPacket):
            header = _header_of_all(packet.data()[: len(packet) - first.payload_len], first, last.flags, size)
            return Packet((b"".join((header, *payload)),), CHECKSUM_PARTIAL, first.payload_len, packet.id)
        whole = Segment(
            first.src, first.sport, first.dst, first.dport, first.seq, first.ack, last.flags, first.wnd,
            payload, size, first.options, packet_id=packet.id, gso_size=first.payload_len,
        )  # fmt: skip
        return ObjectPacket(whole, packet.hop_limit, packet.traffic_class)


def _can_be_joined(packet: Packet, segment: Segment) -> bool:
    """Whether it is a plain segment with text, and all that it says is in the fields that are compared."""
    options = segment.options
    plain = segment.flags & (SYN | RST | URG | ACK) == ACK
    readable = options is None or not (options.unknown or options.malformed)
    return not packet.gso_size and segment.payload_len > 0 and plain and readable


def _ip_fields(packet: Packet) -> tuple[int, int] | bytes:
    """What of the IP header must be alike: all but addresses, lengths, checksum and Identification."""
    if isinstance(packet, ObjectPacket):
        return packet.hop_limit, packet.traffic_class
    octets = packet.buffers[0]
    return bytes(octets[:2]) + bytes(octets[6:9]) if octets[0] >> 4 == 4 else bytes(octets[:4]) + bytes(octets[6:8])


def _header_of_all(octets: bytes, first: Segment, flags: int, size: int) -> bytearray:
    """The first packet's headers for `size` octets of text, with a checksum that is left to be completed."""
    header, start = bytearray(octets), tcp_start(octets)
    length = len(octets) + size
    pseudo = pseudo_header(first.src, first.dst, length - start)
    header[start + 13] = flags
    header[start + 16 : start + 18] = ones_complement_sum((pseudo,)).to_bytes(2, "big")
    if len(first.src) == 4:
        header[2:4] = length.to_bytes(2, "big")
        renew_ip_checksum(header)
    else:
        header[4:6] = (length - 40).to_bytes(2, "big")
    return header
