"""CLOSED answers a segment, RFC 9293 3.10.7.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.closed import answer_closed, is_connection_attempt, reset
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Segment
from tcpstack.core.seq import MASK

HERE, THERE = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])


def arriving(flags: int, seq: int = 100, ack: int = 0, size: int = 0) -> Segment:
    return Segment(THERE, 4000, HERE, 80, seq, ack, flags, 1000, (bytes(size),) if size else (), size)


@given(st.integers(0, 255))
def test_rst_is_never_answered(flags: int) -> None:
    assert answer_closed(arriving(flags | RST), "") is None


@given(st.integers(0, 255).filter(lambda flags: flags & ACK and not flags & RST), st.integers(0, MASK))
def test_segment_with_ack_earns_a_rst_at_that_ack(flags: int, ack: int) -> None:
    answer = answer_closed(arriving(flags, ack=ack, size=3), "why")
    assert answer is not None
    assert (answer.flags, answer.seq, answer.ack, answer.reason) == (RST, ack, 0, "why")


@pytest.mark.parametrize(
    ("flags", "size", "length"), [(SYN, 0, 1), (0, 0, 0), (FIN, 4, 5), (SYN | FIN, 2, 4), (PSH, 9, 9)]
)
def test_segment_without_ack_earns_a_rst_that_acknowledges_all_of_it(flags: int, size: int, length: int) -> None:
    answer = answer_closed(arriving(flags, seq=MASK, size=size), "")
    assert answer is not None
    assert (answer.flags, answer.seq, answer.ack) == (RST | ACK, 0, (MASK + length) & MASK)


def test_answers_go_back_to_where_the_segment_came_from() -> None:
    answer = reset(arriving(ACK), -1, "")
    assert (answer.src, answer.sport, answer.dst, answer.dport) == (HERE, 80, THERE, 4000)
    assert (answer.seq, answer.wnd, answer.payload_len) == (MASK, 0, 0)


@given(st.integers(0, 255))
def test_connection_attempt_is_a_syn_with_neither_ack_nor_rst(flags: int) -> None:
    assert is_connection_attempt(flags) == (bool(flags & SYN) and not flags & ACK and not flags & RST)
