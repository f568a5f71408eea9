"""Header prediction changes nothing but the time it takes: a simulation leaves the same trace without it."""

from __future__ import annotations

import random

import pytest

from tcpstack.core import fastpath
from tcpstack.core.config import MILLISECOND_NS, Config
from tcpstack.core.connection import Connection
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network

CONFIGS = (
    Config(),
    Config(receive_buffer_bytes=4_000),
    Config(receive_buffer_bytes=100_000, send_buffer_bytes=20_000, window_scaling=False),
    Config(delayed_ack_ns=0, nagle=False, keepalive=True, keepalive_idle_ns=100 * MILLISECOND_NS),
)
FAULTS = ((), ("loss 3%",), ("reorder 5%", "duplicate 5%"), ("rewrite window=0 nth=20..40",), ("drop ack nth=5..9",))


def trace(seed: int) -> tuple[list[str], int]:
    """Everything that happens while two ends talk at random, and how many segments were predicted."""
    draw = random.Random(seed)
    events: list[str] = []
    network = Network(seed, tracer=lambda event: events.append(repr(event)))
    config = draw.choice(CONFIGS)
    a = network.host("a", "10.0.0.1/24", config=config, faults=draw.choice(FAULTS))
    b = network.host("b", "10.0.0.2/24", config=draw.choice(CONFIGS))
    network.link(a, b, Line(draw.choice((None, 10_000_000)), draw.choice((0, 1, 30)) * MILLISECOND_NS))
    connections: list[Connection] = []
    listener = b.listen(80)

    def accept() -> None:
        connection = listener.accept()
        assert connection is not None
        connection.user = connection
        connections.append(connection)

    listener.on_connection = accept

    def talk(host, connection):
        choice = draw.random()
        if choice < 0.7:
            host.send(connection, draw.randbytes(draw.choice((1, 100, 1460, 5_000, 40_000))))
        else:
            host.receive(connection, draw.choice((1, 1_000, 1 << 20)))

    a.notify = b.notify = lambda connection, mask: None
    opener = a.connect(b.stack.addresses[0].ip.packed, 80)
    assert network.run_until(lambda: bool(connections), seconds=60)
    for _ in range(60):
        talk(a, opener)
        talk(b, connections[0])
        network.run(seconds=draw.choice((0, 0.001, 0.02, 0.3)))
    for host, connection in ((a, opener), (b, connections[0])):
        host.shutdown(connection)
    for _ in range(400):
        for host, connection in ((a, opener), (b, connections[0])):
            host.receive(connection, 1 << 20)
        network.run(seconds=0.5)
    return events, connections[0].bytes_in


@pytest.mark.parametrize("seed", range(24))
def test_trace_is_the_same_without_header_prediction(seed, monkeypatch):
    taken = []
    predict = fastpath.take

    def take(*arguments):
        mask = predict(*arguments)
        taken.append(mask != fastpath.UNPREDICTED)
        return mask

    monkeypatch.setattr(fastpath, "take", take)
    with_prediction = trace(seed)
    assert sum(taken) > 10
    monkeypatch.setattr(fastpath, "take", lambda *arguments: fastpath.UNPREDICTED)
    assert trace(seed) == with_prediction
