"""The state of the other end, which no segment carries.

`PeerInference` turns each segment that passed into the event that it is for the *peer* and looks that up in
core's own TRANSITIONS: a SYN that comes from the peer was its active OPEN, our SYN,ACK is what arrives there,
its FIN was its CLOSE. It knows no rule of TCP beyond that translation.

What we send is taken to arrive at once unless a fault rule killed it; where the peer's next segment proves
otherwise (it acknowledges what we took for lost, or its FIN crossed ours), the inference follows the proof.

`KnownPeers` is for a peer that is a stack of our own in the same process: it gets that stack's events, and then the
states are known instead of inferred.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol, TypeVar

from ..core.events import Event, SegmentIn, SegmentOut, StateChange
from ..core.segment import ACK, FIN, RST, SYN, FourTuple, Segment
from ..core.seq import MASK, unwrap
from ..core.state import (
    ABORT,
    ACTIVE_OPEN,
    CLOSE,
    CLOSED,
    LISTEN,
    PASSIVE_OPEN,
    RCV_ACK_OF_FIN,
    RCV_ACK_OF_SYN,
    RCV_FIN,
    RCV_RST,
    RCV_RST_OR_SYN_PASSIVE,
    RCV_SYN,
    RCV_SYN_ACK,
    STATE_NAMES,
    SYN_RECEIVED,
    SYN_SENT,
    TRANSITIONS,
)

_REMEMBERED = 4096
_RUNS = 256
"""Arrivals of joined segments remembered of one connection."""
K = TypeVar("K")
V = TypeVar("V")


class Move(NamedTuple):
    """The peer's state before and after a segment; None where nothing is known of it yet. `note` explains a
    correction, `why` is the peer's own reason for what it sent; each may be empty."""

    before: int | None
    after: int | None
    note: str = ""
    why: str = ""


class PeerView(Protocol):
    """What a ladder asks about the other end, segment by segment, in the order in which it saw them.

    inferred  True where the states are deduced from the segments, False where they are known
    state     its state now, as far as it is known
    """

    inferred: bool

    @property
    def state(self) -> int | None: ...

    def sent(self, segment: Segment) -> Move:
        """The peer sent this segment (whether or not it arrived here)."""

    def reached(self, segment: Segment) -> Move:
        """We sent this segment and nothing says that it did not arrive."""

    def lost(self, segment: Segment) -> Move:
        """We sent this segment and it died on the way."""


