"""What a Recording keeps: the same ladder whenever it is drawn, its head and its end, and each connection once."""

from __future__ import annotations

import pytest

from tcpstack.core.events import Event
from tcpstack.observe import Ladder
from tcpstack.sim.network import Network
from tcpstack.testing import pair, recording
from tcpstack.testing.recording import Recording
from tcpstack.testing.wires import as_line
from tcpstack.wire.codec import DPKT

FAULTS = ["loss 5%", "duplicate 5%", "reorder 5%", "corrupt 2%", "rewrite window=5000 ack", "strip option=wscale"]


def exchange(tracer: Recording | list[Event], faults: list[str] = FAULTS) -> None:
    network = Network(3, codec=DPKT, tracer=tracer if isinstance(tracer, Recording) else tracer.append)
    connected = pair.connect(network, as_line({"delay": "5ms", "jitter": "1ms"}), faults)
    connected.server.send(bytes(100_000))
    connected.client.send(b"some text " * 10_000)
    connected.run(seconds=60)
    connected.client.close()
    connected.server.close()
    connected.run(seconds=60)


def test_ladder_is_the_same_whether_drawn_as_things_happen_or_at_the_end(monkeypatch: pytest.MonkeyPatch):
    ladders = []
    for most_waiting in (1, 10**9):
        monkeypatch.setattr(recording, "_MOST_WAITING", most_waiting)
        kept = Recording(last_lines=10**6)
        exchange(kept)
        ladders.append(kept.render())
    assert ladders[0] == ladders[1]
    assert len(ladders[0].splitlines()) > 200


def test_ladder_of_both_ends_is_the_openers():
    events: list[Event] = []
    exchange(events, [])
    opener = events[0].flow
    drawn: list[str] = []
    ladder = Ladder(drawn.append, us="client", peer="server")
    for event in events:
        if event.flow == opener:
            ladder(event)
    ladder.flush()
    kept = Recording(last_lines=10**6)
    for event in events:
        kept(event)
    assert kept.render() == "".join(drawn).rstrip("\n")


def test_long_ladder_keeps_its_head_and_says_what_is_missing():
    kept, whole = Recording(last_lines=3), Recording(last_lines=10**6)
    exchange(kept)
    exchange(whole)
    lines, all_lines = kept.render().splitlines(), whole.render().splitlines()
    assert lines[-3:] == all_lines[-3:]
    assert lines[-4] == f"    ({len(all_lines) - len(lines) + 1} lines left out)"
    assert lines[:-4] == all_lines[: len(lines) - 4]
    assert "client 10.0.0.1" in lines[-5]


def test_nothing_seen_is_nothing():
    assert Recording().render() == ""
