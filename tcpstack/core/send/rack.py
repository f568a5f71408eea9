"""RACK: what was sent before something that has arrived, and by more than the network reorders, is lost (RFC 8985).

Time instead of counts: losses are found where few segments are outstanding, also of retransmissions, and reordering
within the window that is allowed for it costs nothing. Ranges come from the scoreboard, so a superpacket is as many
segments as its acknowledgements make of it.
"""

from __future__ import annotations

from ..timers import NEVER
from .recovery import DUP_THRESHOLD
from .scoreboard import Scoreboard, Sent

MIN_RTT_WINDOW_NS = 300 * 1_000_000_000
"""RFC 8985 6.2 step 1 leaves the filter to us: the least of five minutes, as Linux."""
_DSACK_PERSISTS = 16  # recoveries without a D-SACK until the reordering window shrinks again (RFC 8985 6.2 step 4)


class Rack:
    """RACK.rtt, RACK.min_RTT and the rest by their names.

    rtt_ns         of what was sent last among all that has arrived; 0 where nothing has
    min_rtt_ns     the least round trip of the last minutes; 0 where none was measured
    reordering_seen  something arrived after what was sent later
    deadline_ns    when what is late will count as lost (the reordering timer); NEVER where nothing is late
    """

    __slots__ = (
        "_dsack_round", "_fack", "_min_rtt_since_ns", "_next_min_rtt_ns", "_reo_wnd_mult", "_reo_wnd_persist",
        "_xmit_end", "_xmit_ns", "deadline_ns", "min_rtt_ns", "reordering_seen", "rtt_ns",
    )  # fmt: skip

    def __init__(self, iss: int) -> None:
        self._xmit_ns = -1
        self._xmit_end = iss
        self._fack = iss
        self._dsack_round: int | None = None
        self._reo_wnd_mult = 1
        self._reo_wnd_persist = 0
        self._min_rtt_since_ns = 0
        self._next_min_rtt_ns = 0
        self.rtt_ns = 0
        self.min_rtt_ns = 0
        self.reordering_seen = False
        self.deadline_ns = NEVER

    def on_delivered(self, news: list[Sent], echoed_ns: int | None, now_ns: int) -> None:
        """These ranges have arrived (steps 1 to 3). `echoed_ns`: no later than then left what provoked the
        acknowledgement, as its timestamp tells; None where it has none."""
        for each in news:
            if not each.resent:
                self._note_min_rtt(max(now_ns - each.sent_ns, 1), now_ns)
        # In ascending order: blocks come the latest first, and that is no reordering.
        for each in news if len(news) < 2 else sorted(news, key=_end):
            first_echoed = echoed_ns is not None and echoed_ns < each.sent_ns
            if each.end > self._fack:
                self._fack = each.end
            elif each.end < self._fack and (first_echoed or not each.resent):
                self.reordering_seen = True
            rtt_ns = now_ns - each.sent_ns
            # Which of the two arrived? Not the second, if the first was echoed, or the answer came too soon.
            if each.resent and (first_echoed or rtt_ns < self.min_rtt_ns):
                continue
            if (each.sent_ns, each.end) > (self._xmit_ns, self._xmit_end):
                self._xmit_ns, self._xmit_end = each.sent_ns, each.end
                self.rtt_ns = rtt_ns

    def on_in_order(self, sent_ns: int, end: int, now_ns: int) -> None:
        """As `on_delivered`, where everything up to `end` has arrived, each once and in order; of that, what was sent
        last left at `sent_ns`."""
        rtt_ns = now_ns - sent_ns
        self._note_min_rtt(rtt_ns or 1, now_ns)
        if end > self._fack:
            self._fack = end
        if sent_ns > self._xmit_ns or (sent_ns == self._xmit_ns and end > self._xmit_end):
            self._xmit_ns, self._xmit_end, self.rtt_ns = sent_ns, end, rtt_ns
        if self._dsack_round is not None:
            self.on_una(end)

    def on_dsack(self, nxt: int) -> None:
        """A D-SACK: something was sent again for nothing. The window grows, once a round trip (step 4)."""
        if self._dsack_round is None:
            self._dsack_round = nxt
            self._reo_wnd_mult += 1
            self._reo_wnd_persist = _DSACK_PERSISTS

    def on_una(self, una: int) -> None:
        """SND.UNA has moved: the round of a D-SACK may be over."""
        if self._dsack_round is not None and una >= self._dsack_round:
            self._dsack_round = None

    def on_recovered(self) -> None:
        """A recovery is over: after enough of them without a D-SACK the window is as small as at first."""
        self._reo_wnd_persist -= 1
        if self._reo_wnd_persist <= 0:
            self._reo_wnd_mult = 1

    def reo_wnd_ns(self, recovering: bool, sacked_segments: int, srtt_ns: int) -> int:
        """RACK.reo_wnd: for how long what was sent earlier may still come."""
        if not self.reordering_seen and (recovering or sacked_segments >= DUP_THRESHOLD):
            return 0
        return min(self._reo_wnd_mult * self.min_rtt_ns // 4, srtt_ns)

    def detect_losses(self, board: Scoreboard, reo_wnd_ns: int, now_ns: int) -> bool:
        """Mark on the board what is lost by now (step 5); was anything? Sets `deadline_ns` for what may yet be."""
        self.deadline_ns = NEVER
        if self._xmit_ns < 0:
            return False
        found = False
        for each in board.awaited():
            if each.sent_ns > self._xmit_ns:
                break
            if each.sent_ns == self._xmit_ns and each.end >= self._xmit_end:
                continue
            due_ns = each.sent_ns + self.rtt_ns + reo_wnd_ns
            if due_ns <= now_ns:
                board.mark_lost(each)
                found = True
            else:
                self.deadline_ns = due_ns if self.deadline_ns == NEVER else max(self.deadline_ns, due_ns)
        return found

    def mark_losses_on_rto(self, board: Scoreboard, reo_wnd_ns: int, now_ns: int) -> None:
        """The retransmission timer went off: the first range is lost, and all whose time is up (6.3)."""
        self.deadline_ns = NEVER
        for number, each in enumerate(board):
            if not each.sacked and (number == 0 or each.sent_ns + self.rtt_ns + reo_wnd_ns <= now_ns):
                board.mark_lost(each)

    def _note_min_rtt(self, rtt_ns: int, now_ns: int) -> None:
        """The least of this window and the one before, so of at least five minutes."""
        if now_ns - self._min_rtt_since_ns > MIN_RTT_WINDOW_NS:
            self._min_rtt_since_ns = now_ns
            self.min_rtt_ns = min(self._next_min_rtt_ns, rtt_ns) if self._next_min_rtt_ns else rtt_ns
            self._next_min_rtt_ns = rtt_ns
            return
        self.min_rtt_ns = min(self.min_rtt_ns, rtt_ns) if self.min_rtt_ns else rtt_ns
        self._next_min_rtt_ns = min(self._next_min_rtt_ns, rtt_ns) if self._next_min_rtt_ns else rtt_ns


def _end(each: Sent) -> int:
    return each.end
