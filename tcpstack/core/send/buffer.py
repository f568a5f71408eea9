"""What the user has queued and the peer has not yet acknowledged, addressed by sequence number.

`bytes` are kept by reference and leave unjoined as views; anything mutable is copied when queued. Small writes
that wait are joined when they are first looked at, so that a thousand of them leave as few chunks.

A shared view is kept as it is, and its octets are never looked at: they may be those of a mapped file, and to touch
them after somebody has cut the file would be the end of the process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter

from ..segment import Buffer

SMALL_BYTES = 4096
MOST_VIEWS = 64
"""As many chunks as this may make up one segment; of more, those that follow each other are joined, the shared ones
excepted. Devices take 1,024, less their own header."""


class SendBuffer:
    """Octets from sequence number `start` (SND.UNA's text) up to `end`, both unbounded integers."""

    __slots__ = ("_chunks", "_small", "end")

    def __init__(self, start: int) -> None:
        self._chunks: list[tuple[int, memoryview]] = []  # each with the sequence number of its first octet
        self._small: list[bytes] | None = None  # the tail, where it is not yet joined into a chunk
        self.end = start

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Queue octets behind what is there. Raises TypeError where `data` is not bytes-like."""
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # bytes(5) would be five zeros, where a TypeError is due
        size = len(data)
        if size == 0:
            return
        if size < SMALL_BYTES:
            if self._small is None:
                self._small = [data]
            else:
                self._small.append(data)
        else:
            self._seal()
            self._chunks.append((self.end, memoryview(data)))
        self.end += size

    def append_shared(self, view: memoryview) -> None:
        """Queue a view of single octets as it is, whoever else may hold what it shows. It must not change until it is
        acknowledged; it is not copied and not joined, however small."""
        if len(view):
            self._seal()
            self._chunks.append((self.end, view))
            self.end += len(view)

    def view(self, seq: int, size: int) -> tuple[Buffer, ...]:
        """The `size` octets from `seq` on, as views in order. They must be in the buffer."""
        self._seal()
        chunks = self._chunks
        index = bisect_right(chunks, seq, key=_start) - 1
        start, chunk = chunks[index]
        offset = seq - start
        if offset + size <= len(chunk):
            return (chunk[offset : offset + size],)
        views = [chunk[offset:]]
        size -= len(chunk) - offset
        while size > 0:
            index += 1
            chunk = chunks[index][1][:size]
            views.append(chunk)
            size -= len(chunk)
        return tuple(views if len(views) <= MOST_VIEWS else _joined(views))

    def release(self, una: int) -> None:
        """Everything before `una` is acknowledged: let go of the chunks that lie wholly there."""
        chunks = self._chunks
        if len(chunks) > 1 and chunks[1][0] <= una:
            del chunks[: bisect_right(chunks, una, key=_start) - 1]
        if una >= self.end:
            self.clear()

    def clear(self) -> None:
        """Forget all octets; `end` stays."""
        self._chunks.clear()
        self._small = None

    def _seal(self) -> None:
        small = self._small
        if small is not None:
            joined = small[0] if len(small) == 1 else b"".join(small)
            self._chunks.append((self.end - len(joined), memoryview(joined)))
            self._small = None


_start: Callable[[tuple[int, memoryview]], int] = itemgetter(0)


def _joined(views: list[memoryview]) -> list[Buffer]:
    """The same octets, with our own chunks joined where they follow each other."""
    joined: list[Buffer] = []
    for own, run in groupby(views, lambda view: type(view.obj) is bytes):
        if own:
            joined.append(b"".join(run))
        else:
            joined += run
    return joined
