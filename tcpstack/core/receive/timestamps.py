"""Timestamps (RFC 7323): when did it leave, and is it old?

Our clock ticks in milliseconds, from an offset that tells nothing of the machine (RFC 7323 5.4). The peer's clock ticks
as it likes: its values are only compared with each other, modulo 2^32, and never but with one of the last 24 days,
since after that a clock of the fastest kind allowed has gone half way around (5.5).
"""

from __future__ import annotations

from ..segment import TimestampsAlone
from ..seq import HALF, MASK

OLD = "ACK: an old segment, by its timestamp (PAWS)"
"""Why a segment that `is_old` is answered."""

TICK_NS = 1_000_000
OUTDATED_NS = 24 * 24 * 3600 * 1_000_000_000
"""RFC 7323 5.5: TS.Recent is invalid once it is older than 24 days."""


class Timestamps:
    """One connection's Timestamps option, where both ends have agreed to use it (Snd.TS.OK).

    offset         of our clock, 0 to 2^32 - 1
    recent         TS.Recent as on the wire: the TSval to be echoed; 0 before there is one
    recent_ns      when TS.Recent was last set; None before
    last_ack_sent  Last.ACK.sent, unwrapped: the caller sets it with each segment that carries an ACK
    """

    __slots__ = ("_options", "_tick_ends_ns", "last_ack_sent", "offset", "recent", "recent_ns")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.recent = 0
        self.recent_ns: int | None = None
        self.last_ack_sent = 0
        self._options = TimestampsAlone((offset, 0))
        self._tick_ends_ns = 0  # until when `_options` tell the time

    def option(self, now_ns: int) -> tuple[int, int]:
        """(TSval, TSecr) of a segment that leaves now."""
        return (now_ns // TICK_NS + self.offset) & MASK, self.recent

    def options(self, now_ns: int) -> TimestampsAlone:
        """The options of a segment that leaves now and has no others: one object for all of a millisecond."""
        if now_ns >= self._tick_ends_ns or self._options.timestamps[1] != self.recent:
            self._options = TimestampsAlone(self.option(now_ns))
            self._tick_ends_ns = now_ns - now_ns % TICK_NS + TICK_NS
        return self._options

    # -- the peer's clock

    def synchronize(self, tsval: int, now_ns: int) -> None:
        """The peer's SYN brought this TSval: the first, whatever its value."""
        self.recent = tsval
        self.recent_ns = now_ns

    def is_old(self, tsval: int, now_ns: int) -> bool:
        """PAWS (RFC 7323 5.3 R1): whether a segment with this TSval is from the past and is to be refused.

        Whether that goes for the segment at all (an RST it does not) the caller knows.
        """
        # "s < t if 0 < (t - s) < 2^31" (5.2): at a distance of 2^31 neither is the older.
        return (
            0 < (self.recent - tsval) & MASK < HALF
            and self.recent_ns is not None
            and now_ns - self.recent_ns <= OUTDATED_NS
        )

    def on_segment(self, seq: int, tsval: int, now_ns: int) -> None:
        """An acceptable segment at `seq` (unwrapped), not an old one, has this TSval: note it, where it is the one to
        echo (4.3).

        Text above a gap does not count (the peer would take what was lost for a short round trip), nor does what
        comes while an acknowledgement is delayed (the delay belongs to the round trip).
        """
        if seq <= self.last_ack_sent:
            self.recent = tsval
            self.recent_ns = now_ns

    # -- our own clock, echoed

    def echoed_ns(self, tsecr: int, now_ns: int) -> int | None:
        """No later than then left the segment whose TSval was `tsecr`: the end of that millisecond, or `now_ns`.

        None where it is no value that we can have sent: one of the future, or before our clock began, or so long ago
        that these can't be told apart (24.8 days). Nor does 0 count: some send it in place of nothing.
        """
        tick = now_ns // TICK_NS
        age_ticks = (tick + self.offset - tsecr) & MASK
        if tsecr == 0 or age_ticks >= HALF or age_ticks > tick:
            return None
        return min((tick - age_ticks + 1) * TICK_NS - 1, now_ns)
