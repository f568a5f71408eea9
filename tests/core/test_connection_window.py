"""Flow control: closed and silly windows on both sides, probes, updates, and no deadlock (RFC 9293 3.8.6)."""

from __future__ import annotations

import itertools

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.segment import ACK, FIN, Options, Segment
from tests.scripted import IRS, ISS, MS, SECOND, Scripted

MSS = 1460
HOUR = 3600 * SECOND
SMALL = Config(receive_buffer_bytes=8 * MSS)


def established(wnd: int, config: Config | None = None) -> tuple[Scripted, Connection]:
    host = Scripted()
    return host, host.established(wnd=wnd, options=Options(mss=MSS), config=config)


def ack(host: Scripted, octets: int, wnd: int) -> Segment:
    return host.segment(ACK, IRS + 1, ISS + 1 + octets, wnd=wnd)


def placed(segments: list[Segment]) -> list[tuple[int, int]]:
    """(offset in our text, size) of each."""
    return [(s.seq - ISS - 1, s.payload_len) for s in segments]


# ------------------------------------------------------------------ the peer's window is closed


@pytest.mark.rfc9293("MUST-36", "SHLD-29", "SHLD-30")
def test_established_zero_window_is_probed_after_the_rto_then_at_doubled_intervals_up_to_a_minute() -> None:
    host, connection = established(wnd=0)
    start = host.now_ns
    assert host.send(connection, b"waits") == []
    for _ in range(400):
        sent = host.wait(1 * SECOND)
        if sent:
            assert placed(sent)[0] == (0, 1)
            host.hear(ack(host, 0, wnd=0))
    gaps = [b.time_ns - a.time_ns for a, b in zip(host.sent, host.sent[1:], strict=False)]
    assert 200 * MS <= host.sent[0].time_ns - start <= 300 * MS
    assert all(1.9 < later / earlier < 2.1 for earlier, later in itertools.pairwise(gaps) if later < 60 * SECOND)
    assert max(gaps) == 60 * SECOND
    assert connection.state == st.ESTABLISHED


@pytest.mark.rfc9293("MUST-37", "MAY-8")
def test_established_zero_window_probes_answered_for_an_hour_the_connection_stays_open() -> None:
    host, connection = established(wnd=0, config=Config(r2_ns=10 * SECOND))
    host.send(connection, b"patience")
    start = host.now_ns
    while host.now_ns - start < HOUR:
        for _ in host.wait(1 * SECOND):
            host.hear(ack(host, 0, wnd=0))
    assert connection.state == st.ESTABLISHED
    assert connection.error is None
    [rest] = host.hear(ack(host, 0, wnd=1000))
    assert rest.text() == b"patience"[: rest.payload_len]


def test_established_zero_window_probes_unanswered_end_after_r2() -> None:
    host, connection = established(wnd=0, config=Config(r2_ns=100 * SECOND))
    host.send(connection, b"anyone?")
    first = host.now_ns
    while not host.sent:
        host.wait(1 * MS)
    first = host.sent[0].time_ns
    host.wait_until(first + 100 * SECOND - 1)
    assert connection.state == st.ESTABLISHED
    host.wait_until(first + 100 * SECOND + 61 * SECOND)
    assert isinstance(connection.error, TimeoutError)
    assert host.stack.deadline_ns is None


def test_established_probes_answered_then_unanswered_end_after_r2_from_the_last_answer() -> None:
    host, connection = established(wnd=0, config=Config(r2_ns=200 * SECOND, persist_max_ns=10 * SECOND))
    host.send(connection, b"x")
    start = host.now_ns
    while host.now_ns - start < 1000 * SECOND:
        for _ in host.wait(1 * SECOND):
            host.hear(ack(host, 0, wnd=0))
    host.wait(190 * SECOND)
    assert connection.state == st.ESTABLISHED
    host.wait(30 * SECOND)
    assert isinstance(connection.error, TimeoutError)


def test_established_pure_window_update_reopens_the_sender_in_the_same_turn() -> None:
    host, connection = established(wnd=0)
    host.send(connection, bytes(3 * MSS))
    assert placed(host.hear(ack(host, 0, wnd=3 * MSS))) == [(0, MSS), (MSS, MSS), (2 * MSS, MSS)]


def test_established_pure_window_update_after_probes_reopens_the_sender_in_the_same_turn() -> None:
    """The probe octet was dropped by the peer: it goes again first, and the rest with it."""
    host, connection = established(wnd=0)
    host.send(connection, bytes(3 * MSS))
    host.wait(5 * SECOND)
    sent = host.hear(ack(host, 0, wnd=4 * MSS))
    assert placed(sent) == [(0, 1), (1, MSS), (1 + MSS, MSS)]
    # What is left is less than a segment, and the octet outstanding is a small segment: Nagle's algorithm.
    assert placed(host.hear(ack(host, 1, wnd=4 * MSS))) == [(1 + 2 * MSS, MSS - 1)]


