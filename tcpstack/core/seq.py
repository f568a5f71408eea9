"""Sequence numbers: 32 bits on the wire, unbounded inside.

RFC 9293 3.4 asks for arithmetic modulo 2^32 in each comparison. Here a number is unwrapped once, on
arrival, to the unbounded integer nearest to a reference that the connection knows (RCV.NXT for SEG.SEQ,
SND.UNA for SEG.ACK); after that `<` is just `<`, and `& MASK` on the way out is the only wrap.
"""

from __future__ import annotations

MASK = 0xFFFF_FFFF
MODULUS = 1 << 32
HALF = 1 << 31


def unwrap(wire: int, reference: int) -> int | None:
    """The unbounded number that `wire` (0 to 2^32 - 1) stands for, within 2^31 of `reference`.

    None where the distance is exactly 2^31: neither side is nearer, so the number is unacceptable
    rather than a guess. The result can be negative for a number just before a small reference.
    """
    delta = (wire - reference) & MASK
    if delta < HALF:
        return reference + delta
    if delta == HALF:
        return None
    return reference + delta - MODULUS
