"""What we report of what has arrived: SACK (RFC 2018) and D-SACK (RFC 2883), as segments on the wire."""

from __future__ import annotations

import pytest

from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.segment import ACK, FIN, SYN, Options, Segment
from tests.scripted import IRS, ISS, Scripted

MSS = 1460
Blocks = tuple[tuple[int, int], ...]


def peer(sack: bool = True, irs: int = IRS, config: Config | None = None) -> tuple[Scripted, Connection]:
    host = Scripted()
    options = Options(mss=MSS, sack_permitted=sack)
    return host, host.established(options=options, irs=irs, config=config)


def text(host: Scripted, first: int, last: int | None = None, irs: int = IRS) -> Segment:
    """The hundreds of octets from number `first` up to `last`."""
    last = first + 1 if last is None else last
    return host.segment(ACK, irs + 1 + 100 * first, ISS + 1, text=bytes(100 * (last - first)))


def reported(segment: Segment, irs: int = IRS) -> tuple[int, Blocks]:
    """(acknowledged, blocks), in hundreds."""
    sack = segment.options.sack if segment.options is not None else ()

    def hundreds(number: int) -> int:
        offset = (number - irs - 1) % (1 << 32)
        assert offset % 100 == 0
        return offset // 100

    assert segment.flags == ACK
    return hundreds(segment.ack), tuple((hundreds(left), hundreds(right)) for left, right in sack)


@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True), (False, False)])
def test_nothing_is_reported_unless_both_ends_permit_it(ours: bool, theirs: bool) -> None:
    host, _ = peer(theirs, config=Config(sack=ours))
    [duplicate] = host.hear(text(host, 2))
    assert reported(duplicate) == (0, ())
    [again] = host.hear(text(host, 2))
    assert reported(again) == (0, ())


def test_syn_offers_it_and_an_answer_only_what_was_offered() -> None:
    host = Scripted()
    host.connect()
    assert host.sent[-1].segment.options.sack_permitted
    for offered in (True, False):
        other = Scripted()
        other.listen(80)
        [answer] = other.hear(other.segment(SYN, IRS, options=Options(mss=MSS, sack_permitted=offered)))
        assert answer.options.sack_permitted == offered


def test_sack_permitted_outside_a_syn_changes_nothing() -> None:
    host, _ = peer(sack=False)
    segment = text(host, 2)
    segment.options = Options(sack_permitted=True)
    [duplicate] = host.hear(segment)
    assert reported(duplicate) == (0, ())


def test_text_above_a_gap_is_reported_the_latest_block_first() -> None:
    host, _ = peer()
    assert [reported(s) for s in host.hear(text(host, 2))] == [(0, ((2, 3),))]
    assert [reported(s) for s in host.hear(text(host, 6))] == [(0, ((6, 7), (2, 3)))]
    assert [reported(s) for s in host.hear(text(host, 3))] == [(0, ((2, 4), (6, 7)))]
    assert [reported(s) for s in host.hear(text(host, 10), text(host, 11))] == [
        (0, ((10, 11), (2, 4), (6, 7))),
        (0, ((10, 12), (2, 4), (6, 7))),
    ]


def test_at_most_four_blocks_fit_and_each_is_reported_more_than_once() -> None:
    host, _ = peer()
    seen: dict[tuple[int, int], int] = {}
    for first in range(2, 20, 2):
        [duplicate] = host.hear(text(host, first))
        ack, blocks = reported(duplicate)
        assert (ack, blocks[0], len(blocks)) == (0, (first, first + 1), min(first // 2, 4))
        for block in blocks:
            seen[block] = seen.get(block, 0) + 1
    assert all(count >= 3 for block, count in seen.items() if block[0] < 14)


def test_filled_gap_is_acknowledged_with_what_is_left_above() -> None:
    host, connection = peer()
    host.hear(text(host, 1), text(host, 3))
    [answer] = host.hear(text(host, 0))
    assert reported(answer) == (2, ((3, 4),))
    [answer] = host.hear(text(host, 2))
    assert reported(answer) == (4, ())
    assert host.read(connection) == bytes(400)


def test_text_below_that_comes_again_is_reported_once() -> None:
    host, _ = peer()
    host.hear(text(host, 0, 20))
    [answer] = host.hear(text(host, 4, 6))
    assert reported(answer) == (20, ((4, 6),))
    [after] = host.hear(text(host, 22))
    assert reported(after) == (20, ((22, 23),))


def test_text_above_a_gap_that_comes_again_is_reported_before_its_block() -> None:
    host, _ = peer()
    host.hear(text(host, 5, 8), text(host, 10))
    [answer] = host.hear(text(host, 6))
    assert reported(answer)[1][:2] == ((6, 7), (5, 8))
    [answer] = host.hear(text(host, 11))
    assert reported(answer) == (0, ((10, 12), (5, 8)))


def test_text_that_is_new_in_part_is_taken_and_the_old_part_reported() -> None:
    host, connection = peer()
    host.hear(text(host, 0, 4))
    host.wait(50_000_000)
    [answer] = host.hear(text(host, 2, 6))
    assert reported(answer) == (6, ((2, 4),))
    assert len(host.read(connection)) == 600


def test_each_of_several_that_come_again_is_reported() -> None:
    host, _ = peer()
    host.hear(text(host, 0, 10))
    host.wait(50_000_000)
    answers = host.hear(text(host, 1), text(host, 3), text(host, 5))
    assert [reported(s) for s in answers] == [(10, ((1, 2),)), (10, ((3, 4),)), (10, ((5, 6),))]


def test_fin_that_comes_again_is_no_text() -> None:
    host, _ = peer()
    fin = host.segment(ACK | FIN, IRS + 1, ISS + 1)
    host.hear(fin)
    [answer] = host.hear(fin)
    assert answer.options is None or not answer.options.sack


def test_numbers_of_blocks_wrap() -> None:
    irs = (1 << 32) - 250
    host, _ = peer(irs=irs)
    [duplicate] = host.hear(text(host, 1, 4, irs))
    assert reported(duplicate, irs) == (0, ((1, 4),))
    left, right = duplicate.options.sack[0]
    assert right < left


def test_answer_that_carries_text_has_room_for_it_and_the_report_is_not_forgotten() -> None:
    host, connection = peer()
    host.hear(text(host, 2))
    assert [s.payload_len for s in host.send(connection, bytes(MSS))] == [MSS]
    [duplicate] = host.hear(text(host, 4))
    assert reported(duplicate)[1] == ((4, 5), (2, 3))


def test_window_update_repeats_the_blocks() -> None:
    host, connection = peer(config=Config(receive_buffer_bytes=4000))
    host.hear(text(host, 0, 25))
    host.hear(text(host, 30))
    count = len(host.sent)
    host.read(connection)
    [update] = host.since(count)
    assert reported(update)[1] == ((30, 31),)


def test_superpacket_above_a_gap_is_one_report() -> None:
    host, connection = peer()
    segment = text(host, 10, 40)
    segment.gso_size = 100
    connection.on_segment(segment, host.now_ns)
    answers = connection.transmit(host.now_ns, 1 << 20)
    assert [reported(s) for s in answers] == [(0, ((10, 40),))]


def test_text_beyond_the_window_is_not_reported() -> None:
    host, _ = peer(config=Config(receive_buffer_bytes=1000))
    answers = host.hear(text(host, 5, 30))
    [(_, blocks)] = [reported(s) for s in answers]
    assert all(right <= 11 for _, right in blocks)
