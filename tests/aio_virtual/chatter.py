"""A run in which everything that could differ between two processes has its chance to: prints a digest of its trace.

    python -m tests.aio_virtual.chatter SEED [octets]
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sys
import time

from tcpstack.aio.virtual import Simulation
from tcpstack.core.events import Event, SegmentIn, SegmentOut
from tcpstack.wire.codec import DPKT
from tcpstack.wire.objects import OBJECTS
from tests.aio_virtual.programs import echo_client, serve


class Digest:
    """A tracer that takes all there is to an event."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.events = 0

    def __call__(self, event: Event) -> None:
        self.events += 1
        self.add(repr(event))
        if isinstance(event, SegmentIn | SegmentOut):
            segment = event.segment
            self.add(f"{segment.reason} {segment.packet_id} {segment.text()!r}")

    def add(self, text: str) -> None:
        self._hash.update(text.encode())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each line after a while, at a length of its own choice; some it resets."""
    with contextlib.suppress(OSError):
        while line := await reader.readline():
            await asyncio.sleep(random.expovariate(10))
            if random.random() < 0.05:
                writer.transport.abort()
                return
            writer.write(line.upper() * random.randint(1, 200))
            await writer.drain()
    writer.close()


async def talk(number: int) -> int:
    reader, writer = await asyncio.open_connection("server", 80)
    size = 0
    try:
        for turn in range(5):
            writer.write(f"client {number} turn {turn} of {random.random()}\n".encode())
            size += len(await reader.read(1000))
            await asyncio.sleep(random.Random().random())
    finally:
        writer.close()
    return size


async def crowd(digest: Digest) -> None:
    """Tasks in groups that fail, in sets, and started from a set."""
    for round in range(3):
        try:
            async with asyncio.timeout(120), asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(talk(number))
        except* (OSError, TimeoutError) as errors:
            digest.add(f"{round} {len(errors.exceptions)} {time.time()}")
    done, late = await asyncio.wait({asyncio.create_task(talk(number)) for number in range(10)}, timeout=5)
    for task in late:
        task.cancel()
    digest.add(str([(task.get_name(), task.exception()) for task in done]))
    for finished in asyncio.as_completed([asyncio.wait_for(talk(number), 60) for number in range(10)]):
        digest.add(str(await asyncio.gather(finished, return_exceptions=True)))
    with contextlib.suppress(OSError):
        digest.add(str(len(await echo_client("server", bytes(50_000), 81))))


def run(seed: int, octets: bool = False) -> Digest:
    digest = Digest()
    with Simulation(seed, tracer=digest, codec=DPKT if octets else OBJECTS) as sim:
        faults = ["loss 2% seed=1", "duplicate 1%", "corrupt 0.5%", "mtu 1400 data nth=1..5"]
        server = sim.host("server", "10.0.0.1/24", faults=faults)
        clients = [sim.host(f"client{n}", f"10.0.{n}.1/24", faults=["reorder 3%"]) for n in (1, 2)]
        router = sim.router("router")
        for host in (server, *clients):
            sim.link(host, router, delay="5ms", jitter="10ms", rate="2mbit", queue="20kB")
        server.spawn(serve(shout))
        server.spawn(serve(echo, 81))
        sim.run(*(client.spawn(crowd(digest)) for client in clients))
    digest.add(str(sim.clock.now_ns))
    return digest


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(10_000):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    result = run(int(sys.argv[1]), "octets" in sys.argv)
    print(result.events, result.hexdigest())
