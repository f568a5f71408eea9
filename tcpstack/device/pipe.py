"""One direction of a wire: a queue in front of a line with a rate and a delay. Pure: time goes in, packets come out.

The fault rules `rate` and `delay` and the links of a simulation are this. Packets leave in the order in which they
came, jitter or not; what reorders is another rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .fault_units import check_whole

T = TypeVar("T")
_BITS_TIMES_NS = 8 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """What a wire does to what it carries. Raises ValueError where a value makes no sense.

    rate_bps       bits a second; None: as fast as you like
    delay_ns       from the end of sending to arrival; jitter_ns is added to it, drawn evenly from 0 to that
    queue_bytes    octets that may wait to be sent; queue_packets likewise packets; None: no limit. A packet that finds
                   no room is dropped (drop-tail). What is being sent does not wait.
    mark_bytes     where so many octets wait, packets that are ECN-capable are marked as having met congestion (RFC
                   3168); None: never
    """

    rate_bps: int | None = None
    delay_ns: int = 0
    jitter_ns: int = 0
    queue_bytes: int | None = None
    queue_packets: int | None = None
    mark_bytes: int | None = None

    def __post_init__(self) -> None:
        check_whole("delay_ns", self.delay_ns)
        check_whole("jitter_ns", self.jitter_ns)
        limits = {"rate_bps": 1, "queue_bytes": 0, "queue_packets": 0, "mark_bytes": 0}
        for name, least in limits.items():
            if (value := getattr(self, name)) is not None:
                check_whole(name, value, least)
        most = self.queue_bytes
        if self.mark_bytes is not None and most is not None and self.mark_bytes > most:
            raise ValueError(f"a queue of {most} octets never has the {self.mark_bytes} at which it is to mark")


class Pipe(Generic[T]):
    """Things on their way along a Line. `draw(n)` gives a whole number from 0 to n - 1, for the jitter."""

    __slots__ = ("_arrivals", "_busy_until_ns", "_draw", "_owed", "_waiting", "_waiting_bytes", "line")

    def __init__(self, line: Line, draw: Callable[[int], int]) -> None:
        self.line = line
        self._draw = draw
        self._busy_until_ns = 0
        self._owed = 0  # what was left over when that was rounded down: of a nanosecond, 1 / rate_bps each
        self._waiting: deque[tuple[int, int]] = deque()  # (when it begins to be sent, its size), of those that wait
        self._waiting_bytes = 0
        self._arrivals: deque[tuple[int, T]] = deque()

    def __len__(self) -> int:
        """How many are on their way, waiting or under way."""
        return len(self._arrivals)

    def congested(self, now_ns: int) -> bool:
        """Whether what is put now is to carry a congestion mark, if it can."""
        mark_bytes = self.line.mark_bytes
        if mark_bytes is None:
            return False
        self._begin(now_ns)
        return self._waiting_bytes >= mark_bytes

    def put(self, thing: T, size: int, now_ns: int) -> bool:
        """Send a thing of `size` octets. False where the queue has no room: it is lost."""
        line = self.line
        done_ns = now_ns
        if line.rate_bps is not None:
            self._begin(now_ns)
            begins_ns = max(self._busy_until_ns, now_ns)
            if begins_ns > now_ns:
                if line.queue_packets is not None and len(self._waiting) >= line.queue_packets:
                    return False
                if line.queue_bytes is not None and self._waiting_bytes + size > line.queue_bytes:
                    return False
                self._waiting.append((begins_ns, size))
                self._waiting_bytes += size
            else:
                self._owed = 0
            takes_ns, self._owed = divmod(size * _BITS_TIMES_NS + self._owed, line.rate_bps)
            done_ns = self._busy_until_ns = begins_ns + takes_ns
        arrives_ns = done_ns + line.delay_ns
        if line.jitter_ns:
            arrives_ns += self._draw(line.jitter_ns + 1)
        if self._arrivals:
            arrives_ns = max(arrives_ns, self._arrivals[-1][0])
        self._arrivals.append((arrives_ns, thing))
        return True

    @property
    def deadline_ns(self) -> int | None:
        """When the next thing arrives, or None."""
        return self._arrivals[0][0] if self._arrivals else None

    @property
    def last_arrival_ns(self) -> int | None:
        """When the last of all that is on its way arrives, or None."""
        return self._arrivals[-1][0] if self._arrivals else None

    def take(self, now_ns: int) -> list[T]:
        """What has arrived by now, in order."""
        arrivals = self._arrivals
        arrived: list[T] = []
        while arrivals and arrivals[0][0] <= now_ns:
            arrived.append(arrivals.popleft()[1])
        return arrived

    def clear(self) -> None:
        """Lose all that is on its way."""
        self._arrivals.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._busy_until_ns = 0

    def _begin(self, now_ns: int) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= now_ns:
            self._waiting_bytes -= waiting.popleft()[1]
