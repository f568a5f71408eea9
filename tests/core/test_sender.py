"""When text leaves: Nagle, silly windows, the three limits, PSH and FIN (RFC 9293 3.7.4, 3.8.6.2.1, 3.9.1.2)."""

from __future__ import annotations

import pytest

from tcpstack.core.config import Config
from tcpstack.core.send.chunk import (
    REASON_DATA,
    REASON_DATA_FIN,
    REASON_FIN,
    REASON_LAST_DATA,
    REASON_OVERRIDE,
)
from tcpstack.core.send.sender import Sender
from tests.core.lone_sender import ISS, MSS, LoneSender

# -- Nagle, with Minshall's variation


@pytest.mark.rfc9293("SHLD-7")
def test_small_text_leaves_at_once_where_nothing_is_outstanding() -> None:
    assert LoneSender().write(1) == [(0, 1, False)]


@pytest.mark.rfc9293("SHLD-7")
def test_small_text_waits_for_the_small_segment_before_it_and_then_leaves_whole() -> None:
    it = LoneSender()
    it.write(10)
    assert it.write(10) == []
    assert it.write(10) == []
    assert it.ack(10, after_ms=50) == [(10, 20, False)]


@pytest.mark.rfc9293("SHLD-7", "SHLD-28")
def test_full_segment_leaves_while_a_small_one_is_outstanding_but_its_rest_waits() -> None:
    it = LoneSender()
    it.write(10)
    assert it.write(MSS + 300) == [(10, MSS, False)]
    assert it.ack(10) == [(10 + MSS, 300, False)]  # full segments outstanding hold nothing back


def test_small_text_behind_full_segments_leaves_at_once() -> None:
    """Minshall (RFC 9293 A.3): else the tail of a response waits for a delayed acknowledgement."""
    assert LoneSender().write(2 * MSS + 5) == [(0, MSS, False), (MSS, MSS, False), (2 * MSS, 5, False)]


def test_partial_acknowledgement_of_a_small_segment_still_holds_the_next_back() -> None:
    it = LoneSender()
    it.write(10)
    it.write(7)
    assert it.ack(9) == []
    assert it.ack(10) == [(10, 7, False)]


@pytest.mark.rfc9293("MUST-17")
def test_nodelay_sends_each_write_at_once() -> None:
    it = LoneSender(nagle=False)
    assert [it.write(1) for _ in range(3)] == [[(n, 1, False)] for n in range(3)]


@pytest.mark.rfc9293("MUST-17")
def test_nodelay_switched_on_releases_what_waited() -> None:
    it = LoneSender()
    it.write(1)
    it.write(1)
    it.sender.nodelay = True
    assert it.transmit() == [(1, 1, False)]


# -- silly windows


@pytest.mark.rfc9293("MUST-38", "SHLD-28")
def test_rule_1_full_segments_leave_and_a_sliver_of_window_does_not() -> None:
    it = LoneSender(wnd=2 * MSS + 400)
    assert it.write(5 * MSS) == [(0, MSS, False), (MSS, MSS, False)]
    assert it.ack(MSS, wnd=MSS + 999, after_ms=10) == []  # usable: 999
    assert it.ack(MSS, wnd=2 * MSS, after_ms=10) == [(2 * MSS, MSS, False)]


@pytest.mark.rfc9293("MUST-38")
def test_rule_2_all_that_is_queued_leaves_where_it_fits() -> None:
    it = LoneSender(wnd=400)
    assert it.write(400) == [(0, 400, False)]


@pytest.mark.rfc9293("MUST-38")
def test_rule_2_does_not_send_part_of_what_is_queued() -> None:
    it = LoneSender(wnd=1 << 20)
    it.hear(0, wnd=400)
    assert it.write(401) == []


@pytest.mark.rfc9293("MUST-38")
@pytest.mark.parametrize(("window", "sent"), [(799, []), (800, [(0, 800, False)]), (999, [(0, 999, False)])])
def test_rule_3_half_of_the_largest_window_leaves_where_all_is_acknowledged(
    window: int, sent: list[tuple[int, int, bool]]
) -> None:
    it = LoneSender(wnd=1600)
    it.hear(0, wnd=window)
    assert it.write(3 * MSS) == sent


@pytest.mark.rfc9293("MUST-38")
def test_rule_3_waits_while_something_is_outstanding() -> None:
    it = LoneSender(wnd=1600)
    assert it.write(3 * MSS) == [(0, MSS, False)]
    assert it.ack(500, wnd=1300, after_ms=10) == []  # usable: 800, but 500 are outstanding
    assert it.ack(MSS, wnd=800, after_ms=10) == [(MSS, 800, False)]


