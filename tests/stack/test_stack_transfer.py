"""Two hosts and a network that loses, doubles, reorders and corrupts: everything arrives, and nothing is left."""

from __future__ import annotations

from random import Random

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.events import LossDetected, RetransmissionTimeout
from tests.network import App, Network, is_data, is_rst

MS = 1_000_000
SECOND = 1_000_000_000
SIZE = 2_000_000

HARMS = ("none", "loss", "duplication", "reordering", "corruption", "all")


def harm(net: Network, kind: str) -> None:
    if kind in ("loss", "all"):
        net.drop(net.chance(0.05))
    if kind in ("duplication", "all"):
        net.duplicate(net.chance(0.05), after_ns=3 * MS)
    if kind in ("reordering", "all"):
        net.delay(net.chance(0.05), 25 * MS)
    if kind in ("corruption", "all"):
        net.corrupt(net.chance(0.02))


def exchange(net: Network, up: bytes, down: bytes, version: int = 4) -> tuple[App, App]:
    """Both ends send all they have and shut down; until nothing is left to happen."""
    net.listen(net.b, 80)
    client = net.connect(net.a, net.b, 80, version=version)
    client.send(up)
    assert net.run(until=lambda: bool(net.accepted), for_ns=100 * SECOND)
    server = net.accepted[0]
    server.send(down)
    server.shutdown()
    net.run(until=lambda: client.connected)
    client.shutdown()
    net.run()
    return client, server


def check_ends(net: Network, client: App, server: App) -> None:
    for app in (client, server):
        assert app.connection.state in (st.CLOSED, st.TIME_WAIT)
        assert app.connection.error is None
        assert app.eof
        assert app.done
    for stack in (net.a, net.b):
        assert (stack.connections, stack.syn_records, stack.time_waits) == ((), 0, 0)
        assert stack.deadline_ns is None
        assert not stack._dirty
        assert not stack._masks
        assert not stack._deadlines._armed
    assert not [c for c in net.crossings if is_rst(c)]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", HARMS)
def test_transfer_of_2_mb_each_way_arrives_intact_and_leaves_nothing_behind(kind: str, seed: int) -> None:
    net = Network(seed=seed)
    up, down = (Random(seed + n).randbytes(SIZE) for n in (1, 2))
    harm(net, kind)
    client, server = exchange(net, up, down, version=4 if seed % 2 else 6)
    assert bytes(server.received) == up
    assert bytes(client.received) == down
    check_ends(net, client, server)
    assert (client.connection.bytes_in, client.connection.bytes_out) == (SIZE, SIZE)


def test_transfer_without_harm_retransmits_nothing() -> None:
    net = Network()
    client, server = exchange(net, bytes(SIZE), bytes(SIZE))
    assert client.connection.retransmitted == server.connection.retransmitted == 0
    assert not [c for c in net.crossings if "retransmission" in c.reason]
    sent = sum(c.segment.payload_len for c in net.crossings)
    assert sent == 2 * SIZE
    for traced in net.events.values():
        assert not [e for e in traced if isinstance(e, LossDetected | RetransmissionTimeout)]


def test_transfer_one_packet_a_turn_retransmits_nothing_either() -> None:
    net = Network()
    net.max_batch = 1
    client, server = exchange(net, bytes(SIZE), bytes(1000))
    assert client.connection.retransmitted == server.connection.retransmitted == 0
    assert len(server.received) == SIZE


@pytest.mark.parametrize("kind", ["duplication", "reordering"])
def test_transfer_with_packets_out_of_step_but_none_lost_makes_few_retransmissions(kind: str) -> None:
    net = Network()
    harm(net, kind)
    client, _ = exchange(net, bytes(SIZE), b"")
    data = len([c for c in net.crossings if is_data(c)])
    assert client.connection.retransmitted < data / 10


def test_transfer_under_loss_is_not_slower_than_it_has_to_be() -> None:
    """1 % loss, 20 ms round trip: Reno's rate is about MSS/RTT x 1.2/sqrt(p), 12 segments a round trip."""
    for seed in range(4):
        net = Network(seed=seed)
        net.drop(net.chance(0.01, is_data))
        started = net.now_ns
        client, server = net.pair()
        client.send(bytes(SIZE))
        assert net.run(until=lambda server=server: len(server.received) == SIZE)
        rounds = (net.now_ns - started) / (20 * MS)
        assert rounds < SIZE / 1460 / 12 * 3


@pytest.mark.parametrize("kind", ["none", "all"])
def test_same_seed_gives_the_same_segments_another_seed_others(kind: str) -> None:
    def trace(seed: int) -> list[tuple[object, ...]]:
        net = Network(seed=seed)
        harm(net, kind)
        exchange(net, bytes(300_000), bytes(200_000))
        return [c.key for c in net.crossings]

    first = trace(7)
    assert trace(7) == first
    assert trace(8) != first


def test_transfer_through_a_narrow_receiver_and_a_long_path() -> None:
    net = Network(delay_ns=200 * MS, config=Config(receive_buffer_bytes=20_000))
    harm(net, "loss")
    data = Random(1).randbytes(200_000)
    client, server = exchange(net, data, data)
    assert bytes(server.received) == bytes(client.received) == data
    check_ends(net, client, server)


def test_hundred_connections_at_once_each_gets_its_own_bytes() -> None:
    net = Network()
    net.drop(net.chance(0.02))
    net.listen(net.b, 80, backlog=200)
    clients = [net.connect(net.a, net.b, 80) for _ in range(100)]
    for number, client in enumerate(clients):
        client.send(bytes([number]) * 5_000)
    assert net.run(until=lambda: len(net.accepted) == 100 and all(len(s.received) == 5_000 for s in net.accepted))
    assert sorted(bytes(s.received) for s in net.accepted) == [bytes([n]) * 5_000 for n in range(100)]
    for app in (*clients, *net.accepted):
        app.close()
    net.run()
    assert (net.a.connections, net.b.connections, net.next_ns) == ((), (), None)


def test_three_hosts_in_a_ring() -> None:
    net = Network(hosts=3)
    net.drop(net.chance(0.03))
    apps = []
    for index, stack in enumerate(net.stacks):
        net.listen(stack, 80)
        apps.append(net.connect(net.stacks[index - 1], stack, 80))
    for app in apps:
        app.send(bytes(100_000))
    assert net.run(until=lambda: [len(s.received) for s in net.accepted] == [100_000] * 3)
    assert all("no such host" not in c.fates for c in net.crossings)
