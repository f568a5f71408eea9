"""sendfile over a TcpTransport: a file's octets go out without passing through the program, and unread where they can.

Where nobody in this process looks at what is sent (the device completes checksums, there are no fault rules, no
capture and no tracer), a large file is mapped, and the mapping's pages go to the kernel by reference. Everything else
is read in pieces. A mapping has one danger: whoever touches a page of it that lies behind the end of a file that was
cut meanwhile is killed by SIGBUS, while the kernel, given such a page to send, only answers EFAULT. So nothing here
ever touches it, and the file's size is looked at again and again: once the file is shorter, the transport is aborted,
since what it has announced can't be sent.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import stat
from collections.abc import Callable
from typing import BinaryIO

from .transport import TcpTransport

READ_BYTES = 256 * 1024
"""What is read at a time: short for the loop's other connections, long for throughput. No less is worth a mapping."""
SHARED_BYTES = 1024 * 1024
"""What is queued at a time of a mapping: nothing is copied."""
MAPPED_BYTES = 64 * 1024 * 1024
"""The largest mapping; the next begins where it ends. Each lives until all of it is acknowledged."""
LOOK_S = 1.0
"""How often the size of a mapped file is looked at while nothing moves."""


async def send_file(transport: TcpTransport, file: BinaryIO, offset: int, count: int | None, fallback: bool) -> int:
    """See Host.sendfile."""
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    _check(file, offset, count)
    size = _size(file)
    unread = transport.sends_unread and size is not None
    end = (size or 0) if count is None else min(size or 0, offset + count)
    flow = _Flow(transport)
    try:
        if unread and end - offset > READ_BYTES:
            await _send_mapped(flow, file.fileno(), offset, end)
            unread = flow.total > 0
        if not (unread or fallback):
            raise asyncio.SendfileNotAvailableError(f"{transport!r} can't send this file without reading it")
        if size:
            await _send_positioned(flow, file.fileno(), offset, count)
        else:
            await _send_read(flow, file, offset, count)
    finally:
        flow.end()
        if flow.total > 0 and file.seekable():
            file.seek(offset + flow.total)
    return flow.total


def _check(file: BinaryIO, offset: int, count: int | None) -> None:
    """As asyncio checks them."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


def _size(file: BinaryIO) -> int | None:
    """The octets in a regular file, which those of /proc keep to themselves (0); None for everything else."""
    try:
        status = os.fstat(file.fileno())
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


async def _send_mapped(flow: _Flow, fd: int, position: int, end: int) -> None:
    """Send from `position` to `end` by mappings. Returns early, with less sent, where the file can't be mapped;
    else when all of it has left for the first time."""
    transport = flow.transport

    def look() -> None:
        if os.fstat(fd).st_size < end:
            transport.reset()
            raise OSError(errno.EIO, "the file was cut while it was being sent")

    while position < end:
        base = position - position % mmap.ALLOCATIONGRANULARITY
        limit = min(end, base + MAPPED_BYTES)
        try:
            view = memoryview(mmap.mmap(fd, limit - base, access=mmap.ACCESS_READ, offset=base))
        except (OSError, ValueError):  # not every file system can; no descriptor is left; the file was cut just now
            return
        while position < limit:
            await flow.drain(look)
            look()
            following = min(position + SHARED_BYTES, limit)
            transport.write_shared(view[position - base : following - base])
            flow.total += following - position
            position = following
    await flow.empty(look)
    look()


async def _send_positioned(flow: _Flow, fd: int, offset: int, count: int | None) -> None:
    """Send what is left of a regular file, by reads that don't move its position."""
    while wanted := flow.wanted(count):
        data = os.pread(fd, wanted, offset + flow.total)
        if not data:
            return
        await flow.write(data)


async def _send_read(flow: _Flow, file: BinaryIO, offset: int, count: int | None) -> None:
    """Send what `file.read` gives, which may block."""
    if offset or file.seekable():
        file.seek(offset)
    loop = asyncio.get_running_loop()
    while wanted := flow.wanted(count):
        data = await loop.run_in_executor(None, file.read, wanted)
        if not data:
            return
        await flow.write(data)


class _Flow(asyncio.Protocol):
    """Stands in for the transport's protocol until `end()`, as asyncio's own sendfile does, to hear when to go on;
    meanwhile nothing is read.

    total   octets of the file given to the transport so far
    """

    def __init__(self, transport: TcpTransport) -> None:
        self.transport = transport
        self.total = 0
        self._protocol: asyncio.BaseProtocol = transport.get_protocol()
        self._reads = transport.is_reading()
        self._was_paused = transport._protocol_paused  # of the mix-in
        self._lost: BaseException | None = None
        self._writable: asyncio.Future[None] | None = None  # while the transport is full
        transport.pause_reading()
        transport.set_protocol(self)
        if self._was_paused:
            self.pause_writing()

    def end(self) -> None:
        """Give the transport back to its protocol, which hears what it has missed."""
        self.transport.set_protocol(self._protocol)
        if self._reads:
            self.transport.resume_reading()
        if self._lost is None and self._was_paused != (self._writable is not None):
            if self._was_paused:
                self._protocol.resume_writing()
            else:
                self._protocol.pause_writing()

    def wanted(self, count: int | None) -> int:
        """How much to read next; 0 when `count` octets have been sent."""
        return READ_BYTES if count is None else min(READ_BYTES, count - self.total)

    async def write(self, data: bytes) -> None:
        await self.drain()
        self.transport.write(data)
        self.total += len(data)

    async def drain(self, look: Callable[[], object] | None = None) -> None:
        """Return when there is room; `look` is called now and then until there is. Raises what it raises, and what
        the connection was lost of."""
        while True:
            if self._lost is not None:
                raise self._lost
            if self.transport.is_closing():
                raise ConnectionError("Connection closed by peer")
            if self._writable is None:
                return
            await asyncio.wait((self._writable,), timeout=None if look is None else LOOK_S)
            if look is not None:
                look()

    async def empty(self, look: Callable[[], object]) -> None:
        """`drain` until nothing waits to be sent for the first time."""
        low, high = self.transport.get_write_buffer_limits()
        self.transport.set_write_buffer_limits(0)
        try:
            await self.drain(look)
        finally:
            self.transport.set_write_buffer_limits(high, low)

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = error or ConnectionError("Connection is closed by peer")
        self.resume_writing()
        self._protocol.connection_lost(error)
