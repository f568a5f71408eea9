"""Which blocks are reported, against the examples of the RFCs and a map of octets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.receive.reassembly import Reassembly
from tcpstack.core.receive.sack import MOST_BLOCKS, MOST_BLOCKS_WITH_TIMESTAMPS, SackBlocks

Block = tuple[int, int]


class Hearer:
    """What a receiver does with the two: a queue above RCV.NXT, and what to report of it."""

    def __init__(self, nxt: int, limit: int = 1000) -> None:
        self.nxt = nxt
        self.queue = Reassembly(limit)
        self.sack = SackBlocks()

    def hear(self, left: int, right: int) -> None:
        """A segment arrives with the octets from `left` to `right`."""
        if left < self.nxt:
            self.sack.on_duplicate(left, min(right, self.nxt))
        elif (held := self.queue.first_held(left, right)) is not None:
            self.sack.on_duplicate(*held)
        left = max(left, self.nxt)
        if right <= left:
            return
        if left > self.nxt:
            self.queue.insert(left, (bytes(right - left),))
            self.sack.on_text_above_gap(left, right)
            return
        self.nxt = right + sum(map(len, self.queue.take(right)))

    def report(self, room: int = MOST_BLOCKS) -> tuple[Block, ...]:
        return self.sack.blocks(self.nxt, self.queue.blocks, room)

    def hears(self, left: int, right: int, room: int = MOST_BLOCKS) -> tuple[int, tuple[Block, ...]]:
        """(SEG.ACK, the blocks) of the acknowledgement that this segment triggers."""
        self.hear(left, right)
        return self.nxt, self.report(room)


# -- the queue's blocks

step_names = st.sampled_from(["insert", "insert", "take", "trim"])
steps = st.lists(st.tuples(step_names, st.integers(0, 60), st.integers(1, 9)), max_size=40)


@settings(deadline=None, max_examples=400)
@given(steps, st.integers(1, 30))
def test_blocks_of_the_queue_are_its_ranges_joined(script: list[tuple[str, int, int]], limit: int) -> None:
    queue = Reassembly(limit)
    for step, left, size in script:
        if step == "insert":
            held = set().union(*(range(*each) for each in queue.ranges))
            first = runs(held & set(range(left, left + size)))[:1]
            assert queue.first_held(left, left + size) == (first[0] if first else None)
            queue.insert(left, (bytes(size),))
        elif step == "take":
            queue.take(left)
        else:
            queue.trim(left)
        assert queue.blocks == runs(set().union(*(range(*each) for each in queue.ranges)))


# -- RFC 2018


def test_nothing_held_and_no_duplicate_reports_nothing() -> None:
    it = Hearer(1000)
    assert it.report() == ()
    assert it.hears(1000, 1500) == (1500, ())


def test_every_other_segment_lost_reports_the_latest_block_first_and_repeats_three() -> None:
    """RFC 2018 7, case 3, one segment of eight and then each second one."""
    it = Hearer(5000)
    assert it.hears(5000, 5500) == (5500, ())
    assert it.hears(6000, 6500) == (5500, ((6000, 6500),))
    assert it.hears(7000, 7500) == (5500, ((7000, 7500), (6000, 6500)))
    assert it.hears(8000, 8500) == (5500, ((8000, 8500), (7000, 7500), (6000, 6500)))
    # The fourth is received out of order, and then the second.
    assert it.hears(6500, 7000) == (5500, ((6000, 7500), (8000, 8500)))
    assert it.hears(5500, 6000) == (7500, ((8000, 8500),))
    assert it.hears(7500, 8000) == (8500, ())


def test_segments_that_touch_are_one_block() -> None:
    """RFC 2018 3: "the bytes just below the block and just above the block have not been received"."""
    it = Hearer(0)
    assert it.hears(10, 20)[1] == ((10, 20),)
    assert it.hears(20, 30)[1] == ((10, 30),)
    assert it.hears(5, 10)[1] == ((5, 30),)
    assert it.hears(40, 50)[1] == ((40, 50), (5, 30))
    assert it.hears(25, 45)[1] == ((25, 30), (5, 50))  # the first run of duplicates goes in front


@pytest.mark.parametrize("room", [1, 2, MOST_BLOCKS_WITH_TIMESTAMPS, MOST_BLOCKS])
def test_the_latest_blocks_are_reported_as_far_as_there_is_room(room: int) -> None:
    it = Hearer(0)
    for left in range(10, 100, 10):
        expected = [(start, start + 5) for start in range(left, 0, -10)][:room]
        assert it.hears(left, left + 5, room)[1] == tuple(expected)


def test_no_room_reports_nothing_and_keeps_the_duplicate_for_later() -> None:
    it = Hearer(50)
    it.hear(40, 50)
    assert it.report(0) == ()
    assert it.report() == ((40, 50),)


def test_a_segment_that_advances_is_not_reported_and_the_others_are_repeated() -> None:
    it = Hearer(0)
    it.hears(20, 30)
    it.hears(40, 50)
    assert it.hears(0, 10) == (10, ((40, 50), (20, 30)))


def test_blocks_not_among_the_last_changes_fill_what_room_is_left() -> None:
    it = Hearer(0)
    for left in range(10, 70, 10):
        it.hears(left, left + 5)
    it.hears(35, 40)
    it.hears(45, 50)
    it.hears(55, 60)  # the last four changes are one block by now
    first, *others = it.report()
    assert first == (30, 65)
    assert sorted(others) == [(10, 15), (20, 25)]


def test_text_that_was_not_kept_is_not_reported() -> None:
    it = Hearer(0, limit=2)
    it.hears(10, 15)
    it.hears(20, 25)
    assert it.hears(30, 35)[1] == ((20, 25), (10, 15))
    assert it.hears(24, 40)[1] == ((24, 25), (20, 25), (10, 15))


def test_queue_that_is_dropped_is_not_reported() -> None:
    it = Hearer(0)
    it.hears(10, 20)
    it.hear(15, 18)
    it.queue.trim(0)
    assert it.report() == ()
    assert it.hears(30, 40)[1] == ((30, 40),)


def test_several_segments_between_acknowledgements_are_all_reported() -> None:
    it = Hearer(0)
    for left in (10, 20, 30):
        it.hear(left, left + 5)
    assert it.report() == ((30, 35), (20, 25), (10, 15))


# -- RFC 2883


def test_duplicate_below_rcv_nxt_is_reported_once() -> None:
    """Example 1."""
    it = Hearer(3000)
    it.hears(3000, 3500)
    it.hears(3500, 4000)
    assert it.hears(3000, 3500) == (4000, ((3000, 3500),))
    assert it.report() == ()


def test_duplicate_below_rcv_nxt_goes_before_what_is_held() -> None:
    """Example 2."""
    it = Hearer(4000)
    assert it.hears(4500, 5000) == (4000, ((4500, 5000),))
    assert it.hears(3000, 3500) == (4000, ((3000, 3500), (4500, 5000)))
    assert it.report() == ((4500, 5000),)


def test_duplicate_of_an_out_of_order_segment_is_followed_by_its_block() -> None:
    """Example 3."""
    it = Hearer(4000)
    it.hears(4500, 5000)
    assert it.hears(5000, 5500) == (4000, ((4500, 5500),))
    assert it.hears(5000, 5500) == (4000, ((5000, 5500), (4500, 5500)))
    assert it.report() == ((4500, 5500),)


def test_single_duplicate_subsegment_of_a_larger_segment() -> None:
    """Example 4."""
    it = Hearer(1000)
    it.hears(2000, 2500)
    assert it.hears(1000, 1500) == (1500, ((2000, 2500),))
    assert it.hears(1000, 2000) == (2500, ((1000, 1500),))


def test_of_two_duplicate_subsegments_the_first_is_reported() -> None:
    """Example 5."""
    it = Hearer(1000)
    it.hears(3000, 3500)
    it.hears(1000, 1500)
    assert it.hears(2000, 2500) == (1500, ((2000, 2500), (3000, 3500)))
    assert it.hears(1000, 2500) == (2500, ((1000, 1500), (3000, 3500)))


def test_of_two_duplicate_subsegments_above_a_gap_the_first_and_the_whole_block_are_reported() -> None:
    """Example 6, with a gap between the two (the RFC's figure tells as two blocks what is one)."""
    it = Hearer(1000)
    it.hears(3500, 4000)
    it.hears(1500, 2000)
    it.hears(2250, 2500)
    assert it.hears(1500, 3000) == (1000, ((1500, 2000), (1500, 3000), (3500, 4000)))


def test_two_duplicates_before_an_acknowledgement_report_the_latest() -> None:
    """RFC 2883 4, rule 1: "received by the receiver in the most recent packet"."""
    it = Hearer(100)
    it.hear(10, 20)
    it.hear(30, 40)
    assert it.report() == ((30, 40),)


def test_duplicate_of_a_block_that_was_filled_up_to_since_lies_below_the_acknowledgement() -> None:
    it = Hearer(0)
    it.hears(10, 20)
    it.hear(10, 20)
    assert it.hears(0, 10) == (20, ((10, 20),))


def test_duplicate_above_rcv_nxt_with_room_for_one_block_is_told_as_held_only() -> None:
    """Alone it would say that nothing around it has arrived."""
    it = Hearer(0)
    it.hears(10, 30)
    assert it.hears(15, 20, room=1)[1] == ((10, 30),)
    assert it.report() == ((10, 30),)


# -- whatever arrives

segments = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 12), st.booleans()), max_size=60)


