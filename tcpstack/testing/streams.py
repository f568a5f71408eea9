"""A connected pair of asyncio's streams: in virtual time between simulated hosts, or in real time in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from ..aio.host import Host
from ..aio.opening import open_memory_pair
from ..aio.virtual import SimulatedHost, Simulation
from ..core.events import Tracer
from ..device.fault_lists import rules_of
from ..device.faults import Rule
from ..device.pipe import Line
from .pair import CLIENT_ADDRESSES, PORT, SERVER_ADDRESSES


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """One end of the connection, and the host it is on."""

    host: Host
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class StreamPair:
    """`client` has connected to `server`."""

    client: StreamEnd
    server: StreamEnd


@dataclass(frozen=True, slots=True)
class VirtualStreamPair(StreamPair):
    """A StreamPair in virtual time. Its streams are for programs that `run` runs (or simulation.run, spawn, ...)."""

    simulation: Simulation

    def run(self, *programs: Coroutine[Any, Any, Any], within_s: float | None = None) -> list[Any]:
        """Let time pass until these programs have ended; their results. Raises what Simulation.run raises."""
        return self.simulation.run(*programs, within_s=within_s)


def connect_virtual(simulation: Simulation, line: Line, faults: Sequence[str | Rule] = ()) -> VirtualStreamPair:
    """Two hosts in `simulation`, "client" at 10.0.0.1 and "server" at 10.0.0.2, `line` between them, and a connection.
    `faults` act on the client's packets from the first SYN on. Raises what open_connection and Simulation.run raise.
    """
    client: SimulatedHost = simulation.host("client", *CLIENT_ADDRESSES, faults=faults)
    server = simulation.host("server", *SERVER_ADDRESSES)
    simulation.link(client, server, line)
    ends = client.run(_connect(client, server))
    return VirtualStreamPair(*ends, simulation)


@asynccontextmanager
async def connect_in_memory(
    seed: int, faults: Sequence[str | Rule] = (), tracer: Tracer | None = None
) -> AsyncIterator[StreamPair]:
    """Two hosts as open_memory_pair makes them, on the running loop in real time, and a connection. `faults` act on
    the client's packets; `tracer` sees what the client sees; ports, sequence numbers and the chance in rules that name
    no seed come from `seed`.

    Raises RuntimeError where no loop of asyncio runs, such as under trio.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        remedy = "with anyio run the test on its backend asyncio"
        raise RuntimeError(f"streams in memory need an event loop of asyncio, and none runs here: {remedy}") from None
    rules = rules_of(faults, seed, "client")
    async with open_memory_pair(faults=rules, tracer=tracer, random=Random(seed)) as (client, server):
        yield StreamPair(*await _connect(client, server))


async def _connect(client: Host, server: Host) -> tuple[StreamEnd, StreamEnd]:
    accepted: asyncio.Future[StreamEnd] = asyncio.get_running_loop().create_future()

    def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(StreamEnd(server, reader, writer))

    listening = await server.start_server(on_client, port=PORT)
    ours = StreamEnd(client, *await client.open_connection(str(server.addresses[0].ip), PORT))
    theirs = await accepted
    listening.close()
    return ours, theirs
