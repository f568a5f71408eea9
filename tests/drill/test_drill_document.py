"""docs/drill.md: its scripts run, its list of differences is the scripts', its list of calls the program's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tcpstack.drill.calls import SUPPORTED
from tcpstack.drill.run import PASSED, run_file
from tools.drill_differences import PART

TEXT = PART.path.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```packetdrill\n(.*?)```", TEXT, re.DOTALL)


def test_there_is_more_than_one_example() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_passes(example: str, tmp_path: Path) -> None:
    path = tmp_path / "example.pkt"
    path.write_text(example)

    assert run_file(path).verdict == PASSED


def test_the_list_of_differences_is_that_of_the_scripts() -> None:
    assert PART.updated(TEXT) == TEXT, "run python -m tools.drill_differences --write"


def test_every_call_is_listed() -> None:
    section = TEXT.split("### Calls")[1].split("###")[0]

    assert set(re.findall(r"`(\w+)`", section)) >= set(SUPPORTED)
