"""The timers of a sender whose peer reports what has arrived: tail loss probes (RFC 8985 7), timeouts with F-RTO (RFC
5682), and the undoing of what was for nothing. With exact times."""

from __future__ import annotations

import pytest

from tcpstack.core.send.recovery import NOTHING, RECOVERED
from tcpstack.core.send.sack_recovery import LOSS, OPEN, PROBE_REPAIRED, RECOVERY, UNDONE, Acknowledgement
from tests.core.lone_sender import FIRST, MSS, ms
from tests.core.sack_bench import Reporting, Wire
from tests.core.test_sack_sender import sent

# -- tail loss probes


@pytest.mark.parametrize("lost", range(1, 6))
def test_tail_of_a_flight_lost_is_recovered_without_a_timeout(lost: int) -> None:
    it = Wire()
    it.lost = {(9 - n, 1) for n in range(lost)}
    begun_ns = it.now_ns
    it.launch(it.put(10))
    it.run()
    assert LOSS not in it.states
    assert it.una == 10 * MSS
    assert it.sender.retransmitted == lost
    # A round trip until the last acknowledgement, two until the probe (three with a single segment), one for that one,
    # a quarter for reordering, and one or two for the others.
    assert (it.now_ns - begun_ns) / ms(100) <= 7.1


def test_tail_of_six_and_more_lost_is_recovered_without_a_timeout() -> None:
    for lost in range(6, 11):
        it = Wire()
        it.lost = {(9 - n, 1) for n in range(lost)}
        it.launch(it.put(10))
        it.run()
        assert LOSS not in it.states, lost
        assert it.sender.retransmitted == lost


def test_probe_goes_two_round_trips_after_the_last_text() -> None:
    it = Reporting()
    it.put(4)
    assert it.elapse(250) == [(200, 3)]
    assert "tail loss probe" in it.last.reason
    assert it.sender.retransmitted == 1


def test_probe_of_a_single_segment_waits_for_a_delayed_acknowledgement() -> None:
    it = Reporting(rto_min_ns=ms(600))
    it.put(1)
    assert it.elapse(450) == [(400, 0)]
    assert "tail loss probe" in it.last.reason


def test_probe_that_would_come_after_the_timeout_comes_in_its_place() -> None:
    """RFC 8985 7.2: PTO is at most what is left of RTO."""
    it = Reporting()
    it.put(1)
    assert it.elapse(1) == []
    assert it.elapse(299) == [(299, 0)]
    assert "tail loss probe" in it.last.reason
    assert (it.sack.state, it.cwnd) == (OPEN, 10)
    it.elapse(299)
    assert it.sack.state == OPEN
    it.elapse(1)
    assert it.sack.state == LOSS


def test_probe_sends_new_text_if_there_is_some() -> None:
    it = Reporting()
    it.put(15)
    assert it.nxt == 10 * MSS
    assert it.elapse(250) == [(200, 10)]
    assert ("tail loss probe" in it.last.reason, it.sender.retransmitted) == (True, 0)


def test_probe_sends_the_last_segment_where_the_window_is_full() -> None:
    it = Reporting(wnd=4 * MSS)
    it.put(15)
    assert it.elapse(250) == [(200, 3)]


def test_probe_goes_once_and_then_the_timeout() -> None:
    it = Reporting()
    it.put(4)
    assert it.elapse(200) == [(200, 3)]
    assert it.elapse(299) == []
    assert it.elapse(1) == [(1, 0)]
    assert it.sack.state == LOSS


def test_probe_that_repaired_a_loss_lowers_the_congestion_window() -> None:
    it = sent(10)
    it.report(9)
    it.elapse(200)
    it.elapse(100)
    it.report(10)  # what it says: the original, or the probe?
    assert it.found == NOTHING
    it.put(2)
    it.elapse(100)
    it.report(12)
    assert (it.found, it.ssthresh) == (PROBE_REPAIRED, 2)
    assert it.cwnd == 2
    assert not it.sack.probing


@pytest.mark.parametrize("how", ["D-SACK", "D-SACK with later text", "duplicate"])
def test_probe_that_was_not_needed_lowers_nothing(how: str) -> None:
    it = sent(10)
    it.report(9)
    it.elapse(200)
    cwnd = it.cwnd
    it.report(10)
    if how == "D-SACK with later text":
        it.put(2)
        it.elapse(100)
        it.report(12, dsack=(9, 10))
    else:
        it.report(10, dsack=(9, 10) if how == "D-SACK" else None)
        assert not it.sack.probing
        it.put(2)
        it.elapse(100)
        it.report(12)
    assert it.found == NOTHING
    assert it.cwnd >= cwnd


