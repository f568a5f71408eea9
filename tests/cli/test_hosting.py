"""The services on this project's own TCP, two stacks in memory, and what is shown of it."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import tcpstack
from tcpstack.aio.host import Host
from tcpstack.cli.hosting import Services, event_loop, first_of
from tcpstack.cli.watching import Printer, Watch
from tcpstack.core.events import Event, SegmentIn
from tcpstack.core.segment import RST
from tcpstack.device import memory

PORTS = {"http": 80, "echo": 7, "discard": 9, "chargen": 19}
SERVER = "10.9.0.2"


class Pair:
    """A client host, a server host with the services, and the events of the client's side."""

    def __init__(self, client: Host, services: Services, events: list[Event]) -> None:
        self.client = client
        self.services = services
        self.events = events
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.client.open_connection(SERVER, port)
        self.writers.append(writer)
        return reader, writer

    def resets(self) -> int:
        return sum(isinstance(event, SegmentIn) and bool(event.segment.flags & RST) for event in self.events)


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    (tmp_path / "index.html").write_text("<p>a page")
    events: list[Event] = []
    async with tcpstack.open_memory_pair(tracer=events.append) as (client, server):
        services = Services(server, PORTS, str(tmp_path))
        await services.start()
        pair = Pair(client, services, events)
        yield pair
        for writer in pair.writers:
            writer.close()
        await services.close()


async def within(limit_s: float, reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(-1), limit_s)


async def test_each_service_answers_on_its_port(pair: Pair) -> None:
    reader, writer = await pair.connect(7)
    writer.write(b"hello")
    writer.write_eof()
    assert await within(5, reader) == b"hello"

    reader, writer = await pair.connect(9)
    writer.write(b"hello")
    writer.write_eof()
    assert await within(5, reader) == b""

    reader, writer = await pair.connect(19)
    assert (await reader.readexactly(74)).endswith(b"efg\r\n")
    writer.transport.abort()

    reader, writer = await pair.connect(80)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await within(5, reader)).endswith(b"\r\n\r\n<p>a page")


async def test_only_the_ports_asked_for_are_listened_on() -> None:
    async with tcpstack.open_memory_pair() as (client, server):
        services = Services(server, {"echo": 1007}, None)
        await services.start()
        with pytest.raises(ConnectionRefusedError):
            await client.open_connection(SERVER, 80)
        _, writer = await client.open_connection(SERVER, 1007)
        writer.close()
        await services.close(1)


async def test_echo_of_a_megabyte_comes_back_whole(pair: Pair) -> None:
    sent = bytes(range(256)) * 4096
    reader, writer = await pair.connect(7)
    reading = asyncio.create_task(within(20, reader))
    writer.write(sent)
    writer.write_eof()
    assert await reading == sent
    assert pair.resets() == 0


async def test_close_ends_idle_and_busy_conversations_with_fin(pair: Pair) -> None:
    idle, _ = await pair.connect(7)
    browser, browser_writer = await pair.connect(80)
    browser_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await browser.readuntil(b"<p>a page")
    await asyncio.wait_for(pair.services.close(), 5)
    assert await within(5, idle) == b""
    assert await within(5, browser) == b""
    with pytest.raises(ConnectionRefusedError):
        await pair.connect(7)
    assert pair.resets() == 1  # that of the refusal


async def test_close_with_patience_lets_a_conversation_end_by_itself(pair: Pair) -> None:
    reader, writer = await pair.connect(7)
    writer.write(b"last words")
    closing = asyncio.create_task(pair.services.close(5))
    writer.write_eof()
    assert await within(2, reader) == b"last words"
    await asyncio.wait_for(closing, 2)


async def test_file_that_shrinks_amid_its_download_resets_the_connection(pair: Pair, tmp_path: Path) -> None:
    """A FIN could pass for the end of the document."""
    path = tmp_path / "shrinking.bin"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    reader, writer = await pair.connect(80)
    writer.write(b"GET /shrinking.bin HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readexactly(1000)
    os.truncate(path, 1 << 20)
    with pytest.raises(ConnectionResetError):
        await within(10, reader)


async def test_first_of_cancels_the_others_and_passes_the_error_on() -> None:
    cancelled: list[str] = []

    async def patient() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("patient")
            raise

    async def failing() -> None:
        raise OSError(errno.EBADFD, "gone")

    with pytest.raises(OSError, match="gone"):
        await first_of(patient(), failing())
    assert cancelled == ["patient"]
    await first_of(patient(), asyncio.sleep(0))
    assert cancelled == ["patient", "patient"]


@pytest.mark.parametrize("name", ["uvloop", "asyncio"])
def test_event_loop_is_the_one_asked_for(name: str) -> None:
    loop = event_loop(name)
    try:
        assert type(loop).__module__.startswith(name)
    finally:
        loop.close()


async def watched_page(watch: Watch) -> None:
    """A page is fetched from a host that `watch` watches."""
    ours, theirs = memory.pair(name="mem0")
    async with (
        tcpstack.open_tun(
            device=watch.device(ours), addresses=["10.9.0.2/24"], tracer=watch.tracer, grace_s=1
        ) as server,
        tcpstack.open_tun(device=theirs, addresses=["10.9.0.1/24"], grace_s=1) as client,
    ):
        services = Services(server, {"http": 80}, None)
        await services.start()
        reader, writer = await client.open_connection(SERVER, 80)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await within(5, reader)
        writer.close()
        await services.close(1)


async def test_watch_summary_is_one_line_for_each_connection() -> None:
    said = io.StringIO()
    watch = Watch(Printer(said), verbose=False, summary=True, trace=None)
    await watched_page(watch)
    watch.close()
    (line,) = said.getvalue().splitlines()
    assert line.startswith("10.9.0.1:")
    assert " -> :80  in " in line
    assert line.endswith("closed")


async def test_watch_verbose_draws_the_ladder_and_no_summary() -> None:
    said = io.StringIO()
    watch = Watch(Printer(said), verbose=True, summary=True, trace=None)
    await watched_page(watch)
    watch.close()
    shown = said.getvalue()
    assert "LISTEN" in shown
    assert "TIME-WAIT" in shown
    assert "\x1b" not in shown  # no terminal, no colour
    assert " -> :80  in " not in shown


async def test_watch_with_nothing_asked_for_costs_nothing() -> None:
    watch = Watch(Printer(io.StringIO()), verbose=False, summary=False, trace=None)
    device, _ = memory.pair()
    assert watch.tracer is None
    assert watch.device(device) is device


async def test_watch_trace_records_every_packet(tmp_path: Path) -> None:
    trace = tmp_path / "x.pcapng"
    watch = Watch(Printer(io.StringIO()), verbose=False, summary=False, trace=str(trace))
    await watched_page(watch)
    watch.close()
    capture = trace.read_bytes()
    assert capture.startswith(b"\x0a\x0d\x0d\x0a")
    assert b"GET / HTTP/1.1" in capture
    assert b"SYN,ACK: answers the SYN" in capture  # why, as the packet's comment


async def test_watch_trace_that_cannot_be_opened_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"the capture .*/no/x\.pcapng cannot be written: No such file"):
        Watch(Printer(io.StringIO()), verbose=False, summary=False, trace=str(tmp_path / "no" / "x.pcapng"))


async def test_printer_reader_gone_tells_once_and_is_silent() -> None:
    told: list[str] = []
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        printer = Printer(stream, lambda: told.append("gone"))
        printer.line("one")
        printer.line("two")
        assert isinstance(printer.error, BrokenPipeError)
        stream.write("what is left does not fail at the close")
    assert told == ["gone"]
