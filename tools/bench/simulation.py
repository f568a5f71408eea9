"""How fast simulated time passes: `python -m tools.bench.simulation SECONDS` prints it as JSON.

    segments-N  N busy connections from one host to another, over one link of 10 Mbit/s each way, 10 ms and a queue of
                64 KB; the link carries Segments
    octets-N    the same where it carries octets, as with Network(codec=FAST)
    dpkt-N      the same with the codec that is FAST's reference, Network(codec=DPKT)
    streams     10 connections of asyncio streams over that link (aio.virtual), in ping-pong: 100 octets there and back

Each runs for SECONDS of simulated time, after one that is not counted. Told is what passes, or happens, in a second of
this process's CPU time: simulated seconds, segments that were sent, and events, which are the happenings of the clock.
The seed is fixed, so that what happens is the same in every run and version, unless TCP itself has changed.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from dataclasses import asdict, dataclass

from tcpstack.aio.virtual import Simulation
from tcpstack.core.config import MILLISECOND_NS
from tcpstack.core.connection import Connection
from tcpstack.core.readiness import CONNECTED, READABLE, WRITABLE
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network
from tcpstack.wire.codec import DPKT, FAST, Codec
from tcpstack.wire.objects import OBJECTS

CONNECTIONS = (1, 10, 100)
CODECS = {"segments": OBJECTS, "octets": FAST, "dpkt": DPKT}
STREAMS = "streams"
STREAMS_CONNECTIONS = 10

_LINE = Line(rate_bps=10_000_000, delay_ns=10 * MILLISECOND_NS, queue_bytes=64_000)
_PORT = 7
_MESSAGE = bytes(100)
_WRITE = bytes(65_536)
_WARM_UP_S = 1.0


@dataclass(frozen=True)
class Speed:
    """What a second of CPU time is enough for: so many simulated seconds, segments and events."""

    simulated_s: float
    segments: float
    events: float


def main(seconds: float) -> dict[str, dict[str, float]]:
    """How fast each of them goes, by its name."""
    speeds = {
        f"{kind}-{connections}": _busy_connections(connections, codec, seconds)
        for connections in CONNECTIONS
        for kind, codec in CODECS.items()
    }
    speeds[STREAMS] = _ping_pong(seconds)
    return {name: asdict(speed) for name, speed in speeds.items()}


def _busy_connections(connections: int, codec: Codec, seconds: float) -> Speed:
    network = Network(seed=1, codec=codec)
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    network.link(a, b, _LINE)

    def write(connection: Connection, mask: int) -> None:
        if mask & (CONNECTED | WRITABLE) and connection.unsent_bytes < len(_WRITE):
            a.send(connection, _WRITE)

    def read(connection: Connection, mask: int) -> None:
        if mask & READABLE:
            b.receive(connection, len(_WRITE))

    def accept() -> None:
        while (connection := listener.accept()) is not None:
            connection.user = connection

    a.notify, b.notify = write, read
    listener = b.listen(_PORT)
    listener.on_connection = accept
    for _ in range(connections):
        connection = a.connect(b.stack.addresses[0].ip.packed, _PORT)
        connection.user = connection
    network.run(_WARM_UP_S)
    meter = _Meter(network)
    network.run(seconds)
    return meter.read(seconds)


def _ping_pong(seconds: float) -> Speed:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while message := await reader.read(len(_MESSAGE)):
            writer.write(message)
        writer.close()

    async def serve() -> None:
        await asyncio.start_server(answer, port=_PORT)

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("b", _PORT)
        while True:
            writer.write(_MESSAGE)
            await reader.readexactly(len(_MESSAGE))

    with Simulation(seed=1) as sim:
        a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
        sim.link(a, b, _LINE)
        b.run(serve())
        for _ in range(STREAMS_CONNECTIONS):
            a.spawn(ask())
        sim.run(asyncio.sleep(_WARM_UP_S))
        meter = _Meter(sim.network)
        sim.run(asyncio.sleep(seconds))
        return meter.read(seconds)


class _Meter:
    """Counts from when it is made."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._segments = network.next_packet_id()  # the packets that hosts send have numbers one after another
        self._events = network.clock.happened
        self._cpu_s = _cpu_s()

    def read(self, simulated_s: float) -> Speed:
        """Since then, in which so much simulated time has passed."""
        cpu_s = _cpu_s() - self._cpu_s
        network = self._network
        segments, events = network.next_packet_id() - self._segments - 1, network.clock.happened - self._events
        return Speed(simulated_s / cpu_s, segments / cpu_s, events / cpu_s)


def _cpu_s() -> float:
    """Of this process. Not by time.process_time: while a Simulation runs, that is simulated, too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]))))
