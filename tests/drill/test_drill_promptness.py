"""Being on time against a real clock."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from tcpstack.drill import promptness
from tcpstack.drill.promptness import Preferred, after_tick, excess_tick_ns, readable


def test_a_wait_is_over_at_its_time_and_not_before() -> None:
    until_ns = time.monotonic_ns() + 3_000_000

    assert readable([], until_ns) == []
    assert time.monotonic_ns() >= until_ns


def test_a_wait_whose_time_is_past_looks_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert readable([ours], 0) == []
        theirs.send(b"x")
        assert readable([ours], 0) == [ours]


def test_a_wait_ends_with_what_it_waits_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        until_ns = time.monotonic_ns() + 60_000_000_000
        threading.Timer(0.01, theirs.send, (b"x",)).start()

        assert readable([ours], until_ns) == [ours]
        assert time.monotonic_ns() < until_ns


def test_a_preferred_thread_is_ordinary_again_afterwards_and_so_is_what_it_starts() -> None:
    before = os.sched_getscheduler(0)
    preferred = Preferred()
    try:
        started: list[int] = []
        thread = threading.Thread(target=lambda: started.append(os.sched_getscheduler(0)))
        thread.start()
        thread.join()
    finally:
        preferred.end()
        preferred.end()

    assert started == [os.SCHED_OTHER]
    assert os.sched_getscheduler(0) == before


def test_without_the_right_to_be_preferred_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)

    Preferred().end()


def test_the_start_is_a_quarter_of_a_millisecond_after_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of our own, that ticks at each 4 ms and tells of it in steps of 1 us."""
    now_ns = [1_001_000_000]

    def monotonic_ns() -> int:
        now_ns[0] += 1000
        return now_ns[0]

    monkeypatch.setattr(promptness.time, "monotonic_ns", monotonic_ns)
    monkeypatch.setattr(promptness.time, "clock_gettime_ns", lambda clock: now_ns[0] // 4_000_000 * 4_000_000)

    assert 1_004_250_000 <= after_tick() <= 1_004_255_000


def test_the_start_does_not_wait_for_a_clock_without_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promptness.time, "clock_gettime_ns", lambda clock: 0)
    began_ns = time.monotonic_ns()

    after_tick()

    assert time.monotonic_ns() - began_ns >= 20_000_000


@pytest.mark.parametrize(("resolution", "excess_ns"), [(0.001, 0), (0.004, 3_000_000), (1e-9, 0), (0.01, 9_000_000)])
def test_a_longer_tick_than_that_of_the_corpora_is_allowed_for(
    monkeypatch: pytest.MonkeyPatch, resolution: float, excess_ns: int
) -> None:
    monkeypatch.setattr(promptness.time, "clock_getres", lambda clock: resolution)

    assert excess_tick_ns() == excess_ns
