"""Slow start, congestion avoidance and the answers to loss, by RFC 5681's and 6928's numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.congestion import CONTROLLERS, AckSample
from tcpstack.core.congestion.newreno import NewReno, initial_window

MSS = 1000


def acked(octets: int, in_flight: int) -> AckSample:
    sample = AckSample()
    sample.acked_bytes = octets
    sample.flight_bytes = in_flight
    return sample


def avoiding(segments: int) -> NewReno:
    """In congestion avoidance with such a window."""
    control = NewReno(MSS)
    control.cwnd_bytes = control.ssthresh_bytes = segments * MSS
    return control


@pytest.mark.parametrize(
    ("mss", "window"),
    [
        (48, 480), (536, 5360), (1220, 12_200), (1460, 14_600), (1461, 14_600), (1800, 14_600), (7300, 14_600),
        (8960, 17_920),
    ],
)  # fmt: skip
def test_initial_window_is_rfc_6928s(mss: int, window: int) -> None:
    assert initial_window(mss) == window
    assert NewReno(mss).cwnd_bytes == window


def test_initial_window_can_be_given_as_after_a_lost_syn() -> None:
    assert NewReno(MSS, MSS).cwnd_bytes == MSS


def test_controllers_are_found_by_name() -> None:
    assert CONTROLLERS["newreno"](MSS, None).name == "newreno"


@pytest.mark.rfc9293("MUST-19")
def test_slow_start_grows_by_what_is_acknowledged() -> None:
    control = NewReno(MSS)
    control.on_ack(acked(2 * MSS, 10 * MSS), 0)
    assert control.cwnd_bytes == 12 * MSS
    control.on_ack(acked(10 * MSS, 12 * MSS), 0)  # an acknowledgement of a superpacket
    assert control.cwnd_bytes == 22 * MSS


def test_slow_start_ends_at_ssthresh() -> None:
    control = NewReno(MSS)
    control.ssthresh_bytes = 11 * MSS
    control.on_ack(acked(5 * MSS, 10 * MSS), 0)
    assert control.cwnd_bytes == 11 * MSS


def test_window_that_is_not_used_does_not_grow() -> None:
    control = NewReno(MSS)
    for _ in range(100):
        control.on_ack(acked(MSS, 2 * MSS), 0)
    assert control.cwnd_bytes == 10 * MSS
    control = avoiding(10)
    for _ in range(100):
        control.on_ack(acked(MSS, 9 * MSS), 0)
    assert control.cwnd_bytes == 10 * MSS


@pytest.mark.rfc9293("MUST-19")
@pytest.mark.parametrize("step", [MSS // 2, MSS, 2 * MSS])
def test_congestion_avoidance_grows_by_a_segment_a_window_however_it_is_acknowledged(step: int) -> None:
    control = avoiding(10)
    for _ in range(10 * MSS // step):
        assert control.cwnd_bytes == 10 * MSS
        control.on_ack(acked(step, control.cwnd_bytes), 0)
    assert control.cwnd_bytes == 11 * MSS
    for _ in range(-(-11 * MSS // step) - 1):
        control.on_ack(acked(step, control.cwnd_bytes), 0)
    assert control.cwnd_bytes == 11 * MSS
    control.on_ack(acked(step, control.cwnd_bytes), 0)
    assert control.cwnd_bytes == 12 * MSS


@pytest.mark.rfc9293("MUST-19")
@pytest.mark.parametrize(("flight", "half"), [(20_000, 10_000), (7000, 3500), (4000, 2000), (1000, 2000)])
def test_loss_halves_what_is_in_flight_but_not_below_two_segments(flight: int, half: int) -> None:
    control = NewReno(MSS)
    control.on_loss(flight, 0)
    assert (control.ssthresh_bytes, control.cwnd_bytes) == (half, half)  # equation (4), on flight and not on cwnd


@pytest.mark.rfc9293("MUST-19")
def test_timeout_leaves_one_segment_and_half_of_what_was_in_flight() -> None:
    control = NewReno(MSS)
    control.on_timeout(20 * MSS, True, 0)
    assert (control.ssthresh_bytes, control.cwnd_bytes) == (10 * MSS, MSS)


def test_what_was_acknowledged_before_a_loss_does_not_count_towards_growth_after_it() -> None:
    for loss in ("on_loss", "on_timeout"):
        control = avoiding(4)
        control.on_ack(acked(3 * MSS, 4 * MSS), 0)
        if loss == "on_loss":
            control.on_loss(4 * MSS, 0)
        else:
            control.on_timeout(4 * MSS, True, 0)
            control.cwnd_bytes = 2 * MSS
        control.on_ack(acked(MSS, 2 * MSS), 0)
        assert control.cwnd_bytes == 2 * MSS


def test_second_timeout_of_a_segment_holds_ssthresh() -> None:
    control = NewReno(MSS)
    control.on_timeout(20 * MSS, True, 0)
    control.on_timeout(MSS, False, 0)
    assert (control.ssthresh_bytes, control.cwnd_bytes) == (10 * MSS, MSS)


@pytest.mark.parametrize(("flight", "cwnd"), [(0, 2 * MSS), (MSS, 2 * MSS), (4 * MSS, 5 * MSS), (30 * MSS, 10 * MSS)])
def test_recovery_ends_without_a_burst(flight: int, cwnd: int) -> None:
    """RFC 6582 3.2, option (1): min(ssthresh, max(FlightSize, SMSS) + SMSS)."""
    control = NewReno(MSS)
    control.on_loss(20 * MSS, 0)
    control.on_recovered(flight, 0)
    assert control.cwnd_bytes == cwnd


kinds = st.sampled_from(["ack", "loss", "recovered", "timeout"])


@given(st.lists(st.tuples(kinds, st.integers(0, 300), st.integers(0, 300))))
def test_window_is_never_under_one_segment_nor_threshold_under_two(steps: list[tuple[str, int, int]]) -> None:
    control = NewReno(MSS)
    for kind, first, second in steps:
        before = control.cwnd_bytes
        match kind:
            case "ack":
                control.on_ack(acked(1 + min(first, second) * 100, max(first, second) * 100), 0)
                assert control.cwnd_bytes >= before
            case "loss":
                control.on_loss(first * 100, 0)
            case "recovered":
                control.on_recovered(first * 100, 0)
            case _:
                control.on_timeout(first * 100, bool(second % 2), 0)
        assert control.cwnd_bytes >= MSS
        assert control.ssthresh_bytes >= 2 * MSS


def test_idle_leaves_the_restart_window_and_ssthresh() -> None:
    control = avoiding(25)
    control.ssthresh_bytes = 20 * MSS
    control.on_idle()
    assert (control.cwnd_bytes, control.ssthresh_bytes) == (10 * MSS, 20 * MSS)


def test_idle_raises_no_window() -> None:
    control = avoiding(3)
    control.on_idle()
    assert control.cwnd_bytes == 3 * MSS


def test_what_idleness_took_is_not_given_back_by_an_undone_response() -> None:
    control = avoiding(40)
    control.on_loss(40 * MSS, 0)
    control.on_idle()
    control.on_undone()
    assert (control.cwnd_bytes, control.ssthresh_bytes) == (10 * MSS, 40 * MSS)
