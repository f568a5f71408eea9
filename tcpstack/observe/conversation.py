"""One connection's events, turned into the rows of its ladder."""

from __future__ import annotations

from ..core.events import (
    CongestionChange,
    ConnectionClosed,
    Event,
    FaultHit,
    LossDetected,
    RetransmissionTimeout,
    SegmentIn,
    SegmentOut,
    StateChange,
)
from ..core.segment import ACK, RST, SYN, FourTuple, Segment
from ..core.send.chunk import REASON_OVERRIDE, REASON_PROBE, REASON_TAIL_PROBE
from ..core.seq import HALF, MASK
from ..core.state import (
    ACTIVE_OPEN,
    CLOSED,
    CLOSING,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    LISTEN,
    PASSIVE_OPEN,
    RCV_UNREACHABLE,
    SYN_SENT,
    TIME_WAIT,
    TIMEOUTS,
)
from .fates import by_fate, pieces_of
from .peer import Move, PeerView
from .printable import preview
from .rows import LOSS, PLAIN, QUIET, RESET, Arrow, Note, Row
from .story import Story
from .wording import describe, fate

_FATAL = ("dropped", "corrupted")
_CLOSED_BY_USER = frozenset((CLOSED, FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT))
_BEYOND_THE_ARROW = ("retransmission", "keep-alive", REASON_PROBE, REASON_TAIL_PROBE, REASON_OVERRIDE)
"""How reasons of the other end begin that the segment itself does not show."""
_COPIES = 64
"""Copies waited for at once: another rule may have killed one, so that it never comes."""
_ALONE = TIMEOUTS | {ACTIVE_OPEN, PASSIVE_OPEN, RCV_UNREACHABLE}
"""Causes of a state change that no arriving segment stands for. Behind the others one may come: the engine itself
closes (a FIN that waited for the handshake) and aborts (text that nobody is there for)."""


