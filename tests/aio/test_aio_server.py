from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

import tcpstack
from tests.aio.conftest import Pair
from tests.aio.recorder import Recorder, eventually, turns


async def connect(pair: Pair, port: int = 80) -> Recorder:
    client = Recorder()
    await pair[1].create_connection(lambda: client, "10.9.0.1", port)
    return client


async def test_server_shows_its_loop_its_state_and_its_sockets(pair: Pair) -> None:
    a, _ = pair
    server = await a.create_server(Recorder, port=80)
    assert server.get_loop() is asyncio.get_running_loop()
    assert server.is_serving()
    assert [sock.getsockname() for sock in server.sockets] == [("0.0.0.0", 80), ("::", 80, 0, 0)]
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()


async def test_port_zero_picks_a_port_that_is_reachable_on_both_families(pair: Pair) -> None:
    a, b = pair
    async with await a.create_server(Recorder) as server:
        port = server.sockets[0].getsockname()[1]
        assert port > 0
        for address in ("10.9.0.1", "fd09::1"):
            transport, _ = await b.create_connection(Recorder, address, port)
            transport.abort()


async def test_server_on_one_address_refuses_the_others(pair: Pair) -> None:
    a, b = pair
    async with await a.create_server(Recorder, "fd09::1", 80) as server:
        assert [sock.getsockname() for sock in server.sockets] == [("fd09::1", 80, 0, 0)]
        transport, _ = await b.create_connection(Recorder, "fd09::1", 80)
        transport.abort()
        with pytest.raises(ConnectionRefusedError):
            await b.create_connection(Recorder, "10.9.0.1", 80)


async def test_several_addresses_make_one_listener_each(pair: Pair) -> None:
    a, _ = pair
    async with await a.create_server(Recorder, ["10.9.0.1", "fd09::1", "10.9.0.1"], 80) as server:
        assert [sock.getsockname() for sock in server.sockets] == [("10.9.0.1", 80), ("fd09::1", 80, 0, 0)]


async def test_foreign_address_and_taken_port_raise_as_asyncio_words_it(pair: Pair) -> None:
    a, _ = pair
    with pytest.raises(OSError, match=r"error while attempting to bind on address \('10.9.0.77', 80\)") as raised:
        await a.create_server(Recorder, "10.9.0.77", 80)
    assert raised.value.errno == errno.EADDRNOTAVAIL
    async with await a.create_server(Recorder, port=80):
        with pytest.raises(OSError, match=r"\('\*', 80\)") as raised:
            await a.create_server(Recorder, port=80)
        assert raised.value.errno == errno.EADDRINUSE
    async with await a.create_server(Recorder, port=80):
        pass  # a closed server's port is free


async def test_failure_on_one_of_several_addresses_leaves_none_listened_on(pair: Pair) -> None:
    a, _ = pair
    with pytest.raises(OSError, match=r"10\.9\.0\.77"):
        await a.create_server(Recorder, ["10.9.0.1", "10.9.0.77"], 80)
    async with await a.create_server(Recorder, "10.9.0.1", 80):
        pass


async def test_connection_is_made_in_the_turn_in_which_the_handshake_completes(pair: Pair) -> None:
    a, b = pair
    server = Recorder()
    async with await a.create_server(lambda: server, port=80):
        [listener] = a._stack._listeners.values()
        accepted_late: list[int] = []
        on_packets = a._stack.on_packets

        def watched(packets: Any, now_ns: int) -> None:
            on_packets(packets, now_ns)
            accepted_late.append(len(listener.queue))

        a._stack.on_packets = watched  # type: ignore[method-assign]
        await b.create_connection(Recorder, "10.9.0.1", 80)
        await server.until_call("made")
        assert not any(accepted_late)
        server.transport.abort()


async def test_close_stops_listening_and_leaves_live_connections_alone(pair: Pair) -> None:
    a, _ = pair
    protocol = Recorder()
    server = await a.create_server(lambda: protocol, port=80)
    client = await connect(pair)
    await protocol.until_call("made")
    server.close()
    server.close()
    assert not a._servers, "the host forgets it"
    with pytest.raises(ConnectionRefusedError):
        await connect(pair)
    client.transport.write(b"still alive")
    await protocol.until(lambda: protocol.data == b"still alive")


async def test_wait_closed_returns_after_close_and_the_last_connection(pair: Pair) -> None:
    a, _ = pair
    protocol = Recorder()
    server = await a.create_server(lambda: protocol, port=80)
    waiting = asyncio.ensure_future(server.wait_closed())
    await turns()
    assert not waiting.done(), "an open server is waited for, although it has no connections"
    client = await connect(pair)
    await protocol.until_call("made")
    server.close()
    await turns()
    assert not waiting.done(), "a connection lives"
    client.transport.close()
    await protocol.until_call("lost")
    async with asyncio.timeout(5):
        await waiting
        await server.wait_closed()