def test_probe_of_new_text_lowers_nothing() -> None:
    it = Reporting()
    it.put(11)
    assert it.elapse(200) == [(200, 10)]
    it.report(11)
    assert (it.found, it.sack.probing) == (NOTHING, False)
    assert it.cwnd == 21


def test_no_probe_while_something_above_a_hole_is_reported() -> None:
    it = sent(4)
    it.sack.rack.min_rtt_ns = ms(4000)  # so that what is late waits for longer than the probe
    it.sender.rtt.srtt_ns = ms(100)
    it.elapse(90)
    it.report(0, (3, 4))
    assert it.elapse(40) == []


def test_no_probe_beyond_a_window_that_was_shrunk() -> None:
    it = sent(4)
    it.sender.set_window(2 * MSS, it.sender.wl1, it.sender.una)
    assert [segment for _, segment in it.elapse(150)] == []


def test_probe_carries_the_fin_if_it_is_the_tail() -> None:
    it = Reporting()
    it.put(3, fin=True)
    assert it.elapse(200) == [(200, 2)]
    assert it.last.fin
    assert it.last.seq + it.last.size + 1 == it.sender.nxt


# -- the retransmission timer


def test_timeout_takes_all_that_is_late_as_lost_and_slow_starts() -> None:
    it = sent(10)
    it.report(0, (4, 5))
    it.elapse(25)  # recovery begins, and everything is lost from now on
    it.elapse(400)
    assert it.sack.state == LOSS
    assert it.cwnd == 1
    assert it.sack.lost_bytes == 8 * MSS  # the first is under way again, and one has arrived
    it.elapse(50)
    leaves = it.report(1, (4, 5))
    assert leaves == [1, 2]
    assert it.cwnd == 2
    leaves = it.report(3, (4, 5))
    assert leaves == [3, 5, 6, 7]  # what was reported does not go again


def test_what_was_reported_before_a_timeout_opens_no_window_when_the_hole_below_it_is_filled() -> None:
    it = sent(10)
    assert it.report(0, (1, 5), (6, 10)) == [0, 5]
    it.elapse(500)
    assert (it.sack.state, it.cwnd) == (LOSS, 1)
    it.put(50)
    assert it.report(5, (6, 10)) == [5, 10]  # of five segments one is news
    assert it.cwnd == 2
    it.report(10)
    assert (it.found, it.cwnd) == (RECOVERED, 3)


def test_acknowledgement_that_ends_what_a_timeout_began_is_part_of_slow_start() -> None:
    it = sent(1)
    it.elapse(1000)
    assert (it.sack.state, it.cwnd) == (LOSS, 1)
    it.report(1)
    assert (it.found, it.cwnd) == (RECOVERED, 2)


def test_head_that_was_reported_and_is_not_acknowledged_has_been_dropped() -> None:
    """RFC 2018 8: reneging."""
    it = sent(4)
    it.report(0, (0, 3))
    it.elapse(1000)
    assert it.sack.state == LOSS
    assert it.log[-1][1].seq == it.sender.una
    assert it.sack.board.sacked_bytes == 0
    for ack in range(1, 5):
        it.elapse(50)
        it.report(ack)
    assert it.una == 4 * MSS


def test_everything_reported_and_nothing_acknowledged_goes_again_by_the_timer() -> None:
    it = sent(4)
    assert it.report(0, (0, 4)) == []
    assert 0 in [segment for _, segment in it.elapse(1000)]


def test_text_that_a_second_timeout_meets_is_lost_again() -> None:
    it = sent(4)
    it.elapse(5000)
    assert it.sack.state == LOSS
    assert it.sender.rtt.backoff >= 3
    assert it.report(4) == []
    assert it.sack.state == OPEN


# -- F-RTO (RFC 5682)


def timed_out(segments: int, waiting: int) -> Reporting:
    """A flight is unanswered for so long that the timer has gone off: the first segment has left again."""
    it = Reporting()
    it.put(segments + waiting)
    it.elapse(200)
    assert "tail loss probe" in it.last.reason
    it.log.clear()
    it.elapse(300)
    assert it.sack.state == LOSS
    assert [chunk.seq for _, chunk in it.log] == [it.sender.una]
    return it


