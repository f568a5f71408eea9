"""`tcpstack fuzz`: search for bugs, shrink what is found, keep it as a script that pytest runs for ever."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from ..sim.search import Case, draw_case, play, shrink

_BATCH_CASES = 20
_SCRIPT = '''\
"""Found by `tcpstack fuzz --seed {seed} --cases 1`: {failure}"""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, play

CASE = {case!r}

if __name__ == "__main__":
    print(play(CASE))
'''


@dataclass(slots=True)
class _Tally:
    cases: int = 0
    simulated_ns: int = 0
    segments: int = 0
    failures: tuple[tuple[int, str], ...] = ()


def fuzz(options: argparse.Namespace) -> int:
    """Search for `options.seconds` or `options.cases` from `options.seed` on. 1 where something was found."""
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    print(f"searching from seed {seed} with {options.jobs} processes", flush=True)
    total = _Tally()
    interrupted = False
    try:
        for tally in _search(seed, options.cases, options.seconds, options.jobs):
            _add(total, tally)
            for failing, failure in tally.failures:
                print(f"seed {failing}: {failure}", flush=True)
                _keep(failing, Path(options.save))
    except KeyboardInterrupt:
        interrupted = True
    hours = total.simulated_ns / 3.6e12
    print(
        f"{total.cases} cases, {hours:.1f} simulated hours, {total.segments} segments, {len(total.failures)} failures"
    )
    return 130 if interrupted else 1 if total.failures else 0


def _add(total: _Tally, tally: _Tally) -> None:
    total.cases += tally.cases
    total.simulated_ns += tally.simulated_ns
    total.segments += tally.segments
    total.failures += tally.failures


def failure_of(case: Case) -> str | None:
    """What the case breaks, in one line; None where all holds. Whatever is raised is a failure."""
    try:
        play(case)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _search(seed: int, cases: int | None, seconds: float | None, jobs: int) -> Iterator[_Tally]:
    """The tallies of batches of cases, as they come."""
    until = None if seconds is None else time.monotonic() + seconds
    end = 1 << 62 if cases is None else seed + cases
    starts = iter(range(seed, end, _BATCH_CASES))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: set[Future[_Tally]] = set()
        more = True
        while more or running:
            while more and len(running) < 2 * jobs:
                start = next(starts, None)
                if start is None or (until is not None and time.monotonic() >= until):
                    more = False
                    break
                running.add(pool.submit(_play_batch, start, min(_BATCH_CASES, end - start)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _play_batch(start: int, count: int) -> _Tally:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the search after the batches that are under way
    tally = _Tally()
    for seed in range(start, start + count):
        tally.cases += 1
        try:
            result = play(draw_case(seed))
        except Exception as error:
            tally.failures += ((seed, f"{type(error).__name__}: {error}".splitlines()[0]),)
        else:
            tally.simulated_ns += result.simulated_ns
            tally.segments += result.segments
    return tally


def _keep(seed: int, directory: Path) -> None:
    """Shrink the case of this seed and write it down."""
    case = shrink(draw_case(seed), lambda candidate: failure_of(candidate) is not None)
    failure = (failure_of(case) or "").replace('"', "'").replace("\\", "/")
    path = directory / f"case_{seed}.py"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(_SCRIPT.format(seed=seed, failure=failure, case=case))
    except OSError as error:
        print(f"tcpstack: {path} could not be written: {error.strerror}; the case is {case!r}", file=sys.stderr)
    else:
        print(f"  shrunk and kept as {path}: {failure}", flush=True)
