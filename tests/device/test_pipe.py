"""One direction of a wire: its rate, delay, jitter and queue, in explicit time."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.device.pipe import Line, Pipe

MS = 1_000_000
MEGABIT = 1_000_000


def pipe(**line: int) -> Pipe[int]:
    return Pipe(Line(**line), random.Random(0).randrange)


def arrivals(wire: Pipe[int]) -> list[tuple[int, int]]:
    """All that is under way, with the times at which it arrives."""
    arrived = []
    while (due_ns := wire.deadline_ns) is not None:
        assert wire.take(due_ns - 1) == []
        arrived += [(due_ns, thing) for thing in wire.take(due_ns)]
    return arrived


def test_plain_line_lets_things_arrive_at_once() -> None:
    wire = pipe()
    assert wire.put(1, 1500, 7)
    assert (wire.deadline_ns, wire.last_arrival_ns, len(wire)) == (7, 7, 1)
    assert wire.take(7) == [1]
    assert (wire.deadline_ns, wire.last_arrival_ns, len(wire)) == (None, None, 0)


def test_delay_counts_from_each_thing_itself() -> None:
    wire = pipe(delay_ns=40 * MS)
    wire.put(1, 1500, 0)
    wire.put(2, 1500, 5 * MS)
    assert arrivals(wire) == [(40 * MS, 1), (45 * MS, 2)]


def test_rate_sends_one_after_the_other_and_then_comes_the_delay() -> None:
    wire = pipe(rate_bps=10 * MEGABIT, delay_ns=3 * MS)
    for n in range(3):
        wire.put(n, 1250, 0)  # a millisecond each
    wire.put(3, 1250, 10 * MS)
    assert arrivals(wire) == [(4 * MS, 0), (5 * MS, 1), (6 * MS, 2), (14 * MS, 3)]


def test_queue_of_octets_drops_its_tail_and_does_not_count_what_is_being_sent() -> None:
    wire = pipe(rate_bps=10 * MEGABIT, queue_bytes=2500)
    assert [wire.put(n, 1250, 0) for n in range(5)] == [True, True, True, False, False]
    assert wire.put(5, 1250, 1 * MS)  # the first is out, the second is being sent
    assert not wire.put(6, 1250, 1 * MS)
    assert arrivals(wire) == [(1 * MS, 0), (2 * MS, 1), (3 * MS, 2), (4 * MS, 5)]


def test_small_thing_fits_where_a_large_one_did_not() -> None:
    wire = pipe(rate_bps=10 * MEGABIT, queue_bytes=1300)
    assert [wire.put(n, size, 0) for n, size in enumerate((1250, 1250, 1250, 50))] == [True, True, False, True]


def test_queue_of_packets_counts_packets() -> None:
    wire = pipe(rate_bps=10 * MEGABIT, queue_packets=2)
    assert [wire.put(n, 10, 0) for n in range(4)] == [True, True, True, False]


def test_queue_of_none_lets_through_what_finds_the_line_idle() -> None:
    wire = pipe(rate_bps=10 * MEGABIT, queue_bytes=0)
    assert wire.put(0, 1250, 0)
    assert not wire.put(1, 1250, MS - 1)
    assert wire.put(2, 1250, MS)


def test_queue_has_no_bound_where_none_is_said() -> None:
    wire = pipe(rate_bps=1000)
    assert all(wire.put(n, 1500, 0) for n in range(1000))


def test_congestion_begins_with_so_many_octets_waiting() -> None:
    wire = pipe(rate_bps=10 * MEGABIT, mark_bytes=2000)
    seen = []
    for n in range(5):
        seen.append(wire.congested(0))
        wire.put(n, 1250, 0)
    assert seen == [False, False, False, True, True]
    assert wire.congested(2 * MS)
    assert not wire.congested(3 * MS)
    assert not pipe(rate_bps=1).congested(0)


def test_changed_line_holds_for_what_is_put_from_then_on() -> None:
    wire = pipe(delay_ns=40 * MS)
    wire.put(1, 100, 0)
    wire.line = Line(delay_ns=1 * MS)
    wire.put(2, 100, 0)  # order is kept: it can't arrive before what went before it
    wire.put(3, 100, 50 * MS)
    assert arrivals(wire) == [(40 * MS, 1), (40 * MS, 2), (51 * MS, 3)]


def test_clear_loses_what_is_under_way_and_empties_the_queue() -> None:
    wire = pipe(rate_bps=10 * MEGABIT, queue_bytes=1250)
    assert [wire.put(n, 1250, 0) for n in range(3)] == [True, True, False]
    wire.clear()
    assert (wire.deadline_ns, len(wire)) == (None, 0)
    assert wire.put(3, 1250, 0)


@given(
    st.lists(st.tuples(st.integers(0, 5 * MS), st.integers(1, 1500)), max_size=40),
    st.integers(1, 20) | st.none(),
    st.integers(0, 20 * MS),
    st.integers(0, 20 * MS),
    st.integers(0, 9),
)
def test_order_is_kept_and_times_are_those_of_the_line(
    puts: list[tuple[int, int]], megabits: int | None, delay_ns: int, jitter_ns: int, seed: int
) -> None:
    rate_bps = megabits * MEGABIT if megabits else None
    line = Line(rate_bps=rate_bps, delay_ns=delay_ns, jitter_ns=jitter_ns)
    runs = []
    for _ in range(2):
        wire: Pipe[int] = Pipe(line, random.Random(seed).randrange)
        now_ns = 0
        done_ns = Fraction(0)
        earliest = []
        for n, (gap_ns, size) in enumerate(puts):
            now_ns += gap_ns
            assert wire.put(n, size, now_ns)
            done_ns = max(Fraction(now_ns), done_ns) + (Fraction(size * 8_000_000_000, rate_bps) if rate_bps else 0)
            earliest.append(math.floor(done_ns) + delay_ns)
        arrived = arrivals(wire)
        assert [n for _, n in arrived] == list(range(len(puts)))
        latest_ns = 0
        for (at_ns, n), earliest_ns in zip(arrived, earliest, strict=True):
            latest_ns = max(latest_ns, earliest_ns + jitter_ns)
            assert earliest_ns <= at_ns <= latest_ns, n
        runs.append(arrived)
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "line",
    [{"rate_bps": 0}, {"rate_bps": -1}]
    + [
        {name: wrong}
        for name in ("delay_ns", "jitter_ns", "queue_bytes", "queue_packets", "mark_bytes", "rate_bps")
        for wrong in (-1, 0.5, math.nan, True, "20ms", 10**18)
    ]
    + [{"queue_bytes": 10_000, "mark_bytes": 50_000}],
)
def test_line_that_makes_no_sense_raises_value_error(line: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Line(**line)


def test_what_comes_after_clear_waits_for_nothing_that_is_lost() -> None:
    wire = pipe(rate_bps=MEGABIT, queue_packets=3)
    for n in range(4):
        assert wire.put(n, 125_000, 0)
    wire.clear()
    assert len(wire) == 0
    assert wire.put(4, 125, 0)
    assert arrivals(wire) == [(MS, 4)]


def test_what_is_rounded_of_one_sending_time_counts_for_the_next() -> None:
    wire = pipe(rate_bps=3_000_000_000)
    for n in range(3_000):
        assert wire.put(n, 1, 0)
    assert wire.last_arrival_ns == 8_000
    assert wire.put(0, 1, 9_000)
    assert wire.last_arrival_ns == 9_002  # the line was idle: nothing is owed
