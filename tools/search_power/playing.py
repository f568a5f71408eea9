"""A process that plays cases on the mutant that it imports: `python playing.py SEED CASES`, from a directory where
that is. It says {"cases": how many, "failure": what the last of them broke, or null, "seconds": CPU time} as JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from types import FrameType

CASE_SECONDS = 20
"""Of CPU time, for one case; the longest takes three or four."""
MEMORY_BYTES = 2 << 30


class EndlessError(Exception):
    pass


def main(seed: int, cases: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, _on_alarm)
    played, failure = 0, None
    try:
        from tcpstack.cli.fuzz_worker import failure_of
        from tcpstack.sim.search import draw_case

        while played < cases and failure is None:
            signal.setitimer(signal.ITIMER_PROF, CASE_SECONDS)
            failure = failure_of(draw_case(seed + played))
            played += 1
        signal.setitimer(signal.ITIMER_PROF, 0)
    except Exception as error:  # of the import
        failure = f"{type(error).__name__}: {error}"
    print(json.dumps({"cases": played, "failure": failure, "seconds": round(time.process_time(), 1)}))


def _on_alarm(number: int, frame: FrameType | None) -> None:
    raise EndlessError(f"a case takes more than {CASE_SECONDS} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
