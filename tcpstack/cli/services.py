"""The classic services as stream handlers: echo (RFC 862), discard (RFC 863), chargen (RFC 864).

Each is an `asyncio.start_server` callback that knows nothing of this project: it runs on any pair of streams.
It returns when the conversation is over and has closed the writer by then, also when it is cancelled. A peer
that resets the connection, or is never heard of again, ends the handler quietly: on a public service that is
a normal end.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

READ_BYTES = 256 * 1024

PRINTING = bytes(range(0x20, 0x7F))
LINE_LENGTH = 72
# RFC 864: the 95 printing characters taken as a ring; line n starts with character n. After 95 lines the
# pattern repeats, so one cycle is the whole of it.
CHARGEN_CYCLE = b"".join(
    (PRINTING + PRINTING)[start : start + LINE_LENGTH] + b"\r\n" for start in range(len(PRINTING))
)
CHARGEN_CHUNK = CHARGEN_CYCLE * 9
"""Nine cycles, 63,270 octets: what one write sends."""


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    """Send back what arrives until the peer's end of file, then close (RFC 862).

    Never reads on while the peer does not take what was echoed, so memory stays bounded.
    """
    async with _closing(writer):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()


async def discard(reader: StreamReader, writer: StreamWriter) -> None:
    """Throw away what arrives until the peer's end of file, then close (RFC 863)."""
    async with _closing(writer):
        await _discard_rest(reader)


async def chargen(reader: StreamReader, writer: StreamWriter) -> None:
    """Send the rotating pattern of RFC 864 at whatever pace the peer takes it, until the peer is gone.

    What arrives is thrown away. A peer that only closes its sending half (`nc -N`) may go on listening: the
    generator stops when the connection does not take any more, not at end of file.
    """
    async with _closing(writer):
        discarding = asyncio.create_task(_discard_until_gone(reader))
        try:
            while True:
                writer.write(CHARGEN_CHUNK)
                await writer.drain()
        finally:
            discarding.cancel()


@asynccontextmanager
async def _closing(writer: StreamWriter) -> AsyncIterator[None]:
    """Closes `writer` at the end (what is queued is still sent) and takes the connection's own errors."""
    try:
        yield
    except OSError:
        pass  # reset, timed out, unreachable: the peer is gone
    finally:
        writer.close()


async def _discard_rest(reader: StreamReader) -> None:
    while await reader.read(READ_BYTES):
        pass


async def _discard_until_gone(reader: StreamReader) -> None:
    with suppress(OSError):  # the writing side meets the same error and ends the handler
        await _discard_rest(reader)
