"""A process that plays cases for `tcpstack fuzz`: a line "START COUNT UNTIL" in, a tally as JSON out, again and again.

It is run as a program of its own, and never outlives the one that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, field

from ..sim.search import Case, draw_case
from ..sim.search.play import Player

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@dataclass(slots=True)
class Tally:
    """What came of some cases; `failures` has the seed of each that failed, and the failure in one line."""

    cases: int = 0
    simulated_ns: int = 0
    segments: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.cases += other.cases
        self.simulated_ns += other.simulated_ns
        self.segments += other.segments
        self.failures += other.failures


def failure_of(case: Case, tally: Tally | None = None) -> str | None:
    """What the case breaks, in one line; None where all holds. Whatever is raised is a failure."""
    player = None
    try:
        player = Player(case)
        player.play()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        if tally is not None and player is not None:
            tally.simulated_ns += player.network.clock.now_ns
            tally.segments += player.segments
    return None


def play_batch(start: int, count: int, until: float) -> Tally:
    """The cases of `count` seeds from `start` on; once it is `until` by time.monotonic(), no further ones."""
    tally = Tally()
    for seed in range(start, start + count):
        if tally.cases and time.monotonic() >= until:
            break
        tally.cases += 1
        failure = failure_of(draw_case(seed), tally)
        if failure is not None:
            tally.failures.append((seed, failure))
    return tally


def main(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it has ended already
    for line in sys.stdin:
        start, count, until = line.split()
        # In one write, also where PYTHONUNBUFFERED is set: whoever has seen half a line waits for the rest.
        sys.stdout.write(json.dumps(asdict(play_batch(int(start), int(count), float(until)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
