"""The services of RFC 862, 863 and 864, as plain stream programs over the machine's loopback."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tcpstack.cli.services import CHARGEN_CYCLE, chargen, discard, echo

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service:
    """A handler behind asyncio.start_server; keeps what each of its conversations ended with."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.ended: asyncio.Queue[BaseException | None] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.put_nowait(task)
        try:
            await self.handler(reader, writer)
        except BaseException as error:
            self.ended.put_nowait(error)
        else:
            self.ended.put_nowait(None)


@asynccontextmanager
async def running(handler: Handler) -> AsyncIterator[Service]:
    service = Service(handler)
    server = await asyncio.start_server(service, "127.0.0.1", 0)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
        await server.wait_closed()


async def ended(service: Service) -> BaseException | None:
    return await asyncio.wait_for(service.ended.get(), 5)


async def test_echo_half_closed_by_client_sends_everything_back_then_closes() -> None:
    sent = bytes(range(256)) * 4096
    async with running(echo) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        received = await asyncio.wait_for(reader.read(-1), 5)
        await sending
        assert received == sent
        assert await ended(service) is None
        writer.close()


async def test_echo_one_octet_comes_back_at_once() -> None:
    async with running(echo) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for octet in (b"a", b"b"):
            writer.write(octet)
            assert await asyncio.wait_for(reader.readexactly(1), 5) == octet
        writer.close()


async def test_echo_client_that_never_reads_is_held_back() -> None:
    """Backpressure: the echo stops reading, so the sender stalls long before 64 MB."""
    async with running(echo) as service:
        sock = socket.create_connection(("127.0.0.1", service.port))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_sendall(sock, bytes(64 << 20)), 1)
        transport = service.writers[0].transport
        assert transport.get_write_buffer_size() < 1 << 20
        sock.close()
        assert await ended(service) is None


@pytest.mark.parametrize("handler", [echo, discard, chargen])
async def test_service_peer_resets_ends_quietly(handler: Handler) -> None:
    async with running(handler) as service:
        sock = socket.create_connection(("127.0.0.1", service.port))
        sock.sendall(b"x" * 1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert await ended(service) is None


@pytest.mark.parametrize("handler", [echo, discard, chargen])
async def test_service_cancelled_closes_its_connection(handler: Handler) -> None:
    async with running(handler) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"x")
        await writer.drain()
        task = await asyncio.wait_for(service.tasks.get(), 5)
        task.cancel()
        assert isinstance(await ended(service), asyncio.CancelledError)
        await asyncio.wait_for(reader.read(-1), 5)  # end of file reaches the client
        writer.close()


async def test_discard_takes_everything_and_answers_nothing() -> None:
    async with running(discard) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for _ in range(32):
            writer.write(bytes(1 << 16))
            await writer.drain()
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 5) == b""
        assert await ended(service) is None
        writer.close()


def test_chargen_pattern_is_that_of_rfc_864() -> None:
    lines = CHARGEN_CYCLE.split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) == 95
    assert lines[0] == bytes(range(0x20, 0x20 + 72))
    assert lines[1] == bytes(range(0x21, 0x21 + 72))
    assert lines[94] == b"~" + bytes(range(0x20, 0x20 + 71))
    assert all(len(line) == 72 and set(line) <= set(range(0x20, 0x7F)) for line in lines)


async def test_chargen_client_half_closes_goes_on_until_client_is_gone() -> None:
    async with running(chargen) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write_eof()
        length = 5 * len(CHARGEN_CYCLE) + 100
        received = await asyncio.wait_for(reader.readexactly(length), 5)
        assert received == (CHARGEN_CYCLE * 6)[:length]
        writer.transport.abort()
        assert await ended(service) is None


async def test_chargen_takes_what_the_client_sends() -> None:
    """A client that floods the generator is not held back: what it sends is thrown away meanwhile."""
    async with running(chargen) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        reading = asyncio.create_task(reader.read(-1))
        for _ in range(64):
            writer.write(bytes(1 << 18))
            await asyncio.wait_for(writer.drain(), 5)
        reading.cancel()
        writer.transport.abort()
        assert await ended(service) is None
