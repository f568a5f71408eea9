"""What sockets are in a run: part of its trace, of its reports and of its end."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading

import pytest

from tcpstack.aio.virtual import DeadlockError, SimulatedHost, Simulation
from tests.aio_virtual.programs import echo_client, echo_server


def made() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    return sock


async def echo_by_sockets() -> None:
    loop = asyncio.get_running_loop()

    async def echo(sock: socket.socket) -> None:
        with sock:
            while text := await loop.sock_recv(sock, 65536):
                await loop.sock_sendall(sock, text)

    with socket.create_server(("", 80)) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as group:
            while True:
                sock, _ = await loop.sock_accept(listener)
                group.create_task(echo(sock))


def test_sockets_speak_with_streams_over_a_link_that_loses(sim: Simulation, a: SimulatedHost, b: SimulatedHost):
    lossy = sim.host("lossy", "10.0.1.1/24", faults=["loss 3%", "reorder 3%"])
    other = sim.host("other", "10.0.1.2/24")
    sim.link(lossy, other, delay="10ms", rate="10mbit", queue="20p")
    other.spawn(echo_by_sockets())
    text = bytes(range(256)) * 2000
    assert lossy.run(echo_client("other", text)) == text


def test_socket_reads_at_its_own_pace(a: SimulatedHost, b: SimulatedHost):
    """What nobody reads stays in the engine, whose window closes."""

    async def server() -> int:
        loop = asyncio.get_running_loop()
        with socket.create_server(("", 80)) as listener:
            listener.setblocking(False)
            sock, _ = await loop.sock_accept(listener)
        with sock:
            await asyncio.sleep(5)
            size = 0
            while text := await loop.sock_recv(sock, 1000):
                size += len(text)
            return size

    async def client() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with made() as sock:
            await loop.sock_connect(sock, ("b", 80))
            await loop.sock_sendall(sock, bytes(16_000_000))
            return loop.time() - began

    serving = b.spawn(server())
    assert 5 < a.run(client()) < 60
    assert a._simulation.run(serving) == [16_000_000]


def test_report_says_which_socket_a_program_waits_for(a: SimulatedHost):
    async def program() -> None:
        with socket.create_server(("10.0.0.1", 80)) as listener:
            listener.setblocking(False)
            await asyncio.get_running_loop().sock_accept(listener)

    with pytest.raises(DeadlockError) as caught:
        a.run(program())
    (waiting,) = caught.value.waiting
    assert waiting.awaits == "SocketLoop.sock_accept"
    assert "laddr=('10.0.0.1', 80)" in waiting.detail
    caught.value.__traceback__ = None


def test_whoever_waits_for_a_socket_that_is_closed_waits_on(a: SimulatedHost):
    """As with a descriptor that is closed under epoll."""

    async def program() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("", 80)) as listener:
            listener.setblocking(False)
            waiting = asyncio.create_task(loop.sock_accept(listener))
            await asyncio.sleep(1)
        await waiting

    with pytest.raises(DeadlockError, match="sock_accept"):
        a.run(program())


def test_waiting_that_is_cancelled_leaves_the_socket_as_it_is(a: SimulatedHost, b: SimulatedHost):
    async def client() -> list[object]:
        loop = asyncio.get_running_loop()
        with made() as sock:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_connect(sock, ("10.0.0.2", 80)), 0.001)
            await asyncio.sleep(1)
            assert sock.connect_ex(("10.0.0.2", 80)) == 0
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(sock, 1), 1)
            await loop.sock_sendall(sock, b"!")
            return [await loop.sock_recv(sock, 10)]

    b.spawn(echo_server())
    assert a.run(client()) == [b"!"]


def test_end_of_the_simulation_closes_sockets_in_order():
    ends: list[object] = []

    def tracer(event: object) -> None:
        if type(event).__name__ == "ConnectionClosed":
            ends.append(event.error)  # type: ignore[attr-defined]

    async def client() -> None:
        loop = asyncio.get_running_loop()
        sock = made()
        await loop.sock_connect(sock, ("b", 80))
        await asyncio.sleep(1)
        kept.append(sock)

    kept: list[socket.socket] = []
    with Simulation(tracer=tracer) as sim:
        a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
        sim.link(a, b, delay="10ms")
        b.spawn(echo_server())
        a.run(client())
    assert ends == [None, None]
    with pytest.raises(OSError, match="Errno 32"):
        kept[0].send(b"!")
    kept[0].close()


def test_socket_that_nobody_closed_is_told_of_and_closed(a: SimulatedHost, b: SimulatedHost):
    async def client() -> int:
        sock = made()
        await asyncio.get_running_loop().sock_connect(sock, ("b", 80))
        await asyncio.sleep(1)
        with pytest.warns(ResourceWarning, match=r"unclosed <.*SimulatedSocket fd=.*raddr=\('10.0.0.2', 80\)>"):
            del sock
        await asyncio.sleep(1)
        return len(list(b.connections))

    b.spawn(echo_server())
    assert a.run(client()) == 0


def test_sets_of_sockets_have_one_order(a: SimulatedHost):
    async def program() -> None:
        sockets = [made() for _ in range(100)]
        assert list({*reversed(sockets)}) == sockets
        for sock in sockets:
            sock.close()

    a.run(program())


def test_names_are_those_of_the_hosts(a: SimulatedHost, b: SimulatedHost):
    async def client() -> object:
        with made() as sock, socket.socket(socket.AF_INET6) as six:
            sock.bind(("a", 0))
            await asyncio.get_running_loop().sock_connect(sock, ("B", 80))
            six.setblocking(False)
            await asyncio.get_running_loop().sock_connect(six, ("b", 80))
            return sock.getsockname()[0], sock.getpeername(), six.getpeername()

    b.spawn(echo_server())
    assert a.run(client()) == ("10.0.0.1", ("10.0.0.2", 80), ("fd00::2", 80, 0, 0))


def test_other_threads_and_later_times_have_the_kernels_sockets(a: SimulatedHost):
    proceed, made_there = threading.Event(), []
    made_meanwhile = threading.Event()

    def elsewhere() -> None:
        proceed.wait(10)
        with socket.socket() as sock:
            made_there.append(type(sock))
            sock.bind(("127.0.0.1", 0))
        made_meanwhile.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()

    async def program() -> type:
        proceed.set()
        while not made_meanwhile.is_set():
            await asyncio.sleep(1)
        with socket.socket() as sock:
            return type(sock)

    kind = a.run(program(), within_s=float("inf"))
    thread.join()
    with socket.socket() as sock:
        assert made_there == [type(sock)] == [socket.socket] != [kind]
        sock.bind(("127.0.0.1", 0))
    gc.collect()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_server_of_one_family_is_not_the_others(a: SimulatedHost, b: SimulatedHost, family: int):
    async def server() -> None:
        await asyncio.get_running_loop().create_server(asyncio.Protocol, port=80, family=family)

    async def client(family: int) -> str:
        try:
            _, writer = await asyncio.open_connection("b", 80, family=family)
        except ConnectionRefusedError:
            return "refused"
        writer.close()
        return "accepted"

    b.run(server())
    both = [a.run(client(each)) for each in (socket.AF_INET, socket.AF_INET6)]
    assert both == (["accepted", "refused"] if family == socket.AF_INET else ["refused", "accepted"])
