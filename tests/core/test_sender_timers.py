"""The retransmission timer: go-back-N, Karn, R2, the handshake's (RFC 9293 3.8.1, 3.8.3; RFC 6298)."""

from __future__ import annotations

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.send.sender import RETRANSMIT, Sender
from tcpstack.core.timers import NEVER
from tests.core.lone_sender import FIRST, ISS, MSS, START_NS, LoneSender, ms

# -- the retransmission timer


def test_timer_starts_with_the_first_segment_and_stops_with_the_last_acknowledgement() -> None:
    it = LoneSender()
    assert it.timer_in_ms is None
    it.write(2 * MSS)
    assert it.timer_in_ms == 300
    it.wait(100)
    it.write(MSS)
    assert it.timer_in_ms == 200  # RFC 6298 5.1: runs already
    it.ack(MSS, after_ms=50)
    assert it.timer_in_ms == it.sender.rtt.rto_ns / MILLISECOND_NS  # 5.3
    it.ack(3 * MSS)
    assert it.timer_in_ms is None  # 5.2


@pytest.mark.rfc9293("MUST-18", "MUST-19")
def test_timeout_goes_back_to_the_first_and_on_in_order_as_acknowledgements_allow() -> None:
    it = LoneSender()
    it.write(6 * MSS)
    assert it.timeout() == [(0, MSS, False)]
    assert it.sender.congestion.cwnd_bytes == MSS
    assert it.ack(MSS, after_ms=10) == [(MSS, MSS, False), (2 * MSS, MSS, False)]  # slow start
    assert it.ack(2 * MSS, after_ms=10) == [(3 * MSS, MSS, False), (4 * MSS, MSS, False)]
    assert it.sender.retransmitted == 5
    assert it.ack(6 * MSS, after_ms=10) == []  # the rest had arrived the first time
    assert it.nxt == it.una == 6 * MSS


def test_timeout_sends_nothing_new_before_the_old_is_sent_again() -> None:
    it = LoneSender(wnd=6 * MSS)
    it.write(20 * MSS)
    it.timeout()
    assert it.ack(MSS, after_ms=10) == [(MSS, MSS, False), (2 * MSS, MSS, False)]
    assert it.ack(6 * MSS, after_ms=10)[0] == (6 * MSS, MSS, False)


@pytest.mark.rfc9293("MUST-19")
def test_timeouts_back_off() -> None:
    it = LoneSender()
    it.write(MSS)
    assert [it.timeout_after_ms() for _ in range(5)] == [300, 600, 1200, 2400, 4800]


def test_second_timeout_of_a_segment_holds_ssthresh_and_a_new_segments_first_does_not() -> None:
    it = LoneSender()
    it.write(10 * MSS)
    it.timeout()
    assert it.sender.congestion.ssthresh_bytes == 5 * MSS
    it.timeout()
    it.timeout()
    assert it.sender.congestion.ssthresh_bytes == 5 * MSS
    it.ack(4 * MSS, after_ms=10)
    it.timeout()
    assert it.sender.congestion.ssthresh_bytes == 3 * MSS  # six outstanding


@pytest.mark.rfc9293("MUST-18")
def test_acknowledgement_of_what_was_sent_twice_gives_no_sample() -> None:
    it = LoneSender()
    srtt = it.sender.rtt.srtt_ns
    it.write(MSS)
    it.timeout()
    it.ack(MSS, after_ms=1)
    assert it.sender.rtt.srtt_ns == srtt


@pytest.mark.rfc9293("MUST-18")
def test_acknowledgement_that_a_hole_held_up_gives_no_sample() -> None:
    it = LoneSender()
    srtt = it.sender.rtt.srtt_ns
    it.write(6 * MSS)
    it.wait(50)
    for _ in range(3):
        it.ack(0)  # the first is lost; it goes again
    it.ack(6 * MSS, after_ms=100)
    assert it.sender.rtt.srtt_ns == srtt


@pytest.mark.rfc9293("MUST-18", "MUST-19")
def test_path_whose_round_trip_outgrew_the_timeout_is_measured_again() -> None:
    """Karn's algorithm is two rules: no sample of what was sent twice, and the backed-off timeout is kept until there
    is one. Without the second, each segment of a path that became slow would be sent twice for ever."""
    it = LoneSender(rtt_ms=10)
    for n in range(3):  # the path now takes a second
        it.write(MSS)
        left_ns = it.now_ns
        while it.sender.timer_ns <= left_ns + SECOND_NS:
            it.timeout()
        it.now_ns = left_ns + SECOND_NS
        it.ack((n + 1) * MSS)
    assert it.sender.rtt.srtt_ns > ms(100)
    assert it.sender.retransmitted == 3  # at 210 and 630 ms and 1,470 ms: only the first segment's


