"""One lazy heap for the timers of all connections.

A timer that is pushed out costs nothing: its old entry stays, comes up early, and is put back where it belongs.
Only a deadline that moves closer is pushed anew. So acknowledgements, which re-arm the retransmission timer each
time, do not touch the heap.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

from ..core.timers import NEVER


class HasDeadline(Protocol):
    @property
    def deadline_ns(self) -> int: ...


_SLACK = 64

T = TypeVar("T", bound=HasDeadline)


class Deadlines(Generic[T]):
    """Things with a `deadline_ns` (NEVER, timers.py, where they wait for nothing)."""

    __slots__ = ("_armed", "_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._armed: dict[T, int] = {}  # the earliest entry of each that is in the heap
        self._count = 0  # ties are broken by order of arming, so that runs repeat

    @property
    def next_ns(self) -> int | None:
        """When `due` is to be asked next, at the latest; None where nothing waits. Can be early."""
        return self._heap[0][0] if self._heap else None

    def arm(self, thing: T) -> None:
        """The thing's deadline may have changed."""
        deadline = thing.deadline_ns
        if deadline < self._armed.get(thing, NEVER):
            self._armed[thing] = deadline
            self._count += 1
            heapq.heappush(self._heap, (deadline, self._count, thing))

    def discard(self, thing: T) -> None:
        """The thing is gone; what is in the heap of it comes up and is dropped."""
        self._armed.pop(thing, None)
        if len(self._heap) > 2 * len(self._armed) + _SLACK:
            self._sweep()

    def due(self, now_ns: int) -> list[T]:
        """The things whose deadline has come, in order of their deadlines. Each must be armed again afterwards."""
        heap, found = self._heap, []
        while heap and heap[0][0] <= now_ns:
            deadline, _, thing = heapq.heappop(heap)
            if self._armed.get(thing) != deadline:
                continue  # gone, or a closer entry came up before
            del self._armed[thing]
            if thing.deadline_ns <= now_ns:
                found.append(thing)
            else:
                self.arm(thing)
        found.sort(key=lambda thing: thing.deadline_ns)  # an old entry comes up before the deadline it stands for
        return found

    def _sweep(self) -> None:
        """Drop the entries that would be dropped when they come up: they keep things alive that are gone."""
        live = {entry[2]: entry for entry in self._heap if self._armed.get(entry[2]) == entry[0]}
        self._heap = list(live.values())
        heapq.heapify(self._heap)