class Conversation:
    """The rows of one connection.

    Events do not come in the order in which a reader wants the rows, so some are held for a while:

    - an outgoing segment until the next event: only then is it clear whether a fault rule killed it on its way;
    - what the engine reports while it processes an arriving segment, and what may be such a report, until that
      segment's own event, or another;
    - a fault's hit on an arriving packet until a later packet has been processed, since a whole batch passes
      the rules before the first of it is processed.

    `settle` lets go of all of it. Rows stand in the order of what happened, and their times never run backwards: of
    one batch, what users do is timed when they do it, and what the engine does by the arrival of the batch.

    over  the engine is done with the connection
    """

    __slots__ = (
        "_copies", "_early", "_held", "_held_hits", "_latest_ns", "_peer", "_pending", "_start_ns", "_state",
        "_story", "_verbose", "flow", "names", "over",
    )  # fmt: skip

    def __init__(
        self, flow: FourTuple, start_ns: int, names: tuple[str, str], peer: PeerView, *, verbose: bool = False
    ) -> None:
        self.flow = flow
        self.names = names
        self.over = False
        self._start_ns = start_ns
        self._latest_ns = 0
        self._peer = peer
        self._verbose = verbose
        self._state: int | None = None
        self._story = Story()
        self._held: SegmentOut | None = None
        self._held_hits: list[FaultHit] = []
        self._pending: list[Event] = []
        self._early: list[FaultHit] = []
        self._copies: dict[tuple[int, int], bool] = {}  # segments duplicated on their way in: has one come?

    def on_event(self, event: Event) -> list[Row]:
        """The rows that are final with this event, in order."""
        if isinstance(event, FaultHit) and self.awaits(event):
            self._held_hits.append(event)
            return []
        rows = self._tell_held()
        if isinstance(event, (LossDetected, CongestionChange)) or _came_with_a_segment(event):
            self._pending.append(event)
        elif isinstance(event, FaultHit) and event.direction == "in":
            self._early.append(event)
        elif isinstance(event, SegmentIn):
            rows += self._tell_early(event.segment)
            rows += self._segment_in(event)
        else:
            rows += self._tell_early() + self._tell_pending()
            if isinstance(event, SegmentOut):
                self._held = event
            else:
                rows += self._other(event)
        return rows

    @property
    def holds(self) -> bool:
        """Something is held that this connection's next event decides about."""
        return self._held is not None or bool(self._pending)

    def awaits(self, hit: FaultHit) -> bool:
        """This hit tells what became of the outgoing segment that is held."""
        held = self._held
        return held is not None and hit.direction == "out" and hit.packet_id == held.segment.packet_id

    def let_go(self) -> list[Row]:
        """The rows of what `holds` is about: another connection has an event, so nothing more will come for it."""
        return self._tell_held() + self._tell_pending()

    @property
    def closing(self) -> bool:
        """Both ends have closed."""
        return self._state in _CLOSED_BY_USER and self._peer.state in _CLOSED_BY_USER

    def mark(self, text: str, time_ns: int) -> Row:
        """A line that is no event's."""
        return Note(self._at(time_ns - self._start_ns), text, QUIET)

    def there(self, event: RetransmissionTimeout) -> Row:
        """The line of what happened at the other end without a segment."""
        text, tone = describe(event)
        return self._note(event, f"{self.names[1]}: {text}", tone)

    def _tell_held(self) -> list[Row]:
        """The row of the outgoing segment that is held; of a superpacket, one for each stretch of its segments that had
        the same fate."""
        event, hits = self._held, self._held_hits
        if event is None:
            return []
        self._held, self._held_hits = None, []
        rows: list[Row] = []
        for segment, fates in by_fate(event.segment, hits):
            lives = 1 + sum(hit.action == "duplicated" for hit in fates)
            lives -= sum(hit.action in _FATAL for hit in fates)
            move = self._peer.reached(segment) if lives > 0 else self._peer.lost(segment)
            state = self._ours(event.state, segment)
            arrow = self._arrow(event.time_ns, segment, True, (state, state), move)
            arrow.dead = lives <= 0
            if arrow.dead:
                arrow.tone = LOSS
            count = pieces_of(segment)
            each = f"each of its {count} segments is " if count > 1 else ""
            arrow.details += [each + fate(hit) for hit in fates]
            self._state = state
            rows.append(arrow)
        # A listener knows both offers as its SYN,ACK leaves; told is that of one which may arrive.
        told = event.segment.flags & (SYN | ACK) == SYN | ACK and not arrow.dead
        return [*rows, *(self._agreement(event) if told else [])]

    def settle(self) -> list[Row]:
        """The rows of all that is held: nothing more will come for it."""
        return self._tell_held() + self._tell_early() + self._tell_pending()

    def end(self) -> list[Row]:
        """As `settle`, where the last event opens another connection: what already told of that one is left out."""
        self._pending = [
            each for each in self._pending if not isinstance(each, StateChange) or each.before != LISTEN
        ]
        return self.settle()

    def is_followed_by(self, event: Event) -> bool:
        """The event opens another connection with the same name (its ports were used again)."""
        if isinstance(event, StateChange):
            return event.cause == ACTIVE_OPEN and self._story.ours.isn is not None
        if isinstance(event, SegmentIn):
            anew = self._ended or event.before in (CLOSED, LISTEN)
        elif isinstance(event, FaultHit) and event.direction == "in":
            anew = self._ended
        else:
            return False
        segment = event.segment
        is_syn = segment.flags & (SYN | ACK | RST) == SYN
        return anew and is_syn and self._story.theirs.isn not in (None, segment.seq)

    @property
    def _ended(self) -> bool:
        return self.over or self._state in (CLOSED, TIME_WAIT)

    # Segments.

    def _segment_in(self, event: SegmentIn) -> list[Row]:
        segment = event.segment
        rows, moves = self._moves_of(event)
        ours = (self._ours(event.before, segment), self._ours(event.after, segment))
        arrow = self._arrow(event.time_ns, segment, False, ours, self._peer.sent(segment))
        name = (segment.packet_id, segment.seq)
        if name in self._copies:
            if self._copies.pop(name):
                arrow.details.append("the copy that the fault rule made")
            else:
                self._copies[name] = True
        self._state = ours[1]
        rows.append(arrow)
        if segment.flags & SYN and (segment.flags & ACK or event.before == SYN_SENT):
            rows += self._agreement(event)
        rows += [self._note(move, *describe(move, with_segment=True)) for move in moves]
        rows += self._tell_pending()
        if event.after == TIME_WAIT and event.before != TIME_WAIT:
            text = "these addresses and ports stay taken for 2 MSL, so that no late segment gets into a new connection"
            rows.append(self._note(event, text, QUIET))
        return rows

    def _arrow(
        self, time_ns: int, segment: Segment, out: bool, ours: tuple[int | None, int | None], theirs: Move
    ) -> Arrow:
        again = self._story.seen_before(segment, out=out)
        told = self._story.tell(segment, out=out, our_state=ours[0])
        details = ["; ".join(told.facts)] if told.facts else []
        if self._story.begins_text(segment, out=out):
            details.append(preview(segment.payload))
        if out and segment.reason:
            details.append(f"why: {segment.reason}")
        elif told.meaning:
            details.append(", ".join(told.meaning))
        if theirs.why and (again or segment.flags & RST or theirs.why.startswith(_BEYOND_THE_ARROW)):
            details.append(f"why: {theirs.why}")
        if theirs.note:
            details.append(theirs.note)
        tone = RESET if segment.flags & RST else LOSS if again else PLAIN
        inferred = self._peer.inferred
        return Arrow(self._at(time_ns), segment, out, ours, theirs, inferred, told.label, False, details, tone)

    def _agreement(self, event: SegmentIn | SegmentOut) -> list[Row]:
        text = self._story.agreement(*self.names, len(self.flow[0]))
        return [self._note(event, text, QUIET)] if text else []

    # Everything else.

    def _other(self, event: Event) -> list[Row]:
        if isinstance(event, FaultHit):
            return self._fault(event)
        if isinstance(event, ConnectionClosed):
            self.over = True
        return [self._describe(event)]

    def _fault(self, hit: FaultHit) -> list[Row]:
        """A hit on a packet that comes in, or that left earlier and that a rule had kept for a while."""
        segment = hit.segment
        if hit.action not in _FATAL or hit.direction == "out":
            if hit.direction == "in" and hit.action == "duplicated":
                self._copies[hit.packet_id, segment.seq] = False
                if len(self._copies) > _COPIES:
                    del self._copies[next(iter(self._copies))]
            elif hit.action in _FATAL:
                self._peer.lost(segment)
            what = f"the segment with {self._story.place(segment, out=hit.direction == 'out')}, "
            what += f"len {segment.payload_len}, "
            sender = self.names[0] if hit.direction == "out" else self.names[1]
            return [self._note(hit, f"{what}from {sender} is {fate(hit)}", LOSS)]
        ours = (self._state, self._state)
        arrow = self._arrow(hit.time_ns, segment, False, ours, self._peer.sent(segment))
        arrow.dead = True
        arrow.tone = LOSS
        arrow.details.append(fate(hit))
        return [arrow]

    def _tell_early(self, up_to: Segment | None = None) -> list[Row]:
        """The hits on arriving packets up to this segment, or on all."""
        told = [hit for hit in self._early if up_to is None or _came_by(hit, up_to)]
        self._early = [hit for hit in self._early if up_to is not None and not _came_by(hit, up_to)]
        return [row for hit in told for row in self._fault(hit)]

    def _moves_of(self, event: SegmentIn) -> tuple[list[Row], list[StateChange]]:
        """Of the waiting state changes: the rows of those that happened before the segment came; and those that it
        caused, as far as its own before and after do not tell them."""
        moves = [each for each in self._pending if isinstance(each, StateChange)]
        self._pending = [each for each in self._pending if not isinstance(each, StateChange)]
        if moves and (moves[0].before, moves[-1].after) == (event.before, event.after):
            return [], moves if len(moves) > 1 else []
        return [self._describe(move) for move in moves], []

    def _tell_pending(self) -> list[Row]:
        pending, self._pending = self._pending, []
        shown = [each for each in pending if self._verbose or not isinstance(each, CongestionChange)]
        return [self._describe(event) for event in shown]

    def _describe(self, event: Event) -> Note:
        text, tone = describe(event)
        if isinstance(event, StateChange):
            self._state = event.after
        return self._note(event, text, tone)

    def _note(self, event: Event, text: str, tone: str) -> Note:
        return Note(self._at(event.time_ns), text, tone)

    def _ours(self, state: int, segment: Segment) -> int:
        """Our state for a segment of this connection: where it is over, a listener may have answered in its place."""
        over = self._state == CLOSED and state == LISTEN and not segment.flags & SYN
        return CLOSED if over else state

    def _at(self, time_ns: int) -> int:
        """When a row is to stand, since the beginning."""
        self._latest_ns = max(self._latest_ns, time_ns - self._start_ns)
        return self._latest_ns


def _came_by(hit: FaultHit, segment: Segment) -> bool:
    """The packet that was hit came no later than this segment. Those of one superpacket share its id."""
    if hit.packet_id != segment.packet_id:
        return hit.packet_id < segment.packet_id
    return (segment.seq - hit.segment.seq) & MASK < HALF


def _came_with_a_segment(event: Event) -> bool:
    """A state change that an arriving segment caused: its SegmentIn is about to come."""
    return isinstance(event, StateChange) and event.cause not in _ALONE
