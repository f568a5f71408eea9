"""Timestamps as a component: TS.Recent, PAWS, and what an echo tells (RFC 7323)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.receive.timestamps import OUTDATED_NS, TICK_NS, Timestamps
from tcpstack.core.segment import Options
from tcpstack.core.seq import HALF, MASK, MODULUS

DAY_NS = 24 * 3600 * 1_000_000_000
NOW_NS = 1_000 * DAY_NS  # our clock may have gone around many times

wires = st.integers(0, MASK)
offsets = st.one_of(st.sampled_from([0, 1, HALF - 1, HALF, MASK]), wires)


def synchronized(recent: int, now_ns: int = NOW_NS, last_ack_sent: int = 1000) -> Timestamps:
    stamps = Timestamps(7)
    stamps.synchronize(recent, now_ns)
    stamps.last_ack_sent = last_ack_sent
    return stamps


def tsval_of(stamps: Timestamps, now_ns: int) -> int:
    return stamps.option(now_ns)[0]


# -- what we send


def test_tsval_counts_milliseconds_from_the_offset() -> None:
    stamps = Timestamps(100)
    assert [tsval_of(stamps, now_ns) for now_ns in (0, TICK_NS - 1, TICK_NS, 5 * TICK_NS)] == [100, 100, 101, 105]


def test_tsval_wraps_at_32_bits() -> None:
    stamps = Timestamps(MASK)
    assert tsval_of(stamps, 0) == MASK
    assert tsval_of(stamps, TICK_NS) == 0
    assert tsval_of(stamps, (MODULUS + 3) * TICK_NS) == 2


def test_option_echoes_ts_recent_and_zero_before_there_is_one() -> None:
    stamps = Timestamps(5)
    assert stamps.option(TICK_NS) == (6, 0)
    stamps.synchronize(77, TICK_NS)
    assert stamps.option(2 * TICK_NS) == (7, 77)


@given(offsets, st.integers(0, 1 << 62))
def test_clock_goes_on_by_one_a_millisecond(offset: int, now_ns: int) -> None:
    stamps = Timestamps(offset)
    assert 0 <= tsval_of(stamps, now_ns) <= MASK
    assert (tsval_of(stamps, now_ns + TICK_NS) - tsval_of(stamps, now_ns)) & MASK == 1


def test_options_are_one_object_for_a_millisecond_and_what_it_echoes() -> None:
    stamps = Timestamps(5)
    first = stamps.options(TICK_NS)
    assert first == Options(timestamps=(6, 0))
    assert stamps.options(2 * TICK_NS - 1) is first
    stamps.synchronize(77, TICK_NS)
    assert stamps.options(TICK_NS) == Options(timestamps=(6, 77))
    assert stamps.options(2 * TICK_NS) == Options(timestamps=(7, 77))


# -- PAWS

EDGES = [
    # (SEG.TSval - TS.Recent, whether that is old)
    (0, False), (1, False), (HALF - 1, False), (HALF, False), (-1, True), (-2, True), (1 - HALF, True), (-HALF, False),
]  # fmt: skip


@pytest.mark.parametrize("recent", [0, 1, 2, HALF - 1, HALF, HALF + 1, MASK - 1, MASK])
@pytest.mark.parametrize(("distance", "old"), EDGES)
def test_older_is_what_lies_less_than_half_the_circle_behind(recent: int, distance: int, old: bool) -> None:
    """RFC 7323 5.2: "s < t if 0 < (t - s) < 2^31, computed in unsigned 32-bit arithmetic"."""
    stamps = synchronized(recent)
    tsval = (recent + distance) & MASK
    assert stamps.is_old(tsval, NOW_NS) is old


@given(wires, wires)
def test_of_two_values_at_most_one_is_old_to_the_other(one: int, other: int) -> None:
    assert not (synchronized(one).is_old(other, NOW_NS) and synchronized(other).is_old(one, NOW_NS))


def test_nothing_is_old_before_there_is_a_ts_recent() -> None:
    stamps = Timestamps(0)
    assert not any(stamps.is_old(tsval, NOW_NS) for tsval in (0, 1, HALF, HALF + 1, MASK))


@pytest.mark.parametrize(("age_ns", "old"), [(0, True), (24 * DAY_NS, True), (24 * DAY_NS + 1, False)])
def test_ts_recent_is_no_measure_after_24_days(age_ns: int, old: bool) -> None:
    """RFC 7323 5.5: a connection that was idle for longer must not freeze."""
    assert OUTDATED_NS == 24 * DAY_NS
    stamps = synchronized(500)
    assert stamps.is_old(499, NOW_NS + age_ns) is old


def test_each_segment_of_the_same_millisecond_makes_ts_recent_young_again() -> None:
    stamps = synchronized(500)
    for days in range(20, 200, 20):
        stamps.on_segment(1000, 500, NOW_NS + days * DAY_NS)
        assert stamps.is_old(499, NOW_NS + days * DAY_NS)


def test_what_is_not_echoed_does_not_make_ts_recent_young() -> None:
    stamps = synchronized(500)
    stamps.on_segment(1001, 600, NOW_NS + 20 * DAY_NS)
    assert stamps.is_old(499, NOW_NS + 20 * DAY_NS)
    assert not stamps.is_old(499, NOW_NS + 25 * DAY_NS)


def test_syn_sets_ts_recent_whatever_it_was() -> None:
    stamps = synchronized(500)
    stamps.synchronize(3, NOW_NS + 1)
    assert (stamps.recent, stamps.recent_ns) == (3, NOW_NS + 1)
    stamps.synchronize(0, NOW_NS + 2)  # some begin with 0: it counts like any other
    assert stamps.is_old(MASK, NOW_NS + 2)
    assert not stamps.is_old(1, NOW_NS + 2)


# -- which one to echo (4.3)


def test_delayed_acknowledgement_echoes_the_first_segment_it_acknowledges() -> None:
    """RFC 7323 4.3 (A)."""
    stamps = synchronized(0, last_ack_sent=100)
    for seq, tsval in ((100, 1), (200, 2), (300, 3)):
        stamps.on_segment(seq, tsval, NOW_NS)
    assert stamps.option(NOW_NS)[1] == 1
    stamps.last_ack_sent = 400
    stamps.on_segment(400, 4, NOW_NS)
    assert stamps.option(NOW_NS)[1] == 4


def test_hole_echoes_the_last_segment_that_advanced_the_window() -> None:
    """RFC 7323 4.3 (B) and (C), the RFC's own sequence: A, C, B, E, D, each acknowledged at once."""
    stamps = synchronized(0, last_ack_sent=100)
    echoed = []
    for seq, tsval, ack in ((100, 1, 200), (300, 3, 200), (200, 2, 400), (500, 5, 400), (400, 4, 600)):
        stamps.on_segment(seq, tsval, NOW_NS)
        echoed.append(stamps.option(NOW_NS)[1])
        stamps.last_ack_sent = ack
    assert echoed == [1, 1, 2, 2, 4]


