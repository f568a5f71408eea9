"""Each example of docs/simulation.md runs, and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "simulation.md").read_text()
EXAMPLES = re.findall(r"^## (.+?)$.*?^```python\n(.*?)^```$.*?^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_page_has_an_example_in_each_section():
    assert len(EXAMPLES) == PAGE.count("```python\n") == PAGE.count("\n## ")


@pytest.mark.parametrize(("section", "source", "output"), EXAMPLES, ids=[section for section, *_ in EXAMPLES])
def test_example_prints_what_the_page_says(section: str, source: str, output: str, tmp_path: Path):
    command, environment = [sys.executable, "-W", "error", "-c", source], {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.stdout == output
