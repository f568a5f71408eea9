"""`tcpstack fuzz`: search for bugs, shrink what is found, keep it as a script that pytest runs for ever."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType

from ..sim.search import Case, draw_case
from ..sim.search.script import script_of
from ..sim.search.shrink import kind_of, shrink
from .fuzz_search import WorkerDied, search
from .fuzz_worker import Tally, failure_of

SHRINKING_S = 30.0
TOLD = 5
"""So many failures of a kind are told of singly; the rest are counted."""
_SOMETHING_FOUND, _WORKER_DIED = 1, 2


def fuzz(options: argparse.Namespace) -> int:
    """Search for `options.seconds` or `options.cases` from `options.seed` on.

    Returns 1 where something was found, 2 where a process of the search died, 130 or 143 after a signal. Raises
    ValueError where cases could not be kept in `options.save`.
    """
    directory = Path(options.save)
    _check_writable(directory)
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    print(f"searching from seed {seed} with {options.jobs} processes", flush=True)
    total = Tally()
    status = 0
    with _Signals() as signals:
        keeper = _Keeper(directory, signals.caught)
        try:
            with closing(search(seed, options.cases, options.seconds, options.jobs, signals.caught)) as tallies:
                for tally in tallies:
                    total.add(tally)
                    for failing, failure in tally.failures:
                        keeper.keep(failing, failure)
        except KeyboardInterrupt:
            pass
        except WorkerDied as died:
            print(f"tcpstack: {died}", file=sys.stderr, flush=True)
            status = _WORKER_DIED
    for line in keeper.unsaid():
        print(line, flush=True)
    found = len(total.failures)
    counted = (_counted(total.cases, "case"), _passed(total.simulated_ns / 1e9), _counted(total.segments, "segment"))
    print(*counted, _counted(found, "failure"), sep=", ", flush=True)
    return signals.status or status or (_SOMETHING_FOUND if found else 0)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _passed(seconds: float) -> str:
    return f"{seconds / 3600:.1f} simulated hours" if seconds >= 360 else f"{seconds:.1f} simulated seconds"


class _Signals:
    """While this is entered, the first Ctrl-C is only noted: the search ends after the cases under way. A second one,
    and SIGTERM, raise KeyboardInterrupt.

    status  128 + the signal that came; 0 where none did
    """

    def __init__(self) -> None:
        self.status = 0

    def caught(self) -> bool:
        return self.status != 0

    def __enter__(self) -> _Signals:
        self._before = {number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on(self, number: int, frame: FrameType | None) -> None:
        first = not self.status
        self.status = 128 + number
        if first and number == signal.SIGINT:
            # Not print(), which the signal may have interrupted.
            os.write(2, b"tcpstack: this ends with the cases that are under way; Ctrl-C again ends it now\n")
            return
        for each in self._before:
            signal.signal(each, signal.SIG_IGN)  # nothing may interrupt the end
        raise KeyboardInterrupt


def _check_writable(directory: Path) -> None:
    """Better now than after a night of searching. What had to be made for it is taken away again."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(f"--save: cases could not be kept in {directory}: {error.strerror}") from None
    finally:
        for each in missing:
            if each.exists():
                each.rmdir()


class _Keeper:
    """Writes down what was found, the first of each kind: shrunk, as far as that comes in SHRINKING_S seconds, and as
    long as `is_over` does not say otherwise."""

    def __init__(self, directory: Path, is_over: Callable[[], bool]) -> None:
        self._directory = directory
        self._is_over = is_over
        self._kept: dict[str, Path] = {}
        self._seen: Counter[str] = Counter()

    def keep(self, seed: int, failure: str) -> None:
        kind = kind_of(failure)
        self._seen[kind] += 1
        if kind in self._kept:
            if self._seen[kind] <= TOLD:
                print(f"seed {seed}: {failure} (as {self._kept[kind]})", flush=True)
            return
        print(f"seed {seed}: {failure}", flush=True)
        path = self._kept[kind] = self._directory / f"case_{seed}.py"
        case = draw_case(seed)
        if not self._write(path, case, seed, failure):
            return
        print(f"  kept as {path}; shrinking it, for {SHRINKING_S:g} s at most", flush=True)
        until = time.monotonic() + SHRINKING_S

        def fails(candidate: Case) -> bool:
            nonlocal failure
            if self._is_over() or time.monotonic() >= until:
                return False
            found = failure_of(candidate)
            if found is None or kind_of(found) != kind:
                return False
            failure = found
            return self._write(path, candidate, seed, failure)

        shrink(case, fails)
        print(f"  shrunk to {failure}", flush=True)

    def unsaid(self) -> Iterator[str]:
        """A line for each kind of which more were found than were told of."""
        for kind, path in self._kept.items():
            if self._seen[kind] > TOLD:
                yield f"and {self._seen[kind] - TOLD} more as {path}"

    def _write(self, path: Path, case: Case, seed: int, failure: str) -> bool:
        """Whole or not at all: a second Ctrl-C may come at any time."""
        script = script_of(case, seed, failure)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(script)
            unfinished.replace(path)
        except OSError as error:
            print(f"tcpstack: {path} could not be written: {error.strerror}; it would be\n{script}", file=sys.stderr)
            return False
        return True
