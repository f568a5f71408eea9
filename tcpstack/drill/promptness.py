"""Being on time against a real clock: a thread that the scheduler prefers, waits that end on the microsecond, and a
start at a known place between two ticks of the kernel's timers."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Sequence
from typing import Protocol

SPIN_NS = 150_000
"""The last stretch of a wait is spent looking at the clock: a sleeper wakes up some 50 us late."""
_CLOCK_MONOTONIC_COARSE = 6  # <linux/time.h>; it goes on with the kernel's ticks
_AFTER_TICK_NS = 250_000
_LONGEST_TICK_NS = 20_000_000


class _Descriptor(Protocol):
    def fileno(self) -> int: ...


class Preferred:
    """Has the calling thread run before all ordinary ones, until `end`; what it starts meanwhile is ordinary. Without
    the right to (CAP_SYS_NICE or RLIMIT_RTPRIO) nothing changes: packets have the kernel's times either way."""

    def __init__(self) -> None:
        self._raised = False
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            with contextlib.suppress(OSError):
                lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
                os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, lowest)
                self._raised = True

    def end(self) -> None:
        """Idempotent. Of the same thread."""
        if self._raised:
            self._raised = False
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def readable(descriptors: Sequence[_Descriptor], until_ns: int) -> list[_Descriptor]:
    """Those of the descriptors that can be read, as soon as one can; none at `until_ns` of time.monotonic_ns()."""
    while True:
        left_ns = until_ns - time.monotonic_ns()
        ready, _, _ = select.select(descriptors, [], [], max(left_ns - SPIN_NS, 0) / 1e9)
        if ready or left_ns <= 0:
            return ready


def excess_tick_ns() -> int:
    """By how much the tick of this kernel's timers is longer than the millisecond of those that scripts are written
    for (CONFIG_HZ=1000): by so much more a timer may be late."""
    return max(round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1e9) - 1_000_000, 0)


def after_tick() -> int:
    """Wait until the kernel's clock of timers has just gone on; the time then, of time.monotonic_ns(). A script whose
    events lie at milliseconds would else meet that tick sometimes before and sometimes behind it."""
    began_ns = time.monotonic_ns()
    tick_ns = time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)
    while (now_ns := time.monotonic_ns()) - began_ns < _LONGEST_TICK_NS:
        if time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE) != tick_ns:
            break
    while time.monotonic_ns() - now_ns < _AFTER_TICK_NS:
        pass
    return time.monotonic_ns()
