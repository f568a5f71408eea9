"""The driver by itself, between a scripted stack and a scripted device."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tcpstack.aio.driver import BATCH_PACKETS, BATCHES_PER_TURN, ConnectionUser, Driver
from tcpstack.wire.packet import Packet
from tests.aio.driver_parts import SECOND_NS, Fixture, ScriptedDevice, ScriptedStack
from tests.aio.recorder import eventually, turns


@pytest.fixture
async def parts() -> Any:
    parts = Fixture()
    yield parts
    parts.driver.stop()


async def test_packets_that_waited_before_the_start_are_read() -> None:
    stack, device = ScriptedStack(), ScriptedDevice()
    device.arrive(3)
    driver = Driver(stack, device, asyncio.get_running_loop())  # type: ignore[arg-type]
    driver.start()
    await turns()
    assert stack.batches == [3]
    driver.stop()


async def test_announcements_of_one_turn_make_one_batch(parts: Fixture) -> None:
    await turns()
    parts.device.receive_calls = 0
    for _ in range(5):
        parts.device.arrive(1)
    assert parts.stack.batches == []
    await turns()
    assert parts.stack.batches == [5]
    assert parts.device.receive_calls == 2, "the batch, and the empty one that ends the turn"


async def test_flood_yields_to_the_loop_after_a_few_batches(parts: Fixture) -> None:
    await turns()
    parts.device.arrive(BATCH_PACKETS * (BATCHES_PER_TURN + 1))
    await turns(1)
    assert parts.stack.batches == [BATCH_PACKETS] * BATCHES_PER_TURN
    await turns()
    assert parts.stack.batches == [BATCH_PACKETS] * (BATCHES_PER_TURN + 1)


async def test_batch_that_raises_is_reported_and_the_rest_still_processed(parts: Fixture) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    await turns()
    parts.stack.raises = AssertionError("broken invariant")
    parts.device.arrive(BATCH_PACKETS + 1)
    await turns(1)
    parts.stack.raises = None
    await turns()
    assert parts.stack.batches == [BATCH_PACKETS, 1]
    assert [str(context["exception"]) for context in errors] == ["broken invariant"]


async def test_timer_that_goes_off_early_looks_again_until_it_is_time(parts: Fixture) -> None:
    parts.stack.deadline_ns = parts.clock.now_ns + 2_000_000
    parts.driver.after_activity()
    first = parts.driver._timer
    await eventually(lambda: parts.driver._timer is not first)
    assert parts.stack.timed_ns == [], "the loop's timer went off, but the clock that counts stands still"
    parts.clock.now_ns += 2_000_000
    await eventually(lambda: parts.stack.timed_ns)
    assert parts.stack.timed_ns == [parts.clock.now_ns]


async def test_timer_moves_to_an_earlier_deadline_and_not_to_a_later_one(parts: Fixture) -> None:
    parts.stack.deadline_ns = parts.clock.now_ns + 60 * SECOND_NS
    parts.driver.after_activity()
    far = parts.driver._timer
    parts.stack.deadline_ns += 1
    parts.driver.after_activity()
    assert parts.driver._timer is far
    parts.stack.deadline_ns = parts.clock.now_ns + 30 * SECOND_NS
    parts.driver.after_activity()
    assert parts.driver._timer is not far
    assert far is not None
    assert far.cancelled()


async def test_deadline_that_is_due_runs_in_the_next_turn_and_leaves_the_timer_alone(parts: Fixture) -> None:
    parts.stack.deadline_ns = parts.clock.now_ns + 60 * SECOND_NS
    parts.driver.after_activity()
    timer = parts.driver._timer
    parts.stack.deadline_ns = 0
    parts.driver.after_activity()
    parts.driver.after_activity()
    assert parts.stack.timed_ns == [], "never from inside a user call"
    await turns()
    assert len(parts.stack.timed_ns) == 1
    assert parts.driver._timer is timer


async def test_reset_of_a_connection_to_the_stack_itself_is_heard_in_the_next_turn(parts: Fixture) -> None:
    await turns()
    parts.stack.deadline_ns = 0  # the RST is on its way back
    parts.driver.abort(object())  # type: ignore[arg-type]
    await turns()
    assert len(parts.stack.aborted) == len(parts.stack.timed_ns) == 1


async def test_device_s_deadline_lets_it_go_on_and_reads_what_it_let_go(parts: Fixture) -> None:
    await turns()
    parts.device.deadline_ns = parts.clock.now_ns
    parts.driver.after_activity()
    await turns()
    assert parts.device.timer_calls == 1
    assert parts.stack.batches == [1]
    assert parts.stack.timed_ns == []


async def test_user_whose_readiness_callback_raises_is_reported_told_and_aborted(parts: Fixture) -> None:
    class User(ConnectionUser):
        failed_with: BaseException | None = None

        def on_readiness(self, mask: int) -> None:
            raise ZeroDivisionError

        def on_failure(self, error: BaseException) -> None:
            self.failed_with = error

    class Conn:
        user: Any = None

    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    user, conn = User(), Conn()
    parts.driver.attach(user, conn)  # type: ignore[arg-type]
    parts.stack.notify(conn, 1)  # type: ignore[attr-defined]
    assert isinstance(user.failed_with, ZeroDivisionError)
    assert parts.stack.aborted == [conn]
    assert [context["exception"] for context in errors] == [user.failed_with]


async def test_stopped_driver_neither_reads_nor_sends_nor_keeps_time(parts: Fixture) -> None:
    await turns()
    parts.stack.deadline_ns = parts.clock.now_ns
    parts.device.arrive(1)
    parts.driver.after_activity()
    parts.driver.stop()
    parts.driver.stop()
    await turns()
    assert parts.stack.batches == []
    assert parts.stack.timed_ns == []
    assert parts.stack.send_packet(Packet((b"",)), 0) is False  # type: ignore[attr-defined]
    assert await parts.driver.closed is None


async def test_wait_idle_returns_when_the_last_connection_is_gone_or_the_driver_stops(parts: Fixture) -> None:
    await parts.driver.wait_idle()  # nothing to wait for
    for end in (lambda: setattr(parts.stack, "has_connections", False), parts.driver.stop):
        parts.stack.has_connections = True
        waiting = asyncio.ensure_future(parts.driver.wait_idle())
        await turns()
        assert not waiting.done()
        end()
        parts.driver.after_activity()
        async with asyncio.timeout(1):
            await waiting


async def test_windows_are_bounded_by_what_the_devices_queue_bears(parts: Fixture) -> None:
    assert parts.stack.queue_bytes is None
    device = ScriptedDevice()
    device.queue_packets = 300  # type: ignore[assignment]
    driver = Driver(parts.stack, device, asyncio.get_running_loop())  # type: ignore[arg-type]
    driver.start()
    driver.stop()
    assert parts.stack.queue_bytes == 300 * device.mtu
