"""The two queues of a listener, both bounded; floods; closing it; who gets which segment."""

from __future__ import annotations

import errno

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.segment import ACK, RST, SYN
from tcpstack.stack.listener import SYN_QUEUE
from tests.network import Network, is_rst, is_syn_ack, sent_by
from tests.scripted import IRS, ISS, OURS, PEER, SECOND, Scripted, shape

# ------------------------------------------------------------------ the SYN queue


@pytest.mark.parametrize("version", [4, 6])
def test_listen_flood_of_spoofed_syns_leaves_bounded_records_and_no_connections(version: int) -> None:
    host = Scripted(version=version)
    listener = host.listen()
    base = bytes.fromhex("fd00") + bytes(12) if version == 6 else bytes((10, 7))
    for number in range(2_000):
        host.hear(host.segment(SYN, IRS, src=base + (number + 256).to_bytes(2, "big"), sport=1 + number))
    assert host.stack.connections == ()
    assert host.stack.syn_records == listener.records == SYN_QUEUE
    assert host.stack.counters["syn_queue_full"] == 2_000 - SYN_QUEUE
    host.wait(61 * SECOND)
    assert host.stack.syn_records == listener.records == 0
    assert host.stack.deadline_ns is None
    assert len(host.sent) == SYN_QUEUE * 6  # each answered once, and five times more: no amplification beyond that


def test_listen_flood_leaves_other_connections_alone() -> None:
    host = Scripted()
    connection = host.established()
    listener = host.listen(81)
    host.port = 81
    for number in range(2_000):
        host.hear(host.segment(SYN, IRS, sport=1 + number))
    host.port = 80
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"through"))
    assert host.read(connection) == b"through"
    assert listener.records == SYN_QUEUE


def test_listen_flood_of_one_flow_makes_one_record() -> None:
    host = Scripted()
    listener = host.listen()
    for seq in range(100):
        host.hear(host.segment(SYN, IRS + seq * 1_000_000))
    assert host.stack.syn_records == listener.records <= 1


def test_listen_handshakes_that_end_give_their_record_back() -> None:
    host = Scripted()
    listener = host.listen(backlog=10_000)
    for number in range(3_000):
        host.hear(host.segment(SYN, IRS, sport=1 + number))
        kind = number % 3
        if kind == 0:
            host.hear(host.segment(ACK, IRS + 1, ISS + 1, sport=1 + number))
        elif kind == 1:
            host.hear(host.segment(RST, IRS + 1, sport=1 + number))
        else:
            host.hear(host.segment(SYN, IRS + 9, sport=1 + number))
    assert host.stack.syn_records == listener.records == 0
    assert len(listener.queue) == 1_000


# ------------------------------------------------------------------ the accept queue


@pytest.mark.parametrize("backlog", [1, 3])
def test_listen_backlog_full_leaves_the_handshake_unfinished_and_completes_after_accept(backlog: int) -> None:
    net = Network()
    listener = net.listen(net.b, 80, accept=False, backlog=backlog)
    clients = [net.connect(net.a, net.b, 80) for _ in range(backlog + 1)]
    for client in clients:
        client.send(b"hello")
    net.run(for_ns=3 * SECOND)
    assert len(listener.queue) == backlog
    assert net.b.syn_records == 1
    assert len(net.b.connections) == backlog
    assert net.b.counters["accept_queue_full"] > 0
    assert not [c for c in net.crossings if is_rst(c)]
    first = listener.accept()
    assert first is not None
    assert net.run(until=lambda: net.b.syn_records == 0, for_ns=10 * SECOND)
    assert len(listener.queue) == backlog
    last = listener.queue[-1]
    assert net.run(until=lambda: last.readable_bytes == 5, for_ns=10 * SECOND)


def test_listen_backlog_full_new_syns_are_dropped_and_get_in_when_they_come_again() -> None:
    net = Network()
    listener = net.listen(net.b, 80, accept=False, backlog=1)
    net.connect(net.a, net.b, 80)
    net.run(for_ns=SECOND)
    late = net.connect(net.a, net.b, 80)
    net.run(for_ns=2 * SECOND)
    assert (late.connection.state, net.b.syn_records) == (st.SYN_SENT, 0)
    assert listener.accept() is not None
    assert net.run(until=lambda: late.connected, for_ns=5 * SECOND)


