"""The retransmission and the persist timer: go-back-N, Karn, R2, probes (RFC 9293 3.8.1, 3.8.3, 3.8.6.1)."""

from __future__ import annotations

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.send.sender import REASON_PROBE, RETRANSMIT, Sender
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
    sender.mss = MSS
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


# -- zero-window probes


def closed(*, rtt_ms: float = 100, queued: int = 5 * MSS, fin: bool = False, **config: int) -> LoneSender:
    """A sender that has two segments acknowledged, a closed window, and `queued` octets to send."""
    it = LoneSender(wnd=2 * MSS, rtt_ms=rtt_ms, **config)
    it.write(2 * MSS + queued, fin)
    assert it.nxt == 2 * MSS
    assert it.ack(2 * MSS, wnd=0, after_ms=rtt_ms) == []
    return it


@pytest.mark.rfc9293("MUST-36", "SHLD-29", "SHLD-30")
def test_closed_window_is_probed_after_an_rto_and_then_less_and_less_often() -> None:
    it = closed(persist_max_ns=5 * SECOND_NS)
    rto_ms = it.sender.rtt.rto_ns / MILLISECOND_NS
    assert [it.timeout_after_ms() for _ in range(7)] == [rto_ms * n for n in (1, 2, 4, 8, 16)] + [5000, 5000]
    assert {(c.seq - FIRST, c.size, c.reason) for at, c in it.log[2:]} == {(2 * MSS, 1, REASON_PROBE)}
    assert it.sender.retransmitted == 6  # all but the first


@pytest.mark.rfc9293("MUST-36")
def test_probe_that_is_taken_moves_on_to_the_next_octet() -> None:
    it = closed()
    assert it.timeout() == [(2 * MSS, 1, False)]
    assert it.ack(2 * MSS + 1, wnd=0, after_ms=10) == []
    assert it.timeout() == [(2 * MSS + 1, 1, False)]
    assert it.ack(2 * MSS + 2, wnd=3 * MSS, after_ms=10)[0] == (2 * MSS + 2, MSS, False)


def test_probe_that_found_no_room_goes_again_with_its_segment_when_the_window_opens() -> None:
    it = closed()
    it.timeout()
    it.ack(2 * MSS, wnd=0, after_ms=10)
    sent = it.ack(2 * MSS, wnd=3 * MSS, after_ms=10)
    assert sent[:2] == [(2 * MSS, 1, False), (2 * MSS + 1, MSS, False)]


def test_window_that_opens_after_probes_starts_the_retransmission_timer_afresh() -> None:
    """The persist timer may be a minute ahead: what is sent now must not wait for that if it is lost."""
    it = closed()
    for _ in range(8):
        it.timeout()
        it.ack(2 * MSS, wnd=0, after_ms=10)
    assert it.timer_in_ms is not None
    assert it.timer_in_ms > 10_000
    it.ack(2 * MSS, wnd=3 * MSS, after_ms=10)
    assert it.timer_in_ms == it.sender.rtt.rto_ns / MILLISECOND_NS


def test_window_that_opens_before_the_first_probe_starts_the_retransmission_timer_afresh() -> None:
    """Else the persist timer would go off as a spurious retransmission timeout, and take the congestion window."""
    it = closed()
    rto_ms = it.timer_in_ms
    assert rto_ms is not None
    cwnd = it.sender.congestion.cwnd_bytes
    it.ack(2 * MSS, wnd=3 * MSS, after_ms=rto_ms - 1)
    assert it.timer_in_ms == rto_ms
    it.ack(5 * MSS, after_ms=100)
    assert it.sender.congestion.cwnd_bytes >= cwnd
    assert it.sender.retransmitted == 0


def test_window_that_opens_in_the_turn_of_the_probe_gets_whole_segments() -> None:
    it = closed()
    it.wait(it.timer_in_ms or 0)
    it.sender.on_timer(it.now_ns)
    it.hear(2 * MSS, wnd=2 * MSS)
    assert it.transmit() == [(2 * MSS, MSS, False), (3 * MSS, MSS, False)]


def test_window_that_closes_and_opens_before_any_probe_sends_nothing_again() -> None:
    it = LoneSender(wnd=4 * MSS)
    it.write(4 * MSS)
    timer_ns = it.sender.timer_ns
    it.ack(0, wnd=0, after_ms=10)
    assert it.ack(0, wnd=4 * MSS, after_ms=10) == []
    assert it.sender.timer_ns == timer_ns


def test_window_that_opens_a_crack_before_any_probe_waits_for_the_override() -> None:
    it = closed()
    assert it.ack(2 * MSS, wnd=100, after_ms=100) == []
    assert it.timer_in_ms == 200


def test_fast_retransmit_into_a_closed_window_sends_an_octet() -> None:
    it = LoneSender(wnd=4 * MSS)
    it.write(4 * MSS)
    it.hear(0, wnd=0)
    assert [it.ack(0) for _ in range(3)][-1] == [(0, 1, False)]


def test_after_probes_losses_are_noticed_again_and_the_next_probes_begin_anew() -> None:
    it = closed(queued=20 * MSS)
    rto_ms = it.timer_in_ms
    for n in range(4):
        it.timeout()
        it.ack(2 * MSS + n + 1, wnd=0, after_ms=10)
    una = it.una
    it.ack(una, wnd=8 * MSS, after_ms=10)
    assert [it.ack(una, after_ms=1) for _ in range(3)][-1] == [(una, MSS, False)]
    it.ack(it.nxt, wnd=0, after_ms=10)
    assert it.timer_in_ms == rto_ms


