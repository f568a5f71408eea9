"""The loopback: what a host sends to itself comes back to it in its next turn.

Its own addresses lead here, and with them 127.0.0.0/8 and ::1, as on Linux's `lo`. Both ends of a connection to oneself
are Connections like any other. They have a table of their own: a packet of the device's, whatever it claims to be,
finds none of them. Segments come back as they left, neither encoded nor divided; no device sees them, and so no fault
rule and no capture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..core.connection import Connection
from ..core.events import SegmentOut, Tracer
from ..core.segment import FourTuple, Segment
from ..core.timers import NEVER
from ..wire.packet import LARGEST_PACKET

LOOPBACK_MTU = LARGEST_PACKET
BATCH_SEGMENTS = 64
"""Segments that come back in one turn: as many as a device's batch has packets."""


class Loopback:
    """What is on its way back: no more than the windows of its connections admit, and answers to that.

    connections  those whose other end is here, too
    delay_ns     how long each segment takes; 0: it is there in the next turn
    arm          called when there is something to come back, and so a deadline
    arrive       takes each (segment, now_ns) that comes back
    """

    __slots__ = ("_arm", "_arrive", "_packet_ids", "_tracer", "_under_way", "connections", "delay_ns")

    def __init__(
        self,
        tracer: Tracer | None,
        packet_ids: Callable[[], int],
        arm: Callable[[Loopback], None],
        arrive: Callable[[Segment, int], None],
    ) -> None:
        self.connections: dict[FourTuple, Connection] = {}
        self.delay_ns = 0
        self._tracer = tracer
        self._packet_ids = packet_ids
        self._arm = arm
        self._arrive = arrive
        self._under_way: deque[tuple[int, Segment]] = deque()  # with when it is there

    @property
    def deadline_ns(self) -> int:
        """When something is to come back, 0 for now; else NEVER."""
        return self._under_way[0][0] if self._under_way else NEVER

    def emit(self, segment: Segment, state: int, now_ns: int, ip_fields: tuple[int, int]) -> None:
        """A segment leaves in `state`."""
        segment.packet_id = self._packet_ids()
        if self._tracer is not None:
            flow = (segment.src, segment.sport, segment.dst, segment.dport)
            self._tracer(SegmentOut(now_ns, flow, segment, state))
        self._under_way.append((now_ns + self.delay_ns if self.delay_ns else 0, segment))
        self._arm(self)

    def is_to_hear(self, connection: Connection) -> bool:
        """Whether a segment is on its way to the connection, one of these."""
        local, lport, remote, rport = connection.flow
        flow = (remote, rport, local, lport)
        return any((each.src, each.sport, each.dst, each.dport) == flow for _, each in self._under_way)

    def on_timer(self, now_ns: int) -> None:
        """A batch comes back, in order. What is said to it comes with a later one."""
        under_way = self._under_way
        for _ in range(min(len(under_way), BATCH_SEGMENTS)):
            if under_way[0][0] > now_ns:
                break
            self._arrive(under_way.popleft()[1], now_ns)
