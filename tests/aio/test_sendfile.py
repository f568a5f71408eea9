"""Host.sendfile on both loops: read in pieces, and by mappings, which a device that looks at no octets allows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import tcpstack
from tcpstack.aio import sending_files
from tcpstack.aio.sending_files import MAPPED_BYTES, READ_BYTES
from tcpstack.aio.transport import TcpTransport
from tcpstack.device import memory
from tcpstack.wire.packet import FULL_OFFLOAD
from tests.aio.conftest import Join, Pair
from tests.aio.recorder import BufferedRecorder, Recorder, eventually, turns

TEXT = random.Random(6).randbytes(3_000_011)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was written from mappings."""
    sizes: list[int] = []
    write = TcpTransport.write_shared

    def counting(self: TcpTransport, view: memoryview) -> None:
        sizes.append(len(view))
        write(self, view)

    monkeypatch.setattr(TcpTransport, "write_shared", counting)
    return sizes


@pytest.fixture(params=["mapped", "read"])
async def pair(request: pytest.FixtureRequest, loop_errors: object) -> AsyncIterator[Pair]:
    """In place of conftest's: a device in memory that claims to look at no octets lets files be mapped. (It does join
    them, so no test cuts a file to fewer pages.)"""
    a, b = memory.pair()
    if request.param == "mapped":
        a.offload = b.offload = replace(FULL_OFFLOAD, unread=True)
    server, client = tcpstack.Host(a, ["10.9.0.1/24"]), tcpstack.Host(b, ["10.9.0.2/24"])
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.aclose, 0.2)
        stack.push_async_callback(client.aclose, 0.2)
        yield server, client


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    with path.open("rb") as opened:
        yield opened


async def received(server: Recorder, size: int) -> bytes:
    await server.until(lambda: len(server.data) >= size)
    await turns()
    return bytes(server.data)


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, TEXT),
        (0, len(TEXT), TEXT),
        (0, len(TEXT) + 1, TEXT),
        (4097, None, TEXT[4097:]),
        (1_000_001, 1_000_000, TEXT[1_000_001:2_000_001]),
        (1_000_001, 100, TEXT[1_000_001:1_000_101]),
        (len(TEXT) - 300_000, 400_000, TEXT[-300_000:]),
        (0, READ_BYTES, TEXT[:READ_BYTES]),
        (5, READ_BYTES + 1, TEXT[5 : READ_BYTES + 6]),
        (len(TEXT), None, b""),
        (len(TEXT) + 100, 5, b""),
    ],
)
async def test_part_of_a_file_arrives_and_the_position_is_behind_it(
    pair: Pair, join: Join, file: BinaryIO, mapped: list[int], offset: int, count: int | None, expected: bytes
) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    file.seek(77)  # of no consequence
    client.transport.write(b"before ")

    sent = await pair[1].sendfile(client.transport, file, offset, count)

    client.transport.write(b" after")
    whole = b"before " + expected + b" after"
    assert await received(server, len(whole)) == whole
    assert sent == len(expected)
    assert file.tell() == (offset + sent if sent else 77)
    by_mapping = pair[1].device.offload.unread and sent > READ_BYTES
    assert sum(mapped) == (sent if by_mapping else 0)


async def test_large_file_is_mapped_in_pieces_of_which_none_outlives_its_acknowledgement(
    pair: Pair, join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_files, "MAPPED_BYTES", 1 << 20)
    assert MAPPED_BYTES > 1 << 20
    client, server = Recorder(), Recorder()
    await join(client, server)
    (tmp_path / "file").write_bytes(TEXT)
    with (tmp_path / "file").open("rb") as file:
        assert await pair[1].sendfile(client.transport, file, 4095) == len(TEXT) - 4095
    assert await received(server, len(TEXT) - 4095) == TEXT[4095:]
    await eventually(lambda: client.transport.get_extra_info("tcpstack")["unacknowledged_bytes"] == 0)
    with open("/proc/self/maps") as maps:
        assert str(tmp_path) not in maps.read()


@pytest.mark.parametrize("content", [b"", b"x", TEXT[:700_000]])
async def test_object_without_a_descriptor_is_read(pair: Pair, join: Join, content: bytes) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    file = io.BytesIO(b"123" + content)
    assert await pair[1].sendfile(client.transport, file, 3) == len(content)
    assert await received(server, len(content)) == content
    assert file.tell() == (3 + len(content) if content else 3)


