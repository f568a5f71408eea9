"""Initial sequence numbers by RFC 6528 (RFC 9293 3.4.1)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.seq import HALF, MASK, unwrap
from tcpstack.stack.isn import TICK_NS, InitialSequenceNumbers

V4 = (bytes([10, 9, 0, 2]), 80, bytes([10, 9, 0, 1]), 40_000)
V6 = (bytes(15) + b"\2", 80, bytes(15) + b"\1", 40_000)
SECRET = bytes(range(16))
times = st.integers(0, 1 << 62)


def an_isn(secret: bytes = SECRET) -> InitialSequenceNumbers:
    return InitialSequenceNumbers(secret)


@pytest.mark.rfc9293("MUST-8")
@given(times, st.integers(0, 1 << 60), st.sampled_from([V4, V6]))
def test_clock_ticks_every_four_microseconds(now: int, after: int, flow: tuple[bytes, int, bytes, int]) -> None:
    isn = an_isn()
    ticks = (now + after) // 4_000 - now // 4_000
    assert isn.choose(flow, now + after) == (isn.choose(flow, now) + ticks) & MASK


@pytest.mark.rfc9293("MUST-8")
def test_clock_wraps_after_4_77_hours_and_never_jumps() -> None:
    isn = an_isn()
    day_ns = 24 * 3600 * 1_000_000_000
    before = isn.choose(V4, 0)
    for now in range(0, day_ns, day_ns // 1000):
        number = isn.choose(V4, now)
        step = unwrap(number, before)
        assert step is not None
        assert 0 <= step - before <= day_ns // 1000 // TICK_NS + 1
        before = number


@given(times)
def test_number_fits_the_field(now: int) -> None:
    assert 0 <= an_isn().choose(V4, now) <= MASK


@pytest.mark.rfc9293("SHLD-1")
@pytest.mark.parametrize(
    "other",
    [
        (V4[0], 81, V4[2], V4[3]),
        (V4[0], V4[1], V4[2], 40_001),
        (bytes([10, 9, 0, 3]), V4[1], V4[2], V4[3]),
        (V4[0], V4[1], bytes([10, 9, 0, 9]), V4[3]),
        (V4[2], V4[3], V4[0], V4[1]),  # the other end's own
        V6,
    ],
)
def test_each_pair_of_sockets_has_a_number_space_of_its_own(other: tuple[bytes, int, bytes, int]) -> None:
    assert an_isn().choose(V4, 5) != an_isn().choose(other, 5)


@pytest.mark.rfc9293("SHLD-1", "MUST-9")
def test_numbers_of_neighbouring_flows_are_spread_over_the_whole_space() -> None:
    """From the ISNs that he gets for his own connections nobody can tell which one another will be given."""
    isn = an_isn()
    numbers = [isn.choose((V4[0], V4[1], V4[2], port), 0) for port in range(2000)]
    differences = {(b - a) & MASK for a, b in pairwise(numbers)}
    assert len(differences) == 1999
    assert all(850 < sum(number >> bit & 1 for number in numbers) < 1150 for bit in range(32))


@pytest.mark.rfc9293("MUST-9")
def test_secret_decides() -> None:
    assert an_isn(bytes(16)).choose(V4, 0) != an_isn(bytes(15) + b"\1").choose(V4, 0)
    assert an_isn(bytes(16)).choose(V4, 0) == an_isn(bytes(16)).choose(V4, 0)


@pytest.mark.rfc9293("MAY-2")
@given(times, st.integers(0, MASK))
def test_number_beyond_a_floor_is_beyond_it_as_any_peer_compares(now: int, floor: int) -> None:
    iss = an_isn().choose_beyond(V4, floor, now)
    assert 0 <= iss <= MASK
    assert 0 < (iss - floor) & MASK < HALF
    assert iss in (an_isn().choose(V4, now), (floor + 1) & MASK)


@pytest.mark.rfc9293("MAY-2")
@pytest.mark.parametrize(("ahead", "kept"), [(1, True), (HALF - 1, True), (HALF, False), (HALF + 1, False), (0, False)])
def test_clocks_number_is_kept_where_it_is_beyond_the_floor(ahead: int, kept: bool) -> None:
    isn = an_isn()
    number = isn.choose(V4, 77)
    floor = (number - ahead) & MASK
    assert isn.choose_beyond(V4, floor, 77) == (number if kept else (floor + 1) & MASK)


def test_floor_is_a_sequence_number_that_need_not_be_wrapped() -> None:
    isn = an_isn()
    assert isn.choose_beyond(V4, isn.choose(V4, 77) + (5 << 32), 77) == (isn.choose(V4, 77) + 1) & MASK
