"""When the application is gone: FIN-WAIT-2 has a limit, and text that nobody will read earns a RST."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.readiness import RESET
from tcpstack.core.segment import ACK, FIN, RST
from tests.network import Network, is_data, is_rst
from tests.scripted import IRS, ISS, SECOND, Scripted, shape

HOUR = 3600 * SECOND


# ------------------------------------------------------------------ orphans


@pytest.mark.parametrize("released", ["before", "in FIN-WAIT-1", "in FIN-WAIT-2"])
def test_fin_wait_2_orphan_is_dropped_after_its_limit(released: str) -> None:
    host = Scripted()
    connection = host.established()
    if released == "before":
        host.stack.close(connection, host.now_ns)
    else:
        host.stack.shutdown(connection, host.now_ns)
    if released == "in FIN-WAIT-1":
        host.stack.close(connection, host.now_ns)
    host.hear(host.segment(ACK, IRS + 1, ISS + 2))
    if released == "in FIN-WAIT-2":
        host.wait(HOUR)
        assert connection.state == st.FIN_WAIT_2
        host.stack.close(connection, host.now_ns)
    host.wait(60 * SECOND - 1)
    assert connection.state == st.FIN_WAIT_2
    host.wait(1)
    assert connection.state == st.CLOSED
    assert connection.error is None
    assert host.stack.connections == ()
    assert host.stack.deadline_ns is None
    assert len(host.sent) == 1


def test_fin_wait_2_with_its_application_alive_waits_as_long_as_it_takes() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    host.hear(host.segment(ACK, IRS + 1, ISS + 2))
    host.wait(24 * HOUR)
    assert connection.state == st.FIN_WAIT_2
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2, text=b"at last"))
    assert host.read(connection) == b"at last"
    assert connection.state == st.TIME_WAIT


def test_fin_wait_2_orphan_gets_the_fin_in_time_and_its_limit_no_longer_counts() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.close(connection, host.now_ns)
    host.hear(host.segment(ACK, IRS + 1, ISS + 2))
    host.wait(59 * SECOND)
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2))
    host.wait(59 * SECOND)
    assert host.stack.time_waits == 1
    assert connection.state == st.TIME_WAIT


@pytest.mark.rfc9293("MUST-37")
@pytest.mark.parametrize("released", [False, True])
def test_fin_wait_1_peer_that_keeps_its_window_closed_holds_an_orphan_for_r2_and_no_longer(released: bool) -> None:
    """RFC 6429: probes are answered for ever. While the application lives, that is its to decide."""
    host = Scripted(config=Config(r2_ns=100 * SECOND))
    connection = host.established(wnd=0)
    host.send(connection, b"never taken")
    host.stack.shutdown(connection, host.now_ns)
    if released:
        host.stack.close(connection, host.now_ns)
    for _ in range(300):
        if connection.state != st.CLOSED and host.wait(1 * SECOND):
            host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=0))
    assert connection.state == (st.CLOSED if released else st.FIN_WAIT_1)
    assert len(host.stack.connections) == (0 if released else 1)


# ------------------------------------------------------------------ text that nobody will read


@pytest.mark.rfc9293("SHLD-3")
def test_established_close_with_text_unread_sends_a_reset_and_no_fin() -> None:
    host = Scripted()
    connection = host.established()
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"unread"))
    host.sent.clear()
    host.stack.close(connection, host.now_ns)
    assert [shape(s.segment) for s in host.sent] == [(RST, ISS + 1, 0, 0)]
    assert connection.state == st.CLOSED
    assert host.stack.connections == ()


@pytest.mark.rfc9293("SHLD-3")
def test_close_wait_close_with_text_unread_sends_a_reset() -> None:
    host = Scripted()
    connection = host.established()
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1, text=b"unread"))
    host.sent.clear()
    host.stack.close(connection, host.now_ns)
    assert [shape(s.segment) for s in host.sent] == [(RST, ISS + 1, 0, 0)]


@pytest.mark.rfc9293("SHLD-3")
def test_last_ack_close_with_text_unread_sends_a_reset() -> None:
    """It was shut down first; the text that came before is lost all the same, and the peer is to know."""
    host = Scripted()
    connection = host.established()
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1, text=b"unread"))
    host.stack.shutdown(connection, host.now_ns)
    assert connection.state == st.LAST_ACK
    host.sent.clear()
    host.stack.close(connection, host.now_ns)
    assert [shape(s.segment) for s in host.sent] == [(RST, ISS + 2, 0, 0)]


@pytest.mark.rfc9293("SHLD-3")
@pytest.mark.parametrize("acknowledged", [False, True])
def test_fin_wait_orphan_text_that_arrives_earns_a_reset(acknowledged: bool) -> None:
    host = Scripted()
    connection = host.established()
    host.stack.close(connection, host.now_ns)
    ack = ISS + 2 if acknowledged else ISS + 1
    [rst] = host.hear(host.segment(ACK, IRS + 1, ack, text=b"anyone?"))
    assert shape(rst) == (RST, ISS + 2, 0, 0)
    assert connection.state == st.CLOSED
    assert host.wait(HOUR) == []
    assert host.stack.deadline_ns is None


def test_fin_wait_2_orphan_old_text_again_with_the_fin_ends_well() -> None:
    host = Scripted()
    connection = host.established()
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"read"))
    host.read(connection)
    host.stack.close(connection, host.now_ns)
    [ack] = host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2, text=b"read"))
    assert shape(ack) == (ACK, ISS + 2, IRS + 6, 0)
    assert connection.state == st.TIME_WAIT


def test_fin_wait_2_orphan_old_text_again_is_acknowledged_and_not_reset() -> None:
    host = Scripted()
    connection = host.established()
    text = host.segment(ACK, IRS + 1, ISS + 1, text=b"read")
    host.hear(text)
    host.read(connection)
    host.stack.close(connection, host.now_ns)
    host.hear(host.segment(ACK, IRS + 5, ISS + 2))
    assert [shape(s) for s in host.hear(text)] == [(ACK, ISS + 2, IRS + 5, 0)]
    assert connection.state == st.FIN_WAIT_2


def test_close_with_text_unread_makes_the_peer_hear_of_a_reset() -> None:
    net = Network()
    client, server = net.pair(reading=False)
    client.send(b"unread")
    net.run(until=lambda: server.connection.readable_bytes > 0)
    server.close()
    net.run()
    assert isinstance(client.connection.error, ConnectionResetError)
    assert client.told & RESET


def test_time_wait_unread_text_can_still_be_read() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2, text=b"the end"))
    assert connection.state == st.TIME_WAIT
    host.sent.clear()
    assert host.read(connection, 4) == b"the "
    host.wait(100 * SECOND)
    assert host.read(connection) == b"end"
    host.stack.close(connection, host.now_ns)
    assert host.sent == []
    assert host.stack.connections == ()


def test_closed_by_reset_text_received_before_can_still_be_read() -> None:
    host = Scripted()
    connection = host.established()
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"before"))
    host.hear(host.segment(RST, IRS + 7))
    assert host.read(connection) == b"before"


def test_network_orphan_whose_peer_sends_for_ever_is_reset_at_once() -> None:
    net = Network()
    client, server = net.pair()
    server.send(bytes(1_000_000))
    client.close()
    net.run()
    assert isinstance(server.connection.error, ConnectionResetError)
    assert [c for c in net.sent(net.a) if is_rst(c)]
    assert len([c for c in net.crossings if is_data(c)]) < 30
