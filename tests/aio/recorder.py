"""Protocols that write down what their transport does with them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

WAIT_S = 30.0
"""How long a test waits for what must happen before it fails."""


def reset(transport: Any) -> None:
    """End the connection by a RST, as a kernel's socket is made to."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Recorder(asyncio.Protocol):
    """`calls` has "made", "data", "eof", "lost", "pause" and "resume" in order, repeated "data" only once."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.chunks: list[bytes] = []
        self.error: BaseException | None = None
        self.transport: Any = None
        self._keep_open = keep_open
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.data += data
        self.note("data")

    def eof_received(self) -> bool:
        self.note("eof")
        return self._keep_open

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self.note("lost")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def note(self, call: str) -> None:
        if call != "data" or self.calls[-1:] != ["data"]:
            self.calls.append(call)
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what becomes true with one of the calls."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_call(self, call: str) -> None:
        await self.until(lambda: call in self.calls)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same through get_buffer and buffer_updated, with a buffer of `size` octets."""

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


async def turns(count: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what becomes true without a call to a protocol."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)
