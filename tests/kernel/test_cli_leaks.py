"""Nothing stays: no process, namespace, device or descriptor, however `run`, `serve` and a program end. 20 times.

The commands run in PID, user and network namespaces of the test's own, in which all that they leave is seen, and only
that. A network namespace that stays, even without a process, counts against the number that the kernel allows there.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tcpstack
from tcpstack.device.namespace import Namespace
from tests.kernel.doctors import environment

PROJECT = Path(__file__).parents[2]
ROUNDS = 20
"""Each way to end several times over; one leak in all of them is found."""
OF_ITS_OWN = ("unshare", "-Urmpnf", "--mount-proc")


def rounds(subcommand: str) -> dict[str, Any]:
    if subprocess.run([*OF_ITS_OWN, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no PID namespace within a user namespace can be had here")
    program = (sys.executable, "-P", PROJECT / "tests" / "kernel" / "leak_rounds.py", subcommand, str(ROUNDS))
    done = subprocess.run(
        [*OF_ITS_OWN, *program], cwd=PROJECT, env=environment(), capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_run_leaves_nothing_however_it_ends() -> None:
    assert rounds("run") == {
        "statuses": {"ends": [0], "is killed": [137], "SIGINT": [130], "SIGTERM": [143], "we are killed": [-9]},
        "said": [""],
        "processes": [],
        "namespaces": False,
        "interfaces": ["lo"],
    }


@pytest.mark.tun
def test_serve_leaves_nothing_however_it_ends() -> None:
    found = rounds("serve")
    assert all(not text or "was deleted: make it anew" in text for text in found.pop("said"))
    assert found == {
        "statuses": {"SIGINT": [0], "SIGTERM": [0], "we are killed": [-9], "the device is deleted": [1]},
        "processes": [],
        "namespaces": False,
        "interfaces": ["lo"],
    }


def children() -> set[str]:
    """Of all threads, by pid."""
    lists = (task.joinpath("children").read_text().split() for task in Path("/proc/self/task").iterdir())
    return {pid for pids in lists for pid in pids}


def held() -> tuple[int, set[str], int, list[tuple[int, str]]]:
    """Descriptors, children, threads, interfaces."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), children(), threading.active_count(), socket.if_nameindex()


async def conversation(device: Any, number: int) -> None:
    """A connection to a handler that fails, from a client that has gone away by then, or stays, in a body that may fail
    itself."""

    async def fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        failing.set()
        raise ZeroDivisionError

    failing = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with tcpstack.open_tun(device=device, addresses=["10.9.0.2/24"], grace_s=0.2 * (number % 2)) as stack:
        await stack.start_server(fails, port=7)
        await asyncio.to_thread(say_hello_and_stay, device)
        await asyncio.wait_for(failing.wait(), 10)
        if number % 3 == 0:
            raise KeyError(number)


def say_hello_and_stay(namespace_of: Any) -> None:
    namespace = SPEAKERS[namespace_of]
    namespace.start(["bash", "-c", "exec 9<>/dev/tcp/10.9.0.2/7; echo hello >&9; exec sleep 100"], stdio=(NULL, 1, 2))


SPEAKERS: dict[Any, Namespace] = {}
NULL = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def test_exception_in_a_handler_or_in_the_body_leaves_nothing() -> None:
    """Namespaces are opened by threads: COMMAND ends with the one that did, which is to be the main thread here."""
    outcomes = []
    before = None
    for number in range(ROUNDS):
        with Namespace.open(["10.9.0.1/24"]) as namespace:
            SPEAKERS[namespace.device] = namespace
            try:
                asyncio.run(conversation(namespace.device, number))
                outcomes.append(None)
            except KeyError as error:
                outcomes.append(error.args[0])
            del SPEAKERS[namespace.device]
        if number == 0:
            before = held()  # what is loaded and opened once, and for good
    assert held() == before
    assert outcomes == [number if number % 3 == 0 else None for number in range(ROUNDS)]


def test_exception_in_one_of_two_hosts_leaves_nothing() -> None:
    async def two_hosts() -> None:
        async with tcpstack.open_memory_pair() as (a, b):
            await a.create_server(asyncio.Protocol, port=7)
            await b.create_connection(asyncio.Protocol, "10.9.0.1", 7)
            raise KeyError

    before = None
    for number in range(ROUNDS):
        with pytest.raises(KeyError):
            asyncio.run(two_hosts())
        before = before if number else held()
    assert held() == before


# SIGTERM and Ctrl-C at any moment

