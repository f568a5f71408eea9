"""asyncio's streams with fewer copies, and with less that is made before it is needed.

Text that is read as it came is handed on as it came.

The reader of asyncio's gathers all text in a bytearray and cuts from that what is read: three copies of each octet. A
program that calls read(n) in a loop mostly gets what arrived last, whole. So the last chunk is kept as it is; only
where more arrives before it was read, or something else than a whole chunk is asked for, does it go into the bytearray,
and then everything is asyncio's own code.

A deque takes 760 octets, and each connection has one of those who wait in drain(); a read that has to wait takes a
coroutine more. Of 7.5 KB that a connection with streams took, these were one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class StreamReader(asyncio.StreamReader):
    """As asyncio.StreamReader, of which it is one."""

    _chunk: bytes | None = None  # all text that waits, where that is a single chunk
    _gathered: bytearray | None = None  # all text that waits, where it is more than that

    # asyncio's own, which its stubs do not show.
    _eof: bool
    _exception: BaseException | None
    _limit: int
    _loop: asyncio.AbstractEventLoop
    _maybe_resume_transport: Callable[[], None]
    _paused: bool
    _transport: asyncio.ReadTransport | None
    _wait_for_data: Callable[[str], Coroutine[Any, Any, None]]
    _waiter: asyncio.Future[None] | None
    _wakeup_waiter: Callable[[], None]

    @property
    def _buffer(self) -> bytearray:
        """All text that waits, gathered: what asyncio's own methods work on."""
        gathered, chunk = self._gathered, self._chunk
        if gathered is None:
            gathered = self._gathered = bytearray()
        if chunk is not None:
            self._chunk = None
            gathered += chunk
        return gathered

    @_buffer.setter
    def _buffer(self, gathered: bytearray) -> None:
        self._chunk = None
        self._gathered = gathered or None  # the empty one that a reader begins with is not kept

    def at_eof(self) -> bool:
        return self._eof and self._chunk is None and not self._gathered

    def feed_data(self, data: Any) -> None:
        if type(data) is not bytes or self._chunk is not None or self._gathered or self._eof or not data:
            super().feed_data(data)
            return
        self._chunk = data
        self._wakeup_waiter()
        if len(data) > 2 * self._limit and self._transport is not None and not self._paused:
            self._transport.pause_reading()
            self._paused = True

    async def read(self, n: int = -1) -> bytes:
        if n > 0 and self._exception is None:
            if self._chunk is None and not self._gathered and not self._eof:
                if self._waiter is None and not self._paused:
                    # As _wait_for_data() goes on, without a coroutine of its own.
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                else:
                    await self._wait_for_data("read")
            chunk = self._chunk
            if chunk is not None and len(chunk) <= n:
                self._chunk = None
                self._maybe_resume_transport()
                return chunk
        return await super().read(n)


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """As asyncio.StreamReaderProtocol, of which it is one."""

    _drain_waiters: list[asyncio.Future[None]]

    def __init__(
        self,
        reader: StreamReader,
        client_connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None] | None = None,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(reader, client_connected, loop)
        self._drain_waiters = []
