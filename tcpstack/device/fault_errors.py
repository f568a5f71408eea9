"""The error that says where a rule's text stops making sense."""

from __future__ import annotations

import unicodedata


class FaultRuleError(ValueError):
    """A rule's text makes no sense. The message says what may stand there, and has a caret under the place. What could
    confuse a terminal is shown escaped."""

    def __init__(self, problem: str, text: str, start: int, end: int) -> None:
        self.problem = _shown(problem)
        before, place = _shown(text[:start]), _shown(text[start:end])
        indent = " " * (_width(before) + max(0, start - len(text)))
        super().__init__(f"{self.problem}\n  {_shown(text)}\n  {indent}{'^' * max(1, _width(place))}")


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
