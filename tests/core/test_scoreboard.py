"""What is outstanding, range by range, against a table of octets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.send.scoreboard import Scoreboard, Sent

FIRST = (1 << 32) - 40  # the numbers cross 2^32


@dataclass
class Octet:
    sent_ns: int
    resent: bool = False
    sacked: bool = False
    lost: bool = False


class Table:
    """The same as a Scoreboard, an octet at a time, and the Scoreboard beside it."""

    def __init__(self) -> None:
        self.board = Scoreboard()
        self.octets: dict[int, Octet] = {}
        self.una = self.nxt = FIRST
        self.now_ns = 0

    def within(self, offset: int, size: int) -> tuple[int, int]:
        """`size` octets at `offset`, or what of them is outstanding."""
        left = min(self.una + offset, self.nxt)
        return left, min(left + size, self.nxt)

    # -- each as the Scoreboard has it

    def on_sent(self, size: int) -> None:
        self.board.on_sent(self.nxt, self.nxt + size, self.now_ns)
        for seq in range(self.nxt, self.nxt + size):
            self.octets[seq] = Octet(self.now_ns)
        self.nxt += size

    def on_resent(self, offset: int, size: int) -> None:
        left, right = self.within(offset, size)
        self.board.on_resent(left, right, self.now_ns)
        for seq in range(left, right):
            octet = self.octets[seq]
            octet.sent_ns, octet.resent, octet.lost = self.now_ns, True, False

    def resend_lost(self, size: int) -> None:
        """As a sender does: the first range that is lost, or its first part."""
        if (lost := self.board.next_lost()) is not None:
            self.on_resent(lost.seq - self.una, min(size, lost.end - lost.seq))

    def hear(self, ack: int, blocks: list[tuple[int, int]]) -> None:
        """An acknowledgement of `ack` octets more, with blocks: all that it tells is looked at when all is heard."""
        expected = []
        una = min(self.una + ack, self.nxt)
        news = self.board.acknowledge(una)
        for seq in range(self.una, una):
            octet = self.octets.pop(seq)
            if not octet.sacked:
                expected.append((seq, octet.sent_ns, octet.resent))
        self.una = una
        for offset, size in blocks:
            left, right = self.within(offset, size)
            news += self.board.sack(left, right)
            for seq in range(left, right):
                octet = self.octets[seq]
                if not octet.sacked:
                    expected.append((seq, octet.sent_ns, octet.resent))
                octet.sacked, octet.lost = True, False
        found = [(seq, each.sent_ns, each.resent) for each in news for seq in range(each.seq, each.end)]
        assert sorted(found) == sorted(expected)
        assert all(each.sacked and not each.lost for each in news)

    def renege(self) -> None:
        self.board.reneged()
        for each in self.board:
            for seq in range(each.seq, each.end):
                octet = self.octets[seq]
                if octet.sacked:
                    # The board forgets which part of what has arrived was sent when, but not that it was sent again.
                    octet.sacked = False
                    octet.sent_ns = each.sent_ns
                    octet.resent = each.resent

    def mark_lost(self, number: int) -> None:
        ranges = list(self.board)
        if ranges:
            each = ranges[number % len(ranges)]
            self.board.mark_lost(each)
            self.lose(each.seq, each.end)

    def mark_lost_between(self, offset: int, size: int) -> None:
        left, right = self.within(offset, size)
        self.board.mark_lost_between(left, right)
        self.lose(left, right)

    def lose(self, left: int, right: int) -> None:
        for seq in range(left, right):
            self.octets[seq].lost = self.octets[seq].lost or not self.octets[seq].sacked

    def unmark_lost(self) -> None:
        self.board.unmark_lost()
        for octet in self.octets.values():
            octet.lost = False

    # -- what has to be so after each

    def check(self) -> None:
        board, octets = self.board, self.octets
        position = self.una
        for each in board:
            assert each.seq == position < each.end  # in order, without gaps
            for seq in range(each.seq, each.end):
                octet = octets[seq]
                assert (each.resent, each.sacked, each.lost) == (octet.resent, octet.sacked, octet.lost) or octet.sacked
                assert (octet.sacked, octet.lost) == (each.sacked, each.lost)
                assert each.sent_ns == octet.sent_ns or octet.sacked
            position = each.end
        assert position == self.nxt
        assert board.sacked_bytes == sum(octet.sacked for octet in octets.values())
        assert board.lost_bytes == sum(octet.lost for octet in octets.values())
        lost = [seq for seq, octet in octets.items() if octet.lost]
        first = board.next_lost()
        assert (first.seq if first else None) == (min(lost) if lost else None)
        self.check_awaited()

    def check_awaited(self) -> None:
        awaited = list(self.board.awaited())
        order = [(each.sent_ns, each.seq) for each in awaited]
        assert order == sorted(order)
        found = {seq for each in awaited for seq in range(each.seq, each.end)}
        assert found == {seq for seq, octet in self.octets.items() if not octet.sacked and not octet.lost}


offsets = st.integers(0, 60)
sizes = st.integers(0, 25)
spans = st.tuples(offsets, sizes)
script = st.lists(
    st.one_of(
        st.tuples(st.just("on_sent"), st.integers(1, 30)),
        st.tuples(st.just("on_sent"), st.integers(1, 30)),
        st.tuples(st.just("on_resent"), offsets, sizes),
        st.tuples(st.just("resend_lost"), st.integers(1, 30)),
        st.tuples(st.just("hear"), st.integers(0, 10), st.lists(spans, max_size=3)),
        st.tuples(st.just("hear"), st.integers(0, 10), st.lists(spans, max_size=3)),
        st.tuples(st.just("renege")),
        st.tuples(st.just("mark_lost"), st.integers(0, 20)),
        st.tuples(st.just("mark_lost_between"), offsets, sizes),
        st.tuples(st.just("unmark_lost")),
        st.tuples(st.just("wait"), st.integers(1, 3)),
    ),
    max_size=50,
)


def play(steps: list[tuple[Any, ...]]) -> Table:
    table = Table()
    for name, *values in steps:
        if name == "wait":
            table.now_ns += values[0]
        else:
            getattr(table, name)(*values)
        table.check()
    return table


@settings(deadline=None, max_examples=600)
@given(script)
def test_whatever_is_sent_heard_and_lost_the_board_is_a_table_of_octets(steps: list[tuple[Any, ...]]) -> None:
    play(steps)


@settings(deadline=None, max_examples=300)
@given(script)
def test_each_awaited_range_is_told_of_once(steps: list[tuple[Any, ...]]) -> None:
    table = play(steps)
    awaited = [each.seq for each in table.board.awaited()]
    assert len(awaited) == len(set(awaited))


def board_of(*sizes: int, now_ns: int = 0) -> Scoreboard:
    """Ranges of these sizes from 0, each sent a nanosecond after the one before."""
    board = Scoreboard()
    seq = 0
    for number, size in enumerate(sizes):
        board.on_sent(seq, seq + size, now_ns + number)
        seq += size
    return board


def edges(ranges: Any) -> list[tuple[int, int]]:
    return [(each.seq, each.end) for each in ranges]


def test_a_flush_is_one_range_until_something_is_said_of_a_part() -> None:
    board = Scoreboard()
    for seq in range(0, 1000, 100):
        board.on_sent(seq, seq + 100, 5)
    assert edges(board) == [(0, 1000)]
    board.on_sent(1000, 1100, 6)
    assert edges(board) == [(0, 1000), (1000, 1100)]
    board.sack(300, 400)
    assert edges(board) == [(0, 300), (300, 400), (400, 1000), (1000, 1100)]


def test_new_octets_do_not_join_what_was_said_something_of() -> None:
    for mark in ("sack", "mark_lost_between", "on_resent"):
        board = board_of(10)
        getattr(board, mark)(0, 10, *([0] if mark == "on_resent" else []))
        board.on_sent(10, 20, 0)
        assert edges(board) == [(0, 10), (10, 20)]
        assert (board.sacked_bytes, board.lost_bytes) == (10 * (mark == "sack"), 10 * (mark == "mark_lost_between"))


def test_a_block_that_grows_stays_one_range() -> None:
    board = board_of(*[10] * 20)
    for seq in range(50, 150, 10):
        board.sack(50, seq + 10)
    assert edges(board) == [*((seq, seq + 10) for seq in range(0, 50, 10)), (50, 150),
                            *((seq, seq + 10) for seq in range(150, 200, 10))]  # fmt: skip


def test_news_of_a_block_beside_one_that_was_known_is_the_new_octets_only() -> None:
    """What an acknowledgement delivers is counted, and must not be counted again with its neighbours."""
    board = board_of(10, 10, 10)
    board.sack(20, 30)
    assert edges(board.sack(10, 20)) == [(10, 20)]


def test_news_of_two_ranges_in_one_block_is_each_of_them() -> None:
    board = board_of(10, 10, 10)
    assert edges(board.sack(10, 30)) == [(10, 20), (20, 30)]


def test_news_of_overlapping_blocks_of_one_acknowledgement_stays_what_it_was() -> None:
    board = board_of(10, 10, 10)
    news = board.sack(10, 20)
    news += board.sack(5, 15)
    assert sorted(edges(news)) == [(5, 10), (10, 20)]


def test_what_was_sent_again_is_remembered_so_where_the_peer_reneges() -> None:
    """Karn: if it arrives once more, no one knows which of the two it was."""
    board = board_of(10, 10)
    board.mark_lost_between(10, 20)
    board.on_resent(10, 20, 7)
    board.sack(0, 20)
    board.reneged()
    assert all(each.resent for each in board if each.end > 10)
    assert all(each.sent_ns == 7 for each in board if each.end > 10)


def test_transfer_without_loss_that_never_pauses_does_not_grow_the_board() -> None:
    """There is always something outstanding, and nothing ever asks what is awaited."""
    board = Scoreboard()
    for turn in range(2000):
        board.on_sent(turn * 10, turn * 10 + 10, turn)
        if turn:
            board.acknowledge(turn * 10)
    assert len(board) == 1
    assert len(board._by_time) < 10


def test_losses_undone_again_and_again_do_not_grow_the_board() -> None:
    board = board_of(10, 10)
    for _ in range(1000):
        board.mark_lost_between(10, 20)
        board.unmark_lost()
    assert len(board._by_time) < 10


def test_resending_goes_to_the_end_of_the_order_of_time() -> None:
    board = board_of(10, 10, 10)
    assert edges(board.awaited()) == [(0, 10), (10, 20), (20, 30)]
    board.mark_lost_between(0, 10)
    assert edges(board.awaited()) == [(10, 20), (20, 30)]
    board.on_resent(0, 10, 9)
    assert edges(board.awaited()) == [(10, 20), (20, 30), (0, 10)]
    board.on_sent(30, 40, 9)
    assert edges(board.awaited()) == [(10, 20), (20, 30), (0, 10), (30, 40)]


def test_first_lost_range_is_the_next_to_go_and_shrinks_as_it_goes() -> None:
    board = board_of(30, 30)
    assert board.next_lost() is None
    board.mark_lost_between(10, 50)
    lost = board.next_lost()
    assert isinstance(lost, Sent)
    assert edges([lost]) == [(10, 30)]
    board.on_resent(10, 17, 5)
    assert board.lost_bytes == 33
    lost = board.next_lost()
    assert lost is not None
    assert edges([lost]) == [(17, 30)]


def test_what_is_acknowledged_or_reported_is_lost_no_longer() -> None:
    board = board_of(10, 10, 10)
    board.mark_lost_between(0, 30)
    assert board.lost_bytes == 30
    board.sack(15, 20)
    assert (board.lost_bytes, board.sacked_bytes) == (25, 5)
    board.acknowledge(12)
    assert (board.lost_bytes, board.sacked_bytes) == (13, 5)
    board.acknowledge(30)
    assert (board.lost_bytes, board.sacked_bytes, len(board)) == (0, 0, 0)


def test_marks_that_repeat_count_once() -> None:
    board = board_of(10, 10)
    for _ in range(2):
        board.sack(0, 10)
        board.mark_lost_between(0, 20)
    assert (board.lost_bytes, board.sacked_bytes) == (10, 10)


def test_a_sent_range_shows_its_marks() -> None:
    sent = Sent(1, 5, 9)
    assert repr(sent) == "<1..5 at 9 >"
    sent.sacked = sent.lost = sent.resent = True
    assert repr(sent) == "<1..5 at 9 SLR>"
