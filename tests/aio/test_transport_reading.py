from __future__ import annotations

import array
import asyncio
import gc
import random
import tracemalloc
from typing import Any

import pytest

from tcpstack.aio.transport import MAX_READ_BYTES
from tests.aio.conftest import Join, Pair
from tests.aio.recorder import BufferedRecorder, Recorder, eventually, reset, turns

MEGABYTE = random.Random(1).randbytes(1 << 20)


async def test_connection_with_text_and_fin_calls_made_data_eof_lost_in_order(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.write(b"hello")
    client.transport.close()
    await server.until_call("lost")
    assert server.calls == ["made", "data", "eof", "lost"]
    assert server.data == b"hello"
    assert server.error is None


async def test_text_before_the_client_protocol_exists_is_delivered_after_connection_made(pair: Pair) -> None:
    a, b = pair

    class Greeting(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"220 ready")
            transport.close()

    async with await a.create_server(Greeting) as listening:
        client = Recorder()
        port = listening.sockets[0].getsockname()[1]
        await b.create_connection(lambda: client, "10.9.0.1", port)
        await client.until_call("lost")
    assert client.calls == ["made", "data", "eof", "lost"]
    assert client.data == b"220 ready"


async def test_bulk_is_delivered_intact_as_bytes_of_at_most_256_kb(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.write(MEGABYTE)
    await server.until(lambda: len(server.data) == len(MEGABYTE))
    assert server.data == MEGABYTE
    assert all(type(chunk) is bytes and 0 < len(chunk) <= 256 * 1024 for chunk in server.chunks)


async def test_pause_reading_holds_text_back_until_the_turn_after_resume_reading(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    assert server.transport.is_reading()
    server.transport.pause_reading()
    assert not server.transport.is_reading()
    client.transport.write(b"later")
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["readable_bytes"] == 5)
    assert server.calls == ["made"]
    server.transport.resume_reading()
    assert server.transport.is_reading()
    assert server.calls == ["made"], "resume_reading must not call back from inside"
    await server.until_call("data")
    assert server.data == b"later"


async def test_resume_then_pause_in_one_turn_delivers_nothing(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(b"later")
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["readable_bytes"] == 5)
    server.transport.resume_reading()
    server.transport.pause_reading()
    await turns()
    assert server.data == b""


async def test_pause_reading_from_data_received_stops_deliveries_at_once(join: Join) -> None:
    class OneAtATime(BufferedRecorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    client, server = Recorder(), OneAtATime(10)
    await join(client, server)
    client.transport.write(b"x" * 30)
    await server.until_call("data")
    await turns()
    assert len(server.data) == 10
    for received in (20, 30):
        server.transport.resume_reading()
        await server.until(lambda received=received: len(server.data) == received)


async def test_paused_reader_closes_the_window_and_bounds_what_both_ends_hold(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(MEGABYTE + MEGABYTE)
    status = server.transport.get_extra_info
    await eventually(lambda: status("tcpstack")["rcv_wnd"] < 1460)
    held = status("tcpstack")["readable_bytes"]
    assert held <= 600 * 1024
    assert client.transport.get_write_buffer_size() >= len(MEGABYTE)
    server.transport.resume_reading()
    await server.until(lambda: len(server.data) == 2 * len(MEGABYTE))
    assert server.data == MEGABYTE + MEGABYTE


async def test_eof_while_paused_comes_after_the_text_once_reading_resumes(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(b"last words")
    client.transport.write_eof()
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["state"] == "CLOSE-WAIT")
    await turns()
    assert server.calls == ["made"]
    server.transport.resume_reading()
    await server.until_call("lost")
    assert server.calls == ["made", "data", "eof", "lost"]
    assert server.data == b"last words"


async def test_reset_while_paused_comes_after_the_text_once_reading_resumes(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(b"last words")
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["readable_bytes"] == 10)
    reset(client.transport)
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["state"] == "CLOSED")
    await turns()
    assert server.calls == ["made"]
    server.transport.resume_reading()
    await server.until_call("lost")
    assert server.calls == ["made", "data", "lost"]
    assert server.data == b"last words"
    assert isinstance(server.error, ConnectionResetError)


async def test_write_after_a_reset_that_waits_for_unread_text_ends_the_connection(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(b"last words")
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["readable_bytes"] == 10)
    reset(client.transport)
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["state"] == "CLOSED")
    server.transport.write(b"answer")
    await server.until_call("lost")
    assert isinstance(server.error, ConnectionResetError)


async def test_reset_with_nothing_unread_is_reported_while_paused(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    reset(client.transport)
    await server.until_call("lost")
    assert isinstance(server.error, ConnectionResetError)


async def test_eof_received_true_keeps_the_connection_open_for_writing(join: Join) -> None:
    client, server = Recorder(), Recorder(keep_open=True)
    await join(client, server)
    client.transport.write_eof()
    await server.until_call("eof")
    assert not server.transport.is_closing()
    server.transport.write(b"still here")
    await client.until(lambda: client.data == b"still here")
    server.transport.close()
    await server.until_call("lost")
    await client.until_call("lost")
    assert (server.calls, client.calls) == (["made", "eof", "lost"], ["made", "data", "eof", "lost"])


async def test_eof_received_false_closes_the_transport(join: Join) -> None:
    client, server = Recorder(keep_open=True), Recorder()
    await join(client, server)
    client.transport.write_eof()
    await server.until_call("lost")
    await client.until_call("eof")
    assert server.transport.is_closing()


async def test_buffered_protocol_receives_bulk_intact_through_its_own_buffer(join: Join) -> None:
    client, server = Recorder(), BufferedRecorder(10_007)
    await join(client, server)
    client.transport.write(MEGABYTE)
    await server.until(lambda: len(server.data) == len(MEGABYTE))
    assert server.data == MEGABYTE
    assert max(map(len, server.chunks)) <= 10_007


class ReusedBuffer(Recorder, asyncio.BufferedProtocol):
    """Takes text into one buffer of its own, again and again, and only counts it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.buffer = bytearray(size)
        self.hints: list[int] = []
        self.filled: list[int] = []

    def get_buffer(self, sizehint: int) -> bytearray:
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.filled.append(nbytes)
        self.note("data")


async def delivered_at_once(join: Join, server: Recorder, text: bytes) -> tuple[int, int]:
    """How much was delivered, and the most memory that it took, when `text` waits for a reader who resumes."""
    client = Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(text)
    info = server.transport.get_extra_info
    await eventually(lambda: info("tcpstack")["readable_bytes"] == len(text))
    server.transport.resume_reading()
    gc.collect()
    tracemalloc.start()
    try:
        await turns(1)
        return len(text) - info("tcpstack")["readable_bytes"], tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_text_crosses_into_a_buffered_protocol_with_one_copy(join: Join) -> None:
    server = ReusedBuffer(50_000)
    delivered, memory = await delivered_at_once(join, server, MEGABYTE[:250_000])
    assert delivered == sum(server.filled) == 250_000
    assert server.buffer == MEGABYTE[200_000:250_000]
    assert memory < 25_000, "no octets object on the way"


async def test_get_buffer_is_told_how_much_waits(join: Join) -> None:
    server = ReusedBuffer(100_000)
    await delivered_at_once(join, server, MEGABYTE[:250_000])
    assert server.hints == [min(left, MAX_READ_BYTES) for left in (250_000, 150_000, 50_000)]
    assert server.filled == [100_000, 100_000, 50_000]


async def test_text_crosses_into_data_received_with_one_copy(join: Join) -> None:
    class Sink(Recorder):
        def data_received(self, data: bytes) -> None:
            assert type(data) is bytes
            self.chunks.append(data)

    server = Sink()
    delivered, memory = await delivered_at_once(join, server, MEGABYTE[:250_000])
    assert delivered == 250_000
    assert b"".join(server.chunks) == MEGABYTE[:250_000]
    assert memory < 250_000 + 25_000


@pytest.mark.parametrize("buffer", [b"read-only", array.array("I", range(5)), memoryview(bytearray(8))[::2]])
async def test_buffer_is_filled_by_octets_or_refused(
    join: Join, loop_errors: list[dict[str, Any]], buffer: Any
) -> None:
    server = ReusedBuffer(1)
    server.buffer = buffer
    client = Recorder()
    await join(client, server)
    client.transport.write(b"abcdefgh")
    if isinstance(buffer, array.array):
        await server.until(lambda: server.filled == [8])
        assert buffer.tobytes()[:8] == b"abcdefgh"
    else:
        await server.until_call("lost")
        assert isinstance(server.error, (TypeError, ValueError))
        assert loop_errors.pop()["message"] == "Fatal error: protocol.get_buffer() call failed."


async def test_set_protocol_switches_between_both_kinds_of_protocol(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    buffered, plain = BufferedRecorder(100), Recorder()
    server.transport.set_protocol(buffered)
    assert server.transport.get_protocol() is buffered
    client.transport.write(b"one")
    await buffered.until(lambda: buffered.data == b"one")
    server.transport.set_protocol(plain)
    client.transport.write(b"two")
    await plain.until(lambda: plain.data == b"two")
    assert server.data == b""


class FailsInDataReceived(Recorder):
    def data_received(self, data: bytes) -> None:
        raise ZeroDivisionError


class FailsInEofReceived(Recorder):
    def eof_received(self) -> bool:
        raise ZeroDivisionError


class FailsInConnectionMade(Recorder):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        raise ZeroDivisionError


class FailsInGetBuffer(BufferedRecorder):
    def __init__(self) -> None:
        super().__init__(10)

    def get_buffer(self, sizehint: int) -> bytearray:
        raise ZeroDivisionError


class FailsInBufferUpdated(BufferedRecorder):
    def __init__(self) -> None:
        super().__init__(10)

    def buffer_updated(self, nbytes: int) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("protocol", "callback"),
    [
        (FailsInConnectionMade, "connection_made"),
        (FailsInDataReceived, "data_received"),
        (FailsInEofReceived, "eof_received"),
        (FailsInGetBuffer, "get_buffer"),
        (FailsInBufferUpdated, "buffer_updated"),
    ],
)
async def test_callback_that_raises_is_reported_and_resets_only_its_connection(
    join: Join, loop_errors: list[dict[str, Any]], protocol: type[Recorder], callback: str
) -> None:
    other_client, other_server = Recorder(), Recorder()
    await join(other_client, other_server)
    client, server = Recorder(), protocol()
    await join(client, server)
    if callback != "connection_made":
        client.transport.write(b"x")
        client.transport.write_eof()
    await client.until_call("lost")
    await server.until_call("lost")
    assert isinstance(client.error, ConnectionResetError)
    assert isinstance(server.error, ZeroDivisionError)
    [context] = loop_errors
    loop_errors.clear()
    assert context["message"] == f"Fatal error: protocol.{callback}() call failed."
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["transport"] is server.transport
    assert context["protocol"] is server
    other_client.transport.write(b"unharmed")
    await other_server.until(lambda: other_server.data == b"unharmed")


async def test_empty_buffer_of_a_buffered_protocol_is_reported_as_runtime_error(
    join: Join, loop_errors: list[dict[str, Any]]
) -> None:
    client, server = Recorder(), BufferedRecorder(0)
    await join(client, server)
    client.transport.write(b"x")
    await server.until_call("lost")
    assert str(server.error) == "get_buffer() returned an empty buffer"
    assert loop_errors.pop()["exception"] is server.error


async def test_oserror_from_a_callback_resets_without_a_report(join: Join) -> None:
    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise PermissionError

    client, server = Recorder(), Fails()
    await join(client, server)
    client.transport.write(b"x")
    await server.until_call("lost")
    assert isinstance(server.error, PermissionError)
