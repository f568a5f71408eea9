from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

import tcpstack
from tests.aio.conftest import Pair
from tests.aio.recorder import Recorder, eventually, turns

QUICK = tcpstack.Config(syn_r2_ns=250_000_000, rto_initial_ns=200_000_000)


async def test_closed_port_raises_connection_refused_in_asyncio_s_words(pair: Pair) -> None:
    _, b = pair
    with pytest.raises(ConnectionRefusedError) as raised:
        await b.open_connection("10.9.0.1", 8000)
    assert str(raised.value) == "[Errno 111] Connect call failed ('10.9.0.1', 8000)"
    with pytest.raises(ConnectionRefusedError) as raised:
        await b.open_connection("fd09::1", 8000)
    assert str(raised.value) == "[Errno 111] Connect call failed ('fd09::1', 8000, 0, 0)"
    assert b.connections == ()


@pytest.mark.parametrize("port", ["80", b"80", "http"])
async def test_port_may_be_digits_or_a_service_as_for_asyncio(pair: Pair, port: Any) -> None:
    try:
        socket.getservbyname("http")
    except OSError:
        pytest.skip("this machine has no list of services")
    _, b = pair
    with pytest.raises(ConnectionRefusedError, match=r"\('10\.9\.0\.1', 80\)"):
        await b.open_connection("10.9.0.1", port)


async def test_service_that_nobody_knows_is_the_resolvers_error(pair: Pair) -> None:
    _, b = pair
    with pytest.raises(socket.gaierror):
        await b.open_connection("10.9.0.1", "no-such-service")  # type: ignore[arg-type]


async def test_address_that_never_answers_raises_timeout_error_after_the_configured_limit(pair: Pair) -> None:
    _, b = pair
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError) as raised:
        await b.open_connection("10.9.0.99", 80, config=QUICK)
    assert raised.value.errno == errno.ETIMEDOUT
    assert 0.2 <= asyncio.get_running_loop().time() - started < 2
    assert b.connections == ()


async def test_missing_family_raises_network_unreachable(loop_errors: object) -> None:
    async with tcpstack.open_memory_pair(["10.9.0.1/24"], ["10.9.0.2/24"]) as (_, b):
        with pytest.raises(OSError, match=r"Connect call failed \('fd09::1', 80, 0, 0\)") as raised:
            await b.open_connection("fd09::1", 80)
    assert raised.value.errno == errno.ENETUNREACH


async def test_cancelled_attempt_leaves_nothing(pair: Pair) -> None:
    _, b = pair
    attempt = asyncio.ensure_future(b.open_connection("10.9.0.99", 80))
    await turns()
    assert [conn.flow[2:] for conn in b.connections] == [(bytes([10, 9, 0, 99]), 80)]
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert b.connections == ()
    assert b._driver.users == ()


async def test_attempt_cancelled_after_it_succeeded_resets_the_connection(pair: Pair) -> None:
    a, b = pair
    server = Recorder()
    async with await a.create_server(lambda: server, port=80):
        attempt = asyncio.ensure_future(b.create_connection(Recorder, "10.9.0.1", 80))
        while not (b.connections and b.connections[0].status()["state"] == "ESTABLISHED"):
            await asyncio.sleep(0)
        assert not attempt.done()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await server.until_call("lost")
    assert isinstance(server.error, ConnectionResetError)
    assert b.connections == ()


async def test_timeout_around_an_attempt_works_as_with_any_coroutine(pair: Pair) -> None:
    _, b = pair
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await b.open_connection("10.9.0.99", 80)
    assert b.connections == ()


