"""What leaves and when, in simulation, where what is lost is chosen."""

from __future__ import annotations

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.events import CongestionChange, LossDetected, RetransmissionTimeout, SegmentOut
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network
from tests.sim.test_offload import WHO_OFFLOADS, Dialogue

DELAY_NS = 20 * MILLISECOND_NS


@pytest.mark.parametrize("offloads", WHO_OFFLOADS)
def test_loss_in_a_flight_of_two_is_mended_without_a_timeout(offloads):
    """Limited transmit (RFC 3042): without SACK three duplicates are needed, and one segment alone has gone on."""
    rules = ("drop syn dir=out nth=1", "drop data dir=out nth=2")  # a SYN that is lost leaves cwnd at one segment
    dialogue = Dialogue(
        offloads, Line(delay_ns=DELAY_NS), rules, says=[20 * 1448, 0], seed=1, config=Config(sack=False)
    )
    dialogue.outcome()
    assert dialogue.heard == dialogue.said[::-1]
    losses = [event for event in dialogue.events if isinstance(event, LossDetected)]
    timeouts = [event.una for event in dialogue.events if isinstance(event, RetransmissionTimeout)]
    assert [(event.una, event.trigger) for event in losses] == [(1449, "third duplicate ACK")]
    assert timeouts == [0]  # the SYN's


PAUSE_NS = 5 * SECOND_NS


class Twice(Dialogue):
    """The first says its text, and after a pause again."""

    def begin(self, number, connection):
        super().begin(1, connection) if number else self.speak(connection)

    def speak(self, connection):
        text = self.said[0]
        self.said[0] = 2 * text
        clock, host = self.network.clock, self.hosts[0]
        host.send(connection, text)
        clock.call_after(PAUSE_NS, lambda: host.send(connection, text))
        clock.call_after(PAUSE_NS + 1, lambda: host.shutdown(connection))


@pytest.mark.parametrize("restarts", [True, False])
@pytest.mark.parametrize("offload", [True, False])
def test_after_a_pause_a_server_begins_as_at_first(restarts, offload):
    dialogue = Twice(
        (offload, False), Line(delay_ns=DELAY_NS), says=[200 * 1448, 0], seed=1,
        config=Config(slow_start_after_idle=restarts),
    )  # fmt: skip
    dialogue.outcome()
    assert dialogue.heard == dialogue.said[::-1]
    text = [event for event in dialogue.events if isinstance(event, SegmentOut) and event.segment.payload_len]
    begun_ns = next(event.time_ns for event in text if event.time_ns > text[0].time_ns + SECOND_NS)
    bursts = [sum(e.segment.payload_len for e in text if e.time_ns == at) // 1448 for at in (text[0].time_ns, begun_ns)]
    assert bursts[0] == 10
    changes = [event for event in dialogue.events if isinstance(event, CongestionChange)]
    if restarts:
        assert bursts[1] == 10
        assert [(e.time_ns, e.cwnd_bytes, e.why) for e in changes] == [
            (begun_ns, 14_480, "idle for longer than the retransmission timeout")
        ]
    else:
        assert bursts[1] > 100
        assert changes == []


@pytest.mark.rfc9293("MUST-37")
def test_window_of_a_stalled_reader_closes_however_small_the_texts_that_fill_it():
    """Rounded up for ever it would stay as it is while nothing is taken, and the peer would give us up after R2."""
    network = Network(seed=1)
    a = network.host("a", "10.0.0.1/24", config=Config(nagle=False))
    b = network.host("b", "10.0.0.2/24")
    network.link(a, b, Line(delay_ns=MILLISECOND_NS))
    listener = b.listen(80)
    connection = a.connect(bytes((10, 0, 0, 2)), 80)
    network.run(1)
    peer = listener.accept()
    for _ in range(2_000):  # the buffer has room for 1,300 of these, its slack included for 1,500
        a.send(connection, bytes(200))
        network.run(0.05)
    network.run(600)
    assert (connection.error, connection.retransmitted) == (None, 0)
    heard = 0
    for _ in range(5):
        heard += sum(map(len, b.receive(peer, 1 << 30)))
        network.run(1)
    assert heard == 400_000
