"""Opening: three-way and simultaneous handshakes, with their numbers, their timers and what can go wrong."""

from __future__ import annotations

import errno

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.readiness import CLOSED, CONNECTED, RESET
from tcpstack.core.segment import ACK, FIN, RST, SYN, Options
from tcpstack.stack.stack import Stack
from tests.network import Network, is_syn, is_syn_ack, sent_by
from tests.scripted import IRS, ISS, MS, SECOND, START_NS, Scripted, shape

SCALED = Options(mss=1460, wscale=7)


@pytest.mark.rfc9293("MUST-14")
@pytest.mark.parametrize("version", [4, 6])
def test_closed_active_open_sends_syn_then_syn_ack_earns_the_ack(version: int) -> None:
    host = Scripted(version=version)
    connection = host.connect()
    [syn] = host.since(0)
    assert shape(syn) == (SYN, ISS, 0, 0)
    assert syn.options is not None
    assert syn.options.timestamps is not None
    assert syn.options == Options(1460 if version == 4 else 1440, 8, True, (syn.options.timestamps[0], 0))
    assert connection.state == st.SYN_SENT
    [ack] = host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    assert shape(ack) == (ACK, ISS + 1, IRS + 1, 0)
    assert ack.options is None
    assert connection.state == st.ESTABLISHED
    assert host.masks(connection) == CONNECTED


@pytest.mark.parametrize("version", [4, 6])
def test_listen_syn_earns_syn_ack_then_ack_establishes(version: int) -> None:
    host = Scripted(version=version)
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=SCALED))
    assert shape(syn_ack) == (SYN | ACK, ISS, IRS + 1, 0)
    assert syn_ack.options == Options(mss=1460 if version == 4 else 1440, wscale=8)
    assert (host.stack.syn_records, host.stack.connections) == (1, ())
    assert host.hear(host.segment(ACK, IRS + 1, ISS + 1)) == []
    connection = listener.accept()
    assert connection is not None
    assert connection.state == st.ESTABLISHED
    assert (host.stack.syn_records, host.stack.connections) == (0, (connection,))


def test_listen_ack_with_text_and_fin_establishes_delivers_and_closes() -> None:
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS))
    [ack] = host.hear(host.segment(ACK | FIN, IRS + 1, ISS + 1, text=b"all at once"))
    assert shape(ack) == (ACK, ISS + 1, IRS + 13, 0)
    connection = listener.accept()
    assert connection is not None
    assert connection.state == st.CLOSE_WAIT
    assert connection.eof_received
    assert host.read(connection) == b"all at once"


# ------------------------------------------------------------------ simultaneous open, Figure 8


@pytest.mark.rfc9293("MUST-10", "MUST-11")
@pytest.mark.parametrize("version", [4, 6])
def test_syn_sent_on_both_ends_simultaneous_open_establishes_one_connection(version: int) -> None:
    net = Network()
    one = net.connect(net.a, net.b, 80, lport=4000, version=version)
    two = net.connect(net.b, net.a, 4000, lport=80, version=version)
    net.run()
    assert one.connection.state == two.connection.state == st.ESTABLISHED
    crossings = sorted(net.crossings, key=lambda c: (c.time_ns, c.sender))
    flags = [(c.sender, c.segment.flags) for c in crossings]
    assert flags == [("a", SYN), ("b", SYN), ("a", SYN | ACK), ("b", SYN | ACK), ("a", ACK), ("b", ACK)]
    syn_a, syn_b, syn_ack_a, syn_ack_b = (c.segment for c in crossings[:4])
    assert (syn_ack_a.seq, syn_ack_a.ack) == (syn_a.seq, syn_b.seq + 1)  # <SEQ=ISS><ACK=RCV.NXT>
    assert (syn_ack_b.seq, syn_ack_b.ack) == (syn_b.seq, syn_a.seq + 1)
    one.send(b"from one")
    two.send(b"from two")
    net.run()
    assert (bytes(one.received), bytes(two.received)) == (b"from two", b"from one")
    assert one.told & CONNECTED
    assert two.told & CONNECTED


@pytest.mark.parametrize("seed", range(12))
def test_simultaneous_open_with_losses_still_establishes(seed: int) -> None:
    net = Network(seed=seed)
    net.drop(net.chance(0.4), times=6)
    one = net.connect(net.a, net.b, 80, lport=4000)
    two = net.connect(net.b, net.a, 4000, lport=80)
    one.send(b"x")
    two.send(b"y")
    assert net.run(until=lambda: (bytes(one.received), bytes(two.received)) == (b"y", b"x"), for_ns=120 * SECOND)
    assert one.connection.state == two.connection.state == st.ESTABLISHED


