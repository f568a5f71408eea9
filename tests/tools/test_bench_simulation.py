"""tools.bench.simulation: each row is there, and what happens in one does not hang on who measures it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench.report import SIMULATION_ROWS

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def speeds() -> dict[str, dict[str, float]]:
    command = (sys.executable, "-m", "tools.bench.simulation", "0.5")
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=True)
    return json.loads(done.stdout)


def test_measures_each_row(speeds):
    assert set(speeds) == set(SIMULATION_ROWS)


@pytest.mark.parametrize("name", SIMULATION_ROWS)
def test_link_is_as_busy_as_it_can_be(speeds, name):
    segments = speeds[name]["segments"] / speeds[name]["simulated_s"]
    if name == "streams":
        assert 900 < segments < 1_100, "10 connections, 50 messages there and back in a second each"
    else:
        assert segments > 10_000_000 / 8 / 1500, "full packets fill the line, and there are acknowledgements"


@pytest.mark.parametrize("connections", [1, 10, 100])
def test_same_happens_whatever_the_link_carries(speeds, connections):
    """As many segments and events in a simulated second, by each codec."""
    seen = {
        tuple(round(speed[field] / speed["simulated_s"], 3) for field in ("segments", "events"))
        for speed in (speeds[f"{kind}-{connections}"] for kind in ("segments", "octets", "dpkt"))
    }
    assert len(seen) == 1