def test_established_probe_octet_taken_by_the_peer_the_rest_follows_the_update() -> None:
    host, connection = established(wnd=0)
    host.send(connection, bytes(3 * MSS))
    host.wait(1 * SECOND)
    assert host.hear(ack(host, 1, wnd=0)) == []
    assert placed(host.hear(ack(host, 1, wnd=4 * MSS)))[:2] == [(1, MSS), (1 + MSS, MSS)]


def test_established_window_closed_in_mid_flight_and_reopened_goes_on() -> None:
    host, connection = established(wnd=4 * MSS)
    host.send(connection, bytes(8 * MSS))
    assert host.hear(ack(host, 4 * MSS, wnd=0)) == []
    assert placed(host.hear(ack(host, 4 * MSS, wnd=2 * MSS))) == [(4 * MSS, MSS), (5 * MSS, MSS)]


def test_established_fin_behind_a_closed_window_is_used_as_the_probe() -> None:
    host, connection = established(wnd=0)
    host.stack.shutdown(connection, host.now_ns)
    assert host.sent == []
    [probe] = host.wait(400 * MS)
    assert (probe.flags & FIN, probe.seq, probe.payload_len) == (FIN, ISS + 1, 0)
    host.hear(ack(host, 0, wnd=0))
    [again] = host.hear(ack(host, 0, wnd=100))
    assert again.flags & FIN
    host.hear(ack(host, 1, wnd=100))
    assert connection.state == st.FIN_WAIT_2


@pytest.mark.rfc9293("MUST-34", "SHLD-15")
def test_established_window_shrunk_below_what_is_in_flight_sends_nothing_new_and_recovers() -> None:
    host, connection = established(wnd=10 * MSS)
    host.send(connection, bytes(20 * MSS))
    assert host.hear(ack(host, MSS, wnd=2 * MSS)) == []
    sent = host.wait(3 * SECOND)
    assert sent
    assert max(offset + size for offset, size in placed(sent)) <= 3 * MSS
    assert host.hear(ack(host, 10 * MSS, wnd=20 * MSS)) != []


@pytest.mark.rfc9293("MUST-35", "SHLD-17")
def test_established_window_shrunk_to_zero_with_lost_text_in_flight_is_probed() -> None:
    """A timeout has marked all as lost; the window closes before it is sent again. The update may be lost, too."""
    host, connection = established(wnd=10 * MSS)
    host.send(connection, bytes(10 * MSS))
    host.wait(300 * MS)
    host.hear(ack(host, MSS, wnd=0))
    host.sent.clear()
    start = host.now_ns
    while host.now_ns - start < HOUR:
        for _ in host.wait(1 * SECOND):
            host.hear(ack(host, MSS, wnd=0))
    assert 60 <= len(host.sent) <= 80
    assert {s.segment.payload_len for s in host.sent} == {1}
    sent = host.hear(ack(host, MSS, wnd=10 * MSS))
    assert placed(sent)[0] == (MSS, MSS)


def test_established_window_field_of_an_old_segment_is_not_believed() -> None:
    """SND.WL1 and SND.WL2 (RFC 9293 3.10.7.4, fifth)."""
    host, connection = established(wnd=5000)
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"abc"))
    host.hear(host.segment(ACK, IRS + 4, ISS + 1, wnd=9000))
    assert connection.status()["snd_wnd"] == 9000
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=10, text=b"abcdef"))  # older by its number, though in the window
    assert connection.status()["snd_wnd"] == 9000
    host.hear(host.segment(ACK, IRS + 7, ISS + 1, wnd=8000))
    assert connection.status()["snd_wnd"] == 8000


def test_established_window_of_a_new_acknowledgement_counts_though_its_sequence_number_is_old() -> None:
    """The peer retransmits, and acknowledges with it. By SND.WL1 its window would not count; SND.UNA moves all the
    same, and with it the edge up to which we send: beyond what the peer ever offered."""
    host, connection = established(wnd=4 * MSS)
    host.send(connection, bytes(20 * MSS))
    host.hear(host.segment(ACK, IRS + 101, ISS + 1, wnd=4 * MSS))  # 100 octets before this one are lost
    sent = host.hear(host.segment(ACK, IRS + 1, ISS + 1 + 2 * MSS, wnd=2 * MSS, text=bytes(100)))
    assert connection.status()["snd_wnd"] == 2 * MSS
    assert [s.payload_len for s in sent if s.payload_len] == []


# ------------------------------------------------------------------ silly windows, sent


@pytest.mark.rfc9293("MUST-38")
def test_established_small_window_openings_do_not_get_small_segments() -> None:
    host, connection = established(wnd=4 * MSS)
    host.send(connection, bytes(20 * MSS))
    host.sent.clear()
    for step in range(1, 10):  # the peer acknowledges all, and opens by 100 octets a time
        assert host.hear(ack(host, 4 * MSS, wnd=step * 100)) == []
    assert placed(host.hear(ack(host, 4 * MSS, wnd=MSS))) == [(4 * MSS, MSS)]


