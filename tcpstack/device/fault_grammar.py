"""Fault rules as text, the way `--fault` takes them.

The grammar is the table FORMS, which is also what `grammar_in_words` tells (`tcpstack serve --help` ends with it): a
new kind of fault is a Rule and a line there, and a Stage that does it. What may stand behind each rule is in BEHIND.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from .fault_errors import FaultRuleError as FaultRuleError
from .fault_rules import (
    IN,
    MATCHES,
    OPTION_KINDS,
    OUT,
    Blackhole,
    BurstLoss,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Loss,
    Mtu,
    Rate,
    Reorder,
    Rewrite,
    Rule,
    Strip,
)
from .fault_units import LARGEST, PACKETS, RATE, SIZE, TIME, Units, read_percentage, read_whole


def parse_rule(text: str) -> Rule:
    """The rule that the text describes. Raises FaultRuleError where it describes none, and nothing else."""
    text = " ".join(text.split())
    words = list(re.finditer(r"\S+", text))
    if not words:
        raise FaultRuleError(f"a rule begins with {_either(FORMS)}", text, 0, 1)
    verb = words[0].group()
    form = FORMS.get(verb)
    if form is None:
        meant = get_close_matches(verb.lower(), FORMS, n=1)
        hint = f" (do you mean {meant[0]}?)" if meant else ""
        raise FaultRuleError(f"there is no rule '{verb}'{hint}: it is {_either(FORMS)}", text, *words[0].span())
    arguments = _Reading(text, verb, form).read(words[1:])
    try:
        return form.rule(**arguments, written=text)
    except ValueError as error:  # each word makes sense, but they are too few
        raise FaultRuleError(str(error), text, len(text) + 1, len(text) + 2) from None


def grammar_in_words(width: int = 34) -> str:
    """The shape of each rule and what it does, then what may stand behind each, a line each; what a rule does stands
    behind `width` columns, or beneath a longer shape."""
    rules = [(shape(verb), form.what) for verb, form in FORMS.items()]
    behind = [(slot.form, what) for slot, what in BEHIND.items()]
    return "\n".join(
        [
            *(_entry(name, what, width) for name, what in rules),
            "behind each, in any order:",
            *(_entry(name, what, width) for name, what in behind),
            "syn is without ACK, ack without text, SYN, FIN or RST; data is with text, whatever flags it has.",
            f"TIME is in {TIME.names}, RATE in {RATE.names}, SIZE in {SIZE.names}; numbers take decimals.",
        ]
    )


def shape(verb: str) -> str:
    """What a rule looks like, but for what may stand behind every one: "delay TIME [jitter TIME]"."""
    form = FORMS[verb]
    own = [slot for slot in form.options if slot not in BEHIND]
    words = [verb, *([form.operand.form] if form.operand is not None else []), *(slot.form for slot in form.needed)]
    return " ".join([*words, *(f"[{slot.form}]" for slot in own if slot not in form.needed)])


def _entry(name: str, what: str, width: int) -> str:
    if len(name) < width - 2:
        return f"  {name:<{width - 2}}{what}"
    return f"  {name}\n{' ' * width}{what}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a rule.

    argument  what the Rule calls it
    form      what stands there, in short
    allowed   what may stand there, in words
    read      what a word means there; None for one that means nothing
    lead      what goes before the word: "seed=" in the same one, "jitter" in one of its own, or nothing
    units     those of the word, where it has some
    """

    argument: str
    form: str
    allowed: str
    read: Callable[[str], object | None]
    lead: str = ""
    units: Units | None = None

    @property
    def shown(self) -> str:
        """The place with what goes before it, in words."""
        return self.allowed if not self.lead or self.lead.endswith("=") else f"{self.lead} and {self.allowed}"


@dataclass(frozen=True, slots=True)
class Form:
    """The shape of one rule, which does `what`. `operand` stands behind the verb; the `options` behind that, in any
    order; those that are `needed` must be there."""

    what: str
    rule: Callable[..., Rule]
    operand: Slot | None
    options: tuple[Slot, ...]
    needed: tuple[Slot, ...] = ()


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _read_nth(word: str) -> int | tuple[int, int | None] | None:
    found = re.fullmatch(r"([0-9]{1,18})(\.\.([0-9]{1,18})?)?", word)
    if found is None:
        return None
    first = int(found[1])
    last = first if found[2] is None else int(found[3]) if found[3] else None
    if first < 1 or (last is not None and last < first):
        return None
    return first if first == last else (first, last)


