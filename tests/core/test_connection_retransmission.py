"""Loss: the retransmission timer, its limits, and fast retransmit, with exact times (RFC 6298, 5681, 6582)."""

from __future__ import annotations

import errno
import itertools

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.events import CongestionChange, LossDetected, RetransmissionTimeout
from tcpstack.core.readiness import CLOSED, RESET
from tcpstack.core.segment import ACK, FIN, PSH, SYN, Options, Segment
from tests.network import Network, is_data, is_pure_ack, sent_by
from tests.scripted import IRS, ISS, MS, SECOND, Scripted, shape

MSS = 1460
RTT = 50 * MS
RTO = 250 * MS  # SRTT + max(4 x RTTVAR, 200 ms) after the one sample of the handshake


def established(config: Config | None = None, wnd: int = 65535) -> tuple[Scripted, Connection]:
    """The handshake took 50 ms."""
    host = Scripted()
    connection = host.connect(config=config)
    host.wait(RTT)
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1, wnd=wnd, options=Options(mss=MSS)))
    host.sent.clear()
    host.told.clear()
    return host, connection


def ack(host: Scripted, octets: int, wnd: int = 65535) -> Segment:
    """The peer acknowledges so many octets of our text."""
    return host.segment(ACK, IRS + 1, ISS + 1 + octets, wnd=wnd)


def times(host: Scripted, start_ns: int) -> list[float]:
    return [(s.time_ns - start_ns) / MS for s in host.sent]


# ------------------------------------------------------------------ the timer


