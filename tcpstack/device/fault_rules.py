"""Fault rules as objects: what to do to which packets. fault_grammar.py reads them from text.

A Rule only describes, so one may serve several devices; a Trial is the rule at work on one of them, and counts
and draws. Draws come from the rule's seed, its verb and the direction alone: the same packets in the same order
are hit again, whatever passes in the other direction meanwhile, and two rules of one seed stay independent.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from ..core import segment as tcp
from ..core.segment import Segment

IN = "in"
"""Towards the stack."""
OUT = "out"

# What becomes of a packet that a rule hits, as FaultHit.action says it.
DROPPED = "dropped"
DUPLICATED = "duplicated"
HELD_BACK = "held back"
CORRUPTED = "corrupted"


@dataclass(frozen=True, slots=True)
class Match:
    """A kind of packet. `accepts` gets the segment, or None for a packet that is not TCP."""

    name: str
    accepts: Callable[[Segment | None], bool] = field(compare=False, repr=False)


def _flags(mask: int, wanted: int) -> Callable[[Segment | None], bool]:
    return lambda segment: segment is not None and segment.flags & mask == wanted


def _is_pure_ack(segment: Segment | None) -> bool:
    if segment is None or segment.payload_len:
        return False
    return segment.flags & (tcp.SYN | tcp.FIN | tcp.RST | tcp.ACK) == tcp.ACK


SYN = Match("syn", _flags(tcp.SYN | tcp.ACK, tcp.SYN))
SYNACK = Match("synack", _flags(tcp.SYN | tcp.ACK, tcp.SYN | tcp.ACK))
ACK = Match("ack", _is_pure_ack)
DATA = Match("data", lambda segment: segment is not None and segment.payload_len > 0)
FIN = Match("fin", _flags(tcp.FIN, tcp.FIN))
RST = Match("rst", _flags(tcp.RST, tcp.RST))
ANY = Match("any", lambda segment: True)

MATCHES = {match.name: match for match in (SYN, SYNACK, ACK, DATA, FIN, RST, ANY)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(ABC):
    """What all rules share. `direction` is IN, OUT or None for both; `written` the text it was parsed from.

    Raises ValueError on construction where a value makes no sense.
    """

    VERB: ClassVar[str]
    ACTION: ClassVar[str]

    direction: str | None = None
    written: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.direction not in (None, IN, OUT):
            raise ValueError(f"a direction is 'in', 'out' or None for both, not {self.direction!r}")

    @property
    def text(self) -> str:
        """The rule as it was written, or as it would be in the grammar."""
        limit = f" dir={self.direction}" if self.direction else ""
        return self.written or f"{self.VERB} {self._operands()}{limit}"

    @property
    def random_seed(self) -> int:
        """What the draws start from."""
        return 0

    @abstractmethod
    def decide(self, trial: Trial, segment: Segment | None, direction: str) -> bool:
        """Whether a packet that goes in a direction of this rule is hit; what it counts or draws is trial's."""

    @abstractmethod
    def _operands(self) -> str:
        """The text between the verb and dir=."""


@dataclass(frozen=True, slots=True)
class Drop(Rule):
    """Drop the packets that `match`; with `nth` only that one of them, or those from first to last (None: on).

    Packets that match are counted from 1, over both directions where the rule acts on both.
    """

    VERB: ClassVar[str] = "drop"
    ACTION: ClassVar[str] = DROPPED

    match: Match
    nth: int | tuple[int, int | None] | None = None

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        if not isinstance(self.match, Match):
            raise ValueError(f"what to drop is one of the Match objects of this module, not {self.match!r}")
        first, last = self.span
        if first < 1 or (last is not None and last < first):
            raise ValueError(f"nth counts from 1, first to last, so not {self.nth!r}")

    @property
    def span(self) -> tuple[int, int | None]:
        """The first and the last matching packet that is dropped; None for no last one."""
        if self.nth is None:
            return 1, None
        return (self.nth, self.nth) if isinstance(self.nth, int) else self.nth

    def decide(self, trial: Trial, segment: Segment | None, direction: str) -> bool:
        if not self.match.accepts(segment):
            return False
        trial.matched += 1
        first, last = self.span
        return first <= trial.matched and (last is None or trial.matched <= last)

    def _operands(self) -> str:
        if self.nth is None:
            return self.match.name
        first, last = self.span
        shown = f"{first}" if first == last else f"{first}..{'' if last is None else last}"
        return f"{self.match.name} nth={shown}"


@dataclass(frozen=True, slots=True)
class Chance(Rule):
    """Hit each packet, TCP or not, with a probability of 0 to 1, drawn from the seed."""

    probability: float
    seed: int = 0

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        if not 0 <= self.probability <= 1:
            raise ValueError(f"a probability lies between 0 and 1, {self.probability!r} does not")

    @property
    def random_seed(self) -> int:
        return self.seed

    def decide(self, trial: Trial, segment: Segment | None, direction: str) -> bool:
        return trial.random[direction].random() < self.probability

    def _operands(self) -> str:
        return f"{self.probability * 100:g}% seed={self.seed}"


class Loss(Chance):
    """Lose packets."""

    VERB = "loss"
    ACTION = DROPPED


class Duplicate(Chance):
    """Pass packets twice, the copy right behind the original."""

    VERB = "duplicate"
    ACTION = DUPLICATED


class Reorder(Chance):
    """Hold packets back until one to three later ones of their direction have passed."""

    VERB = "reorder"
    ACTION = HELD_BACK


class Corrupt(Chance):
    """Flip one bit of packets."""

    VERB = "corrupt"
    ACTION = CORRUPTED


class Trial:
    """A rule at work on one device, in both directions."""

    __slots__ = ("matched", "random", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.matched = 0
        # Text seeds by its SHA-512: the same draws on every machine and in every run.
        self.random = {d: random.Random(f"{rule.VERB} {rule.random_seed} {d}") for d in (IN, OUT)}

    def hits(self, segment: Segment | None, direction: str) -> bool:
        """Whether the rule acts on this packet (None: not TCP). To be called once for each packet, in order."""
        return self.rule.direction in (None, direction) and self.rule.decide(self, segment, direction)
