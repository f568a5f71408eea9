"""One line for each connection that is over."""

from __future__ import annotations

from collections.abc import Callable

from ..core.events import ConnectionClosed, Event, StateChange
from ..core.segment import FourTuple
from ..core.state import ACTIVE_OPEN
from .printable import duration, ending, flow_name, octets


class Summary:
    """A tracer that writes one line (without a line end) for each ConnectionClosed:

    ``10.9.0.1:41234 -> :80  in 78 B  out 1.2 kB  3.1 ms  closed``

    The arrow points from the end that opened the connection.
    """

    __slots__ = ("_opened_by_us", "_write")

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._opened_by_us: set[FourTuple] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, StateChange):
            if event.cause == ACTIVE_OPEN:
                self._opened_by_us.add(event.flow)
        elif isinstance(event, ConnectionClosed):
            ours = event.flow in self._opened_by_us
            self._opened_by_us.discard(event.flow)
            self._write(summary_line(event, opened_by_us=ours))


def summary_line(event: ConnectionClosed, *, opened_by_us: bool = False) -> str:
    """The flow, how much went each way, how long it took and how it ended, in one line."""
    return f"{flow_name(event.flow, opened_by_us=opened_by_us)}  {account(event)}"


def account(event: ConnectionClosed) -> str:
    """What passed and how it ended: "in 78 B  out 1.2 kB  3.1 ms  closed", and how much was retransmitted."""
    parts = [
        f"in {octets(event.bytes_in)}",
        f"out {octets(event.bytes_out)}",
        duration(event.time_ns - event.opened_ns),
    ]
    if event.retransmitted:
        parts.append(f"{event.retransmitted} retransmitted")
    parts.append(ending(event.error))
    return "  ".join(parts)
