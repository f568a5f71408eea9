"""Fault rules as text, the way `--fault` takes them.

    drop MATCH [nth=N|N..M|N..] [dir=in|out]      MATCH: syn, synack, ack, data, fin, rst or any
    loss P% [seed=N] [dir=in|out]                 lose each packet with this probability
    duplicate P% [seed=N] [dir=in|out]            pass it twice
    reorder P% [seed=N] [dir=in|out]              let one to three later ones overtake it
    corrupt P% [seed=N] [dir=in|out]              flip one bit of it

`in` is towards the stack; without dir= a rule acts on both directions. `ack` is an ACK and nothing else, `syn`
a SYN without ACK. Percentages take decimals, the seed is 0 unless given. The grammar is the table FORMS: a
new kind of fault is a Rule and a line there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .fault_rules import IN, MATCHES, OUT, Corrupt, Drop, Duplicate, Loss, Match, Reorder, Rule


class FaultRuleError(ValueError):
    """A rule's text makes no sense. The message says what may stand there, and has a caret under the place."""

    def __init__(self, problem: str, text: str, start: int, end: int) -> None:
        self.problem = problem
        super().__init__(f"{problem}\n  {text}\n  {' ' * start}{'^' * max(1, end - start)}")


def parse_rule(text: str) -> Rule:
    """The rule that the text describes. Raises FaultRuleError where it describes none."""
    text = " ".join(text.split())
    words = list(re.finditer(r"\S+", text))
    if not words:
        raise FaultRuleError(f"a rule begins with {_either(FORMS)}", text, 0, 1)
    verb = words[0].group()
    form = FORMS.get(verb)
    if form is None:
        raise FaultRuleError(f"there is no rule '{verb}': it is {_either(FORMS)}", text, *words[0].span())
    if len(words) < 2:
        raise FaultRuleError(f"{verb} needs {form.operand.allowed}", text, len(text) + 1, len(text) + 2)
    operand = _read(form.operand, verb, words[1].group(), text, words[1].start())
    arguments = _read_options(form, verb, words[2:], text)
    return form.rule(operand, written=text, **arguments)


@dataclass(frozen=True, slots=True)
class Value:
    """What may stand in one place of a rule: in words, and a reader that returns None for anything else."""

    allowed: str
    read: Callable[[str], object | None]


@dataclass(frozen=True, slots=True)
class Form:
    """The shape of one rule: the operand behind its verb, and its options with the Rule's name for each."""

    rule: Callable[..., Rule]
    operand: Value
    options: dict[str, str]


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _read_match(word: str) -> Match | None:
    return MATCHES.get(word)


def _read_percentage(word: str) -> float | None:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%", word):
        return None
    percent = float(word[:-1])
    return percent / 100 if percent <= 100 else None


def _read_number(word: str) -> int | None:
    return int(word) if re.fullmatch(r"[0-9]{1,18}", word) else None


def _read_nth(word: str) -> int | tuple[int, int | None] | None:
    found = re.fullmatch(r"([0-9]{1,18})(\.\.([0-9]{1,18})?)?", word)
    if found is None:
        return None
    first = int(found[1])
    last = first if found[2] is None else int(found[3]) if found[3] else None
    if first < 1 or (last is not None and last < first):
        return None
    return first if first == last else (first, last)


def _read_direction(word: str) -> str | None:
    return word if word in (IN, OUT) else None


_MATCH = Value(_either(MATCHES), _read_match)
_PERCENTAGE = Value("a percentage from 0% to 100%, such as 2.5%", _read_percentage)

OPTIONS = {
    "nth": Value("nth=N, nth=N..M or nth=N.., counted from 1", _read_nth),
    "seed": Value("seed=N", _read_number),
    "dir": Value("dir=in or dir=out", _read_direction),
}

_CHANCE_OPTIONS = {"seed": "seed", "dir": "direction"}

FORMS = {
    "drop": Form(Drop, _MATCH, {"nth": "nth", "dir": "direction"}),
    "loss": Form(Loss, _PERCENTAGE, _CHANCE_OPTIONS),
    "duplicate": Form(Duplicate, _PERCENTAGE, _CHANCE_OPTIONS),
    "reorder": Form(Reorder, _PERCENTAGE, _CHANCE_OPTIONS),
    "corrupt": Form(Corrupt, _PERCENTAGE, _CHANCE_OPTIONS),
}


def _read(value: Value, where: str, word: str, text: str, start: int) -> object:
    found = value.read(word)
    if found is None:
        raise FaultRuleError(f"{where} takes {value.allowed}, not '{word}'", text, start, start + len(word))
    return found


def _read_options(form: Form, verb: str, words: list[re.Match[str]], text: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.group().partition("=")
        if not equals or name not in form.options:
            allowed = "; ".join(OPTIONS[option].allowed for option in form.options)
            raise FaultRuleError(f"{verb} takes the options {allowed}; not '{word.group()}'", text, *word.span())
        if form.options[name] in arguments:
            raise FaultRuleError(f"{name}= stands twice", text, *word.span())
        arguments[form.options[name]] = _read(OPTIONS[name], name, value, text, word.start() + len(name) + 1)
    return arguments