def test_listen_burst_of_clients_far_above_the_backlog_all_get_in_as_they_are_accepted() -> None:
    net = Network()
    net.max_batch = 64  # what is accepted is accepted between batches
    net.listen(net.b, 80, backlog=100)
    clients = [net.connect(net.a, net.b, 80) for _ in range(900)]
    assert net.run(until=lambda: all(c.connected for c in clients) and len(net.accepted) == 900, for_ns=100_000_000)
    assert net.b.counters["accept_queue_full"] == 0


def test_listen_connection_that_died_in_the_queue_is_accepted_with_its_error_and_text() -> None:
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"last"))
    host.hear(host.segment(RST, IRS + 5))
    connection = listener.accept()
    assert connection is not None
    assert isinstance(connection.error, ConnectionResetError)
    assert host.read(connection) == b"last"
    assert host.stack.connections == ()


def test_listener_is_told_once_a_batch_after_all_of_it() -> None:
    host = Scripted()
    listener = host.listen()
    heard: list[tuple[int, int]] = []

    def on_connection() -> None:
        connections = []
        while (connection := listener.accept()) is not None:
            connections.append(connection)
        heard.append((len(connections), sum(c.readable_bytes for c in connections)))

    listener.on_connection = on_connection
    for sport in (1, 2):
        host.hear(host.segment(SYN, IRS, sport=sport))
    host.hear(
        host.segment(ACK, IRS + 1, ISS + 1, sport=1),
        host.segment(ACK, IRS + 1, ISS + 1, sport=2),
        host.segment(ACK, IRS + 1, ISS + 1, sport=1, text=b"12345"),
    )
    assert heard == [(2, 5)]


# ------------------------------------------------------------------ closing it


def test_listener_close_resets_what_nobody_accepted_and_frees_the_port() -> None:
    net = Network()
    listener = net.listen(net.b, 80, accept=False)
    waiting = net.connect(net.a, net.b, 80)
    net.run(for_ns=SECOND)
    listener.close(net.now_ns)
    listener.close(net.now_ns)
    net.run(for_ns=SECOND)
    assert isinstance(waiting.connection.error, ConnectionResetError)
    assert (net.b.connections, net.b.syn_records) == ((), 0)
    net.b.listen(80)


def test_listener_close_resets_handshakes_under_way() -> None:
    """The client may be ESTABLISHED already, its ACK having been lost."""
    net = Network()
    listener = net.listen(net.b, 80)
    net.drop(sent_by(net.a, lambda c: c.segment.flags == ACK))
    client = net.connect(net.a, net.b, 80)
    net.run(for_ns=100_000_000)
    assert client.connected
    assert net.b.syn_records == 1
    listener.close(net.now_ns)
    net.run(for_ns=SECOND)
    assert isinstance(client.connection.error, ConnectionResetError)
    assert net.b.syn_records == 0


def test_listener_close_keeps_accepted_connections() -> None:
    net = Network()
    client, server = net.pair()
    net.b._listener(net.address(net.b), 80).close(net.now_ns)  # type: ignore[union-attr]
    client.send(b"still")
    assert net.run(until=lambda: bytes(server.received) == b"still", for_ns=SECOND)
    refused = net.connect(net.a, net.b, 80)
    net.run(for_ns=SECOND)
    assert isinstance(refused.connection.error, ConnectionRefusedError)


def test_listener_closed_record_reset_carries_the_number_the_client_waits_for() -> None:
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS))
    host.sent.clear()
    listener.close(host.now_ns)
    assert [shape(s.segment) for s in host.sent] == [(RST, ISS + 1, 0, 0)]
    assert host.wait(100 * SECOND) == []


# ------------------------------------------------------------------ ports and addresses


