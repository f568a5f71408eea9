"""Urgent text between two hosts, over lines that lose and reorder, with superpackets and without."""

from __future__ import annotations

import random

import pytest

from tcpstack.core.config import MILLISECOND_NS
from tcpstack.core.connection import Connection
from tcpstack.core.events import Event, SegmentOut
from tcpstack.core.readiness import URGENT
from tcpstack.core.segment import URG
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network
from tcpstack.testing.pair import connect

FAULTS = ((), ("loss 3%",), ("reorder 10%", "duplicate 5%"), ("drop data nth=2..4",))


class Reader:
    """Reads by itself, in pieces; keeps what was urgent when it was read, and every pointer that it was told of, as
    offsets in the stream."""

    def __init__(self, seed: int) -> None:
        self.text = bytearray()
        self.urgent: set[int] = set()
        self.pointers: list[int] = []
        self._draw = random.Random(seed)

    def hear(self, host, connection: Connection, mask: int) -> None:
        if mask & URGENT:
            self.pointers.append(len(self.text) + connection.urgent_bytes)
        while connection.readable_bytes:
            left = connection.urgent_bytes
            size = sum(map(len, chunks := host.receive(connection, self._draw.choice((1, 700, 1 << 20)))))
            assert not left or size <= left
            assert connection.urgent_bytes == max(left - size, 0)
            if left:
                self.urgent |= set(range(len(self.text), len(self.text) + size))
            for chunk in chunks:
                self.text += chunk


@pytest.mark.rfc9293("MUST-30", "MUST-31", "MUST-32", "MUST-62")
@pytest.mark.parametrize("faults", FAULTS, ids=str)
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_line_does_urgent_text_is_told_and_arrives_in_its_place(seed, offload, faults):
    draw = random.Random(seed)
    events: list[Event] = []
    network = Network(seed)
    a = network.host("a", "10.0.0.1/24", offload=offload, faults=faults, tracer=events.append)
    b = network.host("b", "10.0.0.2/24", offload=offload)
    network.link(a, b, Line(100_000_000, 5 * MILLISECOND_NS))
    reader = Reader(seed)
    accepted: list[Connection] = []
    listener = b.listen(80)

    def accept() -> None:
        connection = listener.accept()
        assert connection is not None
        connection.user = reader
        accepted.append(connection)

    listener.on_connection = accept
    b.notify = lambda connection, mask: reader.hear(b, connection, mask)
    sender = a.connect(b.stack.addresses[0].ip.packed, 80)
    assert network.run_until(lambda: bool(accepted), seconds=60)
    said = bytearray()
    ends = []
    for _ in range(20):
        text = draw.randbytes(draw.choice((1, 100, 5_000, 90_000)))
        said += text
        if draw.random() < 0.4:
            sender.send_urgent(text)
            ends.append(len(said))
            a.send(sender, b"")
        else:
            a.send(sender, text)
        network.run(seconds=draw.choice((0, 0.001, 0.02, 0.3)))
    assert network.run_until(lambda: len(reader.text) == len(said), seconds=600)
    assert reader.text == said
    assert ends
    assert accepted[0].urgent_bytes == 0
    assert reader.pointers[-1] == ends[-1]
    assert reader.pointers == sorted(set(reader.pointers)), "each is told once, and each is further on"
    assert max(reader.urgent) == ends[-1] - 1
    sent = [event.segment for event in events if isinstance(event, SegmentOut)]
    assert not any(segment.gso_size for segment in sent if segment.flags & URG), "a pointer is that of one segment"
    assert any(segment.gso_size for segment in sent) is offload


def test_end_of_a_pair_reads_urgent_text_and_what_follows():
    pair = connect(Network(1), Line())
    pair.client.connection.send_urgent(b"urgent")
    pair.client.send(b"plain")
    pair.run(seconds=1)
    assert pair.server.received == b"urgentplain"
