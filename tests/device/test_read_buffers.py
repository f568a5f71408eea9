"""Memory to read into: what was handed on stays as it was for as long as somebody has it, and else serves again."""

from __future__ import annotations

import pytest

from tcpstack.device.read_buffers import _LENT_FROM_BYTES, _MOST, ReadBuffers

SIZE = 2 * _LENT_FROM_BYTES


def read(buffers, fill, length=SIZE, start=0):
    """As a device does: the octets go into the current buffer."""
    buffers.current[:length] = bytes([fill]) * length
    return buffers.take(start, length)


def test_little_is_copied_and_the_buffer_serves_again_at_once():
    buffers = ReadBuffers(SIZE)
    current = buffers.current
    taken = read(buffers, 1, _LENT_FROM_BYTES - 1)
    assert type(taken) is bytes
    assert buffers.current is current
    read(buffers, 2)
    assert taken == bytes([1]) * (_LENT_FROM_BYTES - 1)


def test_much_is_lent_and_the_next_read_goes_elsewhere():
    buffers = ReadBuffers(SIZE)
    current = buffers.current
    taken = read(buffers, 1, _LENT_FROM_BYTES)
    assert type(taken) is memoryview
    assert taken.obj is current
    assert buffers.current is not current


def test_what_is_taken_is_without_what_stands_before_it():
    buffers = ReadBuffers(SIZE)
    buffers.current[:13] = b"header, text."
    assert buffers.take(8, 12) == b"text"
    buffers.current[:10] = b"0123456789"
    assert read(buffers, 7, start=10) == bytes([7]) * (SIZE - 10)


@pytest.mark.parametrize("keep", [lambda view: view, lambda view: view[5:6]], ids=["the view", "a part of it"])
def test_what_is_kept_is_not_read_into(keep):
    buffers = ReadBuffers(SIZE)
    kept = [keep(read(buffers, fill)) for fill in range(5)]
    for fill in range(100, 120):
        read(buffers, fill)
    assert [set(view) for view in kept] == [{fill} for fill in range(5)]


def test_what_nobody_keeps_is_read_into_again_the_first_first():
    buffers = ReadBuffers(SIZE)
    views = [read(buffers, fill) for fill in range(4)]
    first, second = views[1].obj, views[2].obj
    del views[1:3]
    read(buffers, 9)  # into one that was current meanwhile; then these are there
    assert buffers.current is first
    kept = read(buffers, 9)
    assert buffers.current is second
    assert kept.obj is first
    assert [set(view) for view in views] == [{0}, {3}]


def test_two_buffers_are_enough_where_each_view_is_dropped_before_the_next_read():
    buffers = ReadBuffers(SIZE)
    seen = {id(read(buffers, fill).obj) for fill in range(100)}
    assert len(seen) <= 2


def test_buffer_keeps_its_size_and_what_was_read_last():
    buffers = ReadBuffers(SIZE)
    for fill in range(2 * _MOST):
        assert len(buffers.current) == SIZE
        assert read(buffers, fill).tobytes() == bytes([fill]) * SIZE


def test_of_more_than_are_held_the_oldest_are_let_go_and_stay_whole():
    buffers = ReadBuffers(SIZE)
    kept = [read(buffers, fill) for fill in range(3 * _MOST)]
    assert [id(each) for each in buffers._buffers[:-1]] == [id(view.obj) for view in kept[1 - _MOST :]]
    assert buffers._buffers[-1] is buffers.current
    assert len({id(view.obj) for view in kept}) == 3 * _MOST
    assert [set(view) for view in kept] == [{fill} for fill in range(3 * _MOST)]
