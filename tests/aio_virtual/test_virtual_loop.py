"""The event loop in virtual time, without a network: what asyncio promises, at no cost of time."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import random
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic as clock_by_name
from typing import Any, TypeVar

import pytest

from tcpstack.aio import virtual_loop
from tcpstack.aio.virtual import DeadlockError, NotVirtual, Simulation, VirtualLoop
from tcpstack.aio.virtual_loop import COLLECT_TURNS, SPIN_TURNS
from tcpstack.aio.virtual_outside import EPOCH_NS, MOST_READINGS

T = TypeVar("T")


def run(program: Coroutine[Any, Any, T], seed: int = 0) -> T:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(seed=seed)) as runner:
        return runner.run(program)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


# Time


def test_timer_does_not_go_off_before_the_time_it_was_asked_for(loop: VirtualLoop):
    """Who looks at the clock then, and asks again where it is too early (as aiohttp does), would do so for ever."""
    moments = [1 + random.Random(1).random() * each for each in range(1, 200)]
    early: list[float] = []

    def look(when: float) -> None:
        if loop.time() < when:
            early.append(when)

    for when in moments:
        loop.call_at(when, look, when)
    loop.run_until_complete(asyncio.sleep(201, loop.time()))
    assert early == []


def every_clock() -> list[float]:
    """In seconds."""
    return [
        asyncio.get_running_loop().time(),
        time.monotonic(), time.perf_counter(), time.time(), time.process_time(),
        time.monotonic_ns() / 1e9, time.perf_counter_ns() / 1e9, time.time_ns() / 1e9,
        time.clock_gettime(time.CLOCK_REALTIME), time.clock_gettime_ns(time.CLOCK_MONOTONIC) / 1e9,
        time.mktime(time.localtime()),
    ]  # fmt: skip


def test_sleeping_an_hour_takes_no_time_and_moves_every_clock_by_it():
    async def program() -> list[float]:
        before = every_clock()
        await asyncio.sleep(3600)
        return [round(after - then, 6) for after, then in zip(every_clock(), before, strict=True)]

    began = time.monotonic()
    assert set(run(program())) == {3600}
    assert time.monotonic() - began < 5


def test_clocks_that_a_module_has_by_their_names_are_virtual_too():
    async def program() -> tuple[float, float]:
        return clock_by_name(), time.monotonic()

    assert run(program()) == (1.0, 1.0)
    assert clock_by_name() != 1.0
    assert clock_by_name is time.monotonic


def test_wall_clock_begins_at_the_epoch_in_every_form():
    async def program() -> None:
        assert time.time_ns() == EPOCH_NS
        assert time.strftime("%Y", time.gmtime()) == "2026"
        assert time.gmtime()[:6] == (2026, 1, 1, 0, 0, 0)
        assert time.localtime() == time.localtime(EPOCH_NS / 1e9)
        assert time.ctime() == time.asctime() == time.ctime(EPOCH_NS / 1e9)
        assert time.strftime("%H:%M") == time.strftime("%H:%M", time.localtime(EPOCH_NS / 1e9))
        assert time.gmtime(0)[0] == 1970

    run(program())


def test_timers_go_off_in_order_of_time_then_of_asking():
    seen: list[tuple[str, float]] = []

    async def program() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        note = lambda name: seen.append((name, round(loop.time() - began, 9)))  # noqa: E731
        loop.call_later(2, note, "later")
        loop.call_at(began + 1, note, "first at one")
        loop.call_later(1, note, "second at one")
        loop.call_later(0, note, "at once")
        loop.call_at(began - 5, note, "overdue")
        loop.call_soon(note, "soon")
        await asyncio.sleep(3)

    run(program())
    assert seen == [
        ("soon", 0), ("at once", 0), ("overdue", 0), ("first at one", 1), ("second at one", 1), ("later", 2),
    ]  # fmt: skip


def test_cancelled_timer_does_not_go_off_and_takes_no_time(loop):
    went_off: list[str] = []
    loop.call_later(1, loop.stop)
    gone = loop.call_later(0.5, went_off.append, "gone")
    gone.cancel()
    gone.cancel()
    far = loop.call_later(1000, went_off.append, "far")
    far.cancel()
    loop.run_forever()
    assert loop.time() == 2.0
    assert went_off == []
    assert loop.clock.next_ns is None


def test_moment_before_all_time_is_now():
    async def program() -> float:
        loop = asyncio.get_running_loop()
        gone_off = loop.create_future()
        loop.call_at(-math.inf, gone_off.set_result, None)
        loop.call_later(-math.inf, int)
        await gone_off
        return loop.time()

    assert run(program()) == 1.0


def test_the_shortest_delay_moves_time():
    async def program() -> float:
        began = time.monotonic_ns()
        await asyncio.sleep(1e-12)
        return time.monotonic_ns() - began

    assert run(program()) == 1


def test_timers_do_not_drift_over_a_day_of_tenths_of_seconds():
    async def program() -> int:
        began = time.monotonic_ns()
        for _ in range(10_000):
            await asyncio.sleep(0.1)
        return time.monotonic_ns() - began

    assert run(program()) == 1_000_000_000_000


def test_who_polls_with_sleep_0_is_met_by_what_time_brings():
    async def program() -> tuple[bool, float]:
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(10, done.set)
        turns = 0
        while not done.is_set():
            await asyncio.sleep(0)
            turns += 1
        return turns > SPIN_TURNS, time.monotonic()

    assert run(program()) == (True, 11.0)


def test_work_in_memory_takes_no_time_however_long():
    async def program() -> float:
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def produce() -> None:
            for item in range(SPIN_TURNS):
                await queue.put(item)

        producing = asyncio.create_task(produce())
        async with asyncio.timeout(1):
            for _ in range(SPIN_TURNS):
                await queue.get()
        await producing
        return time.monotonic()

    assert run(program()) == 1.0


def test_yields_of_a_program_that_computes_bring_one_happening_in_very_many():
    async def program() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(5)
                beats += 1

        beating = asyncio.create_task(beat())
        for _ in range(4 * SPIN_TURNS):
            await asyncio.sleep(0)
        beating.cancel()
        return beats

    assert run(program()) <= 4


def test_programs_that_only_wake_each_other_up_for_ever_come_to_their_limit(monkeypatch):
    monkeypatch.setattr(virtual_loop, "LIVELOCK_TURNS", 2 * SPIN_TURNS)

    async def program() -> None:
        queue: asyncio.Queue[None] = asyncio.Queue()

        async def beat() -> None:
            while True:
                await asyncio.sleep(5)

        async with asyncio.TaskGroup() as group:
            group.create_task(beat())
            for _ in range(2):
                group.create_task(pass_on(queue))
            queue.put_nowait(None)

    async def pass_on(queue: asyncio.Queue[None]) -> None:
        while True:
            queue.put_nowait(await queue.get())
            await asyncio.sleep(0)

    with Simulation(within_s=60) as sim, pytest.raises(TimeoutError, match="have not finished after 60 s"):
        sim.run(program())


def test_due_timers_come_between_the_turns_of_a_busy_program():
    async def program() -> int:
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(0, done.set)
        turns = 0
        while not done.is_set():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert run(program()) == 2  # as asyncio: what is due comes behind what was ready


def test_busy_program_that_nothing_can_help_is_given_up(monkeypatch):
    monkeypatch.setattr(virtual_loop, "LIVELOCK_TURNS", 2 * SPIN_TURNS)

    async def program() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(DeadlockError, match="keep the loop busy"):
        run(program())


def test_waiting_by_reading_the_clock_is_reported():
    async def program() -> None:
        while time.monotonic() < 10:
            pass

    with pytest.raises(NotVirtual, match="asking the clock again and again"):
        run(program())


def test_reading_the_clock_often_between_waits_is_fine():
    async def program() -> None:
        for _ in range(3):
            for _ in range(MOST_READINGS // 2):
                time.monotonic()
            await asyncio.sleep(0)

    run(program())


# What asyncio promises


def test_timeouts_end_what_they_are_to_end_in_virtual_time():
    async def program() -> list[float]:
        times = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(3600)
        times.append(time.monotonic())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 60)
        times.append(time.monotonic())
        assert await asyncio.wait_for(asyncio.sleep(5, "in time"), 60) == "in time"
        times.append(time.monotonic())
        return times

    assert run(program()) == [31.0, 91.0, 96.0]


def test_queue_and_workers_share_the_work():
    async def worker(queue: asyncio.Queue[int], seconds: float, done: list[int]) -> None:
        while True:
            item = await queue.get()
            await asyncio.sleep(seconds)
            done.append(item)
            queue.task_done()

    async def program() -> tuple[list[int], float]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        done: list[int] = []
        workers = [asyncio.create_task(worker(queue, seconds, done)) for seconds in (1, 2.5)]
        for item in range(6):
            queue.put_nowait(item)
        await queue.join()
        for each in workers:
            each.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        return done, time.monotonic() - 1

    assert run(program()) == ([0, 2, 1, 3, 5, 4], 5.0)


def test_task_group_cancels_the_others_in_the_order_in_which_they_were_made():
    async def program() -> list[int]:
        ended: list[int] = []

        async def child(number: int) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append(number)

        async def bad() -> None:
            await asyncio.sleep(1)
            raise LookupError("bad")

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(40):
                    group.create_task(child(number))
                group.create_task(bad())
        except* LookupError:
            ended.append(-1)
        return ended

    assert run(program()) == [*range(40), -1]


def test_as_completed_starts_coroutines_in_their_order():
    async def program() -> list[int]:
        began: list[int] = []

        async def each(number: int) -> int:
            began.append(number)
            await asyncio.sleep(1)
            return number

        for done in asyncio.as_completed([each(number) for number in range(40)], timeout=5):
            await done
        return began

    assert run(program()) == list(range(40))


def test_tasks_are_named_by_their_number_in_this_loop():
    async def name() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    async def program() -> list[str]:
        return [await asyncio.create_task(name()), await asyncio.create_task(name(), name="mine")]

    assert run(program()) == run(program()) == ["Task-2", "mine"]


def test_task_factory_of_the_program_is_used():
    made = []

    async def program() -> int:
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **more)

        loop.set_task_factory(factory)
        return await asyncio.create_task(asyncio.sleep(1, 5))

    assert run(program()) == 5
    assert "sleep" in repr(made[0])


def test_tasks_can_share_one_context():
    number = contextvars.ContextVar("number", default=0)

    async def program() -> int:
        context = contextvars.copy_context()

        async def inner() -> None:
            await asyncio.get_running_loop().create_task(outer_sets(), context=context)

        async def outer_sets() -> None:
            number.set(number.get() + 1)

        await asyncio.get_running_loop().create_task(inner(), context=context)
        return context[number]

    assert run(program()) == 1


def test_exception_handler_hears_of_callbacks_that_raise():
    async def program() -> list[str]:
        heard: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: heard.append(str(context["exception"])))
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        return heard

    assert run(program()) == ["division by zero"]


def test_asynchronous_generators_are_closed_at_the_end():
    closed = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            closed.append(time.monotonic())

    kept = numbers()

    async def program() -> None:
        assert await anext(kept) == 1

    run(program())
    assert closed == [2.0]


def test_debug_mode_makes_no_difference():
    async def program() -> float:
        await asyncio.sleep(100)
        return time.monotonic()

    with asyncio.Runner(loop_factory=VirtualLoop, debug=True) as runner:
        assert runner.run(program()) == 101


# Executors


def test_executor_runs_the_function_in_this_thread_as_a_callback_of_its_own():
    async def program() -> None:
        loop = asyncio.get_running_loop()
        order: list[str] = []

        def work(number: int) -> int:
            order.append("work")
            return threading.get_ident() + number

        future = loop.run_in_executor(None, work, 1)
        loop.call_soon(order.append, "asked later")
        order.append("asked")
        assert await future == threading.get_ident() + 1
        assert order == ["asked", "work", "asked later"]
        with ThreadPoolExecutor() as pool:
            assert await loop.run_in_executor(pool, work, 2) == threading.get_ident() + 2
        loop.set_default_executor(pool)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)

    run(program())


def test_to_thread_carries_the_context():
    number = contextvars.ContextVar("number", default=0)

    async def program() -> int:
        number.set(7)
        return await asyncio.to_thread(number.get)

    assert run(program()) == 7


def test_function_that_raises_stop_iteration_and_one_that_cancels_who_waits_for_it():
    errors: list[dict[str, Any]] = []

    async def program() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        with pytest.raises(RuntimeError, match="StopIteration"):
            await loop.run_in_executor(None, next, iter(()))
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(asyncio.CancelledError):
            await loop.run_in_executor(None, task.cancel)

    run(program())
    assert errors == []


def test_sets_of_futures_have_the_order_in_which_they_were_made():
    async def program() -> list[int]:
        loop = asyncio.get_running_loop()
        waste = [bytearray(size) for size in range(1, 2000, 7)]
        done, _ = await asyncio.wait([loop.run_in_executor(None, int, number) for number in range(40)])
        del waste
        return [future.result() for future in done]

    assert run(program()) == list(range(40))


def test_function_whose_future_was_cancelled_is_not_run():
    ran: list[str] = []

    async def program() -> None:
        asyncio.get_running_loop().run_in_executor(None, ran.append, "cancelled").cancel()
        await asyncio.get_running_loop().run_in_executor(None, ran.append, "not cancelled")

    run(program())
    assert ran == ["not cancelled"]


# Chance


def test_the_module_random_has_the_seeds_numbers_and_gives_its_own_back():
    async def program() -> list[float]:
        fresh = random.Random()
        random.seed()
        return [random.random(), fresh.random(), random.Random(None).random(), random.Random(5).random()]

    random.seed(1)
    expected = random.random()
    random.seed(1)
    first, again, other = run(program(), seed=3), run(program(), seed=3), run(program(), seed=4)
    assert random.random() == expected
    assert first == again
    assert first[:3] != other[:3]
    assert len(set(first)) == 4
    assert first[3] == other[3] == random.Random(5).random()


def test_chance_goes_on_from_one_run_of_a_loop_to_the_next(loop):
    async def draw() -> float:
        return random.random()

    assert loop.run_until_complete(draw()) != loop.run_until_complete(draw())


def test_garbage_is_collected_at_the_same_turn_in_every_run():
    class Cycle:
        def __init__(self, collected: list[int]) -> None:
            self.me = self
            self.collected = collected

        def __del__(self) -> None:
            self.collected.append(self.turn())

        def turn(self) -> int:
            return turns

    turns = 0

    async def program() -> list[int]:
        nonlocal turns
        turns = 0
        collected: list[int] = []
        Cycle(collected)
        assert not gc.isenabled()
        for turns in range(2 * COLLECT_TURNS):  # noqa: B007
            await asyncio.sleep(0)
        return collected

    first = run(program())
    assert len(first) == 1
    assert run(program()) == first
    assert gc.isenabled()


# Ends


def test_waiting_for_nothing_is_a_deadlock_and_the_loop_can_still_be_closed():
    cleaned = []

    async def program() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned.append(True)

    with pytest.raises(DeadlockError, match="nothing can happen any more"):
        run(program())
    assert cleaned == [True]


def test_sleeping_for_ever_is_waiting_for_nothing():
    async def program() -> None:
        asyncio.get_running_loop().call_at(math.inf, pytest.fail).cancel()
        await asyncio.sleep(math.inf)

    with pytest.raises(DeadlockError, match="for sleep"):
        run(program())


def test_call_from_another_thread_is_refused_there_and_from_this_one_welcome(loop):
    refused: list[Exception] = []
    go = threading.Event()
    tried = threading.Event()

    def call() -> None:
        go.wait(5)
        try:
            loop.call_soon_threadsafe(pytest.fail)
        except NotVirtual as error:
            refused.append(error)
        tried.set()

    thread = threading.Thread(target=call)
    thread.start()

    async def program() -> None:
        go.set()
        while not tried.is_set():
            await asyncio.sleep(0)
        here = asyncio.Event()
        asyncio.get_running_loop().call_soon_threadsafe(here.set)
        await here.wait()

    loop.run_until_complete(program())
    thread.join()
    assert "from another thread" in str(refused[0])


def test_other_threads_keep_their_clock_while_the_loop_runs(loop):
    times: list[float] = []
    go, read = threading.Event(), threading.Event()

    def look() -> None:
        go.wait(5)
        times.append(time.time())
        read.set()

    before = time.time()
    thread = threading.Thread(target=look)
    thread.start()

    async def program() -> None:
        go.set()
        while not read.is_set():
            await asyncio.sleep(0)

    loop.run_until_complete(program())
    thread.join()
    assert before <= times[0] <= time.time()


def test_one_simulation_at_a_time():
    async def program() -> None:
        other = VirtualLoop()
        with pytest.raises(RuntimeError, match="one at a time"), other.outside:
            pass
        other.close()

    run(program())


def test_closed_loop_takes_nothing_any_more(loop):
    loop.close()
    for call in (lambda: loop.call_later(1, print), lambda: loop.call_at(1, print), lambda: loop.call_soon(print)):
        with pytest.raises(RuntimeError, match="closed"):
            call()
