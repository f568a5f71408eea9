"""What can be seen of the engine: a tracer is a callable that takes one Event.

Each kind of event has one emit site. Core emits what happens inside a connection (state changes, timeouts,
losses, the congestion window); the stack emits the segments, in and out; the fault layer emits its hits.
With no tracer set the cost is one `is not None` test. Times are monotonic nanoseconds.

The events that belong to one arriving segment (a StateChange, a LossDetected) are emitted while the segment
is processed, so just before its SegmentIn, which names the state before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .segment import FourTuple, Segment


@dataclass(slots=True)
class Event:
    """Something that happened at `time_ns` to the connection named `flow` (local socket first)."""

    time_ns: int
    flow: FourTuple


@dataclass(slots=True)
class SegmentIn(Event):
    """A segment arrived and was processed; `before` and `after` are our state's constants (state.py)."""

    segment: Segment
    before: int
    after: int


@dataclass(slots=True)
class SegmentOut(Event):
    """A segment was handed to the device, in `state`; `segment.reason` says why in words."""

    segment: Segment
    state: int


@dataclass(slots=True)
class StateChange(Event):
    """The connection moved; `cause` is one of the event names of state.py."""

    before: int
    after: int
    cause: str


@dataclass(slots=True)
class RetransmissionTimeout(Event):
    """The retransmission timer went off: what was sent from `una` (relative to the ISN) is taken as lost.

    `rto_ns` is the timeout that passed, `attempt` counts from 1 for this segment.
    """

    una: int
    rto_ns: int
    attempt: int


@dataclass(slots=True)
class ExcessiveRetransmission(Event):
    """R1 is reached (RFC 9293 3.8.3): what begins at `una` (relative to the ISN) has gone again so often without an
    answer that the way there, or the peer, is in doubt. Told once, until something new is acknowledged; the connection
    goes on until R2."""

    una: int
    retransmissions: int


@dataclass(slots=True)
class LossDetected(Event):
    """Duplicate or partial acknowledgements show that the segment at `una` (relative to the ISN) is lost."""

    una: int
    trigger: str


@dataclass(slots=True)
class SoftError(Event):
    """An ICMP error about a segment of ours that is outstanding arrived, and ends nothing (RFC 9293 3.9.1.8, 3.9.2.2):
    `error` is what the user gets should the connection time out."""

    error: OSError


@dataclass(slots=True)
class CongestionChange(Event):
    """The congestion state changed: sizes in octets; `why` names the cause ("recovery", "timeout", ...)."""

    cwnd_bytes: int
    ssthresh_bytes: int
    why: str


@dataclass(slots=True)
class FaultHit(Event):
    """A fault rule acted on a packet. `direction` is "in" or "out" as the stack sees it; `rule` is the rule as
    it was written; `action` what became of the packet ("dropped", "duplicated", "corrupted", "held back")."""

    segment: Segment
    direction: str
    rule: str
    action: str
    packet_id: int


@dataclass(slots=True)
class ConnectionClosed(Event):
    """The connection is gone from the stack. `error` is None after an orderly close, ConnectionAbortedError
    where we reset it, else what the user got."""

    bytes_in: int
    bytes_out: int
    retransmitted: int
    opened_ns: int
    error: OSError | None


Tracer: TypeAlias = Callable[[Event], None]
