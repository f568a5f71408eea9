"""The asyncio programs under test: the same services once as a Protocol, once with streams."""

from __future__ import annotations

import asyncio
import contextlib

from .services import CHARGEN_PORT, CHUNK, ECHO_PORT

_READ_BYTES = 256 * 1024


class ServiceProtocol(asyncio.Protocol):
    """Discards, echoes or generates, by the port that it is connected to."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        port = transport.get_extra_info("sockname")[1]
        self._echoes = port == ECHO_PORT
        self._paused = False
        if port == CHARGEN_PORT:
            self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._echoes:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        # Only CHARGEN_PORT ever fills its buffer: an echo's peer waits for each octet.
        self._paused = False
        while not self._paused and not self._transport.is_closing():
            self._transport.write(CHUNK)


async def serve_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same for asyncio.start_server and its likes."""
    port = writer.get_extra_info("sockname")[1]
    # The peer ends a bulk measurement with a reset.
    with contextlib.suppress(ConnectionError):
        if port == CHARGEN_PORT:
            while True:
                writer.write(CHUNK)
                await writer.drain()
        while data := await reader.read(_READ_BYTES):
            if port == ECHO_PORT:
                writer.write(data)
    writer.close()