@pytest.mark.parametrize("lost", ["SYN", "SYN,ACK of a", "both SYN,ACKs"])
def test_simultaneous_open_lost_segment_is_repeated(lost: str) -> None:
    net = Network()
    if lost == "SYN":
        net.drop(sent_by(net.a, is_syn), times=1)
    elif lost == "SYN,ACK of a":
        net.drop(sent_by(net.a, is_syn_ack), times=1)
    else:
        net.drop(is_syn_ack, times=2)
    one = net.connect(net.a, net.b, 80, lport=4000)
    two = net.connect(net.b, net.a, 4000, lport=80)
    assert net.run(until=lambda: one.connected and two.connected, for_ns=5 * SECOND)


def test_syn_received_active_bad_ack_of_syn_earns_a_reset_and_no_ack() -> None:
    host = Scripted()
    connection = host.connect()
    host.hear(host.segment(SYN, IRS))
    answers = host.hear(host.segment(SYN | ACK, IRS, ISS + 77))
    assert [shape(s) for s in answers] == [(RST, ISS + 77, 0, 0)]
    assert connection.state == st.SYN_RECEIVED


def test_syn_received_active_reset_with_a_syn_at_irs_is_dropped() -> None:
    """RST lies left of the window: no SYN makes it lie in it."""
    host = Scripted()
    connection = host.connect()
    host.hear(host.segment(SYN, IRS))
    assert host.hear(host.segment(SYN | ACK | RST, IRS, ISS + 1)) == []
    assert connection.state == st.SYN_RECEIVED


# ------------------------------------------------------------------ SYN-SENT: nobody answers


@pytest.mark.rfc9293("MUST-23")
def test_syn_sent_no_answer_repeats_at_1_3_7_15_31_63_127_s_and_gives_up_at_180() -> None:
    host = Scripted()
    connection = host.connect()
    host.wait_until(START_NS + 180 * SECOND - 1)
    assert [(s.time_ns - START_NS) / SECOND for s in host.sent] == [0, 1, 3, 7, 15, 31, 63, 127]
    assert {shape(s.segment) for s in host.sent} == {(SYN, ISS, 0, 0)}
    options = [s.segment.options for s in host.sent if s.segment.options is not None]
    assert len({(each.mss, each.wscale, each.sack_permitted) for each in options}) == 1
    assert connection.state == st.SYN_SENT
    assert host.told == []
    host.wait_until(START_NS + 180 * SECOND)
    assert connection.state == st.CLOSED
    assert isinstance(connection.error, TimeoutError)
    assert connection.error.errno == errno.ETIMEDOUT
    assert host.masks(connection) == RESET | CLOSED
    assert len(host.sent) == 8
    assert host.stack.connections == ()
    assert host.stack.deadline_ns is None


def test_syn_sent_r2_configured_gives_up_exactly_then() -> None:
    host = Scripted()
    connection = host.connect(config=Config(syn_r2_ns=2_500 * MS))
    host.wait(2_500 * MS - 1)
    assert connection.state == st.SYN_SENT
    host.wait(1)
    assert isinstance(connection.error, TimeoutError)


def test_syn_received_active_no_answer_repeats_syn_ack_and_gives_up_at_180_s() -> None:
    host = Scripted()
    connection = host.connect()
    host.hear(host.segment(SYN, IRS))
    host.wait_until(START_NS + 180 * SECOND - 1)
    assert [s.segment.flags for s in host.sent] == [SYN] + [SYN | ACK] * 8
    assert connection.state == st.SYN_RECEIVED
    host.wait(1)
    assert isinstance(connection.error, TimeoutError)


def test_syn_received_passive_no_answer_repeats_syn_ack_and_forgets_after_60_s() -> None:
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS))
    host.wait_until(START_NS + 60 * SECOND - 1)
    assert [(s.time_ns - START_NS) / SECOND for s in host.sent] == [0, 1, 3, 7, 15, 31]
    assert {shape(s.segment) for s in host.sent} == {(SYN | ACK, ISS, IRS + 1, 0)}
    assert host.stack.syn_records == listener.records == 1
    host.wait(1)
    assert host.stack.syn_records == listener.records == 0
    assert host.stack.deadline_ns is None


# ------------------------------------------------------------------ Karn, and what a lost SYN tells


