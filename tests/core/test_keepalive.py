"""What keep-alives are set to, and how a probe says why it leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpstack.core.config import SECOND_NS, Config
from tcpstack.core.keepalive import DEAD, PROBE, QUIET, KeepAlive, KeepAliveSettings, checked
from tcpstack.core.timers import NEVER

START_NS = 1_000 * SECOND_NS
HOUR_NS = 3600 * SECOND_NS
SETTINGS = KeepAliveSettings(True, 7200 * SECOND_NS, 75 * SECOND_NS, 9)


@pytest.mark.rfc9293("MUST-25", "MUST-28")
def test_defaults_are_off_and_two_hours_with_linuxs_probes() -> None:
    assert Config().keepalive_settings == SETTINGS._replace(on=False)


@pytest.mark.rfc9293("MUST-27")
def test_config_s_variant_has_the_settings_of_its_own_values() -> None:
    variant = replace(Config(keepalive=True, keepalive_idle_ns=9), keepalive_interval_ns=8, keepalive_probes=7)
    assert variant.keepalive_settings == (True, 9, 8, 7)
    assert "keepalive_settings" not in repr(variant)


@pytest.mark.parametrize("value", [0, -1, NEVER])
@pytest.mark.parametrize("field", ["idle_ns", "interval_ns"])
def test_time_that_is_none_is_refused_by_name(field: str, value: int) -> None:
    message = f"keepalive_{field} must be a positive number of nanoseconds below 2\\^63, not {value}"
    with pytest.raises(ValueError, match=message):
        Config(**{f"keepalive_{field}": value})
    with pytest.raises(ValueError, match=message):
        checked(SETTINGS._replace(**{field: value}))


def test_no_probe_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="keepalive_probes must be 1 or more, not 0"):
        Config(keepalive_probes=0)


def test_timer_that_is_late_waits_from_when_it_was_served() -> None:
    keepalive = KeepAlive(SETTINGS, START_NS)
    now_ns = START_NS + 3 * HOUR_NS
    assert keepalive.on_timer(True, now_ns) == PROBE
    assert keepalive.timer_ns == now_ns + 75 * SECOND_NS


def test_arrival_costs_nothing_and_the_timer_finds_it() -> None:
    keepalive = KeepAlive(SETTINGS, START_NS)
    keepalive.heard_ns = START_NS + HOUR_NS
    assert keepalive.timer_ns == START_NS + 2 * HOUR_NS
    assert keepalive.on_timer(True, START_NS + 2 * HOUR_NS) == QUIET
    assert keepalive.timer_ns == START_NS + 3 * HOUR_NS


@pytest.mark.rfc9293("MUST-26")
def test_what_is_outstanding_puts_it_off_by_a_whole_interval() -> None:
    keepalive = KeepAlive(SETTINGS, START_NS)
    assert keepalive.on_timer(False, START_NS + 2 * HOUR_NS) == QUIET
    assert keepalive.timer_ns == START_NS + 4 * HOUR_NS


@pytest.mark.rfc9293("MUST-29")
def test_dead_is_who_answers_none_of_nine() -> None:
    keepalive = KeepAlive(SETTINGS, START_NS)
    found = []
    while not found or found[-1] == PROBE:
        now_ns = keepalive.timer_ns
        found.append(keepalive.on_timer(True, now_ns))
    assert found == [PROBE] * 9 + [DEAD]
    assert now_ns == START_NS + (7200 + 9 * 75) * SECOND_NS
    assert keepalive.timer_ns == NEVER


def test_settings_that_change_between_probes_begin_anew() -> None:
    keepalive = KeepAlive(SETTINGS._replace(probes=1), START_NS)
    assert keepalive.on_timer(True, START_NS + 2 * HOUR_NS) == PROBE
    keepalive.set(SETTINGS._replace(probes=1, interval_ns=5), START_NS + 2 * HOUR_NS + 1)
    assert keepalive.timer_ns == START_NS + 2 * HOUR_NS
    assert keepalive.on_timer(True, START_NS + 2 * HOUR_NS + 1) == PROBE


@pytest.mark.parametrize(
    ("time_ns", "words"),
    [
        (250_000_000, "0.25 s"), (1_000_400_000, "1 s"), (59 * SECOND_NS, "59 s"),
        (60 * SECOND_NS, "1 min"), (75 * SECOND_NS, "1 min 15 s"), (3600 * SECOND_NS, "1 h"),
        (7275 * SECOND_NS + 400_000, "2 h 1 min 15 s"), (7202 * SECOND_NS, "2 h 2 s"), (90_000 * SECOND_NS, "25 h"),
    ],
)  # fmt: skip
def test_reason_names_the_silence_in_words(time_ns: int, words: str) -> None:
    keepalive = KeepAlive(SETTINGS._replace(idle_ns=1), START_NS)
    keepalive.on_timer(True, START_NS + time_ns)
    assert keepalive.reason == f"keep-alive probe: nothing heard for {words}"
