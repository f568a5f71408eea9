"""What a Recording keeps: the same ladder whenever it is drawn, its head and its end, and each connection once."""

from __future__ import annotations

import pytest

from tcpstack.core.events import Event
from tcpstack.observe import KnownPeers, Ladder, recording
from tcpstack.observe.recording import Recording
from tcpstack.sim.network import Network
from tcpstack.testing import pair
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


def one_sided() -> Recording:
    return Recording(Ladder(us="client", peer="server"))


def both_sided() -> Recording:
    peers = KnownPeers()
    return Recording(Ladder(us="client", peer="server", known=peers), peers)


@pytest.mark.parametrize("new", [one_sided, both_sided])
def test_ladder_is_the_same_whether_drawn_as_things_happen_or_at_the_end(monkeypatch: pytest.MonkeyPatch, new):
    ladders = []
    for most_waiting, kept_waiting in ((200, 100), (10**9, 10**9)):
        monkeypatch.setattr(recording, "_MOST_WAITING", most_waiting)
        monkeypatch.setattr(recording, "_KEPT_WAITING", kept_waiting)
        kept = new()
        exchange(kept)
        ladders.append(kept.render())
    assert ladders[0] == ladders[1]
    assert len(ladders[0].splitlines()) > 200


def test_ladder_of_both_ends_is_the_openers():
    events: list[Event] = []
    exchange(events, [])
    opener = events[0].flow
    ladder = Ladder(us="client", peer="server")
    for event in events:
        if event.flow == opener:
            ladder(event)
    kept = one_sided()
    for event in events:
        kept(event)
    assert kept.render() == ladder.render().rstrip("\n")


def test_last_lines_come_with_what_stands_above_them_and_how_many_are_missing():
    whole = one_sided()
    exchange(whole)
    lines, all_lines = whole.render(last_lines=3).splitlines(), whole.render().splitlines()
    assert lines[:7] == all_lines[:7]
    assert "client 10.0.0.1" in lines[6]
    shown = lines[8:]
    assert 0 < len(shown) <= 3
    assert lines[7] == f"          ({len(all_lines) - 7 - len(shown)} lines left out)"
    assert shown == all_lines[-len(shown) :]


def test_nothing_seen_is_nothing():
    assert one_sided().render() == ""


def test_what_comes_after_the_end_is_not_recorded():
    kept = one_sided()
    exchange(kept)
    before = kept.render()
    kept.end()
    exchange(kept)
    kept.mark("nobody sees this", 0)
    assert kept.render() == before