def test_one_round_trip_at_a_time_is_measured() -> None:
    it = LoneSender()
    it.write(2 * MSS)
    it.ack(MSS, after_ms=100)
    assert it.sender.rtt.rttvar_ns == ms(37.5)
    it.ack(2 * MSS, after_ms=150)
    assert it.sender.rtt.rttvar_ns == ms(37.5)  # the second segment was not being timed


@pytest.mark.rfc9293("MUST-20", "MUST-21", "SHLD-11")
def test_r2_is_kept_exactly() -> None:
    it = LoneSender(r2_ns=7 * SECOND_NS)
    it.write(MSS)
    first = it.now_ns
    it.wait_until_given_up()
    assert it.now_ns == first + 7 * SECOND_NS
    assert [(at - first) // MILLISECOND_NS for at, _ in it.log] == [0, 300, 900, 2100, 4500]


def test_r2_counts_from_the_last_progress() -> None:
    it = LoneSender(r2_ns=2 * SECOND_NS)
    it.write(2 * MSS)
    it.timeout()
    it.ack(MSS, after_ms=100)
    progress = it.now_ns
    it.wait_until_given_up()
    assert it.now_ns == progress + 2 * SECOND_NS


def test_r2_counts_from_when_text_leaves_and_not_from_an_idle_time_before() -> None:
    it = LoneSender(r2_ns=2 * SECOND_NS)
    it.wait(100_000)
    it.write(MSS)
    first = it.now_ns
    it.wait_until_given_up()
    assert it.now_ns == first + 2 * SECOND_NS


@pytest.mark.rfc9293("MUST-35", "SHLD-16")
def test_window_shrunk_under_a_segment_sends_again_what_lies_within_it() -> None:
    it = LoneSender(wnd=4 * MSS)
    it.write(4 * MSS)
    it.hear(0, wnd=1300)
    assert it.timeout() == [(0, MSS, False)]
    assert it.ack(MSS, wnd=300, after_ms=10) == [(MSS, 300, False)]
    assert it.ack(MSS + 300, wnd=2 * MSS, after_ms=10)[0] == (MSS + 300, MSS, False)


# -- the handshake's


@pytest.mark.rfc9293("MUST-23")
def test_syn_goes_again_with_doubling_intervals_for_exactly_three_minutes() -> None:
    sender = Sender(ISS, Config())
    sender.on_syn_sent(START_NS)
    times = []
    while sender.on_timer(now := sender.timer_ns) == RETRANSMIT:
        times.append((now - START_NS) // SECOND_NS)
        sender.on_syn_sent(now)
    assert times == [1, 3, 7, 15, 31, 63, 127]
    assert now - START_NS == 180 * SECOND_NS


@pytest.mark.rfc9293("MUST-18")
def test_syn_that_left_twice_for_a_simultaneous_open_is_not_measured() -> None:
    sender = Sender(ISS, Config())
    sender.on_syn_sent(START_NS)
    sender.on_syn_sent(START_NS + ms(900))  # the SYN,ACK that answers the peer's SYN
    sender.establish(1000, 1, FIRST, False, START_NS + ms(1000))
    assert (sender.rtt.srtt_ns, sender.rtt.rto_ns) == (0, SECOND_NS)
    assert sender.timer_ns == NEVER


def test_timeouts_of_the_syn_do_not_count_for_the_text_that_follows() -> None:
    it = LoneSender()
    it.sender = sender = Sender(ISS, Config())
    sender.mss = sender.chunk_bytes = MSS
    sender.on_syn_sent(it.now_ns)
    it.timeout()
    sender.on_syn_sent(it.now_ns)
    sender.establish(1 << 20, 1, FIRST, True, it.now_ns)
    assert it.timer_in_ms is None
    it.write(MSS)
    it.timeout()
    assert sender.rtt.backoff == 1
    assert sender.congestion.ssthresh_bytes == 2 * MSS  # the first for its segment: half of what is in flight, or two


@pytest.mark.rfc9293("SHLD-29")
def test_text_that_waited_for_the_handshake_and_meets_a_closed_window_is_probed_an_rto_later() -> None:
    it = LoneSender()
    it.sender = sender = Sender(ISS, Config())
    sender.buffer.append(b"early")
    sender.on_syn_sent(it.now_ns)
    it.wait(100)
    sender.establish(0, 1, FIRST, False, it.now_ns)
    assert it.transmit() == []
    assert it.timer_in_ms == 300
    assert it.timeout() == [(0, 1, False)]
