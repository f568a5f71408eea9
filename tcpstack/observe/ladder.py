"""The conversation as a ladder: a tracer that draws each segment between the states of both ends.

`Conversation` turns one connection's events into rows, `Layout` turns rows into lines, and `Ladder` keeps the
conversations apart. None of them knows a rule of TCP: the peer's states come from core's table (`PeerInference`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ..core.events import Event, FaultHit, SegmentOut, StateChange
from ..core.segment import FourTuple
from .conversation import Conversation
from .layout import Layout, joined
from .peer import KnownPeer, KnownPeers, PeerInference
from .printable import endpoint
from .rows import Arrow, Row

DEFAULT_WIDTH = 116
_MAX_LIVE = 1024
"""Conversations followed at once; beyond it the one that was silent longest is forgotten."""
_MAX_KEPT = 1000
"""Conversations kept for `render`."""
_HALF_KEPT_LINES = 1000
"""Lines kept at either end of one conversation for `render`."""
_GUTTER = 4


class _Transcript:
    """One conversation's lines, kept whole up to 2,000 lines; of a longer one the beginning and the end."""

    __slots__ = ("_head", "_missing", "_tail")

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_HALF_KEPT_LINES)
        self._missing = 0

    def add(self, line: str) -> None:
        if len(self._head) < _HALF_KEPT_LINES:
            self._head.append(line)
            return
        self._missing += len(self._tail) == _HALF_KEPT_LINES
        self._tail.append(line)

    def lines(self) -> list[str]:
        missing = [f"          ({self._missing} lines left out)"] if self._missing else []
        return [*self._head, *missing, *self._tail]


class Ladder:
    """A tracer that draws ladders: as things happen where it has `write`, else on `render`.

    write    called with whole lines, line end included; without it the lines are kept for `render`
    us, peer what to call the two ends
    width    columns to use; color: with ANSI colour; ascii: with no character beyond ASCII
    verbose  shows each change of the congestion window too
    only     a connection's four-tuple, to show nothing else
    known    the other end's states, where it is a stack of the same process; without it they are inferred
    defer    runs a callable at the end of this turn of the loop (`loop.call_soon`). A segment that we send is
             drawn when the next event tells whether a fault rule killed it, a change of state when that tells
             whether a segment caused it; with `defer`, in this turn at the latest. `flush` does the same by hand.

    Where it draws as things happen, each line starts with the number of its conversation, once there are several.
    """

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        *,
        us: str = "tcpstack",
        peer: str = "peer",
        width: int = DEFAULT_WIDTH,
        color: bool = False,
        ascii: bool = False,
        verbose: bool = False,
        only: FourTuple | None = None,
        known: KnownPeers | None = None,
        defer: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._write = write
        self._names = (us, peer)
        self._verbose = verbose
        self._only = only
        self._known = known
        self._defer = defer
        self._gutter = _GUTTER if write is not None and only is None else 0
        self._layout = Layout(width, color=color, ascii=ascii, gutter=self._gutter)
        self._live: dict[FourTuple, tuple[int, Conversation]] = {}  # the longest silent first
        self._holding: FourTuple | None = None  # whose last event waits for its next
        self._unsettled: dict[FourTuple, None] = {}  # who has something to be settled at the end of the turn
        self._transcripts: dict[int, _Transcript] = {}
        self._count = 0

    def __call__(self, event: Event) -> None:
        flow = event.flow
        if self._only is not None and flow != self._only:
            return
        if self._holding is not None and self._holding != flow:
            number, conversation = self._live[self._holding]
            self._draw(number, conversation.let_go())
        number, conversation = self._conversation(event)
        self._draw(number, conversation.on_event(event))
        self._holding = flow if conversation.holds else None
        if self._defer is not None and isinstance(event, (SegmentOut, FaultHit, StateChange)):
            if not self._unsettled:
                self._defer(self._end_turn)
            self._unsettled[flow] = None

    def flush(self) -> None:
        """Draw what still waits for the next event."""
        self._settle(tuple(self._live))

    def render(self) -> str:
        """All conversations so far, each whole, in the order in which they began; "" where there was none.

        Only of a ladder without `write`. Of a very long conversation the beginning and the end are kept.
        """
        self.flush()
        lines: list[str] = []
        for transcript in self._transcripts.values():
            lines += [*([""] if lines else []), *transcript.lines()]
        if self._count > len(self._transcripts) > 0:
            lines += ["", f"({self._count - len(self._transcripts)} more conversations, not kept)"]
        return joined(lines)

    def _end_turn(self) -> None:
        flows, self._unsettled = tuple(self._unsettled), {}
        self._settle(flows)

    def _settle(self, flows: Sequence[FourTuple]) -> None:
        self._holding = None
        for flow in flows:
            if flow in self._live:
                number, conversation = self._live[flow]
                self._draw(number, conversation.settle())

    def _conversation(self, event: Event) -> tuple[int, Conversation]:
        flow = event.flow
        entry = self._live.pop(flow, None)
        if entry is not None and entry[1].is_followed_by(event):
            self._draw(entry[0], entry[1].end())
            entry = None
        if entry is None:
            entry = self._begin(event)
        self._live[flow] = entry
        if len(self._live) > _MAX_LIVE:
            number, oldest = self._live.pop(next(iter(self._live)))
            self._draw(number, oldest.settle())
        return entry

    def _begin(self, event: Event) -> tuple[int, Conversation]:
        flow = event.flow
        self._count += 1
        number = self._count
        peer = PeerInference() if self._known is None else KnownPeer(self._known, flow)
        conversation = Conversation(flow, event.time_ns, self._names, peer, verbose=self._verbose)
        if self._write is None and number <= _MAX_KEPT:
            self._transcripts[number] = _Transcript()
        local, lport, remote, rport = flow
        us, them = self._names
        alone = number == 1 and (self._only is not None or self._write is not None)
        lines = [] if alone else [self._layout.title(number)]
        if number == 1:
            lines += self._layout.legend(us, them, inferred=peer.inferred)
        ends = (f"{us} {endpoint(local, lport)}", f"{them} {endpoint(remote, rport)}")
        lines.append(self._layout.heads(*ends))
        self._emit(number, lines)
        return number, conversation

    def _draw(self, number: int, rows: list[Row]) -> None:
        layout = self._layout
        for row in rows:
            self._emit(number, layout.arrow(row) if isinstance(row, Arrow) else layout.note(row))

    def _emit(self, number: int, lines: list[str]) -> None:
        if self._write is not None:
            # Nothing has to be told apart before a second conversation begins.
            shown = f"{number:>{_GUTTER - 1}} " if self._count > 1 else " " * _GUTTER
            gutter = shown if self._gutter else ""
            self._write(joined([gutter + line for line in lines]))
        elif number in self._transcripts:
            for line in lines:
                self._transcripts[number].add(line)