def _one_of(words: Iterable[str]) -> Callable[[str], str | None]:
    return {word: word for word in words}.get


def _whole(least: int, most: int) -> Callable[[str], int | None]:
    def read(word: str) -> int | None:
        number = read_whole(word)
        return number if number is not None and least <= number <= most else None

    return read


_MATCH = Slot("match", "MATCH", _either(MATCHES), MATCHES.get)
_CHANCE = Slot("probability", "P%", "a percentage from 0% to 100%, such as 2.5%", read_percentage)
_TIME = Slot("delay_ns", "TIME", "a time such as 40ms (in us, ms or s)", TIME.read, units=TIME)
_JITTER = Slot("jitter_ns", "jitter TIME", "a time such as 5ms (in us, ms or s)", TIME.read, "jitter", units=TIME)
_RATE = Slot(
    "rate_bps",
    "RATE",
    "a rate above 0 such as 10mbit (in kbit, mbit or gbit)",
    lambda word: RATE.read(word) or None,
    units=RATE,
)
_QUEUE_BYTES = Slot("queue_bytes", "queue SIZE", "a size such as 64kB (in B, kB or MB)", SIZE.read, "queue", units=SIZE)
_QUEUE_PACKETS = Slot(
    "queue_packets", "queue Np", "a number of packets such as 50p", PACKETS.read, "queue", units=PACKETS
)
_MARK = Slot("mark_bytes", "mark SIZE", "a size such as 30kB (in B, kB or MB)", SIZE.read, "mark", units=SIZE)
_AFTER = Slot("after_ns", "after=TIME", "after=TIME such as after=2s", TIME.read, "after=", units=TIME)
_FOR = Slot(
    "for_ns", "for=TIME", "for=TIME above 0 such as for=5s", lambda word: TIME.read(word) or None, "for=", units=TIME
)
_MTU = Slot("mtu", "N", "a number of octets from 68 to 65535", _whole(68, 65_535))
_SILENT = Slot("silent", "silent", "silent", {"silent": True}.get)
_OPTION = Slot(
    "option", f"option={'|'.join(OPTION_KINDS)}", f"option={_either(OPTION_KINDS)}", _one_of(OPTION_KINDS), "option="
)
_WINDOW = Slot("window", "window=N", "window=N from 0 to 65535", _whole(0, 0xFFFF), "window=")
_MSS = Slot("mss", "mss=N", "mss=N from 0 to 65535", _whole(0, 0xFFFF), "mss=")
_WSCALE = Slot("wscale", "wscale=N", "wscale=N from 0 to 255", _whole(0, 0xFF), "wscale=")
_ENTER = Slot("enter", "enter=P%", "enter=P%", read_percentage, "enter=")
_LEAVE = Slot("leave", "leave=P%", "leave=P%", read_percentage, "leave=")
_LOSS_IN_GOOD = Slot("loss_in_good", "loss-in-good=P%", "loss-in-good=P%", read_percentage, "loss-in-good=")
_LOSS_IN_BAD = Slot("loss_in_bad", "loss-in-bad=P%", "loss-in-bad=P%", read_percentage, "loss-in-bad=")
_NTH = Slot("nth", "nth=N", "nth=N, nth=N..M (M not below N) or nth=N.., counted from 1", _read_nth, "nth=")
_SEED = Slot("seed", "seed=N", f"seed=N from 0 to {LARGEST}", read_whole, "seed=")
_DIRECTION = Slot("direction", "dir=in", "dir=in or dir=out", _one_of((IN, OUT)), "dir=")

_LIMITS = (_MATCH, _NTH, _DIRECTION)
_DRAWN = (_MATCH, _NTH, _SEED, _DIRECTION)
_ONE_KIND = "a rule is for one kind of packets: write another rule for the other"

BEHIND = {
    _MATCH: f"only one kind: {_either(MATCHES)}",
    _NTH: "only the Nth of those; also nth=N..M and nth=N..",
    _DIRECTION: "only those towards the stack; dir=out: only those from it",
    _SEED: "other draws, where chance is involved",
}
"""What may stand behind every rule, and what it does."""

