"""What became of the segments that a superpacket stands for: fault rules and links act on each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ..core.events import FaultHit
from ..core.segment import Segment
from ..core.seq import MASK
from ..wire.segmentation import divided


def by_fate(segment: Segment, hits: Sequence[FaultHit]) -> list[tuple[Segment, list[FaultHit]]]:
    """The stretches of a segment that left, in order: neighbours of the same fate are one, with the hits that each of
    them had. A segment that is no superpacket, or that nothing has hit, is one stretch."""
    if not segment.gso_size or not hits:
        return [(segment, list(hits))]
    pieces = divided(segment)
    fates: list[list[FaultHit]] = [[] for _ in pieces]
    for hit in hits:
        index = (hit.segment.seq - segment.seq & MASK) // segment.gso_size
        fates[min(index, len(pieces) - 1)].append(hit)
    told = zip(pieces, fates, strict=True)
    stretches = []
    for _, same in groupby(told, key=lambda each: [(hit.rule, hit.action) for hit in each[1]]):
        run = list(same)
        stretches.append((_joined([piece for piece, _ in run], segment.gso_size), run[0][1]))
    return stretches


def pieces_of(segment: Segment) -> int:
    """How many segments of the wire it stands for."""
    return -(-segment.payload_len // segment.gso_size) if segment.gso_size else 1


def _joined(pieces: Sequence[Segment], step: int) -> Segment:
    """Segments that follow each other as one."""
    first, last = pieces[0], pieces[-1]
    if first is last:
        return first
    payload = tuple(chunk for piece in pieces for chunk in piece.payload)
    size = sum(piece.payload_len for piece in pieces)
    return Segment(
        first.src, first.sport, first.dst, first.dport, first.seq, first.ack, last.flags, first.wnd, payload, size,
        first.options, first.up, first.reason, first.packet_id, step,
    )  # fmt: skip
