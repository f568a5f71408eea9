"""Which blocks to report: SACK (RFC 2018 4) and D-SACK (RFC 2883 4).

The first block is the one that changed last, so that the union of all first blocks is our queue; the others repeat
what was first before, so that each block is told of at least three times and acknowledgements may get lost. In front
of all goes what has arrived twice, once.

Only the last few changes are remembered, as octets that were in them: what block they are part of by now is looked up
when an acknowledgement leaves. So nothing here has to be kept in step with the queue.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

MOST_BLOCKS = 4
"""What fits into 40 octets of options."""
MOST_BLOCKS_WITH_TIMESTAMPS = 3


class SackBlocks:
    """What is to be reported of a queue. A connection needs one once text arrives above a gap, or a second time."""

    __slots__ = ("_duplicate", "_recent")

    def __init__(self) -> None:
        self._recent: tuple[tuple[int, int], ...] = ()  # the latest first
        self._duplicate: tuple[int, int] | None = None

    def on_text_above_gap(self, left: int, right: int) -> None:
        """A segment brought these octets, and RCV.NXT did not advance. What of them was new is in the queue by now."""
        self._recent = ((left, right), *self._recent[: MOST_BLOCKS - 1])

    def on_duplicate(self, left: int, right: int) -> None:
        """A segment brought these octets a second time: the first run of such octets in it. All of them are below
        RCV.NXT, or all within one block of the queue."""
        self._duplicate = (left, right)

    def blocks(self, nxt: int, ranges: Sequence[tuple[int, int]], room: int) -> tuple[tuple[int, int], ...]:
        """The (left edge, right edge) pairs for an acknowledgement of `nxt` that leaves now, at most `room` of them.

        `ranges` are the blocks of the queue in order, of which none touches the next (Reassembly.blocks). A duplicate
        is reported in one acknowledgement only, so whatever this returns has to be sent.
        """
        if room <= 0:
            return ()
        dsack, found = self._take_dsack(nxt, ranges, room)
        for left, right in self._recent:
            held = _holding(ranges, left, right)
            if held is not None and held not in found:
                found.append(held)
        self._recent = tuple(found[:MOST_BLOCKS])
        room -= len(dsack)
        if len(found) < room and len(found) < len(ranges):
            # "As many distinct SACK blocks as possible."
            found += [each for each in ranges[-room:] if each not in found]
        return (*dsack, *found[:room])

    def _take_dsack(
        self, nxt: int, ranges: Sequence[tuple[int, int]], room: int
    ) -> tuple[tuple[tuple[int, int], ...], list[tuple[int, int]]]:
        """The D-SACK block, if there is one to report, and the block that has to follow it."""
        if self._duplicate is None:
            return (), []
        left, right = self._duplicate
        self._duplicate = None
        if left < nxt:
            return ((left, min(right, nxt)),), []
        held = _holding(ranges, left, right)
        if held is None:
            return (), []
        # Only the block behind it tells the peer that this one is a duplicate (RFC 2883 4, rule 4).
        whole = held[0] <= left and right <= held[1]
        return (((left, right),) if whole and room > 1 else ()), [held]


def _holding(ranges: Sequence[tuple[int, int]], left: int, right: int) -> tuple[int, int] | None:
    """The first of the ranges that has any of these octets."""
    index = bisect_left(ranges, (left + 1,))  # the first that begins behind `left`
    if index and ranges[index - 1][1] > left:
        return ranges[index - 1]
    return ranges[index] if index < len(ranges) and ranges[index][0] < right else None
