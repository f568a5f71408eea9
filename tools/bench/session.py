"""Runs the servers and, against each in turn, the peer; every process that it starts ends with it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .kernel_peer import MEASUREMENTS, Results, Task

SERVERS = ("bare", "protocol", "streams", "kernel")
"""As tools.bench.serve calls them. The first is what the others are compared with."""

PINNED_PING = "ping-pinned"
NAMES = (*MEASUREMENTS, PINNED_PING)
"""What can be measured: all that the peer knows; and its ping again, with both processes on one CPU."""

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
        except BaseException:
            self.end()
            raise
        self._pid: int = ready["pid"]
        self._address: str = ready["address"]
        self._exec_prefix: list[str] = ready["exec_prefix"]
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def measure(self, name: str, plan: Plan) -> Results:
        """One run of one measurement. Raises BenchError."""
        pinned = name == PINNED_PING
        task = Task("ping" if pinned else name, self._address, self._pid, plan.seconds, plan.warm_up_s)
        with _on_one_cpu(self._pid) if pinned else contextlib.nullcontext():
            return self._run_peer(name, task)

    def _run_peer(self, name: str, task: Task) -> Results:
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


@contextlib.contextmanager
def _on_one_cpu(pid: int) -> Iterator[None]:
    """Keep process `pid`, this one, and children that it starts, on one and the same CPU."""
    all_cpus = os.sched_getaffinity(0)
    one_cpu = {min(all_cpus)}
    try:
        os.sched_setaffinity(0, one_cpu)
        # Where the server has died, the measurement will say so.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, one_cpu)
        yield
    finally:
        os.sched_setaffinity(0, all_cpus)
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, all_cpus)
