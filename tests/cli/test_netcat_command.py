"""`tcpstack nc`: what its command line takes, and what a conversation between descriptors and a connection is."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tcpstack
from tcpstack import cli
from tcpstack.cli import netcat_session
from tcpstack.cli.netcat_arguments import NetcatOptions
from tcpstack.cli.netcat_session import Session
from tcpstack.cli.standard_streams import Input, Output

PROJECT = Path(__file__).parents[2]
MEGABYTE = bytes(range(256)) * 4096


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NetcatOptions]:
    """What `nc` was asked for, instead of doing it."""
    options: list[NetcatOptions] = []
    monkeypatch.setattr(cli, "_netcat", lambda one: options.append(one) or 0)
    return options


# The command line


def test_connect_alone_has_the_documented_defaults(asked: list[NetcatOptions]) -> None:
    assert cli.main(["nc", "10.9.0.1", "9000"]) == 0
    (options,) = asked
    assert (options.listen, options.host, options.port, options.version) == (False, "10.9.0.1", 9000, None)
    assert (options.shut_down, options.wait_s, options.verbosity, options.command) == (False, None, 0, ())
    assert (options.tun, options.loop, options.trace, options.faults) == ("tun0", "uvloop", None, ())
    assert [str(address) for address in options.addresses] == ["10.9.0.2/24", "fd09::2/64"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-l", "9000"], {"listen": True, "host": None, "port": 9000}),
        (["-l", "fd09::2", "9000"], {"listen": True, "host": "fd09::2", "port": 9000}),
        (["-6Nvvw2.5", "kernel", "http"], {"version": 6, "shut_down": True, "verbosity": 2, "wait_s": 2.5, "port": 80}),
        (["-4", "-v", "h", "1"], {"version": 4, "verbosity": 1}),
        (["h", "65535", "-N"], {"shut_down": True, "port": 65535}),
        (["-l", "1", "--", "nc", "-N", "--", "x"], {"command": ("nc", "-N", "--", "x")}),
        (["h", "1", "--tun", "t9", "--address", "192.0.2.7/28", "--loop", "asyncio"], {"tun": "t9", "loop": "asyncio"}),
    ],
)
def test_options_are_taken(asked: list[NetcatOptions], words: list[str], expected: dict[str, Any]) -> None:
    assert cli.main(["nc", *words]) == 0
    assert {name: getattr(asked[0], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nc needs a host and a port, as in: tcpstack nc 10.9.0.1 9000"),
        (["9000"], "nc needs a host and a port"),
        (["-l"], "nc needs a port, and at most an address before it, as in: tcpstack nc -l 9000"),
        (["h", "1", "2"], "nc needs a host and a port"),
        (["h", "0"], "0 is not a port: 1 to 65535, or the name of a service"),
        (["h", "65536"], "65536 is not a port"),
        (["-l", "no-such-service"], "'no-such-service' is not a port"),
        (["-w", "0", "h", "1"], "'0' is not a time in seconds"),
        (["-w", "soon", "h", "1"], "'soon' is not a time in seconds"),
        (["-w", "nan", "h", "1"], "'nan' is not a time in seconds"),
        (["-4", "-6", "h", "1"], "not allowed with argument"),
        (["-u", "h", "1"], "-u"),
    ],
)
def test_mistake_is_named_with_status_2(
    asked: list[NetcatOptions], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["nc", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, asked) == ("", [])
    assert err.startswith("tcpstack: ")
    assert said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-host.invalid", "1"], "no address is known for 'no-such-host.invalid': "),
        (["-4", "fd09::1", "1"], "no IPv4 address is known for 'fd09::1': "),
        (["x" * 70, "1"], f"{'x' * 70!r} cannot be the name of a host"),
        (["-l", "10.9.0.1", "1"], "10.9.0.1 is no address of the stack, which has 10.9.0.2 and fd09::2"),
        (["-6", "-l", "1", "--address", "10.9.0.2/24"], "the stack has no IPv6 address: give it one with --address"),
        (["fd09::1", "1", "--address", "10.9.0.2/24"], "fd09::1 has no IPv4 address, and the stack no other"),
    ],
)
def test_host_that_cannot_be_meant_is_named_with_status_1(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["nc", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tcpstack: {said}")
    assert err.count("\n") == 1


def test_help_fits_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from tcpstack import cli\n"
        "assert cli.main(['nc', '--help']) == 0\n"
        "print(*{'asyncio', 'uvloop', 'dpkt', 'pyroute2', 'h11'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: tcpstack nc [options] HOST PORT [-- COMMAND...]\n")
    assert "example" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert done.stderr.split() == []


# Descriptors


class Descriptors:
    """Pipes that are closed with the test."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def close(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        os.close(descriptor)

    def close_all(self) -> None:
        for descriptor in list(self._open):
            self.close(descriptor)


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    made = Descriptors()
    yield made
    made.close_all()


def read_now(descriptor: int) -> bytes:
    """What a pipe holds at the moment."""
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


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


# The conversation, between two hosts in memory


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
    talk.writer.transport.abort()
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
