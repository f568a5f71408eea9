"""Input and Output: at the pace of the other end, nothing lost, and the descriptors given back as they were."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tcpstack.cli.standard_streams import Input, Output
from tests.cli.pipes import MEGABYTE, Descriptors, read_now


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    made = Descriptors()
    yield made
    made.close_all()


class Heard:
    """Callbacks of an Input or an Output, and what came of them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends: list[OSError | None] = []
        self.drained = 0
        self.changed = asyncio.Event()

    def on_data(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def on_end(self, error: OSError | None) -> None:
        self.ends.append(error)
        self.changed.set()

    def on_drained(self) -> None:
        self.drained += 1
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def test_input_of_a_pipe_comes_whole_and_then_its_end(descriptors: Descriptors) -> None:
    heard = Heard()
    reading, writing = descriptors.pipe()
    source = Input(reading, heard.on_data, heard.on_end)
    os.write(writing, b"before ")
    source.resume()
    await heard.until(lambda: heard.data)
    os.write(writing, b"after")
    descriptors.close(writing)
    await heard.until(lambda: heard.ends)
    assert (bytes(heard.data), heard.ends) == (b"before after", [None])
    source.close()


async def test_input_leaves_the_open_file_blocking_for_those_who_share_it(descriptors: Descriptors) -> None:
    heard = Heard()
    reading, writing = descriptors.pipe()
    source = Input(reading, heard.on_data, heard.on_end)
    sink = Output(writing, heard.on_drained, heard.on_end)
    source.resume()
    sink.write(b"x")
    await heard.until(lambda: heard.data)
    assert (os.get_blocking(reading), os.get_blocking(writing)) == (True, True)
    source.close()
    sink.close()
    assert (os.get_blocking(reading), os.get_blocking(writing)) == (True, True)


async def test_socket_as_stdin_and_stdout_is_given_back_as_it_was() -> None:
    heard = Heard()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        source = Input(ours.fileno(), heard.on_data, heard.on_end)
        sink = Output(ours.fileno(), heard.on_drained, heard.on_end)
        source.resume()
        theirs.shutdown(socket.SHUT_WR)
        await heard.until(lambda: heard.ends)
        while not sink.pending_bytes:
            sink.write(MEGABYTE)  # would never return if the end of the input had made the socket block again
        source.close()
        sink.close()
        assert ours.getblocking()
    assert heard.ends == [None]


async def test_paused_input_takes_nothing_until_resumed(descriptors: Descriptors) -> None:
    heard = Heard()
    reading, writing = descriptors.pipe()
    source = Input(reading, heard.on_data, heard.on_end)
    source.resume()
    os.write(writing, b"one")
    await heard.until(lambda: heard.data == b"one")
    source.pause()
    os.write(writing, b"two")
    for _ in range(5):
        await asyncio.sleep(0)
    assert (bytes(heard.data), source.reading) == (b"one", False)
    source.resume()
    await heard.until(lambda: heard.data == b"onetwo")
    source.close()


async def test_end_of_a_fifo_whose_writer_left_before_it_was_read(tmp_path: Path) -> None:
    """The poll does not report it: a FIFO opened without blocking hangs up only after a writer has come."""
    heard = Heard()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    both = os.open(fifo, os.O_RDWR)
    reading = os.open(fifo, os.O_RDONLY)
    os.write(both, b"left behind")
    os.close(both)
    source = Input(reading, heard.on_data, heard.on_end)
    source.resume()
    await heard.until(lambda: heard.ends)
    assert (bytes(heard.data), heard.ends) == (b"left behind", [None])
    source.close()
    os.close(reading)


async def test_file_is_read_at_the_readers_pace(tmp_path: Path) -> None:
    heard = Heard()
    (tmp_path / "file").write_bytes(MEGABYTE)
    reading = os.open(tmp_path / "file", os.O_RDONLY)

    def take_and_pause(data: bytes) -> None:
        heard.on_data(data)
        source.pause()
        asyncio.get_running_loop().call_soon(source.resume)

    source = Input(reading, take_and_pause, heard.on_end)
    source.resume()
    await heard.until(lambda: heard.ends)
    assert (bytes(heard.data), heard.ends) == (MEGABYTE, [None])
    source.close()
    os.close(reading)


async def test_input_that_fails_says_how(tmp_path: Path) -> None:
    heard = Heard()
    reading = os.open(tmp_path, os.O_RDONLY)
    source = Input(reading, heard.on_data, heard.on_end)
    source.resume()
    await heard.until(lambda: heard.ends)
    assert [error and error.errno for error in heard.ends] == [errno.EISDIR]
    source.close()
    os.close(reading)


async def test_output_keeps_what_a_slow_reader_has_no_room_for(descriptors: Descriptors) -> None:
    heard = Heard()
    reading, writing = descriptors.pipe()
    sink = Output(writing, heard.on_drained, heard.on_end)
    sink.write(MEGABYTE)
    sink.write(b"and more")
    assert 0 < sink.pending_bytes < len(MEGABYTE)
    read = bytearray()
    while sink.pending_bytes:
        read += read_now(reading)
        await asyncio.sleep(0)
    await heard.until(lambda: heard.drained)
    sink.close()
    descriptors.close(writing)
    read += read_now(reading)
    assert bytes(read) == MEGABYTE + b"and more"
    assert (heard.drained, heard.ends) == (1, [])


async def test_output_whose_reader_goes_away_says_so_once(descriptors: Descriptors) -> None:
    heard = Heard()
    reading, writing = descriptors.pipe()
    sink = Output(writing, heard.on_drained, heard.on_end)
    sink.write(MEGABYTE)
    descriptors.close(reading)
    await heard.until(lambda: heard.ends)
    sink.write(b"more")
    assert [type(error) for error in heard.ends] == [BrokenPipeError]
    sink.close()