@pytest.mark.parametrize(("seq", "taken"), [(999, True), (1000, True), (1001, False)])
def test_segment_behind_last_ack_sent_is_not_echoed(seq: int, taken: bool) -> None:
    stamps = synchronized(500)
    stamps.on_segment(seq, 501, NOW_NS)
    assert stamps.recent == (501 if taken else 500)


# -- the echo


def test_echo_of_this_millisecond_can_have_left_as_late_as_now() -> None:
    stamps = Timestamps(7)
    now_ns = 5 * TICK_NS + 300
    assert stamps.echoed_ns(tsval_of(stamps, now_ns), now_ns) == now_ns


def test_echo_of_an_earlier_millisecond_can_have_left_until_its_end() -> None:
    stamps = Timestamps(MASK - 1)
    now_ns = 9 * TICK_NS + 300
    tsval = tsval_of(stamps, 4 * TICK_NS + 17)
    assert tsval == 2  # the clock went around in between
    assert stamps.echoed_ns(tsval, now_ns) == 5 * TICK_NS - 1


@pytest.mark.parametrize("ahead", [1, 2, 1000, HALF - 1, HALF])
def test_echo_from_the_future_is_none_of_ours(ahead: int) -> None:
    stamps = Timestamps(7)
    tsecr = (tsval_of(stamps, NOW_NS) + ahead) & MASK
    assert stamps.echoed_ns(tsecr, NOW_NS) is None


@pytest.mark.parametrize(("age_ticks", "known"), [(HALF - 1, True), (HALF, False), (HALF + 1, False)])
def test_echo_older_than_half_the_circle_is_none_of_ours(age_ticks: int, known: bool) -> None:
    stamps = Timestamps(7)
    tsecr = tsval_of(stamps, NOW_NS - age_ticks * TICK_NS)
    assert (stamps.echoed_ns(tsecr, NOW_NS) is not None) is known


def test_echo_from_before_our_clock_began_is_none_of_ours() -> None:
    stamps = Timestamps(100)
    now_ns = 10 * TICK_NS
    assert stamps.echoed_ns(100, now_ns) == TICK_NS - 1
    assert stamps.echoed_ns(99, now_ns) is None


def test_echo_of_zero_is_no_echo_even_where_our_clock_shows_it() -> None:
    stamps = Timestamps(0)
    assert tsval_of(stamps, 0) == 0
    assert stamps.echoed_ns(0, 3 * TICK_NS) is None


@given(offsets, st.integers(0, 1 << 62), st.integers(0, 24 * DAY_NS))
def test_whenever_it_left_the_echo_bounds_that_to_a_millisecond(offset: int, sent_ns: int, flight_ns: int) -> None:
    stamps = Timestamps(offset)
    now_ns = sent_ns + flight_ns
    tsecr = tsval_of(stamps, sent_ns)
    echoed_ns = stamps.echoed_ns(tsecr, now_ns)
    if tsecr == 0:
        assert echoed_ns is None
        return
    assert echoed_ns is not None
    assert sent_ns <= echoed_ns <= min(now_ns, sent_ns + TICK_NS - 1)
