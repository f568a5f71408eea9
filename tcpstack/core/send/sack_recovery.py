"""Loss recovery where the peer reports what has arrived: RACK-TLP (RFC 8985) on a SACK scoreboard (RFC 2018, 2883).

    OPEN      nothing is known to be lost
    RECOVERY  RACK found a loss: fast recovery, paced by PRR (RFC 9937), until all that was outstanding is acknowledged
    LOSS      the retransmission timer went off: slow start from one segment, with F-RTO (RFC 5682) looking for proof
              that it went off too early

What a retransmission turns out to have been for nothing (the timestamps tell, RFC 3522; or D-SACKs of all of them, RFC
3708; or F-RTO) undoes the congestion response. The sender asks what to send again and within which bounds; the
congestion controller hears of it from the sender.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..timers import NEVER
from .prr import Prr
from .rack import Rack
from .recovery import ENTERED, NOTHING, RECOVERED
from .scoreboard import Scoreboard

OPEN, RECOVERY, LOSS = range(3)

# F-RTO: whether it is in doubt that the timeout was one. ADVANCED: its retransmission was acknowledged.
NOT_IN_DOUBT, IN_DOUBT, ADVANCED = range(3)

# What on_ack found, besides recovery.py's NOTHING, ENTERED and RECOVERED.
UNDONE = 4
PROBE_REPAIRED = 5

TLP_LEAST_NS = 2 * 1_000_000
"""Two round trips may be less than a busy peer takes to be scheduled: two milliseconds at the least, as Linux."""
TLP_MAX_ACK_DELAY_NS = 200 * 1_000_000
"""How long the peer may delay the acknowledgement of a single segment (RFC 8985 7.2)."""


@dataclass(slots=True)
class Acknowledgement:
    """What an acceptable ACK says: sequence numbers unwrapped, blocks within what is outstanding.

    ack        SEG.ACK                      blocks  what it reports as arrived above that (RFC 2018)
    dsack      the octets that it reports as arrived twice (RFC 2883), or None
    echoed_ns  no later than then left what provoked it, by its timestamp; None where it has none
    """

    ack: int
    blocks: tuple[tuple[int, int], ...] = ()
    dsack: tuple[int, int] | None = None
    echoed_ns: int | None = None


class SackRecovery:
    """state            OPEN, RECOVERY or LOSS
    board, rack      what is outstanding, and the clock of it
    delivered_bytes  octets of which the last acknowledgement told first
    forced           the next retransmission leaves whatever the congestion window says
    probing          a tail loss probe is out, and unanswered
    reason           why things go again, for the tracer
    """

    __slots__ = (
        "_frto", "_probe_end", "_probe_resent", "_prr", "_recover", "_resent_bytes", "_resent_first_ns", "_undo_from",
        "board", "delivered_bytes", "forced", "rack", "reason", "state",
    )  # fmt: skip

    def __init__(self, iss: int) -> None:
        self.board = Scoreboard()
        self.rack = Rack(iss)
        self.state = OPEN
        self.delivered_bytes = 0
        self.forced = False
        self.reason = ""
        self._recover = iss
        self._prr: Prr | None = None
        self._frto = NOT_IN_DOUBT
        self._undo_from: int | None = None  # SND.UNA when the congestion response began; None: it can't be undone
        self._resent_bytes = 0  # in this episode, less what D-SACKs have told of
        self._resent_first_ns = NEVER
        self._probe_end: int | None = None
        self._probe_resent = False

    @property
    def active(self) -> bool:
        return self.state != OPEN

    @property
    def quiet(self) -> bool:
        """Whether an acknowledgement of something new can mean nothing but that."""
        return (
            self.state == OPEN and self._probe_end is None and not self.rack.reordering_seen and self.board.in_order
        )

    @property
    def probing(self) -> bool:
        return self._probe_end is not None

    @property
    def sacked_bytes(self) -> int:
        """Octets that have arrived above SND.UNA."""
        return self.board.sacked_bytes

    @property
    def lost_bytes(self) -> int:
        """Octets taken as lost and not yet sent again."""
        return self.board.lost_bytes

    def in_flight_bytes(self, una: int, nxt: int) -> int:
        """Of what is outstanding, the octets that have neither arrived nor are taken as lost."""
        board = self.board
        return nxt - una - board.sacked_bytes - board.lost_bytes

    def room_bytes(self, in_flight_bytes: int, cwnd_bytes: int) -> int:
        """How much may leave now, new or again."""
        return (cwnd_bytes if self._prr is None else self._prr.cwnd_bytes) - in_flight_bytes

    def next_lost(self) -> tuple[int, int] | None:
        """The octets that are to be sent again next, or None."""
        if self.board.lost_bytes == 0 or (self._frto != NOT_IN_DOUBT and not self.forced):
            return None
        lost = self.board.next_lost()
        return None if lost is None else (lost.seq, lost.end)

    # -- what left

    def on_sent(self, seq: int, end: int, now_ns: int) -> None:
        """New text left."""
        self.board.on_sent(seq, end, now_ns)
        if self._frto == ADVANCED:
            self._frto = IN_DOUBT  # what the next acknowledgement brings decides
        if self._prr is not None:
            self._prr.on_sent(end - seq)

    def on_resent(self, seq: int, end: int, now_ns: int) -> None:
        """Text left again."""
        self.board.on_resent(seq, end, now_ns)
        self.forced = False
        if self.state != OPEN:
            self._resent_bytes += end - seq
            self._resent_first_ns = min(self._resent_first_ns, now_ns)
        if self._prr is not None:
            self._prr.on_sent(end - seq)

    def on_probe_resent(self, seq: int, now_ns: int) -> None:
        """A zero-window probe's octet left again."""
        self.board.on_resent(seq, seq + 1, now_ns)

    # -- acknowledgements

    def on_quiet_ack(self, ack: int, now_ns: int) -> None:
        """As `on_ack`, of something new and nothing else, where all is `quiet`: then there is nothing to find."""
        last = self.board.advance(ack)
        self.rack.on_in_order(last.sent_ns, min(last.end, ack), now_ns)

    def on_ack(
        self, said: Acknowledgement, una: int, nxt: int, ssthresh_bytes: int, mss_bytes: int, srtt_ns: int, now_ns: int
    ) -> int:
        """An acknowledgement of `una` or more. Returns what it means for the congestion controller.

        On ENTERED the caller has the controller lower ssthresh, and then calls `begin`; likewise where something else
        is lost by the end of a recovery.
        """
        board, rack = self.board, self.rack
        lost_before = board.lost_bytes
        news = board.acknowledge(said.ack) if said.ack > una else []
        for left, right in said.blocks:
            news += board.sack(left, right)
        self.forced = self.forced and board.lost_bytes > 0
        self.delivered_bytes = sum(each.end - each.seq for each in news)
        if said.echoed_ns is not None and news and news[0].seq == una:
            # What is echoed is TS.Recent, and that is of the text at SND.UNA or, where a gap is left, of what was
            # before the gap (RFC 7323 4.3). Of what lies above it tells nothing: RFC 8985's condition would take each
            # retransmission that is reported there for the first transmission, and its own loss would not be found.
            rack.on_delivered(news[:1], said.echoed_ns, now_ns)
            rack.on_delivered(news[1:], None, now_ns)
        else:
            rack.on_delivered(news, None, now_ns)
        rack.on_una(said.ack)
        if said.dsack is not None:
            self._on_dsack(said.dsack, nxt)
        resent = self._resent_first_ns != NEVER or (self._probe_end is not None and self._probe_resent)
        repaired = self._on_probe_answered(said, una)
        original = self._frto != NOT_IN_DOUBT and any(not each.resent and each.end <= self._recover for each in news)
        if board.sacked_bytes or self.state != OPEN or rack.reordering_seen:
            self.detect_losses(mss_bytes, srtt_ns, now_ns)
        if self._is_spurious(said, una, original):
            return self._undo()
        if self.state == OPEN:
            if board.lost_bytes:
                return ENTERED
            return PROBE_REPAIRED if repaired else NOTHING
        if said.ack >= self._recover and said.ack > una:
            return self._recovered() if resent else self._undo()  # what was late came before anything went again
        if self.state == LOSS:
            self._go_on_after_timeout(said, una, nxt)
        elif self._prr is not None and self.delivered_bytes:
            safe = said.ack > una and board.lost_bytes <= lost_before
            self._prr.on_ack(
                self.delivered_bytes, self.in_flight_bytes(said.ack, nxt), ssthresh_bytes, mss_bytes, safe
            )
        return NOTHING

    def begin(self, una: int, nxt: int, ssthresh_bytes: int, mss_bytes: int) -> None:
        """Fast recovery begins; the controller has set ssthresh."""
        board = self.board
        self.state = RECOVERY
        self._recover = nxt
        self._start_episode(una)
        self.reason = "retransmission: RACK, what was sent later has arrived"
        self._prr = Prr(nxt - una - board.sacked_bytes + self.delivered_bytes)
        self._prr.on_ack(self.delivered_bytes, self.in_flight_bytes(una, nxt), ssthresh_bytes, mss_bytes, False)

    def detect_losses(self, mss_bytes: int, srtt_ns: int, now_ns: int) -> bool:
        """See what is lost by now; whether anything is that was not before."""
        rack = self.rack
        segments = -(-self.board.sacked_bytes // mss_bytes)
        reo_wnd_ns = rack.reo_wnd_ns(self.state != OPEN, segments, srtt_ns)
        return rack.detect_losses(self.board, reo_wnd_ns, now_ns)

    # -- timers

    def on_timeout(self, una: int, nxt: int, srtt_ns: int, now_ns: int) -> None:
        """The retransmission timer went off."""
        board = self.board
        first = self.state != LOSS
        if next(iter(board)).sacked:
            board.reneged()  # RFC 2018 8: what is at SND.UNA was reported, and yet is not acknowledged
        self._frto = IN_DOUBT if first and not self._was_resent() else NOT_IN_DOUBT
        if first or una >= self._recover:
            self._start_episode(una)
        self.state = LOSS
        self._prr = None
        self._probe_end = None
        self._recover = nxt
        self.rack.mark_losses_on_rto(board, self.rack.reo_wnd_ns(True, 0, srtt_ns), now_ns)
        self.forced = True
        self.reason = "retransmission: timeout"

    def probe_timeout_ns(self, srtt_ns: int, single: bool) -> int:
        """PTO (RFC 8985 7.2); `single`: no more than a segment is in flight, whose acknowledgement may be delayed."""
        return max(2 * srtt_ns, TLP_LEAST_NS) + (TLP_MAX_ACK_DELAY_NS if single else 0)

    def on_probe(self, end: int, resent: bool) -> None:
        """A tail loss probe leaves, up to `end`; `resent`: of text that had left before."""
        self._probe_end = end
        self._probe_resent = resent

    def resend_probe(self, una: int, nxt: int) -> None:
        """The window reopened after a probe octet that the peer had no room for: it goes again at once."""
        self.board.mark_lost_between(una, nxt)
        self.forced = self.board.lost_bytes > 0  # a peer may have reported all of it, and yet not acknowledge it
        self.reason = "retransmission: the window reopened after a probe"

    # -- inside

    def _start_episode(self, una: int) -> None:
        self._undo_from = una
        self._resent_bytes = 0
        self._resent_first_ns = NEVER

    def _was_resent(self) -> bool:
        first = next(iter(self.board), None)
        return first is not None and first.resent

    def _on_dsack(self, dsack: tuple[int, int], nxt: int) -> None:
        self.rack.on_dsack(nxt)
        if self._undo_from is not None and self._undo_from <= dsack[0] and dsack[1] <= self._recover:
            self._resent_bytes -= dsack[1] - dsack[0]

    def _on_probe_answered(self, said: Acknowledgement, una: int) -> bool:
        """Whether the probe repaired a loss, so that the congestion controller must hear of it (RFC 8985 7.4)."""
        end = self._probe_end
        if end is None or said.ack < end:
            return False
        if not self._probe_resent:
            self._probe_end = None  # it was new text, and has arrived
        elif said.dsack is not None and said.dsack[1] == end:
            self._probe_end = None  # both the original and the probe have arrived: there was no loss
        elif said.ack > end:
            self._probe_end = self._undo_from = None
            return True
        elif said.ack == una and not said.blocks:
            self._probe_end = None  # likewise, from a peer that does not say so
        return False

    def _is_spurious(self, said: Acknowledgement, una: int, original: bool) -> bool:
        """Whether it turns out that nothing was lost: F-RTO, D-SACK, or Eifel.

        A D-SACK may tell so after the end, too: what goes again leaves behind all that was outstanding, and so the
        acknowledgement of all that comes before the one that says that it had arrived already.
        """
        if self._undo_from is None or self._resent_first_ns == NEVER:
            return False
        if self._resent_bytes <= 0:
            return True
        if self.state == OPEN:
            return False
        if self.state == LOSS and original:
            return True
        return said.ack > una and said.echoed_ns is not None and said.echoed_ns < self._resent_first_ns

    def _undo(self) -> int:
        self.board.unmark_lost()
        self.rack.deadline_ns = NEVER
        self._undo_from = None
        self._leave()
        return UNDONE

    def _recovered(self) -> int:
        self.rack.on_recovered()
        self._leave()
        return RECOVERED

    def _leave(self) -> None:
        self.state = OPEN
        self._prr = None
        self._frto = NOT_IN_DOUBT
        self.forced = False

    def _go_on_after_timeout(self, said: Acknowledgement, una: int, nxt: int) -> None:
        """F-RTO (RFC 5682 3.1): the first ACK that advances lets new text go; one that does not is no good sign."""
        if self._frto == NOT_IN_DOUBT:
            return
        if said.ack == una or nxt > self._recover:
            self._frto = NOT_IN_DOUBT  # step 3a
        else:
            self._frto = ADVANCED

    def give_up_doubt(self) -> bool:
        """There is no new text to find out with (RFC 5682 3.1, step 2b): what counts as lost goes. Whether it may."""
        given_up = self._frto == ADVANCED
        if given_up:
            self._frto = NOT_IN_DOUBT
        return given_up


def is_dsack(blocks: Sequence[tuple[int, int]], ack: int) -> bool:
    """Whether the first block reports octets that arrived twice: it lies below SEG.ACK, or within the second."""
    left, right = blocks[0]
    return right <= ack or (len(blocks) > 1 and blocks[1][0] <= left and right <= blocks[1][1])
