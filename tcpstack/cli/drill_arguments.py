"""The options of `tcpstack drill`, and what they mean. Light to import: `--help` must not wait for the engine."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

DESCRIPTION = """\
Run scripts in packetdrill's language: they inject packets, expect packets at their times, and make socket calls.
By default they run on this project's own TCP, in virtual time and without root; with --kernel the same file runs
against Linux, in real time and in a network namespace of its own.
"""
EPILOG = """\
example:
  tcpstack drill handshake.pkt            on this project's TCP
  tcpstack drill --kernel handshake.pkt   on the kernel's

A script that fails is told of with its line, the packet that was expected beside the one that was seen, and the
conversation up to there. The exit status is 0 where all passed, 1 where one failed, 2 where one is no script or asks
for what is not there. docs/drill.md has the language.
"""
_VALUES = (
    ("ip_version", "ipv4|ipv6", "the version of IP (default: ipv4)"),
    ("tolerance_usecs", "N", "how far from its time an event may be, in microseconds (default: 4000)"),
    ("tolerance_percent", "N", "the same, as a share of the time since the event before (default: 12.5)"),
    ("mtu", "N", "of the link (default: 1500)"),
    ("mss", "N", "on Linux, larger packets to inject are trains of segments of N octets (default: they are not)"),
    ("local_ip", "ADDRESS", "of the TCP that is tested"),
    ("remote_ip", "ADDRESS", "of the script's host"),
    ("bind_port", "N", "where bind(3, ..., ...) binds (default: 8080)"),
    ("connect_port", "N", "where connect(3, ..., ...) connects to (default: 8080)"),
    ("tcp_ts_tick_usecs", "N", "check timestamps, with ticks of this length (default: do not)"),
)
_WITHOUT_MEANING = ("gateway_ip", "netmask_ip")
"""What the programs that run the known corpora give besides, with --send_omit_free; see settings.WITHOUT_MEANING."""


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What to run, where and how. `settings` are packetdrill's own options, as given; they prevail over a script's."""

    paths: tuple[str, ...]
    kernel: bool
    differences: bool
    verbose: bool
    settings: tuple[tuple[str, str], ...]
    defines: dict[str, str]


def add_drill_parser(commands: Any) -> None:
    """Declare the subcommand; `drill_options` reads what it has parsed."""
    parser = commands.add_parser(
        "drill",
        help="run packetdrill scripts against this TCP, or against the kernel's",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="+", metavar="FILE", help="a script, - for stdin, or a directory: all *.pkt beneath it"
    )
    parser.add_argument("--kernel", action="store_true", help="against Linux, in a network namespace of its own")
    parser.add_argument(
        "--differences", action="store_true", help="run nothing: list where the scripts let the two differ, and why"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show the conversation of each script as a ladder")
    parser.add_argument(
        "-D", "--define", metavar="NAME=VALUE", action="append", default=[], type=_definition,
        help="a word that stands for another; may be repeated",
    )  # fmt: skip
    group = parser.add_argument_group("packetdrill's options, which a script may also set itself")
    for name, metavar, what in _VALUES:
        group.add_argument(f"--{name}", metavar=metavar, help=what)
    for name in _WITHOUT_MEANING:
        group.add_argument(f"--{name}", metavar="ADDRESS", help=argparse.SUPPRESS)
    group.add_argument("--send_omit_free", action="store_true", help=argparse.SUPPRESS)
    group.add_argument("--strict_segments", action="store_true", help="take no several segments for one large packet")


def drill_options(parsed: argparse.Namespace) -> DrillOptions:
    """What was asked for."""
    settings = [(name, getattr(parsed, name)) for name, _, _ in _VALUES if getattr(parsed, name) is not None]
    if parsed.strict_segments:
        settings.append(("strict_segments", ""))
    return DrillOptions(
        paths=tuple(parsed.paths),
        kernel=parsed.kernel,
        differences=parsed.differences,
        verbose=parsed.verbose,
        settings=tuple(settings),
        defines=dict(parsed.define),
    )


def _definition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value
