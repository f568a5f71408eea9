"""Fault rules as objects: what to do to which packets. fault_grammar.py reads them from text, docs/faults.md has an
example of each.

A rule only describes, so one may serve several chains; what it does is in fault_stages.py and fault_lines.py. Every
rule acts on the packets that `match`, in its `direction` (None: both), and with `nth` only on that one of them, or on
those from first to last (None: no last one). They are counted from 1, over both directions where the rule acts on
both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from ..core import segment as tcp
from ..core.segment import Segment
from .fault_units import PACKETS, RATE, SIZE, TIME, check_probability, check_whole, write_percentage
from .pipe import Line

IN = "in"
"""Towards the stack."""
OUT = "out"

# What becomes of a packet that a rule hits, as FaultHit.action says it.
DROPPED = "dropped"
DUPLICATED = "duplicated"
HELD_BACK = "held back"
CORRUPTED = "corrupted"
REWRITTEN = "rewritten"
MARKED = "marked"


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

OPTION_KINDS = {"mss": (2,), "wscale": (3,), "sack": (4, 5), "timestamps": (8,)}
"""The option kinds behind each name that `strip` takes (RFC 9293 3.1, RFC 7323, RFC 2018)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(ABC):
    """What all rules share. `written` is the text it was parsed from.

    Raises ValueError on construction where a value makes no sense.
    """

    VERB: ClassVar[str]

    match: Match = ANY
    nth: int | tuple[int, int | None] | None = None
    direction: str | None = None
    written: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.direction not in (None, IN, OUT):
            raise ValueError(f"a direction is 'in', 'out' or None for both, not {self.direction!r}")
        if not isinstance(self.match, Match):
            raise ValueError(f"what to act on is one of the Match objects of this module, not {self.match!r}")
        if self.nth is None:
            return
        span: tuple[object, ...] = self.nth if type(self.nth) is tuple else (self.nth, self.nth)
        first, last = span if len(span) == 2 else (0, 0)
        check_whole(f"nth={self.nth!r}: the first", first, 1)
        if last is not None:
            assert isinstance(first, int)
            check_whole(f"nth={self.nth!r}: the last", last, first)
        if first == last:
            object.__setattr__(self, "nth", first)

    @property
    def span(self) -> tuple[int, int | None]:
        """The first and the last matching packet that the rule acts on; None for no last one."""
        if self.nth is None:
            return 1, None
        return (self.nth, self.nth) if isinstance(self.nth, int) else self.nth

    @property
    def is_for_some(self) -> bool:
        """Whether it singles packets out, by kind or by number, instead of acting on all of a direction."""
        return self.match != ANY or self.nth is not None

    @property
    def random_seed(self) -> int:
        """What the draws start from."""
        return 0

    @property
    def text(self) -> str:
        """The rule as it was written, or as it would be in the grammar: which then reads as an equal rule."""
        if self.written:
            return self.written
        words = [self.VERB, *self._operands()]
        if self.match != ANY or isinstance(self, Drop):
            words.append(self.match.name)
        if self.nth is not None:
            first, last = self.span
            words.append(f"nth={first}" if first == last else f"nth={first}..{'' if last is None else last}")
        words += self._seed()
        if self.direction:
            words.append(f"dir={self.direction}")
        return " ".join(words)

    @abstractmethod
    def _operands(self) -> list[str]:
        """What stands between the verb and the match."""

    def _seed(self) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class Drop(Rule):
    """Drop packets: `Drop(SYN, nth=1)`, `Drop(DATA, nth=(3, 5))`."""

    VERB: ClassVar[str] = "drop"

    match: Match

    def _operands(self) -> list[str]:
        return []


class Drawn(Rule):
    """A rule that leaves something to chance: the draws start from its `seed`."""

    __slots__ = ()
    seed: int

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        check_whole("a seed", self.seed)

    @property
    def random_seed(self) -> int:
        return self.seed

    def _seed(self) -> list[str]:
        return [f"seed={self.seed}"]


@dataclass(frozen=True, slots=True)
class Chance(Drawn):
    """Hit each packet, TCP or not, with a probability of 0 to 1, drawn from the seed."""

    probability: float
    seed: int = 0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        check_probability(self.probability)

    def _operands(self) -> list[str]:
        return [write_percentage(self.probability)]


class Loss(Chance):
    """Lose packets, each by itself."""

    VERB = "loss"


class Duplicate(Chance):
    """Pass packets twice, the copy right behind the original."""

    VERB = "duplicate"


class Reorder(Chance):
    """Hold packets back until one to three later ones of their direction have passed."""

    VERB = "reorder"


class Corrupt(Chance):
    """Flip one bit of packets."""

    VERB = "corrupt"


