"""Runs pytest in a process of its own and reads what the plugin reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NO_TESTS_RAN = 5


class RunError(Exception):
    """pytest itself did not get to an end; the text is what it said."""


@dataclass(slots=True)
class MarkedTest:
    """One test function and what became of its cases: for each label, how often it passed, failed or was skipped.

    The counts are all zero where the test was collected and not run. `seconds` is how long all of its cases took.
    """

    path: str
    name: str
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0

    def passed(self, label: str) -> bool:
        """Whether it ran for this label and each case that ran passed."""
        counts = self.outcomes[label]
        return counts["passed"] > 0 and not counts["failed"]

    def failed(self, label: str) -> bool:
        return self.outcomes[label]["failed"] > 0


@dataclass(slots=True)
class Run:
    """What a run found. `package` is the directory that tcpstack was imported from."""

    package: Path
    tests: list[MarkedTest]
    failed: bool
    output: str

    def of(self, label: str) -> list[MarkedTest]:
        return [test for test in self.tests if label in test.outcomes]

    @property
    def labels(self) -> set[str]:
        return {label for test in self.tests for label in test.outcomes}


def run(
    root: Path, paths: list[str], *options: str, label: str | None = None, timeout_s: float | None = None
) -> Run:
    """Run (or with --collect-only only find) the marked tests in `paths` of the tree at `root`.

    Raises RunError where they can't be collected, subprocess.TimeoutExpired where they don't come to an end.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tools.conformance.plugin",
            f"--rfc9293-report={report}", *options,
        ]  # fmt: skip
        if label is not None:
            command.append(f"--rfc9293-label={label}")
        env = dict(os.environ, PYTHONPATH=str(root), PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(
            [*command, *paths], cwd=root, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout_s,
        )  # fmt: skip
        if done.returncode not in (0, 1, NO_TESTS_RAN) or not report.exists():
            raise RunError(done.stdout + done.stderr)
        found = json.loads(report.read_text())
    return Run(Path(found["package"]), _by_function(found["tests"]), done.returncode == 1, done.stdout)


def run_all(root: Path) -> Run:
    """Run all marked tests, by several processes at once where there are several files. Raises as `run` does."""
    files = marked_files(root)
    return run(root, files, *(("-n", "auto") if len(files) > 1 else ()))


def marked_files(root: Path) -> list[str]:
    """The test files in which the mark occurs: to look into the others would take ten times as long."""
    files = (root / "tests").rglob("test_*.py")
    return sorted(file.relative_to(root).as_posix() for file in files if "mark.rfc9293(" in file.read_text())


def _by_function(cases: list[dict[str, Any]]) -> list[MarkedTest]:
    tests: dict[tuple[str, str], MarkedTest] = {}
    for case in cases:
        key = case["path"], case["name"]
        test = tests.setdefault(key, MarkedTest(*key))
        test.seconds += case["seconds"]
        for label in case["labels"]:
            counts = test.outcomes.setdefault(label, {"passed": 0, "failed": 0, "skipped": 0})
            if case["outcome"] is not None:
                counts[case["outcome"]] += 1
    return list(tests.values())