BEGINNING = """
import os, sys
class Teller:
    def find_spec(self, name, path=None, target=None):
        if name == "tcpstack.cli":  # __main__ has begun: what was before is Python's own
            os.write(1, b"begun\\n")
sys.meta_path.insert(0, Teller())
from tcpstack.__main__ import command
sys.exit(command())
"""
MOMENTS = 20
BEGINS_S, LONG_S = 0.7, 3.0
"""How long it may take to begin to serve, or to run the command; and by when it has, however busy the machine is."""
ENDLESS_BYTES = 1 << 40


def processes_of(session: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                line = (entry / "cmdline").read_text()
            except OSError:
                continue  # it ended while we looked
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(line)
    return found


def signalled(words: tuple[str, ...], number: signal.Signals, after_s: float) -> tuple[int, str, list[str]]:
    """The exit status, stderr, and the processes of its session that are there five seconds later, or not any more."""
    at = words.index("tcpstack")
    process = subprocess.Popen(
        [*words[:at], sys.executable, "-P", "-c", BEGINNING, *words[at + 1 :]],
        cwd=PROJECT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        time.sleep(after_s)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        limit = time.monotonic() + 5
        while processes_of(process.pid) and time.monotonic() < limit:
            time.sleep(0.02)
        return process.returncode, said, processes_of(process.pid)
    finally:
        process.kill()
        process.wait()


def outcomes_of(
    words: tuple[str, ...], number: signal.Signals, moments: int = MOMENTS
) -> list[tuple[int, str, list[str]]]:
    return at_once(lambda index, after_s: signalled(words, number, after_s), moments)


def at_once(
    end: Callable[[int, float], tuple[int, str, list[str]]], moments: int
) -> list[tuple[int, str, list[str]]]:
    """What `end(index, after_s)` returns for each moment, in order. Several at a time, the longest first."""
    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(end, index, after_s) for index, after_s in reversed(list(enumerate(delays_s(moments))))]
        return [each.result() for each in reversed(ends)]


def delays_s(moments: int) -> list[float]:
    return [BEGINS_S * moment / (moments - 1) for moment in range(moments - 1)] + [LONG_S]


RUN = ("tcpstack", "run", "--", "sleep", "5")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_at_any_moment_ends_run_quietly_with_all_its_processes(number: signal.Signals) -> None:
    outcomes = outcomes_of(RUN, number)
    # By the signal itself before there is anything to tidy up, which a shell calls 128 + N, too.
    assert {status for status, _, _ in outcomes} <= {128 + number, -number}, outcomes
    assert outcomes[-1][0] == 128 + number
    assert {said for _, said, _ in outcomes} == {""}
    assert [left for _, _, left in outcomes] == [[]] * MOMENTS


@pytest.mark.tun
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_at_any_moment_ends_serve_quietly_with_its_device(number: signal.Signals) -> None:
    with Namespace.open() as namespace:

        def end(index: int, after_s: float) -> tuple[int, str, list[str]]:
            words = ("tcpstack", "serve", "--tun", f"tun7{index}", "--address", f"10.7.{index}.2/24")
            return signalled((*namespace.exec_prefix, *words), number, after_s)

        outcomes = at_once(end, MOMENTS)
        list_links = [*namespace.exec_prefix, "ip", "-br", "link"]
        links = subprocess.run(list_links, capture_output=True, text=True, check=True)
    assert {status for status, _, _ in outcomes} <= {0, 128 + number, -number}, outcomes
    assert outcomes[-1][0] == 0
    for index, (_, said, _) in enumerate(outcomes):
        line = f"tcpstack: 10.7.{index}.2 on tun7{index}: http on port 80, echo on port 7 (Ctrl-C ends it)\n"
        assert said in ("", line)
    assert outcomes[-1][1]
    assert [left for _, _, left in outcomes] == [[]] * MOMENTS
    assert "tun7" not in links.stdout


def test_sigterm_at_any_moment_of_a_transfer_ends_it_quietly(tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as file:
        file.truncate(ENDLESS_BYTES)
    download = ("curl", "-sS", "-o", "/dev/null", "http://10.9.0.2/big")
    outcomes = outcomes_of(("tcpstack", "run", "--dir", str(tmp_path), "--", *download), signal.SIGTERM, 10)
    assert {status for status, _, _ in outcomes} <= {143, -15}, outcomes
    assert outcomes[-1][0] == 143
    assert {said for _, said, _ in outcomes} == {""}
    assert [left for _, _, left in outcomes] == [[]] * 10