def runs(octets: set[int]) -> list[Block]:
    """The maximal runs of these numbers, as blocks."""
    starts = sorted(n for n in octets if n - 1 not in octets)
    ends = sorted(n + 1 for n in octets if n + 1 not in octets)
    return list(zip(starts, ends, strict=True))


@settings(deadline=None, max_examples=400)
@given(segments, st.integers(1, MOST_BLOCKS))
def test_whatever_arrives_the_blocks_are_true_and_the_latest_comes_first(
    script: list[tuple[int, int, bool]], room: int
) -> None:
    """All octets of all segments in a set; the acknowledgement of some of the segments is delayed (its flag)."""
    it = Hearer(0)
    arrived: set[int] = set()
    events: list[int] = []  # an octet of each block that changed or was duplicated, the latest last
    duplicate: list[Block] = []
    for left, size, acknowledged in script:
        right = left + size
        before = it.nxt
        octets = set(range(left, right))
        duplicate = runs(octets & arrived)[:1] or duplicate
        it.hear(left, right)
        arrived |= octets
        if it.nxt == before and right > before:
            events.append(left)
        if not acknowledged:
            continue
        reported = it.report(room)
        above = [each for each in runs(arrived) if each[0] > it.nxt]
        dsack, blocks = split(reported, it.nxt)
        assert len(set(blocks)) == len(blocks) == min(room - len(dsack), len(above))
        assert set(blocks) <= set(above)  # true, contiguous and isolated
        is_told = bool(duplicate) and (duplicate[0][0] < it.nxt or room > 1)
        assert dsack == (duplicate if is_told else [])
        if dsack and dsack[0][0] > it.nxt:
            events.append(dsack[0][0])
            assert blocks[0][0] <= dsack[0][0] < dsack[0][1] <= blocks[0][1]
        elif duplicate and duplicate[0][0] > it.nxt:
            events.append(duplicate[0][0])
        duplicate = []
        # The last changes, each in as many reports as there is room.
        latest = [each for octet in reversed(events[-(room - len(dsack)) :] if room > len(dsack) else [])
                  for each in above if each[0] <= octet < each[1]]  # fmt: skip
        assert set(latest) <= set(blocks)
        if latest and not dsack:
            assert blocks[0] == latest[0] or events[-1] <= it.nxt


