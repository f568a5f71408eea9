"""Draws the state diagram of docs/architecture.md from core's table of transitions.

    python -m tools.state_diagram           prints it
    python -m tools.state_diagram --write   puts it between its markers in docs/architecture.md
    python -m tools.state_diagram --check   exits with 1 where the document does not show the table as it is
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tcpstack.core.state import CLOSED, STATE_NAMES, TRANSITIONS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
BEGIN = "<!-- state diagram: drawn by `python -m tools.state_diagram --write` -->"
END = "<!-- end of state diagram -->"

_MANY = 5
"""An event that leads from this many states to CLOSED is told in a table: its arrows would hide all others."""


def common_ends() -> dict[str, list[int]]:
    """The events that end a connection in nearly any state, each with the states that it ends."""
    ends: dict[str, list[int]] = {}
    for (before, event), after in TRANSITIONS.items():
        if after == CLOSED:
            ends.setdefault(event, []).append(before)
    return {event: states for event, states in ends.items() if len(states) >= _MANY}


def diagram() -> str:
    """The diagram in Mermaid's language, and a table of what it leaves out: each transition is in one of both."""
    ends = common_ends()
    edges: dict[tuple[int, int], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        if after != CLOSED or event not in ends:
            edges.setdefault((before, after), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{name}" as {_identifier(name)}' for name in STATE_NAMES if "-" in name]
    lines.append(f"    [*] --> {STATE_NAMES[CLOSED]}")
    for (before, after), events in edges.items():
        names = (_identifier(STATE_NAMES[state]) for state in (before, after))
        lines.append(f"    {' --> '.join(names)} : {' or '.join(events)}")
    lines += ["```", "", "Not drawn, since they lead to CLOSED from nearly everywhere:", ""]
    lines += ["| event | leads to CLOSED from |", "| --- | --- |"]
    lines += [f"| {event} | {', '.join(STATE_NAMES[state] for state in states)} |" for event, states in ends.items()]
    return "\n".join(lines) + "\n"


def embedded(document: str) -> str:
    """The document with the diagram between its markers. Raises ValueError where it lacks the markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the markers are missing: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{diagram()}\n{END}{after}"


def main(arguments: list[str] | None = None, document: Path = DOCUMENT) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.state_diagram", description="Draw the state diagram.")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--write", action="store_true", help="put it into docs/architecture.md")
    doing.add_argument("--check", action="store_true", help="fail where docs/architecture.md shows another one")
    options = parser.parse_args(arguments)
    if not options.write and not options.check:
        print(diagram(), end="")
        return 0
    try:
        old = document.read_text(encoding="utf-8")
        new = embedded(old)
    except (OSError, ValueError) as error:
        print(f"{document.name}: {error}", file=sys.stderr)
        return 1
    if options.check and new != old:
        message = "the state diagram is not the table's: run python -m tools.state_diagram --write"
        print(f"{document.name}: {message}", file=sys.stderr)
        return 1
    if options.write and new != old:
        document.write_text(new, encoding="utf-8")
    return 0


def _identifier(name: str) -> str:
    return name.replace("-", "_")


if __name__ == "__main__":
    sys.exit(main())