async def test_pipe_and_a_file_of_proc_are_read_to_their_end(pair: Pair, join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert await pair[1].sendfile(client.transport, pipe) == 14
    with open("/proc/version", "rb") as version:
        assert await pair[1].sendfile(client.transport, version) > 10
        version.seek(0)
        whole = b"through a pipe" + version.read()
    assert await received(server, len(whole)) == whole


async def test_file_that_cannot_be_mapped_is_read(
    pair: Pair, join: Join, file: BinaryIO, mapped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(sending_files.mmap, "mmap", refuse)
    client, server = Recorder(), Recorder()
    await join(client, server)
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await pair[1].sendfile(client.transport, file, fallback=False)
    assert await pair[1].sendfile(client.transport, file) == len(TEXT)
    assert await received(server, len(TEXT)) == TEXT
    assert mapped == []


async def test_without_fallback_only_what_the_kernel_can_take_unread_is_sent(
    pair: Pair, join: Join, file: BinaryIO
) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await pair[1].sendfile(client.transport, io.BytesIO(b"never a file"), fallback=False)
    if pair[1].device.offload.unread:
        assert await pair[1].sendfile(client.transport, file, fallback=False) == len(TEXT)
        assert await received(server, len(TEXT)) == TEXT
    else:
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await pair[1].sendfile(client.transport, file, fallback=False)
        assert server.data == b""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"offset": -1}, ValueError),
        ({"offset": "0"}, TypeError),
        ({"count": 0}, ValueError),
        ({"count": -5}, ValueError),
        ({"count": 1.5}, TypeError),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(
    pair: Pair, join: Join, file: BinaryIO, arguments: dict[str, Any], error: type[Exception]
) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    with pytest.raises(error, match="must be a"):
        await pair[1].sendfile(client.transport, file, **arguments)
    assert client.transport.get_protocol() is client


async def test_text_file_closing_transport_and_foreign_transport_are_refused(
    pair: Pair, join: Join, file: BinaryIO, tmp_path: Path
) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    with (tmp_path / "file").open() as text, pytest.raises(ValueError, match="binary mode"):
        await pair[1].sendfile(client.transport, text)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="not supported"):
        await pair[1].sendfile(asyncio.WriteTransport(), file)
    client.transport.close()
    with pytest.raises(RuntimeError, match="Transport is closing"):
        await pair[1].sendfile(client.transport, file)


async def test_streams_read_and_write_on_after_a_file(pair: Pair, file: BinaryIO) -> None:
    """Text that comes meanwhile waits, and a writer's drain works as before."""
    a, b = pair

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"file\n":
                await a.sendfile(writer.transport, file)
            writer.write(b"done " + line)
            await writer.drain()
        writer.close()

    async with await a.start_server(on_client, port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80)
        writer.writelines([b"file\n", b"other\n", b"file\n"])
        writer.write_eof()
        expected = TEXT + b"done file\ndone other\n" + TEXT + b"done file\n"
        assert await reader.read() == expected
        writer.close()


async def test_protocol_that_was_paused_before_hears_of_it_in_pairs(pair: Pair, join: Join, file: BinaryIO) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(TEXT)
    assert client.calls == ["made", "pause"]
    client.transport.set_write_buffer_limits(100_000, 50_000)
    sending = asyncio.ensure_future(pair[1].sendfile(client.transport, file))
    await turns(20)
    assert client.transport.get_protocol() is not client
    assert not sending.done()
    server.transport.resume_reading()
    await sending
    assert client.transport.get_protocol() is client
    assert client.transport.get_write_buffer_limits() == (50_000, 100_000)
    assert await received(server, 2 * len(TEXT)) == TEXT + TEXT
    await eventually(lambda: client.calls[-1] == "resume")
    assert client.calls == ["made", "pause", "resume"]


