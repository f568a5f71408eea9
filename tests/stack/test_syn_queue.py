"""The SYN queue: records found by name, their timers in order, and what they replaced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.config import Config
from tcpstack.core.listen import SynRecord
from tcpstack.core.segment import SYN, FourTuple, Options, Segment
from tcpstack.core.timers import NEVER
from tcpstack.core.timewait import TimeWait
from tcpstack.stack.syn_queue import SynQueue

HERE, THERE = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])
CONFIG = Config()


def name(port: int) -> FourTuple:
    return (HERE, 80, THERE, port)


def a_record(port: int, deadline_ns: int) -> SynRecord:
    syn = Segment(THERE, port, HERE, 80, 7, 0, SYN, 1000, options=Options(mss=1400))
    record = SynRecord(syn, 5, 1500, CONFIG, 0)
    record.deadline_ns = deadline_ns
    return record


def a_queue(*records: SynRecord) -> SynQueue:
    queue = SynQueue()
    for record in records:
        queue.add(record, None)
    return queue


def ports(records: list[SynRecord]) -> list[int]:
    return [record.flow[3] for record in records]


def test_empty_queue_waits_for_nothing() -> None:
    queue = SynQueue()
    assert (len(queue), list(queue), queue.deadline_ns, queue.due(1 << 62)) == (0, [], NEVER, [])


def test_record_is_found_by_its_name_alone() -> None:
    queue = a_queue(a_record(1, 50), a_record(2, 40))
    assert list(queue) == [name(1), name(2)]
    assert name(1) in queue
    assert name(3) not in queue
    assert queue.get(name(3)) is None
    found = queue.get(name(2))
    assert found is not None
    assert found.pack() == a_record(2, 40).pack()


def test_records_come_up_in_order_at_their_time_and_again_once_rearmed() -> None:
    queue = a_queue(a_record(1, 50), a_record(2, 40), a_record(3, 60))
    assert queue.deadline_ns == 40
    assert queue.due(39) == []
    found = queue.due(50)
    assert ports(found) == [2, 1]
    for record in found:
        record.deadline_ns += 100
        queue.rearm(record)
    assert ports(queue.due(1000)) == [3, 2, 1]


def test_records_of_one_instant_come_up_in_the_same_order_however_they_came() -> None:
    assert ports(a_queue(a_record(2, 9), a_record(1, 9)).due(9)) == ports(
        a_queue(a_record(1, 9), a_record(2, 9)).due(9)
    )


def test_record_that_is_gone_does_not_come_up() -> None:
    queue = a_queue(a_record(1, 50), a_record(2, 50))
    assert queue.remove(name(1)) is None
    assert ports(queue.due(50)) == [2]


def test_record_removed_and_made_again_in_one_instant_comes_up_once() -> None:
    queue = a_queue(a_record(1, 50))
    queue.remove(name(1))
    queue.add(a_record(1, 50), None)
    assert ports(queue.due(50)) == [1]
    assert queue.deadline_ns == NEVER


def test_record_made_again_later_comes_up_at_its_own_time() -> None:
    queue = a_queue(a_record(1, 50))
    queue.remove(name(1))
    queue.add(a_record(1, 70), None)
    assert queue.due(69) == []
    assert ports(queue.due(70)) == [1]


def test_what_a_segment_changed_is_kept_once_updated() -> None:
    queue = a_queue(a_record(1, 50))
    record = queue.get(name(1))
    assert record is not None
    record.attempts = 3
    queue.update(record)
    assert [record.attempts for record in queue.due(50)] == [3]


def test_what_a_record_replaced_is_given_back_once() -> None:
    entry = TimeWait(name(1), 1, 2, 3, 4, 40, 10)
    queue = SynQueue()
    queue.add(a_record(1, 50), entry)
    assert queue.remove(name(1)) is entry
    queue.add(a_record(1, 50), None)
    assert queue.remove(name(1)) is None


def test_handshakes_that_end_at_once_leave_no_pile_of_timers() -> None:
    queue = a_queue(*(a_record(port, 50) for port in range(10)))
    most = 0
    for turn in range(2000):
        queue.add(a_record(100, 60 + turn), None)
        queue.remove(name(100))
        most = max(most, len(queue._heap))
    assert most < 150
    assert ports(queue.due(50)) == list(range(10))


verbs = st.sampled_from(["add", "remove", "wait"])


@given(st.lists(st.tuples(verbs, st.integers(0, 5), st.integers(1, 9)), max_size=80))
def test_queue_is_a_dictionary_with_timers(script: list[tuple[str, int, int]]) -> None:
    queue = SynQueue()
    oracle: dict[int, int] = {}
    now = 0
    for kind, port, number in script:
        if kind == "add" and port not in oracle:
            oracle[port] = now + number
            queue.add(a_record(port, now + number), None)
        elif kind == "remove" and port in oracle:
            del oracle[port]
            queue.remove(name(port))
        elif kind == "wait":
            now += number
            found = queue.due(now)
            assert ports(found) == sorted((p for p, at in oracle.items() if at <= now), key=lambda p: (oracle[p], p))
            for record in found:
                record.deadline_ns = oracle[record.flow[3]] = now + 3
                queue.rearm(record)
        assert len(queue) == len(oracle)
        assert queue.deadline_ns <= min(oracle.values(), default=NEVER)
