"""Urgent text through transports: written, told of, and read in its place."""

from __future__ import annotations

from typing import Any

import pytest

from tests.aio.conftest import Join, Pair
from tests.aio.recorder import BufferedRecorder, Recorder, eventually


class Urgent(Recorder):
    """`left` has what each `urgent_received` was given."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[int] = []

    def urgent_received(self, octets_left: int) -> None:
        self.left.append(octets_left)
        self.note("urgent")


class UrgentBuffered(Urgent, BufferedRecorder):
    def __init__(self) -> None:
        BufferedRecorder.__init__(self, 100)
        self.left = []


@pytest.mark.parametrize("kind", [Urgent, UrgentBuffered])
async def test_urgent_text_is_told_before_it_is_delivered_and_never_with_what_follows(
    join: Join, kind: type[Urgent]
) -> None:
    client, server = Recorder(), kind()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(b"abc")
    client.transport.write_urgent(b"urgent")
    client.transport.write(b"def")
    await server.until_call("urgent")
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["readable_bytes"] == 12)
    assert server.transport.get_extra_info("urgent_bytes") == 9
    server.transport.resume_reading()
    await server.until(lambda: len(server.data) == 12)
    assert server.calls == ["made", "urgent", "data"]
    assert (server.chunks, server.left) == ([b"abcurgent", b"def"], [9])
    assert server.transport.get_extra_info("urgent_bytes") == 0


async def test_urgent_text_is_told_in_time_to_the_protocol_that_reads(join: Join) -> None:
    client, server = Recorder(), Urgent()
    await join(client, server)
    for text in (b"one", b"three"):
        client.transport.write_urgent(text)
        await server.until(lambda text=text: server.data.endswith(text))
    assert server.calls == ["made", "urgent", "data", "urgent", "data"]
    assert server.left == [3, 5]


async def test_protocol_that_knows_nothing_of_urgent_text_reads_it_in_its_place(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.write(b"abc")
    client.transport.write_urgent(bytearray(b"urgent"))
    client.transport.write(b"def")
    await server.until(lambda: server.data == b"abcurgentdef")
    assert server.calls == ["made", "data"]


async def test_stream_reader_has_urgent_text_in_its_place(pair: Pair) -> None:
    a, b = pair
    heard = []

    async def on_client(reader: Any, writer: Any) -> None:
        heard.append(await reader.read(-1))
        heard.append(writer.get_extra_info("urgent_bytes"))
        writer.close()

    async with await a.start_server(on_client, port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80)
        writer.write(b"abc")
        writer.transport.write_urgent(b"urgent")
        writer.write(b"def")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert heard == [b"abcurgentdef", 0]


async def test_urgent_text_that_came_before_the_protocol_is_told_after_connection_made(pair: Pair) -> None:
    a, b = pair

    class Hurried(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.write_urgent(b"220 ready")
            transport.close()

    async with await a.create_server(Hurried) as listening:
        client = Urgent()
        await b.create_connection(lambda: client, "10.9.0.1", listening.sockets[0].getsockname()[1])
        await client.until_call("lost")
    assert client.calls == ["made", "urgent", "data", "eof", "lost"]
    assert (client.left, client.data) == ([9], b"220 ready")


async def test_write_urgent_refuses_and_drops_as_write_does(join: Join) -> None:
    client, server = Recorder(), Urgent()
    await join(client, server)
    client.transport.write_urgent(b"")
    with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
        client.transport.write_urgent("text")
    client.transport.write_eof()
    with pytest.raises(RuntimeError, match="after write_eof"):
        client.transport.write_urgent(b"late")
    client.transport.close()
    client.transport.abort()
    await client.until_call("lost")
    server.transport.write_urgent(b"nobody")
    await server.until_call("lost")
    server.transport.write_urgent(b"nobody")
    assert server.left == []


async def test_protocol_that_fails_in_urgent_received_is_reported_and_its_connection_reset(
    join: Join, loop_errors: list[dict[str, Any]]
) -> None:
    class Failing(Recorder):
        def urgent_received(self, octets_left: int) -> None:
            raise ArithmeticError(octets_left)

    client, server = Recorder(), Failing()
    await join(client, server)
    client.transport.write_urgent(b"urgent")
    await server.until_call("lost")
    await client.until_call("lost")
    assert isinstance(server.error, ArithmeticError)
    assert isinstance(client.error, ConnectionResetError)
    assert (server.data, server.calls) == (b"", ["made", "lost"])
    assert loop_errors.pop()["message"] == "Fatal error: protocol.urgent_received() call failed."


async def test_closing_transport_is_not_told_of_urgent_text(join: Join) -> None:
    client, server = Recorder(), Urgent()
    await join(client, server)
    client.transport.pause_reading()
    server.transport.write(bytes(20_000_000))
    server.transport.close()
    client.transport.write_urgent(b"urgent")
    await eventually(lambda: server.transport.get_extra_info("urgent_bytes") == 6)
    assert server.left == []
    client.transport.abort()
    await server.until_call("lost")
    assert server.left == []
