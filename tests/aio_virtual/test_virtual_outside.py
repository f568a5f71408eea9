"""What a simulation takes the place of, and what not: odd modules, others' replacements, and chance on request."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable
from os import urandom as urandom_by_name
from pathlib import Path
from time import time as time_by_name
from typing import Any, NoReturn
from unittest import mock

import pytest

from tcpstack.aio import virtual_outside
from tcpstack.aio.virtual import NotVirtual, SimulatedHost, Simulation
from tcpstack.aio.virtual_loop import VirtualLoop
from tcpstack.aio.virtual_originals import original

ROOT = Path(__file__).parents[2]


def host_of(**words: Any) -> SimulatedHost:
    return Simulation(**words).host("a", "10.0.0.1/24")


async def now() -> float:
    await asyncio.sleep(1)
    return time.time()


# Modules that are none


class Library:
    """As cffi's: it says that it is a module."""

    @property
    def __class__(self) -> Any:
        return types.ModuleType


class Unapproachable:
    def __getattribute__(self, name: str) -> NoReturn:
        raise LookupError(name)


class Lazy(types.ModuleType):
    """One that loads itself when it is looked at."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise ImportError(name)


ODD: dict[str, Callable[[], object]] = {
    "says that it is a module": Library,
    "raises whatever it is asked": Unapproachable,
    "class": lambda: Unapproachable,
    "loads itself": lambda: Lazy("lazy"),
    "none": lambda: None,
    "namespace": lambda: types.SimpleNamespace(time=time.time),
}


@pytest.mark.parametrize("kind", ODD)
def test_whatever_is_among_the_modules_a_simulation_runs(kind: str):
    with mock.patch.dict(sys.modules, tcpstack_odd_thing=ODD[kind]()):
        assert host_of().run(now()) == virtual_outside.EPOCH_NS / 1e9 + 1


def test_module_that_loads_itself_has_virtual_functions_all_the_same(monkeypatch: pytest.MonkeyPatch):
    lazy = Lazy("lazy")
    names = vars(types.ModuleType)["__dict__"].__get__(lazy)
    names["read"] = time.time
    monkeypatch.setitem(sys.modules, "tcpstack_lazy", lazy)

    async def program() -> float:
        read: Callable[[], float] = names["read"]
        return read()

    assert host_of().run(program()) == virtual_outside.EPOCH_NS / 1e9
    assert names["read"] is time.time


@pytest.mark.parametrize("where", ["_functions", "_class_members", "exchange"])
def test_start_that_fails_leaves_nothing_behind(where: str):
    calls = []

    def failing(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError("no start")
        return real(*args)

    owner: Any = virtual_outside if where == "exchange" else virtual_outside.Outside
    real = getattr(owner, where)
    before = [time.time, os.urandom, threading.Thread.start, random.getstate()]
    loop = VirtualLoop()
    with mock.patch.object(owner, where, failing), pytest.raises(LookupError, match="no start"), loop.outside:
        pass
    loop.close()
    assert before == [time.time, os.urandom, threading.Thread.start, random.getstate()]
    assert host_of().run(now()) > 0


def test_end_that_fails_does_not_keep_the_next_simulation_from_running():
    calls = []

    def failing(pairs: Any) -> None:
        calls.append(1)
        exchange(pairs)
        if len(calls) == 2:
            raise LookupError("no end")

    exchange = virtual_outside.exchange
    loop = VirtualLoop()
    before = random.getstate()
    patch = mock.patch.object(virtual_outside, "exchange", failing)
    with patch, pytest.raises(LookupError, match="no end"), loop.outside:
        pass
    loop.close()
    assert random.getstate() == before
    assert host_of().run(now()) > 0


# What somebody else has replaced


def mine(*args: Any) -> bytes:
    return b"mine"


REPLACEMENTS: dict[str, Callable[[], Any]] = {
    "function": lambda: mine,
    "mock": lambda: mock.Mock(return_value=b"mine"),
    "mock with a signature": lambda: mock.create_autospec(os.urandom, return_value=b"mine"),
    "mock that wraps": lambda: mock.MagicMock(wraps=mine),
    "wrapper": lambda: functools.wraps(os.urandom)(mine),
    "partial": lambda: functools.partial(mine, 3),
}


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_function_that_was_replaced_before_the_run_stays_replaced(monkeypatch: pytest.MonkeyPatch, kind: str):
    replacement = REPLACEMENTS[kind]()
    monkeypatch.setattr(os, "urandom", replacement)

    async def program() -> bytes:
        with pytest.raises(NotVirtual):  # random has it by its own name, and that is the real one
            secrets.token_bytes(1)
        with pytest.raises(NotVirtual):
            urandom_by_name(1)
        return os.urandom(4)

    assert host_of().run(program()) == b"mine"
    assert os.urandom is replacement


def test_clock_that_was_replaced_before_the_run_stays_replaced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: 5.0)

    async def program() -> tuple[float, float, float]:
        await asyncio.sleep(3600)
        return time.time(), time_by_name() - virtual_outside.EPOCH_NS / 1e9, time.monotonic()

    assert host_of().run(program()) == (5.0, 3600.0, 3601.0)
    assert time.time() == 5.0


def test_replacement_that_asks_the_real_one_gets_the_virtual_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: time_by_name() + 50)
    assert host_of().run(now()) == virtual_outside.EPOCH_NS / 1e9 + 51


def test_replacement_in_the_run_acts_and_lasts_as_long_as_its_maker_wants(monkeypatch: pytest.MonkeyPatch):
    async def program() -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(os, "urandom", mine)
            drawn = os.urandom(1)
        with pytest.raises(NotVirtual):
            os.urandom(1)
        patching.setattr(os, "urandom", mine)
        return drawn

    with pytest.MonkeyPatch.context() as patching:
        assert host_of().run(program()) == b"mine"
        assert os.urandom is mine
    assert len(os.urandom(3)) == 3


def test_method_that_was_replaced_before_the_run_stays_replaced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: thread.run())
    ran = []

    async def program() -> None:
        threading.Thread(target=ran.append, args=[1]).start()

    host_of().run(program())
    assert ran == [1]


def test_class_that_was_replaced_by_one_of_its_kind_is_refused_like_it(monkeypatch: pytest.MonkeyPatch):
    class Guarded(socket.socket):
        """As plugins have it that forbid sockets."""

    monkeypatch.setattr(socket, "socket", Guarded)

    async def program() -> None:
        socket.socket()

    with pytest.raises(NotVirtual, match=r"socket\.socket"):
        host_of().run(program())


def test_function_that_was_replaced_before_tcpstack_came_is_not_taken_for_pythons():
    source = (
        "import asyncio, os, time, secrets\n"
        "os.urandom = lambda size: b'mine'\n"
        "time.time = lambda: 5.0\n"
        "from tcpstack import NotVirtual, Simulation\n"
        "async def program():\n"
        "    print(os.urandom(4), time.time(), time.monotonic())\n"
        "    secrets.token_bytes(1)\n"
        "try:\n"
        "    Simulation().host('a', '10.0.0.1/24').run(program())\n"
        "except NotVirtual as error:\n"
        "    print(str(error)[:12])\n"
    )
    result = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("b'mine' 5.0 1.0\nos.urandom()\n", "")


def test_all_that_is_to_be_replaced_is_known_for_what_it_is():
    """Whatever this Python has of it is recognised as its own, and so replaced."""
    outside = VirtualLoop().outside
    missing = [
        f"{module}.{name}"
        for module, name, _ in outside._by_name()
        if hasattr(sys.modules.get(module), name) and original(module, name) is None
    ]
    assert missing == []
    classes = virtual_outside._REFUSED_METHODS
    there = {class_name for module, class_name, *_ in classes if hasattr(sys.modules.get(module), class_name)}
    assert len(list(outside._class_members())) == sum(each[1] in there for each in classes) + 3


# Chance from the seed


async def chance() -> list[object]:
    return [
        os.urandom(4), urandom_by_name(4), os.getrandom(4), ssl.RAND_bytes(4), secrets.token_hex(4), uuid.uuid4(),
        random.SystemRandom().random(), random.random(),
    ]  # fmt: skip


def test_operating_systems_randomness_comes_from_the_seed_where_that_is_asked_for():
    drawn = [host_of(seed=seed, urandom="seeded").run(chance()) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])
    assert len(set(drawn[0])) == len(drawn[0])
    assert isinstance(drawn[0][5], uuid.UUID)
    assert drawn[0][5].version == 4
    assert len(os.urandom(4)) == 4
    assert os.urandom(16) != os.urandom(16)


def test_randomness_goes_on_from_one_run_to_the_next():
    with Simulation(urandom="seeded") as sim:
        a = sim.host("a", "10.0.0.1/24")
        assert not set(a.run(chance())) & set(a.run(chance()))


def test_the_module_random_is_the_same_with_and_without():
    async def program() -> float:
        return random.random()

    assert host_of(seed=4).run(program()) == host_of(seed=4, urandom="seeded").run(program())


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_as_many_octets_come_as_were_asked_for(size: int):
    async def program() -> None:
        assert len(os.urandom(size)) == len(os.getrandom(size, os.GRND_NONBLOCK)) == size
        with pytest.raises(ValueError, match=r"negative|greater"):
            os.urandom(-1)

    host_of(urandom="seeded").run(program())


def test_tls_stays_refused():
    async def program() -> None:
        await asyncio.open_connection("b", 443, ssl=True)

    with pytest.raises(NotVirtual, match="TLS"):
        host_of(urandom="seeded").run(program())


@pytest.mark.parametrize("word", ["seed", True, None, ""])
def test_word_that_says_nothing_of_randomness_is_told(word: Any):
    with pytest.raises(ValueError, match=f'^urandom is "refused" or "seeded", not {word!r}$'):
        Simulation(urandom=word)


# Signals


def test_handler_of_a_signal_is_the_process_s(monkeypatch: pytest.MonkeyPatch):
    """signal.signal is let through: servers set handlers for their end, and set the old ones again."""
    heard = []
    before = signal.getsignal(signal.SIGUSR1)

    async def program() -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(1)

    try:
        host_of().run(program())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