@pytest.mark.rfc9293("MUST-38")
def test_rule_4_the_override_timeout_sends_what_the_window_takes() -> None:
    it = LoneSender(wnd=1 << 20)
    it.hear(0, wnd=300)
    assert it.write(3 * MSS) == []
    assert it.timer_in_ms == 200
    assert it.timeout() == [(0, 300, False)]
    assert it.last.reason == REASON_OVERRIDE
    # That segment's own timer is the retransmission timer: 100 + max(4 * 50, 200) ms.
    assert it.timer_in_ms == 300


@pytest.mark.rfc9293("MUST-38")
def test_override_timeout_never_sends_more_than_a_segment() -> None:
    it = LoneSender(wnd=1 << 20)
    it.hear(0, wnd=300)
    it.write(3 * MSS)
    it.wait(150)
    assert it.ack(0, wnd=5000) == [(0, MSS, False), (MSS, MSS, False), (2 * MSS, MSS, False)]
    assert it.timer_in_ms == 300  # the override timer did not stay on as a retransmission timer


def test_window_of_a_tiny_peer_never_stalls_for_the_override() -> None:
    it = LoneSender(wnd=300)
    it.write(1200)
    sent = 300
    while sent < 1200:
        assert it.ack(sent, wnd=300, after_ms=5) == [(sent, 300, False)]
        sent += 300


# -- a cork


def test_corked_text_leaves_in_whole_segments_and_the_rest_when_the_cork_is_drawn() -> None:
    it = LoneSender(nagle=False)
    it.sender.corked = True
    assert it.write(300) == []
    assert it.write(900) == [(0, MSS, False)]
    it.sender.corked = False
    assert it.transmit() == [(MSS, 200, False)]


@pytest.mark.rfc9293("MUST-60")
def test_corked_text_is_not_kept_for_longer_than_the_override_timeout() -> None:
    it = LoneSender()
    it.sender.corked = True
    it.write(300)
    it.wait(150)
    it.write(300)
    assert it.timer_in_ms == 50
    assert it.timeout() == [(0, 600, False)]
    assert it.ack(600, after_ms=100) == []
    it.write(1)
    assert it.timer_in_ms == 200


def test_cork_holds_neither_a_fin_nor_what_goes_with_it() -> None:
    it = LoneSender()
    it.sender.corked = True
    assert it.write(300, fin=True) == [(0, 300, True)]


# -- the limits


@pytest.mark.rfc9293("MUST-19")
def test_congestion_window_bounds_what_leaves_and_acknowledgements_open_it() -> None:
    it = LoneSender()
    assert len(it.write(100 * MSS)) == 10
    assert it.ack(2 * MSS, after_ms=50) == [((10 + n) * MSS, MSS, False) for n in range(4)]
    assert it.sender.in_flight_bytes == 12 * MSS == it.sender.congestion.cwnd_bytes


def test_burst_of_half_the_window_lets_it_grow_with_each_of_its_acknowledgements() -> None:
    """RFC 7661 4.2: what the path bore counts, not what is left of it when the last acknowledgement comes."""
    it = LoneSender()
    control = it.sender.congestion
    it.write(6 * MSS)
    for count in (1, 2, 3):
        it.ack(count * MSS, after_ms=50)
    assert control.cwnd_bytes == 12 * MSS  # 12 is twice 6: the burst no longer says anything of a window above
    it.ack(6 * MSS, after_ms=50)
    it.write(2 * MSS)  # the next one says nothing at all
    it.ack(8 * MSS, after_ms=50)
    assert control.cwnd_bytes == 12 * MSS


def test_lost_syn_starts_with_one_segment_and_three_seconds() -> None:
    """RFC 5681 3.1, RFC 6298 5.7."""
    it = LoneSender(retransmitted=True)
    assert it.write(100 * MSS) == [(0, MSS, False)]
    assert it.timer_in_ms == 3000


def test_rest_of_the_congestion_window_is_not_filled_with_a_sliver() -> None:
    it = LoneSender(mss=1400)  # RFC 6928: ten segments of 1400
    it.sender.congestion.cwnd_bytes = 3000
    assert it.write(14000) == [(0, 1400, False), (1400, 1400, False)]


def test_send_buffer_bounds_what_is_outstanding() -> None:
    it = LoneSender(send_buffer_bytes=3 * MSS + 500)
    assert len(it.write(100 * MSS)) == 3
    assert it.ack(MSS, after_ms=10) == [(3 * MSS, MSS, False)]
    assert it.nxt - it.una <= 3 * MSS + 500


def test_send_buffer_smaller_than_a_segment_still_sends_segment_by_segment() -> None:
    it = LoneSender(send_buffer_bytes=100)
    assert it.write(3 * MSS) == [(0, MSS, False)]
    assert it.ack(MSS, after_ms=10) == [(MSS, MSS, False)]


