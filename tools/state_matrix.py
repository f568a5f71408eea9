"""The state matrix in figures, and where Linux differs, as tables for docs/matrix.md.

    python -m tools.state_matrix           print them; --write puts them into the document, --check compares

They are counted from the cases of tests/core/matrix.py and the differences of tests/core/linux_differences.py, which
tests hold the engine and Linux to.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from tcpstack.core import state as st
from tests.core.letter import Outcome, letter
from tests.core.linux_differences import DIFFERENCES, MEASURED, linux
from tests.core.matrix import cases
from tests.core.state_bench import MAKERS, Bench
from tools.marked import DOCUMENTS, MarkedPart


@dataclass
class Figures:
    """Of one IP version. `cases` and `differing` are by state, `by_reason` counts the differing ones."""

    cases: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)


def figures() -> Figures:
    """Counted anew, which takes no kernel."""
    found = Figures()
    for name, make in MAKERS.items():
        template = make(Bench(4, 1_000_000, 3_000_000))
        for case in cases(template):
            reasons: list[str] = []
            seg = case.at(template)
            found.cases[name] += 1
            if seen(linux(template, seg, reasons)) != seen(letter(replace(template), seg)):
                [reason] = reasons
                found.differing[name] += 1
                found.by_reason[reason] += 1
    return found


def seen(outcome: Outcome) -> tuple[int, list[tuple[int, int, int]]]:
    """What is compared. CLOSED of a connection is LISTEN of its port."""
    return st.CLOSED if outcome.state == st.LISTEN else outcome.state, outcome.answers


def tables() -> str:
    """Both of them, as Markdown."""
    found = figures()
    every, differing = found.cases.total(), found.differing.total()
    lines = [
        f"For each IP version there are **{every:,} cases**, {2 * every:,} in all. In {differing:,} of them "
        f"({differing / every:.0%}) Linux {MEASURED} does something else than we do, for {len(DIFFERENCES)} reasons; "
        f"in the others both do the same.",
        "",
        "| state | cases | Linux differs in |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {name} | {count:,} | {found.differing[name] or '-'} |" for name, count in found.cases.items()]
    lines += ["", "| what Linux does, and what we do | by | cases |", "| --- | --- | ---: |"]
    ranked = sorted(DIFFERENCES, key=lambda difference: -found.by_reason[difference.reason])
    lines += [f"| {d.reason} | {d.reference} | {found.by_reason[d.reason]} |" for d in ranked]
    return "\n".join(lines)


PART = MarkedPart(
    "tools.state_matrix",
    DOCUMENTS / "matrix.md",
    "<!-- figures: counted by `python -m tools.state_matrix --write` -->",
    "<!-- end of figures -->",
    tables,
)

if __name__ == "__main__":
    sys.exit(PART.main())
