"""SackRecovery by itself: what an acknowledgement comes to, whatever it says. Sequence numbers begin at 0."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.send.recovery import ENTERED, NOTHING, RECOVERED
from tcpstack.core.send.sack_recovery import (
    LOSS,
    OPEN,
    PROBE_REPAIRED,
    RECOVERY,
    UNDONE,
    Acknowledgement,
    SackRecovery,
    is_dsack,
)
from tcpstack.core.timers import NEVER

MSS = 10
SECOND = 1_000_000_000
RTT = SECOND // 10
SSTHRESH = 5 * MSS


class Side:
    """A SackRecovery with SND.UNA and SND.NXT, and a controller that always wants half of ten segments."""

    def __init__(self, segments: int = 10) -> None:
        self.sack = SackRecovery(0)
        self.una = self.nxt = 0
        self.now = SECOND
        self.send(segments)
        self.now += RTT

    def send(self, segments: int) -> None:
        for _ in range(segments):
            self.sack.on_sent(self.nxt, self.nxt + MSS, self.now)
            self.nxt += MSS

    def hear(self, ack: int, *blocks: tuple[int, int], dsack: tuple[int, int] | None = None) -> int:
        said = Acknowledgement(ack, blocks, dsack)
        found = self.sack.on_ack(said, self.una, self.nxt, SSTHRESH, MSS, RTT, self.now)
        self.una = max(self.una, ack)
        if self.sack.state == OPEN and self.sack.lost_bytes:
            self.sack.begin(self.una, self.nxt, SSTHRESH, MSS)
        return found

    def resend(self) -> list[int]:
        """All that may go again, segment by segment."""
        gone = []
        while (lost := self.sack.next_lost()) is not None:
            room = self.sack.room_bytes(self.in_flight, SSTHRESH)
            if room < MSS and not self.sack.forced:
                break
            self.sack.on_resent(lost[0], min(lost[0] + MSS, lost[1]), self.now)
            gone.append(lost[0])
        return gone

    @property
    def in_flight(self) -> int:
        return self.sack.in_flight_bytes(self.una, self.nxt)


def test_open_new_text_acknowledged_means_nothing_more() -> None:
    side = Side()
    assert side.hear(30) == NOTHING
    assert (side.sack.active, side.in_flight, side.sack.delivered_bytes) == (False, 70, 30)


def test_open_three_segments_reported_begin_recovery_and_the_end_of_the_flight_ends_it() -> None:
    side = Side()
    assert side.hear(0, (10, 40)) == ENTERED
    assert (side.sack.state, side.sack.lost_bytes, side.in_flight) == (RECOVERY, 10, 60)
    assert side.resend() == [0]
    side.now += RTT
    side.send(2)
    assert side.hear(100) == RECOVERED
    assert (side.sack.state, side.in_flight) == (OPEN, 20)


def test_recovery_acknowledgement_of_less_than_all_goes_on() -> None:
    side = Side()
    side.hear(0, (10, 40))
    side.resend()
    side.now += RTT
    assert side.hear(99) == NOTHING
    assert side.sack.state == RECOVERY


def test_recovery_that_ends_where_another_loss_is_known_begins_anew() -> None:
    side = Side()
    side.hear(0, (10, 40))
    side.resend()
    side.now += RTT // 2
    side.send(5)
    side.now += RTT // 2
    assert side.hear(100, (110, 150)) == RECOVERED
    assert (side.sack.state, side.sack.next_lost()) == (RECOVERY, (100, 110))


def test_recovery_in_which_nothing_went_again_is_undone_by_its_end() -> None:
    """What was late came in the same turn as what overtook it."""
    side = Side()
    assert side.hear(0, (10, 40)) == ENTERED
    assert side.hear(100) == UNDONE
    probed = Side()
    probed.sack.on_resent(90, 100, probed.now)  # this may have mended it
    probed.sack.on_probe(100, resent=True)
    assert probed.hear(0, (10, 40)) == ENTERED
    assert probed.hear(100) == RECOVERED


def test_delivered_counts_each_octet_once() -> None:
    side = Side()
    side.hear(0, (20, 40), (30, 50))
    assert side.sack.delivered_bytes == 30
    side.hear(30, (20, 50))
    assert side.sack.delivered_bytes == 20
    assert side.sack.board.sacked_bytes == 20


def test_quiet_only_where_nothing_is_known_but_what_is_outstanding() -> None:
    side = Side()
    assert side.sack.quiet
    side.hear(0, (20, 30))
    assert not side.sack.quiet
    other = Side()
    other.sack.on_probe(other.nxt, resent=True)
    assert not other.sack.quiet
    lost = Side()
    lost.sack.resend_probe(0, 100)
    assert not lost.sack.quiet


def test_window_that_reopens_over_much_sends_all_of_it_again_and_ends_open() -> None:
    side = Side()
    side.sack.resend_probe(0, 100)
    assert side.sack.forced
    side.sack.on_resent(0, 10, side.now)
    side.now += RTT
    side.hear(10)
    assert side.in_flight >= 0
    while (lost := side.sack.next_lost()) is not None:
        side.sack.on_resent(*lost, side.now)
    side.now += RTT
    side.hear(100)
    assert (side.in_flight, side.sack.lost_bytes, side.sack.state) == (0, 0, OPEN)


def test_timeout_marks_the_first_and_what_is_late_and_not_what_has_just_left() -> None:
    side = Side()
    side.hear(10)
    side.now += RTT
    side.send(2)
    side.sack.on_timeout(side.una, side.nxt, RTT, side.now)
    assert (side.sack.state, side.sack.lost_bytes, side.sack.forced) == (LOSS, 90, True)


def test_timeout_twice_is_never_undone_by_what_the_first_one_sent() -> None:
    side = Side()
    side.sack.on_timeout(0, side.nxt, RTT, side.now)
    side.resend()
    side.now += 10 * RTT
    side.sack.on_timeout(0, side.nxt, RTT, side.now)
    side.resend()
    side.now += RTT
    assert side.hear(10) == NOTHING
    assert side.sack.state == LOSS


def test_timeout_that_meets_reneging_forgets_all_reports() -> None:
    side = Side()
    side.hear(0, (0, 50))
    side.sack.on_timeout(0, side.nxt, RTT, side.now + 5 * RTT)
    assert (side.sack.board.sacked_bytes, side.sack.lost_bytes) == (0, 100)


@pytest.mark.parametrize(
    ("ack", "dsack", "found"),
    [(110, None, PROBE_REPAIRED), (110, (90, 100), NOTHING), (100, (90, 100), NOTHING), (100, None, NOTHING)],
)
def test_probe_of_old_text_answered(ack: int, dsack: tuple[int, int] | None, found: int) -> None:
    """RFC 8985 7.4."""
    side = Side()
    side.sack.on_resent(90, 100, side.now)
    side.sack.on_probe(100, resent=True)
    side.send(1)
    side.now += RTT
    assert side.hear(ack, dsack=dsack) == found
    assert side.sack.probing == (ack == 100 and dsack is None)
    if side.sack.probing:
        assert side.hear(100) == NOTHING  # a duplicate without a block
        assert not side.sack.probing


def test_reports_of_all_that_went_again_undo_once_however_late() -> None:
    side = Side()
    side.hear(0, (10, 20), (30, 100))
    assert side.resend() == [0, 20]
    side.now += RTT
    assert side.hear(100) == RECOVERED
    assert [side.hear(100, dsack=dsack) for dsack in ((0, 10), (20, 30), (20, 30))] == [NOTHING, UNDONE, NOTHING]


@pytest.mark.parametrize(("reported", "forced"), [(90, True), (100, False)])
def test_window_that_reopens_forces_out_only_what_was_not_reported(reported: int, forced: bool) -> None:
    side = Side()
    side.hear(0, (0, reported))
    side.sack.resend_probe(0, 100)
    assert side.sack.forced == forced
    assert side.sack.next_lost() == ((90, 100) if forced else None)


@pytest.mark.parametrize("dsack", [(0, 5), (100, 200), (90, 110), (0, 200)])
def test_report_of_other_octets_undoes_nothing(dsack: tuple[int, int]) -> None:
    side = Side()
    side.hear(0, (10, 40))
    assert side.resend() == [0]
    side.now += RTT
    side.hear(100)
    assert side.hear(100, dsack=dsack) == NOTHING


def test_is_dsack_below_the_acknowledgement_or_within_the_second_block() -> None:
    assert is_dsack([(0, 10)], 10)
    assert not is_dsack([(0, 11)], 10)
    assert is_dsack([(20, 30), (20, 40)], 10)
    assert is_dsack([(30, 40), (20, 40)], 10)
    assert not is_dsack([(20, 40), (20, 30)], 10)
    assert not is_dsack([(20, 30)], 10)


octets = st.integers(-50, 400)
pairs = st.tuples(octets, octets)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 6)),
        st.tuples(st.just("wait"), st.sampled_from([1, RTT // 50, RTT // 4, RTT, 4 * RTT])),
        st.tuples(st.just("hear"), st.integers(-2, 60), st.lists(pairs, max_size=4), st.none() | pairs),
        st.tuples(st.just("timeout"),),
        st.tuples(st.just("detect"),),
        st.tuples(st.just("probe"), st.booleans()),
        st.tuples(st.just("resend"),),
        st.tuples(st.just("reopen"),),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(steps)
def test_whatever_is_reported_the_account_holds(script: list[tuple]) -> None:  # type: ignore[type-arg]
    side = Side(3)
    sack = side.sack
    for kind, *what in script:
        if kind == "send":
            side.send(what[0])
        elif kind == "wait":
            side.now += what[0]
        elif kind == "hear":
            ack = min(max(side.una + what[0], side.una), side.nxt)
            told = [(side.una + left, side.una + right) for left, right in what[1]]
            # As a connection filters them.
            blocks = [(max(left, ack), right) for left, right in told if left < right and ack < right <= side.nxt]
            dsack = None if what[2] is None or what[2][0] >= what[2][1] else what[2]
            side.hear(ack, *blocks, dsack=dsack)
        elif kind == "timeout" and side.una < side.nxt:
            sack.on_timeout(side.una, side.nxt, RTT, side.now)
        elif kind == "detect" and sack.detect_losses(MSS, RTT, side.now) and sack.state == OPEN:
            sack.delivered_bytes = 0
            sack.begin(side.una, side.nxt, SSTHRESH, MSS)
        elif kind == "probe" and sack.state == OPEN and side.una < side.nxt and not sack.board.sacked_bytes:
            if what[0]:
                sack.on_resent(max(side.nxt - MSS, side.una), side.nxt, side.now)
            sack.on_probe(side.nxt, resent=what[0])
        elif kind == "resend":
            side.resend()
        elif kind == "reopen" and side.una < side.nxt:
            sack.resend_probe(side.una, side.nxt)
        board = list(sack.board)
        assert 0 <= side.in_flight <= side.nxt - side.una
        assert sack.lost_bytes == sum(each.end - each.seq for each in board if each.lost)
        assert sack.board.sacked_bytes == sum(each.end - each.seq for each in board if each.sacked)
        assert not any(each.lost and each.sacked for each in board)
        assert (board[0].seq, board[-1].end) == (side.una, side.nxt) if board else side.una == side.nxt
        lost = sack.next_lost()
        assert lost is None or side.una <= lost[0] < lost[1] <= side.nxt
        assert sack.active or not sack.forced or sack.lost_bytes or not board
        assert sack.rack.deadline_ns == NEVER or sack.rack.deadline_ns > 0
