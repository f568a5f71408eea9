"""The accepted differences between this TCP and Linux's, as a table for docs/drill.md.

    python -m tools.drill_differences           print it; --write puts it into the document, --check compares

They stand in the scripts, each above the lines that differ; a test holds the document to them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tcpstack.drill.run import read
from tools.marked import DOCUMENTS, MarkedPart

SCRIPTS = Path(__file__).parents[1] / "tests" / "drill" / "scripts"


def table() -> str:
    """A Markdown table: each reason with the scripts that show it."""
    shown: dict[str, list[str]] = {}
    for path in sorted(SCRIPTS.glob("*.pkt")):
        for difference in read(path)[0].differences:
            scripts = shown.setdefault(difference.reason, [])
            if path.stem not in scripts:
                scripts.append(path.stem)
    lines = ["| what differs, and why that is accepted | shown by |", "| --- | --- |"]
    lines += [f"| {reason[0].upper()}{reason[1:]}. | {', '.join(scripts)} |" for reason, scripts in shown.items()]
    return "\n".join(lines)


PART = MarkedPart(
    "tools.drill_differences",
    DOCUMENTS / "drill.md",
    "<!-- differences: drawn by `python -m tools.drill_differences --write` -->",
    "<!-- end of differences -->",
    table,
)

if __name__ == "__main__":
    sys.exit(PART.main())
