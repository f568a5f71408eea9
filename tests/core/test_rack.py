"""RACK against the pseudocode of RFC 8985 6.2 (rack_pseudocode.py), segment by segment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.send.rack import MIN_RTT_WINDOW_NS, Rack
from tcpstack.core.send.scoreboard import Scoreboard, Sent
from tcpstack.core.timers import NEVER
from tests.core.rack_pseudocode import MSS, Pseudocode, Segment

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


class Pair:
    """The two side by side. Sequence numbers begin at 0."""

    def __init__(self) -> None:
        self.rfc = Pseudocode()
        self.rack = Rack(0)
        self.board = Scoreboard()
        self.una = 0
        self.nxt = 0
        self.now = 0

    def wait(self, time: int) -> None:
        self.now += time

    def send(self, segments: int) -> None:
        for _ in range(segments):
            self.board.on_sent(self.nxt, self.nxt + MSS, self.now)
            self.rfc.segments.append(Segment(self.nxt, self.now))
            self.nxt += MSS

    def resend(self, most: int) -> None:
        for segment in [each for each in self.rfc.segments if each.lost][:most]:
            self.board.on_resent(segment.seq, segment.end_seq, self.now)
            segment.lost, segment.retransmitted, segment.xmit_ts = False, True, self.now

    def hear(self, ack: int, blocks: list[tuple[int, int]], echo: int | None, flags: tuple[bool, bool, bool]) -> None:
        """`ack` segments more are acknowledged; each of the blocks is (segments above SND.UNA, how many).

        `flags`: with a D-SACK; at the end of a recovery; in recovery.
        """
        dsack, exiting, recovering = flags
        una = min(self.una + ack * MSS, self.nxt)
        news: list[Sent] = []
        acked: list[Segment] = []
        edges = [(self.una, una), *((una + MSS * skip, una + MSS * (skip + count)) for skip, count in blocks)]
        for left, right in edges:
            for segment in self.rfc.segments:
                if left <= segment.seq < right and not segment.acked and segment not in acked:
                    acked.append(segment)
                    news.append(Sent(segment.seq, segment.end_seq, segment.xmit_ts))
                    news[-1].resent = segment.retransmitted
        self.board.acknowledge(una)
        for left, right in edges[1:]:
            if left < self.nxt:
                self.board.sack(left, min(right, self.nxt))
        self.una = una
        echoed = None if echo is None else max(self.now - echo, 0)
        self.rfc.on_ack(acked, echoed, self.now)
        self.rfc.segments = [each for each in self.rfc.segments if each.seq >= una]
        for segment in acked:
            segment.lost = False
        self.rfc.on_dsack(una, self.nxt, dsack, exiting and not dsack)
        self.rack.on_delivered(news, echoed, self.now)
        self.rack.on_una(una)
        if dsack:
            self.rack.on_dsack(self.nxt)
        elif exiting:
            self.rack.on_recovered()
        self.detect(recovering)

    def detect(self, recovering: bool) -> None:
        rack, rfc = self.rack, self.rfc
        sacked = self.board.sacked_bytes // MSS
        reo_wnd = rack.reo_wnd_ns(recovering, sacked, 20)
        assert reo_wnd == rfc.reo_wnd(recovering, sacked, 20)
        before = self.board.lost_bytes
        timeout = rfc.detect_loss(reo_wnd, self.now)
        found = rack.detect_losses(self.board, reo_wnd, self.now)
        assert found == (self.board.lost_bytes > before)
        assert rack.deadline_ns == (self.now + timeout if timeout else NEVER)
        self.check()

    def check(self) -> None:
        rack, rfc = self.rack, self.rfc
        assert lost_of(self.board) == [each.seq for each in rfc.segments if each.lost]
        assert rack.rtt_ns == rfc.rtt
        assert rack.min_rtt_ns == rfc.min_rtt
        assert rack.reordering_seen == rfc.reordering_seen


def lost_of(board: Scoreboard) -> list[int]:
    return [seq for each in board if each.lost for seq in range(each.seq, each.end, MSS)]


hearing = st.tuples(
    st.just("hear"),
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 4)), max_size=3),
    st.one_of(st.none(), st.integers(0, 12)),
    st.tuples(*[st.sampled_from([False, False, True])] * 3),
)
script = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 6)),
        st.tuples(st.just("resend"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(1, 12)),
        st.tuples(st.just("detect"), st.booleans()),
        hearing,
        hearing,
    ),
    max_size=50,
)


@settings(deadline=None, max_examples=600)
@given(script)
def test_whatever_is_heard_losses_and_the_timer_are_those_of_the_rfc(steps: list[tuple[Any, ...]]) -> None:
    pair = Pair()
    for name, *values in steps:
        getattr(pair, name)(*values)


@settings(deadline=None, max_examples=200)
@given(script, st.integers(0, 30), st.integers(0, 30))
def test_timeout_loses_the_first_range_and_all_whose_time_is_up(
    steps: list[tuple[Any, ...]], reo_wnd: int, later: int
) -> None:
    """RFC 8985 6.3; a range of the board stands for its first segment."""
    pair = Pair()
    for name, *values in steps:
        getattr(pair, name)(*values)
    first = next(iter(pair.board), None)
    pair.now += later
    pair.rack.mark_losses_on_rto(pair.board, reo_wnd, pair.now)
    for segment in pair.rfc.segments:
        is_first = first is not None and first.seq <= segment.seq < first.end
        if not segment.acked and (is_first or segment.xmit_ts + pair.rfc.rtt + reo_wnd - pair.now <= 0):
            segment.lost = True
    pair.check()
    assert pair.rack.deadline_ns == NEVER


# -- step by step


def delivered(*edges: tuple[int, int, int], resent: bool = False) -> list[Sent]:
    """Ranges (seq, end, sent_ns) that have arrived."""
    news = [Sent(*each) for each in edges]
    for each in news:
        each.resent = resent
    return news


def test_what_was_sent_a_reordering_window_before_something_delivered_is_lost() -> None:
    rack, board = Rack(0), Scoreboard()
    for number in range(3):
        board.on_sent(number * 10, number * 10 + 10, number)
    rack.on_delivered(board.sack(20, 30), None, 100)
    assert not rack.detect_losses(board, 24, 100)
    assert rack.deadline_ns == 1 + 98 + 24  # the last of those that are late
    assert rack.detect_losses(board, 24, 122)
    assert lost_of(board) == [0]
    assert rack.detect_losses(board, 24, 123)
    assert lost_of(board) == [0, 10]
    assert rack.deadline_ns == NEVER


def test_nothing_is_lost_before_anything_was_delivered() -> None:
    rack, board = Rack(0), Scoreboard()
    board.on_sent(0, 10, 0)
    assert not rack.detect_losses(board, 0, SECOND_NS)
    assert rack.deadline_ns == NEVER


def test_part_of_a_flush_before_what_was_delivered_is_late_and_the_rest_is_not() -> None:
    rack, board = Rack(0), Scoreboard()
    board.on_sent(0, 100, 5)
    rack.on_delivered(board.sack(40, 50), None, 105)
    assert rack.detect_losses(board, 0, 105)
    assert lost_of(board) == [0, 10, 20, 30]


def test_lost_retransmission_is_lost_again() -> None:
    """What a count of duplicates does not find (RFC 8985 3.1)."""
    rack, board = Rack(0), Scoreboard()
    board.on_sent(0, 20, 0)
    rack.on_delivered(board.sack(10, 20), None, 100)
    rack.detect_losses(board, 0, 100)
    board.on_resent(0, 10, 100)
    assert not rack.detect_losses(board, 0, 150)
    board.on_sent(20, 30, 110)
    rack.on_delivered(board.sack(20, 30), None, 210)
    assert rack.detect_losses(board, 0, 210)
    assert lost_of(board) == [0]


def test_retransmission_answered_sooner_than_any_round_trip_tells_nothing() -> None:
    rack = Rack(0)
    rack.on_delivered(delivered((0, 10, 0)), None, 100)
    rack.on_delivered(delivered((10, 20, 150), resent=True), None, 249)
    assert rack.rtt_ns == 100
    rack.on_delivered(delivered((20, 30, 151), resent=True), None, 252)
    assert rack.rtt_ns == 101


@pytest.mark.parametrize(("echoed_ns", "rtt_ns"), [(149, 100), (150, 130), (None, 130)])
def test_retransmission_whose_original_was_echoed_tells_nothing(echoed_ns: int | None, rtt_ns: int) -> None:
    rack = Rack(0)
    rack.on_delivered(delivered((0, 10, 0)), None, 100)
    rack.on_delivered(delivered((10, 20, 150), resent=True), echoed_ns, 280)
    assert rack.rtt_ns == rtt_ns


def test_several_blocks_of_one_acknowledgement_are_no_reordering() -> None:
    """Acknowledgements got lost, and the latest block comes first: step 3 goes "in ascending order"."""
    rack = Rack(0)
    rack.on_delivered(delivered((50, 60, 5), (30, 40, 3), (10, 20, 1)), None, 100)
    assert not rack.reordering_seen


def test_original_that_arrives_after_what_was_sent_later_is_reordering() -> None:
    rack = Rack(0)
    rack.on_delivered(delivered((50, 60, 5)), None, 100)
    rack.on_delivered(delivered((30, 40, 3)), None, 101)
    assert rack.reordering_seen


def test_retransmission_that_arrives_after_what_was_sent_later_is_no_reordering() -> None:
    rack = Rack(0)
    rack.on_delivered(delivered((50, 60, 5)), None, 100)
    rack.on_delivered(delivered((30, 40, 200), resent=True), None, 300)
    assert not rack.reordering_seen


def test_original_that_the_echo_tells_of_is_reordering_though_it_was_sent_again() -> None:
    rack = Rack(0)
    rack.on_delivered(delivered((100, 200, 10)), None, 50)
    again = delivered((0, 100, 60), resent=True)
    rack.on_delivered(again, 60, 90)
    assert not rack.reordering_seen
    rack.on_delivered(again, 59, 90)
    assert rack.reordering_seen


def test_original_below_a_retransmission_that_tells_no_time_is_reordering() -> None:
    """Step 3 looks at each segment, also at those that step 2 passes over."""
    rack = Rack(0)
    rack.on_delivered(delivered((0, 10, 0)), None, 100)
    rack.on_delivered(delivered((50, 60, 150), resent=True), None, 160)
    rack.on_delivered(delivered((30, 40, 3)), None, 161)
    assert rack.reordering_seen


# -- the reordering window


def seen_reordering() -> Rack:
    rack = Rack(0)
    rack.on_delivered(delivered((50, 60, 0)), None, 400)
    rack.on_delivered(delivered((30, 40, 0)), None, 400)
    return rack


@pytest.mark.parametrize(
    ("recovering", "sacked_segments", "wnd_ns"), [(False, 2, 100), (False, 3, 0), (True, 0, 0)]
)
def test_window_closes_where_losses_are_sure_and_nothing_was_ever_reordered(
    recovering: bool, sacked_segments: int, wnd_ns: int
) -> None:
    rack = Rack(0)
    rack.on_delivered(delivered((50, 60, 0)), None, 400)
    assert rack.reo_wnd_ns(recovering, sacked_segments, 5000) == wnd_ns
    assert seen_reordering().reo_wnd_ns(recovering, sacked_segments, 5000) == 100


def test_window_grows_with_each_round_of_dsacks_up_to_srtt() -> None:
    rack = seen_reordering()
    for nxt in (1000, 1100, 1200):  # one round: the first that was sent after it ends it
        rack.on_dsack(nxt)
        rack.on_una(nxt - 200)
    assert rack.reo_wnd_ns(True, 0, 5000) == 200
    rack.on_una(1000)
    rack.on_dsack(1300)
    assert rack.reo_wnd_ns(True, 0, 5000) == 300
    assert rack.reo_wnd_ns(True, 0, 250) == 250


def test_window_is_as_at_first_after_sixteen_recoveries_without_a_dsack() -> None:
    rack = seen_reordering()
    rack.on_dsack(1000)
    for _ in range(15):
        rack.on_recovered()
    assert rack.reo_wnd_ns(True, 0, 5000) == 200
    rack.on_una(1000)
    rack.on_dsack(2000)
    for _ in range(15):
        rack.on_recovered()
    assert rack.reo_wnd_ns(True, 0, 5000) == 300
    rack.on_recovered()
    assert rack.reo_wnd_ns(True, 0, 5000) == 100


# -- RACK.min_RTT

samples = st.lists(st.tuples(st.integers(1, 200 * SECOND_NS), st.integers(1, 500)), min_size=1, max_size=40)


@given(samples, st.integers(0, 10 * MINUTE_NS))
def test_least_round_trip_is_of_the_last_minutes(steps: list[tuple[int, int]], began_ns: int) -> None:
    """Never more than the least of the last five minutes, and a sample of no more than ten (and a pause) ago."""
    rack = Rack(0)
    now_ns = began_ns + SECOND_NS
    seen: list[tuple[int, int]] = []
    for pause_ns, rtt_ns in steps:
        now_ns += pause_ns
        rack.on_delivered(delivered((0, 10, now_ns - rtt_ns)), None, now_ns)
        seen.append((now_ns, rtt_ns))
        assert rack.min_rtt_ns <= min(rtt for at, rtt in seen if now_ns - at <= MIN_RTT_WINDOW_NS)
        recent = [rtt for at, rtt in seen if now_ns - at <= 2 * MIN_RTT_WINDOW_NS + 200 * SECOND_NS]
        assert rack.min_rtt_ns in recent


def test_retransmissions_are_no_measure_of_the_least_round_trip() -> None:
    rack = Rack(0)
    rack.on_delivered(delivered((0, 10, 0)), None, 100)
    rack.on_delivered(delivered((10, 20, 90), resent=True), 90, 100)
    assert rack.min_rtt_ns == 100
