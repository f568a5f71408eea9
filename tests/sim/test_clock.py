from __future__ import annotations

from tcpstack.sim.clock import START_NS, Clock


def test_things_happen_in_order_of_time_and_then_of_asking():
    clock, happened = Clock(), []
    for delay, name in ((20, "late"), (10, "first"), (10, "second"), (0, "now")):
        clock.call_after(delay, lambda name=name: happened.append((clock.now_ns - START_NS, name)))
    clock.run()
    assert happened == [(0, "now"), (10, "first"), (10, "second"), (20, "late")]


def test_run_until_stops_there_and_time_is_then():
    clock, happened = Clock(), []
    clock.call_after(10, lambda: happened.append(1))
    clock.call_after(11, lambda: happened.append(2))
    clock.run(START_NS + 10)
    assert happened == [1]
    clock.run(START_NS + 10)
    assert (clock.now_ns, clock.next_ns) == (START_NS + 10, START_NS + 11)


def test_cancelled_thing_never_happens_and_is_not_waited_for():
    clock, happened = Clock(), []
    clock.call_after(10, lambda: happened.append(1)).cancel()
    assert clock.next_ns is None
    assert not clock.step()
    assert happened == []


def test_what_is_asked_for_in_the_past_happens_now_behind_what_is_due():
    clock, happened = Clock(), []
    clock.run(START_NS + 100)
    clock.call_at(START_NS + 100, lambda: happened.append("due"))
    clock.call_at(START_NS, lambda: happened.append("past"))
    clock.run(START_NS + 100)
    assert happened == ["due", "past"]


def test_thing_may_ask_for_the_next_at_the_same_instant():
    clock, happened = Clock(), []
    clock.call_after(5, lambda: (happened.append(1), clock.call_after(0, lambda: happened.append(2))))
    clock.run(START_NS + 5)
    assert happened == [1, 2]


def test_step_goes_no_further_than_it_may():
    clock, happened = Clock(), []
    clock.call_after(5, lambda: happened.append("cancelled")).cancel()
    clock.call_after(10, lambda: happened.append("due"))
    assert not clock.step(START_NS + 9)
    assert (clock.now_ns, happened) == (START_NS, [])
    assert clock.step(START_NS + 10)
    assert (clock.now_ns, happened, clock.happened) == (START_NS + 10, ["due"], 1)
