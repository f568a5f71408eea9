"""Text above a gap, against a map of octets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.receive.reassembly import Reassembly

BASE = (1 << 32) - 60  # the ranges cross 2^32


def octets(start: int, end: int) -> bytes:
    return bytes(n * 7 & 0xFF for n in range(start, end))


def held(store: Reassembly) -> dict[int, int]:
    """What the store has, octet by octet; checks that its books are in order."""
    found: dict[int, int] = {}
    last_end = -1
    for (start, end), text in zip(store.ranges, store._texts, strict=True):
        assert last_end <= start < end
        assert end - start == len(text)
        found.update(zip(range(start, end), text, strict=True))
        last_end = end
    assert store.bytes == len(found)
    assert bool(store) == bool(found)
    return found


spans = st.tuples(st.integers(0, 120), st.integers(0, 30))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), spans, st.sampled_from([bytes, bytearray, memoryview])),
        st.tuples(st.just("take"), st.integers(0, 120)),
        st.tuples(st.just("trim"), st.integers(0, 150)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(steps)
def test_whatever_is_inserted_taken_and_trimmed_the_store_is_a_map_of_octets(script: list[tuple[Any, ...]]) -> None:
    store = Reassembly(1000)
    oracle: dict[int, int] = {}
    for step in script:
        match step:
            case ("insert", (offset, size), kind):
                start = BASE + offset
                store.insert(start, (kind(octets(start, start + size)),))
                for n in range(start, start + size):
                    oracle.setdefault(n, n * 7 & 0xFF)
            case ("take", offset):
                nxt = BASE + offset
                taken = b"".join(store.take(nxt))
                expected = bytearray()
                while nxt + len(expected) in oracle:
                    expected.append(oracle[nxt + len(expected)])
                assert taken == expected
                oracle = {n: octet for n, octet in oracle.items() if n >= nxt + len(taken)}
            case ("trim", offset):
                store.trim(BASE + offset)
                oracle = {n: octet for n, octet in oracle.items() if n < BASE + offset}
        assert held(store) == oracle


@given(st.lists(spans, max_size=60), st.integers(1, 8))
def test_ranges_never_pass_the_limit_and_what_is_kept_is_right(inserts: list[tuple[int, int]], limit: int) -> None:
    store = Reassembly(limit)
    offered = set()
    for offset, size in inserts:
        start = BASE + offset
        store.insert(start, (octets(start, start + size),))
        offered |= set(range(start, start + size))
        kept = held(store)
        assert len(store.ranges) <= limit
        assert kept.keys() <= offered
        assert all(octet == n * 7 & 0xFF for n, octet in kept.items())


def test_one_range_too_many_is_not_kept_and_room_is_made_by_taking() -> None:
    store = Reassembly(2)
    store.insert(10, (b"a",))
    store.insert(20, (b"b",))
    store.insert(30, (b"c",))
    assert store.ranges == [(10, 11), (20, 21)]
    assert store.take(10) == [b"a"]
    store.insert(30, (b"c",))
    assert store.ranges == [(20, 21), (30, 31)]


def test_what_was_held_first_stays_where_a_second_text_differs() -> None:
    store = Reassembly(10)
    store.insert(5, (b"BB",))
    store.insert(3, (b"aaaaaa",))
    assert b"".join(store.take(3)) == b"aaBBaa"


def test_text_is_copied_out_of_the_packet_and_its_chunks_are_joined_in_order() -> None:
    packet = bytearray(b"abcdef")
    store = Reassembly(10)
    store.insert(5, (memoryview(packet)[:2], memoryview(packet)[2:4], b"xy"))
    packet[:] = b"??????"
    assert store.take(5) == [b"abcdxy"]


def test_take_leaves_what_lies_behind_the_next_gap() -> None:
    store = Reassembly(10)
    store.insert(5, (b"ab",))
    store.insert(7, (b"cd",))
    store.insert(10, (b"ef",))
    assert b"".join(store.take(6)) == b"bcd"
    assert store.ranges == [(10, 12)]
    assert store.take(9) == []


@pytest.mark.parametrize(("edge", "kept"), [(0, b""), (5, b""), (6, b"a"), (8, b"abc"), (9, b"abcd"), (99, b"abcdxy")])
def test_trim_cuts_the_range_that_reaches_across(edge: int, kept: bytes) -> None:
    """A FIN in the midst of text that is held: no octet behind it may be read, nor keep the FIN from being reached."""
    store = Reassembly(10)
    store.insert(5, (b"abcd",))
    store.insert(9, (b"xy",))
    store.trim(edge)
    assert store.bytes == len(kept)
    assert b"".join(store.take(5)) == kept