def test_timeout_was_none_where_the_second_acknowledgement_is_of_what_left_once() -> None:
    it = timed_out(10, 20)
    behind = it.nxt // MSS
    assert it.report(1) == [behind, behind + 1]  # step 2b: new text
    leaves = it.report(2)
    assert (it.found, it.sack.state) == (UNDONE, OPEN)
    assert it.cwnd == 10
    assert min(leaves, default=behind) >= behind
    for ack in range(3, behind + 3):
        assert min(it.report(ack), default=behind) >= behind
    assert it.sender.retransmitted == 1


def test_timeout_was_none_where_the_first_acknowledgement_is_of_more_than_went_again() -> None:
    it = timed_out(10, 20)
    it.report(3)
    assert (it.found, it.cwnd) == (UNDONE, 10)


def test_timeout_was_one_where_the_second_acknowledgement_brings_nothing_new() -> None:
    it = timed_out(10, 20)
    behind = it.nxt // MSS
    assert it.report(1) == [behind, behind + 1]
    leaves = it.report(1, (behind, behind + 1))
    assert (it.sack.state, leaves[:1]) == (LOSS, [1])
    assert it.found == NOTHING


def test_timeout_without_new_text_to_find_out_with_goes_on_with_what_is_lost() -> None:
    it = Reporting()
    it.put(10)
    it.elapse(500)
    assert it.sack.state == LOSS
    assert it.report(1) == [1, 2]
    assert it.report(3) == [3, 4, 5, 6]


def test_timeout_of_what_had_gone_again_before_is_not_in_doubt() -> None:
    it = sent(4)
    it.put(6)
    assert it.report(0, (1, 4)) == [0]
    it.elapse(1000)
    assert it.sack.state == LOSS
    it.report(4)
    assert it.found != UNDONE


# -- undoing


def test_reported_twice_what_went_again_for_nothing_restores_the_window() -> None:
    it = sent(10)
    it.put(20)
    it.report(0, (1, 4))
    it.report(4)
    assert it.sack.state == RECOVERY
    it.elapse(100)
    it.report(6, dsack=(0, 1))
    assert (it.found, it.sack.state) == (UNDONE, OPEN)
    assert it.cwnd >= 10


def test_reported_twice_after_the_recovery_restores_the_window_as_well() -> None:
    """The D-SACK of a retransmission comes behind the acknowledgement of all that was outstanding when it left."""
    it = sent(10)
    it.report(0, (1, 4))
    it.report(10)
    assert (it.found, it.cwnd) == (RECOVERED, 5)
    it.put(5)
    it.elapse(100)
    it.report(10, dsack=(0, 1))
    assert (it.found, it.cwnd) == (UNDONE, 10)
    it.report(10, dsack=(0, 1))
    assert it.found == NOTHING


def test_of_two_that_went_again_one_reported_twice_restores_nothing() -> None:
    it = sent(10)
    assert it.report(0, (1, 2), (3, 5)) == [0]
    assert it.report(0, (1, 2), (3, 10)) == [2]
    it.elapse(100)
    it.report(10, dsack=(0, 1))
    assert (it.found, it.cwnd) == (RECOVERED, 5)
    it.put(1)
    it.report(10, dsack=(20, 30))  # not of that recovery
    assert it.found == NOTHING


def test_timestamp_of_the_original_restores_the_window() -> None:
    it = sent(10)
    it.put(20)
    it.report(0, (1, 4))
    it.elapse(5)
    it.report(4, echoed_ms=105)
    assert (it.found, it.cwnd) == (UNDONE, 10)
    other = sent(10)
    other.put(20)
    other.report(0, (1, 4))
    other.elapse(100)
    other.report(4, echoed_ms=100)
    assert other.sack.state == RECOVERY


# -- the window


def test_closed_window_is_probed_and_what_it_held_back_leaves_once_when_it_opens() -> None:
    it = Reporting(wnd=2 * MSS, nagle=False)
    it.put(4)
    it.elapse(100)
    it.sender.on_report(Acknowledgement(FIRST + 2 * MSS), it.now_ns)
    it.sender.set_window(0, it.sender.wl1, it.sender.una)
    it.transmit()
    it.log.clear()
    sender = it.sender
    for _ in range(3):
        it.now_ns = sender.deadline_ns
        sender.on_timer(it.now_ns)
        it.transmit()
    assert {chunk.size for _, chunk in it.log} == {1}
    assert len({chunk.seq for _, chunk in it.log}) == 1
    it.log.clear()
    sender.set_window(2 * MSS, sender.wl1, sender.una)
    it.transmit()
    assert it.sack.state == OPEN
    assert it.nxt == 4 * MSS
    it.report(4)
    assert it.una == 4 * MSS
    assert sender.in_flight_bytes == 0