class PeerInference:
    """The peer's state, inferred by running core's TRANSITIONS over the segments. No segment makes it raise.

    state   one of the constants of state.py; means nothing while `heard` is False
    heard   the peer has sent something, so that its state is known at all
    """

    inferred = True

    __slots__ = (
        "_before_our_fin", "_holes", "_our_fin_end", "_our_isn", "_our_top", "_passive",
        "_peer_fin_end", "_peer_isn", "_peer_top", "heard", "state",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = CLOSED
        self.heard = False
        self._passive = False
        self._our_isn: int | None = None
        self._peer_isn: int | None = None
        self._our_top = 0  # the highest numbers seen, relative to the ISN: the references for unwrapping
        self._peer_top = 0
        self._our_fin_end: int | None = None
        self._peer_fin_end: int | None = None
        self._before_our_fin: int | None = None  # the peer's state when our FIN reached it, once it did
        self._holes: list[tuple[int, int]] = []  # of what we sent: [start, end) that did not reach the peer

    def listen(self) -> None:
        """It is known to have listened before anything came."""
        self._apply(PASSIVE_OPEN)
        self._passive = True

    def sent(self, segment: Segment) -> Move:
        flags = segment.flags
        if not self.heard and not flags & (SYN | RST):
            return Move(None, None)  # joined midway: no telling where the peer is
        before = self.state if self.heard else None
        self.heard = True
        if flags & RST:
            # A peer in SYN-SENT sends RST only against a segment that makes no sense to it, and stays there.
            if self.state != SYN_SENT:
                self._apply(ABORT)
            return Move(before, self.state)
        if flags & SYN:
            if self._peer_isn is None:
                self._peer_isn = segment.seq
            return self._sent_syn(flags, before)
        end = self._relative(segment.seq, self._peer_isn, self._peer_top) + segment.len
        self._peer_top = max(self._peer_top, end)
        acked = self._relative_to_us(segment.ack) if flags & ACK else 0
        before = self._learn_from_ack(acked)
        if flags & FIN and self._peer_fin_end is None:
            self._peer_fin_end = end
            return self._sent_fin(acked, before)
        return Move(before, self.state)

    def reached(self, segment: Segment) -> Move:
        before = self.state
        flags = segment.flags
        if flags & RST:
            passive = self._passive and self.state == SYN_RECEIVED
            self._apply(RCV_RST_OR_SYN_PASSIVE if passive else RCV_RST)
            return self._move(before)
        start, end = self._extent(segment)
        acked = self._acked_by(segment) if flags & ACK else 0
        if flags & SYN and not flags & ACK:
            self._apply(RCV_SYN)
        if acked > 0:
            if flags & SYN:
                self._apply(RCV_SYN_ACK)
            self._apply(RCV_ACK_OF_SYN)
            if self._peer_fin_end is not None and acked >= self._peer_fin_end:
                self._apply(RCV_ACK_OF_FIN)
        self._fill(start, end)
        self._take_our_fin()
        return self._move(before)

    def lost(self, segment: Segment) -> Move:
        start, end = self._extent(segment)
        if end > start:
            self._holes.append((start, end))
        return self._move(self.state)

    def _sent_syn(self, flags: int, before: int | None) -> Move:
        if not flags & ACK:
            before = CLOSED if before is None else before
            self._apply(ACTIVE_OPEN)
            opening = self.state
            if self._our_isn is None or any(start == 0 for start, _ in self._holes):
                return Move(before, opening)
            # Our own SYN is on the way: had it found the peer closed, an RST would have come and not a SYN.
            self._apply(RCV_SYN)
            return Move(before, opening, self._correction("SYNs", opening))
        if self.state == CLOSED:
            self.listen()
            before = self.state
        self._apply(RCV_SYN)  # from LISTEN, or from SYN-SENT: a simultaneous open
        return Move(before, self.state)

    def _sent_fin(self, acked: int, before: int) -> Move:
        ours = self._our_fin_end
        if self._before_our_fin is None or ours is None or acked >= ours:
            self._apply(CLOSE)
            return Move(before, self.state)
        # It sent this before our FIN reached it. So: back to where it was, its CLOSE, and only then our FIN.
        never = STATE_NAMES[self.state]
        self.state = before = self._before_our_fin
        self._apply(CLOSE)
        closing = self.state
        self._apply(RCV_FIN)
        return Move(before, closing, self._correction("FINs", closing, f", so it was not in {never}"))

    def _correction(self, crossed: str, before: int, so: str = "") -> str:
        if self.state == before:
            return ""
        names = f"{STATE_NAMES[before]} → {STATE_NAMES[self.state]}"
        return f"the {crossed} crossed: it sent this one before ours arrived{so}; ours then takes it {names}"

    def _learn_from_ack(self, acked: int) -> int:
        """Follow what an acknowledgement from the peer proves to have arrived there; returns the state that the
        peer therefore had when it sent."""
        if acked > 0:
            self._fill(0, acked)
            if self.state == SYN_SENT:
                self._apply(RCV_SYN_ACK)
            self._take_our_fin()
        return self.state

    def _take_our_fin(self) -> None:
        end = self._our_fin_end
        if end is None or self._before_our_fin is not None or any(start < end for start, _ in self._holes):
            return
        before = self.state
        self._apply(RCV_FIN)
        if self.state != before:
            self._before_our_fin = before

    def _fill(self, start: int, end: int) -> None:
        """Octets [start, end) of ours have reached the peer."""
        if self._holes:
            left = [(a, min(b, start)) for a, b in self._holes if a < start]
            right = [(max(a, end), b) for a, b in self._holes if b > end]
            self._holes = left + right

    def _extent(self, segment: Segment) -> tuple[int, int]:
        """Where one of our segments starts and ends, relative to our ISN."""
        if self._our_isn is None:
            self._our_isn = segment.seq if segment.flags & SYN else (segment.seq - 1) & MASK
        start = self._relative_to_us(segment.seq)
        end = start + segment.len
        self._our_top = max(self._our_top, end)
        if segment.flags & FIN and self._our_fin_end is None:
            self._our_fin_end = end
        return start, end

    def _acked_by(self, segment: Segment) -> int:
        """Up to where one of our segments acknowledges the peer, relative to its ISN; 0 if unknown."""
        acked = self._relative(segment.ack, self._peer_isn, self._peer_top)
        self._peer_top = max(self._peer_top, acked)
        return acked

    def _relative_to_us(self, number: int) -> int:
        return self._relative(number, self._our_isn, self._our_top)

    @staticmethod
    def _relative(number: int, isn: int | None, top: int) -> int:
        return 0 if isn is None else unwrap((number - isn) & MASK, top) or 0

    def _apply(self, cause: str) -> None:
        self.state = TRANSITIONS.get((self.state, cause), self.state)

    def _move(self, before: int) -> Move:
        return Move(before, self.state) if self.heard else Move(None, None)


class KnownPeers:
    """A tracer for the *other* stacks of the same process: remembers what state each of their connections is in, and
    what each segment found and left there.

    `expect` takes in what segments did ahead of time: whoever draws later than things happen calls it when they do,
    and the object itself when their turn to be drawn has come.
    """

    __slots__ = ("_arrived", "_last", "_left", "_runs", "_states")  # at most _REMEMBERED of each, the latest last

    def __init__(self) -> None:
        self._states: dict[FourTuple, int] = {}
        self._last: dict[FourTuple, int] = {}  # after the latest segment
        self._left: dict[tuple[FourTuple, int], Move] = {}  # by packet id, which its pieces share
        self._arrived: dict[tuple[FourTuple, int, int], Move] = {}  # by packet id and SEQ
        self._runs: dict[FourTuple, deque[tuple[Segment, Move]]] = {}  # those that were joined on their arrival

    def __call__(self, event: Event) -> None:
        self.expect(event)
        if isinstance(event, StateChange):
            remember(self._states, event.flow, event.after)
        elif isinstance(event, SegmentIn):
            remember(self._states, event.flow, self._own(event.flow, event.segment, event.after, self._states))
        elif isinstance(event, SegmentOut):
            remember(self._states, event.flow, self._own(event.flow, event.segment, event.state, self._states))

    def expect(self, event: Event) -> None:
        """Remember what a segment found and left, and nothing else yet. What is known already stays so."""
        if isinstance(event, SegmentIn):
            self._expect_arrived(event)
        elif isinstance(event, SegmentOut):
            self._expect_left(event)
        elif isinstance(event, StateChange):
            self._last.setdefault(event.flow, event.before)

    def _expect_arrived(self, event: SegmentIn) -> None:
        flow, segment = event.flow, event.segment
        before, after = (self._own(flow, segment, state, self._last) for state in (event.before, event.after))
        move = Move(before, after)
        if segment.gso_size:
            runs = self._runs.get(flow)
            if runs is None:
                remember(self._runs, flow, runs := deque(maxlen=_RUNS))
            if not any(segment is run for run, _ in runs):
                runs.append((segment, move))
        key = flow, segment.packet_id, segment.seq
        if key not in self._arrived:
            remember(self._arrived, key, move)
            remember(self._last, flow, after)

    def _expect_left(self, event: SegmentOut) -> None:
        flow, segment = event.flow, event.segment
        key = flow, segment.packet_id
        if key in self._left:
            return
        state = self._own(flow, segment, event.state, self._last)
        remember(self._left, key, Move(self._last.get(flow, state), state, why=segment.reason))
        remember(self._last, flow, state)

    @staticmethod
    def _own(flow: FourTuple, segment: Segment, state: int, states: dict[FourTuple, int]) -> int:
        """The connection's state: where it is over, a listener may have got the segment in its place."""
        return CLOSED if state == LISTEN and not segment.flags & SYN and flow in states else state

    def state(self, flow: FourTuple) -> int | None:
        """The state of the other end of `flow` (our four-tuple); None where that stack did not mention it."""
        return self._states.get(_mirrored(flow))

    def sent(self, flow: FourTuple, segment: Segment) -> Move | None:
        """What the other end of `flow` was moved by as this segment left it; of a copy, and of a further piece, where
        it was then. None where that is not known."""
        key = _mirrored(flow), segment.packet_id
        move = self._left.get(key)
        if move is not None:
            self._left[key] = move._replace(before=move.after)
        return move

    def reached(self, flow: FourTuple, segment: Segment) -> Move | None:
        """What our segment found and left at the other end of `flow`; None where that is not known (yet)."""
        there = _mirrored(flow)
        runs = [
            (run, move)
            for run, move in self._runs.get(there, ())
            if segment.seq - run.seq & MASK < run.payload_len
        ]
        if not runs:
            return self._arrived.get((there, segment.packet_id, segment.seq))
        # Of several, since text can go again, that of its own time.
        run, move = min(runs, key=lambda each: abs(each[0].packet_id - segment.packet_id))
        offset = segment.seq - run.seq & MASK
        if run.flags & FIN:
            ends = offset + segment.payload_len >= run.payload_len
            return move if ends else move._replace(after=move.before)
        return move if offset == 0 else move._replace(before=move.after)


class KnownPeer:
    """One connection's other end, as `KnownPeers` knows it.

    Where the other stack has processed a segment by the time that it is drawn, its row has what the segment did there,
    else the state of that moment.
    """

    inferred = False

    __slots__ = ("_flow", "_peers")

    def __init__(self, peers: KnownPeers, flow: FourTuple) -> None:
        self._peers = peers
        self._flow = flow

    @property
    def state(self) -> int | None:
        return self._peers.state(self._flow)

    def sent(self, segment: Segment) -> Move:
        return self._peers.sent(self._flow, segment) or self.lost(segment)

    def reached(self, segment: Segment) -> Move:
        return self._peers.reached(self._flow, segment) or self.lost(segment)

    def lost(self, segment: Segment) -> Move:
        return Move(self.state, self.state)


def _mirrored(flow: FourTuple) -> FourTuple:
    local, lport, remote, rport = flow
    return remote, rport, local, lport


def remember(memory: dict[K, V], key: K, value: V) -> None:
    """Keep the value as the latest of a memory that forgets the oldest."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]
