"""The processes that search for `tcpstack fuzz`: each plays one batch of seeds after another."""

from __future__ import annotations

import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress

from .fuzz_worker import Tally

_BATCH_CASES = 20


class WorkerDied(Exception):
    """A process that played cases has ended; the message says how, and which seeds were under way."""


def search(
    seed: int, cases: int | None, seconds: float | None, jobs: int, is_over: Callable[[], bool]
) -> Generator[Tally, None, None]:
    """The tallies of batches of cases, as they come, until there are enough or `is_over()` says so; what is under way
    then is waited for. No process is left when this ends, however it ends. Raises WorkerDied."""
    until = float("inf") if seconds is None else time.monotonic() + seconds
    batches = _batches(seed, cases)
    workers: list[_Worker] = []
    with selectors.DefaultSelector() as selector:

        def give(worker: _Worker) -> None:
            batch = None if is_over() or time.monotonic() >= until else next(batches, None)
            if batch is None:
                selector.unregister(worker)
            worker.start(batch, until)

        try:
            for _ in range(jobs if cases is None else min(jobs, -(-cases // _BATCH_CASES))):
                workers.append(_Worker())
                selector.register(workers[-1], selectors.EVENT_READ)
                give(workers[-1])
            while selector.get_map():
                for key, _ in selector.select():
                    worker = key.fileobj
                    assert isinstance(worker, _Worker)
                    tally = worker.answer()
                    if tally is None:
                        raise WorkerDied(_obituary(worker, [other for other in workers if other is not worker]))
                    give(worker)
                    yield tally
        finally:
            for worker in workers:
                worker.kill()


def _batches(seed: int, cases: int | None) -> Iterator[tuple[int, int]]:
    """(first seed, how many), again and again."""
    if cases is None:
        yield from zip(itertools.count(seed, _BATCH_CASES), itertools.repeat(_BATCH_CASES), strict=True)
        return
    for start in range(seed, seed + cases, _BATCH_CASES):
        yield start, min(_BATCH_CASES, seed + cases - start)


class _Worker:
    """batch  what it plays now; None where it has nothing to do"""

    def __init__(self) -> None:
        self.batch: tuple[int, int] | None = None
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tcpstack.cli.fuzz_worker", str(os.getpid())),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # a terminal's Ctrl-C is for the parent, which decides
        )

    def fileno(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def start(self, batch: tuple[int, int] | None, until: float) -> None:
        """Let it play a batch, as far as it comes before it is `until`; None: there are no more."""
        assert self._process.stdin is not None
        self.batch = batch
        if batch is None:
            return
        with suppress(BrokenPipeError):  # it has died: `answer` tells
            self._process.stdin.write("{} {} {}\n".format(*batch, until))
            self._process.stdin.flush()

    def answer(self) -> Tally | None:
        """Wait for what came of the batch; None where the process has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            return None
        told = json.loads(line)
        failures = [(seed, failure) for seed, failure in told.pop("failures")]
        return Tally(**told, failures=failures)

    def how_it_ended(self) -> str:
        status = self._process.returncode
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):  # by a batch that it never took
                stream.close()


def _obituary(dead: _Worker, others: list[_Worker]) -> str:
    under_way = [_seeds(worker.batch) for worker in others if worker.batch is not None]
    also = f"; under way elsewhere: {', '.join(under_way)}" if under_way else ""
    assert dead.batch is not None
    return f"a process {dead.how_it_ended()} while it played {_seeds(dead.batch)}{also}"


def _seeds(batch: tuple[int, int]) -> str:
    start, count = batch
    return f"seed {start}" if count == 1 else f"seeds {start} to {start + count - 1}"
