"""The accepted differences between this TCP and Linux's, as a table for docs/drill.md.

    python -m tools.drill_differences           print it
    python -m tools.drill_differences --write   put it into the document

They stand in the scripts, each above the lines that differ; a test holds the document to them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tcpstack.drill.run import read

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "tests" / "drill" / "scripts"
DOCUMENT = ROOT / "docs" / "drill.md"
BEGIN = "<!-- differences: drawn by `python -m tools.drill_differences --write` -->"
END = "<!-- end of differences -->"


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


def updated(document: str) -> str:
    """The document with the table in its place."""
    head, rest = document.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())