@dataclass(frozen=True, slots=True)
class BurstLoss(Drawn):
    """Lose packets in bursts (Gilbert and Elliott). The wire of each direction is good or bad, good at first: with
    each packet it may go bad (`enter`) or become good again (`leave`), then loses it with the probability of the state
    it is in."""

    VERB: ClassVar[str] = "burst-loss"

    enter: float
    leave: float
    loss_in_good: float = 0.0
    loss_in_bad: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        for probability in (self.enter, self.leave, self.loss_in_good, self.loss_in_bad):
            check_probability(probability)

    def _operands(self) -> list[str]:
        words = [f"enter={write_percentage(self.enter)}", f"leave={write_percentage(self.leave)}"]
        if self.loss_in_good != 0:
            words.append(f"loss-in-good={write_percentage(self.loss_in_good)}")
        if self.loss_in_bad != 1:
            words.append(f"loss-in-bad={write_percentage(self.loss_in_bad)}")
        return words


@dataclass(frozen=True, slots=True)
class Blackhole(Rule):
    """Drop everything for a while, or for ever (None), counted from the first segment that comes to the rule."""

    VERB: ClassVar[str] = "blackhole"

    after_ns: int = 0
    for_ns: int | None = None

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        check_whole("after_ns", self.after_ns)
        if self.for_ns is not None:
            check_whole("for_ns", self.for_ns, 1)

    def _operands(self) -> list[str]:
        words = [f"after={TIME.write(self.after_ns)}"]
        return words if self.for_ns is None else [*words, f"for={TIME.write(self.for_ns)}"]


@dataclass(frozen=True, slots=True)
class Delay(Drawn):
    """Hold packets back for `delay_ns`, and up to `jitter_ns` more, drawn evenly. They keep their order."""

    VERB: ClassVar[str] = "delay"

    delay_ns: int
    jitter_ns: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        Drawn.__post_init__(self)
        _ = self.line  # which checks what is its own

    @property
    def line(self) -> Line:
        """The wire that each direction gets."""
        return Line(delay_ns=self.delay_ns, jitter_ns=self.jitter_ns)

    def _operands(self) -> list[str]:
        words = [TIME.write(self.delay_ns)]
        return [*words, "jitter", TIME.write(self.jitter_ns)] if self.jitter_ns else words

    def _seed(self) -> list[str]:
        return [f"seed={self.seed}"] if self.jitter_ns or self.seed else []


@dataclass(frozen=True, slots=True)
class Rate(Rule):
    """Send packets at no more than `rate_bps` bits a second, in each direction. Those that wait are in a queue, which
    drops what it has no room for, and from `mark_bytes` waiting on marks congestion on what is ECN-capable."""

    VERB: ClassVar[str] = "rate"

    rate_bps: int
    queue_bytes: int | None = None
    queue_packets: int | None = None
    mark_bytes: int | None = None

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        check_whole("rate_bps", self.rate_bps, 1)
        _ = self.line  # which checks what is its own

    @property
    def line(self) -> Line:
        """The wire that each direction gets."""
        return Line(
            rate_bps=self.rate_bps,
            queue_bytes=self.queue_bytes,
            queue_packets=self.queue_packets,
            mark_bytes=self.mark_bytes,
        )

    def _operands(self) -> list[str]:
        words = [RATE.write(self.rate_bps)]
        if self.queue_bytes is not None:
            words += ["queue", SIZE.write(self.queue_bytes)]
        if self.queue_packets is not None:
            words += ["queue", PACKETS.write(self.queue_packets)]
        if self.mark_bytes is not None:
            words += ["mark", SIZE.write(self.mark_bytes)]
        return words


@dataclass(frozen=True, slots=True)
class Mtu(Rule):
    """Drop packets above `mtu` octets; unless `silent`, their sender hears of it by ICMP, as from a router."""

    VERB: ClassVar[str] = "mtu"

    mtu: int
    silent: bool = False

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        check_whole("an MTU", self.mtu, 68, 65_535)  # RFC 791 3.2: every link carries 68 octets
        if type(self.silent) is not bool:
            raise ValueError(f"silent is True or False, not {self.silent!r}")

    def _operands(self) -> list[str]:
        return [str(self.mtu), "silent"] if self.silent else [str(self.mtu)]


@dataclass(frozen=True, slots=True)
class Strip(Rule):
    """Take a TCP option out of segments; one of the names in OPTION_KINDS."""

    VERB: ClassVar[str] = "strip"

    option: str

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        if not isinstance(self.option, str) or self.option not in OPTION_KINDS:
            raise ValueError(f"an option to strip is one of {', '.join(OPTION_KINDS)}, not {self.option!r}")

    def _operands(self) -> list[str]:
        return [f"option={self.option}"]


@dataclass(frozen=True, slots=True)
class Rewrite(Rule):
    """Overwrite fields of segments: the window, and the MSS and window scale options of those that have them."""

    VERB: ClassVar[str] = "rewrite"

    window: int | None = None
    mss: int | None = None
    wscale: int | None = None

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        fields = {"window": (self.window, 0xFFFF), "mss": (self.mss, 0xFFFF), "wscale": (self.wscale, 0xFF)}
        given = {name: field for name, field in fields.items() if field[0] is not None}
        if not given:
            raise ValueError("rewrite needs window=N, mss=N or wscale=N")
        for name, (value, largest) in given.items():
            check_whole(name, value, 0, largest)

    def _operands(self) -> list[str]:
        fields = (("window", self.window), ("mss", self.mss), ("wscale", self.wscale))
        return [f"{name}={value}" for name, value in fields if value is not None]
