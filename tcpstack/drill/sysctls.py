"""The shell commands of scripts, as far as they are sysctls: on the engine nothing is executed, ever.

Corpora set Linux up with `sysctl -q net.ipv4.tcp_...=...`, with `./set_sysctls.py /proc/sys/net/...=...`, and with a
file defaults.sh that gives Linux's production defaults. What the engine has an equivalent for is set on its Config;
what it does anyway is accepted; all else is refused, so that no drill passes under conditions that were not there.
"""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.config import MILLISECOND_NS, SECOND_NS, Config
from ..core.congestion import CONTROLLERS
from .script import Unsupported

_PROC = re.compile(r"/proc/sys/(net/\S+?)=(.*)")
_SUM = re.compile(r"\$\(\(([\d\s*+()]+)\)\)")
_IGNORED_PROGRAMS = ("sysctl_restore", "ethtool", "tc")
"""What they set belongs to Linux's devices and queues, which the engine has not."""
_QUIET = re.compile("-[eqw]+")
_DEFAULTS = "defaults.sh"
_NESTING = 8
_MAX_DIGITS = 18
_DEFAULT_RECEIVE_BYTES = 15 * 1024 * 1024

# What the engine does, and cannot do otherwise.
_FIXED = {
    "tcp_ecn": "0",
    "tcp_fastopen": "0",
    "tcp_dsack": "1",
}
# Fields of Config that are on or off.
_SWITCHES = {
    "tcp_window_scaling": "window_scaling",
    "tcp_sack": "sack",
    "tcp_timestamps": "timestamps",
    "tcp_slow_start_after_idle": "slow_start_after_idle",
}
# RACK, tail loss probes and F-RTO come and go with SACK.
_OF_SACK = frozenset({"tcp_recovery", "tcp_early_retrans", "tcp_frto"})
# Fields of Config, and what their unit is in it.
_NUMBERS: dict[str, tuple[str, int]] = {
    "tcp_fin_timeout": ("fin_wait_2_ns", SECOND_NS),
    "tcp_rto_max_ms": ("rto_max_ns", MILLISECOND_NS),
    "tcp_keepalive_time": ("keepalive_idle_ns", SECOND_NS),
    "tcp_keepalive_intvl": ("keepalive_interval_ns", SECOND_NS),
    "tcp_keepalive_probes": ("keepalive_probes", 1),
}
# They are about how Linux does it (queues, pacing, caches), and no packet of a drill depends on them.
_WITHOUT_MEANING = frozenset({
    "tcp_no_metrics_save", "tcp_moderate_rcvbuf", "tcp_autocorking", "tcp_min_tso_segs", "tcp_tso_win_divisor",
    "tcp_tso_rtt_log", "tcp_pacing_ss_ratio", "tcp_pacing_ca_ratio", "tcp_notsent_lowat", "tcp_syncookies",
    "tcp_fastopen_key", "tcp_wmem", "tcp_invalid_ratelimit", "tcp_challenge_ack_limit", "tcp_max_syn_backlog",
    "tcp_reordering", "tcp_fack", "tcp_syn_linear_timeouts", "tcp_orphan_retries", "tcp_retries1",
})  # fmt: skip


