"""struct virtio_net_hdr, which says what a packet's sender left undone (virtio 1.2, 5.1.6; <linux/virtio_net.h>).

TUN devices (IFF_VNET_HDR) and packet sockets (PACKET_VNET_HDR) put one before each packet, in both directions, in the
machine's own byte order.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from ..core.segment import CWR
from ..wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, Packet

HEADER_BYTES = 10

_HEADER = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_NEEDS_CSUM, _DATA_VALID = 1, 2
_CHECKSUMS = (CHECKSUM_UNVERIFIED, CHECKSUM_PARTIAL, CHECKSUM_VERIFIED, CHECKSUM_PARTIAL)  # by these two bits
_GSO_TCPV4, _GSO_TCPV6, _GSO_ECN = 1, 4, 0x80
_TCP_CHECKSUM_OFFSET = 16
_COMPLETE = bytes(HEADER_BYTES)


def read(octets: bytes | bytearray) -> tuple[int, int]:
    """The checksum state (one of the CHECKSUM_ constants) and gso_size, from the header before a packet."""
    flags, gso_type, _, gso_size, _, _ = _HEADER.unpack_from(octets)
    return _CHECKSUMS[flags & (_NEEDS_CSUM | _DATA_VALID)], gso_size if gso_type else 0


def header_for(packet: Packet, before: int = 0) -> bytes:
    """The header for a packet that leaves; where its checksum is partial, it is a TCP packet with all of its headers
    in the first buffer, as a codec makes them. `before`: octets of a link's header that go before the packet."""
    if packet.checksum != CHECKSUM_PARTIAL:
        return _COMPLETE
    head = packet.buffers[0]
    if head[0] >> 4 == 4:
        start = (head[0] & 15) * 4
        return _partial(_GSO_TCPV4, before + start, head[start + 12] >> 4, packet.gso_size, head[start + 13] & CWR)
    return _partial(_GSO_TCPV6, before + 40, head[52] >> 4, packet.gso_size, head[53] & CWR)


def train_header(version: int, mss: int) -> bytes:
    """The header for a TCP packet of that version of IP which stands for segments of `mss` octets, as an interface
    hands up what it has joined: its checksum is made."""
    return _HEADER.pack(0, _GSO_TCPV4 if version == 4 else _GSO_TCPV6, 0, mss, 0, 0)


@lru_cache(256)
def _partial(gso_type: int, start: int, words: int, gso_size: int, cwr: int) -> bytes:
    if not gso_size:
        return _HEADER.pack(_NEEDS_CSUM, 0, 0, 0, start, _TCP_CHECKSUM_OFFSET)
    if cwr:
        gso_type |= _GSO_ECN
    return _HEADER.pack(_NEEDS_CSUM, gso_type, start + words * 4, gso_size, start, _TCP_CHECKSUM_OFFSET)
