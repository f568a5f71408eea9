"""TIME-WAIT as the host keeps it: 2 MSL, repeated FINs, new incarnations (RFC 9293 3.6.1, MAY-2), and its table."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.segment import ACK, FIN, RST, SYN
from tcpstack.core.seq import MASK
from tests.network import Network, is_syn_ack
from tests.scripted import IRS, ISS, MS, SECOND, Scripted, shape

RCV_NXT, SND_NXT = IRS + 2, ISS + 2


def in_time_wait(host: Scripted) -> Scripted:
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))
    assert connection.state == st.TIME_WAIT
    assert host.stack.time_waits == 1
    host.sent.clear()
    return host


@pytest.mark.rfc9293("MUST-13")
def test_time_wait_repeated_fin_is_acknowledged_and_restarts_the_2_msl() -> None:
    host = in_time_wait(Scripted())
    fin = host.segment(FIN | ACK, IRS + 1, ISS + 2)
    for _ in range(3):
        host.wait(59 * SECOND)
        assert [shape(s) for s in host.hear(fin)] == [(ACK, SND_NXT, RCV_NXT, 0)]
    host.wait(60 * SECOND - 1)
    assert host.stack.time_waits == 1
    host.wait(1)
    assert host.stack.time_waits == 0


def test_time_wait_repeated_fin_with_its_text_is_acknowledged() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    fin = host.segment(FIN | ACK, IRS + 1, ISS + 2, text=b"last words")
    host.hear(fin)
    host.wait(30 * SECOND)
    assert [shape(s) for s in host.hear(fin)] == [(ACK, SND_NXT, IRS + 12, 0)]
    host.wait(59 * SECOND)
    assert host.stack.time_waits == 1


def test_time_wait_fin_that_is_not_the_peers_does_not_restart_it() -> None:
    """Anybody can send a FIN somewhere: it must not keep the entry alive."""
    host = in_time_wait(Scripted())
    for _ in range(60):
        host.hear(host.segment(FIN | ACK, IRS - 5000, ISS + 2), host.segment(FIN | ACK, RCV_NXT + (1 << 31), ISS + 2))
        host.wait(1 * SECOND)
    assert host.stack.time_waits == 0


def test_time_wait_repeated_text_without_its_fin_is_acknowledged_each_time() -> None:
    """The peer goes back to what it sent before its FIN: each of its timeouts may bring that first."""
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    text = host.segment(ACK, IRS + 1, ISS + 2, text=b"text")
    host.hear(text, host.segment(FIN | ACK, IRS + 5, ISS + 2))
    assert host.stack.time_waits == 1
    for _ in range(3):
        assert [shape(s) for s in host.hear(text)] == [(ACK, SND_NXT, IRS + 6, 0)]


def test_time_wait_segments_outside_the_window_are_acknowledged_at_most_twice_a_second() -> None:
    host = in_time_wait(Scripted())
    for _ in range(100):
        host.hear(host.segment(ACK, IRS - 9000, 7))
        host.wait(20 * MS)
    assert len(host.sent) == 4
    assert {shape(s.segment) for s in host.sent} == {(ACK, SND_NXT, RCV_NXT, 0)}


def test_time_wait_configured_lasts_as_long_as_it_says() -> None:
    host = in_time_wait(Scripted(config=Config(time_wait_ns=5 * SECOND)))
    host.wait(5 * SECOND - 1)
    assert host.stack.time_waits == 1
    host.wait(1)
    assert host.stack.time_waits == 0


def test_time_wait_aborted_by_a_user_who_has_been_told_of_the_end_stays_and_moves_once() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))
    host.stack.abort(connection, host.now_ns)
    host.stack.close(connection, host.now_ns)
    assert host.stack.time_waits == 1
    host.wait(60 * SECOND)
    assert host.changes[-1] == (st.TIME_WAIT, st.TIME_WAIT_TIMEOUT, st.CLOSED)
    assert [change[0] for change in host.changes].count(st.TIME_WAIT) == 1


# ------------------------------------------------------------------ a new incarnation


@pytest.mark.rfc9293("MAY-2")
@pytest.mark.parametrize("offset", [0, 1, 100_000, (1 << 31) - 1])
def test_time_wait_newer_syn_to_a_listener_opens_with_a_larger_isn(offset: int) -> None:
    host = in_time_wait(Scripted())
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN, RCV_NXT + offset))
    assert syn_ack.flags == SYN | ACK
    assert 0 < (syn_ack.seq - SND_NXT) & MASK < 1 << 31
    assert host.stack.time_waits == 0
    host.hear(host.segment(ACK, RCV_NXT + offset + 1, syn_ack.seq + 1, text=b"anew"))
    connection = listener.accept()
    assert connection is not None
    assert host.read(connection) == b"anew"


@pytest.mark.parametrize("iss", [ISS, (1 << 32) - 3, 1 << 31])
def test_time_wait_newer_syn_isn_is_larger_whatever_the_clock_says(iss: int) -> None:
    host = Scripted(iss=iss)
    connection = host.established()
    host.send(connection, bytes(100_000))
    last = max((s.segment.seq - iss) & MASK for s in host.sent) + 1
    host.hear(host.segment(ACK, IRS + 1, iss + 1 + last))
    host.stack.shutdown(connection, host.now_ns)
    host.stack.abort(connection, host.now_ns)
    host = in_time_wait_with(iss)
    host.listen()
    [syn_ack] = host.hear(host.segment(SYN, RCV_NXT))
    assert 0 < (syn_ack.seq - (iss + 2)) & MASK < 1 << 31


def in_time_wait_with(iss: int) -> Scripted:
    host = Scripted(iss=iss)
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    host.hear(host.segment(FIN | ACK, IRS + 1, iss + 2))
    return host


@pytest.mark.rfc9293("MAY-2")
def test_time_wait_old_duplicate_syn_is_found_out_by_the_reset_and_time_wait_returns() -> None:
    host = in_time_wait(Scripted())
    host.listen()
    host.wait(30 * SECOND)
    host.hear(host.segment(SYN, RCV_NXT + 50))
    assert (host.stack.time_waits, host.stack.syn_records) == (0, 1)
    host.hear(host.segment(RST, RCV_NXT + 51))
    assert (host.stack.time_waits, host.stack.syn_records) == (1, 0)
    host.sent.clear()
    # It is the old one: it knows the old numbers, and lasts 2 MSL.
    assert [shape(s) for s in host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))] == [(ACK, SND_NXT, RCV_NXT, 0)]
    host.wait(60 * SECOND)
    assert host.stack.time_waits == 0


def test_time_wait_older_syn_to_a_listener_is_acknowledged_and_opens_nothing() -> None:
    host = in_time_wait(Scripted())
    host.listen()
    assert [shape(s) for s in host.hear(host.segment(SYN, RCV_NXT - 10))] == [(ACK, SND_NXT, RCV_NXT, 0)]
    assert (host.stack.time_waits, host.stack.syn_records) == (1, 0)


@pytest.mark.parametrize("offset", [0, 1_000_000])
def test_time_wait_newer_syn_where_nobody_listens_earns_a_challenge(offset: int) -> None:
    host = in_time_wait(Scripted())
    assert [shape(s) for s in host.hear(host.segment(SYN, RCV_NXT + offset))] == [(ACK, SND_NXT, RCV_NXT, 0)]
    assert host.stack.time_waits == 1


def test_time_wait_newer_syn_while_the_accept_queue_is_full_keeps_the_entry() -> None:
    host = in_time_wait(Scripted())
    listener = host.listen(backlog=1)
    host.hear(host.segment(SYN, 1, sport=9))
    host.hear(host.segment(ACK, 2, ISS + 1, sport=9))
    assert listener.full
    assert host.hear(host.segment(SYN, RCV_NXT)) == []
    assert (host.stack.time_waits, host.stack.counters["accept_queue_full"]) == (1, 1)
    assert listener.accept() is not None
    assert [s.flags for s in host.hear(host.segment(SYN, RCV_NXT))] == [SYN | ACK]


def test_time_wait_reset_at_rcv_nxt_frees_it_another_does_not() -> None:
    host = in_time_wait(Scripted())
    assert [shape(s) for s in host.hear(host.segment(RST, RCV_NXT + 1))] == [(ACK, SND_NXT, RCV_NXT, 0)]
    assert host.hear(host.segment(RST, RCV_NXT - 1)) == []
    assert host.stack.time_waits == 1
    assert host.hear(host.segment(RST, RCV_NXT)) == []
    assert host.stack.time_waits == 0


def test_time_wait_port_cannot_be_reused_by_us_until_it_is_over() -> None:
    host = in_time_wait(Scripted())
    with pytest.raises(OSError, match="already has a connection"):
        host.connect()
    host.wait(60 * SECOND)
    host.connect()


# ------------------------------------------------------------------ many


def test_hundreds_in_time_wait_expire_each_in_its_time() -> None:
    net = Network()
    net.listen(net.b, 80)
    clients = []
    for _ in range(200):
        clients.append(net.connect(net.a, net.b, 80))
        net.run(for_ns=100 * MS)
        clients[-1].close()
        net.accepted[-1].close()
    net.run(for_ns=1 * SECOND)
    assert net.a.time_waits + net.b.time_waits >= 200
    ended = net.now_ns
    net.run()
    assert (net.a.time_waits, net.b.time_waits, net.next_ns) == (0, 0, None)
    assert net.now_ns - ended <= 60 * SECOND


def test_connections_with_limits_of_their_own_leave_time_wait_each_after_its_own() -> None:
    """A short one behind a long one is not kept waiting by it."""
    host = Scripted()
    for port, seconds in ((81, 60), (82, 1)):
        host.port = port
        connection = host.established(config=Config(time_wait_ns=seconds * SECOND))
        host.stack.shutdown(connection, host.now_ns)
        host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))
    assert host.stack.time_waits == 2
    host.wait(1 * SECOND)
    assert host.stack.time_waits == 1
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))


def test_time_wait_to_time_wait_syn_race_ends_in_one_connection() -> None:
    """The client's end left TIME-WAIT early (it was aborted) and opens anew from the same port."""
    net = Network()
    client, server = net.pair()
    net.run()
    server.close()
    net.run(until=lambda: client.eof)
    client.close()
    net.run(for_ns=SECOND)
    assert net.b.time_waits == 1
    again = net.connect(net.a, net.b, 80, lport=client.connection.flow[1])
    assert net.run(until=lambda: again.connected, for_ns=SECOND)
    assert [c.segment for c in net.crossings if is_syn_ack(c)]
