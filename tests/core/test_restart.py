"""How much leaves after a pause (RFC 5681 4.1): no more than the restart window, which is the initial one."""

from __future__ import annotations

import pytest

from tests.core.lone_sender import MSS, LoneSender, ms
from tests.core.sack_bench import Reporting
from tests.core.test_recovery import segments

RW = 10


def grown(segments_of_cwnd: int = 40, **options: object) -> LoneSender:
    """A sender that has sent and had acknowledged until its congestion window is so wide; nothing is outstanding."""
    it = LoneSender(**options)
    cwnd_bytes = segments_of_cwnd * MSS
    while it.sender.congestion.cwnd_bytes < cwnd_bytes:
        it.write(it.sender.congestion.cwnd_bytes)
        it.ack(it.nxt, after_ms=100)
    it.sender.congestion.cwnd_bytes = cwnd_bytes
    return it


def rto_ms(it: LoneSender) -> float:
    return it.sender.rtt.rto_ns / ms(1)


def pause(it: LoneSender, since_last_sent_ms: float) -> None:
    """Until so long after the last segment."""
    it.now_ns = it.log[-1][0] + ms(since_last_sent_ms)


def burst(it: LoneSender) -> int:
    """How many segments leave where there is no end to them."""
    return sum(-(-size // MSS) for _, size, _ in it.write(200 * MSS))


def test_after_more_than_an_rto_without_text_the_initial_window_leaves() -> None:
    it = grown()
    pause(it, rto_ms(it) + 0.001)
    assert burst(it) == RW
    assert it.sender.congestion.cwnd_bytes == RW * MSS


def test_after_an_rto_and_no_more_the_window_is_as_it_was() -> None:
    it = grown()
    pause(it, rto_ms(it))
    assert burst(it) == 40


def test_it_counts_from_the_last_segment_that_left_and_not_from_its_acknowledgement() -> None:
    it = grown()
    it.write(10 * MSS)
    it.ack(it.nxt, after_ms=200)
    it.sender.rtt.rto_ns = ms(250)
    it.wait(51)
    assert burst(it) == RW


def test_a_smaller_window_is_not_raised_and_ssthresh_stays() -> None:
    it = grown()
    it.sender.congestion.cwnd_bytes = 4 * MSS
    it.sender.congestion.ssthresh_bytes = 30 * MSS
    pause(it, 60_000)
    assert burst(it) == 4
    assert it.sender.congestion.ssthresh_bytes == 30 * MSS


def test_slow_start_leads_back_to_ssthresh() -> None:
    it = grown()
    it.sender.congestion.ssthresh_bytes = 30 * MSS
    pause(it, 60_000)
    first = it.nxt
    it.write(200 * MSS)
    assert len(it.ack(first + 10 * MSS, after_ms=100)) == 20
    assert len(it.ack(first + 30 * MSS, after_ms=100)) == 30


def test_switched_off_the_window_outlives_any_pause() -> None:
    it = grown(slow_start_after_idle=False)
    pause(it, 60_000)
    assert burst(it) == 40


def test_text_that_trickles_more_often_than_the_rto_is_no_pause() -> None:
    it = grown()
    for _ in range(20):
        pause(it, rto_ms(it) - 1)
        it.write(100)
        it.ack(it.nxt, after_ms=1)
    assert burst(it) == 40


def test_nothing_restarts_while_text_is_outstanding() -> None:
    """Its acknowledgements pace what leaves."""
    it = grown()
    first = it.nxt
    it.write(100)
    it.ack(first + 50, after_ms=150)
    it.sender.rtt.rto_ns = ms(100)
    assert burst(it) == 39


def test_retransmission_is_text_that_leaves() -> None:
    it = grown()
    it.write(3 * MSS)
    it.timeout()
    it.sender.congestion.cwnd_bytes = 40 * MSS
    it.sender.rtt.rto_ns = ms(300)
    it.ack(it.nxt, after_ms=200)
    assert burst(it) == 40


def test_tail_probe_is_text_that_leaves() -> None:
    it = Reporting(rtt_ms=250)
    it.put(10)
    it.elapse(250)
    it.report(10)
    it.put(10)
    it.elapse(250)
    it.report(18)
    assert it.elapse(600) == [(500, 19)]
    it.sender.congestion.cwnd_bytes = 40 * MSS
    it.report(20)
    it.sender.rtt.rto_ns = ms(200)  # the probe left 100 ms ago, what it probes 850
    assert len(it.put(100)) == 40


# -- windows that were closed


def closed(queued: int = 100 * MSS) -> LoneSender:
    """cwnd of 40 segments, a closed window, and so much to send."""
    it = grown()
    it.write(40 * MSS + queued)
    assert it.ack(it.nxt, wnd=0, after_ms=100) == []
    return it


def test_window_that_opens_soon_lets_the_congestion_window_go() -> None:
    it = closed()
    assert len(it.ack(it.nxt, wnd=1 << 20, after_ms=50)) == 80  # slow start has doubled it


@pytest.mark.parametrize("probes", [1, 2, 5])
@pytest.mark.parametrize("taken", [True, False], ids=["octet taken", "octet dropped"])
def test_window_that_was_closed_for_longer_than_an_rto_opens_onto_the_restart_window(probes: int, taken: bool) -> None:
    it = closed()
    for _ in range(probes):
        it.timeout()
        it.ack(it.nxt if taken else it.una, wnd=0, after_ms=10)
    sent = it.ack(it.una, wnd=1 << 20, after_ms=10)
    assert sum(size for _, size, _ in sent) <= RW * MSS
    assert len(sent) >= RW - 1


def test_what_the_override_timeout_forces_out_ends_a_pause_too() -> None:
    it = grown(wnd=100 * MSS, swnd_override_ns=ms(600))
    it.write(100)
    it.ack(it.nxt, wnd=MSS // 2, after_ms=100)
    assert it.write(200 * MSS) == []  # silly
    assert it.timeout() == [(it.una, MSS // 2, False)]
    sent = it.ack(it.nxt, wnd=100 * MSS, after_ms=100)
    assert len(sent) == RW


# -- once


def test_pause_is_over_with_the_first_segment() -> None:
    it = grown()
    pause(it, 60_000)
    it.write(MSS)
    it.sender.congestion.cwnd_bytes = 20 * MSS
    it.ack(it.nxt, after_ms=100)
    assert it.write(200 * MSS) == segments(*range(it.una // MSS, it.una // MSS + 20))
