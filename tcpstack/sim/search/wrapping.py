"""Initial numbers that wrap soon."""

from __future__ import annotations

from ...core.segment import FourTuple
from ...core.seq import MASK
from ...stack.isn import InitialSequenceNumbers


class WrappingNumbers(InitialSequenceNumbers):
    """RFC 6528's, but that the hashes are small negative numbers: of a connection that opens at once the sequence
    numbers wrap within 60,000 octets, the timestamps within 3 seconds."""

    __slots__ = ()

    def _hash(self, flow: FourTuple, purpose: bytes) -> int:
        return (-1 - super()._hash(flow, purpose) % (60_000 if purpose == b"ISN" else 3_000)) & MASK
