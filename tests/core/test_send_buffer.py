"""The send buffer against the plain octets it stands for; what is copied and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.send.buffer import MOST_VIEWS, SMALL_BYTES, SendBuffer

KINDS = (bytes, bytearray, memoryview)
sizes = st.one_of(
    st.integers(0, 40),
    st.integers(SMALL_BYTES - 2, SMALL_BYTES + 2),
    st.integers(2 * SMALL_BYTES, 2 * SMALL_BYTES + 100),
)
START = (1 << 32) - 5000


def joined(views: tuple[Any, ...]) -> bytes:
    return b"".join(views)


def stream(start: int, size: int) -> bytes:
    return bytes((n * 7 + (n >> 8)) & 0xFF for n in range(start, start + size))


@settings(deadline=None)
@given(st.data())
def test_any_view_shows_the_octets_that_were_appended(data: st.DataObject) -> None:
    """An oracle of plain octets, through random appends, views of what is held, and releases."""
    buffer = SendBuffer(START)
    una, octets = START, b""
    for _ in range(data.draw(st.integers(1, 12), "steps")):
        match data.draw(st.sampled_from(["append", "append", "shared", "view", "release"]), "step"):
            case "append":
                text = stream(buffer.end, data.draw(sizes, "size"))
                buffer.append(data.draw(st.sampled_from(KINDS), "kind")(text))
                octets += text
            case "shared":
                text = stream(buffer.end, data.draw(sizes, "size"))
                buffer.append_shared(memoryview(bytearray(text)).toreadonly())
                octets += text
            case "view" if octets:
                offset = data.draw(st.integers(0, len(octets) - 1), "offset")
                size = data.draw(st.integers(1, len(octets) - offset), "length")
                views = buffer.view(una + offset, size)
                assert joined(views) == octets[offset : offset + size]
                assert all(len(view) for view in views)
            case "release":
                gone = data.draw(st.integers(0, len(octets)), "gone")
                una += gone
                octets = octets[gone:]
                buffer.release(una)
        assert buffer.end == una + len(octets)
    if octets:
        assert joined(buffer.view(una, len(octets))) == octets


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60))
def test_small_writes_that_wait_together_leave_as_one_chunk(lengths: list[int]) -> None:
    buffer = SendBuffer(1)
    for size in lengths:
        buffer.append(bytes(size))
    assert len(buffer.view(1, sum(lengths))) == 1


def test_small_writes_around_a_large_one_keep_their_order() -> None:
    buffer = SendBuffer(10)
    parts = [b"ab", b"cd", bytes(SMALL_BYTES), b"ef", b"gh"]
    for part in parts:
        buffer.append(part)
    views = buffer.view(10, sum(map(len, parts)))
    assert [len(view) for view in views] == [4, SMALL_BYTES, 4]
    assert joined(views) == b"".join(parts)


def test_large_bytes_are_kept_by_reference() -> None:
    text = bytes(SMALL_BYTES)
    buffer = SendBuffer(0)
    buffer.append(text)
    (view,) = buffer.view(5, 100)
    assert isinstance(view, memoryview)
    assert view.obj is text


@pytest.mark.parametrize("size", [10, SMALL_BYTES - 1, SMALL_BYTES, 3 * SMALL_BYTES])
def test_mutable_octets_are_copied_when_they_are_queued(size: int) -> None:
    text = bytearray(b"x" * size)
    buffer = SendBuffer(0)
    buffer.append(text)
    buffer.append(memoryview(text))
    text[:] = b"y" * size
    text.clear()  # a bytearray with a view on it could not be resized
    assert joined(buffer.view(0, 2 * size)) == b"x" * 2 * size


def test_views_of_wider_items_and_of_strides_count_in_octets() -> None:
    buffer = SendBuffer(0)
    buffer.append(memoryview(b"\1\2\3\4\5\6\7\x08").cast("I"))
    buffer.append(memoryview(b"abcdef")[::2])
    assert buffer.end == 11
    assert joined(buffer.view(0, 11)) == b"\1\2\3\4\5\6\7\x08ace"


@pytest.mark.parametrize("nonsense", [5, "text", None, [1, 2], 1.5])
def test_what_is_not_bytes_like_raises_and_queues_nothing(nonsense: Any) -> None:
    buffer = SendBuffer(7)
    with pytest.raises(TypeError):
        buffer.append(nonsense)
    assert buffer.end == 7


def test_release_lets_go_of_the_chunks_behind_it() -> None:
    texts = [bytes([n]) * SMALL_BYTES for n in range(4)]
    buffer = SendBuffer(0)
    for text in texts:
        buffer.append(text)
    buffer.release(2 * SMALL_BYTES)
    views = buffer.view(2 * SMALL_BYTES, 2 * SMALL_BYTES)
    assert [view.obj for view in views if isinstance(view, memoryview)] == texts[2:]
    assert len(buffer._chunks) == 2
    buffer.release(3 * SMALL_BYTES - 1)
    assert len(buffer._chunks) == 2  # one octet of it may still go again
    buffer.release(4 * SMALL_BYTES)
    assert buffer._chunks == []


def test_release_past_the_end_is_what_the_acknowledgement_of_a_fin_does() -> None:
    buffer = SendBuffer(0)
    buffer.append(b"abc")
    buffer.release(4)
    assert buffer.end == 3


def test_clear_forgets_the_octets_and_keeps_the_count() -> None:
    buffer = SendBuffer(0)
    buffer.append(bytes(SMALL_BYTES))
    buffer.append(b"abc")
    buffer.clear()
    assert buffer.end == SMALL_BYTES + 3
    assert buffer._chunks == []
    assert buffer._small is None
    buffer.append(b"next")
    assert joined(buffer.view(SMALL_BYTES + 3, 4)) == b"next"


def test_shared_view_is_kept_as_it_is_however_small() -> None:
    owner = bytearray(b"shared")
    buffer = SendBuffer(0)
    buffer.append(b"ab")
    buffer.append_shared(memoryview(owner).toreadonly())
    buffer.append_shared(memoryview(b""))
    buffer.append(b"cd")
    owner[:] = b"SHARED"
    views = buffer.view(0, 10)
    assert [bytes(view) for view in views] == [b"ab", b"SHARED", b"cd"]
    assert isinstance(views[1], memoryview)
    assert views[1].obj is owner


def test_segment_of_more_chunks_than_a_device_takes_has_its_own_ones_joined_and_the_shared_ones_not() -> None:
    owners = [bytearray(b"shared %d " % n) for n in range(2)]
    buffer = SendBuffer(0)
    expected = b""
    for n in range(2 * MOST_VIEWS):
        buffer.append(b"%d " % n)
        buffer.view(buffer.end - 1, 1)  # sent by itself once
        expected += b"%d " % n
        if n in (1, MOST_VIEWS):
            buffer.append_shared(memoryview(owners[n > 1]))
            expected += owners[n > 1]
    views = buffer.view(0, buffer.end)
    assert joined(views) == expected
    assert len(views) == 5
    assert [view.obj for view in views if isinstance(view, memoryview)] == owners
