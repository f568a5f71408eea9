"""What a test says of the wire."""

from __future__ import annotations

from collections.abc import Mapping

from ..aio.virtual_line import line_of
from ..device.pipe import Line


def as_line(line: Line | Mapping[str, str] | None) -> Line:
    """A Line from words: {"delay": "20ms", "jitter": "5ms", "rate": "10mbit", "queue": "64kB", "mark": "30kB"}, each of
    them optional. None is a line without delay or limit. Raises ValueError for words that make no sense."""
    if isinstance(line, Line):
        return line
    if line is not None and not isinstance(line, Mapping):
        raise ValueError(f"a line is said in words such as {{'delay': '20ms'}}, or is a Line; not {line!r}")
    return line_of(line or {})
