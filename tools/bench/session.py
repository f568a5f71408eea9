"""Runs the servers and, against each in turn, the peer; every process that it starts ends with it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .kernel_peer import MEASUREMENTS, Results, Task

SERVERS = ("bare", "protocol", "streams", "kernel")
"""As tools.bench.serve calls them. The first is what the others are compared with."""

PING_ON_ONE_CPU = "ping-on-one-cpu"
NAMES = (*MEASUREMENTS, PING_ON_ONE_CPU)
"""What can be measured: all that the peer knows, server and peer on a CPU each; and its ping again on one CPU."""

_PROJECT = Path(__file__).resolve().parents[2]
_END_S = 5.0
_PATIENCE_S = 30.0


class BenchError(Exception):
    """A server or a measurement failed; the message says which."""


@dataclass(frozen=True)
class Plan:
    """Measure `names` for `seconds` each against every server, `rounds` times over."""

    names: tuple[str, ...] = NAMES
    seconds: float = 2.0
    rounds: int = 5

    @property
    def warm_up_s(self) -> float:
        """What goes before each measurement, unmeasured: slow start is over by then."""
        return self.seconds / 4


Series = dict[tuple[str, str], list[Results]]
"""By measurement and server: the results, one for each round."""


def run(plan: Plan, progress: Callable[[str], object] = lambda text: None) -> Series:
    """Carry out the plan. `progress` hears what is being done.

    The servers take turns within each measurement: whoever else uses the machine disturbs all of them alike.
    Raises BenchError.
    """
    series: Series = {(name, server): [] for name in plan.names for server in SERVERS}
    with contextlib.ExitStack() as stack:
        progress("starting the servers")
        servers = {kind: stack.enter_context(Server(kind)) for kind in SERVERS}
        for round_ in range(plan.rounds):
            for name in plan.names:
                for kind, server in servers.items():
                    progress(f"round {round_ + 1} of {plan.rounds}: {name} against {kind}")
                    series[name, kind].append(server.measure(name, plan))
    return series


class Server:
    """A server under test, from entering to leaving. Raises BenchError on entering when it does not come up."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __enter__(self) -> Self:
        # In a session of its own, or the terminal's Ctrl-C would reach it too, and it would be missed at the end.
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tools.bench.serve", self._kind),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_PROJECT,
            start_new_session=True,
        )
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line:
                raise BenchError(f"the server {self._kind} did not start")
            ready = json.loads(line)
            self._pid: int = ready["pid"]
            self._address: str = ready["address"]
            self._exec_prefix: list[str] = ready["exec_prefix"]
            os.sched_setaffinity(self._pid, {_cpus()[0]})
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def measure(self, name: str, plan: Plan) -> Results:
        """One run of one measurement. Raises BenchError."""
        server_cpu, peer_cpu = _cpus()
        if name == PING_ON_ONE_CPU:
            task = Task("ping", self._address, self._pid, server_cpu, plan.seconds, plan.warm_up_s)
        else:
            task = Task(name, self._address, self._pid, peer_cpu, plan.seconds, plan.warm_up_s)
        try:
            peer = subprocess.run(
                (*self._exec_prefix, sys.executable, "-m", "tools.bench.kernel_peer", task.to_json()),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd=_PROJECT,
                start_new_session=True,
                timeout=task.warm_up_s + task.seconds + _PATIENCE_S,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} against {self._kind} does not come to an end") from None
        if peer.returncode:
            last = (peer.stderr.strip().splitlines() or [f"status {peer.returncode}"])[-1]
            raise BenchError(f"{name} against {self._kind} failed: {last}")
        results: Results = json.loads(peer.stdout)
        return results

    def end(self) -> None:
        """End the server. Idempotent."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            process.wait(_END_S)
        except BaseException as error:
            process.kill()
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


def _cpus() -> tuple[int, int]:
    """Where the server runs, and where the peer does: left to the scheduler, they share a CPU in some runs."""
    available = os.sched_getaffinity(0)
    return min(available), max(available)