async def test_close_clients_and_abort_clients_end_the_connections(pair: Pair) -> None:
    a, _ = pair
    server = await a.create_server(Recorder, port=80)
    closed, aborted = await connect(pair), None
    await eventually(lambda: len(server._transports) == 1)
    server.close_clients()
    await closed.until_call("lost")
    assert closed.error is None
    assert server.is_serving()
    aborted = await connect(pair)
    await eventually(lambda: len(server._transports) == 1)
    server.abort_clients()
    await aborted.until_call("lost")
    assert aborted.error is None  # nothing was lost
    server.close()
    async with asyncio.timeout(5):
        await server.wait_closed()


async def test_server_without_start_serving_lets_clients_wait_until_it_starts(pair: Pair) -> None:
    config = tcpstack.Config(rto_initial_ns=200_000_000, rto_min_ns=50_000_000)
    a, b = pair
    protocol = Recorder()
    server = await a.create_server(lambda: protocol, port=80, start_serving=False)
    assert not server.is_serving()
    assert server.sockets[0].getsockname()[1] == 80
    connecting = asyncio.ensure_future(b.create_connection(Recorder, "10.9.0.1", 80, config=config))
    await eventually(lambda: a.counters["accept_queue_full"])
    assert not connecting.done()
    assert protocol.calls == []
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    transport, _ = await asyncio.wait_for(connecting, 5)
    await protocol.until_call("made")
    transport.abort()
    server.close()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.start_serving()


async def test_serve_forever_cancelled_closes_the_server(pair: Pair) -> None:
    a, _ = pair
    server = await a.create_server(Recorder, port=80, start_serving=False)
    serving = asyncio.ensure_future(server.serve_forever())
    await turns()
    assert server.is_serving()
    with pytest.raises(RuntimeError, match="already being awaited"):
        await server.serve_forever()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


async def test_close_ends_serve_forever_with_cancelled_error(pair: Pair) -> None:
    a, _ = pair
    server = await a.create_server(Recorder, port=80)
    serving = asyncio.ensure_future(server.serve_forever())
    await turns()
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_context_manager_closes_and_waits(pair: Pair) -> None:
    a, _ = pair
    async with await a.create_server(Recorder, port=80) as server:
        client = await connect(pair)
        client.transport.close()
    assert not server.is_serving()
    assert not server._transports


async def test_protocol_factory_that_raises_is_reported_and_the_peer_reset(
    pair: Pair, loop_errors: list[dict[str, Any]]
) -> None:
    a, _ = pair
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        if len(made) == 1:
            raise ZeroDivisionError
        return made[-1]

    async with await a.create_server(factory, port=80):
        client = await connect(pair)
        await client.until_call("lost")
        assert isinstance(client.error, ConnectionResetError)
        assert isinstance(loop_errors.pop()["exception"], ZeroDivisionError)
        again = await connect(pair)
        await eventually(lambda: made[1:] and made[1].calls == ["made"])
        again.transport.abort()


async def test_backlog_bounds_what_waits_and_close_resets_it(pair: Pair) -> None:
    a, _ = pair
    server = await a.create_server(Recorder, port=80, start_serving=False)
    [listener] = server._listeners or ()
    listener.backlog = 3  # as if the loop were too busy to accept
    waiting = [await connect(pair) for _ in range(3)]
    await eventually(lambda: len(listener.queue) == 3)
    connecting = asyncio.ensure_future(connect(pair))
    await eventually(lambda: a.counters["accept_queue_full"] == 1)
    assert not connecting.done()
    connecting.cancel()
    server.close()
    for client in waiting:
        await client.until_call("lost")
        assert isinstance(client.error, ConnectionResetError)


async def test_server_with_a_name_listens_on_the_addresses_of_the_name(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = pair

    async def getaddrinfo(host: str, port: object, **options: object) -> list[Any]:
        assert host == "stack.example"
        return [(2, 1, 6, "", ("10.9.0.1", 0)), (10, 1, 6, "", ("fd09::1", 0, 0, 0))]

    monkeypatch.setattr(a._driver, "loop", LoopWith(a.loop, getaddrinfo))
    monkeypatch.setattr(a, "loop", LoopWith(a.loop, getaddrinfo))
    server = await a.create_server(Recorder, "stack.example", 80)
    assert [sock.getsockname()[0] for sock in server.sockets] == ["10.9.0.1", "fd09::1"]
    server.close()


class LoopWith:
    """A loop whose getaddrinfo is another (uvloop's own can't be patched)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, getaddrinfo: Any) -> None:
        self._loop = loop
        self.getaddrinfo = getaddrinfo

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