async def test_local_addr_is_the_name_that_the_peer_sees(pair: Pair) -> None:
    a, b = pair
    server = Recorder()
    async with await a.create_server(lambda: server, port=80):
        transport, _ = await b.create_connection(Recorder, "10.9.0.1", 80, local_addr=("10.9.0.2", 4321))
        await server.until_call("made")
        assert transport.get_extra_info("sockname") == ("10.9.0.2", 4321)
        assert server.transport.get_extra_info("peername") == ("10.9.0.2", 4321)
        with pytest.raises(OSError, match="Connect call failed") as raised:
            await b.create_connection(Recorder, "10.9.0.1", 80, local_addr=("10.9.0.2", 4321))
        assert raised.value.errno == errno.EADDRINUSE
        transport.abort()
    with pytest.raises(OSError, match="Connect call failed") as raised:
        await b.create_connection(Recorder, "10.9.0.1", 80, local_addr=("10.9.0.77", 0))
    assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_protocol_factory_that_raises_propagates_and_resets_the_peer(pair: Pair) -> None:
    a, b = pair
    server = Recorder()

    def factory() -> Recorder:
        raise ZeroDivisionError

    async with await a.create_server(lambda: server, port=80):
        with pytest.raises(ZeroDivisionError):
            await b.create_connection(factory, "10.9.0.1", 80)
        await server.until_call("lost")
    assert isinstance(server.error, ConnectionResetError)


class Resolver:
    """A loop with names of its own; uvloop's getaddrinfo can't be patched."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *addresses: str) -> None:
        self._loop = loop
        self._addresses = addresses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def getaddrinfo(self, host: str, port: object, **options: object) -> list[Any]:
        if not self._addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in self._addresses]
        return [(family, 1, 6, "", (address, 0)) for family, address in zip(families, self._addresses, strict=True)]


async def test_addresses_of_a_name_are_tried_in_turn(pair: Pair) -> None:
    a, b = pair
    b._driver.loop = Resolver(b.loop, "fd09::1", "10.9.0.1")  # type: ignore[assignment]
    async with await a.create_server(Recorder, "10.9.0.1", 80):
        transport, _ = await b.create_connection(Recorder, "server.example", 80)
        assert transport.get_extra_info("peername") == ("10.9.0.1", 80)
        transport.abort()


async def test_name_whose_addresses_all_refuse_lists_the_errors(pair: Pair) -> None:
    _, b = pair
    b._driver.loop = Resolver(b.loop, "fd09::1", "10.9.0.1")  # type: ignore[assignment]
    with pytest.raises(OSError) as raised:
        await b.create_connection(Recorder, "server.example", 80)
    assert str(raised.value) == (
        "Multiple exceptions: [Errno 111] Connect call failed ('fd09::1', 80, 0, 0), "
        "[Errno 111] Connect call failed ('10.9.0.1', 80)"
    )


async def test_name_with_one_address_raises_its_error_itself(pair: Pair) -> None:
    _, b = pair
    b._driver.loop = Resolver(b.loop, "10.9.0.1", "10.9.0.1")  # type: ignore[assignment]
    with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('10.9.0.1', 80\)"):
        await b.create_connection(Recorder, "server.example", 80)


async def test_name_without_an_address_of_our_family_raises_network_unreachable(loop_errors: object) -> None:
    async with tcpstack.open_memory_pair(["10.9.0.1/24"], ["10.9.0.2/24"]) as (_, b):
        b._driver.loop = Resolver(b.loop, "fd09::1")  # type: ignore[assignment]
        with pytest.raises(OSError, match="has a family that the stack can use") as raised:
            await b.create_connection(Recorder, "six.example", 80)
    assert raised.value.errno == errno.ENETUNREACH


async def test_unknown_name_raises_the_resolver_s_error(pair: Pair) -> None:
    _, b = pair
    b._driver.loop = Resolver(b.loop)  # type: ignore[assignment]
    with pytest.raises(socket.gaierror):
        await b.create_connection(Recorder, "nowhere.example", 80)


async def test_simultaneous_connections_number_two_hundred_and_all_carry_text(pair: Pair) -> None:
    a, b = pair

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async def ask(number: int) -> bytes:
        reader, writer = await b.open_connection("10.9.0.1", 7)
        writer.write(b"question %d" % number)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async with await a.start_server(echo, port=7, backlog=200):
        answers = await asyncio.gather(*(ask(number) for number in range(200)))
    assert answers == [b"question %d" % number for number in range(200)]
    await eventually(lambda: not a.connections and not b.connections)
