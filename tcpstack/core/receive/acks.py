"""When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2).

In-order text of a batch coalesces into one acknowledgement, at once for every second full-sized segment
(SHLD-19), else after the delay. Each segment above a gap owes a duplicate acknowledgement of its own, with the
number that was due when it arrived: coalesced, the peer would never see three of them; renumbered after the gap
was filled, they would be duplicates of the new number and provoke a retransmission for nothing.
"""

from __future__ import annotations

from typing import TypeAlias

from ..timers import NEVER

Blocks: TypeAlias = tuple[tuple[int, int], ...]
"""(left edge, right edge) pairs, unwrapped."""


class AckPolicy:
    """What we owe the peer. `reason` says why an immediate acknowledgement is due, `duplicates` holds the
    numbers of the duplicate acknowledgements due (with their reasons, and the blocks that they report), `timer_ns` is
    the delayed one's deadline."""

    __slots__ = ("_delay_ns", "_pending_bytes", "duplicates", "reason", "timer_ns")

    def __init__(self, delay_ns: int) -> None:
        self._delay_ns = delay_ns
        self._pending_bytes = 0
        self.reason = ""
        self.duplicates: tuple[tuple[int, str, Blocks], ...] = ()
        self.timer_ns = NEVER

    def on_text(self, size: int, rmss: int, now_ns: int) -> None:
        """`size` octets were taken in order. `rmss` is what the peer takes for a full-sized segment."""
        self._pending_bytes += size
        if self._pending_bytes >= 2 * rmss:
            self.reason = self.reason or "ACK: two full segments' worth arrived"
        elif self.timer_ns == NEVER:
            self.timer_ns = now_ns + self._delay_ns

    def owe(self, reason: str) -> None:
        """An acknowledgement is due at the end of this batch, on its own or with data."""
        self.reason = self.reason or reason

    def owe_duplicate(self, ack: int, reason: str, blocks: Blocks = ()) -> None:
        """An acknowledgement of its own is due, with the number `ack`, and these SACK blocks."""
        self.duplicates += ((ack, reason, blocks),)

    def on_sent(self) -> None:
        """A segment with the current acknowledgement left."""
        self.reason = ""
        self._pending_bytes = 0
        self.timer_ns = NEVER

    def on_timer(self) -> None:
        """The delay is over."""
        self.timer_ns = NEVER
        self.reason = self.reason or "ACK: delayed, no data came to carry it"
