"""Segments of a batch that follow each other are joined, and nothing else is: the engine hears the same."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, URG, Options, Segment, TimestampsAlone
from tcpstack.stack.coalescing import coalesced
from tcpstack.wire.dropped import Dropped

A, B, C = bytes((10, 9, 0, 1)), bytes((10, 9, 0, 2)), bytes((10, 9, 0, 3))


def text(
    seq: int, size: int, flags: int = ACK, *, ack: int = 7, wnd: int = 100, src: bytes = A, **more: object
) -> Segment:
    payload = (bytes(seq % 251 + i & 0xFF for i in range(size)),) if size else ()
    return Segment(src, 1000, B, 80, seq & 0xFFFFFFFF, ack, flags, wnd, payload, size, **more)  # type: ignore[arg-type]


def shape(items: object) -> list[tuple[int, int, int, int, int]]:
    found = [s for s in items if isinstance(s, Segment)]  # type: ignore[attr-defined]
    return [(s.seq, s.payload_len, s.flags, s.ack, s.gso_size) for s in found]


def test_text_that_follows_on_becomes_a_superpacket() -> None:
    [one] = coalesced([text(0, 1460), text(1460, 1460), text(2920, 500, ACK | PSH)])
    assert isinstance(one, Segment)
    assert shape([one]) == [(0, 3420, ACK | PSH, 7, 1460)]
    assert one.text() == b"".join(s.text() for s in (text(0, 1460), text(1460, 1460), text(2920, 500)))
    assert one.segments == 3


def test_numbers_wrap() -> None:
    assert shape(coalesced([text(0xFFFFFFFF - 99, 100), text(0, 100)])) == [(0xFFFFFFFF - 99, 200, ACK, 7, 100)]


def test_what_is_shorter_or_pushed_ends_a_superpacket() -> None:
    assert len(list(coalesced([text(0, 1000), text(1000, 400), text(1400, 400)]))) == 2
    assert len(list(coalesced([text(0, 1000, ACK | PSH), text(1000, 1000)]))) == 2
    assert len(list(coalesced([text(0, 400), text(400, 1000)]))) == 2


def test_only_what_follows_in_the_same_flow_and_says_the_same_is_joined() -> None:
    first = text(0, 100)
    for second in (
        text(101, 100), text(0, 100), text(100, 100, src=C), text(100, 100, ack=8), text(100, 100, wnd=99),
        text(100, 100, ACK | FIN), text(100, 100, RST), text(100, 100, SYN), text(100, 100, options=Options()),
        text(100, 0), text(100, 100, gso_size=50), text(100, 100, ACK | URG, up=100),
    ):  # fmt: skip
        assert list(coalesced([first, second])) == [first, second]
    urgent, follower = text(0, 100, ACK | URG, up=300), text(100, 100)
    assert list(coalesced([urgent, follower])) == [urgent, follower]


def stamped(seq: int, size: int, tsval: int, tsecr: int = 5, *, ack: int = 7) -> Segment:
    return text(seq, size, ack=ack, options=TimestampsAlone((tsval, tsecr)))


def test_text_with_the_same_timestamps_is_joined_and_with_others_or_none_is_not() -> None:
    [one] = coalesced([stamped(0, 100, 9), stamped(100, 100, 9)])
    assert isinstance(one, Segment)
    assert (shape([one]), one.options) == ([(0, 200, ACK, 7, 100)], Options(timestamps=(9, 5)))
    for second in (stamped(100, 100, 10), stamped(100, 100, 9, 6), text(100, 100)):
        assert len(list(coalesced([stamped(0, 100, 9), second]))) == 2
    assert len(list(coalesced([text(0, 100), stamped(100, 100, 9)]))) == 2


def test_of_acknowledgements_the_last_ones_timestamps_are_left() -> None:
    [one] = coalesced([stamped(0, 0, 9, 5, ack=7), stamped(0, 0, 10, 6, ack=8)])
    assert isinstance(one, Segment)
    assert (one.ack, one.options) == (8, Options(timestamps=(10, 6)))


def test_nothing_is_larger_than_an_ip_packet_can_be() -> None:
    items = [text(n * 1460, 1460) for n in range(100)]
    joined = list(coalesced(items))
    assert sum(s.payload_len for s in joined if isinstance(s, Segment)) == 146_000
    assert max(s.payload_len for s in joined if isinstance(s, Segment)) <= 65_535 - 100


def test_acknowledgement_gives_way_to_a_later_one_and_a_duplicate_to_none() -> None:
    assert shape(coalesced([text(5, 0, ack=1), text(5, 0, ack=3), text(5, 0, ack=9)])) == [(5, 0, ACK, 9, 0)]
    [last] = coalesced([text(5, 0, ack=1, wnd=1), text(5, 0, ack=3, wnd=2)])
    assert isinstance(last, Segment)
    assert last.wnd == 2
    assert len(list(coalesced([text(5, 0, ack=3), text(5, 0, ack=3)]))) == 2
    assert len(list(coalesced([text(5, 0, ack=3), text(5, 0, ack=2)]))) == 2
    assert len(list(coalesced([text(5, 0, ack=3), text(6, 0, ack=4)]))) == 2


def test_what_is_no_segment_keeps_its_place() -> None:
    dropped = Dropped("ip_truncated")
    first, second = text(0, 10), text(10, 10)
    assert list(coalesced([first, dropped, second])) == [first, dropped, second]


KINDS = ["next", "small", "ack", "again", "other", "gap"]


@given(st.integers(0, 1 << 32), st.lists(st.sampled_from(KINDS), max_size=40))
def test_whatever_comes_the_octets_come_in_the_same_order(seed: int, script: list[str]) -> None:
    draw = random.Random(seed)
    seq, ack, items = 0, 1, []
    for what in script:
        ack += what == "ack"
        size = {"ack": 0, "small": draw.randrange(1, 100)}.get(what, 100)
        seq += 50 if what == "gap" else 0
        src = C if what == "other" else A
        items.append(text(seq - 100 if what == "again" else seq, size, ack=ack, src=src))
        seq += size if what in ("next", "small", "gap") else 0
    before = [(s.src, (s.seq + i) & 0xFFFFFFFF, o) for s in items for i, o in enumerate(s.text())]
    after = [(s.src, (s.seq + i) & 0xFFFFFFFF, o) for s in coalesced(items) if isinstance(s, Segment)
             for i, o in enumerate(s.text())]  # fmt: skip
    assert after == before