@pytest.mark.rfc9293("MUST-34", "SHLD-15")
def test_window_that_shrinks_under_what_is_outstanding_sends_nothing_new() -> None:
    it = LoneSender(wnd=8 * MSS)
    it.write(20 * MSS)
    assert it.nxt == 8 * MSS
    assert it.ack(MSS, wnd=2 * MSS, after_ms=10) == []
    assert it.ack(3 * MSS, wnd=4 * MSS, after_ms=10) == []
    assert it.ack(8 * MSS, wnd=2 * MSS, after_ms=10) == [(8 * MSS, MSS, False), (9 * MSS, MSS, False)]


def test_pure_window_update_sends_at_once() -> None:
    it = LoneSender(wnd=2 * MSS)
    it.write(4 * MSS)
    it.ack(2 * MSS, wnd=0, after_ms=10)
    assert it.ack(2 * MSS, wnd=2 * MSS, after_ms=10) == [(2 * MSS, MSS, False), (3 * MSS, MSS, False)]


# -- PSH


@pytest.mark.rfc9293("MUST-61")
def test_psh_is_on_the_last_of_what_is_queued_and_only_there() -> None:
    it = LoneSender()
    it.write(2 * MSS + 5)
    assert [chunk.psh for _, chunk in it.log] == [False, False, True]
    assert [chunk.reason for _, chunk in it.log] == [REASON_DATA, REASON_DATA, REASON_LAST_DATA]


@pytest.mark.rfc9293("MUST-61")
def test_psh_goes_again_with_the_last_octets_and_not_with_others() -> None:
    it = LoneSender()
    it.write(2 * MSS)
    assert it.timeout() == [(0, MSS, False)]
    assert not it.last.psh
    assert it.ack(MSS, after_ms=10) == [(MSS, MSS, False)]
    assert it.last.psh


@pytest.mark.rfc9293("MUST-60")
def test_nothing_queued_waits_for_ever_however_the_windows_move() -> None:
    for window in (0, 1, 499, 500, 999, 1000, 5000):
        it = LoneSender(wnd=1000)
        it.hear(0, wnd=window)
        it.write(1500)
        assert it.timer_in_ms is not None


# -- FIN


def test_fin_goes_with_the_last_text() -> None:
    it = LoneSender()
    assert it.write(MSS + 5, fin=True) == [(0, MSS, False), (MSS, 5, True)]
    assert it.last.reason == REASON_DATA_FIN
    assert it.nxt == MSS + 6
    assert not it.sender.fin_acknowledged
    it.ack(MSS + 5, after_ms=10)
    assert not it.sender.fin_acknowledged
    it.ack(MSS + 6)
    assert it.sender.fin_acknowledged
    assert it.timer_in_ms is None


def test_fin_takes_small_text_along_past_nagle() -> None:
    it = LoneSender()
    it.write(10)
    it.write(10)
    assert it.write(0, fin=True) == [(10, 10, True)]


def test_fin_of_a_full_segment_goes_with_it() -> None:
    assert LoneSender().write(MSS, fin=True) == [(0, MSS, True)]


def test_fin_alone_leaves_at_once_whatever_is_outstanding_or_the_congestion_window_says() -> None:
    it = LoneSender()
    it.write(10 * MSS)
    assert it.write(0, fin=True) == [(10 * MSS, 0, True)]
    assert it.last.reason == REASON_FIN
    assert not it.last.psh


def test_fin_waits_where_the_text_fills_the_window() -> None:
    it = LoneSender(wnd=MSS)
    assert it.write(MSS, fin=True) == [(0, MSS, False)]
    assert it.ack(MSS, wnd=MSS, after_ms=10) == [(MSS, 0, True)]


def test_nothing_follows_the_fin() -> None:
    it = LoneSender()
    it.write(5, fin=True)
    assert it.transmit() == []
    assert it.ack(6, after_ms=10) == []
    assert it.sender.unsent_bytes == 0


def test_fin_is_sent_again_with_the_text_before_it() -> None:
    it = LoneSender()
    it.write(5, fin=True)
    assert it.timeout() == [(0, 5, True)]
    it.ack(5, after_ms=10)
    assert it.timeout() == [(5, 0, True)]


# -- what the user sees


def test_text_queued_before_the_handshake_is_unsent() -> None:
    sender = Sender(ISS, Config())
    sender.buffer.append(b"early")
    assert sender.unsent_bytes == 5
    sender.on_syn_sent(0)
    assert sender.unsent_bytes == 5


def test_unsent_counts_what_has_not_left_once() -> None:
    it = LoneSender(wnd=2 * MSS)
    assert it.sender.unsent_bytes == 0
    it.write(5 * MSS)
    assert it.sender.unsent_bytes == 3 * MSS
    it.timeout()
    assert it.sender.unsent_bytes == 3 * MSS  # sent again is not sent for the first time
