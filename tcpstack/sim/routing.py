"""What a router does to a packet, whether it is octets or an object: hop limits and ICMP errors."""

from __future__ import annotations

from ..core.segment import Segment
from ..wire import icmp
from ..wire.checksum import ones_complement_sum
from ..wire.icmp import IcmpMessage
from ..wire.objects import ObjectPacket, decode, wire_packet
from ..wire.packet import Packet
from ..wire.segmentation import renew_ip_checksum


def source_of(packet: Packet) -> bytes:
    """The packed source address."""
    if isinstance(packet, ObjectPacket):
        return packet.content.src
    data = packet.buffers[0]
    return bytes(data[12:16] if data[0] >> 4 == 4 else data[8:24])


def destination_of(packet: Packet) -> bytes:
    """The packed destination address."""
    if isinstance(packet, ObjectPacket):
        return packet.content.dst
    data = packet.buffers[0]
    return bytes(data[16:20] if data[0] >> 4 == 4 else data[24:40])


def has_a_right_header(packet: Packet) -> bool:
    """Whether the checksum of an IPv4 header is right. IPv6 has none, and an object's header cannot be wrong."""
    if isinstance(packet, ObjectPacket):
        return True
    data = packet.buffers[0]
    length = (data[0] & 15) * 4
    return data[0] >> 4 != 4 or (20 <= length <= len(data) and ones_complement_sum((data[:length],)) == 0xFFFF)


def with_hop_counted(packet: Packet) -> Packet | None:
    """The packet as it goes on, its hop limit (time to live) one less; None where it was used up."""
    if isinstance(packet, ObjectPacket):
        if packet.hop_limit <= 1:
            return None
        passed = ObjectPacket(packet.content, packet.hop_limit - 1, packet.traffic_class)
        passed.id = packet.id
        return passed
    data = bytearray(packet.data())
    position = 8 if data[0] >> 4 == 4 else 7
    if data[position] <= 1:
        return None
    data[position] -= 1
    if position == 8:
        renew_ip_checksum(data)
    return Packet((bytes(data),), packet.checksum, packet.gso_size, packet.id)


def time_exceeded(packet: Packet, source: bytes) -> IcmpMessage | None:
    """The answer to a packet whose hop limit is used up; None where it must not be answered."""
    return _error(packet, source, icmp.TIME_EXCEEDED, icmp.V6_TIME_EXCEEDED, 0)


def no_route(packet: Packet, source: bytes) -> IcmpMessage | None:
    """The answer to a packet that nobody can be found for."""
    host_unreachable, no_route_to_destination = 1, 0
    code = host_unreachable if len(source) == 4 else no_route_to_destination
    return _error(packet, source, icmp.UNREACHABLE, icmp.V6_UNREACHABLE, code)


def too_big(packet: Packet, source: bytes, mtu: int) -> IcmpMessage | None:
    """The answer to a packet that the next link of `mtu` octets cannot carry: we never let anyone fragment."""
    code = icmp.CODE_FRAGMENTATION_NEEDED if len(source) == 4 else 0
    return _error(packet, source, icmp.UNREACHABLE, icmp.V6_PACKET_TOO_BIG, code, mtu)


def _error(packet: Packet, source: bytes, type4: int, type6: int, code: int, word: int = 0) -> IcmpMessage | None:
    content = decode(packet)
    if isinstance(content, IcmpMessage) and content.is_error:
        return None  # RFC 1122 3.2.2: never an error about an error
    if not isinstance(content, Segment | IcmpMessage):
        return None
    original = wire_packet(packet).data()
    return icmp.error(source, source_of(packet), type4 if len(source) == 4 else type6, code, original, word)
