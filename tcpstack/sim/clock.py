"""Virtual time: what happens next, in order. Nothing waits; the clock jumps to the next thing that is due."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

EPOCH_NS = 1_767_225_600_000_000_000
"""The date of the beginning, for whoever asks: 1 January 2026, at midnight UTC."""
START_NS = 1_000_000_000
"""Virtual time begins at one second, so that "never yet" (0) and "at the beginning" differ."""


class Happening:
    """Something that is due at `when_ns`; `cancel` undoes it."""

    __slots__ = ("_callback", "when_ns")

    def __init__(self, when_ns: int, callback: Callable[[], None]) -> None:
        self.when_ns = when_ns
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It will not happen. Idempotent, also afterwards."""
        self._callback = None

    @property
    def pending(self) -> bool:
        """Whether it is still to happen."""
        return self._callback is not None


class Clock:
    """`now_ns` is monotonic virtual time. What is due at the same instant happens in the order it was asked for.

    happened  how many things have happened so far: what a run cost, whatever the machine
    """

    __slots__ = ("_count", "_heap", "happened", "now_ns")

    def __init__(self, start_ns: int = START_NS) -> None:
        self.now_ns = start_ns
        self.happened = 0
        self._heap: list[tuple[int, int, Happening]] = []
        self._count = 0

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Happening:
        """Have `callback()` called when it is `when_ns`; at the present instant, after what is due already, where
        that is past."""
        if when_ns < self.now_ns:
            when_ns = self.now_ns
        happening = Happening(when_ns, callback)
        self._count = count = self._count + 1
        heappush(self._heap, (when_ns, count, happening))
        return happening

    def call_after(self, delay_ns: int, callback: Callable[[], None]) -> Happening:
        """Have `callback()` called `delay_ns` from now."""
        return self.call_at(self.now_ns + delay_ns, callback)

    @property
    def next_ns(self) -> int | None:
        """When the next thing is due; None where nothing will ever happen again."""
        heap = self._heap
        while heap and not heap[0][2].pending:
            heappop(heap)
        return heap[0][0] if heap else None

    def step(self, until_ns: int | None = None) -> bool:
        """Let the next thing happen, and time come to it. False where there is none, or none by `until_ns`."""
        heap = self._heap
        while heap:
            when_ns, _, happening = heap[0]
            callback = happening._callback
            if callback is not None:
                if until_ns is not None and when_ns > until_ns:
                    return False
                heappop(heap)
                happening._callback = None
                self.now_ns = when_ns
                self.happened += 1
                callback()
                return True
            heappop(heap)
        return False

    def run(self, until_ns: int | None = None) -> None:
        """Let everything happen that is due up to and including `until_ns`, which it then is; all there is, where
        that is None."""
        while self.step(until_ns):
            pass
        if until_ns is not None and until_ns > self.now_ns:
            self.now_ns = until_ns
