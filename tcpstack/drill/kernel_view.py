"""The kernel's conversation as events, for the ladder. It does not tell its states, so they are inferred, as a peer's
are: by core's table of transitions, run over the segments that it sent and got."""

from __future__ import annotations

from ..core.events import SegmentIn, SegmentOut, Tracer
from ..core.segment import ACK, SYN, FourTuple, Segment
from ..core.state import CLOSED
from ..observe.peer import PeerInference
from ..wire.dpkt_codec import decode
from ..wire.packet import Packet
from .side import Arrived


class KernelView:
    """Gives `tracer` an event for each TCP packet, seen from the kernel's end. Times in ns.

    What the kernel sends is told in advance, all of it by `expect`: whether a SYN finds LISTEN is seen by its answer.
    """

    __slots__ = ("_count", "_inferred", "_tracer")

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._inferred: dict[FourTuple, PeerInference] = {}
        self._count = 0

    def expect(self, arrived: Arrived) -> None:
        """The kernel will send a packet."""
        segment = self._segment(Packet((arrived.octets,), arrived.checksum, arrived.gso_size))
        if segment is not None:
            flow = (segment.src, segment.sport, segment.dst, segment.dport)
            if flow not in self._inferred and segment.flags & (SYN | ACK) == SYN | ACK:
                self._of(flow).listen()
            self._of(flow)

    def sent(self, arrived: Arrived) -> None:
        """The kernel sent a packet."""
        segment = self._segment(Packet((arrived.octets,), arrived.checksum, arrived.gso_size))
        if segment is not None:
            flow = (segment.src, segment.sport, segment.dst, segment.dport)
            after = self._of(flow).sent(segment).after
            self._tracer(SegmentOut(arrived.time_ns, flow, segment, CLOSED if after is None else after))

    def received(self, octets: bytes, now_ns: int) -> None:
        """The kernel got a packet."""
        segment = self._segment(Packet((octets,)))
        if segment is not None:
            flow = (segment.dst, segment.dport, segment.src, segment.sport)
            inferred = self._of(flow)
            before = inferred.state
            inferred.reached(segment)
            self._tracer(SegmentIn(now_ns, flow, segment, before, inferred.state))

    def _segment(self, packet: Packet) -> Segment | None:
        self._count += 1
        packet.id = self._count
        item = decode(packet)
        return item if isinstance(item, Segment) else None

    def _of(self, flow: FourTuple) -> PeerInference:
        return self._inferred.setdefault(flow, PeerInference())
