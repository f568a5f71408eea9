from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import tcpstack
from tcpstack.core.events import Event
from tcpstack.device import memory
from tests.aio.conftest import Pair
from tests.aio.recorder import Recorder, eventually, turns


async def test_host_shows_its_addresses_device_connections_and_counters(pair: Pair) -> None:
    a, b = pair
    assert [str(address) for address in a.addresses] == ["10.9.0.1/24", "fd09::1/64"]
    assert a.device.name == "memory-a"
    assert a.connections == ()
    async with await a.create_server(Recorder, port=80):
        transport, _ = await b.create_connection(Recorder, "10.9.0.1", 80)
        assert [conn.flow[3] for conn in b.connections] == [80]
        transport.abort()
    assert repr(a) == "<Host 10.9.0.1/24, fd09::1/64 on memory-a>"
    assert not a.counters


async def test_aclose_sends_fin_to_all_and_returns_when_all_have_finished(pair: Pair) -> None:
    a, b = pair
    servers, clients = [], []
    for _ in range(3):
        server, client = Recorder(), Recorder()
        async with asyncio.timeout(5):
            listening = await a.create_server(lambda server=server: server)
            port = listening.sockets[0].getsockname()[1]
            await b.create_connection(lambda client=client: client, "10.9.0.1", port)
            await server.until_call("made")
        servers.append(server)
        clients.append(client)
    async with asyncio.timeout(2):
        await a.aclose(grace_s=60)
    assert [server.calls for server in servers] == [["made", "lost"]] * 3
    assert [server.error for server in servers] == [None] * 3
    for client in clients:
        await client.until_call("lost")
        assert client.calls == ["made", "eof", "lost"]
    assert a.connections == ()
    await a.aclose()


async def test_aclose_sends_what_was_written_before_the_fin(pair: Pair) -> None:
    a, b = pair
    server, client = Recorder(), Recorder()
    await a.create_server(lambda: server, port=80)
    await b.create_connection(lambda: client, "10.9.0.1", 80)
    await server.until_call("made")
    server.transport.write(bytes(1_000_000))
    await a.aclose(grace_s=60)
    await client.until_call("lost")
    assert len(client.data) == 1_000_000
    assert client.error is None


async def test_aclose_resets_after_its_grace_what_did_not_finish(pair: Pair) -> None:
    a, b = pair
    server, client = Recorder(), Recorder(keep_open=True)
    await a.create_server(lambda: server, port=80)
    await b.create_connection(lambda: client, "10.9.0.1", 80)
    await server.until_call("made")
    client.transport.pause_reading()
    server.transport.write(bytes(3_000_000))
    await a.aclose(grace_s=0.05)
    assert isinstance(server.error, ConnectionAbortedError), "what was written did not arrive: not a clean end"
    client.transport.resume_reading()
    await client.until_call("lost")
    assert isinstance(client.error, ConnectionResetError)


async def test_aclose_fails_attempts_that_are_under_way(pair: Pair) -> None:
    _, b = pair
    attempt = asyncio.ensure_future(b.open_connection("10.9.0.99", 80))
    await turns()
    closing = asyncio.ensure_future(b.aclose(grace_s=60))
    with pytest.raises(ConnectionAbortedError):
        await attempt
    await closing


async def test_aclose_that_is_cancelled_resets_at_once(pair: Pair) -> None:
    a, b = pair
    server, client = Recorder(), Recorder(keep_open=True)
    await a.create_server(lambda: server, port=80)
    await b.create_connection(lambda: client, "10.9.0.1", 80)
    await server.until_call("made")
    closing = asyncio.ensure_future(a.aclose(grace_s=60))
    await client.until_call("eof")
    assert not closing.done()
    with pytest.raises(RuntimeError, match="closed"):
        await a.create_server(Recorder, port=81)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await client.until_call("lost")
    assert isinstance(client.error, ConnectionResetError)
    assert a.connections == ()


async def test_close_resets_everything_at_once(pair: Pair) -> None:
    a, b = pair
    server, client = Recorder(), Recorder()
    listening = await a.create_server(lambda: server, port=80)
    await b.create_connection(lambda: client, "10.9.0.1", 80)
    await server.until_call("made")
    a.close()
    a.close()
    assert not listening.is_serving()
    await server.until_call("lost")
    await client.until_call("lost")
    assert isinstance(server.error, ConnectionAbortedError)
    assert isinstance(client.error, ConnectionResetError)
    await a.wait_closed()
    async with asyncio.timeout(5):
        await listening.wait_closed()


async def test_close_from_a_callback_still_resets_the_peers(pair: Pair) -> None:
    a, b = pair

    class Closing(Recorder):
        def data_received(self, data: bytes) -> None:
            a.close()

    server, client = Closing(), Recorder()
    await a.create_server(lambda: server, port=80)
    await b.create_connection(lambda: client, "10.9.0.1", 80)
    client.transport.write(b"x")
    await client.until_call("lost")
    assert isinstance(client.error, ConnectionResetError)
    await a.wait_closed()


