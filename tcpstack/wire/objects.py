"""A codec that leaves things as they are: the packet carries the Segment or the message itself.

For simulations, where both ends live in one process. An ObjectPacket counts as many octets as it would have on the
wire, and `wire_packet` makes those octets where somebody has to see or to bend them (a fault rule that corrupts, a
capture). Packets of octets go through dpkt_codec as ever, so both kinds can be on one link.
"""

from __future__ import annotations

from ..core.handshake import TIMESTAMPS_BYTES
from ..core.segment import Segment, SegmentOptions, TimestampsAlone
from . import dpkt_codec, icmp
from .codec import Codec
from .dpkt_codec import encode_options
from .dropped import Dropped
from .icmp import IcmpMessage
from .packet import CHECKSUM_VERIFIED, Packet

_TCP_HEADER_BYTES = 20


class ObjectPacket(Packet):
    """A packet whose content was never encoded. `hop_limit` is what routers count down, `traffic_class` the octet of
    that name, Type of Service in IPv4."""

    __slots__ = ("content", "hop_limit", "size", "traffic_class")

    def __init__(self, content: Segment | IcmpMessage, hop_limit: int = 64, traffic_class: int = 0) -> None:
        self.buffers = ()
        self.checksum = CHECKSUM_VERIFIED
        self.id = content.packet_id
        self.content = content
        self.hop_limit = hop_limit
        self.traffic_class = traffic_class
        header = 20 if len(content.src) == 4 else 40
        if isinstance(content, Segment):
            self.gso_size = content.gso_size
            self.size = header + _TCP_HEADER_BYTES + _options_bytes(content.options) + content.payload_len
        else:
            self.gso_size = 0
            self.size = header + 4 + len(content.body)

    @property
    def congestion(self) -> int:
        """The two bits of ECN (RFC 3168 5)."""
        return self.traffic_class & 3

    def __len__(self) -> int:
        return self.size

    def data(self) -> bytes:
        return wire_packet(self).data()


def _options_bytes(options: SegmentOptions | None) -> int:
    if options is None:
        return 0
    return TIMESTAMPS_BYTES if type(options) is TimestampsAlone else len(encode_options(options))


def wire_packet(packet: Packet) -> Packet:
    """The packet as octets: itself, or the encoding of what it carries."""
    if not isinstance(packet, ObjectPacket):
        return packet
    if isinstance(packet.content, Segment):
        return dpkt_codec.encode(packet.content, False, packet.hop_limit, packet.traffic_class)
    return icmp.encode_icmp(packet.content, hop_limit=packet.hop_limit)


def decode(packet: Packet) -> Segment | IcmpMessage | Dropped:
    """What the packet carries; packets of octets go through dpkt_codec."""
    if isinstance(packet, ObjectPacket):
        return packet.content
    return dpkt_codec.decode(packet)


def encode(segment: Segment, partial: bool, hop_limit: int = 64, traffic_class: int = 0) -> Packet:
    """The segment's packet; there is no checksum to leave to anybody."""
    return ObjectPacket(segment, hop_limit, traffic_class)


OBJECTS = Codec(decode, encode, ObjectPacket)
