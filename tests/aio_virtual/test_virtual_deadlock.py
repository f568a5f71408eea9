"""Who waits for what: the report of programs that would wait for ever."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tcpstack.aio.virtual import DeadlockError, SimulatedHost, Simulation, Waiting
from tests.aio_virtual.programs import echo_server, serve

HERE = Path(__file__)


def deadlock(run: Callable[[], object]) -> DeadlockError:
    with pytest.raises(DeadlockError) as caught:
        run()
    return caught.value


def of(error: DeadlockError, task: str) -> Waiting:
    """The line about one task."""
    return next(waiting for waiting in error.waiting if waiting.task == task)


async def awaits_future() -> None:
    await asyncio.get_running_loop().create_future()


async def awaits_task() -> None:
    await asyncio.create_task(awaits_future(), name="other")


async def awaits_gather() -> None:
    await asyncio.gather(awaits_future(), awaits_future())


async def awaits_queue() -> None:
    await asyncio.Queue().get()


async def awaits_event() -> None:
    await asyncio.Event().wait()


async def awaits_lock() -> None:
    lock = asyncio.Lock()
    async with lock, lock:
        pass


async def awaits_condition() -> None:
    condition = asyncio.Condition()
    async with condition:
        await condition.wait_for(lambda: False)


async def awaits_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(awaits_future())


async def awaits_wait() -> None:
    await asyncio.wait([asyncio.create_task(awaits_future())])


async def awaits_timeout_without_end() -> None:
    async with asyncio.timeout(None):
        await asyncio.Event().wait()


async def numbers() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


async def awaits_generator() -> None:
    async for _ in numbers():
        pass


class Thing:
    def __await__(self) -> Any:
        yield from asyncio.Event().wait().__await__()


async def awaits_thing() -> None:
    await Thing()


async def awaits_shield() -> None:
    await asyncio.shield(awaits_future())


@pytest.mark.parametrize(
    ("program", "awaited", "line"),
    [
        (awaits_future, "Future", "await asyncio.get_running_loop"),
        (awaits_task, "task other", "await asyncio.create_task"),
        (awaits_gather, "GatheringFuture", "await asyncio.gather"),
        (awaits_queue, "Queue.get", "await asyncio.Queue()"),
        (awaits_event, "Event.wait", "await asyncio.Event()"),
        (awaits_lock, "Lock.acquire", "async with lock"),
        (awaits_condition, "Condition.wait_for", "await condition"),
        (awaits_group, "TaskGroup.__aexit__", "async with asyncio.TaskGroup"),
        (awaits_wait, "wait", "await asyncio.wait("),
        (awaits_timeout_without_end, "Event.wait", "await asyncio.Event()"),
        (awaits_shield, "Future", "await asyncio.shield"),
    ],
)
def test_place_and_thing_are_told(program: Callable[[], Coroutine[Any, Any, None]], awaited: str, line: str):
    error = deadlock(lambda: Simulation().run(program()))
    waiting = of(error, program.__name__)
    assert waiting.host is None
    assert waiting.awaits == awaited
    place, _, function = waiting.where.partition(" in ")
    file, _, number = place.rpartition(":")
    assert (file, function) == (str(HERE), program.__name__)
    assert line in HERE.read_text().splitlines()[int(number) - 1]


def test_place_is_the_innermost_of_the_programs_own():
    """Through asynchronous generators and objects with __await__ too."""
    error = deadlock(lambda: Simulation().run(awaits_generator()))
    assert of(error, "awaits_generator").where.endswith("in numbers")
    assert of(error, "awaits_generator").awaits == "Event.wait"
    error = deadlock(lambda: Simulation().run(awaits_thing()))
    assert of(error, "awaits_thing").where.endswith("in Thing.__await__")
    assert of(error, "awaits_thing").awaits == "Event.wait"


def test_things_show_themselves_without_memory_addresses():
    error = deadlock(lambda: Simulation().run(awaits_queue()))
    assert of(error, "awaits_queue").detail == "<Queue maxsize=0 _getters[1]>"
    error = deadlock(lambda: Simulation().run(awaits_event()))
    assert of(error, "awaits_event").detail == "<asyncio.locks.Event [unset, waiters:1]>"


def test_task_that_is_one_of_asyncios_own_coroutines_has_no_place():
    async def program() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="bare")

    error = deadlock(lambda: Simulation().run(program()))
    assert str(of(error, "bare")) == "bare waits for Event.wait: <asyncio.locks.Event [unset, waiters:1]>"


def test_client_and_server_that_wait_for_each_other_are_told_with_their_connection(
    sim: Simulation, a: SimulatedHost, b: SimulatedHost
):
    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("b", 80)
        writer.write(b"only 9 of")
        await reader.readline()

    b.spawn(serve(on_client), name="server")
    error = deadlock(lambda: a.run(client()))
    server, client_, handler = error.waiting
    assert [(server.task, server.host), (client_.task, client_.host), handler.host] == [
        ("server", "b"), ("client", "a"), "b",
    ]  # fmt: skip
    assert server.awaits == "Server.serve_forever"
    assert server.where.startswith(f"{inspect.getsourcefile(serve)}:")
    assert (client_.awaits, handler.awaits) == ("StreamReader.readline", "StreamReader.readexactly")
    assert client_.where.endswith("in client")
    assert handler.where.endswith("in on_client")
    assert client_.detail.startswith("<TcpTransport ('10.0.0.1', ")
    assert client_.detail.endswith(" to ('10.0.0.2', 80) ESTABLISHED reading, unsent=0>")
    assert handler.detail.startswith("<TcpTransport ('10.0.0.2', 80) to ('10.0.0.1', ")
    lines = str(error).splitlines()
    assert lines[0].startswith("nothing can happen any more, and programs still wait (it is ")
    assert lines[1:] == [f"  {waiting}" for waiting in error.waiting]
    assert str(client_) == f"client on a waits in {client_.where} for StreamReader.readline: {client_.detail}"


def test_deadlock_is_told_as_soon_as_the_last_timer_has_gone_off(sim: Simulation, a: SimulatedHost, b: SimulatedHost):
    async def client() -> None:
        _, writer = await asyncio.open_connection("b", 80)
        writer.close()
        await writer.wait_closed()
        await asyncio.Event().wait()

    b.spawn(echo_server())
    error = deadlock(lambda: a.run(client()))
    assert error.time_s == pytest.approx(61, abs=1)  # TIME-WAIT


def test_window_that_never_opens_is_a_deadlock_though_it_is_probed_for_ever(
    sim: Simulation, a: SimulatedHost, b: SimulatedHost
):
    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def client() -> None:
        _, writer = await asyncio.open_connection("b", 80)
        while True:
            writer.write(bytes(100_000))
            await writer.drain()

    b.spawn(serve(on_client), name="server")
    error = deadlock(lambda: a.run(client()))
    assert "for a day nothing has happened but TCP's own timers" in error.headline
    assert of(error, "client").awaits == "StreamWriter.drain"
    assert error.time_s == pytest.approx(24 * 3600, abs=120)


def test_sleeper_of_many_days_beside_probes_is_no_deadlock(sim: Simulation, a: SimulatedHost, b: SimulatedHost):
    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3 * 24 * 3600)
        writer.transport.abort()

    async def client() -> None:
        _, writer = await asyncio.open_connection("b", 80)
        while True:
            writer.write(bytes(100_000))
            await writer.drain()

    b.spawn(serve(on_client), name="server")
    with pytest.raises(ConnectionResetError):
        a.run(client())


def test_same_deadlock_has_the_same_report():
    def report() -> str:
        sim = Simulation(seed=3)
        a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
        sim.link(a, b)
        b.spawn(echo_server())

        async def client() -> None:
            reader, _writer = await asyncio.open_connection("b", 80)
            await reader.read()

        return str(deadlock(lambda: a.run(client())))

    assert report() == report()