def split(reported: tuple[Block, ...], nxt: int) -> tuple[list[Block], list[Block]]:
    """(the D-SACK, the others), as a sender tells them apart (RFC 2883 5)."""
    if not reported:
        return [], []
    (left, right), rest = reported[0], reported[1:]
    if left < nxt or (rest and rest[0][0] <= left and right <= rest[0][1]):
        return [reported[0]], list(rest)
    return [], list(reported)


@settings(deadline=None, max_examples=300)
@given(segments, st.sampled_from([MOST_BLOCKS_WITH_TIMESTAMPS, MOST_BLOCKS]), st.data())
def test_sender_knows_the_whole_queue_though_acknowledgements_are_lost(
    script: list[tuple[int, int, bool]], room: int, data: st.DataObject
) -> None:
    """RFC 2018 4: each block is in as many successive reports as it has room (one fewer beside a D-SACK).

    So as long as no more than room - 2 acknowledgements in a row are lost, their union is all that is held.
    """
    it = Hearer(0)
    known: set[int] = set()
    lost = 0
    for left, size, _ in script:
        nxt, reported = it.hears(left, left + size, room)
        if lost < room - 2 and data.draw(st.booleans()):
            lost += 1
            continue
        lost = 0
        known |= set(range(nxt)).union(*(range(*each) for each in reported))
        held = set(range(nxt)).union(*(range(*each) for each in it.queue.blocks))
        assert known == held
