"""The conversation as a ladder: a tracer that draws each segment between the states of both ends.

`Conversation` turns one connection's events into rows, `Layout` turns rows into lines, and `Ladder` keeps the
conversations apart. None of them knows a rule of TCP: the peer's states come from core's table (`PeerInference`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

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
    """One conversation's lines, each with its place among those of all; kept whole up to 2,000 lines, of a longer one
    the beginning and the end.

    flow            whose it is
    opening, names  the lines that precede them: its title, and what stands above the columns
    """

    __slots__ = ("_count", "_head", "_tail", "flow", "names", "opening")

    def __init__(self, flow: FourTuple, opening: str, names: str) -> None:
        self.flow = flow
        self.opening = opening
        self.names = names
        self._head: list[tuple[int, str]] = []
        self._tail: deque[tuple[int, str]] = deque(maxlen=_HALF_KEPT_LINES)
        self._count = 0

    def add(self, place: int, line: str) -> None:
        (self._head if len(self._head) < _HALF_KEPT_LINES else self._tail).append((place, line))
        self._count += 1

    def lines(self, begin: int) -> list[str]:
        """Those from the place `begin` on, and where how many are left out; none where there are none from there."""
        head = [line for place, line in self._head if place >= begin]
        tail = [line for place, line in self._tail if place >= begin]
        missing = self._count - len(head) - len(tail)
        gap = [f"          ({missing} lines left out)"] if missing and (head or tail) else []
        return [*gap, *head, *tail] if begin else [*head, *gap, *tail]


class Ladder:
    """A tracer that draws ladders: as things happen where it has `write`, else on `render`.

    write    called with whole lines, line end included; without it the lines are kept for `render`
    us, peer what to call the two ends
    names    what to call those hosts whose addresses are among them, instead
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
        names: Mapping[bytes, str] | None = None,
        defer: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._write = write
        self._names = (us, peer)
        self._hosts = names
        self._verbose = verbose
        self._only = only
        self._known = known
        self._here = KnownPeers()  # of connections that a host has with itself
        self._defer = defer
        self._gutter = _GUTTER if write is not None and only is None else 0
        self._layout = Layout(width, color=color, ascii=ascii, gutter=self._gutter)
        self._live: dict[FourTuple, tuple[int, Conversation]] = {}  # the longest silent first
        self._holding: FourTuple | None = None  # whose last event waits for its next
        self._unsettled: dict[FourTuple, None] = {}  # who has something to be settled at the end of the turn
        self._transcripts: dict[int, _Transcript] = {}
        self._count = 0
        self._lines = 0  # of all transcripts

    def __call__(self, event: Event) -> None:
        flow = event.flow
        looped = is_looped(flow)
        if looped:
            self._here(event)
        if self._only is not None and flow != self._only:
            return
        if looped and flow not in self._live and _other_end(flow) in self._live:
            return  # it is drawn already, seen from the end that opened
        if self._holding != flow:
            self.let_go()
        number, conversation = self._conversation(event)
        self._draw(number, conversation.on_event(event))
        self._holding = flow if conversation.holds else None
        if self._defer is not None and isinstance(event, (SegmentOut, FaultHit, StateChange)):
            if not self._unsettled:
                self._defer(self._end_turn)
            self._unsettled[flow] = None

    def expect(self, event: Event) -> None:
        """As KnownPeers.expect, of a connection that a host has with itself."""
        if is_looped(event.flow):
            self._here.expect(event)

    def let_go(self) -> None:
        """Draw the segment that waits for the next event to tell what a fault rule did to it: that is known."""
        if self._holding is not None:
            number, conversation = self._live[self._holding]
            self._draw(number, conversation.let_go())
            self._holding = None

    def flush(self) -> None:
        """Draw what still waits for the next event."""
        self._settle(tuple(self._live))

    def mark(self, text: str, time_ns: int, *, spare_closing: bool = False) -> None:
        """A line that says so, in each conversation that is not over; with `spare_closing` not where both ends have
        closed already."""
        self.flush()
        for number, conversation in self._live.values():
            if not (conversation.over or (spare_closing and conversation.closing)):
                self._draw(number, [conversation.mark(text, time_ns)])

    def render(self, *, about: Callable[[FourTuple], bool] | None = None, last_lines: int | None = None) -> str:
        """All conversations so far, each whole, in the order in which they began; "" where there was none.

        about       tells of a four-tuple whether it is to be shown
        last_lines  show no more than what was drawn last, and each conversation of which that is a part

        Only of a ladder without `write`. Of a very long conversation the beginning and the end are kept.
        """
        self.flush()
        begin = 0 if last_lines is None else max(0, self._lines - last_lines)
        lines: list[str] = []
        for transcript in self._transcripts.values():
            shown = transcript.lines(begin) if about is None or about(transcript.flow) else []
            if shown:
                legend = [] if lines else self._legend()
                lines += [*([""] if lines else []), transcript.opening, *legend, transcript.names, *shown]
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
        local, lport, remote, rport = flow
        us, them = self._names_of(local, remote)
        known = self._known
        if is_looped(flow):
            them, known = us, self._here
        names = us, them
        peer = PeerInference() if known is None else KnownPeer(known, flow)
        conversation = Conversation(flow, event.time_ns, names, peer, verbose=self._verbose)
        title = self._layout.title(number, names if self._hosts is not None else None)
        heads = self._layout.heads(f"{us} {endpoint(local, lport)}", f"{them} {endpoint(remote, rport)}")
        if self._write is not None:
            opening = self._legend() if number == 1 else [title]
            self._emit(number, [*opening, heads])
        elif number <= _MAX_KEPT:
            self._transcripts[number] = _Transcript(flow, title, heads)
        return number, conversation

    def _names_of(self, local: bytes, remote: bytes) -> tuple[str, str]:
        us, them = self._names
        hosts = self._hosts or {}
        return hosts.get(local, us), hosts.get(remote, them)

    def _legend(self) -> list[str]:
        ends = "the host that heads the column" if self._hosts is not None else " and of ".join(self._names)
        return self._layout.legend(ends, inferred=self._known is None)

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
                self._transcripts[number].add(self._lines, line)
                self._lines += 1


def _other_end(flow: FourTuple) -> FourTuple:
    local, lport, remote, rport = flow
    return remote, rport, local, lport


def is_looped(flow: FourTuple) -> bool:
    """Whether a host speaks to itself, so that its events are of both ends."""
    local, _, remote, _ = flow
    return local == remote or (len(local) == 4 and local[0] == remote[0] == 127)
