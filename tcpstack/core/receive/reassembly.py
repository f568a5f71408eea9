"""Text that arrived above a gap, held for later processing (RFC 9293 3.10.7.4, SHLD-31)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from ..segment import Buffer


class Reassembly:
    """Non-overlapping ranges above RCV.NXT, in order. Each holds a copy: the packet's buffer may be reused.

    `limit` bounds the number of ranges, so that a peer that sends every other octet cannot make us keep an
    object for each; what would be one range too many is not kept and the peer sends it again.

    `blocks` are the same octets with ranges that touch joined: (left edge, right edge) pairs in order, as SACK reports
    them (RFC 2018 3: "contiguous and isolated"). To be read only.
    """

    __slots__ = ("_ends", "_starts", "_texts", "blocks", "bytes", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._texts: list[bytes] = []
        self.blocks: list[tuple[int, int]] = []
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The (left edge, right edge) pairs that are held, in order."""
        return list(zip(self._starts, self._ends, strict=True))

    def first_held(self, left: int, right: int) -> tuple[int, int] | None:
        """The first run of these octets that is held already (RFC 2883 4.2), or None."""
        index = bisect_left(self.blocks, (left + 1,))
        if index and self.blocks[index - 1][1] > left:
            return left, min(self.blocks[index - 1][1], right)
        if index < len(self.blocks) and self.blocks[index][0] < right:
            return self.blocks[index][0], min(self.blocks[index][1], right)
        return None

    def insert(self, seq: int, payload: tuple[Buffer, ...]) -> None:
        """Keep what is new of the text that starts at `seq`; what is held already stays as it is."""
        text = b"".join(payload)
        end = seq + len(text)
        starts, ends = self._starts, self._ends
        position = seq
        while position < end:
            # The first held range that ends behind `position` either covers it or bounds the gap we fill.
            index = bisect_right(ends, position)
            if index < len(starts) and starts[index] <= position:
                position = ends[index]
                continue
            stop = min(end, starts[index]) if index < len(starts) else end
            if len(starts) >= self.limit:
                return
            starts.insert(index, position)
            ends.insert(index, stop)
            self._texts.insert(index, text[position - seq : stop - seq])
            self.bytes += stop - position
            self._join(position, stop)
            position = stop

    def take(self, nxt: int) -> list[bytes]:
        """The texts that now follow on from `nxt`, in order, out of the store; ranges before it are dropped."""
        taken: list[bytes] = []
        count = 0
        for start, end, text in zip(self._starts, self._ends, self._texts, strict=True):
            if start > nxt:
                break
            if end > nxt:
                taken.append(text[nxt - start :])
                nxt = end
            count += 1
            self.bytes -= end - start
        if count:
            del self._starts[:count], self._ends[:count], self._texts[:count]
            del self.blocks[: bisect_left(self.blocks, (nxt,))]
        return taken

    def trim(self, edge: int) -> None:
        """Drop whatever lies at or behind `edge` (a FIN there says that nothing follows)."""
        if not self._starts:
            return
        keep = bisect_left(self._starts, edge)
        for start, end in zip(self._starts[keep:], self._ends[keep:], strict=True):
            self.bytes -= end - start
        del self._starts[keep:], self._ends[keep:], self._texts[keep:]
        del self.blocks[bisect_left(self.blocks, (edge,)) :]
        if keep and self._ends[-1] > edge:  # only the last range kept can reach across
            self.bytes -= self._ends[-1] - edge
            self._texts[-1] = self._texts[-1][: edge - self._starts[-1]]
            self._ends[-1] = edge
        if self.blocks and self.blocks[-1][1] > edge:
            self.blocks[-1] = (self.blocks[-1][0], edge)

    def _join(self, left: int, right: int) -> None:
        """These octets are new: a block of their own, or part of their neighbours."""
        blocks = self.blocks
        first = last = bisect_left(blocks, (left,))
        if first and blocks[first - 1][1] == left:
            first -= 1
            left = blocks[first][0]
        if last < len(blocks) and blocks[last][0] == right:
            right = blocks[last][1]
            last += 1
        blocks[first:last] = [(left, right)]


NOTHING_HELD = Reassembly(0)
"""Shared by all that hold nothing, which is nearly every connection for all its life: it has room for no range."""
