"""What a simulation keeps where it is asked to, and how its end shows there."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path

import dpkt
import pytest

from tcpstack import Simulation
from tcpstack.core.events import ConnectionClosed, Event, SegmentOut
from tcpstack.core.segment import RST
from tests.aio_virtual.programs import echo_client, echo_server

ENDED = "— the programs have ended; what is still open is closed —"
OVER = "— the simulation is over —"


def rows(ladder: str) -> list[str]:
    return [line for line in ladder.splitlines() if re.match(r" *\d+(\.\d+)? ", line)]


def world(faults: list[str] | str = (), **options) -> Simulation:
    """a and b, with an echo server on b. `faults` are a's."""
    sim = Simulation(7, **options)
    a, b = sim.host("a", "10.0.0.1/24", faults=faults), sim.host("b", "10.0.0.2/24")
    sim.link(a, b, delay="20ms")
    b.spawn(echo_server())
    return sim


async def leave_open() -> None:
    reader, writer = await asyncio.open_connection("b", 80)
    writer.write(b"left open")
    await reader.readexactly(9)
    asyncio.get_running_loop().writer = writer  # so that nobody collects it


def test_ladder_has_the_hosts_names_and_both_ends_states():
    with world(ladder=True) as sim:
        assert sim.hosts["a"].run(echo_client("b", b"hello")) == b"hello"
        sim.host("c", "10.0.0.3/24")
    ladder = sim.ladder("a", sim.hosts["b"])
    assert "── conversation 1: a and b ──" in ladder
    assert "> LISTEN → SYN-RECEIVED" in ladder
    assert "~" not in ladder
    assert sim.ladder("c") == "(no connection)"
    with pytest.raises(ValueError, match="there is no host 'd'"):
        sim.ladder("d")


def test_ladder_that_was_not_asked_for_is_an_error():
    with world() as sim, pytest.raises(RuntimeError, match="ask for it first, by ladder=True"):
        sim.ladder()


def test_what_the_end_closes_stands_behind_a_line_that_says_so():
    with world(ladder=True) as sim:
        sim.hosts["a"].run(leave_open())
    told = rows(sim.ladder())
    end = next(number for number, row in enumerate(told) if ENDED in row)
    assert not any("FIN" in row for row in told[:end])
    assert any("FIN" in row for row in told[end:])
    assert OVER not in sim.ladder()
    assert "RST" not in sim.ladder()


def test_connection_without_a_peer_is_left_as_it_is_when_the_simulation_is_over():
    with world(["blackhole after=1s"], ladder=True) as sim:

        async def linger() -> None:
            await leave_open()
            await asyncio.sleep(2)

        sim.hosts["a"].run(linger())
    told = rows(sim.ladder())
    end = next(number for number, row in enumerate(told) if ENDED in row)
    assert OVER in told[-1]
    assert 0 < sum("FIN" in row and "X" in row for row in told[end:]) < 20
    assert not any("abort" in row or "RST" in row or "is over:" in row for row in told)


def test_failure_of_a_program_shows_without_the_resets_of_the_hosts_that_end_with_it():
    async def fails() -> None:
        await leave_open()
        raise LookupError("too bad")

    with pytest.raises(LookupError), world(ladder=True) as sim:
        sim.hosts["a"].run(fails())
    told = rows(sim.ladder())
    assert [mark for mark in (ENDED, OVER) for row in told if mark in row] == [ENDED, OVER]
    assert OVER in told[-1]
    assert "RST" not in sim.ladder()


def test_hosts_stay_at_the_end_until_the_last_acknowledgement_has_arrived():
    events: list[Event] = []
    # a's acknowledgement of b's FIN is lost: somebody has to answer when that FIN comes again.
    with world(["drop ack dir=out nth=3"], tracer=events.append, ladder=True) as sim:
        sim.hosts["a"].run(leave_open())
    assert re.search(r"─── ACK seq 11 ack 11 .*─X", sim.ladder())
    assert not [event for event in events if isinstance(event, SegmentOut) and event.segment.flags & RST]
    ends = [(event.error, event.retransmitted) for event in events if isinstance(event, ConnectionClosed)]
    assert ends == [(None, 0), (None, 1)]


def test_capture_is_whole_at_the_end_and_the_same_for_the_same_seed(tmp_path: Path):
    files = [tmp_path / "one.pcapng", tmp_path / "two.pcapng"]
    for file in files:
        with world(["loss 20%"], pcapng=file) as sim:
            assert sim.hosts["a"].run(echo_client("b", bytes(20_000))) == bytes(20_000)
    one, two = (file.read_bytes() for file in files)
    assert one == two
    packets = list(dpkt.pcapng.Reader(io.BytesIO(one)))
    assert packets[0][0] == pytest.approx(1767225600.0, abs=10)
    assert [at for at, _ in packets] == sorted(at for at, _ in packets)
    assert len(packets) > 20
    assert one.count("dropped by the fault rule “loss 20% seed=".encode()) > 0


def test_capture_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        Simulation(pcapng=tmp_path)