async def test_last_piece_that_fills_the_transport_pauses_the_protocol(pair: Pair, join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.set_write_buffer_limits(2_000_000)
    server.transport.pause_reading()
    client.transport.write(bytes(1_000_000))
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["rcv_wnd"] == 0)
    size = client.transport.get_write_buffer_size()
    client.transport.set_write_buffer_limits(size + 100_000)
    await pair[1].sendfile(client.transport, io.BytesIO(TEXT[:200_000]))
    assert client.transport.get_write_buffer_size() == size + 200_000
    assert client.calls == ["made", "pause"]
    server.transport.resume_reading()
    await client.until(lambda: client.calls[-1] == "resume")


async def test_buffered_protocol_gets_its_text_after_the_file(pair: Pair, join: Join, file: BinaryIO) -> None:
    client, server = BufferedRecorder(1000), Recorder()
    await join(client, server)
    server.transport.write(b"meanwhile")
    assert await pair[1].sendfile(client.transport, file) == len(TEXT)
    await client.until(lambda: client.data == b"meanwhile")


async def test_reader_that_had_paused_stays_paused(pair: Pair, join: Join, file: BinaryIO) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.pause_reading()
    await pair[1].sendfile(client.transport, file)
    assert not client.transport.is_reading()


async def test_peer_that_resets_ends_it_with_its_error(pair: Pair, join: Join, file: BinaryIO) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    sending = asyncio.ensure_future(pair[1].sendfile(client.transport, file, 10))
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["rcv_wnd"] == 0)
    server.transport.abort()
    with pytest.raises(ConnectionResetError):
        await sending
    assert client.calls.count("lost") == 1
    assert isinstance(client.error, ConnectionResetError)
    assert 10 < file.tell() < len(TEXT), "how much was given to the transport"


async def test_close_meanwhile_ends_it(pair: Pair, join: Join, file: BinaryIO) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    sending = asyncio.ensure_future(pair[1].sendfile(client.transport, file))
    await turns(50)
    client.transport.close()
    server.transport.resume_reading()
    with pytest.raises(ConnectionError):
        await sending
    await server.until_call("eof")
    assert server.data == TEXT[: file.tell()]


async def test_cancelled_it_gives_the_transport_back(pair: Pair, join: Join, file: BinaryIO) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    sending = asyncio.ensure_future(pair[1].sendfile(client.transport, file))
    await turns(50)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert client.transport.get_protocol() is client
    assert client.transport.is_reading()
    assert client.calls[-1] == "pause"
    server.transport.resume_reading()
    await client.until(lambda: client.calls[-1] == "resume")
    client.transport.write(b"and on")
    position = file.tell()
    assert await received(server, position + 6) == TEXT[:position] + b"and on"


async def test_file_cut_while_the_peer_takes_nothing_resets_the_connection(
    pair: Pair, join: Join, tmp_path: Path, file: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_files, "LOOK_S", 0.02)
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    sending = asyncio.ensure_future(pair[1].sendfile(client.transport, file))
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["rcv_wnd"] == 0)
    os.truncate(tmp_path / "file", len(TEXT) - 1)
    if pair[1].device.offload.unread:
        with pytest.raises(OSError, match="the file was cut") as raised:
            await sending
        assert raised.value.errno == errno.EIO
        server.transport.resume_reading()
        await server.until_call("lost")
        assert isinstance(server.error, ConnectionResetError)
    else:
        server.transport.resume_reading()
        assert await sending == len(TEXT) - 1


@pytest.mark.parametrize("watch", [{"tracer": lambda event: None}, {"faults": ["loss 1% dir=in seed=1"]}])
async def test_where_somebody_looks_at_the_octets_nothing_is_mapped(
    loop_errors: object, file: BinaryIO, mapped: list[int], watch: dict[str, Any]
) -> None:
    a, b = memory.pair()
    b.offload = replace(FULL_OFFLOAD, unread=True)
    client, server = Recorder(), Recorder()
    async with (
        tcpstack.Host(a, ["10.9.0.1/24"]) as here,
        tcpstack.Host(b, ["10.9.0.2/24"], **watch) as there,
        await here.create_server(lambda: server, port=80),
    ):
        await there.create_connection(lambda: client, "10.9.0.1", 80)
        assert await there.sendfile(client.transport, file, 0, 600_000) == 600_000
        assert await received(server, 600_000) == TEXT[:600_000]
        client.transport.abort()
    assert mapped == []
