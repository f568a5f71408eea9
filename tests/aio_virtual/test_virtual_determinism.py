"""The same seed gives the same trace, byte for byte, in any process; and a run leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tcpstack import Simulation
from tcpstack.aio.virtual_loop import COLLECT_TURNS
from tests.aio_virtual.chatter import run

ROOT = Path(__file__).parents[2]


def in_another_process(*arguments: str, hash_seed: str, options: tuple[str, ...] = ()) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", *options, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout.strip()


@pytest.mark.parametrize("mode", ["segments", "octets"])
def test_same_seed_gives_the_same_trace_in_processes_that_hash_otherwise(mode: str):
    script = ("-m", "tests.aio_virtual.chatter", "7", mode)
    here = run(7, mode == "octets")
    digest = f"{here.events} {here.hexdigest()}"
    assert here.events > 5_000
    assert in_another_process(*script, hash_seed="1") == digest
    assert in_another_process(*script, hash_seed="2", options=("-X", "dev")) == digest


def test_another_seed_gives_another_trace():
    assert run(1).hexdigest() != run(2).hexdigest()


def test_garbage_of_the_time_before_does_nothing_in_a_run():
    class Finalized:
        def __del__(self):
            random.random()

    async def draw() -> float:
        for _ in range(COLLECT_TURNS + 1):
            await asyncio.sleep(0)
        return random.random()

    def run(garbage: bool) -> float:
        gc.collect()
        if garbage:
            one = Finalized()
            one.itself = one
            del one
        with Simulation(seed=7) as sim:
            return sim.run(draw())[0]

    assert run(True) == run(False)
    assert gc.get_freeze_count() == 0


def test_asynchronous_generators_that_nobody_finished_end_in_the_order_of_their_beginning():
    ended = []

    async def numbers(name: int):
        try:
            yield 1
            yield 2
        finally:
            ended.append(name)

    async def program() -> None:
        begun.extend(numbers(name) for name in range(50))
        for each in begun:
            await anext(each)

    begun = []
    with Simulation() as sim:
        sim.run(program())
    assert ended == list(range(50))


UNTIDY = """
import asyncio
from tcpstack import Simulation, DeadlockError

async def on_client(reader, writer):
    try:
        await reader.read()
    finally:
        writer.write(b"late")

async def server():
    server = await asyncio.start_server(on_client, port=80)
    async with server:
        await server.serve_forever()

async def numbers(reader):
    while True:
        yield await reader.read(1)

async def client(keep):
    reader, writer = await asyncio.open_connection("b", 80)
    keep.append(writer)
    asyncio.create_task(asyncio.sleep(10_000))
    async for number in numbers(reader):
        pass

async def done():
    await asyncio.sleep(10)

def world():
    sim = Simulation()
    a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
    sim.link(a, b)
    b.spawn(server())
    return sim, a

keep = []
sim, a = world()
a.spawn(client(keep))
a.run(done())

sim, a = world()
task = a.spawn(client(keep))
try:
    sim.run(task)
except DeadlockError as error:
    print(len(error.waiting))

world()[0].close()
"""


def test_ends_of_untidy_programs_leave_no_warning_and_no_message():
    for options in ((), ("-X", "dev")):
        assert in_another_process("-c", UNTIDY, hash_seed="0", options=options) == "3"
