"""The ladder of a whole network: what every host of it saw, as one picture of each connection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from ..core.events import Event, FaultHit, RetransmissionTimeout, SegmentOut, Tracer
from ..core.segment import FourTuple
from .ladder import Ladder, is_looped
from .peer import KnownPeers

_MOST_WAITING = 2_000
_KEPT_WAITING = 1_000


class _Mark(NamedTuple):
    text: str
    time_ns: int
    spare_closing: bool


class Recording:
    """A tracer for both ends of connections: it draws what the end saw that opened it, and the faults at the other.

    ladder  the ladder to draw on, one without `write`
    peers   what `ladder` knows the other ends by, where their events come here, too; else None

    Drawing costs as much as the engine itself, so events wait until somebody asks or too many of them do. What waits
    is also looked through for what became of a segment later: at the other end, or under way.
    """

    __slots__ = ("_drawn", "_ended", "_hits", "_ladder", "_peers", "_waiting")

    def __init__(self, ladder: Ladder, peers: KnownPeers | None = None) -> None:
        self._ladder = ladder
        self._peers = peers
        self._drawn: set[FourTuple] = set()
        self._waiting: list[Event | _Mark] = []
        self._hits: dict[int, list[FaultHit]] = {}  # on segments of a connection's opener whose leaving waits, by id
        self._ended = False

    def of(self, host: str) -> Tracer:
        """The same for what one host sees: of a connection with itself the addresses need not tell whose it is."""
        return lambda event: self(event, host)

    def __call__(self, event: Event, host: str | None = None) -> None:
        if self._ended:
            return
        if self._peers is not None:
            self._peers.expect(event)
        self._ladder.expect(event, host)
        drawn = self._to_draw(event)
        if isinstance(drawn, FaultHit) and drawn.direction == "out" and drawn.packet_id in self._hits:
            self._hits[drawn.packet_id].append(drawn)
            return
        if isinstance(drawn, SegmentOut):
            self._hits[drawn.segment.packet_id] = []
        self._waiting.append(drawn if drawn is not None else event)
        if len(self._waiting) >= _MOST_WAITING:
            self._draw(_MOST_WAITING - _KEPT_WAITING)

    def mark(self, text: str, time_ns: int, *, spare_closing: bool = False) -> None:
        """As Ladder.mark, in its turn."""
        if not self._ended:
            self._waiting.append(_Mark(text, time_ns, spare_closing))

    def end(self) -> None:
        """Take in nothing from now on."""
        self._ended = True

    def render(
        self, *, about: Callable[[FourTuple, tuple[str, str]], bool] | None = None, last_lines: int | None = None
    ) -> str:
        """The ladder so far, as Ladder.render has it, but without the last line's end."""
        self._draw(len(self._waiting))
        return self._ladder.render(about=about, last_lines=last_lines).rstrip("\n")

    def _to_draw(self, event: Event) -> Event | None:
        """The event as the end that opened the connection has it; None where that knows by itself."""
        flow = event.flow
        if flow not in self._drawn:
            local, lport, remote, rport = flow
            opener = (remote, rport, local, lport)
            if opener in self._drawn:
                if not isinstance(event, FaultHit):
                    return None
                there = "out" if event.direction == "in" else "in"
                return dataclasses.replace(event, flow=opener, direction=there)
            self._drawn.add(flow)
        return event

    def _draw(self, count: int) -> None:
        """Draw the first of what waits."""
        due, self._waiting = self._waiting[:count], self._waiting[count:]
        for event in due:
            if isinstance(event, _Mark):
                self._ladder.mark(event.text, event.time_ns, spare_closing=event.spare_closing)
                continue
            if self._peers is not None:
                self._peers(event)
            if event.flow in self._drawn or is_looped(event.flow):  # of which the ladder itself wants both ends
                self._ladder(event)
                if isinstance(event, SegmentOut):
                    for hit in self._hits.pop(event.segment.packet_id, ()):
                        self._ladder(hit)
                    self._ladder.let_go()  # while the other end is in the state that it was in
            elif isinstance(event, RetransmissionTimeout):
                self._ladder.there(event)
