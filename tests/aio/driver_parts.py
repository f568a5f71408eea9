"""A stack and a device that do what a test says, for a driver between them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tcpstack.aio.driver import Driver
from tcpstack.wire.packet import NO_OFFLOAD, Offload, Packet

SECOND_NS = 1_000_000_000


class ScriptedDevice:
    name, mtu, queue_packets = "scripted", 1500, None
    offload: Offload = NO_OFFLOAD

    def __init__(self) -> None:
        self.on_ready: Any = None
        self.waiting: list[Packet] = []
        self.deadline_ns: int | None = None
        self.timer_calls = 0
        self.receive_calls = 0
        self.sent: list[Packet] = []
        self.refused = 0

    def fileno(self) -> int:
        return -1

    def arrive(self, count: int) -> None:
        self.waiting += [Packet((b"",)) for _ in range(count)]
        if self.on_ready is not None:
            self.on_ready()

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        self.receive_calls += 1
        batch, self.waiting = self.waiting[:max_packets], self.waiting[max_packets:]
        if self.waiting:
            self.on_ready()
        return batch

    def send(self, packet: Packet, now_ns: int) -> bool:
        """False for the first `refused` packets."""
        self.refused -= 1
        self.sent.append(packet)
        return self.refused < 0

    def on_timer(self, now_ns: int) -> None:
        self.timer_calls += 1
        self.deadline_ns = None
        self.waiting.append(Packet((b"held back",)))

    def close(self) -> None:
        pass


class ScriptedStack:
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.deadline_ns: int | None = None
        self.timed_ns: list[int] = []
        self.has_connections = False
        self.queue_bytes: int | None = None
        self.aborted: list[Any] = []
        self.raises: BaseException | None = None
        self.tracer: Any = None

    def on_packets(self, packets: Sequence[Packet], now_ns: int) -> None:
        self.batches.append(len(packets))
        if self.raises is not None:
            raise self.raises

    def on_timer(self, now_ns: int) -> None:
        self.timed_ns.append(now_ns)
        self.deadline_ns = None

    def abort(self, conn: Any, now_ns: int) -> None:
        self.aborted.append(conn)


class Clock:
    """Stands still unless told otherwise."""

    def __init__(self) -> None:
        self.now_ns = 50 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


class Fixture:
    def __init__(self) -> None:
        self.stack, self.device, self.clock = ScriptedStack(), ScriptedDevice(), Clock()
        self.driver = Driver(self.stack, self.device, asyncio.get_running_loop(), self.clock)  # type: ignore[arg-type]
        self.driver.start()