@pytest.mark.rfc9293("MUST-19")
def test_established_text_unanswered_goes_again_with_doubled_timeouts() -> None:
    host, connection = established()
    start = host.now_ns
    host.send(connection, b"lost")
    host.wait(8 * SECOND)
    assert times(host, start) == [0, 250, 750, 1750, 3750, 7750]
    assert {shape(s.segment) for s in host.sent} == {(PSH | ACK, ISS + 1, IRS + 1, 4)}
    assert [s.reason for s in host.sent[1:]] == ["retransmission: timeout"] * 5
    assert connection.retransmitted == 5
    attempts = [e for e in host.events if isinstance(e, RetransmissionTimeout)]
    assert [e.attempt for e in attempts] == [1, 2, 3, 4, 5]
    assert [e.rto_ns // MS for e in attempts] == [250, 500, 1000, 2000, 4000]


def test_established_timeouts_grow_to_their_cap() -> None:
    host, connection = established(Config(rto_max_ns=2 * SECOND))
    start = host.now_ns
    host.send(connection, b"lost")
    host.wait(10 * SECOND)
    assert times(host, start) == [0, 250, 750, 1750, 3750, 5750, 7750, 9750]


@pytest.mark.rfc9293("MUST-20", "MUST-21")
@pytest.mark.parametrize("r2_s", [None, 100, 1])
def test_established_text_unanswered_gives_up_at_exactly_r2(r2_s: int | None) -> None:
    config = Config() if r2_s is None else Config(r2_ns=r2_s * SECOND)
    host, connection = established(config)
    host.wait(1000 * SECOND)  # an idle time before does not count
    host.send(connection, b"lost")
    host.wait((r2_s or 300) * SECOND - 1)
    assert connection.state == st.ESTABLISHED
    assert host.told == []
    host.wait(1)
    assert connection.state == st.CLOSED
    assert isinstance(connection.error, TimeoutError)
    assert connection.error.errno == errno.ETIMEDOUT
    assert host.masks(connection) == RESET | CLOSED
    assert (host.stack.connections, host.stack.deadline_ns) == ((), None)


def test_established_user_timeout_counts_for_what_is_outstanding_too() -> None:
    host, connection = established()
    assert connection.user_timeout_ns == 300 * SECOND
    host.send(connection, b"x")
    host.wait(2 * SECOND)
    host.stack.set_user_timeout(connection, 5 * SECOND, host.now_ns)
    host.wait(3 * SECOND - 1)
    assert connection.state == st.ESTABLISHED
    host.wait(1)
    assert (connection.state, type(connection.error)) == (st.CLOSED, TimeoutError)


def test_established_user_timeout_made_longer_lets_it_live() -> None:
    host, connection = established(Config(r2_ns=5 * SECOND))
    host.send(connection, b"x")
    host.wait(4 * SECOND)
    host.stack.set_user_timeout(connection, 9 * SECOND, host.now_ns)
    host.wait(5 * SECOND - 1)
    assert connection.state == st.ESTABLISHED
    host.wait(1)
    assert connection.state == st.CLOSED


def test_timer_that_a_shorter_user_timeout_had_cut_is_whole_again_under_a_longer_one() -> None:
    host, connection = established()
    host.send(connection, b"x")
    host.stack.set_user_timeout(connection, 10 * MS, host.now_ns)
    host.stack.set_user_timeout(connection, None, host.now_ns)
    assert host.wait(150 * MS) == []
    assert connection.state == st.ESTABLISHED
    assert connection.status()["timeouts"] == 0


def test_user_timeout_of_nothing_is_refused_and_none_is_the_configs() -> None:
    host, connection = established(Config(r2_ns=5 * SECOND))
    connection.set_user_timeout(9 * SECOND, host.now_ns)
    with pytest.raises(ValueError, match="user timeout must be a positive"):
        connection.set_user_timeout(0, host.now_ns)
    assert connection.user_timeout_ns == 9 * SECOND
    connection.set_user_timeout(None, host.now_ns)
    assert connection.user_timeout_ns == 5 * SECOND


def test_syn_sent_user_timeout_begins_with_the_connection() -> None:
    host = Scripted()
    connection = host.connect()
    connection.set_user_timeout(2 * SECOND, host.now_ns)
    host.wait(9 * SECOND)
    assert connection.state == st.SYN_SENT
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    host.send(connection, b"x")
    host.wait(2 * SECOND)
    assert connection.state == st.CLOSED


def test_established_each_acknowledgement_of_something_starts_r2_anew() -> None:
    host, connection = established(Config(r2_ns=10 * SECOND))
    host.send(connection, bytes(10 * MSS))
    for count in range(1, 10):
        host.wait(9 * SECOND)
        host.hear(ack(host, count * MSS))
    host.wait(10 * SECOND - 1)
    assert connection.state == st.ESTABLISHED
    host.wait(1)
    assert isinstance(connection.error, TimeoutError)


def test_established_acknowledgement_of_part_restarts_the_timer() -> None:
    host, connection = established()
    host.send(connection, bytes(3 * MSS))
    host.wait(200 * MS)
    host.hear(ack(host, MSS))
    host.sent.clear()
    # That acknowledgement was a sample of 200 ms: SRTT 68.75, RTTVAR 56.25, so 68.75 + 225.
    rto_ns = connection.status()["rto_ns"]
    assert rto_ns == 293_750_000
    assert host.wait(rto_ns - 1) == []
    assert [s.seq for s in host.wait(1)] == [ISS + 1 + MSS]


def test_established_all_acknowledged_no_timer_runs() -> None:
    host, connection = established()
    host.send(connection, b"heard")
    host.hear(ack(host, 5))
    assert host.wait(1000 * SECOND) == []
    assert host.stack.deadline_ns is None
    assert connection.state == st.ESTABLISHED


@pytest.mark.rfc9293("MUST-18")
def test_established_acknowledgement_of_what_went_twice_is_no_sample_and_keeps_the_timeout() -> None:
    host, connection = established()
    host.send(connection, b"lost")
    host.wait(800 * MS)
    assert connection.status()["rto_ns"] == 1000 * MS
    host.hear(ack(host, 4))
    status = connection.status()
    assert (status["srtt_ns"], status["rttvar_ns"], status["rto_ns"]) == (RTT, RTT // 2, 1000 * MS)
    # "... until a subsequent segment with new data has been sent and acknowledged without retransmission" (3.8.2).
    host.send(connection, b"new")
    host.wait(RTT)
    host.hear(ack(host, 7))
    assert connection.status()["rto_ns"] == RTO


@pytest.mark.rfc9293("MUST-18")
def test_established_text_sent_after_the_lost_one_is_no_sample_either() -> None:
    """What was being timed when the timer went off stays untimed, though later text is acknowledged with it."""
    host, connection = established()
    host.send(connection, bytes(4 * MSS))
    host.wait(RTO)
    host.hear(ack(host, 4 * MSS))
    assert connection.status()["srtt_ns"] == RTT


def test_established_timeout_sends_one_segment_then_goes_on_as_acknowledgements_come() -> None:
    host, connection = established()
    host.send(connection, bytes(5 * MSS))
    host.sent.clear()
    assert [s.seq - ISS - 1 for s in host.wait(RTO)] == [0]
    assert connection.status()["cwnd_bytes"] == MSS
    assert [s.seq - ISS - 1 for s in host.hear(ack(host, MSS))] == [MSS, 2 * MSS]
    assert [s.seq - ISS - 1 for s in host.hear(ack(host, 3 * MSS))] == [3 * MSS, 4 * MSS]
    host.hear(ack(host, 5 * MSS))
    assert connection.retransmitted == 5


def test_established_late_acknowledgement_of_all_spares_the_rest_of_the_retransmissions() -> None:
    host, connection = established()
    host.send(connection, bytes(5 * MSS))
    host.sent.clear()
    host.wait(RTO)
    assert host.hear(ack(host, 5 * MSS)) == []
    assert host.wait(100 * SECOND) == []


def test_fin_wait_1_retransmission_carries_text_and_fin() -> None:
    host, connection = established()
    host.send(connection, b"bye")
    host.stack.shutdown(connection, host.now_ns)
    host.sent.clear()
    sent = host.wait(RTO)
    assert [(s.text(), s.seq) for s in sent] == [(b"bye", ISS + 1)]
    assert sent[0].flags & FIN


# ------------------------------------------------------------------ fast retransmit


def test_established_third_duplicate_and_no_earlier_one_resends_the_first_segment() -> None:
    host, connection = established()
    host.send(connection, bytes(6 * MSS))
    duplicate = ack(host, 0)
    assert host.hear(duplicate) == []
    assert host.hear(duplicate) == []
    assert [(s.seq, s.payload_len) for s in host.hear(duplicate)] == [(ISS + 1, MSS)]
    assert host.sent[-1].reason == "retransmission: third duplicate ACK"
    assert [e.trigger for e in host.events if isinstance(e, LossDetected)] == ["third duplicate ACK"]
    assert [e.why for e in host.events if isinstance(e, CongestionChange)] == ["recovery"]
    assert host.hear(duplicate, duplicate) == []


def test_established_three_duplicates_in_one_batch_count_as_three() -> None:
    host, connection = established()
    host.send(connection, bytes(6 * MSS))
    duplicate = ack(host, 0)
    assert [s.seq for s in host.hear(duplicate, duplicate, duplicate)] == [ISS + 1]


@pytest.mark.parametrize("kind", ["other window", "text", "nothing outstanding", "old number", "FIN"])
def test_established_what_is_no_duplicate_by_rfc_5681_does_not_resend(kind: str) -> None:
    host, connection = established()
    if kind != "nothing outstanding":
        host.send(connection, bytes(6 * MSS))
    if kind == "old number":
        host.hear(ack(host, MSS))
    host.sent.clear()
    for count in range(6):
        if kind == "other window":
            segment = ack(host, 0, wnd=60_000 + count)
        elif kind == "text":
            segment = host.segment(ACK, IRS + 1 + count, ISS + 1, text=b"x")
        elif kind == "FIN":
            segment = host.segment(ACK | FIN, IRS + 9 + count, ISS + 1)
        else:
            segment = ack(host, 0)
        host.hear(segment)
    assert [s.segment.seq for s in host.sent if s.segment.payload_len] == []
    assert connection.retransmitted == 0


def test_established_recovery_sends_new_text_for_what_has_left_and_ends_with_the_full_ack() -> None:
    host, connection = established()
    host.send(connection, bytes(20 * MSS))
    assert len(host.sent) == 10
    host.sent.clear()
    for _ in range(3):
        host.hear(ack(host, 0))
    for _ in range(6):
        host.hear(ack(host, 0))
    # The first two by limited transmit. ssthresh is half of ten segments; nine of twelve have left the network, the
    # first is under way again.
    assert [(s.segment.seq - ISS - 1) // MSS for s in host.sent] == [10, 11, 0, 12, 13]
    host.hear(ack(host, 12 * MSS))
    assert [e.why for e in host.events if isinstance(e, CongestionChange)] == ["recovery", "recovered"]
    assert connection.status()["ssthresh_bytes"] == 5 * MSS
    assert connection.retransmitted == 1


def test_established_partial_acknowledgement_in_recovery_resends_the_next_hole_at_once() -> None:
    host, connection = established()
    host.send(connection, bytes(10 * MSS))
    host.hear(*[ack(host, 0)] * 3)
    [first] = host.hear(ack(host, 4 * MSS))[:1]
    assert first.seq == ISS + 1 + 4 * MSS
    assert [e.trigger for e in host.events if isinstance(e, LossDetected)] == ["third duplicate ACK", "partial ACK"]
    assert connection.retransmitted == 2


def test_established_acknowledgement_that_ends_a_recovery_and_finds_another_loss_is_told_as_both() -> None:
    host = Scripted()
    connection = host.connect()
    host.wait(RTT)
    options = Options(mss=MSS, sack_permitted=True)
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1, options=options))

    def report(acked: int, left: int, right: int) -> None:
        octets = [(ISS + 1 + n * MSS) % (1 << 32) for n in (acked, left, right)]
        host.hear(host.segment(ACK, IRS + 1, octets[0], options=Options(sack=((octets[1], octets[2]),))))

    host.send(connection, bytes(40 * MSS))
    host.wait(RTT)
    report(0, 1, 10)
    behind = (host.sent[-1].segment.seq - ISS - 1) // MSS
    assert behind == 13
    host.wait(RTT)
    host.events.clear()
    report(10, 11, 14)
    told = [event for event in host.events if isinstance(event, LossDetected | CongestionChange)]
    assert [getattr(event, "why", "loss") for event in told] == ["recovered", "loss", "recovery"]
    assert isinstance(told[1], LossDetected)
    assert told[1].una == 1 + 10 * MSS
    assert [event.ssthresh_bytes // MSS for event in told if isinstance(event, CongestionChange)] == [5, 2]


def test_established_blocks_of_an_acknowledgement_that_was_overtaken_are_news() -> None:
    host = Scripted()
    connection = host.established(options=Options(mss=MSS, sack_permitted=True))
    host.send(connection, bytes(5 * MSS))
    host.wait(RTT)

    def hears(acked: int, *blocks: tuple[int, int]) -> list[int]:
        """SEG.SEQ of what leaves, in segments."""
        sack = tuple((ISS + 1 + left * MSS, ISS + 1 + right * MSS) for left, right in blocks)
        heard = host.hear(host.segment(ACK, IRS + 1, ISS + 1 + acked * MSS, options=Options(sack=sack)))
        return [(each.seq - ISS - 1) // MSS for each in heard]

    assert hears(1) == []
    assert hears(0, (2, 3)) == []
    assert connection.status()["snd_una"] == 1 + MSS
    assert hears(0, (2, 4)) == []
    assert hears(0) == []
    assert hears(0, (2, 5)) == [1]


@pytest.mark.parametrize(
    ("sack", "why"),
    [(True, "RACK, what was sent later has arrived"), (False, "third duplicate ACK")],
    ids=["sack", "no sack"],
)
def test_network_one_lost_segment_is_recovered_within_a_round_trip_and_a_bit(sack: bool, why: str) -> None:
    net = Network(delay_ns=20 * MS, config=Config(sack=sack))
    client, server = net.pair()
    net.run()
    net.drop(sent_by(net.a, is_data), times=1)
    started = net.now_ns
    client.send(bytes(10 * MSS))
    assert net.run(until=lambda: len(server.received) == 10 * MSS)
    assert net.now_ns - started == 3 * 20 * MS  # there, three duplicates back, there again
    assert [c.reason for c in net.crossings if "retransmission" in c.reason] == [f"retransmission: {why}"]


def test_network_lost_acknowledgements_cause_no_retransmission_while_later_ones_arrive() -> None:
    net = Network(delay_ns=20 * MS)
    net.max_batch = 1
    client, server = net.pair()
    net.run()
    every_second = itertools.cycle((True, False))
    lost = net.drop(sent_by(net.b, lambda c: is_pure_ack(c) and next(every_second)))
    client.send(bytes(200_000))
    net.run(until=lambda: len(server.received) == 200_000)
    assert lost.hits > 20
    assert client.connection.retransmitted == 0


def test_network_path_dead_for_a_minute_the_transfer_goes_on_after_it() -> None:
    net = Network(delay_ns=20 * MS)
    client, server = net.pair()
    client.send(bytes(1_000_000))
    net.run(until=lambda: len(server.received) > 200_000)
    net.drop()
    net.run(for_ns=60 * SECOND)
    net.heal()
    assert net.run(until=lambda: len(server.received) == 1_000_000, for_ns=70 * SECOND)
    assert client.connection.state == st.ESTABLISHED


def test_established_window_shrunk_under_what_is_outstanding_leaves_it_to_the_retransmission_timer() -> None:
    """A tail loss probe must not go beyond the window, and where none can go none may be due: found by the search."""
    host = Scripted()
    connection = host.established(options=Options(mss=1460, sack_permitted=True), wnd=3000)
    host.send(connection, b"x")
    host.wait(10 * MS)
    host.hear(host.segment(ACK, IRS + 1, ISS + 2, wnd=3000))
    host.send(connection, bytes(1460))
    host.hear(host.segment(ACK, IRS + 1, ISS + 2, wnd=540))
    count = len(host.sent)
    host.wait(1 * SECOND)
    assert [(sent.segment.payload_len, sent.reason) for sent in host.sent[count:]] == [
        (540, "retransmission: timeout"), (540, "retransmission: timeout"),
    ]  # fmt: skip


def test_probe_that_the_peer_has_taken_lets_an_ack_stand_behind_it() -> None:
    """Two ends that have probed each other's closed windows, with their updates lost, would refuse each other's ACKs
    for ever: found by the search."""
    host = Scripted()
    connection = host.established(wnd=0)
    host.send(connection, b"text")
    host.wait(1 * SECOND)
    assert connection.status()["unacknowledged_bytes"] == 1, "the probe"
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=0, text=b"p"))
    assert host.sent[-1].segment.seq == ISS + 1, "the peer's window is closed"
    host.hear(host.segment(ACK, IRS + 1, ISS + 2, wnd=3000))
    assert host.sent[-1].reason == "ACK: segment outside the window"
    assert host.sent[-1].segment.seq == ISS + 2
