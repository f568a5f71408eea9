"""Runs the servers and, against each in turn, the peer; every process that it starts ends with it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from . import peers
from .kernel_peer import MANY_FLOWS, MEASUREMENTS, Results, Task
from .serve import NO_OFFLOAD_SUFFIX

SERVERS = ("bare", "protocol", "streams", "kernel")
"""As tools.bench.serve calls them. The first is what the others are compared with."""
NO_OFFLOAD_SERVERS = tuple(server + NO_OFFLOAD_SUFFIX for server in SERVERS[:3])
"""Likewise, without offload: measured in bulk only, since a small packet crosses alone in any case."""
PEERS = tuple(peer.name for peer in peers.PEERS)
"""Measured where they are asked for, and can be had."""

BULK = ("bulk-in", "bulk-out", f"bulk-in-{MANY_FLOWS}", f"bulk-out-{MANY_FLOWS}")
PING_ON_ONE_CPU = "ping-on-one-cpu"
MEMORY = "memory"
SIMULATION = "simulation"
NAMES = (*MEASUREMENTS, PING_ON_ONE_CPU, MEMORY, SIMULATION)
"""What can be measured: all that the peer knows, server and peer on a CPU each; its ping again on one CPU; and, without
a peer, memory, once, and how fast simulated time passes."""

SIMULATED = 5
"""Simulated seconds for each that a measurement takes: they pass faster."""

_PROJECT = Path(__file__).resolve().parents[2]
_END_S = 5.0
_PATIENCE_S = 30.0
_ALONE_PATIENCE_S = 600.0


class BenchError(Exception):
    """A server or a measurement failed; the message says which."""


@dataclass(frozen=True)
class Plan:
    """Measure `names` for `seconds` each against every server, `rounds` times over; also against the peers where
    `with_peers`. Memory is measured with so many `connections`; in a simulation SIMULATED times as many seconds
    pass."""

    names: tuple[str, ...] = NAMES
    seconds: float = 2.0
    rounds: int = 5
    with_peers: bool = False
    connections: int = 10_000

    @property
    def warm_up_s(self) -> float:
        """What goes before each measurement, unmeasured: slow start is over by then."""
        return self.seconds / 4

    def servers_for(self, name: str, installed: peers.Installed = peers.NOTHING_INSTALLED) -> list[str]:
        """Those against which `name` is measured."""
        if name in (MEMORY, SIMULATION):
            return []
        return [*SERVERS, *(NO_OFFLOAD_SERVERS if name in BULK else ()), *installed.names]


Series = dict[tuple[str, str], list[Results]]
"""By measurement and server: the results, one for each round."""


@dataclass
class Outcome:
    """series     what was measured against servers; nothing under a measurement and a peer that did not get through
    memory     octets, by what takes them (see memory.py); empty where that was not measured
    simulation of each round, how fast time passed (see simulation.py); empty where that was not measured
    installed  which peers took part, and why others did not
    failures   what went wrong with peers, by measurement and server
    """

    series: Series = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    simulation: list[dict[str, dict[str, float]]] = field(default_factory=list)
    installed: peers.Installed = peers.NOTHING_INSTALLED
    failures: dict[tuple[str, str], str] = field(default_factory=dict)


def run(plan: Plan, progress: Callable[[str], object] = lambda text: None) -> Outcome:
    """Carry out the plan. `progress` hears what is being done.

    The servers take turns within each measurement: whoever else uses the machine disturbs all of them alike.
    Raises BenchError where one of ours, or the kernel, fails.
    """
    outcome = Outcome()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tcpstack-bench-")))
        if plan.with_peers:
            progress("installing the peers")
            outcome.installed = peers.install(directory)
        if MEMORY in plan.names:
            progress(f"memory, with {plan.connections:,} connections")
            outcome.memory = _measure_memory(plan)
        progress("starting the servers")
        wanted = dict.fromkeys(kind for name in plan.names for kind in plan.servers_for(name))
        servers = {kind: stack.enter_context(Server(kind)) for kind in wanted}
        for round_ in range(plan.rounds):
            if SIMULATION in plan.names:
                progress(f"round {round_ + 1} of {plan.rounds}: simulation")
                outcome.simulation.append(_measure_simulation(plan))
            for name in plan.names:
                for kind in plan.servers_for(name, outcome.installed):
                    progress(f"round {round_ + 1} of {plan.rounds}: {name} against {kind}")
                    if kind in servers:
                        outcome.series.setdefault((name, kind), []).append(servers[kind].measure(name, plan))
                    else:
                        _measure_peer(name, kind, plan, directory, outcome)
    return outcome


def _measure_peer(name: str, kind: str, plan: Plan, directory: Path, outcome: Outcome) -> None:
    """One run against a peer that was installed, if it got through all runs before.

    Its server lives no longer than that: what one measurement leaves behind in it is not to spoil the next."""
    if (name, kind) in outcome.failures:
        return
    try:
        with Server(kind, peers.environment(directory, kind)) as server:
            outcome.series.setdefault((name, kind), []).append(server.measure(name, plan))
    except BenchError as error:
        outcome.series.pop((name, kind), None)
        outcome.failures[name, kind] = str(error)


def _measure_memory(plan: Plan) -> dict[str, float]:
    command = (sys.executable, "-m", "tools.bench.memory", str(plan.connections))
    found: dict[str, float] = json.loads(_output_of(command, "memory", _ALONE_PATIENCE_S))
    return found


def _measure_simulation(plan: Plan) -> dict[str, dict[str, float]]:
    command = (sys.executable, "-m", "tools.bench.simulation", str(plan.seconds * SIMULATED))
    found: dict[str, dict[str, float]] = json.loads(_output_of(command, "simulation", _ALONE_PATIENCE_S))
    return found


def _output_of(command: tuple[str, ...], what: str, patience_s: float) -> str:
    """What a command prints. Raises BenchError, by the name of what it does."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=_PROJECT,
            start_new_session=True,
            timeout=patience_s,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{what} does not come to an end") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise BenchError(f"{what} failed: {last}")
    return done.stdout


class Server:
    """A server under test, from entering to leaving. Raises BenchError on entering when it does not come up."""

    def __init__(self, kind: str, env: dict[str, str] | None = None) -> None:
        self._kind = kind
        self._env = env

    def __enter__(self) -> Self:
        # In a session of its own, or the terminal's Ctrl-C would reach it too, and it would be missed at the end.
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tools.bench.serve", self._kind),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_PROJECT,
            env=self._env,
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
            for thread in _threads(self._pid):
                os.sched_setaffinity(thread, {_cpus()[0]})
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
        command = (*self._exec_prefix, sys.executable, "-m", "tools.bench.kernel_peer", task.to_json())
        what = f"{name} against {self._kind}"
        results: Results = json.loads(_output_of(command, what, task.warm_up_s + task.seconds + _PATIENCE_S))
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


def _threads(pid: int) -> Iterator[int]:
    """The threads of a process, by which alone a CPU is chosen; those to come take after these."""
    return (int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())


def _cpus() -> tuple[int, int]:
    """Where the server runs, and where the peer does: left to the scheduler, they share a CPU in some runs."""
    available = os.sched_getaffinity(0)
    return min(available), max(available)
