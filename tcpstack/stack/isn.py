"""Initial sequence numbers by RFC 6528: ISN = M + F(local socket, remote socket, secret key) (RFC 9293 3.4.1).

M is a clock that ticks every 4 microseconds, so that numbers of successive incarnations of a connection do not
overlap (MUST-8). F, a keyed hash, gives each pair of sockets a number space of its own (SHLD-1): who opens
connections to us cannot tell from the ISNs he gets which one somebody else will be given.
"""

from __future__ import annotations

import hashlib

from ..core.segment import FourTuple
from ..core.seq import HALF, MASK
from .flow_key import pack_flow

TICK_NS = 4_000


class InitialSequenceNumbers:
    """`secret` is 16 to 32 octets that nobody outside can know; it lives as long as the stack."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def choose(self, flow: FourTuple, now_ns: int) -> int:
        """The ISN for a connection opened now, 0 to 2^32 - 1."""
        return (now_ns // TICK_NS + self._hash(flow, b"ISN")) & MASK

    def timestamp_offset(self, flow: FourTuple) -> int:
        """Of the connection's timestamp clock (RFC 7323 5.4): the same for each incarnation, so that the values of the
        next one are larger, and for another connection one that can't be told from this."""
        return self._hash(flow, b"TS")

    def choose_beyond(self, flow: FourTuple, floor: int, now_ns: int) -> int:
        """The same, but larger than `floor`, the last number the previous incarnation used (MAY-2, condition 1)."""
        iss = self.choose(flow, now_ns)
        if 0 < (iss - floor) & MASK < HALF:
            return iss
        return (floor + 1) & MASK

    def _hash(self, flow: FourTuple, purpose: bytes) -> int:
        digest = hashlib.blake2s(pack_flow(flow), key=self._secret, person=purpose, digest_size=4).digest()
        return int.from_bytes(digest, "big")
