"""The retransmission timeout by RFC 6298's formulas, with figures worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS
from tcpstack.core.send.rto import RetransmissionTimeout

FLOOR, CAP = 200 * MILLISECOND_NS, 120 * SECOND_NS


def an_rto(initial_ns: int = SECOND_NS, min_ns: int = FLOOR, max_ns: int = CAP) -> RetransmissionTimeout:
    return RetransmissionTimeout(initial_ns, min_ns, max_ns)


def ms(value: float) -> int:
    return int(value * MILLISECOND_NS)


def test_before_any_sample_the_timeout_is_one_second() -> None:
    assert an_rto().rto_ns == SECOND_NS  # 2.1


@pytest.mark.rfc9293("MUST-18")
def test_first_sample_sets_srtt_to_it_and_rttvar_to_half() -> None:
    rto = an_rto()
    rto.on_sample(ms(500))
    # 2.2: SRTT = 500, RTTVAR = 250, RTO = 500 + 4 * 250
    assert (rto.srtt_ns, rto.rttvar_ns, rto.rto_ns) == (ms(500), ms(250), ms(1500))


@pytest.mark.rfc9293("MUST-18")
def test_second_sample_smooths_rttvar_first_with_the_old_srtt() -> None:
    rto = an_rto()
    rto.on_sample(ms(500))
    rto.on_sample(ms(900))
    # 2.3: RTTVAR = 3/4 * 250 + 1/4 * |500 - 900| = 287.5; SRTT = 7/8 * 500 + 1/8 * 900 = 550
    assert (rto.srtt_ns, rto.rttvar_ns, rto.rto_ns) == (ms(550), ms(287.5), ms(550 + 4 * 287.5))
    rto.on_sample(ms(150))
    # RTTVAR = 3/4 * 287.5 + 1/4 * 400 = 315.625; SRTT = 7/8 * 550 + 1/8 * 150 = 500
    assert (rto.srtt_ns, rto.rttvar_ns, rto.rto_ns) == (ms(500), ms(315.625), ms(500 + 4 * 315.625))


@given(st.lists(st.integers(1, 100 * SECOND_NS), min_size=1, max_size=50))
def test_samples_follow_the_formulas_to_a_few_nanoseconds(samples: list[int]) -> None:
    rto = an_rto()
    srtt = rttvar = Fraction(0)
    for index, sample in enumerate(samples):
        rto.on_sample(sample)
        if index == 0:
            srtt, rttvar = Fraction(sample), Fraction(sample, 2)
        else:
            rttvar = Fraction(3, 4) * rttvar + Fraction(1, 4) * abs(srtt - sample)
            srtt = Fraction(7, 8) * srtt + Fraction(1, 8) * sample
        assert abs(rto.srtt_ns - srtt) <= 8
        assert abs(rto.rttvar_ns - rttvar) <= 16
        assert abs(rto.rto_ns - min(srtt + max(4 * rttvar, FLOOR), CAP)) <= 80


def test_the_floor_is_under_the_variance_term_so_that_delayed_acks_do_not_trip_it() -> None:
    rto = an_rto()
    for _ in range(200):
        rto.on_sample(ms(10))
    assert rto.rto_ns == ms(10) + FLOOR


@given(st.lists(st.integers(-5, 5), max_size=30))
def test_a_round_trip_of_no_time_at_all_is_a_sample_too(samples: list[int]) -> None:
    rto = an_rto()
    rto.on_sample(0)
    for sample in samples:
        rto.on_sample(sample)
    assert rto.srtt_ns >= 1
    assert rto.rttvar_ns >= 0
    assert FLOOR < rto.rto_ns <= FLOOR + 100


@pytest.mark.rfc9293("MUST-19")
def test_timeouts_double_it_up_to_the_cap() -> None:
    rto = an_rto(max_ns=60 * SECOND_NS)
    seen = []
    for _ in range(8):
        rto.on_timeout()
        seen.append(rto.rto_ns // SECOND_NS)
    assert seen == [2, 4, 8, 16, 32, 60, 60, 60]  # 5.5 and 2.5
    for _ in range(10_000):
        rto.on_timeout()
    assert rto.rto_ns == 60 * SECOND_NS
    assert rto.backoff == 10_008


def test_sample_is_capped_too() -> None:
    rto = an_rto(max_ns=60 * SECOND_NS)
    rto.on_sample(50 * SECOND_NS)
    assert rto.rto_ns == 60 * SECOND_NS


@pytest.mark.rfc9293("MUST-18", "MUST-19")
def test_backed_off_value_is_kept_until_there_is_a_sample() -> None:
    """RFC 9293 3.8.2: until "new data has been sent and acknowledged without retransmission"."""
    rto = an_rto()
    rto.on_sample(ms(100))
    assert rto.rto_ns == ms(300)
    rto.on_timeout()
    rto.on_timeout()
    rto.on_progress()  # the retransmission is acknowledged: no sample, by Karn
    assert rto.rto_ns == ms(1200)
    assert rto.backoff == 0  # yet the next timeout is the first for its segment
    rto.on_timeout()
    assert (rto.rto_ns, rto.backoff) == (ms(2400), 1)
    rto.on_sample(ms(100))
    # RTTVAR = 3/4 * 50 = 37.5: under the floor
    assert rto.rto_ns == ms(300)


def test_syn_that_timed_out_leaves_three_seconds_for_data_to_start_with() -> None:
    rto = an_rto()
    for _ in range(3):
        rto.on_timeout()
    assert rto.rto_ns == 8 * SECOND_NS
    rto.on_progress()
    rto.on_handshake_retransmitted(3 * SECOND_NS)
    assert rto.rto_ns == 3 * SECOND_NS  # 5.7
    rto.on_sample(ms(100))
    assert rto.rto_ns == ms(300)


def test_three_seconds_do_not_shorten_a_longer_initial_timeout_nor_pass_the_cap() -> None:
    longer = an_rto(initial_ns=5 * SECOND_NS)
    longer.on_handshake_retransmitted(3 * SECOND_NS)
    assert longer.rto_ns == 5 * SECOND_NS
    capped = an_rto(max_ns=2 * SECOND_NS)
    capped.on_handshake_retransmitted(3 * SECOND_NS)
    assert capped.rto_ns == 2 * SECOND_NS
