"""Sequence numbers: unwrapping is the inverse of masking, within 2^31 of the reference (RFC 9293 3.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.seq import HALF, MASK, MODULUS, unwrap

references = st.one_of(st.integers(0, 4), st.integers(MASK - 2, MASK + 2), st.integers(0, 1 << 40))


@given(references, st.one_of(st.integers(1 - HALF, HALF - 1), st.sampled_from([1 - HALF, -1, 0, 1, HALF - 1])))
def test_number_within_2_31_of_the_reference_comes_back_as_it_was(reference: int, distance: int) -> None:
    assert unwrap((reference + distance) & MASK, reference) == reference + distance


@given(references)
def test_number_2_31_away_stands_for_nothing(reference: int) -> None:
    assert unwrap((reference + HALF) & MASK, reference) is None
    assert unwrap((reference - HALF) & MASK, reference) is None


@given(references, st.integers(0, MASK))
def test_result_is_congruent_and_the_nearest(reference: int, wire: int) -> None:
    number = unwrap(wire, reference)
    if number is not None:
        assert number & MASK == wire
        assert abs(number - reference) < HALF


@pytest.mark.parametrize(
    ("wire", "reference", "number"),
    [
        (0, MASK, MODULUS),  # one step over the edge
        (MASK, MODULUS, MASK),  # one step back
        (MASK, 0, -1),  # before a small reference: negative, and less than it as it should be
        (5, 3 * MODULUS + 9, 3 * MODULUS + 5),
    ],
)
def test_wrap_at_the_edge(wire: int, reference: int, number: int) -> None:
    assert unwrap(wire, reference) == number
