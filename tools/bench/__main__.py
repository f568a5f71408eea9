"""Measures this version of tcpstack against a bare loop on the TUN, and against the kernel.

    python -m tools.bench                             everything: about ten minutes
    python -m tools.bench --quick bulk-in ping        some of it, in short
    python -m tools.bench --peers                     also other TCP stacks for Python, installed for the purpose
    python -m tools.bench --peers --write docs/performance.md
                                                      everything, into the document and the chart beside it

Needs root or user namespaces, and /dev/net/tun in either case. The machine should have two CPUs, one
for each end, and nothing else to do.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from . import chart
from .report import embedded, groups, render
from .session import NAMES, BenchError, Plan, run

_CHART_TITLE = "Speed beside a bare loop in Python, which is no TCP: longer is better"


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    seconds, rounds, connections = (1.0, 3, 2_000) if options.quick else (2.0, 5, 10_000)
    plan = Plan(
        tuple(options.measurements) or NAMES,
        options.seconds or seconds,
        options.rounds or rounds,
        options.peers,
        connections,
    )
    document: Path | None = options.write
    # As Ctrl-C: the processes that were started are ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if document is not None:
            embedded(document.read_text(encoding="utf-8"), "")  # better now than after ten minutes
        try:
            outcome = run(plan, _tell)
        finally:
            _tell("")
        report = render(plan, outcome)
        print(report, end="")
        if document is not None:
            write(document, report, chart.svg(_CHART_TITLE, groups(plan, outcome), "the bare loop"))
    except (BenchError, OSError, ValueError) as error:
        print(f"tools.bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def write(document: Path, report: str, drawing: str) -> None:
    """Put the drawing beside the document, and both between its markers. Raises ValueError where it lacks them."""
    picture = document.with_suffix(".svg")
    text = embedded(document.read_text(encoding="utf-8"), f"![{_CHART_TITLE}]({picture.name})\n\n{report}")
    picture.write_text(drawing, encoding="utf-8")
    document.write_text(text, encoding="utf-8")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = f"what to measure, of {', '.join(NAMES)}; everything by default"
    parser.add_argument("measurements", nargs="*", type=_measurement, metavar="MEASUREMENT", help=which)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s instead of 5 of 2 s")
    parser.add_argument("--seconds", type=_positive(float), metavar="S", help="how long each measurement takes")
    parser.add_argument("--rounds", type=_positive(int), metavar="N", help="how often everything is measured")
    parser.add_argument(
        "--peers", action="store_true", help="install mitmproxy-rs and pmd-pytcp for this run, and measure them too"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the report between its markers in FILE, a chart beside it"
    )
    options = parser.parse_args(arguments)
    if options.write is not None and options.measurements:
        parser.error("--write takes no selection: the document shows everything")
    return options


def _measurement(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(NAMES)}")
    return text


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    return convert


def _tell(text: str) -> None:
    """One line that changes, for whoever waits at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