@pytest.mark.rfc9293("MUST-18")
def test_syn_sent_syn_was_repeated_its_answer_gives_no_round_trip_time() -> None:
    host = Scripted()
    connection = host.connect()
    host.wait(1_010 * MS)
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1, options=SCALED))
    status = connection.status()
    assert status["srtt_ns"] == 0
    assert status["rto_ns"] == 3 * SECOND  # RFC 6298 5.7
    assert status["cwnd_bytes"] == 1460  # RFC 5681 3.1


@pytest.mark.rfc9293("MUST-18")
def test_syn_sent_answered_at_once_measures_the_round_trip() -> None:
    host = Scripted()
    connection = host.connect()
    host.wait(50 * MS)
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1, options=SCALED))
    status = connection.status()
    assert status["srtt_ns"] == 50 * MS
    assert status["rto_ns"] == 250 * MS
    assert status["cwnd_bytes"] == 14_600


@pytest.mark.rfc9293("MUST-18")
def test_syn_received_passive_syn_ack_sent_twice_gives_no_round_trip_time() -> None:
    """The peer's repeated SYN is answered with SYN,ACK at once: which of them the ACK is for, nobody knows."""
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS, options=SCALED))
    host.wait(900 * MS)
    [again] = host.hear(host.segment(SYN, IRS, options=SCALED))
    assert shape(again) == (SYN | ACK, ISS, IRS + 1, 0)
    host.wait(10 * MS)
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    connection = listener.accept()
    assert connection is not None
    assert connection.status()["srtt_ns"] == 0


def test_syn_received_passive_repeated_syns_do_not_push_out_the_timer() -> None:
    host = Scripted()
    host.listen()
    host.hear(host.segment(SYN, IRS))
    for _ in range(9):
        host.wait(100 * MS)
        host.hear(host.segment(SYN, IRS))
    host.sent.clear()
    host.wait(3 * SECOND)
    assert [s.time_ns - START_NS for s in host.sent] == [1 * SECOND, 3 * SECOND]


# ------------------------------------------------------------------ old duplicates, half-open connections


@pytest.mark.parametrize("ack", [ISS - 1, ISS, ISS + 2, ISS + (1 << 31)])
def test_syn_sent_syn_ack_of_another_syn_earns_a_reset_and_the_right_one_still_connects(ack: int) -> None:
    host = Scripted()
    connection = host.connect()
    [rst] = host.hear(host.segment(SYN | ACK, IRS, ack))
    assert shape(rst) == (RST, ack, 0, 0)
    assert connection.state == st.SYN_SENT
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    assert connection.state == st.ESTABLISHED


def test_syn_sent_reset_without_a_good_ack_is_dropped() -> None:
    host = Scripted()
    connection = host.connect()
    for segment in (
        host.segment(RST, 0),
        host.segment(RST | ACK, 0, ISS),
        host.segment(RST | ACK, 0, ISS + 2),
        host.segment(RST | SYN, IRS),
    ):
        assert host.hear(segment) == []
    assert connection.state == st.SYN_SENT


def test_syn_sent_reset_with_the_ack_of_our_syn_is_connection_refused() -> None:
    host = Scripted()
    connection = host.connect()
    assert host.hear(host.segment(RST | ACK, 0, ISS + 1)) == []
    assert isinstance(connection.error, ConnectionRefusedError)
    assert connection.error.errno == errno.ECONNREFUSED
    assert host.masks(connection) == RESET | CLOSED
    assert host.stack.connections == ()


def test_established_peer_crashed_and_opens_anew_is_challenged_resets_us_and_gets_in() -> None:
    """Figures 10 and 11 of RFC 9293, with the challenge ACK of RFC 5961."""
    net = Network()
    client, server = net.pair()
    flow = client.connection.flow
    restarted = Stack(("10.0.0.1/24",), name="a", tracer=net.stacks[0].tracer)
    restarted.send_packet, restarted.notify = net.a.send_packet, net.a.notify
    net.stacks[0] = restarted
    net._by_address[flow[0]] = restarted
    again = net.connect(restarted, net.b, 80, lport=flow[1])
    assert net.run(until=lambda: again.connected and len(net.accepted) == 2, for_ns=10 * SECOND)
    assert isinstance(server.connection.error, ConnectionResetError)


def test_listen_old_duplicate_syn_is_reset_by_its_sender_and_the_real_one_gets_in() -> None:
    """Figure 9."""
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, 90))
    host.hear(host.segment(RST, 91))
    assert host.stack.syn_records == 0
    [syn_ack] = host.hear(host.segment(SYN, IRS))
    assert syn_ack.ack == IRS + 1
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    assert listener.accept() is not None
