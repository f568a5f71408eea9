"""A drill script as data: what `grammar.parse` makes of its text.

Times are nanoseconds, sequence numbers are as written: relative to each end's initial sequence number. `line` and
`column` count from 1; `source` is an event's own text, for messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

ENGINE = "engine"
KERNEL = "kernel"
SIDES = (ENGINE, KERNEL)


class ScriptError(ValueError):
    """The script's text is not what it should be; the message names file, line and column, shows the line with a
    caret under the place, and says what is allowed there."""


class Unsupported(Exception):
    """The script asks for something that this side cannot do; the message says what, `event` where, once that is
    known."""

    event: Event | None = None


@dataclass(frozen=True, slots=True)
class When:
    """When an event is due.

    relative  counted from when the event before was over; else from the script's start
    untimed   a command without a time: it takes none; where it stands first the clock has not started yet
    any       "*": whenever it comes
    until_ns  the other end of a range ("1.0~1.5"), else None
    """

    start_ns: int = 0
    relative: bool = False
    untimed: bool = False
    any: bool = False
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A TCP option by its name in scripts: nop, eol, mss, wscale, sackOK, sack, TS, FO, FOEXP, md5 or "kind N".

    numbers  mss and wscale: one; TS: val and ecr; sack: the edges, left and right in turn
    blob     the octets of the others (a Fast Open cookie)
    """

    name: str
    numbers: tuple[int, ...] = ()
    blob: bytes = b""


@dataclass(frozen=True, slots=True)
class IpInfo:
    """What a script says of the IP header: `tos` with `tos_mask` of its bits meant, `ect01` where ECT(0) and ECT(1)
    both will do, `ttl`. Parts that it does not mention are None (mask 0)."""

    tos: int = 0
    tos_mask: int = 0
    ect01: bool = False
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Packet:
    """A TCP packet of the script, injected ("<") or expected (">").

    ports    (source, destination) where the script names them
    win      the field as on the wire, unscaled; None where the script leaves it out
    options  None for "<...>": any
    """

    inbound: bool
    flags: int
    seq: int
    size: int
    ack: int | None = None
    win: int | None = None
    urg: int = 0
    options: tuple[Option, ...] | None = ()
    ports: tuple[int, int] | None = None
    ip: IpInfo = IpInfo()


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP or ICMPv6 error to inject: its type and code, the MTU it tells, and the segment that it quotes."""

    type: int
    code: int
    mtu: int
    seq: int
    size: int


class Anything:
    """The value "...": whatever it is."""

    def __repr__(self) -> str:
        return "..."


ANYTHING = Anything()
Value: TypeAlias = "int | str | bytes | Anything | tuple[Value, ...] | Mapping[str, Value]"


@dataclass(frozen=True, slots=True)
class Call:
    """A socket call: `until_ns` is when it is to return, counted as the event's own time, where it blocks; else None.

    result  the value it is to return, with the errno where that is -1
    """

    name: str
    arguments: tuple[Value, ...]
    result: Value
    errno: int | None
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A shell command."""

    text: str


@dataclass(frozen=True, slots=True)
class Snippet:
    """Assertions about TCP_INFO, in Python."""

    text: str


Action: TypeAlias = Packet | Icmp | Call | Command | Snippet


@dataclass(frozen=True, slots=True)
class Event:
    when: When
    action: Action
    line: int
    source: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where the two sides differ, and the reason why that is accepted."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Script:
    """path     as it was given, for messages;  side  whose lines it holds
    options  "--name=value" lines, in order, with their lines
    """

    path: str
    side: str
    options: tuple[tuple[str, str, int], ...]
    events: tuple[Event, ...]
    differences: tuple[Difference, ...]
