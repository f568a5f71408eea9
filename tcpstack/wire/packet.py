"""One IP packet on its way between a device and the codec, with what the device knows about it."""

from __future__ import annotations

from ..core.segment import Buffer

CHECKSUM_UNVERIFIED = 0
"""Nobody has looked at the transport checksum: the receiver verifies it, the sender has made it."""
CHECKSUM_VERIFIED = 1
"""The device vouches for the transport checksum (virtio DATA_VALID); only arriving packets say so."""
CHECKSUM_PARTIAL = 2
"""The checksum field holds the pseudo-header's sum only (virtio NEEDS_CSUM): correct, and completed by hardware."""


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
