"""Flow control between two hosts: readers that stop, odd buffers, closed windows both ways; no stall, no deadlock."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.handshake import TIMESTAMPS_BYTES
from tcpstack.core.segment import ACK, SYN, Options, Segment
from tests.network import Network, is_data, is_pure_ack, sent_by
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


# ------------------------------------------------------------------ two hosts


@pytest.mark.parametrize("lost_updates", [0, 1, 3])
def test_network_reader_that_stops_and_goes_on_loses_nothing_and_does_not_stall(lost_updates: int) -> None:
    net = Network(config=SMALL)
    client, server = net.pair(reading=False)
    data = bytes(range(256)) * 400
    client.send(data)
    net.run(for_ns=200 * SECOND)
    assert server.connection.readable_bytes == SMALL.receive_buffer_bytes
    started = net.now_ns
    net.drop(sent_by(net.b, is_pure_ack), times=lost_updates)
    server.reading = True
    server.read()
    assert net.run(until=lambda: bytes(server.received) == data, for_ns=300 * SECOND)
    # A lost update costs until the next probe, which is at most a minute away; without losses there is no wait at all.
    assert net.now_ns - started < (1 * SECOND if not lost_updates else 200 * SECOND)
    assert server.connection.state == client.connection.state == st.ESTABLISHED


@pytest.mark.rfc9293("MUST-37")
def test_network_both_windows_closed_with_probes_outstanding_both_ways_no_deadlock() -> None:
    net = Network(config=SMALL)
    client, server = net.pair(reading=False)
    data = bytes(range(256)) * 400
    client.send(data)
    server.send(data)
    net.run(for_ns=1 * HOUR)
    for app in (client, server):
        assert app.connection.state == st.ESTABLISHED
        assert app.connection.readable_bytes == SMALL.receive_buffer_bytes
        assert app.connection.status()["snd_wnd"] == 0
    started = net.now_ns
    client.reading = server.reading = True
    client.read()
    server.read()
    assert net.run(until=lambda: bytes(server.received) == data == bytes(client.received), for_ns=70 * SECOND)
    assert net.now_ns - started < 10 * SECOND


@pytest.mark.rfc9293("MUST-37")
def test_network_both_windows_closed_one_end_reads_the_other_never_does() -> None:
    net = Network(config=SMALL)
    client, server = net.pair(reading=False)
    data = bytes(range(256)) * 400
    client.send(data)
    server.send(data)
    net.run(for_ns=1 * HOUR)
    client.reading = True
    client.read()
    assert net.run(until=lambda: bytes(client.received) == data, for_ns=70 * SECOND)
    net.run(for_ns=1 * HOUR)
    assert client.connection.state == server.connection.state == st.ESTABLISHED


@pytest.mark.parametrize("buffer_bytes", [1, 2, 100, 1459, 1460, 1461, 3000, 65535, 65536])
def test_network_odd_buffers_carry_a_transfer_both_ways_without_stalls(buffer_bytes: int) -> None:
    net = Network(delay_ns=1 * MS, config=Config(receive_buffer_bytes=buffer_bytes))
    client, server = net.pair()
    size = min(buffer_bytes * 50, 200_000)
    data = bytes(n % 251 for n in range(size))
    client.send(data)
    server.send(data)
    assert net.run(until=lambda: bytes(server.received) == data == bytes(client.received), for_ns=60 * SECOND)
    rounds = size // max(min(buffer_bytes, MSS) // 2, 1) + 10
    assert net.now_ns - net.crossings[0].time_ns < rounds * 2 * MS + 1 * SECOND


def test_network_reader_of_a_few_octets_at_a_time_gets_no_silly_segments() -> None:
    net = Network(delay_ns=1 * MS, config=SMALL)
    client, server = net.pair(reading=False)
    data = bytes(200_000)
    client.send(data)
    while len(server.received) < len(data):
        net.run(for_ns=1 * MS)
        server.read(100)
    sizes = [c.segment.payload_len for c in net.sent(net.a, is_data)]
    assert sum(1 for size in sizes if size < MSS - TIMESTAMPS_BYTES) < 10


def test_network_send_buffer_bounds_what_is_outstanding() -> None:
    net = Network(config=Config(send_buffer_bytes=20_000))
    client, server = net.pair()
    client.send(bytes(500_000))
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, int(str(client.connection.status()["unacknowledged_bytes"])))
        return len(server.received) == 500_000

    assert net.run(until=done, for_ns=60 * SECOND)
    assert most <= 20_000


def test_network_writer_is_told_as_queued_octets_leave() -> None:
    net = Network()
    client, server = net.pair()
    left: list[int] = []
    client.on_event = lambda app, mask: left.append(app.connection.unsent_bytes)
    client.send(bytes(1_000_000))
    net.run(until=lambda: len(server.received) == 1_000_000)
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert len(left) > 5



def test_syn_sent_zero_window_in_the_syn_ack_waits_for_the_update() -> None:
    host = Scripted()
    connection = host.connect()
    host.send(connection, b"early")
    [ack_of_syn] = host.hear(host.segment(SYN | ACK, IRS, ISS + 1, wnd=0))
    assert (ack_of_syn.flags, ack_of_syn.seq) == (ACK, ISS + 1)
    [text] = host.hear(ack(host, 0, wnd=100))
    assert text.text() == b"early"
