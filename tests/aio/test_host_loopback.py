"""A Host and its own addresses, in real time: its server and its client are on one stack, and its device idles."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace

import pytest

import tcpstack
from tcpstack.device.memory import pair
from tcpstack.wire.packet import FULL_OFFLOAD
from tests.aio.recorder import Recorder, eventually


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def said_back(host: tcpstack.Host, address: str, port: int, text: bytes) -> bytes:
    reader, writer = await host.open_connection(address, port)
    writer.write(text)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "10.9.0.1", "fd09::1", "0.0.0.0"])
async def test_host_reaches_itself_at_each_of_its_addresses(address: str) -> None:
    device, nobody = pair()
    text = bytes(range(256)) * 4_000
    async with asyncio.timeout(20), tcpstack.Host(device, ["10.9.0.1/24", "fd09::1/64"]) as host:
        async with await host.start_server(echo) as server:
            assert await said_back(host, address, server.sockets[0].getsockname()[1], text) == text
        assert nobody.receive(100, 0) == []
        assert not host.counters


async def test_server_on_loopback_is_the_hosts_own(pair: tuple[tcpstack.Host, tcpstack.Host]) -> None:
    a, b = pair
    async with await a.start_server(echo, "127.0.0.1") as server:
        [socket] = server.sockets
        name, port = socket.getsockname()
        assert name == "127.0.0.1"
        assert await said_back(a, "127.0.0.1", port, b"mine") == b"mine"
        for host, address in ((a, "10.9.0.1"), (b, "10.9.0.1"), (b, "127.0.0.1")):
            with pytest.raises(ConnectionRefusedError):
                await host.open_connection(address, port)


@pytest.mark.parametrize(("address", "other"), [("0.0.0.0", "::1"), ("::", "127.0.0.1")])
async def test_server_on_all_addresses_of_a_family_is_on_no_others(
    pair: tuple[tcpstack.Host, tcpstack.Host], address: str, other: str
) -> None:
    async with await pair[0].start_server(echo, address) as server:
        [socket] = server.sockets
        assert socket.getsockname()[0] == address
        assert await said_back(pair[0], address, socket.getsockname()[1], b"it") == b"it"
        with pytest.raises(ConnectionRefusedError):
            await pair[0].open_connection(other, socket.getsockname()[1])


async def test_aclose_ends_both_ends_of_a_connection_to_itself(pair: tuple[tcpstack.Host, tcpstack.Host]) -> None:
    a, _ = pair
    server, client = Recorder(), Recorder()
    await a.create_server(lambda: server, "127.0.0.1", 80)
    await a.create_connection(lambda: client, "127.0.0.1", 80)
    await server.until_call("made")
    async with asyncio.timeout(5):
        await a.aclose(grace_s=60)
    assert (client.error, server.error) == (None, None)
    assert a.connections == ()


async def test_close_resets_both_ends(pair: tuple[tcpstack.Host, tcpstack.Host]) -> None:
    a, _ = pair
    server, client = Recorder(), Recorder()
    await a.create_server(lambda: server, "127.0.0.1", 80)
    await a.create_connection(lambda: client, "127.0.0.1", 80)
    await server.until_call("made")
    a.close()
    await eventually(lambda: client.calls[-1] == server.calls[-1] == "lost")
    assert isinstance(client.error, ConnectionAbortedError)
    assert isinstance(server.error, ConnectionAbortedError)


async def test_file_to_itself_is_read_and_not_mapped() -> None:
    """Its octets wait at the receiving end, for longer than the sender keeps the mapping."""
    device, _ = pair()
    device.offload = replace(FULL_OFFLOAD, unread=True)
    text = bytes(range(256)) * 4_000
    async with asyncio.timeout(20), tcpstack.Host(device, ["10.9.0.1/24"]) as host:
        server, client = Recorder(), Recorder()
        await host.create_server(lambda: server, "127.0.0.1", 80)
        transport, _ = await host.create_connection(lambda: client, "127.0.0.1", 80)
        assert not transport.sends_unread
        with tempfile.TemporaryFile() as file:
            file.write(text)
            file.seek(0)
            assert await host.sendfile(transport, file) == len(text)
        transport.close()
        await server.until_call("lost")
        assert bytes(server.data) == text
