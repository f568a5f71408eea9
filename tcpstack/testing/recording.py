"""The last lines of a ladder, for the report of a test that failed."""

from __future__ import annotations

import dataclasses
from collections import deque

from ..core.events import Event, FaultHit
from ..core.segment import FourTuple
from ..device.fault_rules import IN, OUT
from ..observe.ladder import Ladder

LAST_LINES = 40


class Recording:
    """A tracer that draws all that it sees, and keeps the head of the ladder and its last lines.

    Where it sees both ends of a connection, it draws what the end saw that opened it, and the faults at the other.

    us, peer  what to call the two ends
    """

    def __init__(self, *, us: str = "client", peer: str = "server", last_lines: int = LAST_LINES) -> None:
        self._ladder = Ladder(self._write, us=us, peer=peer)
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=last_lines)
        self._count = 0  # of lines behind the head
        self._drawn: set[FourTuple] = set()

    def __call__(self, event: Event) -> None:
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

    def render(self) -> str:
        """The ladder so far, of a long one the head and the end; "" where nothing was seen."""
        self._ladder.flush()
        left_out = self._count - len(self._tail)
        gap = [f"    ({left_out} lines left out)"] if left_out else []
        return "\n".join([*self._head, *gap, *self._tail])

    def _write(self, text: str) -> None:
        lines = text.splitlines()
        if not self._head:
            self._head = lines
            return
        self._count += len(lines)
        self._tail.extend(lines)
