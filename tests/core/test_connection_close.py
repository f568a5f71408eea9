"""Closing: gracefully, by halves, from both ends at once, with losses; orphans; text nobody will read."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.readiness import CLOSED, EOF
from tcpstack.core.segment import ACK, FIN, PSH
from tests.network import Network, is_fin, is_pure_ack, is_rst, sent_by
from tests.scripted import IRS, ISS, SECOND, Scripted, shape

HOUR = 3600 * SECOND


# ------------------------------------------------------------------ the graceful ways


@pytest.mark.rfc9293("MUST-13")
def test_established_graceful_close_goes_through_the_states_and_frees_all_after_2_msl() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    assert shape(host.sent[-1].segment) == (FIN | ACK, ISS + 1, IRS + 1, 0)
    assert connection.state == st.FIN_WAIT_1
    assert host.hear(host.segment(ACK, IRS + 1, ISS + 2)) == []
    assert connection.state == st.FIN_WAIT_2
    [ack] = host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))
    assert shape(ack) == (ACK, ISS + 2, IRS + 2, 0)
    assert connection.state == st.TIME_WAIT
    assert host.masks(connection) == EOF | CLOSED
    assert connection.error is None
    assert (host.stack.connections, host.stack.time_waits) == ((), 1)
    host.wait(60 * SECOND - 1)
    assert host.stack.time_waits == 1
    host.wait(1)
    assert host.stack.time_waits == 0
    assert host.stack.deadline_ns is None


def test_established_peer_closes_first_ends_in_closed_at_once() -> None:
    host = Scripted()
    connection = host.established()
    [ack] = host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1))
    assert shape(ack) == (ACK, ISS + 1, IRS + 2, 0)
    assert connection.state == st.CLOSE_WAIT
    host.stack.shutdown(connection, host.now_ns)
    assert shape(host.sent[-1].segment) == (FIN | ACK, ISS + 1, IRS + 2, 0)
    assert connection.state == st.LAST_ACK
    assert host.hear(host.segment(ACK, IRS + 2, ISS + 2)) == []
    assert connection.state == st.CLOSED
    assert connection.error is None
    assert host.masks(connection) == EOF | CLOSED
    assert (host.stack.connections, host.stack.time_waits) == ((), 0)


def test_fin_wait_1_fin_with_the_ack_of_ours_goes_straight_to_time_wait() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    [ack] = host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))
    assert shape(ack) == (ACK, ISS + 2, IRS + 2, 0)
    assert connection.state == st.TIME_WAIT
    assert [change[1] for change in host.changes[-2:]] == [st.RCV_ACK_OF_FIN, st.RCV_FIN]


@pytest.mark.parametrize("closer", ["client", "server"])
def test_half_close_the_other_direction_goes_on_for_hours(closer: str) -> None:
    net = Network()
    client, server = net.pair()
    first, second = (client, server) if closer == "client" else (server, client)
    first.send(b"question")
    first.shutdown()
    assert net.run(until=lambda: second.eof)
    assert bytes(second.received) == b"question"
    for _ in range(5):
        net.run(for_ns=HOUR)
        second.send(b"answer ")
    net.run(until=lambda: len(first.received) == 35)
    second.shutdown()
    net.run()
    assert bytes(first.received) == b"answer " * 5
    assert first.connection.state == st.TIME_WAIT
    assert second.connection.state == st.CLOSED
    assert first.connection.error is second.connection.error is None
    with pytest.raises(BrokenPipeError):
        first.send(b"too late")


def test_simultaneous_close_ends_in_time_wait_on_both_ends() -> None:
    net = Network()
    client, server = net.pair()
    net.run()
    client.shutdown()
    server.shutdown()
    net.run(for_ns=SECOND)
    assert client.connection.state == server.connection.state == st.TIME_WAIT
    for stack in (net.a, net.b):
        assert [c.segment.flags for c in net.sent(stack)[-2:]] == [FIN | ACK, ACK]
        assert stack.time_waits == 1
    net.run()
    assert net.a.time_waits == net.b.time_waits == 0
    assert net.a.deadline_ns is net.b.deadline_ns is None


def test_close_with_much_queued_sends_it_all_before_the_fin() -> None:
    net = Network()
    client, server = net.pair()
    data = bytes(range(250)) * 4_000
    client.send(data)
    client.close()
    assert net.run(until=lambda: server.eof)
    assert bytes(server.received) == data
    server.close()
    net.run()
    assert client.connection.error is server.connection.error is None
    assert not [c for c in net.crossings if is_rst(c)]


def test_shutdown_twice_then_close_sends_one_fin() -> None:
    host = Scripted()
    connection = host.established()
    for _ in range(2):
        host.stack.shutdown(connection, host.now_ns)
    host.stack.close(connection, host.now_ns)
    assert [s.segment.flags for s in host.sent] == [FIN | ACK]


def test_fin_behind_small_text_does_not_wait_for_nagle() -> None:
    host = Scripted()
    connection = host.established()
    host.send(connection, b"first")
    assert host.send(connection, b"second") == []  # Nagle: a small segment is outstanding
    host.stack.shutdown(connection, host.now_ns)
    assert shape(host.sent[-1].segment) == (FIN | PSH | ACK, ISS + 6, IRS + 1, 6)


# ------------------------------------------------------------------ the peer's FIN


def test_established_fin_above_a_gap_is_kept_until_the_text_before_it_arrives() -> None:
    host = Scripted()
    connection = host.established()
    [duplicate] = host.hear(host.segment(FIN | ACK, IRS + 5, ISS + 1, text=b"late"))
    assert duplicate.ack == IRS + 1
    assert connection.state == st.ESTABLISHED
    [ack] = host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"soon"))
    assert ack.ack == IRS + 10
    assert connection.state == st.CLOSE_WAIT
    assert host.read(connection) == b"soonlate"


def test_established_bare_fin_above_a_gap_is_kept_too() -> None:
    host = Scripted()
    connection = host.established()
    [duplicate] = host.hear(host.segment(FIN | ACK, IRS + 5, ISS + 1))
    assert duplicate.ack == IRS + 1
    [ack] = host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"soon"))
    assert ack.ack == IRS + 6
    assert connection.eof_received


def test_close_wait_repeated_fin_is_acknowledged_each_time() -> None:
    host = Scripted()
    connection = host.established()
    fin = host.segment(FIN | ACK, IRS + 1, ISS + 1)
    host.hear(fin)
    for _ in range(3):
        assert [shape(s) for s in host.hear(fin)] == [(ACK, ISS + 1, IRS + 2, 0)]
    assert connection.state == st.CLOSE_WAIT
    assert sum(1 for _, mask in host.told if mask & EOF) == 1


def test_established_text_beyond_the_fin_is_never_delivered() -> None:
    host = Scripted()
    connection = host.established()
    host.hear(host.segment(ACK, IRS + 5, ISS + 1, text=b"beyond the end"))
    host.hear(host.segment(FIN | ACK, IRS + 3, ISS + 1))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"ab"))
    assert connection.state == st.CLOSE_WAIT
    assert host.read(connection) == b"ab"


# ------------------------------------------------------------------ losses


@pytest.mark.parametrize("times", [1, 3])
def test_fin_wait_1_fin_lost_is_repeated(times: int) -> None:
    net = Network()
    client, server = net.pair()
    net.drop(sent_by(net.a, is_fin), times=times)
    client.close()
    assert net.run(until=lambda: server.eof, for_ns=10 * SECOND)
    server.close()
    net.run()
    assert client.connection.state == st.TIME_WAIT
    assert server.connection.state == st.CLOSED


def test_last_ack_fin_lost_is_repeated() -> None:
    net = Network()
    client, server = net.pair()
    client.close()
    net.run(until=lambda: server.eof)
    net.drop(sent_by(net.b, is_fin), times=3)
    server.close()
    net.run(for_ns=10 * SECOND)
    assert server.connection.state == st.CLOSED
    assert client.connection.state == st.TIME_WAIT


def test_closing_fin_lost_is_repeated_by_the_end_that_lost_it() -> None:
    """Both close at once; one FIN is lost on its way, so one end is in CLOSING, the other in FIN-WAIT-1."""
    net = Network()
    client, server = net.pair()
    net.run()
    net.drop(sent_by(net.a, is_fin), times=2)
    client.shutdown()
    server.shutdown()
    net.run(until=lambda: client.connection.state == st.CLOSING, for_ns=SECOND)
    assert client.connection.state == st.CLOSING
    net.run(for_ns=10 * SECOND)
    assert client.connection.state == server.connection.state == st.TIME_WAIT


def test_closing_ack_of_both_fins_lost_is_recovered() -> None:
    net = Network()
    client, server = net.pair()
    net.run()
    client.shutdown()
    server.shutdown()
    net.drop(is_pure_ack, times=2)
    net.run(for_ns=10 * SECOND)
    assert client.connection.state == server.connection.state == st.TIME_WAIT


def test_last_ack_final_ack_lost_the_repeated_fin_is_answered_from_time_wait() -> None:
    net = Network()
    client, server = net.pair()
    net.run()
    client.close()
    net.run(until=lambda: server.eof)
    server.close()
    net.drop(sent_by(net.a, is_pure_ack), times=2)
    net.run(for_ns=10 * SECOND)
    assert client.connection.state == st.TIME_WAIT
    assert server.connection.state == st.CLOSED
    assert server.connection.error is None


@pytest.mark.parametrize("seed", range(20))
def test_close_from_both_ends_with_heavy_loss_leaves_nothing_behind(seed: int) -> None:
    net = Network(seed=seed)
    client, server = net.pair()
    net.drop(net.chance(0.3))
    client.send(b"bye" * 1000)
    client.close()
    server.shutdown()
    net.run()
    for stack in (net.a, net.b):
        assert (stack.connections, stack.syn_records, stack.time_waits, stack.deadline_ns) == ((), 0, 0, None)
    assert bytes(server.received) == b"bye" * 1000


def test_fin_wait_1_nobody_answers_gives_up_after_r2() -> None:
    host = Scripted(config=Config(r2_ns=100 * SECOND))
    connection = host.established()
    host.stack.close(connection, host.now_ns)
    host.wait(100 * SECOND - 1)
    assert connection.state == st.FIN_WAIT_1
    host.wait(1)
    assert connection.state == st.CLOSED
    assert isinstance(connection.error, TimeoutError)
    assert host.stack.deadline_ns is None
