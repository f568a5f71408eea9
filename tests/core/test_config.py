"""Parameters: the defaults keep the RFC's limits, and nonsense is refused by name."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.listen import SynRecord
from tcpstack.core.segment import SYN, FourTuple, Segment
from tcpstack.core.timewait import TimeWait

FLOW: FourTuple = (bytes((10, 9, 0, 2)), 80, bytes((10, 9, 0, 1)), 4000)


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


@pytest.mark.rfc9293("SHLD-10")
def test_the_path_is_in_doubt_after_three_retransmissions_or_as_the_user_says() -> None:
    assert Config().r1_retransmissions >= 3
    assert Config(r1_retransmissions=1).r1_retransmissions == 1
    with pytest.raises(ValueError, match="r1_retransmissions"):
        Config(r1_retransmissions=0)


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


TIMES = [field.name for field in fields(Config) if field.name.endswith("_ns")]
BOUNDED_BY_ANOTHER = {"delayed_ack_ns", "rto_initial_ns", "rto_min_ns"}


@pytest.mark.parametrize("name", TIMES)
def test_time_that_would_end_after_all_deadlines_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="rto_max_ns" if name.startswith("rto") else name):
        Config(**{name: 1 << 63})


@pytest.mark.parametrize("name", sorted({*TIMES} - BOUNDED_BY_ANOTHER))
def test_longest_time_is_taken_and_kept_in_syn_records_and_time_wait_entries(name: str) -> None:
    config = Config(**{name: (1 << 63) - 1})
    late_ns = (1 << 63) - 1  # of the clock

    record = SynRecord(Segment(*FLOW[2:], *FLOW[:2], 7, 0, SYN, 1000), 9, 1500, config, late_ns)
    entry = TimeWait(FLOW, 1, 2, 3, 4, config.time_wait_ns, late_ns)

    assert SynRecord.unpack(FLOW, record.pack()).expires_ns == late_ns + config.syn_received_r2_ns
    assert TimeWait.unpack(FLOW, config.time_wait_ns, entry.pack()).expires_ns == late_ns + config.time_wait_ns


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
