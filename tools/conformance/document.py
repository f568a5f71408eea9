"""docs/conformance.md: the table as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .model import Requirement, Status
from .runs import MarkedTest

HEAD = """\
# RFC 9293, requirement by requirement

Written by `python -m tools.conformance`, from tools/conformance/requirements/ and from the tests that carry
`@pytest.mark.rfc9293(label)`. `python -m tools.conformance --mutate` takes each behaviour out in turn and sees
whether its tests notice.

The labels are the RFC's. Where it says MUST without a label, and for each rule of SEGMENT ARRIVES (3.10.7), the name
is the section's and ours. What is required is told in our words; the RFC's are what counts.
"""

SECTIONS = (
    ("MUST", "MUST and MUST NOT"),
    ("SHLD", "SHOULD and SHOULD NOT"),
    ("MAY", "MAY"),
    ("REC", "RECOMMENDED"),
    ("", "Without a label"),
)

TOTALS = (
    ("met", Status.MET), ("met in part", Status.IN_PART), ("not met, or not taken", Status.NOT_MET),
    ("the application's", Status.APPLICATION),
)  # fmt: skip


def document(
    requirements: Sequence[Requirement], places: Mapping[str, tuple[str, str]], tests: Sequence[MarkedTest]
) -> str:
    """The whole page. `places` says of each name in a `where` in which file it stands.

    A test that was found and not run counts as one that passes.
    """
    lines = [HEAD, *_totals(requirements)]
    for kind, title in SECTIONS:
        lines += ["", f"## {title}", "", "| label | section | requirement | where | tests | verdict |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        for requirement in requirements:
            if requirement.kind == kind:
                found = [test for test in tests if requirement.label in test.outcomes]
                lines.append(_row(requirement, places, found))
    return "\n".join(lines) + "\n"


def _totals(requirements: Sequence[Requirement]) -> Iterator[str]:
    yield "| | all | " + " | ".join(name for name, _ in TOTALS) + " |"
    yield "| --- " * (2 + len(TOTALS)) + "|"
    for kind, title in SECTIONS:
        ours = [requirement for requirement in requirements if requirement.kind == kind]
        counts = [sum(requirement.status is status for requirement in ours) for _, status in TOTALS]
        yield f"| {title} | {len(ours)} | " + " | ".join(map(str, counts)) + " |"


def _row(requirement: Requirement, places: Mapping[str, tuple[str, str]], tests: Sequence[MarkedTest]) -> str:
    label = requirement.label
    where = "<br>".join(f"[{places[name][1]}](../{places[name][0]})" for name in requirement.where)
    links = "<br>".join(f"[{test.name}](../{test.path})" for test in tests)
    cells = (label, requirement.section, requirement.text, where, links, _verdict(requirement, tests))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _verdict(requirement: Requirement, tests: Sequence[MarkedTest]) -> str:
    if failed := [test.name for test in tests if test.failed(requirement.label)]:
        return f"**fails**: {', '.join(failed)}"
    if requirement.needs_test and not tests:
        return "**no test**"
    verdict = requirement.status.value
    if requirement.status is Status.NOT_MET and requirement.kind == "MAY":
        verdict = "not taken"
    return f"{verdict}: {requirement.note}" if requirement.note else verdict
