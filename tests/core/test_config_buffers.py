"""Buffers' parameters: what is set is meant, the defaults grow, nonsense is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpstack.core.config import Config

MIB = 1 << 20
SIDES = pytest.mark.parametrize("side", ["receive", "send"])


def limit(side: str, **values: int) -> int:
    return int(getattr(Config(**values), f"{side}_limit_bytes"))


@SIDES
def test_default_buffer_may_grow_to_4_mb_or_more(side: str) -> None:
    assert limit(side) == 8 * MIB


@SIDES
def test_buffer_that_is_set_alone_is_kept(side: str) -> None:
    assert limit(side, **{f"{side}_buffer_bytes": 20_000}) == 20_000
    assert limit(side, **{f"{side}_buffer_bytes": 16 * MIB}) == 16 * MIB


@SIDES
def test_limit_that_is_set_is_taken(side: str) -> None:
    assert limit(side, **{f"{side}_buffer_max_bytes": 4 * MIB}) == 4 * MIB
    assert limit(side, **{f"{side}_buffer_bytes": 5, f"{side}_buffer_max_bytes": 5}) == 5
    assert limit(side, **{f"{side}_buffer_bytes": 5, f"{side}_buffer_max_bytes": 1 << 30}) == 1 << 30


@SIDES
@pytest.mark.parametrize("most", [0, 99_999, (1 << 30) + 1])
def test_limit_below_the_beginning_or_beyond_a_window_is_refused(side: str, most: int) -> None:
    with pytest.raises(ValueError, match=f"{side}_buffer_max_bytes must be {side}_buffer_bytes"):
        Config(**{f"{side}_buffer_bytes": 100_000, f"{side}_buffer_max_bytes": most})


def test_variant_has_the_limits_of_its_own_values() -> None:
    variant = replace(Config(), receive_buffer_bytes=20_000, send_buffer_max_bytes=2 * MIB)
    assert (variant.receive_limit_bytes, variant.send_limit_bytes) == (20_000, 2 * MIB)
    assert replace(variant, receive_buffer_bytes=30_000).receive_limit_bytes == 30_000


def test_derived_limits_do_not_show() -> None:
    assert "limit_bytes" not in repr(Config())
