"""Whatever leads out of the simulation is reported by NotVirtual, with what to do instead."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import queue
import random
import resource
import secrets
import select
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from os import urandom as urandom_by_name
from typing import Any

import pytest

from tcpstack.aio import virtual_outside
from tcpstack.aio.virtual import DeadlockError, NotVirtual, SimulatedHost, Simulation

nothing = asyncio.Protocol


CONTEXT = ssl.create_default_context()
UNUSED: Any = object()


def held_lock() -> threading.Lock:
    lock = threading.Lock()
    assert lock.acquire()
    assert not lock.acquire(timeout=0)
    assert not lock.acquire(blocking=False)
    return lock


POOL = concurrent.futures.ThreadPoolExecutor(1)
POOL.submit(int).result()  # its thread runs already


class OwnSocket(socket.socket):
    pass


def with_socket(attempt: Callable[[socket.socket], object]) -> None:
    with socket.socket() as sock:
        attempt(sock)


def listen_and_accept(sock: socket.socket) -> None:
    sock.listen()
    sock.accept()


BLOCKING: dict[str, Callable[[], Any]] = {
    "os.urandom()": lambda: os.urandom(1),
    "os.urandom": lambda: urandom_by_name(1),
    "os.getrandom()": lambda: os.getrandom(1),
    "os.urandom() ": lambda: secrets.token_bytes(),
    "os.urandom()  ": lambda: uuid.uuid4(),
    "os.urandom()   ": lambda: random.SystemRandom().random(),
    "uuid.uuid1()": lambda: uuid.uuid1(),
    "uuid.getnode()": lambda: uuid.getnode(),
    "os.times()": lambda: os.times(),
    "resource.getrusage()": lambda: resource.getrusage(resource.RUSAGE_SELF),
    "ssl.RAND_bytes()": lambda: ssl.RAND_bytes(1),
    "time.sleep()": lambda: time.sleep(1),
    "signal.alarm()": lambda: signal.alarm(1),
    "signal.sigtimedwait()": lambda: signal.sigtimedwait([signal.SIGUSR1], 1),
    "signal.sigwaitinfo()": lambda: signal.sigwaitinfo([signal.SIGUSR1]),
    "builtins.input()": lambda: input(),
    "select.epoll()": lambda: select.epoll(),
    "selectors.": lambda: selectors.DefaultSelector().select(1),
    "selectors.SelectSelector.select": lambda: selectors.SelectSelector().select(1),
    "selectors.PollSelector.select": lambda: selectors.PollSelector().select(1),
    "select.select()": lambda: select.select([], [], [], 1),
    "threading.Thread.start": lambda: threading.Thread(target=print).start(),
    "_thread.start_new": lambda: _thread.start_new(print, ()),
    "ThreadPoolExecutor.submit": lambda: POOL.submit(int),
    "ThreadPoolExecutor.submit ": lambda: list(POOL.map(abs, [1])),
    "threading.Thread.join": lambda: threading.main_thread().join(),
    "waiting for another thread": lambda: threading.Event().wait(),
    "waiting for another thread ": lambda: queue.Queue().get(),
    "waiting for another thread  ": lambda: concurrent.futures.Future().result(),
    "waiting for another thread   ": lambda: queue.SimpleQueue().get(timeout=1),
    "waiting for another thread    ": lambda: held_lock().acquire(timeout=1),
    "waiting for another thread     ": lambda: held_lock().__enter__(),
    "ssl.SSLContext.wrap_bio": lambda: CONTEXT.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()),
    "ssl.SSLContext.wrap_socket": lambda: CONTEXT.wrap_socket(UNUSED),
    "asyncio.new_event_loop()": lambda: asyncio.new_event_loop(),
    "ProcessPoolExecutor": lambda: concurrent.futures.ProcessPoolExecutor(),
    "subprocess.Popen": lambda: subprocess.run(["true"], check=True),
    "os.fork()": lambda: multiprocessing.get_context("fork").Process(target=print).start(),
    "_posixsubprocess.fork_exec()": lambda: multiprocessing.get_context("spawn").Process(target=print).start(),
    "os.system()": lambda: os.system("true"),
    "socket.socket(), for UDP,": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "socket.socket(), of another family than AF_INET and AF_INET6,": lambda: socket.socket(socket.AF_UNIX),
    "socket.socket(), for another protocol,": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW),
    "socket.socket(fileno=0)": lambda: socket.socket(fileno=0),
    "a socket of the class OwnSocket": lambda: OwnSocket(),
    "socket.connect() of a blocking socket": lambda: with_socket(lambda sock: sock.connect(("10.0.0.2", 1))),
    "socket.connect() of a blocking socket ": lambda: with_socket(lambda sock: sock.connect_ex(("10.0.0.2", 1))),
    "socket.accept() of a blocking socket": lambda: with_socket(listen_and_accept),
    "socket.recvfrom()": lambda: with_socket(lambda sock: sock.recvfrom(1)),
    "socket.sendto()": lambda: with_socket(lambda sock: sock.sendto(b"", ("10.0.0.2", 1))),
    "socket.sendfile()": lambda: with_socket(lambda sock: sock.sendfile(sys.stdin.buffer)),
    "socket.recv() with flags": lambda: with_socket(lambda sock: sock.recv(1, socket.MSG_PEEK)),
    "socket.sendmsg() with ancillary data": lambda: with_socket(lambda sock: sock.sendmsg([b""], [UNUSED])),
    "socket.socketpair()": lambda: socket.socketpair(),
    "socket.create_connection()": lambda: socket.create_connection(("127.0.0.1", 1)),
}


@pytest.mark.parametrize(("what", "attempt"), BLOCKING.items())
def test_call_that_leaves_the_simulation_is_refused(a: SimulatedHost, what: str, attempt: Callable[[], Any]):
    async def program() -> None:
        attempt()

    with pytest.raises(NotVirtual) as caught:
        a.run(program())
    assert str(caught.value).startswith(f"{what.strip()}")
    assert " is not part of the simulation: " in str(caught.value)


def refused_by_the_loop() -> dict[str, Callable[[asyncio.AbstractEventLoop], Any]]:
    some_socket: Any = object()
    methods: dict[str, Callable[[asyncio.AbstractEventLoop], Any]] = {
        "add_reader": lambda loop: loop.add_reader(0, print),
        "add_writer": lambda loop: loop.add_writer(0, print),
        "sock_recvfrom": lambda loop: loop.sock_recvfrom(some_socket, 1),
        "sock_recvfrom_into": lambda loop: loop.sock_recvfrom_into(some_socket, bytearray(1)),
        "sock_sendto": lambda loop: loop.sock_sendto(some_socket, b"", ("10.0.0.2", 1)),
        "create_datagram_endpoint": lambda loop: loop.create_datagram_endpoint(nothing),  # type: ignore[arg-type]
        "create_unix_connection": lambda loop: asyncio.open_unix_connection("/nowhere"),
        "create_unix_server": lambda loop: asyncio.start_unix_server(print, "/nowhere"),
        "connect_read_pipe": lambda loop: loop.connect_read_pipe(nothing, sys.stdin),
        "connect_write_pipe": lambda loop: loop.connect_write_pipe(nothing, sys.stdin),
        "subprocess_exec": lambda loop: asyncio.create_subprocess_exec("true"),
        "subprocess_shell": lambda loop: asyncio.create_subprocess_shell("true"),
        "add_signal_handler": lambda loop: loop.add_signal_handler(signal.SIGTERM, print),
        "start_tls": lambda loop: loop.start_tls(some_socket, nothing(), ssl.create_default_context()),
    }
    return methods


@pytest.mark.parametrize(("name", "attempt"), refused_by_the_loop().items())
def test_loops_way_out_is_refused(a: SimulatedHost, name: str, attempt: Callable[..., Any]):
    async def program() -> None:
        await attempt(asyncio.get_running_loop())

    with pytest.raises(NotVirtual, match=rf"^loop\.{name}\(\), .*, is not part of the simulation: "):
        a.run(program())


def test_removing_what_cannot_be_there_is_as_asyncio_has_it(a: SimulatedHost):
    async def program() -> None:
        loop = asyncio.get_running_loop()
        assert not loop.remove_reader(0)
        assert not loop.remove_writer(0)
        assert not loop.remove_signal_handler(signal.SIGTERM)

    a.run(program())


@pytest.mark.parametrize(
    ("attempt", "what"),
    [
        (lambda: asyncio.open_connection("b", 80, ssl=True), "TLS"),
        (lambda: asyncio.start_server(print, port=80, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), "TLS"),
        (lambda: asyncio.get_running_loop().connect_accepted_socket(nothing, UNUSED, ssl=True), "TLS"),
    ],
)
def test_tls_is_refused(a: SimulatedHost, attempt: Callable[[], Any], what: str):
    async def program() -> None:
        await attempt()

    with pytest.raises(NotVirtual, match=f"^{what} is not part of the simulation"):
        a.run(program())


@pytest.mark.parametrize(
    "attempt",
    [
        lambda loop, sock: asyncio.open_connection(sock=sock),
        lambda loop, sock: asyncio.start_server(print, sock=sock),
        lambda loop, sock: loop.connect_accepted_socket(nothing, sock),
        lambda loop, sock: loop.sock_connect(sock, ("10.0.0.2", 1)),
        lambda loop, sock: loop.sock_accept(sock),
        lambda loop, sock: loop.sock_recv(sock, 1),
        lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
        lambda loop, sock: loop.sock_sendall(sock, b"!"),
    ],
)
def test_socket_that_was_made_outside_is_refused(a: SimulatedHost, attempt: Callable[..., Any]):
    async def program() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ValueError, match="A Stream Socket was expected, got 7"):
            await attempt(loop, 7)
        await attempt(loop, outside)

    with (
        socket.socket() as outside,
        pytest.raises(NotVirtual, match=r"^a socket that was made outside is not part of the simulation: make it in"),
    ):
        a.run(program())


def test_number_of_a_simulated_socket_leads_nowhere(a: SimulatedHost):
    async def program() -> None:
        with socket.socket() as sock:
            for call in (os.fstat, os.close, os.dup):
                with pytest.raises(OSError, match=r"Errno 9\]"):
                    call(sock.fileno())
            with pytest.raises(OSError, match=r"Errno 9\]"):
                socket.socket(fileno=sock.fileno() + 1)
            asyncio.get_running_loop().add_reader(sock, print)

    with pytest.raises(NotVirtual, match=r"^loop\.add_reader\(\), a descriptor"):
        a.run(program())


async def make_a_socket() -> None:
    socket.socket()


@pytest.mark.parametrize(
    "attempt", [lambda: asyncio.open_connection("b", 80), lambda: asyncio.start_server(print, port=80), make_a_socket]
)
def test_program_on_no_host_is_told_to_start_on_one(sim: Simulation, attempt: Callable[[], Any]):
    async def program() -> None:
        await attempt()

    with pytest.raises(NotVirtual, match="spawn"):
        sim.run(program())


def test_connection_needs_a_host_and_a_port(a: SimulatedHost):
    async def program() -> None:
        with pytest.raises(ValueError, match="host and port"):
            await asyncio.get_running_loop().create_connection(nothing)

    a.run(program())


def test_program_that_expects_a_refusal_goes_on(a: SimulatedHost):
    """The idiom for loops without signals."""

    async def program() -> str:
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
        except NotImplementedError:
            return "without signals"
        return "with signals"

    assert a.run(program()) == "without signals"


def test_refusal_in_a_task_that_nobody_awaits_ends_the_run(sim: Simulation, a: SimulatedHost, b: SimulatedHost):
    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secrets.token_hex()

    async def server() -> None:
        await asyncio.start_server(on_client, port=80)

    async def client() -> None:
        reader, _writer = await asyncio.open_connection("b", 80)
        await reader.read()

    b.run(server())
    with pytest.raises(NotVirtual, match=r"os\.urandom"):
        a.run(client())


def test_refusal_that_a_task_made_another_error_of_ends_the_run(sim: Simulation, a: SimulatedHost):
    async def worker() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(time.sleep, 1))
        except ExceptionGroup as error:
            raise RuntimeError("the worker failed") from error

    tasks: list[asyncio.Task[None]] = []

    async def program() -> None:
        tasks.append(asyncio.create_task(worker()))
        await asyncio.sleep(10)

    with pytest.raises(NotVirtual, match=r"time\.sleep"):
        a.run(program())
    sim.close()
    assert isinstance(tasks[0].exception(), RuntimeError)


def test_refusal_in_a_callback_ends_the_run(a: SimulatedHost):
    async def program() -> None:
        asyncio.get_running_loop().call_soon(os.urandom, 1)
        await asyncio.sleep(10)

    with pytest.raises(NotVirtual):
        a.run(program())


def test_refusal_in_a_protocol_ends_the_run(sim: Simulation, a: SimulatedHost, b: SimulatedHost):
    class Random(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            os.urandom(1)

    async def server() -> None:
        await asyncio.get_running_loop().create_server(Random, port=80)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("b", 80)
        writer.write(b"go")
        await reader.read()

    b.run(server())
    with pytest.raises(NotVirtual):
        a.run(client())


def state_of_the_world() -> list[object]:
    functions = [
        getattr(sys.modules[module], name)
        for module, names, _ in virtual_outside._REFUSED
        for name in names
        if hasattr(sys.modules.get(module), name)
    ]
    methods = [
        vars(owner)[name]
        for module, class_name, name, _, _ in virtual_outside._REFUSED_METHODS
        if (owner := getattr(sys.modules.get(module), class_name, None)) is not None
    ]
    clocks = [getattr(time, name) for name in dir(time)]
    others = [random.seed, vars(random.Random)["seed"], socket.getaddrinfo, asyncio.as_completed, urandom_by_name]
    others += [threading.Lock, queue.SimpleQueue]
    return [*functions, *methods, *clocks, *others, random.getstate()]


@pytest.mark.parametrize("end", ["result", "exception", "deadlock", "refusal", "exit"])
def test_world_outside_is_as_before_after_every_end(end: str):
    async def program() -> None:
        assert state_of_the_world()[:5] != before[:5]
        match end:
            case "exception":
                raise LookupError
            case "deadlock":
                await asyncio.Event().wait()
            case "refusal":
                os.urandom(1)
            case "exit":
                raise SystemExit

    before = state_of_the_world()
    with contextlib.suppress(LookupError, DeadlockError, NotVirtual, SystemExit):
        Simulation().run(program())
        assert end == "result"
    assert state_of_the_world() == before
    assert len(os.urandom(4)) == 4


def test_module_that_was_imported_in_the_run_has_the_real_functions_afterwards(
    a: SimulatedHost, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "virtual_import_probe.py").write_text(
        "from threading import Lock, Thread\nfrom time import monotonic\n\nclass Timer:\n    read = monotonic\n"
        "\ndef read(clock=monotonic):\n    return clock()\n\nlock = Lock()\nstart = Thread.start\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    async def program() -> tuple[float, float]:
        import virtual_import_probe  # type: ignore[import-not-found]

        return virtual_import_probe.monotonic(), virtual_import_probe.Timer().read()

    assert a.run(program()) == (1.0, 1.0)
    module = sys.modules.pop("virtual_import_probe")
    assert module.monotonic is time.monotonic
    before = time.monotonic()
    assert before <= module.Timer().read() <= module.read() <= time.monotonic()

    # What a module keeps is a lock, a thread's start, ... outside, and belongs to the next simulation in its run.
    assert module.lock.acquire()
    assert not module.lock.acquire(timeout=0.001)
    assert module.lock.locked()
    thread = threading.Thread(target=module.lock.release)
    module.start(thread)
    with module.lock:
        thread.join()

    async def another() -> float:
        await asyncio.sleep(5)
        with pytest.raises(NotVirtual, match="thread"):
            module.start(threading.Thread())
        return module.read()

    assert Simulation().run(another()) == [6.0]


def test_world_outside_is_restored_through_an_interrupt(monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C in the very moment in which the world is put back."""
    exchange = virtual_outside.exchange
    calls = []

    def interrupted(pairs: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        exchange(pairs)

    async def program() -> None:
        await asyncio.sleep(1)

    before = state_of_the_world()
    sim = Simulation()
    monkeypatch.setattr(virtual_outside, "exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sim.run(program())
    assert state_of_the_world() == before