@pytest.mark.rfc9293("MUST-18")
def test_octet_that_went_again_as_a_probe_gives_no_sample() -> None:
    it = LoneSender(wnd=4 * MSS)
    srtt = it.sender.rtt.srtt_ns
    it.write(4 * MSS)
    it.hear(0, wnd=0)
    it.timeout()
    it.ack(4 * MSS, wnd=0, after_ms=1)
    assert it.sender.rtt.srtt_ns == srtt


def test_answers_to_probes_are_no_duplicate_acknowledgements() -> None:
    it = closed()
    for _ in range(6):
        it.timeout()
        assert it.ack(2 * MSS, wnd=0, after_ms=10) == []
    assert not it.sender.recovery.active
    assert it.sender.congestion.cwnd_bytes >= 10 * MSS
    assert it.sender.congestion.ssthresh_bytes > 1 << 30


@pytest.mark.rfc9293("MUST-35", "MUST-36")
def test_window_that_closes_in_the_midst_of_go_back_n_is_probed() -> None:
    it = LoneSender(wnd=10 * MSS)
    it.write(10 * MSS)
    it.timeout()
    assert it.ack(MSS, wnd=0, after_ms=10) == []
    for _ in range(3):
        assert it.timeout() == [(MSS, 1, False)]
        assert it.last.reason == REASON_PROBE
        it.ack(MSS, wnd=0, after_ms=10)
    assert it.ack(MSS, wnd=9 * MSS, after_ms=10)[0] == (MSS, MSS, False)


@pytest.mark.rfc9293("MUST-35", "MUST-36")
def test_window_that_shrinks_to_nothing_under_outstanding_text_is_probed() -> None:
    it = LoneSender(wnd=4 * MSS)
    it.write(4 * MSS)
    it.hear(0, wnd=0)
    assert it.timeout() == [(0, 1, False)]
    assert it.sender.congestion.cwnd_bytes == 10 * MSS  # a full buffer is no congestion
    assert it.ack(0, wnd=4 * MSS, after_ms=10)[0] == (0, MSS, False)


@pytest.mark.rfc9293("MUST-36")
def test_fin_is_a_probe_where_no_text_is_left() -> None:
    it = closed(queued=0, fin=True)
    assert it.timeout() == [(2 * MSS, 0, True)]
    it.ack(2 * MSS, wnd=0, after_ms=10)
    assert it.timeout() == [(2 * MSS, 0, True)]
    it.ack(2 * MSS + 1, wnd=0, after_ms=10)
    assert it.sender.fin_acknowledged
    assert it.timer_in_ms is None


def test_fin_probe_that_found_no_room_goes_again_when_the_window_opens() -> None:
    it = closed(queued=0, fin=True)
    it.timeout()
    assert it.ack(2 * MSS, wnd=1, after_ms=10) == [(2 * MSS, 0, True)]


def test_fin_behind_the_last_octet_is_probed_octet_first() -> None:
    it = closed(queued=1, fin=True)
    assert it.timeout() == [(2 * MSS, 1, False)]
    assert it.last.psh
    assert it.timeout() == [(2 * MSS, 1, False)]
    assert it.last.psh  # MUST-61, the second time too
    it.ack(2 * MSS + 1, wnd=0, after_ms=10)
    assert it.timeout() == [(2 * MSS + 1, 0, True)]


@pytest.mark.rfc9293("MUST-37")
@pytest.mark.parametrize("r2_s", [1, 10, 300])
def test_peer_that_answers_probes_may_keep_its_window_closed_for_ever(r2_s: int) -> None:
    it = closed(r2_ns=r2_s * SECOND_NS)
    for _ in range(100):
        it.timeout()
        it.ack(2 * MSS, wnd=0, after_ms=10)
    assert it.now_ns > START_NS + 90 * min(r2_s, 60) * SECOND_NS
    assert it.ack(2 * MSS, wnd=2 * MSS, after_ms=10)


@pytest.mark.rfc9293("MUST-37")
def test_peer_that_takes_probes_octet_by_octet_may_keep_its_window_closed_for_ever() -> None:
    it = closed(r2_ns=2 * SECOND_NS)
    for n in range(40):
        it.timeout()
        it.ack(2 * MSS + n + 1, wnd=0, after_ms=10)


@pytest.mark.rfc9293("MUST-20")
def test_peer_that_answers_no_probe_is_given_up_r2_after_the_first_of_them() -> None:
    it = closed(r2_ns=10 * SECOND_NS)
    it.timeout()
    it.ack(2 * MSS, wnd=0, after_ms=10)
    it.timeout()
    first_unanswered = it.now_ns
    it.wait_until_given_up()
    assert it.now_ns == first_unanswered + 10 * SECOND_NS


def test_r2_counts_anew_when_the_window_has_opened() -> None:
    it = closed(r2_ns=10 * SECOND_NS)
    for _ in range(20):
        it.timeout()
        it.ack(2 * MSS, wnd=0, after_ms=10)
    it.ack(2 * MSS, wnd=2 * MSS, after_ms=10)
    opened = it.now_ns
    it.wait_until_given_up()
    assert it.now_ns == opened + 10 * SECOND_NS


def test_nothing_to_say_needs_no_probe() -> None:
    it = LoneSender(wnd=2 * MSS)
    it.write(2 * MSS)
    it.ack(2 * MSS, wnd=0, after_ms=10)
    assert it.timer_in_ms is None


def test_window_that_opens_a_crack_waits_for_the_override_and_not_for_the_next_probe() -> None:
    it = closed()
    for _ in range(8):
        it.timeout()
        it.ack(2 * MSS + len(it.log) - 2, wnd=0, after_ms=10)
    una = it.una
    assert it.ack(una, wnd=100, after_ms=10) == []
    assert it.timer_in_ms == 200
    assert it.timeout() == [(una, 100, False)]
