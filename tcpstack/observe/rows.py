"""What a ladder is made of, before it is laid out: arrows and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from ..core.segment import Segment
from .peer import Move

# The tones in which a layout may colour a row.
PLAIN = "plain"
STATE = "state"
LOSS = "loss"
RESET = "reset"
QUIET = "quiet"


@dataclass(slots=True)
class Arrow:
    """One segment between the two ends.

    time_ns   since the conversation began
    segment   the segment itself
    out       we sent it (else the peer did)
    ours      our state before and after; None where it is not known
    theirs    the peer's; `inferred` says that it was deduced
    label     the control bits, then the numbers, in the order of their importance
    dead      it never arrived
    details   what stands beneath it: texts in order
    """

    time_ns: int
    segment: Segment
    out: bool
    ours: tuple[int | None, int | None]
    theirs: Move
    inferred: bool
    label: list[str]
    dead: bool = False
    details: list[str] = field(default_factory=list)
    tone: str = PLAIN


@dataclass(slots=True)
class Note:
    """Something that happened without a segment; `text` is one sentence without its full stop."""

    time_ns: int
    text: str
    tone: str = PLAIN


Row: TypeAlias = Arrow | Note
