"""Events that are no segment, in words."""

from __future__ import annotations

from ..core.events import (
    CongestionChange,
    ConnectionClosed,
    Event,
    ExcessiveRetransmission,
    FaultHit,
    LossDetected,
    RetransmissionTimeout,
    SoftError,
    StateChange,
)
from ..core.state import (
    ABORT,
    ACTIVE_OPEN,
    CLOSE,
    KEEPALIVE_TIMEOUT,
    ORPHAN_TIMEOUT,
    PASSIVE_OPEN,
    RCV_UNREACHABLE,
    STATE_NAMES,
    TIME_WAIT_TIMEOUT,
    USER_TIMEOUT,
)
from .printable import ending
from .rows import LOSS, PLAIN, QUIET, RESET, STATE
from .summary import account

_CAUSES = {
    ACTIVE_OPEN: "our application opens a connection",
    PASSIVE_OPEN: "our application listens",
    CLOSE: "our application closes",
    ABORT: "our application aborts",
    USER_TIMEOUT: "no acknowledgement for too long, given up",
    TIME_WAIT_TIMEOUT: "2 MSL have passed",
    ORPHAN_TIMEOUT: "the peer's FIN did not come in time, and the application is gone",
    KEEPALIVE_TIMEOUT: "no answer to any of our keep-alives, given up",
    RCV_UNREACHABLE: "ICMP: unreachable",
}
_CAUSES_WITH_A_SEGMENT = {
    CLOSE: "our application had closed",
    ABORT: "our application was gone",
}
"""What the engine does by itself when a segment arrives, since the application has spoken before."""
_FATES = {
    "dropped": "killed by the fault rule “{}”: it never arrives",
    "corrupted": "damaged by the fault rule “{}”: its checksum is wrong now, so the receiver drops it",
    "duplicated": "duplicated by the fault rule “{}”",
    "held back": "held back by the fault rule “{}”: it arrives late",
}
_MILLISECOND_NS = 1_000_000


def describe(event: Event, *, with_segment: bool = False) -> tuple[str, str]:
    """One sentence without its full stop, and the tone it is said in (rows.py); `with_segment` where it is about what
    an arriving segment caused."""
    if isinstance(event, StateChange):
        causes = {**_CAUSES, **_CAUSES_WITH_A_SEGMENT} if with_segment else _CAUSES
        words = causes.get(event.cause, event.cause)
        return f"{words}: {STATE_NAMES[event.before]} → {STATE_NAMES[event.after]}", STATE
    if isinstance(event, RetransmissionTimeout):
        waited = f"{event.rto_ns / _MILLISECOND_NS:.0f} ms"
        count = "" if event.attempt == 1 else f" (timeout {event.attempt} for it)"
        return f"retransmission timeout: {waited} without an acknowledgement of seq {event.una}{count}", LOSS
    if isinstance(event, ExcessiveRetransmission):
        count = "1 retransmission" if event.retransmissions == 1 else f"{event.retransmissions} retransmissions"
        return f"excessive retransmission (R1): {count} of seq {event.una} and no answer; the path is in doubt", LOSS
    if isinstance(event, LossDetected):
        return f"loss detected: seq {event.una} has not arrived ({event.trigger})", LOSS
    if isinstance(event, SoftError):
        return f"ICMP error: {ending(event.error)}; the connection goes on for now", PLAIN
    if isinstance(event, CongestionChange):
        sizes = f"congestion window {event.cwnd_bytes}, threshold {event.ssthresh_bytes}"
        return f"{sizes}: {event.why}", QUIET
    if isinstance(event, ConnectionClosed):
        return f"the connection is over: {account(event)}", QUIET if event.error is None else RESET
    return type(event).__name__, PLAIN


def fate(hit: FaultHit) -> str:
    """What a fault rule did to a packet, to follow the packet's name: "killed by the fault rule ..."."""
    text = _FATES.get(hit.action, hit.action + " by the fault rule “{}”")
    return text.replace("{}", hit.rule)
