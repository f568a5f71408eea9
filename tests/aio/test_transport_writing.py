from __future__ import annotations

import array
import asyncio
import gc
import logging
import random
import socket
import tracemalloc
from typing import Any

import pytest

import tcpstack
from tcpstack.core.events import Event, SegmentOut
from tcpstack.core.segment import Segment
from tests.aio.conftest import Join
from tests.aio.recorder import Recorder, eventually, reset, turns

MEGABYTE = random.Random(2).randbytes(1 << 20)


@pytest.mark.parametrize("data", ["text", 7, [1, 2], None])
async def test_write_of_what_is_not_bytes_raises_type_error(join: Join, data: Any) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
        client.transport.write(data)


async def test_segment_leaves_from_the_write_call_itself(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    before = client.transport.get_extra_info("tcpstack")["snd_nxt"]
    client.transport.write(b"now")
    assert client.transport.get_extra_info("tcpstack")["snd_nxt"] == before + 3
    assert client.transport.get_write_buffer_size() == 0
    client.transport.write(b"and now")
    assert client.transport.get_extra_info("tcpstack")["snd_nxt"] == before + 10, "no Nagle: as asyncio's sockets"


async def test_mutable_buffer_may_be_reused_after_write(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    buffer = bytearray(MEGABYTE)
    client.transport.write(buffer)
    client.transport.write(memoryview(buffer)[:100])
    buffer[:] = bytes(len(buffer))
    server.transport.resume_reading()
    await server.until(lambda: len(server.data) == len(MEGABYTE) + 100)
    assert server.data == MEGABYTE + MEGABYTE[:100]


async def test_memoryview_of_wider_items_is_written_as_its_octets(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    numbers = array.array("I", [1, 2, 3])
    client.transport.write(memoryview(numbers))
    await server.until(lambda: server.data == numbers.tobytes())


async def test_empty_write_changes_nothing(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    before = client.transport.get_extra_info("tcpstack")
    client.transport.write(b"")
    client.transport.writelines([])
    assert client.transport.get_extra_info("tcpstack") == before


async def test_writelines_queues_large_chunks_uncopied_and_sends_them_together(loop_errors: object) -> None:
    segments: list[Segment] = []

    def trace(event: Event) -> None:
        if isinstance(event, SegmentOut) and event.segment.payload_len:
            segments.append(event.segment)

    async with tcpstack.open_memory_pair(tracer=trace, offload=True, grace_s=0.2) as (a, b):
        client, server = Recorder(), Recorder()
        async with await a.create_server(lambda: server, port=80):
            await b.create_connection(lambda: client, "10.9.0.1", 80)
            await server.until_call("made")
            chunks = [MEGABYTE[:5000], b"small", bytearray(b"mutable"), b"", MEGABYTE[5000:10_000]]
            gc.collect()
            tracemalloc.start()
            server.transport.writelines(chunks)
            assert tracemalloc.get_traced_memory()[1] < 30_000 + 2 * 10_012  # memory's own device joins them
            tracemalloc.stop()
            assert server.transport.get_write_buffer_size() == 0
            await client.until(lambda: len(client.data) == 10_012)
            client.transport.close()
            await server.until_call("lost")
    assert client.data == MEGABYTE[:5000] + b"smallmutable" + MEGABYTE[5000:10_000]
    sent, *again = segments
    assert sent.payload_len == 10_012
    assert all("probe" in each.reason or "retransmission" in each.reason for each in again)  # of a busy machine
    views = [view for view in sent.payload if isinstance(view, memoryview)]
    assert [view.obj is chunk for view, chunk in zip(views, (chunks[0], None, chunks[4]), strict=True)] == [
        True, False, True,
    ]  # fmt: skip


async def test_writelines_with_one_thing_that_is_not_bytes_queues_nothing(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
        client.transport.writelines([b"first", "second", b"third"])
    client.transport.write(b".")
    await server.until(lambda: server.data == b".")


async def test_writelines_after_write_eof_raises_and_after_close_drops(join: Join) -> None:
    client, server = Recorder(), Recorder(keep_open=True)
    await join(client, server)
    client.transport.write_eof()
    for chunks in ([b"a", b"b"], [b"a"], []):
        with pytest.raises(RuntimeError, match="write_eof"):
            client.transport.writelines(chunks)
    server.transport.close()
    server.transport.writelines([b"a", b"b"])
    await client.until_call("lost")
    assert client.data == b""


async def test_writelines_pauses_the_protocol_once_for_all_chunks(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.writelines([MEGABYTE] * 3)
    assert client.calls == ["made", "pause"]
    server.transport.resume_reading()
    await server.until(lambda: len(server.data) == 3 << 20)
    assert server.data == MEGABYTE * 3


async def test_writelines_on_a_connection_that_has_died_is_dropped(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.pause_reading()
    server.transport.write(b"unread")
    await eventually(lambda: client.transport.get_extra_info("tcpstack")["readable_bytes"])
    reset(server.transport)
    await eventually(lambda: client.transport.get_extra_info("tcpstack")["state"] == "CLOSED")
    client.transport.writelines([b"a", b"b"])
    await client.until_call("lost")
    assert isinstance(client.error, ConnectionResetError)


async def test_writelines_sends_the_chunks_as_one_segment(loop_errors: object) -> None:
    events: list[Event] = []
    async with tcpstack.open_memory_pair(tracer=events.append, grace_s=0.2) as (a, b):
        client, server = Recorder(), Recorder()
        async with await a.create_server(lambda: server, port=80):
            await b.create_connection(lambda: client, "10.9.0.1", 80)
            await server.until_call("made")
            server.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            await client.until(lambda: client.data == b"abc")
            client.transport.close()
            await server.until_call("lost")
    sent = [event.segment.text() for event in events if isinstance(event, SegmentOut)]
    assert [text for text in sent if text] == [b"abc"]


async def test_write_after_write_eof_raises_runtime_error(join: Join) -> None:
    client, server = Recorder(), Recorder(keep_open=True)
    await join(client, server)
    assert client.transport.can_write_eof()
    client.transport.write_eof()
    client.transport.write_eof()
    with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
        client.transport.write(b"x")


async def test_writes_after_close_are_dropped_and_the_fifth_warns(join: Join, caplog: pytest.LogCaptureFixture) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.close()
    with caplog.at_level(logging.WARNING, "asyncio"):
        for _ in range(4):
            client.transport.write(b"x")
        assert not caplog.records
        client.transport.write(b"x")
        assert [record.message for record in caplog.records] == ["socket.send() raised exception."]
    await server.until_call("lost")
    assert server.data == b""


async def test_buffer_size_counts_what_is_unsent_not_what_is_unacknowledged(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.write(MEGABYTE)
    status = client.transport.get_extra_info("tcpstack")
    sent = status["snd_nxt"] - status["snd_una"]
    assert sent > 0
    assert client.transport.get_write_buffer_size() == len(MEGABYTE) - sent
    await eventually(lambda: client.transport.get_write_buffer_size() == 0)


async def test_writer_is_paused_above_high_water_and_resumed_at_low_water_once(join: Join) -> None:
    levels: list[int] = []

    class Measuring(Recorder):
        def pause_writing(self) -> None:
            levels.append(self.transport.get_write_buffer_size())
            super().pause_writing()

        resume_writing = pause_writing

    client, server = Measuring(), Recorder()
    await join(client, server)
    client.transport.set_write_buffer_limits(high=200_000, low=50_000)
    assert client.transport.get_write_buffer_limits() == (50_000, 200_000)
    server.transport.pause_reading()
    while "pause" not in client.calls:
        client.transport.write(bytes(10_000))
        await asyncio.sleep(0)
    client.transport.write(bytes(10_000))
    server.transport.resume_reading()
    await client.until(lambda: len(levels) == 2)
    await eventually(lambda: client.transport.get_write_buffer_size() == 0)
    assert 200_000 < levels[0] <= 210_000
    assert levels[1] <= 50_000
    assert len(levels) == 2


async def test_writer_paused_in_a_callback_is_resumed_when_the_batch_has_sent_all(join: Join) -> None:
    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_write_buffer_limits(high=0)
            self.transport.write(b"answer")

    client, server = Recorder(), Answering()
    await join(client, server)
    client.transport.write(b"question")
    await client.until(lambda: client.data == b"answer")
    await server.until(lambda: server.calls[-1] == "resume")
    assert server.calls == ["made", "data", "pause", "resume"]


async def test_limits_that_make_no_sense_raise_value_error(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    with pytest.raises(ValueError, match="must be >= low"):
        client.transport.set_write_buffer_limits(high=1, low=2)
    client.transport.set_write_buffer_limits()
    assert client.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


async def test_pause_writing_that_raises_is_reported_and_the_connection_goes_on(
    join: Join, loop_errors: list[dict[str, Any]]
) -> None:
    class Fails(Recorder):
        def pause_writing(self) -> None:
            raise ZeroDivisionError

        def resume_writing(self) -> None:
            super().resume_writing()
            raise ZeroDivisionError

    client, server = Fails(), Recorder()
    await join(client, server)
    client.transport.write(MEGABYTE)
    await client.until_call("resume")
    await server.until(lambda: len(server.data) == len(MEGABYTE))
    assert [context["message"] for context in loop_errors] == [
        "protocol.pause_writing() failed", "protocol.resume_writing() failed",
    ]  # fmt: skip
    loop_errors.clear()
    assert server.data == MEGABYTE


async def test_extra_info_names_both_ends_and_shows_the_engine(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    info = client.transport.get_extra_info
    assert info("peername") == server.transport.get_extra_info("sockname")
    assert info("sockname") == server.transport.get_extra_info("peername")
    assert info("peername")[0] == "10.9.0.1"
    assert info("tcpstack")["state"] == "ESTABLISHED"
    assert info("cipher") is None
    assert info("cipher", "none") == "none"
    assert "ESTABLISHED reading" in repr(client.transport)
    client.transport.close()
    await client.until_call("lost")
    assert info("peername")[0] == "10.9.0.1", "names outlive the connection"
    await turns()


async def test_text_that_leaves_from_another_call_resumes_the_writer(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    resumed = asyncio.Event()
    client.resume_writing = resumed.set  # type: ignore[method-assign]
    client.transport.set_write_buffer_limits(high=0)
    names = client.transport.get_extra_info("socket")
    names.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    client.transport.write(b"first")
    client.transport.write(b"second")  # Nagle holds it: the protocol is paused
    assert client.transport.get_write_buffer_size() == 6
    names.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert client.transport.get_write_buffer_size() == 0
    async with asyncio.timeout(2):
        await resumed.wait()
