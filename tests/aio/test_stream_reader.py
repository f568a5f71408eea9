"""Our StreamReader does what asyncio's does, whatever is fed and read, and hands whole chunks on uncopied."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.aio.streams import StreamReader


class Wire:
    """A transport that notes whether it is to be read."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def pause_reading(self) -> None:
        self.log.append("pause")

    def resume_reading(self) -> None:
        self.log.append("resume")


READS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 40)),
    st.tuples(st.just("readexactly"), st.integers(0, 40)),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("readuntil"), st.sampled_from([b"b", b"ab", b"\n"])),
    st.tuples(st.just("at_eof"), st.none()),
    st.tuples(st.just("repr"), st.none()),
)
FEEDS = st.tuples(st.just("feed"), st.text("ab\n", max_size=30).map(str.encode))
ENDS = st.tuples(st.sampled_from(["eof", "exception"]), st.none())


async def played(reader: asyncio.StreamReader, script: list[tuple[str, Any]]) -> list[object]:
    """What the reader answers; a read that finds too little is cancelled when the next thing is to be done."""
    wire = Wire()
    reader.set_transport(wire)  # type: ignore[arg-type]
    answers: list[object] = []
    waiting: asyncio.Task[object] | None = None
    ended = False
    for what, argument in script:
        if what == "feed" and not ended:
            reader.feed_data(argument)
        elif what == "eof":
            reader.feed_eof()
            ended = True
        elif what == "exception":
            reader.set_exception(OSError("gone"))
        elif what == "at_eof":
            answers.append(reader.at_eof())
        elif what == "repr":
            answers.append(repr(reader).replace("Wire object at", "").count("bytes"))
        elif what.startswith("read") and waiting is None:
            call = getattr(reader, what)
            waiting = asyncio.ensure_future(call() if argument is None else call(argument))
        for _ in range(4):
            await asyncio.sleep(0)
        if waiting is not None and waiting.done():
            answers.append(repr(waiting.exception() or waiting.result()))
            waiting = None
        answers.append(tuple(wire.log))
    if waiting is not None:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    return answers


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(READS, FEEDS, FEEDS, ENDS), max_size=25), st.integers(1, 30))
def test_whatever_is_fed_and_read_it_answers_as_asyncios(script: list[tuple[str, Any]], limit: int) -> None:
    async def both() -> None:
        assert await played(StreamReader(limit), script) == await played(asyncio.StreamReader(limit), script)

    asyncio.run(both())


async def test_chunk_that_is_read_whole_is_the_one_that_was_fed() -> None:
    reader = StreamReader()
    chunk = bytes(100)
    reader.feed_data(chunk)
    assert await reader.read(100) is chunk
    reading = asyncio.ensure_future(reader.read(1 << 20))
    await asyncio.sleep(0)
    reader.feed_data(chunk)
    assert await reading is chunk


async def test_chunk_of_what_can_change_is_copied() -> None:
    reader = StreamReader()
    chunk = bytearray(b"text")
    reader.feed_data(chunk)
    chunk[:] = b"else"
    assert await reader.read(100) == b"text"


async def test_second_read_while_one_waits_is_refused_and_the_first_gets_the_text() -> None:
    reader = StreamReader(limit=10, loop=asyncio.get_running_loop())
    first = asyncio.ensure_future(reader.read(5))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already waiting"):
        await reader.read(5)
    reader.feed_data(b"text")
    assert await first == b"text"
