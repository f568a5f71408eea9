"""Parts of documents that programs make: each stands between two marks, and a test holds the document to it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DOCUMENTS = Path(__file__).resolve().parents[1] / "docs"


def put_between(document: str, begin: str, end: str, part: str) -> str:
    """The document with `part` between its marks. Raises ValueError where it lacks them."""
    before, found_begin, rest = document.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the markers are missing: {begin} and {end}")
    return f"{before}{begin}\n\n{part}\n\n{end}{after}"


@dataclass(frozen=True)
class MarkedPart:
    """What `make` makes of the document `path`.

    module      the tool, as `python -m` takes it
    begin, end  the marks
    """

    module: str
    path: Path
    begin: str
    end: str
    make: Callable[[], str]

    def updated(self, document: str) -> str:
        """The document with the part as it is now. Raises ValueError where it lacks the marks."""
        return put_between(document, self.begin, self.end, self.make())

    def main(self, arguments: list[str] | None = None, path: Path | None = None) -> int:
        """The tool's command line: print the part, --write it, or --check that it is there."""
        path = path or self.path
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=f"A part of docs/{path.name}.")
        doing = parser.add_mutually_exclusive_group()
        doing.add_argument("--write", action="store_true", help="put it into the document")
        doing.add_argument("--check", action="store_true", help="fail where the document has another one")
        options = parser.parse_args(arguments)
        if not options.write and not options.check:
            print(self.make())
            return 0
        try:
            old = path.read_text(encoding="utf-8")
            new = self.updated(old)
        except (OSError, ValueError) as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        if options.check and new != old:
            print(f"{path.name} is out of date: run python -m {self.module} --write", file=sys.stderr)
            return 1
        if options.write and new != old:
            path.write_text(new, encoding="utf-8")
        return 0
