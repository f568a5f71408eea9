"""What a stack needs of a codec, so that it can be given another one.

DPKT, the reference, turns octets into segments and back; FAST gives the same at a fraction of the cost. OBJECTS
(objects.py) lets a simulated packet carry the Segment itself: what two simulated hosts say to each other need not go
through octets to be said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core.segment import Segment
from . import dpkt_codec, fast_codec, icmp
from .dropped import Dropped
from .icmp import IcmpMessage
from .packet import Packet


@dataclass(frozen=True, slots=True)
class Codec:
    """decode       a packet's content, or Dropped; never raises, whatever the octets
    encode       the packet of a segment, a superpacket where its gso_size says so; the second argument says whether
                 the device completes the checksum, the others are hop limit and traffic class
    encode_icmp  the packet of a message

    Packets get the content's packet_id as their id.
    """

    decode: Callable[[Packet], Segment | IcmpMessage | Dropped]
    encode: Callable[[Segment, bool, int, int], Packet]
    encode_icmp: Callable[[IcmpMessage], Packet]


DPKT = Codec(dpkt_codec.decode, dpkt_codec.encode, icmp.encode_icmp)
FAST = Codec(fast_codec.decode, fast_codec.encode, icmp.encode_icmp)
