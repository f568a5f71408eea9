"""The lazy heap of deadlines: nothing is due too early or missed, and a timer pushed out costs nothing."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tcpstack.core.timers import NEVER
from tcpstack.stack.deadlines import Deadlines


class Thing:
    def __init__(self, deadline_ns: int = NEVER) -> None:
        self.deadline_ns = deadline_ns


def armed(*deadlines: int) -> tuple[Deadlines[Thing], list[Thing]]:
    table: Deadlines[Thing] = Deadlines()
    things = [Thing(at) for at in deadlines]
    for thing in things:
        table.arm(thing)
    return table, things


def test_nothing_armed_waits_for_nothing() -> None:
    table, _ = armed(NEVER)
    assert table.next_ns is None
    assert table.due(1 << 62) == []


def test_things_come_up_when_their_deadline_has_come_and_not_before() -> None:
    table, (late, early) = armed(30, 20)
    assert table.next_ns == 20
    assert table.due(19) == []
    assert table.due(20) == [early]
    assert table.next_ns == 30
    assert table.due(30) == [late]
    assert table.next_ns is None


def test_what_is_due_at_once_comes_in_order_of_deadlines_and_then_of_arming() -> None:
    table, (a, b, c, d) = armed(30, 20, 30, 10)
    assert table.due(50) == [d, b, a, c]


def test_order_is_that_of_the_deadlines_even_where_an_old_entry_comes_up_first() -> None:
    table, (moved, other) = armed(10, 20)
    moved.deadline_ns = 30
    table.arm(moved)
    assert table.due(50) == [other, moved]


def test_deadline_pushed_out_costs_the_heap_nothing_and_comes_up_at_its_new_time() -> None:
    table, (thing,) = armed(10)
    for at in range(11, 1000):
        thing.deadline_ns = at
        table.arm(thing)
    assert len(table._heap) == 1
    assert table.due(998) == []
    assert table.due(999) == [thing]


def test_deadline_moved_closer_comes_up_once_and_at_its_new_time() -> None:
    table, (thing,) = armed(100)
    thing.deadline_ns = 50
    table.arm(thing)
    assert table.next_ns == 50
    assert table.due(50) == [thing]
    assert table.due(100) == []  # not again, until it is armed again


def test_thing_armed_again_at_an_old_entrys_time_comes_up_once() -> None:
    table, (thing,) = armed(100)
    thing.deadline_ns = 50
    table.arm(thing)
    assert table.due(50) == [thing]
    thing.deadline_ns = 100
    table.arm(thing)
    assert table.due(100) == [thing]
    assert table.due(1000) == []


def test_thing_that_is_gone_does_not_come_up() -> None:
    table, (thing, other) = armed(10, 20)
    table.discard(thing)
    table.discard(Thing())  # never armed: nothing happens
    assert table.due(50) == [other]


def test_thing_whose_deadline_was_taken_away_does_not_come_up_until_it_has_one() -> None:
    table, (thing,) = armed(10)
    thing.deadline_ns = NEVER
    assert table.due(50) == []
    assert table.next_ns is None
    thing.deadline_ns = 60
    table.arm(thing)
    assert table.due(60) == [thing]


def test_things_that_go_soon_leave_no_pile_in_the_heap_and_the_others_come_up() -> None:
    table, things = armed(*range(10, 20))
    things[0].deadline_ns = 5
    table.arm(things[0])
    most = 0
    for at in range(2000):
        gone = Thing(100 + at)
        table.arm(gone)
        table.discard(gone)
        most = max(most, len(table._heap))
    assert most < 150
    assert table.next_ns == 5
    assert table.due(50) == things


class AgainstAScan(RuleBasedStateMachine):
    """A scan of all things is the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Deadlines[Thing] = Deadlines()
        self.things: list[Thing] = []
        self.now = 0

    @rule(after=st.integers(0, 50))
    def add(self, after: int) -> None:
        thing = Thing(self.now + after)
        self.things.append(thing)
        self.table.arm(thing)

    @rule(which=st.integers(0, 100), after=st.one_of(st.integers(0, 50), st.none()))
    def move(self, which: int, after: int | None) -> None:
        if self.things:
            thing = self.things[which % len(self.things)]
            thing.deadline_ns = NEVER if after is None else self.now + after
            self.table.arm(thing)

    @rule(which=st.integers(0, 100))
    def remove(self, which: int) -> None:
        if self.things:
            self.table.discard(self.things.pop(which % len(self.things)))

    @rule(after=st.integers(0, 30))
    def pass_time(self, after: int) -> None:
        self.now += after
        expected = [thing for thing in self.things if thing.deadline_ns <= self.now]
        found = self.table.due(self.now)
        assert sorted(map(id, found)) == sorted(map(id, expected))
        assert [thing.deadline_ns for thing in found] == sorted(thing.deadline_ns for thing in expected)
        for thing in found:
            thing.deadline_ns = NEVER

    @invariant()
    def next_is_never_too_late(self) -> None:
        waiting = [thing.deadline_ns for thing in self.things if thing.deadline_ns != NEVER]
        assert not waiting or (self.table.next_ns is not None and self.table.next_ns <= min(waiting))


TestAgainstAScan = AgainstAScan.TestCase
TestAgainstAScan.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
