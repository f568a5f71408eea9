"""Draws the state diagram of docs/architecture.md from core's table of transitions.

    python -m tools.state_diagram           prints it; --write puts it into the document, --check compares
"""

from __future__ import annotations

import sys

from tcpstack.core.state import CLOSED, STATE_NAMES, TRANSITIONS
from tools.marked import DOCUMENTS, MarkedPart

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
    return "\n".join(lines)


def _identifier(name: str) -> str:
    return name.replace("-", "_")


PART = MarkedPart(
    "tools.state_diagram",
    DOCUMENTS / "architecture.md",
    "<!-- state diagram: drawn by `python -m tools.state_diagram --write` -->",
    "<!-- end of state diagram -->",
    diagram,
)

if __name__ == "__main__":
    sys.exit(PART.main())
