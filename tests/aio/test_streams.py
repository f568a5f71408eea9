from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc

import pytest

import tcpstack
from tests.aio.conftest import Pair
from tests.aio.recorder import eventually, reset, turns

BULK = random.Random(4).randbytes(5_000_000)


async def echo_until_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_streams_are_asyncio_s_own(pair: Pair) -> None:
    a, b = pair
    seen: list[object] = []

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend((reader, writer))
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    async with await a.start_server(on_client, port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80)
        writer.write(b"hello\nand the rest is not read")
        assert await reader.readline() == b"HELLO\n"
        writer.close()
    for reader_of_one, writer_of_one in (seen, (reader, writer)):
        assert isinstance(reader_of_one, asyncio.StreamReader)
        assert type(writer_of_one) is asyncio.StreamWriter


async def test_plain_function_may_be_the_client_callback(pair: Pair) -> None:
    a, b = pair
    async with await a.start_server(lambda reader, writer: writer.close(), port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80)
        assert await reader.read() == b""
        writer.close()


async def test_five_megabytes_both_ways_at_once_arrive_intact(pair: Pair) -> None:
    a, b = pair
    async with await a.start_server(echo_until_eof, port=7):
        reader, writer = await b.open_connection("10.9.0.1", 7)

        async def send() -> None:
            for start in range(0, len(BULK), 100_000):
                writer.write(BULK[start : start + 100_000])
                await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        received = await reader.read()
        await sending
        writer.close()
    assert received == BULK


@pytest.mark.parametrize(
    "rules",
    [["loss 5% seed=7"], ["duplicate 5%"], ["reorder 5%"], ["corrupt 1%"], ["drop syn nth=1", "drop synack nth=1"]],
    ids=lambda rules: rules[0],
)
async def test_echo_over_a_faulty_link_arrives_intact(rules: list[str], loop_errors: object) -> None:
    config = tcpstack.Config(rto_initial_ns=200_000_000, rto_min_ns=50_000_000)
    text = BULK[:300_000]
    async with tcpstack.open_memory_pair(config=config, faults=rules, grace_s=0.2) as (a, b):
        async with await a.start_server(echo_until_eof, port=7):
            reader, writer = await b.open_connection("10.9.0.1", 7)
            writer.write(text)
            writer.write_eof()
            async with asyncio.timeout(60):
                assert await reader.read() == text
            writer.close()
        assert sum(a.device.hits.values()) > 0  # type: ignore[attr-defined]


async def test_writer_that_never_pauses_is_held_back_by_a_reader_that_stops(pair: Pair) -> None:
    a, b = pair
    release = asyncio.Event()
    received = 0

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await release.wait()
        while data := await reader.read(1 << 16):
            received += len(data)
        writer.close()

    written = 0
    most_unsent = 0
    chunk = bytes(50_000)

    async with await a.start_server(on_client, port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80)

        async def write_without_end() -> None:
            nonlocal written, most_unsent
            while written < 20_000_000:
                writer.write(chunk)
                written += len(chunk)
                most_unsent = max(most_unsent, writer.transport.get_write_buffer_size())
                await writer.drain()
            writer.write_eof()

        gc.collect()
        tracemalloc.start()
        writing = asyncio.ensure_future(write_without_end())
        await eventually(lambda: a.connections and a.connections[0].status()["rcv_wnd"] == 0)
        stalled_at = written
        await turns(50)
        assert written == stalled_at, "the reader takes nothing, so the writer has to wait"
        assert stalled_at < 3_000_000, "what both buffers and the high-water mark hold"
        _, most_memory = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most_memory < 8_000_000
        release.set()
        await writing
        assert await reader.read() == b""
        writer.close()
    assert received == written == 20_000_000
    assert most_unsent <= writer.transport.get_write_buffer_limits()[1] + len(chunk)  # type: ignore[attr-defined]


async def test_limit_bounds_readline(pair: Pair) -> None:
    a, b = pair

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(5000))
        writer.close()

    async with await a.start_server(on_client, port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80, limit=1000)
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        reset(writer.transport)


async def test_reset_reaches_the_stream_reader_and_drain(pair: Pair) -> None:
    a, b = pair

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset(writer.transport)

    async with await a.start_server(on_client, port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80)
        writer.write(b"xy")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_sendfile_falls_back_to_reads_and_writes(pair: Pair, tmp_path: object) -> None:
    """uvloop has no sendfile for a transport that is not its own."""
    a, b = pair
    path = tmp_path / "file"  # type: ignore[operator]
    path.write_bytes(BULK[:1_000_000])

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with path.open("rb") as file:
            await asyncio.get_running_loop().sendfile(writer.transport, file)
        writer.close()

    async with await a.start_server(on_client, port=80):
        reader, writer = await b.open_connection("10.9.0.1", 80)
        assert await reader.read() == BULK[:1_000_000]
        writer.close()
