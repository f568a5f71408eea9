"""python -m tools.conformance"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .document import document
from .model import Requirement
from .mutants import MUTANTS
from .mutate import mutate
from .requirements import REQUIREMENTS
from .runs import Run, RunError, marked_files, run, run_all
from .source import Source, SourceError

ROOT = Path(__file__).parents[2]
DOCUMENT = "docs/conformance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0; 1 where a requirement has no test, a test fails, a mutant survives or the page is stale."""
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help=f"run nothing; is {DOCUMENT} up to date?")
    what.add_argument(
        "--mutate", nargs="*", metavar="LABEL", help="take each behaviour (of these labels) out; do its tests fail?"
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.mutate is not None:
            return mutate(ROOT, chosen.mutate, MUTANTS)
        return check(ROOT, REQUIREMENTS) if chosen.check else write(ROOT, REQUIREMENTS)
    except (RunError, SourceError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1


def write(root: Path, requirements: Sequence[Requirement]) -> int:
    """Run the marked tests and write the page."""
    places = find_places(root, requirements)
    found = run_all(root)
    if found.failed:
        print(found.output)
    (root / DOCUMENT).write_text(document(requirements, places, found.tests))
    return report(faults(requirements, found, ran=True), requirements, found)


def check(root: Path, requirements: Sequence[Requirement]) -> int:
    """See whether the page is what the data and the marks say, without running anything."""
    places = find_places(root, requirements)
    found = run(root, marked_files(root), "--collect-only")
    wrong = faults(requirements, found, ran=False)
    page = root / DOCUMENT
    if not page.exists() or page.read_text() != document(requirements, places, found.tests):
        wrong.append(f"{DOCUMENT} is out of date: run python -m tools.conformance")
    return report(wrong, requirements, found)


def find_places(root: Path, requirements: Sequence[Requirement]) -> dict[str, tuple[str, str]]:
    """In which file each name stands that a `where` says."""
    source = Source(root / "tcpstack")
    return {name: source.place(name) for requirement in requirements for name in requirement.where}


def faults(requirements: Sequence[Requirement], found: Run, *, ran: bool) -> list[str]:
    """What is wrong, a line each."""
    wrong = []
    known = {requirement.label for requirement in requirements}
    for label in sorted(found.labels - known):
        names = ", ".join(f"{test.path}::{test.name}" for test in found.of(label))
        wrong.append(f"{label} is no requirement: {names}")
    for requirement in requirements:
        label, tests = requirement.label, found.of(requirement.label)
        if requirement.needs_test and not tests:
            wrong.append(f"{label} has no test")
        elif requirement.needs_test and ran and not any(test.passed(label) for test in tests):
            wrong.append(f"{label} has no test that ran and passed")
        elif not requirement.needs_test and tests:
            wrong.append(f"{label} is said to be {requirement.status.value}, yet has tests: {tests[0].name}")
        wrong += [f"{label} fails: {test.path}::{test.name}" for test in tests if test.failed(label)]
    return wrong


def report(wrong: Sequence[str], requirements: Sequence[Requirement], found: Run) -> int:
    """Say how it went; the exit code."""
    for line in wrong:
        print(f"conformance: {line}", file=sys.stderr)
    print(f"conformance: {len(requirements)} requirements, {len(found.tests)} tests, {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
