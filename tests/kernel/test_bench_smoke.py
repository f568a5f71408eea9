"""The bench in short: every measurement against every server, and what becomes of its processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.bench import chart
from tools.bench.kernel_peer import MEASUREMENTS
from tools.bench.peers import Installed
from tools.bench.report import ROWS, TABLES, groups, render
from tools.bench.session import MEMORY, NAMES, SERVERS, SIMULATION, BenchError, Outcome, Plan, Server, run

pytestmark = pytest.mark.tun
PROJECT = Path(__file__).parents[2]
PLAN = Plan(seconds=0.1, rounds=1, connections=100)
PAIRS = [(name, server) for name in NAMES for server in PLAN.servers_for(name)]


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return run(PLAN)


@pytest.mark.parametrize(("name", "server"), PAIRS)
def test_measurement_gives_sane_figures(outcome, name, server):
    (results,) = outcome.series[name, server]
    rows = [row for row in ROWS if row.name == name]
    assert rows, "each measurement is shown"
    for row in rows:
        assert results[row.field] > 0, row.title
    if name.startswith("bulk"):
        # A process of one thread: its CPU time can't be more than the time, but the two are not read at once.
        assert results["cpu_s_per_gb"] * results["gbit_per_s"] / 8 < 2
    if name == "requests":
        assert results["cpu_us_each"] * results["per_s"] < 2e6
    if name.startswith("ping"):
        assert results["median_us"] <= results["p99_us"]


def test_everything_is_measured(outcome):
    assert set(outcome.series) == set(PAIRS)
    assert {name for name, _ in PAIRS} | {MEMORY, SIMULATION} == set(NAMES) >= set(MEASUREMENTS)
    assert not outcome.failures


def test_report_shows_each_row_with_ratios_to_the_bare_loop(outcome):
    parts = [part.splitlines() for part in render(PLAN, outcome).split("\n\n")]
    for table, lines in zip(TABLES, parts[1:3], strict=True):
        assert len(lines) == 2 + len(table.rows)
        assert len({len(line) for line in lines}) == 1, "columns are aligned"
        for row, line in zip(table.rows, lines[2:], strict=True):
            title, bare, *others = (cell.strip() for cell in line.strip("|").split("|"))
            assert title == row.title
            assert "x (" not in bare
            assert others
            assert all("x (" in cell for cell in others)


def test_chart_draws_what_was_measured(outcome):
    drawn = groups(PLAN, outcome)
    assert [len(group.bars) for group in drawn] == [3] * 7 + [2] * 4
    assert chart.svg("speed", drawn, "the bare loop").count('height="13"') == 3 * 7 + 2 * 4


def test_offload_makes_bulk_cheaper_for_the_bare_loop(outcome):
    # Forty-odd packets in one: if superpackets did not cross, the two would cost the same.
    for name in ("bulk-in", "bulk-out"):
        [with_offload], [without] = (outcome.series[name, server] for server in ("bare", "bare-no-offload"))
        assert with_offload["cpu_s_per_gb"] < without["cpu_s_per_gb"] / 3


def test_server_that_is_gone_fails_the_measurement_by_name():
    with Server("bare") as server:
        server.end()
        with pytest.raises(BenchError, match="ping against bare failed: "):
            server.measure("ping", PLAN)


def test_peer_that_does_not_work_is_left_out_and_the_rest_is_measured(monkeypatch):
    monkeypatch.setattr("tools.bench.peers.install", lambda directory: Installed(names=("pytcp",)))
    plan = Plan(names=("connects",), seconds=0.05, rounds=2, with_peers=True)
    outcome = run(plan)
    assert outcome.failures == {("connects", "pytcp"): "the server pytcp did not start"}
    assert set(outcome.series) == {("connects", server) for server in SERVERS}
    assert all(len(results) == 2 for results in outcome.series.values())


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
