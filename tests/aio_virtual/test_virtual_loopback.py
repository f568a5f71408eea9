"""Programs of plain asyncio whose server and client are one host: localhost in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Sequence

import pytest

from tcpstack.aio import virtual_loop
from tcpstack.aio.virtual import SimulatedHost, Simulation
from tcpstack.core.events import Event
from tests.aio.recorder import reset
from tests.aio_virtual.programs import echo, echo_client


async def on_localhost(
    serve_on: str | Sequence[str] | None, connect_to: str | None, text: bytes = b"hello"
) -> tuple[str, str]:
    """What is most often done in one process. The client's addresses: the peer's and its own."""
    async with await asyncio.start_server(echo, serve_on, 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(connect_to, port)
        writer.write(text)
        writer.write_eof()
        assert await reader.read() == text
        peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        assert peer[1] == port
        writer.close()
        await writer.wait_closed()
        return peer[0], own[0]


@pytest.mark.parametrize(
    ("serve_on", "connect_to", "addresses"),
    [
        ("127.0.0.1", "127.0.0.1", ("127.0.0.1", "127.0.0.1")),
        ("::1", "::1", ("::1", "::1")),
        ("localhost", "localhost", ("127.0.0.1", "127.0.0.1")),
        ("a", "a", ("10.0.0.1", "10.0.0.1")),
        (None, "127.0.0.1", ("127.0.0.1", "127.0.0.1")),
        (None, "localhost", ("127.0.0.1", "127.0.0.1")),
        (None, "fd00::1", ("fd00::1", "fd00::1")),
        (None, None, ("127.0.0.1", "127.0.0.1")),
        ("0.0.0.0", "0.0.0.0", ("127.0.0.1", "127.0.0.1")),
        (["::"], "::", ("::1", "::1")),
        ("", "127.0.0.9", ("127.0.0.9", "127.0.0.1")),
    ],
)
def test_server_and_client_on_one_host_find_each_other_soon(a: SimulatedHost, serve_on, connect_to, addresses):
    async def program() -> None:
        began = time.monotonic()
        assert await on_localhost(serve_on, connect_to) == addresses
        assert 0 < time.monotonic() - began < 0.01

    a.run(program())


def test_host_without_a_link_has_its_loopback():
    for serve_on, own in (("localhost", "127.0.0.1"), ("alone", "10.0.0.1")):
        alone = Simulation().host("alone", "10.0.0.1/24")
        assert alone.run(on_localhost(serve_on, serve_on)) == (own, own)


def test_megabytes_cross_the_loopback_in_milliseconds(a: SimulatedHost):
    text = bytes(range(256)) * 20_000

    async def program() -> None:
        began = time.monotonic()
        await on_localhost("127.0.0.1", "127.0.0.1", text)
        assert time.monotonic() - began < 0.01

    a.run(program())


def test_server_on_loopback_is_not_reached_from_another_host(a: SimulatedHost, b: SimulatedHost):
    async def server() -> None:
        await asyncio.start_server(echo, "127.0.0.1", 80)

    async def client() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("10.0.0.1", 80)
        with pytest.raises(ConnectionRefusedError):  # b's own
            await asyncio.open_connection("127.0.0.1", 80)

    a.run(server())
    b.run(client())


def test_server_on_all_addresses_has_the_loopback_and_those_of_the_link(a: SimulatedHost, b: SimulatedHost):
    async def server() -> None:
        await asyncio.start_server(echo, port=80)
        for host in ("127.0.0.1", "::1", "a", "localhost"):
            assert await echo_client(host, b"here") == b"here"

    a.run(server())
    assert b.run(echo_client("a", b"there")) == b"there"


def test_port_on_localhost_where_nobody_listens_is_refused_at_once(a: SimulatedHost):
    async def program() -> None:
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('127\.0\.0\.1', 80\)"):
            await asyncio.open_connection("127.0.0.1", 80)
        assert round(time.monotonic() - began, 6) == 0.00002  # there and back

    a.run(program())


def test_connection_with_itself_hears_what_it_says(a: SimulatedHost):
    async def program() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", 999, local_addr=("127.0.0.1", 999))
        writer.write(b"myself")
        writer.write_eof()
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        return said

    assert a.run(program()) == b"myself"


def test_names_of_the_loopback_are_those_of_the_families_that_the_host_has(a: SimulatedHost):
    def addresses(host: str | None, *args: int) -> list[str]:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, 80, *args)]

    async def program() -> None:
        assert addresses("localhost") == addresses("LocalHost") == addresses(None) == ["127.0.0.1", "::1"]
        assert addresses("localhost", socket.AF_INET6) == ["::1"]
        passive = (0, 0, 0, socket.AI_PASSIVE)
        assert addresses(None, *passive) == ["0.0.0.0", "::"]
        assert addresses("localhost", *passive) == ["127.0.0.1", "::1"]

    a.run(program())

    async def elsewhere() -> list[str]:
        return addresses("localhost")

    with Simulation() as sim:
        assert sim.host("four", "10.0.0.1/24").run(elsewhere()) == ["127.0.0.1"]
        assert sim.host("six", "fd00::1/64").run(elsewhere()) == ["::1"]
        assert sim.run(elsewhere()) == [["127.0.0.1", "::1"]]


@pytest.mark.parametrize(("family", "name"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_server_of_one_family_has_one_socket_for_all_of_it(a: SimulatedHost, family: int, name: str):
    async def program() -> None:
        async with await asyncio.start_server(echo, port=0, family=family) as server:
            [each] = server.sockets
            assert each.getsockname()[0] == name
            loopback, other = ("127.0.0.1", "::1") if family == socket.AF_INET else ("::1", "127.0.0.1")
            assert await echo_client(loopback, b"mine", each.getsockname()[1]) == b"mine"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(other, each.getsockname()[1])

    a.run(program())


@pytest.mark.parametrize("end", ["client", "handshake", "factory"])
def test_other_end_hears_of_a_reset_whoever_makes_it(a: SimulatedHost, end: str):
    """Nothing else happens then that would give the stack its next turn."""
    lost: list[str] = []
    met = asyncio.Event()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            lost.append("server")
        met.set()

    def factory() -> asyncio.Protocol:
        raise ZeroDivisionError

    async def program() -> None:
        server = await asyncio.start_server(on_client, "127.0.0.1", 80, start_serving=end != "handshake")
        if end == "client":
            _, writer = await asyncio.open_connection("127.0.0.1", 80)
            reset(writer.transport)
        elif end == "factory":
            with pytest.raises(ZeroDivisionError):
                await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", 80)
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.open_connection("127.0.0.1", 80), 1)
            assert not a.connections
            return
        await met.wait()
        server.close()

    a.run(program())
    assert lost == ([] if end == "handshake" else ["server"])
    assert not a.connections


def test_same_seed_same_run_over_the_loopback_too():
    def trace(seed: int) -> str:
        digest = hashlib.sha256()

        def tracer(event: Event) -> None:
            digest.update(repr(event).encode())

        with Simulation(seed, tracer=tracer) as sim:
            sim.host("a", "10.0.0.1/24").run(on_localhost("127.0.0.1", "localhost", bytes(300_000)))
        return digest.hexdigest()

    assert trace(1) == trace(1) != trace(2)


# Zero time, and no more turns than it takes


def chatter(clients: int, exchanges: int, waiting_s: float | None = None):
    """So many clients of one server on localhost exchange lines; how much time that took."""

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(0)
            writer.write(line)
        writer.close()

    async def client(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in range(exchanges):
                writer.write(b"line\n")
                async with asyncio.timeout(1):
                    await reader.readline()
        finally:
            writer.close()

    async def program() -> float:
        began = time.monotonic()
        async with asyncio.timeout(waiting_s):
            async with await asyncio.start_server(on_client, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                await asyncio.gather(*(client(port) for _ in range(clients)))
        return time.monotonic() - began

    return program()


@pytest.mark.parametrize("clients", [1, 12])
def test_exchanges_are_no_polling_however_many(a: SimulatedHost, monkeypatch, clients: int):
    monkeypatch.setattr(virtual_loop, "SPIN_TURNS", 100)
    assert a.run(chatter(clients, exchanges=100)) < 0.01


def test_exchange_without_end_is_ended_by_the_programs_own_timeout(a: SimulatedHost, monkeypatch):
    monkeypatch.setattr(virtual_loop, "SPIN_TURNS", 100)
    monkeypatch.setattr(virtual_loop, "LIVELOCK_TURNS", 5_000)
    with pytest.raises(TimeoutError):
        a.run(chatter(1, exchanges=1 << 30, waiting_s=0.5))
