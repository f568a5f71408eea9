"""When an acknowledgement is due (RFC 9293 3.8.6.3, RFC 5681 4.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS
from tcpstack.core.receive.acks import AckPolicy
from tcpstack.core.timers import NEVER

RMSS = 1000
DELAY = 40 * MILLISECOND_NS
START = 3 * SECOND_NS


def a_policy() -> AckPolicy:
    return AckPolicy(DELAY)


@pytest.mark.rfc9293("SHLD-18")
@pytest.mark.parametrize("size", [1, RMSS, 2 * RMSS - 1])
def test_less_than_two_full_segments_wait_for_the_delay(size: int) -> None:
    acks = a_policy()
    acks.on_text(size, RMSS, START)
    assert acks.reason == ""
    assert acks.timer_ns == START + DELAY


@pytest.mark.rfc9293("SHLD-19", "MUST-58", "MUST-59")
@pytest.mark.parametrize("sizes", [[RMSS, RMSS], [2 * RMSS], [500, 1400, 100], [40 * RMSS]])
def test_two_full_segments_worth_is_acknowledged_at_once_however_it_came(sizes: list[int]) -> None:
    acks = a_policy()
    for size in sizes:
        assert acks.reason == ""
        acks.on_text(size, RMSS, START)
    assert acks.reason


@pytest.mark.rfc9293("MUST-40")
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 999)), min_size=1, max_size=20))
def test_delay_counts_from_the_first_text_that_waits(arrivals: list[tuple[int, int]]) -> None:
    acks = a_policy()
    now = START
    waits_since: int | None = None
    pending = 0
    for after_ms, size in arrivals:
        now += after_ms * MILLISECOND_NS
        if acks.timer_ns <= now:
            acks.on_timer()
            assert acks.reason
            acks.on_sent()
            waits_since, pending = None, 0
        acks.on_text(size, RMSS, now)
        pending += size
        waits_since = now if waits_since is None else waits_since
        assert acks.reason or acks.timer_ns == waits_since + DELAY
        if acks.reason:
            assert pending >= 2 * RMSS
            acks.on_sent()
            waits_since, pending = None, 0


@pytest.mark.rfc9293("MUST-40")
def test_delay_over_makes_it_due() -> None:
    acks = a_policy()
    acks.on_text(1, RMSS, START)
    acks.on_timer()
    assert acks.reason
    assert acks.timer_ns == NEVER


def test_segment_that_leaves_pays_what_was_owed() -> None:
    acks = a_policy()
    acks.on_text(RMSS, RMSS, START)
    acks.owe("why")
    acks.on_sent()
    assert (acks.reason, acks.timer_ns) == ("", NEVER)
    acks.on_text(RMSS, RMSS, START)  # the count began anew
    assert acks.reason == ""


def test_first_reason_is_the_one_that_is_told() -> None:
    acks = a_policy()
    acks.owe("first")
    acks.owe("second")
    acks.on_text(5 * RMSS, RMSS, START)
    acks.on_timer()
    assert acks.reason == "first"


def test_each_duplicate_is_owed_on_its_own_with_the_number_of_its_time() -> None:
    acks = a_policy()
    acks.owe_duplicate(100, "a")
    acks.owe_duplicate(100, "b")
    acks.owe_duplicate(300, "c")
    acks.on_sent()  # an ordinary acknowledgement does not stand for them
    assert acks.duplicates == ((100, "a", ()), (100, "b", ()), (300, "c", ()))


def test_no_delay_is_due_at_once() -> None:
    acks = AckPolicy(0)
    acks.on_text(1, RMSS, START)
    assert acks.timer_ns <= START
