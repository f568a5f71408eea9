"""Parameters: the defaults keep the RFC's limits, and nonsense is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config


@pytest.mark.rfc9293("MUST-40")
def test_delayed_ack_is_less_than_half_a_second() -> None:
    assert Config().delayed_ack_ns < SECOND_NS // 2
    with pytest.raises(ValueError, match="delayed_ack_ns"):
        Config(delayed_ack_ns=500 * MILLISECOND_NS)
    Config(delayed_ack_ns=500 * MILLISECOND_NS - 1)


@pytest.mark.rfc9293("MUST-23")
def test_a_syn_is_retransmitted_for_three_minutes() -> None:
    assert Config().syn_r2_ns >= 180 * SECOND_NS


@pytest.mark.rfc9293("SHLD-11", "MUST-21")
def test_data_is_retransmitted_for_at_least_100_seconds_or_as_the_user_says() -> None:
    assert Config().r2_ns >= 100 * SECOND_NS
    assert replace(Config(), r2_ns=5).r2_ns == 5


@pytest.mark.rfc9293("MUST-15")
def test_mss_defaults_are_536_and_1220() -> None:
    assert (Config().mss_default_v4, Config().mss_default_v6) == (536, 1220)


@pytest.mark.rfc9293("MUST-38")
def test_the_override_timeout_lies_in_the_range_of_3_8_6_2_1() -> None:
    assert SECOND_NS // 10 <= Config().swnd_override_ns <= SECOND_NS


@pytest.mark.rfc9293("SHLD-7", "MUST-17")
def test_nagle_is_on_unless_switched_off() -> None:
    assert Config().nagle
    assert not Config(nagle=False).nagle


@pytest.mark.parametrize("name", ["receive_buffer_bytes", "send_buffer_bytes"])
@pytest.mark.parametrize("value", [0, -1, (1 << 30) + 1])
def test_buffer_of_no_octets_or_of_more_than_a_window_can_name_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        Config(**{name: value})


@pytest.mark.parametrize("name", ["receive_buffer_bytes", "send_buffer_bytes"])
@pytest.mark.parametrize("value", [1, 1 << 30])
def test_buffer_limits_themselves_are_taken(name: str, value: int) -> None:
    assert getattr(Config(**{name: value}), name) == value


@pytest.mark.parametrize(
    "timeouts",
    [
        {"rto_min_ns": 0},
        {"rto_min_ns": 2 * SECOND_NS},
        {"rto_initial_ns": 121 * SECOND_NS},
        {"rto_max_ns": 500 * MILLISECOND_NS},
    ],
)
def test_retransmission_timeouts_out_of_order_are_refused(timeouts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="rto_min_ns <= rto_initial_ns <= rto_max_ns"):
        Config(**timeouts)


@pytest.mark.parametrize(
    "name",
    [
        "syn_r2_ns", "syn_received_r2_ns", "r2_ns", "persist_max_ns", "swnd_override_ns", "time_wait_ns",
        "fin_wait_2_ns",
    ],
)  # fmt: skip
def test_time_that_is_not_positive_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Config(**{name: 0})


def test_unknown_congestion_controller_is_refused_and_the_known_are_listed() -> None:
    with pytest.raises(ValueError, match=r"congestion must be one of newreno.*'vegas'"):
        Config(congestion="vegas")


@pytest.mark.rfc9293("MUST-49")
def test_hop_limit_is_one_octet_and_not_zero() -> None:
    assert [Config(hop_limit=value).hop_limit for value in (1, 255)] == [1, 255]
    for value in (0, 256, -1):
        with pytest.raises(ValueError, match=f"hop_limit must be 1 to 255, not {value}"):
            Config(hop_limit=value)


@pytest.mark.rfc9293("MUST-48")
def test_traffic_class_is_one_octet_without_the_bits_of_ecn() -> None:
    assert [Config(traffic_class=value).traffic_class for value in (0, 4, 252)] == [0, 4, 252]
    for value in (1, 2, 3, 255, 256, -4):
        with pytest.raises(ValueError, match=f"traffic_class must be 0 to 252 with the two bits of ECN 0, not {value}"):
            Config(traffic_class=value)


def test_variant_has_the_ip_fields_of_its_own_values() -> None:
    variant = replace(Config(hop_limit=9), traffic_class=8)
    assert variant.ip_fields == (9, 8)
    assert "ip_fields" not in repr(variant)
