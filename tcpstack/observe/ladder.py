"""The conversation as a ladder: a tracer that draws each segment between the states of both ends.

`Conversation` turns one connection's events into rows, `Layout` turns rows into lines, and `Ladder` keeps the
conversations apart. None of them knows a rule of TCP: the peer's states come from core's table (`PeerInference`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..core.events import Event, FaultHit, RetransmissionTimeout, SegmentOut, StateChange
from ..core.segment import FourTuple
from .conversation import Conversation
from .layout import Layout, joined
from .peer import KnownPeer, KnownPeers, PeerInference, remember
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


class _Kept(NamedTuple):
    """A row's lines: its place among the rows of all conversations, and its first line's among those of its own."""

    place: int
    first: int
    lines: list[str]


class _Transcript:
    """One conversation's rows; kept whole up to 2,000 lines, of a longer one the beginning and the end.

    number, flow, ends  the conversation's, its four-tuple as it is drawn, and what its two ends are called
    opening, names  the lines that precede the rows: the title, and what stands above the columns
    count           of all its lines
    """

    __slots__ = ("_head", "_tail", "_tail_lines", "count", "ends", "flow", "names", "number", "opening")

    def __init__(self, number: int, flow: FourTuple, ends: tuple[str, str], opening: str, names: str) -> None:
        self.number = number
        self.flow = flow
        self.ends = ends
        self.opening = opening
        self.names = names
        self.count = 0
        self._head: list[_Kept] = []
        self._tail: deque[_Kept] = deque()
        self._tail_lines = 0

    def add(self, place: int, lines: list[str]) -> None:
        row = _Kept(place, self.count, lines)
        self.count += len(lines)
        if row.first < _HALF_KEPT_LINES:
            self._head.append(row)
            return
        self._tail.append(row)
        self._tail_lines += len(lines)
        while self._tail_lines > _HALF_KEPT_LINES and len(self._tail) > 1:
            self._tail_lines -= len(self._tail.popleft().lines)

    def rows(self) -> list[_Kept]:
        return [*self._head, *self._tail]

    def lines(self, begin: int) -> list[str]:
        """Those of the rows from the place `begin` on, and where how many are left out; none where there are none."""
        shown: list[str] = []
        told = 0
        for row in self.rows():
            if row.place >= begin:
                if row.first > told:
                    shown.append(f"          ({_counted(row.first - told, 'line')} left out)")
                shown += row.lines
                told = row.first + len(row.lines)
        return shown


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
        self._looped: dict[FourTuple, str] = {}  # and what that host is called
        self._defer = defer
        self._gutter = _GUTTER if write is not None and only is None else 0
        self._layout = Layout(width, color=color, ascii=ascii, gutter=self._gutter)
        self._live: dict[FourTuple, tuple[int, Conversation]] = {}  # the longest silent first
        self._holding: FourTuple | None = None  # whose last event waits for its next
        self._unsettled: dict[FourTuple, None] = {}  # who has something to be settled at the end of the turn
        self._transcripts: dict[int, _Transcript] = {}
        self._count = 0
        self._places = 0  # of the rows of all transcripts

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

    def expect(self, event: Event, host: str | None = None) -> None:
        """As KnownPeers.expect, of a connection that a host has with itself; `host` is what that is called, which
        127.0.0.1 does not tell."""
        if is_looped(event.flow):
            self._here.expect(event)
            if host is not None:
                remember(self._looped, event.flow, host)

    def there(self, event: RetransmissionTimeout) -> None:
        """Draw what the other end of a conversation tells that has no segment; nothing where there is none."""
        flow = _other_end(event.flow)
        if flow in self._live:
            self.let_go()
            number, conversation = self._live[flow]
            self._draw(number, [conversation.there(event)])

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

    def render(
        self, *, about: Callable[[FourTuple, tuple[str, str]], bool] | None = None, last_lines: int | None = None
    ) -> str:
        """All conversations so far, each whole, in the order in which they began; "" where there was none.

        about       tells of a conversation's four-tuple and the names of its two ends whether it is to be shown
        last_lines  of those that are, show only the last rows: so many lines at the most, but one row at least

        Only of a ladder without `write`. Of a very long conversation the beginning and the end are kept. Raises
        ValueError where `last_lines` is less than 1.
        """
        if last_lines is not None and last_lines < 1:
            raise ValueError(f"last_lines is how many lines to show at the most, 1 or more: not {last_lines}")
        self.flush()
        kept = [each for each in self._transcripts.values() if each.count]
        chosen = kept if about is None else [each for each in kept if about(each.flow, each.ends)]
        begin = 0 if last_lines is None else _begin_of_last(chosen, last_lines)
        lines: list[str] = []
        legend = self._legend()
        unshown: list[_Transcript] = []
        for transcript in chosen:
            shown = transcript.lines(begin)
            if not shown:
                unshown.append(transcript)
                continue
            lines += [*_left_out(unshown, lines), *([""] if lines or unshown else []), transcript.opening]
            lines += [*legend, transcript.names, *shown]
            legend, unshown = [], []
        lines += _left_out(unshown, lines)
        if self._count > len(self._transcripts) > 0:
            more = _counted(self._count - len(self._transcripts), "more conversation")
            lines += ["", f"({more}, not kept)"]
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
        us, them = names = self._names_of(flow)
        known = self._here if is_looped(flow) else self._known
        peer = PeerInference() if known is None else KnownPeer(known, flow)
        conversation = Conversation(flow, event.time_ns, names, peer, verbose=self._verbose)
        title = self._layout.title(number, names if self._hosts is not None else None)
        heads = self._layout.heads(f"{us} {endpoint(local, lport)}", f"{them} {endpoint(remote, rport)}")
        if self._write is not None:
            opening = self._legend() if number == 1 else [title]
            self._emit(number, [*opening, heads])
        elif number <= _MAX_KEPT:
            self._transcripts[number] = _Transcript(number, flow, names, title, heads)
        return number, conversation

    def _names_of(self, flow: FourTuple) -> tuple[str, str]:
        us, them = self._names
        hosts = self._hosts or {}
        local, _, remote, _ = flow
        if is_looped(flow):
            us = self._looped.get(flow) or hosts.get(local, us)
            return us, us
        return hosts.get(local, us), hosts.get(remote, them)

    def _legend(self) -> list[str]:
        ends = "the host that heads the column" if self._hosts is not None else " and of ".join(self._names)
        clock = "the host on the left" if self._hosts is not None else self._names[0]
        return self._layout.legend(ends, clock, inferred=self._known is None)

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
            self._transcripts[number].add(self._places, lines)
            self._places += 1


def _begin_of_last(transcripts: Sequence[_Transcript], count: int) -> int:
    """The place from which on the rows have so many lines at the most; that of the last row, if that has more."""
    begin = 0
    for row in sorted((row for each in transcripts for row in each.rows()), key=lambda row: row.place, reverse=True):
        count -= len(row.lines)
        if count < 0 and begin:
            break
        begin = row.place
    return begin


def _left_out(unshown: Sequence[_Transcript], above: Sequence[str]) -> list[str]:
    """What stands beneath `above` for conversations that follow each other and of which nothing is shown."""
    if not unshown:
        return []
    count = _counted(sum(each.count for each in unshown), "line")
    first, last = unshown[0].number, unshown[-1].number
    which = f"conversation {first}" if first == last else f"{len(unshown)} conversations, {first} to {last}"
    return [*([""] if above else []), f"({which}: {count} left out)"]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _other_end(flow: FourTuple) -> FourTuple:
    local, lport, remote, rport = flow
    return remote, rport, local, lport


def is_looped(flow: FourTuple) -> bool:
    """Whether a host speaks to itself, so that its events are of both ends."""
    local, _, remote, _ = flow
    return local == remote or (len(local) == 4 and local[0] == remote[0] == 127)
