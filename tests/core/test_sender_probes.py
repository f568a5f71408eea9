"""The persist timer and its probes, and what happens when the window opens again (RFC 9293 3.8.6.1)."""

from __future__ import annotations

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS
from tcpstack.core.send.chunk import REASON_PROBE
from tests.core.lone_sender import FIRST, MSS, START_NS, LoneSender


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
