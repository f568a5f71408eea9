"""The Internet checksum (RFC 1071), by one big remainder instead of a loop over words.

The ones'-complement sum of 16-bit words is their sum modulo 65,535, because an end-around carry takes off
2^16 and adds 1. And since 2^16 = 1 (mod 65,535), a number of any length is congruent to the sum of its
16-bit digits. So the octets read as one big-endian integer, modulo 65,535, are the sum of their words; a
32-bit field, too, may be added as it is. This runs in C over the whole buffer: five times as fast as a loop.

Zero has two names in ones' complement, 0x0000 and 0xFFFF. Adding with end-around carry gives 0x0000 only
where every word is zero; anything else that is congruent to zero comes out as 0xFFFF. A remainder cannot
tell them apart, so the functions here look whether the number was zero to begin with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ..core.segment import Buffer

PROTOCOL_TCP = 6

VALID = 0xFFFF
"""What `ones_complement_sum` gives over data that contains its own correct checksum."""

# Multiples of 16, so that 2^n = 1 (mod 65,535) for each of them.
_LOW_5920 = (1 << 5920) - 1
_LOW_2960 = (1 << 2960) - 1
_LOW_1488 = (1 << 1488) - 1

_PSEUDO_V4 = struct.Struct("!4s4sxBH")
_PSEUDO_V6 = struct.Struct("!16s16sIxxxB")


def ones_complement_sum(buffers: Iterable[Buffer]) -> int:
    """The ones'-complement sum, 0 to 0xFFFF, of the buffers' octets as if joined, zero-padded to whole words.

    Chunks may have any length: one that ends at an odd offset stands half a word higher than its own number
    says, so it counts 256 times. (2^16 = 1, so no other distance from the end matters.)
    """
    total = 0
    end = 0
    for buffer in buffers:
        end += len(buffer)
        number = int.from_bytes(buffer, "big")
        if number:
            if len(buffer) > 400:
                # Halves are added before the remainder is taken: 1.5 us instead of 2.3 for 1,480 octets.
                number = (number >> 5920) + (number & _LOW_5920)
                number = (number >> 2960) + (number & _LOW_2960)
                number = (number >> 1488) + (number & _LOW_1488)
            word = number % 0xFFFF or 0xFFFF
            total += word << 8 if end & 1 else word
    return total % 0xFFFF or 0xFFFF if total else 0


def congruent_sum(buffer: Buffer) -> int:
    """A number that is congruent to the `ones_complement_sum` of one buffer, to be added to others.

    Spares short buffers the loop and the remainder: 0.1 us instead of 0.3 for 64 octets.
    """
    size = len(buffer)
    if size > 400:
        return ones_complement_sum((buffer,))
    number = int.from_bytes(buffer, "big")
    return number << 8 if size & 1 else number


def checksum(buffers: Iterable[Buffer]) -> int:
    """The checksum field, 0 to 0xFFFF, for these octets, in which the field itself counts as zero."""
    return 0xFFFF ^ ones_complement_sum(buffers)


def complement(total: int) -> int:
    """The checksum field for words, or numbers congruent to them, that add up to `total` (above zero)."""
    # The sum is total % 0xFFFF, or 0xFFFF where that is 0; its complement is in both cases this.
    return -total % 0xFFFF


def pseudo_header(src: bytes, dst: bytes, length: int, protocol: int = PROTOCOL_TCP) -> bytes:
    """The pseudo-header that the TCP (or ICMPv6) checksum covers in front of the segment.

    src and dst are packed, 4 octets (RFC 9293 3.1) or 16 (RFC 8200 8.1); `length` counts the segment's
    octets, header and text.
    """
    if len(src) == 4:
        return _PSEUDO_V4.pack(src, dst, protocol, length)
    return _PSEUDO_V6.pack(src, dst, length, protocol)
