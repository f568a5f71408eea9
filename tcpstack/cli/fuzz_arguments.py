"""The options of `tcpstack fuzz`."""

from __future__ import annotations

import argparse
import os
from typing import Any

DESCRIPTION = """\
Search for bugs: random networks, faults and programs on the real engine, in virtual time, checked after every event.
What is found is shrunk and kept as a script, and named by its seed, which gives the same case on every machine.
"""
EPILOG = """\
example:
  tcpstack fuzz --seconds 60

The last line says how many cases ran, how many hours of network they simulated, and how many failed. The exit status
is 0 where none did, 1 where some did, and 2 where a process that played them died. Ctrl-C ends it after the cases
that are under way, a second one at once, and the status is 130.
"""


def add_fuzz_parser(commands: Any) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "fuzz",
        help="search for bugs in virtual time",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--seconds", type=_positive(float), metavar="N", help="how long to search")
    amount.add_argument("--cases", type=_positive(int), metavar="N", help="how many cases to play")
    parser.add_argument("--seed", type=_seed, metavar="S", help="the first case's seed (default: a fresh one, printed)")
    parser.add_argument(
        "--jobs", type=_positive(int), default=len(os.sched_getaffinity(0)), metavar="N",
        help="how many processes play (default: one for each CPU)",
    )  # fmt: skip
    parser.add_argument(
        "--save", default="tests/sim/cases", metavar="DIR", help="where failing cases are kept (default: %(default)s)"
    )


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _positive(kind: type[int] | type[float]) -> Any:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(0)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
        return value

    return number