class Sysctls:
    """config  what the engine starts with after the commands so far;  directory  where the script lies."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config = config
        self._directory = directory

    def run(self, text: str) -> None:
        """Take in a command, of several lines perhaps. Raises Unsupported for what is no sysctl that counts here."""
        self._take(text, 0)

    def _take(self, text: str, depth: int) -> None:
        """`depth` is how many files name this one."""
        for line in text.replace("\\\n", " ").splitlines():
            words = _words(line)
            if words:
                self._run(words, line.strip(), depth)

    def _run(self, words: list[str], line: str, depth: int) -> None:
        program = words[0].rpartition("/")[2]
        if program == _DEFAULTS:
            self.config = replace(
                self.config, receive_buffer_bytes=_DEFAULT_RECEIVE_BYTES, slow_start_after_idle=False
            )
        elif program == "sysctl":
            for word in words[1:]:
                if not _QUIET.fullmatch(word):
                    self._set(word, line)
        elif program == "set_sysctls.py":
            for word in words[1:]:
                found = _PROC.fullmatch(word)
                self._set(f"{found[1].replace('/', '.')}={found[2]}" if found else word, line)
        elif program.endswith(".sh") and (self._directory / words[0]).is_file() and len(words) == 1:
            if depth == _NESTING:
                raise Unsupported(f"`{line}`: files name one another {_NESTING} deep")
            self._take((self._directory / words[0]).read_text(encoding="utf-8", errors="replace"), depth + 1)
        elif program == "tc" and ({"netem", "fq"} & set(words) or ("limit", "0") in itertools.pairwise(words)):
            raise Unsupported(f"`{line}`: the engine has no queue that drops, delays or paces; --kernel has one")
        elif not (program.startswith(_IGNORED_PROGRAMS) or words[:2] == ["ip", "tcp_metrics"]):
            raise Unsupported(f"`{line}`: no command is run on the engine but sysctl; --kernel runs it")

    def _set(self, word: str, line: str) -> None:
        name, equals, value = word.partition("=")
        name = name.replace("/", ".").removeprefix("net.ipv4.")
        if not equals:
            raise Unsupported(f"`{line}`: {word!r} is no NAME=VALUE")
        value = value.strip().strip("\"'")
        if name == "tcp_rmem":
            size = _number(value.split()[-1] if value.split() else "", line)
            self.config = replace(self.config, receive_buffer_bytes=min(max(size, 1), 1 << 30))
        elif name in _SWITCHES:
            switched: dict[str, Any] = {_SWITCHES[name]: _number(value, line) != 0}
            self.config = replace(self.config, **switched)
        elif name in _OF_SACK:
            if (_number(value, line) != 0) != self.config.sack:
                as_with = f"with SACK the engine is as with {name}=1, with tcp_sack=0 as with {name}=0"
                raise Unsupported(f"`{line}`: {as_with}: set tcp_sack before")
        elif name in _NUMBERS:
            self._set_number(name, _number(value, line), line)
        elif name == "tcp_congestion_control":
            chosen = "newreno" if value == "reno" else value
            if chosen not in CONTROLLERS:
                raise Unsupported(f"`{line}`: the engine's congestion control is {' or '.join(CONTROLLERS)}")
            self.config = replace(self.config, congestion=chosen)
        elif name in _FIXED:
            if value != _FIXED[name]:
                raise Unsupported(f"`{line}`: the engine is as with {name}={_FIXED[name]}")
        elif name not in _WITHOUT_MEANING:
            raise Unsupported(f"`{line}`: the engine has nothing like {name}")

    def _set_number(self, name: str, number: int, line: str) -> None:
        field, unit = _NUMBERS[name]
        changed: dict[str, Any] = {field: number * unit}
        try:
            self.config = replace(self.config, **changed)
        except ValueError as error:
            raise Unsupported(f"`{line}`: {error}") from None


def _words(line: str) -> list[str]:
    line = _SUM.sub(lambda found: str(_product(found[1])), line)
    if line.lstrip().startswith("#"):
        return []
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return [line]


def _product(expression: str) -> int:
    """$((15*1024*1024)), the one arithmetic that these scripts have; 0 for any other."""
    factors = expression.replace(" ", "").split("*")
    total = 1
    for factor in factors:
        number = int(factor) if factor.isdecimal() and len(factor) <= _MAX_DIGITS else 0
        total = min(total * number, 1 << 60)
    return total


def _number(text: str, line: str) -> int:
    if not text.isdecimal() or len(text) > _MAX_DIGITS:
        raise Unsupported(f"`{line}`: {text!r} is no number")
    return int(text)
