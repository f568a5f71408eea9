"""Takes behaviours out, one at a time, and sees whether the tests that are marked with the label notice.

A mutant is one substitution in the package's source, made in a copy of the tree. The text that it replaces must occur
exactly once in the whole package, so that it survives a move to another file and is missed when it is gone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .runs import MarkedTest, Run, RunError, run, run_all

PARTS = ("tcpstack", "tests", "tools", "pyproject.toml")
TIMEOUT_S = 300


class MutantError(Exception):
    """A mutant that cannot be made."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """label  of the requirement whose behaviour this takes out
    name   what then happens
    old    what is replaced, once in the package     new  by what
    """

    label: str
    name: str
    old: str
    new: str

    def file_in(self, package: Path) -> Path:
        """The one file that has the text. Raises MutantError where there is none, or another place."""
        found = [(file, count) for file in sorted(package.rglob("*.py")) if (count := file.read_text().count(self.old))]
        if len(found) != 1 or found[0][1] != 1:
            places = ", ".join(f"{file.relative_to(package)} ({count})" for file, count in found) or "nowhere"
            raise MutantError(f"{self.label}, {self.name}: must occur exactly once, is {places}: {self.old!r}")
        file = found[0][0]
        try:
            compile(file.read_text().replace(self.old, self.new), file.name, "exec")
        except SyntaxError as error:
            raise MutantError(f"{self.label}, {self.name}: {error}") from error
        return file


def mutate(root: Path, labels: Sequence[str], mutants: Sequence[Mutant]) -> int:
    """Try the mutants of these labels (all where there are none); 1 where one survives or can't be made."""
    unknown = set(labels) - {mutant.label for mutant in mutants}
    if unknown:
        print(f"conformance: there is no mutant of {', '.join(sorted(unknown))}", file=sys.stderr)
        return 1
    chosen = [mutant for mutant in mutants if not labels or mutant.label in labels]
    survivors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        copy = _copy(root, Path(directory))
        whole = run_all(copy)
        if whole.package != copy / "tcpstack":
            print(f"conformance: the tests import {whole.package}, not the copy", file=sys.stderr)
            return 1
        killed = 0
        for mutant in chosen:
            verdict = _try(copy, mutant, whole)
            killed += verdict == "killed"
            print(f"{verdict:10} {mutant.label}: {mutant.name}", flush=True)
            if verdict != "killed":
                survivors.append(f"{mutant.label}: {mutant.name} ({verdict})")
    print(f"conformance: {killed} of {len(chosen)} mutants killed")
    for line in survivors:
        print(f"conformance: not killed: {line}", file=sys.stderr)
    return 1 if survivors else 0


def _copy(root: Path, directory: Path) -> Path:
    copy = directory.resolve() / "tree"
    copy.mkdir()
    for part in PARTS:
        source = root / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif source.exists():
            shutil.copy2(source, copy / part)
    return copy


def _try(copy: Path, mutant: Mutant, whole: Run) -> str:
    """What became of it: killed, SURVIVES, or why it could not be tried."""
    tests = whole.of(mutant.label)
    if not tests:
        return "NO TEST"
    if any(test.failed(mutant.label) for test in tests):
        return "FAILS"  # without the mutant
    try:
        file = mutant.file_in(copy / "tcpstack")
    except MutantError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return "CANNOT"
    before = file.read_text()
    file.write_text(before.replace(mutant.old, mutant.new))
    try:
        failed = run(copy, _quickest_first(tests), "-x", label=mutant.label, timeout_s=TIMEOUT_S).failed
    except subprocess.TimeoutExpired:
        failed = True  # it never comes to an end any more
    except RunError as error:
        print(f"conformance: {mutant.label}, {mutant.name}: {error}", file=sys.stderr)
        return "BREAKS"  # the tests can't even be collected: that shows nothing
    finally:
        file.write_text(before)
    return "killed" if failed else "SURVIVES"


def _quickest_first(tests: Sequence[MarkedTest]) -> list[str]:
    """The files of the tests, so ordered that most mutants are found out soon."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for test in tests:
        seconds[test.path] += test.seconds
    return sorted(seconds, key=lambda path: seconds[path])
