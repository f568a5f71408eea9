"""Rows into lines: where each thing stands, and in which colour.

From 108 columns up, a change of state stands in one line ("LISTEN → SYN-RECEIVED"); in a narrower ladder the
state after stands beneath the state before, which fits 80 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from ..core.state import STATE_NAMES, TIME_WAIT
from .printable import printable
from .rows import LOSS, PLAIN, QUIET, RESET, STATE, Arrow, Note

MIN_WIDTH = 72
_WIDE = 108
_TIME = 8
_MARGIN = " " * (_TIME + 2)
_WIDE_STATES = len("SYN-RECEIVED → ESTABLISHED")
_NARROW_STATES = len("→ SYN-RECEIVED")
_INDENT = "    "
_KEY = 16

_SGR = {PLAIN: "", STATE: "1", LOSS: "33", RESET: "31", QUIET: "2"}
_OUT_SGR, _IN_SGR, _STATE_SGR, _DIM_SGR, _HEAD_SGR = "36", "32", "1", "2", "1"
_ASCII = str.maketrans({"─": "-", "—": "-", "→": ">", "…": ".", "×": "x", "“": '"', "”": '"'})


class Layout:
    """Lays rows out in `width` columns (72 at least). Pure: the same row gives the same lines.

    color  with ANSI colour
    ascii  without any character beyond ASCII, for terminals that have no others
    gutter columns to leave free at the left of each line
    """

    __slots__ = ("_ascii", "_color", "_gutter", "_middle", "_states", "_wide", "width")

    def __init__(self, width: int, *, color: bool = False, ascii: bool = False, gutter: int = 0) -> None:
        self.width = max(width, MIN_WIDTH)
        self._color = color
        self._ascii = ascii
        self._gutter = gutter
        self._wide = self.width - gutter >= _WIDE
        self._states = _WIDE_STATES if self._wide else _NARROW_STATES
        # What is left of: margin, our states, space, arrow, space, mark, the peer's states.
        self._middle = self.width - gutter - len(_MARGIN) - 2 * self._states - 3

    def title(self, number: int, names: tuple[str, str] | None = None) -> str:
        """The line that opens a conversation, with the names of the two ends where they are known."""
        text = f"── conversation {number} "
        if names is not None:
            us, them = names
            text = f"── conversation {number}: {f'{us} with itself' if us == them else f'{us} and {them}'} "
        return self._paint(text + "─" * (self.width - self._gutter - len(text)), _HEAD_SGR)

    def legend(self, ends: str, clock: str, *, inferred: bool) -> list[str]:
        """How to read a ladder of these `ends`, timed by one's `clock`, for someone who never saw one."""
        how = "; ~ inferred from the segments seen, by RFC 9293's state diagram; ? not known yet"
        far = "; on the right as the segment leaves or arrives there"
        key = (
            ("ms", f"since the conversation began, by the clock of {clock}; time runs downward"),
            ("state → state", f"before and after the segment, of {ends}" + (how if inferred else far)),
            ("seq, ack", "count from each end's initial sequence number (ISN): SYN is 0, the first octet 1"),
            ("len, win", "octets of data in the segment; octets that its sender has room for"),
        )
        width = self.width - self._gutter - _KEY
        lines = []
        for name, meaning in key:
            for index, line in enumerate(self._wrap(meaning, width)):
                lines.append(self._paint(f"{'' if index else name:<{_KEY}}{line}", _DIM_SGR))
        return lines

    def heads(self, ours: str, theirs: str) -> str:
        """The line that names the two ends above their columns."""
        room = self._states + 1 + self._middle + 1
        room = min(room, max(len(ours) + 2, self.width - self._gutter - len(_MARGIN) - len(theirs)))
        return self._paint(f"{'ms':>{_TIME}}  {ours:<{room}}{theirs}", _HEAD_SGR)

    def note(self, note: Note) -> list[str]:
        """A note: one sentence between dashes."""
        width = self.width - self._gutter - len(_MARGIN)
        lines = self._wrap(note.text, width - 4)
        lines = [("  " if index else "— ") + line for index, line in enumerate(lines)]
        lines[-1] += " —"
        lines = [self._paint(line, _SGR[note.tone]) for line in lines]
        return [f"{self._time(note.time_ns)}{lines[0]}", *(_MARGIN + line for line in lines[1:])]

    def arrow(self, arrow: Arrow) -> list[str]:
        """A segment: the arrow between the two ends' states, with what is to be said of it beneath."""
        left = self._state_lines(*arrow.ours, mark="")
        right = self._state_lines(arrow.theirs.before, arrow.theirs.after, mark="~" if arrow.inferred else "")
        middle, unfit = self._arrow_line(arrow)
        details = arrow.details
        if unfit:
            details = ["; ".join((" ".join(unfit), *details[:1])), *details[1:]]
        # Beneath the arrow the peer's column is free to write in, unless the state after stands there.
        room = self._middle + (1 + self._states if self._wide else 0) - len(_INDENT)
        texts = [line for text in details for line in self._wrap(text, room)]
        sgr = _SGR[arrow.tone] or (_OUT_SGR if arrow.out else _IN_SGR)
        lines = []
        cells = zip_longest(left, [middle, *(_INDENT + text for text in texts)], right, fillvalue="")
        for index, (ours, between, theirs) in enumerate(cells):
            start = self._time(arrow.time_ns) if index == 0 else _MARGIN
            ours = self._paint(f"{ours:<{self._states}}", _STATE_SGR)
            between = self._paint(f"{between:<{self._middle}}", _DIM_SGR if index else sgr)
            line = f"{start}{ours} {between} {self._paint(theirs, _STATE_SGR) if theirs else ''}"
            lines.append(line.rstrip())
        return lines

    def _arrow_line(self, arrow: Arrow) -> tuple[str, list[str]]:
        """The arrow with as much of its label as fits, and the rest of the label."""
        width = self._middle
        shaft = width // 2 if arrow.dead else width
        label = list(arrow.label)
        unfit: list[str] = []
        while len(" ".join(label)) + 7 > width and len(label) > 1:
            unfit.insert(0, label.pop())
        text = f" {printable(' '.join(label))} "
        shaft = max(shaft, len(text) + 5)
        if arrow.out:
            return f"───{text}{'─' * (shaft - len(text) - 4)}{'X' if arrow.dead else '>'}", unfit
        line = f"{'X' if arrow.dead else '<'}──{text}{'─' * (shaft - len(text) - 3)}"
        return f"{line:>{width}}", unfit

    def _state_lines(self, before: int | None, after: int | None, *, mark: str) -> list[str]:
        if before is None and after is None:
            return [mark + "?"] if mark else [""]
        if before is None or after is None or before == after:
            state = after if after is not None else before
            assert state is not None
            name = mark + STATE_NAMES[state]
            if state != TIME_WAIT:
                return [name]
            return [f"{name} (2 MSL)"] if self._wide else [name, "(2 MSL)"]
        if self._wide:
            return [f"{mark}{STATE_NAMES[before]} → {STATE_NAMES[after]}"]
        return [mark + STATE_NAMES[before], f"→ {STATE_NAMES[after]}"]

    @staticmethod
    def _time(time_ns: int) -> str:
        """In ms, as wide as the margin: with three decimals, or from 100 s on as many as it has room for."""
        time_ms = time_ns / 1e6
        shown = next(text for decimals in (3, 2, 1, 0) if len(text := f"{time_ms:>{_TIME}.{decimals}f}") < len(_MARGIN))
        return f"{shown:<{len(_MARGIN)}}"

    @staticmethod
    def _wrap(text: str, width: int) -> list[str]:
        return textwrap.wrap(printable(text), width, break_on_hyphens=False) or [""]

    def _paint(self, text: str, sgr: str) -> str:
        if self._ascii:
            text = text.translate(_ASCII)
        if not self._color or not sgr or not text.strip():
            return text
        return f"\x1b[{sgr}m{text}\x1b[0m"


def joined(lines: Sequence[str]) -> str:
    """Lines as one text, each with its line end."""
    return "".join(line + "\n" for line in lines)
