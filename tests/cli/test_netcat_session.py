"""What a conversation between descriptors and a connection is, between two hosts in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import tcpstack
from tcpstack.cli import netcat_session
from tcpstack.cli.netcat_session import Session
from tests.cli.pipes import MEGABYTE, Descriptors, read_now


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    made = Descriptors()
    yield made
    made.close_all()


class Talk:
    """A Session on one host, its stdin and stdout as pipes, and streams to its peer on the other."""

    def __init__(self, host: tcpstack.Host, peer: tcpstack.Host, descriptors: Descriptors) -> None:
        self._hosts = host, peer
        self._descriptors = descriptors
        self.stdin, self.writing = descriptors.pipe()
        self.reading, self.stdout = descriptors.pipe()
        self.session: Session
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def begin(self, *, listening: bool = False, **arguments: Any) -> None:
        host, peer = self._hosts
        self.session = Session(stdin=self.stdin, stdout=self.stdout, listening=listening, **arguments)
        if listening:
            await host.create_server(lambda: self.session, port=9000)
            self.reader, self.writer = await peer.open_connection("10.9.0.1", 9000)
            return
        accepted: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result((reader, writer))

        await peer.start_server(accept, port=9000)
        await host.create_connection(lambda: self.session, "10.9.0.2", 9000)
        self.reader, self.writer = await accepted

    def end_stdin(self) -> None:
        self._descriptors.close(self.writing)

    def end_reader(self) -> None:
        self._descriptors.close(self.reading)

    def read(self) -> bytes:
        """What is on stdout by now."""
        return read_now(self.reading)

    async def over(self, limit_s: float = 10.0) -> OSError | None:
        return await asyncio.wait_for(asyncio.shield(self.session.over), limit_s)


@pytest.fixture
async def talk(descriptors: Descriptors) -> AsyncIterator[Talk]:
    async with tcpstack.open_memory_pair(grace_s=0) as (host, peer):
        made = Talk(host, peer, descriptors)
        yield made
        made.session.close()
        made.writer.close()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("listening", [False, True])
async def test_both_ends_say_all_and_it_is_over(talk: Talk, listening: bool) -> None:
    await talk.begin(listening=listening, shut_down=True)
    os.write(talk.writing, b"question")
    talk.end_stdin()
    assert await talk.reader.read() == b"question"  # with its end, which -N sends
    talk.writer.write(b"answer")
    talk.writer.write_eof()
    assert await talk.over() is None
    assert (talk.read(), talk.session.lost, talk.session.undelivered) == (b"answer", None, 0)


@pytest.mark.parametrize("listening", [False, True])
async def test_without_shut_down_the_end_of_stdin_is_not_sent(talk: Talk, listening: bool) -> None:
    await talk.begin(listening=listening)
    os.write(talk.writing, b"x")
    talk.end_stdin()
    assert await talk.reader.read(1) == b"x"
    await turns()
    assert not talk.reader.at_eof()
    assert not talk.session.over.done()
    talk.writer.write_eof()
    assert await talk.over() is None


async def test_client_waits_for_the_end_of_stdin_when_the_peer_has_closed(talk: Talk) -> None:
    await talk.begin()
    talk.writer.write_eof()
    await turns()
    assert not talk.session.over.done()
    os.write(talk.writing, b"late")
    assert await talk.reader.read(4) == b"late"
    talk.end_stdin()
    assert await talk.over() is None


async def test_listener_ends_when_the_peer_has_closed_and_stdin_is_silent(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netcat_session, "SILENCE_S", 0.2)
    await talk.begin(listening=True)
    talk.writer.write(b"all")
    talk.writer.write_eof()
    assert await talk.over() is None
    assert talk.read() == b"all"


async def test_listener_goes_on_while_stdin_speaks_after_the_peer_has_closed(talk: Talk, tmp_path: Path) -> None:
    """Where nc would leave the rest of a file unsent."""
    (tmp_path / "file").write_bytes(MEGABYTE * 4)
    talk.stdin = os.open(tmp_path / "file", os.O_RDONLY)
    await talk.begin(listening=True, shut_down=True)
    talk.writer.write_eof()
    assert await asyncio.wait_for(talk.reader.read(), 20) == MEGABYTE * 4
    assert await talk.over() is None
    os.close(talk.stdin)


async def test_slow_stdout_stops_the_peer_and_loses_nothing(talk: Talk) -> None:
    await talk.begin()
    talk.end_stdin()
    talk.writer.write(MEGABYTE * 4)
    talk.writer.write_eof()
    await turns()
    unsent = talk.writer.transport.get_write_buffer_size()
    assert unsent > len(MEGABYTE)  # a pipe's worth and two buffers' worth have left, no more
    await turns()
    assert talk.writer.transport.get_write_buffer_size() == unsent
    read = bytearray()
    async with asyncio.timeout(20):
        while not talk.session.over.done():
            read += talk.read()
            await asyncio.sleep(0)
    assert bytes(read + talk.read()) == MEGABYTE * 4


async def test_reset_ends_it_after_what_had_arrived(talk: Talk) -> None:
    await talk.begin()
    talk.writer.write(b"last words")
    await turns()
    talk.writer.transport.reset()
    assert await talk.over() is None
    assert isinstance(talk.session.lost, ConnectionResetError)
    assert talk.read() == b"last words"


async def test_undelivered_counts_what_the_peer_did_not_acknowledge(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(MEGABYTE * 8)
    talk.stdin = os.open(tmp_path / "file", os.O_RDONLY)
    await talk.begin()
    await turns()  # until the reader and the windows are full
    talk.writer.transport.abort()
    assert await talk.over() is None
    assert 0 < talk.session.undelivered < 8 * len(MEGABYTE)
    os.close(talk.stdin)


async def test_nothing_is_undelivered_once_acknowledged(talk: Talk) -> None:
    await talk.begin(shut_down=True)
    os.write(talk.writing, b"x" * 1000)
    assert await talk.reader.readexactly(1000)
    talk.end_stdin()
    assert await talk.reader.read() == b""  # the ACK of the FIN is at once, and of all
    await turns()
    assert talk.session.undelivered == 0


async def test_reader_of_stdout_goes_away_resets_the_connection(talk: Talk) -> None:
    await talk.begin()
    talk.end_reader()
    talk.writer.write(b"to nobody")
    error = await talk.over()
    assert isinstance(error, BrokenPipeError)
    with pytest.raises(ConnectionResetError):
        await talk.reader.read()


async def test_stdin_that_fails_resets_the_connection(talk: Talk, tmp_path: Path) -> None:
    """A part of a file does not look like all of it."""
    talk.stdin = os.open(tmp_path, os.O_RDONLY)
    await talk.begin(shut_down=True)
    error = await talk.over()
    assert error is not None
    assert error.strerror == "standard input cannot be read: Is a directory"
    with pytest.raises(ConnectionResetError):
        await talk.reader.read()
    os.close(talk.stdin)


async def test_close_with_text_that_went_nowhere_resets(talk: Talk) -> None:
    await talk.begin()
    talk.writer.write(MEGABYTE)
    await turns()
    talk.session.close()
    with pytest.raises(ConnectionResetError):
        await talk.reader.read()


async def test_close_sends_what_stdin_gave_and_fin(talk: Talk) -> None:
    await talk.begin()
    os.write(talk.writing, b"bye")
    await turns()
    talk.session.close()
    assert await talk.reader.read() == b"bye"


async def test_idle_connection_is_over_after_its_time(talk: Talk) -> None:
    await talk.begin(idle_s=0.2)
    begun = asyncio.get_running_loop().time()
    assert await talk.over() is None
    assert talk.session.idle
    assert 0.15 < asyncio.get_running_loop().time() - begun < 2


async def test_connection_in_which_something_moves_is_not_idle(talk: Talk) -> None:
    await talk.begin(idle_s=0.4)
    for _ in range(6):
        await asyncio.sleep(0.1)
        talk.writer.write(b".")
    assert not talk.session.over.done()
    for _ in range(6):
        await asyncio.sleep(0.1)
        os.write(talk.writing, b".")
    assert not talk.session.over.done()
    assert await talk.over() is None