@pytest.mark.rfc9293("MUST-41", "MUST-42")
def test_listen_two_connections_to_one_port_do_not_touch_each_other_or_the_listener() -> None:
    net = Network()
    net.listen(net.b, 80)
    clients = [net.connect(net.a, net.b, 80) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(bytes([number]))
    net.run()
    assert sorted(bytes(s.received) for s in net.accepted) == [b"\0", b"\1", b"\2"]
    clients[0].abort()
    net.run()
    assert [s.connection.state for s in net.accepted].count(st.ESTABLISHED) == 2
    net.connect(net.a, net.b, 80)
    assert net.run(until=lambda: len(net.accepted) == 4, for_ns=SECOND)


def test_listen_same_port_twice_is_refused_where_addresses_overlap() -> None:
    stack = Scripted().stack
    stack.listen(80, address=OURS[4])
    for address in (OURS[4], None):
        with pytest.raises(OSError, match="listened on already") as caught:
            stack.listen(80, address=address)
        assert caught.value.errno == errno.EADDRINUSE
    stack.listen(80, address=OURS[6])
    stack.listen(81)
    with pytest.raises(OSError, match="listened on already"):
        stack.listen(81, address=OURS[6])


@pytest.mark.rfc9293("MUST-43")
def test_listen_on_one_address_the_other_refuses() -> None:
    net = Network()
    net.listen(net.b, 80, address=net.address(net.b, 6))
    good = net.connect(net.a, net.b, 80, version=6)
    bad = net.connect(net.a, net.b, 80, version=4)
    net.run(for_ns=SECOND)
    assert good.connected
    assert isinstance(bad.connection.error, ConnectionRefusedError)


def test_listen_port_0_chooses_free_ones() -> None:
    stack = Scripted().stack
    ports = {stack.listen(0).port for _ in range(200)}
    assert len(ports) == 200
    assert min(ports) >= 32768


@pytest.mark.parametrize("port", [-1, 65536])
def test_listen_port_that_is_none_raises_value_error(port: int) -> None:
    with pytest.raises(ValueError, match="port must be"):
        Scripted().stack.listen(port)


def test_listen_on_what_is_no_port_or_no_address_raises_type_error() -> None:
    stack = Scripted().stack
    with pytest.raises(TypeError, match="the port must be an int, not '80'"):
        stack.listen("80")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an address must be text such as"):
        stack.listen(80, address=10)  # type: ignore[arg-type]


def test_listen_takes_an_address_as_text() -> None:
    host = Scripted()
    assert host.listen(address="10.0.0.1").address == OURS[4]
    assert [s.flags for s in host.hear(host.segment(SYN, IRS))] == [SYN | ACK]


def test_listener_close_leaves_the_handshakes_of_others_alone() -> None:
    """Another port, and the same port of another address."""
    host = Scripted()
    mine, other = host.listen(address=OURS[4]), host.listen(81)
    six = host.listen(address=OURS[6])
    host.hear(host.segment(SYN, IRS))
    host.port = 81
    host.hear(host.segment(SYN, IRS))
    host.port, host.version = 80, 6
    host.hear(host.segment(SYN, IRS))
    host.sent.clear()
    mine.close(host.now_ns)
    assert [(s.segment.dst, s.segment.sport) for s in host.sent] == [(PEER[4], 80)]
    assert (mine.records, other.records, six.records, host.stack.syn_records) == (0, 1, 1, 2)
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    assert six.accept() is not None


def test_listen_address_of_another_host_is_refused() -> None:
    with pytest.raises(OSError, match="is not an address of this stack") as caught:
        Scripted().stack.listen(80, address=bytes((10, 0, 0, 9)))
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_listen_config_of_its_own_holds_for_its_connections() -> None:
    net = Network()
    net.listen(net.b, 80, config=Config(receive_buffer_bytes=5_000))
    client = net.connect(net.a, net.b, 80)
    net.run(for_ns=SECOND)
    assert client.connection.status()["snd_wnd"] == 5_000
    assert len([c for c in net.crossings if is_syn_ack(c)]) == 1
