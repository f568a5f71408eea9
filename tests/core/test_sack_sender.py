"""A sender whose peer reports what has arrived: RACK-TLP (RFC 8985) with PRR (RFC 9937), with exact times."""

from __future__ import annotations

import pytest

from tcpstack.core.send.recovery import ENTERED, RECOVERED
from tcpstack.core.send.sack_recovery import OPEN, RECOVERY
from tests.core.lone_sender import MSS, ms
from tests.core.sack_bench import Reporting, Wire


def sent(segments: int, rtt_ms: float = 100, **options: object) -> Reporting:
    """So many segments have left in one flight, a round trip ago; nothing waits behind them."""
    it = Reporting(rtt_ms=rtt_ms, **options)
    assert it.put(segments) == list(range(segments))
    it.elapse(rtt_ms)
    return it


def grow(it: Reporting, segments: int) -> None:
    """Flights without a loss until the congestion window has so many segments."""
    while it.cwnd < segments:
        it.put(int(it.cwnd))
        it.elapse(100)
        it.report(it.nxt // MSS)


# -- RACK


def test_third_segment_reported_above_a_hole_sends_the_hole_again() -> None:
    it = sent(10)
    assert it.report(0, (1, 2)) == []
    assert it.report(0, (1, 3)) == []
    assert it.report(0, (1, 4)) == [0]
    assert (it.found, it.sack.state) == (ENTERED, RECOVERY)
    assert it.report(0, (1, 10)) == []
    it.elapse(100)
    assert it.report(10) == []
    assert (it.found, it.sack.state, it.cwnd) == (RECOVERED, OPEN, 5)
    assert it.sender.retransmitted == 1


def test_one_segment_reported_above_a_hole_sends_the_hole_again_when_the_reordering_window_is_over() -> None:
    it = sent(2)
    assert it.report(0, (1, 2)) == []
    assert it.elapse(60) == [(25, 0)]  # a quarter of the least round trip
    assert it.sack.state == RECOVERY


def test_several_holes_go_again_as_what_arrives_lets_them() -> None:
    it = sent(10)
    assert it.report(0, (1, 2), (3, 4), (5, 6)) == [0]
    assert it.sack.lost_bytes == 2 * MSS  # the second and third hole wait: five are in flight
    assert it.report(0, (1, 2), (3, 4), (5, 7)) == [2]
    assert it.report(0, (1, 2), (3, 4), (5, 8)) == [4]
    assert it.report(0, (1, 2), (3, 4), (5, 10)) == []
    it.elapse(100)
    assert it.report(2, (3, 4), (5, 10)) == []
    assert it.report(4, (5, 10)) == []
    assert it.report(10) == []
    assert (it.found, it.cwnd) == (RECOVERED, 5)
    assert it.sender.retransmitted == 3


def test_lost_retransmission_is_found_when_what_left_after_it_is_reported() -> None:
    it = sent(10)
    it.put(20)
    assert it.report(0, (1, 4)) == [0]
    new = it.report(0, (1, 10))
    assert new
    assert new[0] == 10
    it.elapse(100)
    # It left first of all that left then, and no reordering was seen.
    assert it.report(0, (1, new[0] + 1))[0] == 0
    assert it.sack.state == RECOVERY
    it.elapse(100)
    it.report(10 + len(new))
    assert it.found == RECOVERED


def test_reordering_within_its_window_sends_nothing_again() -> None:
    it = sent(10)
    assert it.report(0, (1, 3)) == []
    assert it.elapse(20) == []
    assert it.report(3) == []
    assert it.elapse(50) == []
    assert (it.sack.rack.reordering_seen, it.sack.state) == (True, OPEN)


def test_once_reordering_was_seen_three_segments_are_not_enough() -> None:
    it = sent(10)
    it.report(0, (1, 2))
    it.report(2)
    assert it.report(2, (3, 10)) == []
    assert it.elapse(24) == []
    assert it.report(10) == []
    assert (it.sender.retransmitted, it.sack.state) == (0, OPEN)
    assert it.cwnd >= 10


def test_once_reordering_was_seen_the_timer_finds_the_loss() -> None:
    it = sent(10)
    it.report(0, (1, 2))
    it.report(2)
    assert it.report(2, (3, 10)) == []
    assert it.elapse(50) == [(25, 2)]
    assert it.sack.state == RECOVERY
    assert it.ssthresh == 4  # half of the eight that are not acknowledged, whether reported or not


def test_reported_twice_the_reordering_window_grows_once_a_round_trip() -> None:
    it = sent(10)
    it.report(0, (1, 2))
    it.report(2, dsack=(0, 1))
    it.report(2, dsack=(0, 1))
    assert it.report(2, (3, 10)) == []
    assert it.elapse(60) == [(50, 2)]
    later = sent(10)
    later.report(0, (1, 2))
    later.report(2, dsack=(0, 1))
    later.report(4, dsack=(0, 1))  # the same round trip
    later.report(10)
    later.put(10)
    later.elapse(100)
    later.report(10, (11, 12), dsack=(0, 1))
    assert later.elapse(120) == [(75, 10)]


def test_reordering_timer_of_text_behind_a_recovery_outlives_it() -> None:
    it = sent(10)
    it.report(0, (1, 2))
    it.report(2)
    it.report(2, (3, 7))
    it.elapse(25)
    assert it.sack.state == RECOVERY
    it.put(3)
    for reported in (8, 9, 10):
        it.report(2, (3, reported))
    assert it.nxt == 13 * MSS
    it.elapse(100)
    it.report(10, (11, 12))  # all that was outstanding, and one of what left after it is late
    assert (it.found, it.sack.state) == (RECOVERED, OPEN)
    assert [segment for _, segment in it.elapse(60)] == [10]
    assert it.sack.state == RECOVERY


def test_retransmission_of_the_head_starts_the_retransmission_timer_anew() -> None:
    """The flight's second round trip ends after the timeout that ran from its first."""
    it = sent(10, rtt_ms=300)
    it.report(10)
    for _ in range(30):  # round trips that show how even they are
        it.put(10)
        it.elapse(300)
        it.report(it.nxt // MSS)
    assert it.sender.rtt.rto_ns < ms(510)
    una = it.una // MSS
    it.put(10)
    it.elapse(300)
    assert it.report(una, (una + 1, una + 10)) == [una]
    assert it.elapse(299) == []
    it.report(una + 10)
    assert it.found == RECOVERED


# -- limited transmit


def test_each_segment_reported_above_a_hole_lets_a_new_one_go_before_anything_counts_as_lost() -> None:
    """RFC 3042, with SACK as RFC 6675 5 (3.3) has it. A duplicate that tells nothing new earns none."""
    it = Reporting()
    it.put(100)
    assert it.in_flight == it.cwnd == 10
    it.elapse(50)
    assert it.report(0, (1, 2)) == [10]
    assert it.report(0, (1, 2)) == []
    assert it.report(0, (1, 3)) == [11]
    assert (it.sack.state, it.cwnd) == (OPEN, 10)
    it.report(0, (1, 4))
    assert (it.sack.state, it.ssthresh) == (RECOVERY, 5)  # RFC 5681 3.2: of the ten, not of the twelve


# -- PRR


def test_what_leaves_in_recovery_is_half_of_what_arrives() -> None:
    it = sent(10)
    it.report(10)
    it.put(20)
    it.elapse(100)
    it.report(30)
    it.put(200)
    assert it.in_flight == 40
    it.elapse(100)
    it.report(30, (31, 34))
    assert it.sack.state == RECOVERY
    assert it.ssthresh == 20
    most, left = 0, 1
    for reported in range(35, 71):
        leaves = it.report(30, (31, reported))
        most = max(most, len(leaves))
        left += len(leaves)
    assert most <= 2
    assert 17 <= left <= 21
    assert it.in_flight == 20
    it.elapse(100)
    it.report(70)
    assert (it.found, it.cwnd) == (RECOVERED, 20)


@pytest.mark.parametrize("lost", [1, 5, 20, 35, 39])
def test_after_many_losses_what_is_in_flight_comes_near_ssthresh_without_a_burst(lost: int) -> None:
    it = Wire()
    grow(it, 40)
    first = it.nxt // MSS
    it.receive(first)
    it.lost = {(first + n, 1) for n in range(lost)}
    it.launch(it.put(100))
    it.bursts.clear()
    it.run()
    assert it.una == it.nxt
    assert it.states == [OPEN, RECOVERY, OPEN]
    assert it.sender.retransmitted == lost
    assert it.ssthresh == 20
    assert max(it.bursts) <= 3
    assert it.most_in_recovery <= 40


# -- superpackets


def test_two_segments_lost_of_a_superpacket_go_again_and_nothing_else() -> None:
    it = Reporting(at_once=44)
    grow(it, 44)
    first = it.nxt // MSS
    chunks = len(it.log)
    assert it.put(44) == list(range(first, first + 44))
    assert len(it.log) - chunks == 1
    it.elapse(100)
    leaves = it.report(first + 3 - 1, (first + 3, first + 20 - 1), (first + 20, first + 44))
    leaves += it.report(first + 2, (first + 3, first + 19), (first + 20, first + 44))
    it.elapse(100)
    leaves += it.report(first + 19, (first + 20, first + 44))
    it.elapse(100)
    leaves += it.report(first + 44)
    assert leaves == [first + 2, first + 19]
    assert it.sender.retransmitted == 2


def test_lost_run_goes_again_as_one_superpacket_where_there_is_room() -> None:
    it = Reporting(at_once=44)
    grow(it, 44)
    first = it.nxt // MSS
    it.put(44)
    it.elapse(100)
    it.log.clear()
    it.report(first, (first + 20, first + 44))
    assert [chunk.size // MSS for _, chunk in it.log] == [it.sender.retransmitted]
    assert 2 <= it.sender.retransmitted <= 20
