"""One IP packet on its way between a device and the codec, with what the device knows about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.segment import Buffer

CHECKSUM_UNVERIFIED = 0
"""Nobody has looked at the transport checksum: the receiver verifies it, the sender has made it."""
CHECKSUM_VERIFIED = 1
"""The device vouches for the transport checksum (virtio DATA_VALID); only arriving packets say so."""
CHECKSUM_PARTIAL = 2
"""The checksum field holds the pseudo-header's sum only (virtio NEEDS_CSUM): correct, and completed by hardware."""


LARGEST_PACKET = 65_535
"""Octets: all that an IP packet's length field can say, and so the most that a superpacket is."""


@dataclass(frozen=True, slots=True)
class Offload:
    """What a device does for whoever sends by it.

    checksum    completes partial checksums (CHECKSUM_PARTIAL)
    tso4, tso6  takes superpackets of IPv4, of IPv6: one packet of up to LARGEST_PACKET octets that stands for as many
                on the wire as it takes (gso_size); these need `checksum` as well
    tso_ecn     also such that carry CWR
    unread      nobody in this process looks at the octets on their way to the kernel: they may be those of a mapped
                file, which nobody may touch. It is no service of the device's, and so does not count in comparisons.
    """

    checksum: bool = False
    tso4: bool = False
    tso6: bool = False
    tso_ecn: bool = False
    unread: bool = field(default=False, compare=False)

    def takes_superpackets(self, address: bytes) -> bool:
        """Whether superpackets may be sent to such an address (packed)."""
        return self.checksum and (self.tso4 if len(address) == 4 else self.tso6)


NO_OFFLOAD = Offload()
"""Bare packets: each is complete."""
FULL_OFFLOAD = Offload(checksum=True, tso4=True, tso6=True, tso_ecn=True)


class Packet:
    """buffers   the packet's octets, IP header first, as chunks; an arriving packet has one
    checksum  one of the CHECKSUM_ constants
    gso_size  the payload octets of each wire segment where this is a superpacket, else 0
    id        the number by which events and captures know this packet; 0 where none was given yet
    """

    __slots__ = ("buffers", "checksum", "gso_size", "id")

    def __init__(
        self, buffers: tuple[Buffer, ...], checksum: int = CHECKSUM_UNVERIFIED, gso_size: int = 0, id: int = 0
    ) -> None:
        self.buffers = buffers
        self.checksum = checksum
        self.gso_size = gso_size
        self.id = id

    def __len__(self) -> int:
        return sum(map(len, self.buffers))

    def data(self) -> bytes:
        """All octets joined (a copy unless the packet is one bytes object)."""
        buffers = self.buffers
        return bytes(buffers[0]) if len(buffers) == 1 else b"".join(buffers)
