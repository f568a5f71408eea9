"""Segments and their options: what they hold and how they compare."""

from __future__ import annotations

import pytest

from tcpstack.core.segment import ACK, CWR, FIN, PSH, RST, SYN, URG, Options, Segment, flag_names

A, B = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])


@pytest.mark.parametrize(
    ("flags", "size", "length"),
    [(ACK, 0, 0), (ACK, 7, 7), (SYN, 0, 1), (ACK | FIN, 0, 1), (SYN | FIN, 3, 5), (RST | PSH | URG, 2, 2)],
)
def test_seg_len_counts_text_syn_and_fin(flags: int, size: int, length: int) -> None:
    assert Segment(A, 1, B, 2, 0, 0, flags, 0, (bytes(size),), size).len == length


def test_text_of_one_bytes_chunk_is_that_chunk() -> None:
    chunk = b"as it came"
    assert Segment(A, 1, B, 2, 0, 0, ACK, 0, (chunk,), len(chunk)).text() is chunk


def test_text_joins_chunks_of_any_kind_in_order() -> None:
    segment = Segment(A, 1, B, 2, 0, 0, ACK, 0, (b"ab", memoryview(bytearray(b"cd")), b""), 4)
    assert segment.text() == b"abcd"
    assert Segment(A, 1, B, 2, 0, 0, ACK, 0).text() == b""
    assert Segment(A, 1, B, 2, 0, 0, ACK, 0, (memoryview(b"xy"),), 2).text() == b"xy"


def test_flag_names_are_in_the_order_in_which_people_say_them() -> None:
    assert flag_names(SYN | ACK) == "SYN,ACK"
    assert flag_names(CWR | FIN | ACK) == "FIN,ACK,CWR"
    assert flag_names(0) == "none"


def test_options_tell_scale_zero_from_no_scale() -> None:
    assert Options(wscale=0) != Options()
    assert "wscale=0" in repr(Options(wscale=0))


def test_options_that_are_alike_are_equal_and_hash_alike() -> None:
    one = Options(mss=1460, wscale=7, sack=((1, 2),), timestamps=(3, 4))
    other = Options(mss=1460, wscale=7, sack=((1, 2),), timestamps=(3, 4))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Options(mss=1460, wscale=7, sack=((1, 2),), timestamps=(3, 5))
    assert one != "mss 1460"


def test_segment_names_itself_with_its_options() -> None:
    segment = Segment(A, 80, B, 4000, 5, 6, SYN | ACK, 7, options=Options(mss=1460))
    assert repr(segment) == "<Segment 80>4000 SYN,ACK seq=5 ack=6 wnd=7 len=0 Options(mss=1460)>"
    assert "Options" not in repr(Segment(A, 80, B, 4000, 5, 6, ACK, 7))