@pytest.mark.rfc9293("MUST-38")
def test_established_half_of_the_largest_window_is_worth_a_segment() -> None:
    host, connection = established(wnd=1000)
    assert placed(host.send(connection, bytes(5000))) == [(0, 1000)]
    assert host.hear(ack(host, 1000, wnd=499)) == []
    assert placed(host.hear(ack(host, 1000, wnd=500))) == [(1000, 500)]


@pytest.mark.rfc9293("MUST-38")
def test_established_silly_window_is_used_after_the_override_timeout() -> None:
    host, connection = established(wnd=4 * MSS)
    host.send(connection, bytes(20 * MSS))
    host.hear(ack(host, 4 * MSS, wnd=100))
    assert host.wait(200 * MS - 1) == []
    assert placed(host.wait(1)) == [(4 * MSS, 100)]


def test_established_all_that_is_queued_fits_the_silly_window_and_leaves() -> None:
    host, connection = established(wnd=4 * MSS)
    host.send(connection, bytes(4 * MSS))
    host.hear(ack(host, 4 * MSS, wnd=100))
    assert placed(host.send(connection, b"fits")) == [(4 * MSS, 4)]


# ------------------------------------------------------------------ our window


@pytest.mark.rfc9293("MUST-39", "SHLD-14")
def test_established_right_edge_moves_by_worthwhile_steps_and_never_left() -> None:
    host, connection = established(wnd=65535, config=SMALL)
    edge = IRS + 1 + 8 * MSS
    offset = 0
    for step in range(300):
        text = bytes(37 + step % 400)
        host.hear(host.segment(ACK, IRS + 1 + offset, ISS + 1, text=text))
        offset += len(text)
        if step % 3 == 2:
            host.read(connection, 900)
        host.wait(40 * MS)
        host.read(connection, 150)
        for sent in host.sent:
            now = sent.segment.ack + sent.segment.wnd
            assert now == edge or now - edge >= MSS
            edge = now
        host.sent.clear()
        if edge - (IRS + 1 + offset) < 500:
            host.read(connection)


def test_established_reads_that_open_the_window_enough_send_the_update_in_the_same_turn() -> None:
    host, connection = established(wnd=65535, config=SMALL)
    for n in range(8):
        host.hear(host.segment(ACK, IRS + 1 + n * MSS, ISS + 1, text=bytes(MSS)))
    assert host.sent[-1].segment.wnd == 0
    host.sent.clear()
    assert len(host.read(connection, MSS - 1)) == MSS - 1
    assert host.sent == []
    assert len(host.read(connection, 1)) == 1
    [update] = host.sent
    assert (update.segment.flags, update.segment.wnd) == (ACK, MSS)
    assert update.reason.startswith("window update")


def test_established_reads_while_the_window_is_wide_open_send_no_updates() -> None:
    host, connection = established(wnd=65535)
    for n in range(20):
        host.hear(host.segment(ACK, IRS + 1 + n * MSS, ISS + 1, text=bytes(MSS)))
        host.read(connection)
    assert len(host.sent) == 10  # for every second segment


def test_established_closed_window_octets_beyond_it_are_not_taken_and_are_answered() -> None:
    host, connection = established(wnd=65535, config=SMALL)
    for n in range(8):
        host.hear(host.segment(ACK, IRS + 1 + n * MSS, ISS + 1, text=bytes(MSS)))
    for _ in range(5):
        [answer] = host.hear(host.segment(ACK, IRS + 1 + 8 * MSS, ISS + 1, text=b"p"))
        assert (answer.ack, answer.wnd) == (IRS + 1 + 8 * MSS, 0)
    assert connection.readable_bytes == 8 * MSS


def test_established_closed_window_the_ack_that_a_probe_carries_is_used() -> None:
    host, connection = established(wnd=65535, config=SMALL)
    host.send(connection, b"ours")
    for n in range(8):
        host.hear(host.segment(ACK, IRS + 1 + n * MSS, ISS + 1, text=bytes(MSS)))
    host.hear(host.segment(ACK, IRS + 1 + 8 * MSS, ISS + 5, text=b"p"))
    assert connection.status()["unacknowledged_bytes"] == 0


def test_established_text_that_reaches_over_the_right_edge_is_taken_up_to_it() -> None:
    host, connection = established(wnd=65535, config=Config(receive_buffer_bytes=1000, window_scaling=False))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=bytes(1400)))
    host.wait(40 * MS)
    assert connection.readable_bytes == 1000
    assert (host.sent[-1].segment.ack, host.sent[-1].segment.wnd) == (IRS + 1001, 0)
