"""The last lines of a ladder, for the report of a test that failed."""

from __future__ import annotations

import dataclasses
from collections import deque

from ..core.events import Event, FaultHit
from ..core.segment import FourTuple
from ..device.fault_rules import IN, OUT
from ..observe.ladder import Ladder

LAST_LINES = 40
_MOST_WAITING = 2_000


class Recording:
    """A tracer that keeps the head and the last lines of the ladder of all that it sees.

    Drawing costs as much as the engine itself, so events wait until somebody asks or too many of them do. Of a
    connection whose two ends it sees, it draws what the end saw that opened it, and the faults at the other.

    us, peer  what to call the two ends
    """

    def __init__(self, *, us: str = "client", peer: str = "server", last_lines: int = LAST_LINES) -> None:
        self._ladder = Ladder(self._write, us=us, peer=peer)
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=last_lines)
        self._count = 0  # of lines behind the head
        self._drawn: set[FourTuple] = set()
        self._waiting: list[Event] = []

    def __call__(self, event: Event) -> None:
        self._waiting.append(event)
        if len(self._waiting) >= _MOST_WAITING:
            self._draw_all()

    def render(self) -> str:
        """The ladder so far, of a long one the head and the end; "" where nothing was seen."""
        self._draw_all()
        self._ladder.flush()
        left_out = self._count - len(self._tail)
        gap = [f"    ({left_out} lines left out)"] if left_out else []
        return "\n".join([*self._head, *gap, *self._tail])

    def _draw_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self._draw(event)

    def _draw(self, event: Event) -> None:
        if event.flow not in self._drawn:
            local, lport, remote, rport = event.flow
            opener = (remote, rport, local, lport)
            if opener in self._drawn:
                if isinstance(event, FaultHit):
                    there = OUT if event.direction == IN else IN
                    self._ladder(dataclasses.replace(event, flow=opener, direction=there))
                return
            self._drawn.add(event.flow)
        self._ladder(event)

    def _write(self, text: str) -> None:
        lines = text.splitlines()
        if not self._head:
            self._head = lines
            return
        self._count += len(lines)
        self._tail.extend(lines)
