"""What the bench says: a table that reads as plain text and as Markdown, and its place in a document."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

import tcpstack

from .session import SERVERS, Plan, Series

BEGIN = "<!-- figures: measured by `python -m tools.bench --write docs/performance.md` -->"
END = "<!-- end of figures -->"

_TITLES = {
    "bare": "bare loop",
    "protocol": "tcpstack, Protocol",
    "streams": "tcpstack, streams",
    "kernel": "kernel, streams",
}


@dataclass(frozen=True)
class Row:
    """One figure of one measurement. `more_is_better` says which way round the ratio is taken."""

    title: str
    name: str
    field: str
    more_is_better: bool = True


ROWS = (
    Row("bulk in, Gbit/s", "bulk-in", "gbit_per_s"),
    Row("bulk in, packets/s", "bulk-in", "packets_per_s"),
    Row("bulk in, CPU s/GB", "bulk-in", "cpu_s_per_gb", more_is_better=False),
    Row("bulk out, Gbit/s", "bulk-out", "gbit_per_s"),
    Row("bulk out, packets/s", "bulk-out", "packets_per_s"),
    Row("bulk out, CPU s/GB", "bulk-out", "cpu_s_per_gb", more_is_better=False),
    Row("connections/s", "connects", "per_s"),
    Row("ping, median us", "ping", "median_us", more_is_better=False),
    Row("ping, p99 us", "ping", "p99_us", more_is_better=False),
    Row("ping on one CPU, median us", "ping-on-one-cpu", "median_us", more_is_better=False),
    Row("ping on one CPU, p99 us", "ping-on-one-cpu", "p99_us", more_is_better=False),
)


def render(plan: Plan, series: Series) -> str:
    """The whole report."""
    lines = [["", *(_TITLES[server] for server in SERVERS)]]
    lines += [
        [row.title, *(_cell(row, series, server) for server in SERVERS)] for row in ROWS if row.name in plan.names
    ]
    return "\n".join([*_conditions(plan), *_aligned(lines), *_peculiarities(series)]) + "\n"


def embedded(document: str, report: str) -> str:
    """The document with the report between its markers. Raises ValueError where it lacks the markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the markers are missing: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{report}\n{END}{after}"


def _cell(row: Row, series: Series, server: str) -> str:
    values = _values(row, series, server)
    middle = median(values)
    figure = f"{_rounded(middle)} ±{(max(values) - min(values)) / 2 / middle:.0%}"
    if server == SERVERS[0]:
        return figure
    # Of each round by itself: what slowed both down cancels out.
    pairs = zip(values, _values(row, series, SERVERS[0]), strict=True)
    ratio = median(value / bare if row.more_is_better else bare / value for value, bare in pairs)
    return f"{_rounded(ratio, 2)}x ({figure})"


def _values(row: Row, series: Series, server: str) -> list[float]:
    return [float(results[row.field]) for results in series[row.name, server]]


def _rounded(value: float, digits: int = 3) -> str:
    """To so many significant digits, without an exponent."""
    shown = float(f"{value:.{digits}g}")
    return f"{shown:,.{max(digits - 1 - math.floor(math.log10(shown)), 0)}f}"


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    first, *rest = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return [f"| {' | '.join(cells)} |" for cells in (first, rule, *rest)]


def _conditions(plan: Plan) -> list[str]:
    python = f"{platform.python_implementation()} {platform.python_version()}, uvloop {version('uvloop')}"
    linux = f"Linux {'.'.join(platform.release().split('.')[:2])}, {len(os.sched_getaffinity(0))} CPUs"
    rounds = f"{plan.rounds} rounds" if plan.rounds > 1 else "One round"
    return [
        f"tcpstack {tcpstack.__version__}; {python}; {linux}; MTU 1500.",
        f"{rounds} of {plan.seconds:g} s a measurement: medians, ± half the range. "
        "0.50x: half as good as the bare loop in the same round.",
        "",
    ]


def _peculiarities(series: Series) -> list[str]:
    """What the kernel's end has to say of the bulk measurements."""
    bulk = [(server, found) for (_, server), results in series.items() for found in results]
    controls = {str(found["congestion_control"]) for _, found in bulk if "congestion_control" in found}
    resent = dict.fromkeys(SERVERS, 0)
    for server, found in bulk:
        resent[server] += int(found.get("retransmissions", 0))
    lines = [f"The kernel's congestion control was {', '.join(sorted(controls))}."] if controls else []
    lost = ", ".join(f"{count:,} to the {_TITLES[server]}" for server, count in resent.items() if count)
    if lost:
        lines.append(f"Segments that the kernel sent again: {lost}.")
    return ["", *lines] if lines else []