async def test_close_tells_a_transport_whose_connection_has_ended_both_ways(pair: Pair) -> None:
    a, b = pair
    server, client = Recorder(keep_open=True), Recorder(keep_open=True)
    await a.create_server(lambda: server, port=80)
    await b.create_connection(lambda: client, "10.9.0.1", 80)
    client.transport.write_eof()
    await server.until_call("eof")
    server.transport.write_eof()
    await client.until_call("eof")
    await eventually(lambda: not a.connections and not b.connections)
    assert "lost" not in client.calls + server.calls
    await a.aclose()
    assert server.calls == ["made", "eof", "lost"]
    assert server.error is None


async def test_closed_host_refuses_calls(pair: Pair) -> None:
    a, _ = pair
    a.close()
    with pytest.raises(RuntimeError, match="closed"):
        await a.create_server(Recorder, port=80)
    with pytest.raises(RuntimeError, match="closed"):
        await a.open_connection("10.9.0.2", 80)


async def test_tracer_that_raises_is_dropped_with_one_warning(
    caplog: pytest.LogCaptureFixture, loop_errors: object
) -> None:
    seen: list[Event] = []

    def tracer(event: Event) -> None:
        seen.append(event)
        if len(seen) == 5:
            raise ZeroDivisionError

    async with tcpstack.open_memory_pair(tracer=tracer, grace_s=0.2) as (a, b):
        server, client = Recorder(), Recorder()
        async with await a.create_server(lambda: server, port=80):
            await b.create_connection(lambda: client, "10.9.0.1", 80)
            client.transport.write(b"unharmed")
            await server.until(lambda: server.data == b"unharmed")
            client.transport.close()
    assert len(seen) == 5
    warnings = [record for record in caplog.records if record.name == "tcpstack"]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    assert "is not called again" in warnings[0].message


class LostDevice:
    """A device that is deleted when told so."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.deleted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "on_ready":
            setattr(self._device, name, value)
        else:
            super().__setattr__(name, value)

    def receive(self, max_packets: int, now_ns: int) -> Any:
        self._check()
        return self._device.receive(max_packets, now_ns)

    def send(self, packet: Any, now_ns: int) -> bool:
        self._check()
        return bool(self._device.send(packet, now_ns))

    def _check(self) -> None:
        if self.deleted:
            raise tcpstack.DeviceError(77, "memory-a was deleted: make it again and start again")


@pytest.mark.parametrize("stimulus", ["receive", "send"])
async def test_lost_device_fails_connections_and_attempts_and_tells_the_owner(
    stimulus: str, loop_errors: object
) -> None:
    wire_a, wire_b = memory.pair()
    device = LostDevice(wire_a)
    async with tcpstack.Host(wire_b, ["10.9.0.2/24"]) as b:
        a = tcpstack.Host(device, ["10.9.0.1/24"])
        server, client = Recorder(), Recorder()
        listening = await a.create_server(lambda: server, port=80)
        await b.create_connection(lambda: client, "10.9.0.1", 80)
        await server.until_call("made")
        attempt = asyncio.ensure_future(a.open_connection("10.9.0.99", 80))
        waiting = asyncio.ensure_future(a.wait_closed())
        await turns()
        device.deleted = True
        if stimulus == "receive":
            client.transport.write(b"x")
        else:
            server.transport.write(b"x")
        with pytest.raises(tcpstack.DeviceError, match="was deleted"):
            await waiting
        await server.until_call("lost")
        assert isinstance(server.error, tcpstack.DeviceError)
        with pytest.raises(tcpstack.DeviceError, match="was deleted"):
            await attempt
        with pytest.raises(tcpstack.DeviceError, match="was deleted"):
            await a.open_connection("10.9.0.2", 80)
        assert a.connections == ()
        listening.close()
        await a.aclose()
        client.transport.abort()


async def test_keyboard_interrupt_from_a_callback_leaves_the_other_connections_their_due(pair: Pair) -> None:
    a, b = pair

    class Interrupts(Recorder):
        def data_received(self, data: bytes) -> None:
            raise KeyboardInterrupt

    first, second = Interrupts(), Recorder()
    protocols = [first, second]
    async with await a.create_server(lambda: protocols.pop(0), port=80):
        clients = [(await b.create_connection(Recorder, "10.9.0.1", 80))[0] for _ in range(2)]
        await second.until_call("made")
        for client in clients:
            client.write(b"x")
        # The loop would end with it, and the test: so the turn is taken here, by hand.
        with pytest.raises(KeyboardInterrupt):
            a._driver._turn()
        assert second.data == b"x"
        for client in clients:
            client.abort()


async def test_memory_pair_closes_both_ends_together(loop_errors: object) -> None:
    async with asyncio.timeout(5):
        async with tcpstack.open_memory_pair(grace_s=60) as (a, b):
            await a.create_server(lambda: Recorder(keep_open=True), port=80)
            await b.create_connection(lambda: Recorder(keep_open=True), "10.9.0.1", 80)
            await eventually(lambda: a.connections)
    assert a.connections == b.connections == ()


async def test_several_stacks_with_the_same_addresses_live_side_by_side(loop_errors: object) -> None:
    async with tcpstack.open_memory_pair() as (a, b), tcpstack.open_memory_pair() as (c, d):
        one, other = Recorder(), Recorder()
        async with await a.create_server(lambda: one, port=80), await c.create_server(lambda: other, port=80):
            client, _ = await b.create_connection(Recorder, "10.9.0.1", 80)
            await one.until_call("made")
            assert other.calls == []
            assert d.connections == ()
            client.abort()
