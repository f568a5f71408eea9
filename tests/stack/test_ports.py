"""Ephemeral ports: in range, free, and not to be guessed (RFC 6056 3.3.1)."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.stack.ports import FIRST, LAST, choose_port


@given(st.integers())
def test_port_is_in_the_ephemeral_range(seed: int) -> None:
    port = choose_port(Random(seed), lambda port: True)
    assert port is not None
    assert FIRST <= port <= LAST


@settings(deadline=None, max_examples=20)
@given(st.integers(), st.sets(st.integers(FIRST, LAST), min_size=1, max_size=3))
def test_whatever_is_free_is_found(seed: int, free: set[int]) -> None:
    assert choose_port(Random(seed), free.__contains__) in free


def test_first_and_last_port_can_be_had() -> None:
    assert choose_port(Random(1), lambda port: port == FIRST) == FIRST
    assert choose_port(Random(1), lambda port: port == LAST) == LAST


def test_no_free_port_is_none_after_each_was_asked_for_once() -> None:
    asked: list[int] = []
    assert choose_port(Random(1), lambda port: bool(asked.append(port))) is None
    assert sorted(asked) == list(range(FIRST, LAST + 1))


def test_same_seed_gives_the_same_port_and_other_seeds_others() -> None:
    ports = [choose_port(Random(seed), lambda port: True) for seed in range(100)]
    assert ports == [choose_port(Random(seed), lambda port: True) for seed in range(100)]
    assert len(set(ports)) > 90
