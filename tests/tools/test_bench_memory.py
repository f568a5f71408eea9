"""tools.bench.memory: what it counts is there, and is all that it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def octets() -> dict[str, float]:
    command = (sys.executable, "-m", "tools.bench.memory", "300")
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=True)
    return json.loads(done.stdout)


def test_counts_each_kind(octets):
    assert set(octets) == {"protocol", "streams", "syn_record", "time_wait"}


def test_streams_cost_more_than_a_protocol_and_both_more_than_records(octets):
    assert octets["streams"] > octets["protocol"] > 2 * octets["syn_record"]
    assert octets["protocol"] > 2 * octets["time_wait"]


@pytest.mark.parametrize("kind", ["syn_record", "time_wait"])
def test_record_is_counted_with_what_it_holds(octets, kind):
    # An object with a few slots, its name and its place in a table: less can't be, and a Connection would be far more.
    assert 100 < octets[kind] < 1000
