"""What the bench says: tables that read as plain text and as Markdown, the bars of the chart, and their place in a
document."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

import tcpstack

from ..marked import put_between
from .chart import Bar, Group
from .kernel_peer import KEPT_ALIVE, MANY_FLOWS
from .session import BULK, MEMORY, NO_OFFLOAD_SERVERS, PEERS, SERVERS, SIMULATION, Outcome, Plan, Series
from .simulation import CODECS, CONNECTIONS, STREAMS, STREAMS_CONNECTIONS

BEGIN = "<!-- figures: measured by `python -m tools.bench --peers --write docs/performance.md` -->"
END = "<!-- end of figures -->"

_TITLES = {
    "bare": "bare loop",
    "protocol": "tcpstack, Protocol",
    "streams": "tcpstack, streams",
    "kernel": "kernel, streams",
    "mitmproxy": "mitmproxy-rs",
    "pytcp": "pmd-pytcp",
}
_TITLES |= {server: _TITLES[twin] for server, twin in zip(NO_OFFLOAD_SERVERS, SERVERS, strict=False)}


@dataclass(frozen=True)
class Row:
    """One figure of one measurement. `more_is_better` says which way round the ratio is taken; `drawn_as`, under what
    name it is in the chart too, where it is."""

    title: str
    name: str
    field: str
    more_is_better: bool = True
    drawn_as: str = ""


def _bulk_rows(title: str, name: str) -> tuple[Row, Row]:
    return (
        Row(f"{title}, Gbit/s", name, "gbit_per_s", drawn_as=title),
        Row(f"{title}, CPU s/GB", name, "cpu_s_per_gb", more_is_better=False),
    )


ROWS = (
    *_bulk_rows("bulk in", "bulk-in"),
    *_bulk_rows(f"bulk in, {MANY_FLOWS} flows", f"bulk-in-{MANY_FLOWS}"),
    *_bulk_rows("bulk out", "bulk-out"),
    *_bulk_rows(f"bulk out, {MANY_FLOWS} flows", f"bulk-out-{MANY_FLOWS}"),
    Row("connections/s", "connects", "per_s", drawn_as="connections"),
    Row(f"requests/s, {KEPT_ALIVE} connections", "requests", "per_s", drawn_as="small requests"),
    Row("CPU us/request", "requests", "cpu_us_each", more_is_better=False),
    Row("ping, median us", "ping", "median_us", more_is_better=False),
    Row("ping, p99 us", "ping", "p99_us", more_is_better=False),
    Row("ping on one CPU, median us", "ping-on-one-cpu", "median_us", more_is_better=False, drawn_as="ping on one CPU"),
    Row("ping on one CPU, p99 us", "ping-on-one-cpu", "p99_us", more_is_better=False),
)


@dataclass(frozen=True)
class Table:
    """The first of the servers is what the others are compared with."""

    title: str
    servers: tuple[str, ...]
    rows: tuple[Row, ...]


TABLES = (
    Table("With offload", SERVERS + PEERS, ROWS),
    Table("Without offload", NO_OFFLOAD_SERVERS + PEERS, tuple(row for row in ROWS if row.name in BULK)),
)
MEMORY_ROWS = {
    "protocol": "idle connection, Protocol",
    "streams": "idle connection, streams",
    "syn_record": "SYN record",
    "time_wait": "TIME-WAIT entry",
}

_CARRIED = {"segments": "Segments", "octets": "octets", "dpkt": "octets, by dpkt"}
SIMULATION_ROWS = {
    f"{codec}-{count}": f"{count} connection{'s' if count > 1 else ''}, {_CARRIED[codec]}"
    for count in CONNECTIONS
    for codec in CODECS
} | {STREAMS: f"{STREAMS_CONNECTIONS} connections of streams, ping"}


def render(plan: Plan, outcome: Outcome) -> str:
    """The whole report."""
    parts = [_conditions(plan, outcome)]
    for table in TABLES:
        rows = _measured(table.rows, plan)
        if rows:
            servers = _taking_part(table, outcome)
            lines = [[table.title, *(_TITLES[server] for server in servers)]]
            for row in rows:
                lines.append([row.title, *(_cell(row, outcome.series, server, servers[0]) for server in servers)])
            parts.append(_aligned(lines))
    if MEMORY in plan.names:
        cells = [[title, _rounded(outcome.memory[name])] for name, title in MEMORY_ROWS.items()]
        parts.append(_aligned([["Memory", "octets"], *cells]))
    if SIMULATION in plan.names:
        lines = [["Simulation", "of real time", "CPU s/minute", "segments/s", "events/s"]]
        for name, title in SIMULATION_ROWS.items():
            speeds = [found[name] for found in outcome.simulation]
            pace = [speed["simulated_s"] for speed in speeds]
            others = [[speed[field] for speed in speeds] for field in ("segments", "events")]
            minute = _rounded(60 / median(pace))
            lines.append([title, _with_range(pace, "x"), minute, *(_rounded(median(values)) for values in others)])
        parts.append(_aligned(lines))
    remarks = [*_peculiarities(outcome.series), *outcome.installed.missing]
    remarks += [f"Failed: {problem}." for problem in dict.fromkeys(outcome.failures.values())]
    return "\n\n".join("\n".join(lines) for lines in (*parts, remarks) if lines) + "\n"


def groups(plan: Plan, outcome: Outcome) -> list[Group]:
    """The bars of the chart: of each row that is drawn the ratios to the bare loop, of those who have one."""
    found = []
    for table in TABLES:
        bare, *others = _taking_part(table, outcome)
        for row in _measured(table.rows, plan):
            if row.drawn_as:
                title = f"{row.drawn_as}{'' if bare == SERVERS[0] else ', without offload'}"
                measured = [server for server in others if (row.name, server) in outcome.series]
                bars = (Bar(_TITLES[server], _ratio(row, outcome.series, server, bare)) for server in measured)
                found.append(Group(title, tuple(bars)))
    return found


def embedded(document: str, report: str) -> str:
    """The document with the report between its markers. Raises ValueError where it lacks the markers."""
    return put_between(document, BEGIN, END, report.rstrip("\n"))


def _measured(rows: Sequence[Row], plan: Plan) -> list[Row]:
    return [row for row in rows if row.name in plan.names]


def _taking_part(table: Table, outcome: Outcome) -> list[str]:
    return [server for server in table.servers if server not in PEERS or server in outcome.installed.names]


def _cell(row: Row, series: Series, server: str, bare: str) -> str:
    if (row.name, server) not in series:
        return "failed"
    values = _values(row, series, server)
    figure = _with_range(values)
    if server == bare:
        return figure
    return f"{_rounded(_ratio(row, series, server, bare), 2)}x ({figure})"


def _with_range(values: Sequence[float], unit: str = "") -> str:
    middle = median(values)
    return f"{_rounded(middle)}{unit} ±{(max(values) - min(values)) / 2 / middle:.0%}"


def _ratio(row: Row, series: Series, server: str, bare: str) -> float:
    """How good, beside the bare loop. Of each round by itself: what slowed both down cancels out."""
    pairs = zip(_values(row, series, server), _values(row, series, bare), strict=True)
    return median(value / other if row.more_is_better else other / value for value, other in pairs)


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


def _conditions(plan: Plan, outcome: Outcome) -> list[str]:
    python = f"{platform.python_implementation()} {platform.python_version()}, uvloop {version('uvloop')}"
    linux = f"Linux {'.'.join(platform.release().split('.')[:2])}, {len(os.sched_getaffinity(0))} CPUs"
    rounds = f"{plan.rounds} rounds" if plan.rounds > 1 else "One round"
    return [
        "; ".join([f"tcpstack {tcpstack.__version__}", python, linux, "MTU 1500", *outcome.installed.versions]) + ".",
        f"{rounds} of {plan.seconds:g} s a measurement: medians, ± half the range. "
        "0.50x: half as good as the bare loop in the same round.",
    ]


def _peculiarities(series: Series) -> list[str]:
    """What the kernel's end has to say of the bulk measurements."""
    bulk = [(server, found) for (_, server), results in series.items() for found in results]
    controls = {str(found["congestion_control"]) for _, found in bulk if "congestion_control" in found}
    resent: Counter[str] = Counter()
    for server, found in bulk:
        resent[server] += int(found.get("retransmissions", 0))
    lines = [f"The kernel's congestion control was {', '.join(sorted(controls))}."] if controls else []
    lost = ", ".join(
        f"{count:,} ({_TITLES[server]}{', no offload' if server in NO_OFFLOAD_SERVERS else ''})"
        for server, count in resent.items()
        if count
    )
    if lost:
        lines.append(f"Segments that the kernel sent again: {lost}.")
    return lines
