"""The bench in short: every measurement against every server, and what becomes of its processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.bench.__main__ import main
from tools.bench.report import BEGIN, END, ROWS, embedded, render
from tools.bench.session import NAMES, SERVERS, BenchError, Plan, Series, Server, run

pytestmark = pytest.mark.tun
PROJECT = Path(__file__).parents[2]
PLAN = Plan(seconds=0.2, rounds=1)


@pytest.fixture(scope="module")
def series() -> Series:
    return run(PLAN)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", NAMES)
def test_measurement_gives_sane_figures(series, name, server):
    (results,) = series[name, server]
    rows = [row for row in ROWS if row.name == name]
    assert rows, "each measurement is shown"
    for row in rows:
        assert results[row.field] > 0, row.title
    if name.startswith("bulk"):
        # MTU 1500: a full packet has 1460 octets of text. Some are not full; and what was under way when the
        # measuring began or ended counts as a packet and not as acknowledged octets.
        octets_a_packet = results["gbit_per_s"] * 1e9 / 8 / results["packets_per_s"]
        assert octets_a_packet == pytest.approx(1460, rel=0.5)
        # A process of one thread: its CPU time can't be more than the time, but the two are not read at once.
        assert results["cpu_s_per_gb"] * results["gbit_per_s"] / 8 < 2
    if name.startswith("ping"):
        assert results["median_us"] <= results["p99_us"]


def test_report_shows_each_row_with_ratios_to_the_bare_loop(series):
    lines = render(PLAN, series).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(ROWS)
    assert len({len(line) for line in table}) == 1, "columns are aligned"
    for row, line in zip(ROWS, table[2:], strict=True):
        title, bare, *others = (cell.strip() for cell in line.strip("|").split("|"))
        assert title == row.title
        assert "x (" not in bare
        assert len(others) == len(SERVERS) - 1
        assert all("x (" in cell for cell in others)


def test_ratio_is_of_the_same_round_and_more_is_better():
    plan = Plan(names=("connects", "ping"), rounds=3)
    series: Series = {(name, server): [] for name in plan.names for server in SERVERS}
    for pace in (1, 10, 2):
        for server in SERVERS:
            half = 1 if server == "bare" else 2
            series["connects", server].append({"per_s": 1000.0 * pace / half})
            series["ping", server].append({"median_us": 20.0 / pace * half, "p99_us": 40.0 / pace * half})

    report = render(plan, series)

    connects = next(line for line in report.splitlines() if line.startswith("| connections/s"))
    assert "| 2,000 ±225% |" in connects
    assert connects.count("0.50x (1,000 ±225%)") == 3
    median = next(line for line in report.splitlines() if line.startswith("| ping, median"))
    assert median.count("0.50x (20.0 ") == 3


def test_embedding_replaces_what_is_between_the_markers():
    once = embedded(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert embedded(once, "new\n") == once
    with pytest.raises(ValueError, match="markers are missing"):
        embedded("no markers", "new\n")


def test_document_has_the_markers():
    embedded((PROJECT / "docs" / "performance.md").read_text(encoding="utf-8"), "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["speed"], "'speed' is none of bulk-in"),
        (["--rounds", "0"], "'0' is not a number above 0"),
        (["--seconds", "soon"], "'soon' is not a number above 0"),
        (["--write", "x.md", "ping"], "--write takes no selection"),
    ],
)
def test_bad_arguments_are_explained(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert complaint in capsys.readouterr().err


def test_server_that_is_gone_fails_the_measurement_by_name():
    with Server("bare") as server:
        server.end()
        with pytest.raises(BenchError, match="ping against bare failed: "):
            server.measure("ping", PLAN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_bench_ends_every_process(number):
    command = (sys.executable, "-m", "tools.bench", "--seconds", "60", "bulk-in")
    with subprocess.Popen(command, cwd=PROJECT, start_new_session=True) as bench:
        try:
            started = _started_by(bench.pid, until="tools.bench.kernel_peer")
            bench.send_signal(number)
            assert bench.wait(20) == 128 + number
        finally:
            bench.kill()
    assert [each for each in started.items() if _description(each[0]) == each[1]] == []


def _started_by(pid: int, until: str) -> dict[int, str]:
    """What `pid` has started, its children included, as soon as a program with `until` in its arguments is there."""
    for _ in range(600):
        found = {child: _description(child) for child in _descendants(pid)}
        if any(until in description for description in found.values()):
            return found
        time.sleep(0.05)
    raise TimeoutError(f"no {until} within 30 s: {found}")


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [each for child in map(int, children) for each in (child, *_descendants(child))]


def _description(pid: int) -> str:
    """The arguments of a process; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
