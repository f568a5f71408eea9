"""Plays a case again for somebody who looks: what goes wrong in one line, and the ladder of how it came to that."""

from __future__ import annotations

import traceback

from ...core.config import SECOND_NS
from ...core.events import Event, Tracer
from ...core.segment import FourTuple
from ...observe.ladder import Ladder
from ...observe.peer import KnownPeers
from ...observe.recording import Recording
from .case import Case
from .known import Violation
from .play import Player

__all__ = ["show"]


class _Drawn:
    """What draws a case that is played.

    where  the connection of the event that what watches did not stand; None where it stood all
    """

    def __init__(self) -> None:
        self.names: dict[bytes, str] = {}
        self.where: FourTuple | None = None
        peers = KnownPeers()
        self.recording = Recording(Ladder(names=self.names, known=peers), peers)

    def before(self, watching: Tracer) -> Tracer:
        """A tracer that has each event drawn, and then passes it on: what raises is in the picture."""

        def trace(event: Event) -> None:
            self.recording(event)
            try:
                watching(event)
            except Exception:
                self.where = event.flow
                raise

        return trace

    def ladder(self) -> str:
        """The conversation where it went wrong, or all."""
        where = self.where

        def about(flow: FourTuple, ends: tuple[str, str]) -> bool:
            return where is None or flow == where or flow == (*where[2:], *where[:2])

        return self.recording.render(about=about) or "(no connection)"


def show(case: Case) -> int:
    """Play the case. Where it holds, its Result is printed, and nothing else; else what is violated and when, in one
    line, and the ladder of the conversation in which it is, or of all where it is in none. Returns the exit status:
    0, or 1 where it does not hold."""
    drawn = _Drawn()
    player = Player(case, drawn.before)
    for host in player.hosts:
        host.interface.tracers = (drawn.recording,)  # one for both ends: what a link loses is told once
    drawn.names.update(player.network.records.names)
    try:
        print(player.play())
        return 0
    except Exception as error:
        now_ns = player.network.clock.now_ns
        failure = f"{type(error).__name__}: {error}".splitlines()[0]
        drawn.recording.mark("here it fails", now_ns)
        print(f"at {now_ns / SECOND_NS:.6f} s: {failure}", drawn.ladder(), sep="\n\n")
        if not isinstance(error, Violation):
            print("", traceback.format_exc(), sep="\n", end="")
        return 1

