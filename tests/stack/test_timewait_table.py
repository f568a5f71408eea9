"""The TIME-WAIT table: found by name, expired in order, at its time and not before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.segment import FourTuple
from tcpstack.core.timers import NEVER
from tcpstack.core.timewait import TimeWait
from tcpstack.stack.timewait import TimeWaitTable

HERE, THERE = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])


def an_entry(port: int, expires_ns: int, lasts_ns: int = 40) -> TimeWait:
    return TimeWait(name(port), 1, 2, 3, 4, lasts_ns, expires_ns - lasts_ns)


def name(port: int) -> FourTuple:
    return (HERE, 80, THERE, port)


def names(*entries: TimeWait) -> list[FourTuple]:
    return [entry.flow for entry in entries]


def a_table(*entries: TimeWait) -> TimeWaitTable:
    table = TimeWaitTable()
    for entry in entries:
        table.add(entry)
    return table


def fields(entry: TimeWait | None) -> list[object]:
    assert entry is not None
    return [getattr(entry, field) for field in TimeWait.__slots__]


def test_empty_table_waits_for_nothing() -> None:
    table = TimeWaitTable()
    assert (len(table), table.deadline_ns, table.expire(1 << 62)) == (0, NEVER, [])


def test_entry_is_found_by_its_name_alone_as_it_was() -> None:
    entry = an_entry(1, 50)
    table = a_table(entry)
    assert fields(table.get(name(1))) == fields(entry)
    assert name(1) in table
    assert table.get(name(2)) is None
    assert (THERE, 1, HERE, 80) not in table


def test_entries_of_both_families_do_not_meet() -> None:
    six = TimeWait((HERE * 4, 80, THERE * 4, 1), 1, 2, 3, 4, 40, 10)
    table = a_table(six)
    assert name(1) not in table
    assert fields(table.get(six.flow)) == fields(six)


@pytest.mark.rfc9293("MUST-13")
def test_entries_expire_in_order_at_their_time_and_not_before() -> None:
    a, b, c = an_entry(1, 50), an_entry(2, 50), an_entry(3, 60)
    table = a_table(a, b, c)
    assert table.deadline_ns == 50
    assert table.expire(49) == []
    assert table.expire(50) == names(a, b)
    assert (len(table), table.deadline_ns) == (1, 60)
    assert table.expire(1000) == names(c)
    assert table.deadline_ns == NEVER


@pytest.mark.rfc9293("MUST-13")
def test_restart_begins_the_2_msl_again_behind_the_others() -> None:
    a, b = an_entry(1, 50), an_entry(2, 55)
    table = a_table(a, b)
    table.restart(a, 52)
    assert table.deadline_ns == 55
    assert table.expire(91) == names(b)
    assert table.expire(92) == names(a)


def test_what_a_segment_changed_is_kept_once_updated_and_the_time_stays() -> None:
    table = a_table(an_entry(1, 50), an_entry(2, 55))
    entry = table.get(name(1))
    assert entry is not None
    entry.challenged_ns = 33
    assert fields(table.get(name(1))) != fields(entry)
    table.update(entry)
    assert fields(table.get(name(1))) == fields(entry)
    assert table.expire(1000) == [name(1), name(2)]


@pytest.mark.rfc9293("MUST-13")
def test_entries_of_other_configurations_expire_each_at_its_own_time() -> None:
    long, short, other = an_entry(1, 500, lasts_ns=450), an_entry(2, 70, lasts_ns=10), an_entry(3, 510, lasts_ns=450)
    table = a_table(long, short, other)
    assert table.deadline_ns == 70
    assert table.expire(70) == names(short)
    table.restart(long, 71)
    table.add(short)
    assert table.expire(600) == names(short, other, long)
    assert (len(table), table.deadline_ns) == (0, NEVER)


verbs = st.sampled_from(["add", "remove", "restart", "expire"])


@given(st.lists(st.tuples(verbs, st.integers(0, 9), st.integers(0, 3))))
def test_table_is_a_dictionary_with_times(script: list[tuple[str, int, int]]) -> None:
    table = TimeWaitTable()
    oracle: dict[int, TimeWait] = {}
    for now, (kind, port, lasts) in enumerate(script):
        entry = oracle.get(port)
        if kind == "add":
            oracle[port] = an_entry(port, now + 3 * lasts + 1, lasts_ns=3 * lasts + 1)
            table.add(oracle[port])
        elif kind == "expire":
            due = [e for e in oracle.values() if e.expires_ns <= now]
            found = table.expire(now)
            assert sorted(found) == sorted(names(*due))
            assert [oracle[flow[3]].expires_ns for flow in found] == sorted(e.expires_ns for e in due)
            oracle = {port: e for port, e in oracle.items() if e.expires_ns > now}
        elif entry is not None and kind == "remove":
            table.remove(oracle.pop(port).flow)
        elif entry is not None:
            table.restart(entry, now)
            assert entry.expires_ns == now + entry.lasts_ns
        assert len(table) == len(oracle)
        assert all(fields(table.get(e.flow)) == fields(e) for e in oracle.values())
        assert table.deadline_ns == min((e.expires_ns for e in oracle.values()), default=NEVER)


def test_entry_of_the_same_name_replaces_the_old_one() -> None:
    old, other, new = an_entry(1, 50), an_entry(2, 55), an_entry(1, 60)
    table = a_table(old, other, new)
    assert len(table) == 2
    assert fields(table.get(new.flow)) == fields(new)
    assert table.expire(1000) == names(other, new)


def test_entry_of_another_lifetime_replaces_the_old_one_too() -> None:
    table = a_table(an_entry(1, 50), new := an_entry(1, 60, lasts_ns=7))
    assert len(table) == 1
    assert fields(table.get(new.flow)) == fields(new)


def test_removed_entry_is_gone_and_removing_it_twice_is_nothing() -> None:
    entry = an_entry(1, 50)
    table = a_table(entry)
    table.remove(entry.flow)
    table.remove(entry.flow)
    assert table.expire(1000) == []
    assert entry.flow not in table
