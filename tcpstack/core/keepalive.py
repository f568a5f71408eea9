"""Keep-alives (RFC 9293 3.8.4, RFC 1122 4.2.3.6): a peer that says nothing for long is asked whether it is there.

A probe is <SEQ=SND.NXT-1><CTL=ACK> without text: outside the peer's window, so that its first check has to answer.
Probes and answers get lost, so a connection is given up only when several in a row brought nothing; whatever arrives
is an answer. The timer is lazy: an arrival is noted and no more, and a timer that goes off looks at when the last was.
"""

from __future__ import annotations

from typing import NamedTuple

from .timers import NEVER

# What on_timer found.
QUIET = 0
PROBE = 1
DEAD = 2

_SECOND_NS = 1_000_000_000


class KeepAliveSettings(NamedTuple):
    """Config.keepalive, keepalive_idle_ns, keepalive_interval_ns and keepalive_probes."""

    on: bool
    idle_ns: int
    interval_ns: int
    probes: int


def checked(settings: KeepAliveSettings) -> KeepAliveSettings:
    """The same. Raises ValueError for what they can't be."""
    for name, value_ns in (("idle_ns", settings.idle_ns), ("interval_ns", settings.interval_ns)):
        if not 0 < value_ns < NEVER:
            raise ValueError(f"keepalive_{name} must be a positive number of nanoseconds below 2^63, not {value_ns}")
    if settings.probes < 1:
        raise ValueError(f"keepalive_probes must be 1 or more, not {settings.probes}")
    return settings


class KeepAlive:
    """`heard_ns` is when the last segment came, kept by the connection; `timer_ns` the deadline (NEVER where off)."""

    __slots__ = ("_probed_ns", "_unanswered", "heard_ns", "settings", "timer_ns")

    def __init__(self, settings: KeepAliveSettings, now_ns: int) -> None:
        self.settings = settings
        self.heard_ns = now_ns
        self.timer_ns = now_ns + settings.idle_ns if settings.on else NEVER
        self._probed_ns = 0
        self._unanswered = 0

    def set(self, settings: KeepAliveSettings, now_ns: int) -> None:
        """Switched on, it counts from now; while it is on, new numbers count from the last arrival."""
        if not self.settings.on:
            self.heard_ns = now_ns
        self.settings = settings
        self.timer_ns = self.heard_ns + settings.idle_ns if settings.on else NEVER
        self._unanswered = 0

    def on_timer(self, idle: bool, now_ns: int) -> int:
        """The timer went off. PROBE where a probe is to leave now, DEAD where enough of them brought nothing.

        `idle` is whether nothing is outstanding or waits to leave: else the retransmission or persist timer runs, and
        when it has come to an end something was heard.
        """
        settings = self.settings
        if not idle or now_ns - self.heard_ns < settings.idle_ns:
            self.timer_ns = (self.heard_ns if idle else now_ns) + settings.idle_ns
            return QUIET
        if self.heard_ns >= self._probed_ns:
            self._unanswered = 0
        if self._unanswered >= settings.probes:
            self.timer_ns = NEVER
            return DEAD
        self._unanswered += 1
        self._probed_ns = now_ns
        self.timer_ns = now_ns + settings.interval_ns
        return PROBE

    @property
    def reason(self) -> str:
        """Of the probe that leaves now."""
        count = f" {self._unanswered} of {self.settings.probes}" if self._unanswered > 1 else ""
        return f"keep-alive probe{count}: nothing heard for {_in_words(self._probed_ns - self.heard_ns)}"


def _in_words(time_ns: int) -> str:
    if time_ns < 60 * _SECOND_NS:
        return f"{time_ns / _SECOND_NS:.2g} s"
    minutes, seconds = divmod(round(time_ns / _SECOND_NS), 60)
    hours, minutes = divmod(minutes, 60)
    return " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min"), (seconds, "s")) if count)
