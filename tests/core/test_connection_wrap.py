"""Sequence numbers that pass 2^32 in the middle of things, both ways."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.segment import ACK, FIN, RST, SYN, Segment
from tests.network import Network, is_data
from tests.scripted import SECOND, KnownIsn, Scripted, shape

TOP = 1 << 32


def wrapping(net: Network, a: int, b: int) -> Network:
    """`a` and `b`: how many numbers before the wrap each end's ISN is."""
    net.a.isn = KnownIsn(TOP - a)
    net.b.isn = KnownIsn(TOP - b)
    return net


@pytest.mark.rfc9293("MUST-1")
@pytest.mark.parametrize("before", [1, 2, 3, 1459, 1460, 1461, 100_000])
@pytest.mark.parametrize("lossy", [False, True])
def test_network_transfer_both_ways_across_the_wrap_arrives_intact(before: int, lossy: bool) -> None:
    net = wrapping(Network(seed=before), before, before + 7)
    if lossy:
        net.drop(net.chance(0.05))
        net.delay(net.chance(0.05), 15_000_000)
    client, server = net.pair()
    data = bytes(n % 253 for n in range(300_000))
    client.send(data)
    server.send(data)
    client.shutdown()
    server.shutdown()
    net.run()
    assert bytes(server.received) == data == bytes(client.received)
    assert client.connection.error is server.connection.error is None
    assert (net.a.time_waits, net.b.time_waits, net.next_ns) == (0, 0, None)
    assert {c.segment.seq >> 31 for c in net.crossings if is_data(c)} == {0, 1}


@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_network_handshake_and_close_across_the_wrap(before: int) -> None:
    net = wrapping(Network(), before or TOP, before or TOP)
    client, server = net.pair()
    client.close()
    net.run(until=lambda: server.eof)
    server.close()
    net.run(for_ns=SECOND)
    assert client.connection.state == st.TIME_WAIT
    assert server.connection.state == st.CLOSED


@pytest.mark.parametrize("before", [1, 2, 5])
def test_network_simultaneous_open_across_the_wrap(before: int) -> None:
    net = wrapping(Network(), before, before)
    one = net.connect(net.a, net.b, 80, lport=4000)
    two = net.connect(net.b, net.a, 4000, lport=80)
    one.send(b"from one")
    two.send(b"from two")
    net.run()
    assert (bytes(one.received), bytes(two.received)) == (b"from two", b"from one")


def test_established_numbers_on_the_wire_are_32_bits_and_the_urgent_pointer_wraps_nothing() -> None:
    host = Scripted(iss=TOP - 2)
    connection = host.established(irs=TOP - 1)
    [one, *_] = host.send(connection, b"abcdef")
    assert shape(one) == (one.flags, TOP - 1, 0, 6)
    urgent: Segment = host.segment(ACK | 0x20, 0, 5, text=b"urgent", up=0xFFFF)
    host.hear(urgent)
    assert host.read(connection) == b"urgent"
    host.hear(host.segment(ACK, 6, 5))
    assert connection.status()["unacknowledged_bytes"] == 0
    host.hear(host.segment(RST, 6))
    assert isinstance(connection.error, ConnectionResetError)


@pytest.mark.parametrize("offset", [(1 << 31) - 1, 1 << 31, (1 << 31) + 1])
def test_established_numbers_half_the_space_away_are_unacceptable(offset: int) -> None:
    host = Scripted(iss=TOP - 2)
    connection = host.established(irs=TOP - 1)
    host.now_ns += SECOND
    assert [s.flags for s in host.hear(host.segment(ACK, offset, TOP - 1, text=b"x"))] == [ACK]
    host.now_ns += SECOND
    assert [s.flags for s in host.hear(host.segment(ACK, 0, TOP - 1 + offset, text=b"x"))] == [ACK]
    host.now_ns += SECOND
    assert host.hear(host.segment(RST, offset)) == []
    assert connection.readable_bytes == 0
    assert connection.state == st.ESTABLISHED


def test_listen_syn_at_the_very_top_is_acknowledged_with_zero() -> None:
    host = Scripted(iss=TOP - 1)
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN, TOP - 1))
    assert shape(syn_ack) == (SYN | ACK, TOP - 1, 0, 0)
    [ack] = host.hear(host.segment(ACK | FIN, 0, 0))
    assert shape(ack) == (ACK, 0, 1, 0)
    assert listener.accept() is not None