FORMS = {
    "drop": Form("lose it", Drop, _MATCH, (_NTH, _DIRECTION)),
    "loss": Form("lose each packet with this probability", Loss, _CHANCE, _DRAWN),
    "burst-loss": Form(
        "lose them in bursts: 100% in bad times, 0% in good, by default",
        BurstLoss,
        None,
        (_ENTER, _LEAVE, _LOSS_IN_GOOD, _LOSS_IN_BAD, *_DRAWN),
        (_ENTER, _LEAVE),
    ),
    "duplicate": Form("pass it twice", Duplicate, _CHANCE, _DRAWN),
    "reorder": Form("let one to three later ones overtake it", Reorder, _CHANCE, _DRAWN),
    "corrupt": Form("flip one bit of it", Corrupt, _CHANCE, _DRAWN),
    "delay": Form("pass it later, in order", Delay, _TIME, (_JITTER, *_DRAWN)),
    "rate": Form(
        "pass no more than so much; the rest waits, all without queue",
        Rate,
        _RATE,
        (_QUEUE_BYTES, _QUEUE_PACKETS, _MARK, *_LIMITS),
    ),
    "blackhole": Form("lose everything for a while, or from then on", Blackhole, None, (_AFTER, _FOR, *_LIMITS)),
    "mtu": Form("lose what is larger, and say so by ICMP, or not", Mtu, _MTU, (_SILENT, *_LIMITS)),
    "strip": Form("take a TCP option out", Strip, None, (_OPTION, *_LIMITS), (_OPTION,)),
    "rewrite": Form("overwrite fields of the TCP header", Rewrite, None, (_WINDOW, _MSS, _WSCALE, *_LIMITS)),
}


class _Reading:
    """One rule's words on their way to arguments."""

    def __init__(self, text: str, verb: str, form: Form) -> None:
        self.text = text
        self.verb = verb
        self.form = form
        self.arguments: dict[str, Any] = {}

    def read(self, words: list[re.Match[str]]) -> dict[str, Any]:
        """The rule's arguments. Raises FaultRuleError."""
        operand = self.form.operand
        if operand is not None:
            if not words:
                self._miss(f"{self.verb} needs {operand.allowed}")
            self._take(self.verb, (operand,), words[0].group(), words[0].start(), words[0].start())
            words = words[1:]
        while words:
            words = self._read_option(words)
        for slot in self.form.needed:
            if slot.argument not in self.arguments:
                self._miss(f"{self.verb} needs {slot.allowed}")
        return self.arguments

    def _read_option(self, words: list[re.Match[str]]) -> list[re.Match[str]]:
        """Take the option that stands first, and give the words behind it."""
        word, start = words[0].group(), words[0].start()
        name, equals, value = word.partition("=")
        slots = self._slots(name + equals)
        if slots and equals:
            self._take(name, slots, value, start, start + len(name) + 1)
            return words[1:]
        if slots:
            if len(words) < 2:
                self._miss(f"{word} needs {_either(slot.allowed for slot in slots)}")
            self._take(word, slots, words[1].group(), start, words[1].start())
            return words[2:]
        slots = tuple(slot for slot in self._slots("") if slot.read(word) is not None)
        if not slots and word in MATCHES:
            raise self._error(_ONE_KIND, start, start + len(word))
        if not slots:
            allowed = "; ".join(slot.shown for slot in self.form.options)
            raise self._error(f"{self.verb} takes the options {allowed}; not '{word}'", start, start + len(word))
        self._take(word, slots, word, start, start)
        return words[1:]

    def _slots(self, lead: str) -> tuple[Slot, ...]:
        return tuple(slot for slot in self.form.options if slot.lead == lead)

    def _take(self, where: str, slots: tuple[Slot, ...], word: str, start: int, at: int) -> None:
        """Read the word that stands `at` its place by the first of the slots in which it means something. What goes
        before it begins at `start`."""
        end = at + len(word)
        for slot in slots:
            found = slot.read(word)
            if found is None:
                continue
            if slot.argument in self.arguments:
                twice = f"{slot.lead or slot.argument} stands twice"
                raise self._error(_ONE_KIND if slot is _MATCH else twice, start, end)
            self.arguments[slot.argument] = found
            return
        why_not = next((slot.units.why_not(word) for slot in slots if slot.units is not None), "")
        parted = re.match(r" ([A-Za-z%]+)", self.text[end:])
        if parted and any(slot.read(word + parted[1]) is not None for slot in slots):
            why_not = f": without the space, {word}{parted[1]}"
        allowed = _either(slot.allowed for slot in slots)
        raise self._error(f"{where} takes {allowed}, not '{word}'{why_not}", at, end)

    def _miss(self, problem: str) -> NoReturn:
        raise self._error(problem, len(self.text) + 1, len(self.text) + 2)

    def _error(self, problem: str, start: int, end: int) -> FaultRuleError:
        return FaultRuleError(problem, self.text, start, end)
