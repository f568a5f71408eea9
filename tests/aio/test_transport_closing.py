from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any

import pytest

import tcpstack
from tcpstack.core.events import Event, SegmentOut
from tcpstack.core.segment import FIN
from tests.aio.conftest import Join, Pair
from tests.aio.recorder import Recorder, eventually, turns

MEGABYTE = random.Random(3).randbytes(1 << 20)


async def test_close_calls_connection_lost_with_none_once_and_not_from_inside(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.close()
    assert client.transport.is_closing()
    assert client.calls == ["made"]
    await turns(1)
    assert client.calls == ["made", "lost"], "nothing was left to send, so it does not wait for the peer"
    assert client.error is None
    client.transport.close()
    client.transport.abort()
    await server.until_call("lost")
    await turns()
    assert client.calls == ["made", "lost"]


async def test_close_with_text_queued_sends_all_of_it_before_the_fin(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.write(MEGABYTE)
    client.transport.close()
    await turns(1)
    assert client.calls == ["made", "pause"], "not lost while text waits to be sent"
    await server.until_call("lost")
    assert server.data == MEGABYTE
    assert server.calls == ["made", "data", "eof", "lost"]
    assert client.calls[-1] == "lost"
    assert client.error is None


async def test_write_and_close_from_a_callback_sends_all_and_ends(join: Join) -> None:
    class OneShot(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"answer")
            self.transport.close()

    client, server = Recorder(), OneShot()
    await join(client, server)
    client.transport.write(b"question")
    await client.until_call("lost")
    await server.until_call("lost")
    assert client.data == b"answer"
    assert client.calls == ["made", "data", "eof", "lost"]
    assert (client.error, server.error) == (None, None)


async def test_close_with_text_queued_sends_the_fin_in_the_last_segment(loop_errors: object) -> None:
    events: list[Event] = []
    async with tcpstack.open_memory_pair(tracer=events.append, grace_s=0.2) as (a, b):
        client, server = Recorder(), Recorder()
        async with await a.create_server(lambda: server, port=80):
            await b.create_connection(lambda: client, "10.9.0.1", 80)
            await server.until_call("made")
            server.transport.write(MEGABYTE)
            server.transport.close()
            await client.until_call("lost")
    segments = [event.segment for event in events if isinstance(event, SegmentOut)]
    fins = [segment for segment in segments if segment.flags & FIN]
    assert fins[0].payload_len > 0
    assert {segment.seq + segment.payload_len for segment in fins} == {fins[0].seq + fins[0].payload_len}  # sent again


async def test_close_sends_at_once_what_nagle_held_back(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    client.transport.write(b"one")
    client.transport.write(b"two")
    assert client.transport.get_write_buffer_size() == 3
    client.transport.close()
    await turns(1)
    assert client.calls == ["made", "lost"]
    await server.until_call("lost")
    assert server.data == b"onetwo"


async def test_engine_finishes_a_closed_connection_as_an_orphan(pair: Pair, join: Join) -> None:
    a, b = pair
    client, server = Recorder(), Recorder(keep_open=True)
    await join(client, server)
    client.transport.close()
    await client.until_call("lost")
    await server.until_call("eof")
    assert [conn.user for conn in b.connections] == [None]
    server.transport.close()
    await eventually(lambda: not list(b.connections) and not list(a.connections))


async def test_no_data_received_after_close(join: Join) -> None:
    client, server = Recorder(), Recorder(keep_open=True)
    await join(client, server)
    client.transport.close()
    server.transport.write(b"too late")
    await server.until_call("lost")
    await turns()
    assert client.data == b""
    assert isinstance(server.error, ConnectionResetError), "text that nobody will read earns a reset"


async def test_close_with_unread_text_resets_the_peer(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(b"unread")
    await eventually(lambda: server.transport.get_extra_info("tcpstack")["readable_bytes"] == 6)
    server.transport.close()
    await client.until_call("lost")
    assert isinstance(client.error, ConnectionResetError)
    assert server.error is None


async def test_abort_resets_the_peer_and_is_no_error_here(pair: Pair, join: Join) -> None:
    a, b = pair
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.write(MEGABYTE)
    client.transport.abort()
    assert client.transport.is_closing()
    assert client.transport.get_write_buffer_size() == 0
    await client.until_call("lost")
    await server.until_call("lost")
    assert client.error is None
    assert isinstance(server.error, ConnectionResetError)
    assert not list(a.connections)
    assert not list(b.connections)


async def test_abort_with_all_sent_ends_in_order_as_a_kernels_does(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.write(b"all")
    client.transport.abort()
    assert client.transport.is_closing()
    await client.until_call("lost")
    await server.until_call("lost")
    assert (bytes(server.data), server.error, client.error) == (b"all", None, None)
    assert "eof" in server.calls


async def test_abort_with_unread_text_resets_the_peer(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.pause_reading()
    server.transport.write(b"unread")
    await eventually(lambda: client.transport.get_extra_info("tcpstack")["readable_bytes"])
    client.transport.abort()
    await server.until_call("lost")
    assert isinstance(server.error, ConnectionResetError)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_so_linger_of_no_time_makes_the_end_a_reset(join: Join, end: str) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    sock = client.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0)
    client.transport.write(b"all")
    getattr(client.transport, end)()
    await client.until_call("lost")
    await server.until_call("lost")
    assert isinstance(server.error, ConnectionResetError)
    assert (bytes(server.data), client.error) == (b"all", None)


async def test_abort_while_close_waits_for_the_peer_ends_at_once(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    server.transport.pause_reading()
    client.transport.write(MEGABYTE + MEGABYTE)
    client.transport.close()
    await turns()
    assert "lost" not in client.calls
    client.transport.abort()
    await client.until_call("lost")
    server.transport.resume_reading()
    await server.until_call("lost")
    assert isinstance(server.error, ConnectionResetError)


async def test_half_close_leaves_the_other_direction_open_both_ways(join: Join) -> None:
    client, server = Recorder(keep_open=True), Recorder(keep_open=True)
    await join(client, server)
    client.transport.write_eof()
    await server.until_call("eof")
    server.transport.write(MEGABYTE)
    await client.until(lambda: len(client.data) == len(MEGABYTE))
    server.transport.write_eof()
    await client.until_call("eof")
    assert client.data == MEGABYTE
    assert "lost" not in client.calls + server.calls
    client.transport.close()
    server.transport.close()
    await client.until_call("lost")
    await server.until_call("lost")
    assert (client.error, server.error) == (None, None)


async def test_peer_reset_while_writer_is_paused_is_reported_although_text_is_unread(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    client.transport.pause_reading()
    server.transport.pause_reading()
    client.transport.write(MEGABYTE + MEGABYTE)
    server.transport.write(b"unread")
    await client.until_call("pause")
    await eventually(lambda: client.transport.get_extra_info("tcpstack")["readable_bytes"] == 6)
    server.transport.abort()
    await client.until_call("lost")
    assert isinstance(client.error, ConnectionResetError)


async def test_peer_that_stops_answering_ends_in_timeout_error(loop_errors: list[dict[str, Any]]) -> None:
    config = tcpstack.Config(r2_ns=300_000_000)
    async with tcpstack.open_memory_pair(config=config, faults=["drop data"], grace_s=0) as (a, b):
        client, server = Recorder(), Recorder()
        async with await a.create_server(lambda: server, port=80):
            await b.create_connection(lambda: client, "10.9.0.1", 80)
            client.transport.write(b"into the void")
            await client.until_call("lost")
            assert isinstance(client.error, TimeoutError)
            server.transport.abort()


async def test_connection_lost_that_raises_is_reported_and_the_server_still_ends(
    pair: Pair, loop_errors: list[dict[str, Any]]
) -> None:
    class Fails(Recorder):
        def connection_lost(self, error: BaseException | None) -> None:
            raise ZeroDivisionError

    a, b = pair
    client = Recorder()
    server = await a.create_server(Fails, port=80)
    await b.create_connection(lambda: client, "10.9.0.1", 80)
    client.transport.abort()
    await eventually(lambda: loop_errors)
    assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)
    server.close()
    async with asyncio.timeout(5):
        await server.wait_closed()


@pytest.mark.parametrize("address", ["10.9.0.1", "fd09::1"])
async def test_names_of_both_families_are_as_sockets_have_them(pair: Pair, address: str) -> None:
    a, b = pair
    client = Recorder()
    async with await a.create_server(Recorder, port=80):
        await b.create_connection(lambda: client, address, 80)
        peername = client.transport.get_extra_info("peername")
        assert peername == (("10.9.0.1", 80) if address == "10.9.0.1" else ("fd09::1", 80, 0, 0))
        client.transport.abort()
