"""Why a drill failed, and how that is told: file and line, expected and seen side by side, the ladder up to there."""

from __future__ import annotations

from collections.abc import Sequence

from ..observe.printable import printable
from .matching import Field
from .script import Event

_MARK = "  <- differs"


class Failed(Exception):
    """What happened is not what the script says.

    event   the script's event that it concerns
    fields  for a packet: expected and seen, field by field
    """

    def __init__(self, event: Event, message: str, fields: Sequence[Field] = ()) -> None:
        super().__init__(message)
        self.event = event
        self.message = message
        self.fields = tuple(fields)

    def render(self, path: str, ladder: str, remarks: Sequence[tuple[Event, str]] = ()) -> str:
        """All of it, as text. `remarks` are what commands complained of before."""
        parts = [at(path, self.event, self.message)]
        if self.fields:
            parts += ["", *_table(self.fields)]
        for event, said in remarks:
            lines = "\n".join(f"        {printable(line)}" for line in said.splitlines())
            parts += ["", f"    line {event.line}: this command has ended well, but it said:\n{lines}"]
        if ladder:
            parts += ["", ladder.rstrip("\n")]
        return "\n".join(parts)


def at(path: str, event: Event, message: str) -> str:
    """A message with its place, and the event's text below."""
    return f"{path}:{event.line}: {message}\n    {printable(event.source)}"


def seconds(time_ns: int) -> str:
    """A time as scripts have it: "0.200000"."""
    return f"{time_ns / 1e9:.6f}"


def _table(fields: Sequence[Field]) -> list[str]:
    rows = [Field("", "expected", "seen", True), *fields]
    name_width = max(len(row.name) for row in rows)
    expected_width = max(len(row.expected) for row in rows)
    seen_width = max(len(row.seen) for row in rows)
    return [
        f"    {row.name:<{name_width}}  {row.expected:<{expected_width}}  "
        + (row.seen if row.agrees else f"{row.seen:<{seen_width}}{_MARK}")
        for row in rows
    ]
