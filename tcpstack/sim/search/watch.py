"""What must hold of all that a host sends and does, whatever the network does to it."""

from __future__ import annotations

from ...core import state as st
from ...core.config import Config
from ...core.events import (
    CongestionChange,
    ConnectionClosed,
    Event,
    RetransmissionTimeout,
    SegmentIn,
    SegmentOut,
    StateChange,
)
from ...core.segment import ACK, RST, SYN, URG, FourTuple, Segment
from ...core.seq import MASK
from ...wire.packet import LARGEST_PACKET
from .flow import Flow
from .known import Violation

REMEMBERED = 64


class Wire:
    """Watches one host: a tracer. `offload` says whether it may send superpackets.

    wraps     its numbers begin where the search wants it, and not by the clock
    segments  how many there were, as on the wire
    flows     its connections and what else was spoken of, by name; of each name the last
    forged    numbers of packets that no host has sent
    heard     the last segments that came, for who would play them again
    sent      what it has sent, by number; None where it need not be kept; others  what the other host has
    """

    def __init__(self, name: str, config: Config, mtu: int, offload: bool) -> None:
        self._name = name
        self._config = config
        self._mtu = mtu
        self._offload = offload
        self._due: Segment | None = None  # it earns a RST, before all else
        self._time_waits: dict[FourTuple, int] = {}
        self._begins: dict[int, FourTuple] = {}
        self.wraps = False
        self.segments = 0
        self.flows: dict[FourTuple, Flow] = {}
        self.forged: set[int] = set()
        self.heard: list[Segment] = []
        self.sent: dict[int, Segment] | None = None
        self.others: dict[int, Segment] = {}

    @property
    def resent(self) -> str:
        """The first text that was sent twice, and why it was; "" where none was."""
        return next((flow.again for flow in self.flows.values() if flow.again), "")

    @property
    def resent_probe(self) -> str:
        """Likewise the first text that was sent twice as a probe of the tail."""
        return next((flow.again_probe for flow in self.flows.values() if flow.again_probe), "")

    @property
    def forced(self) -> str:
        """Likewise the first text that was forced out against the window."""
        return next((flow.forced for flow in self.flows.values() if flow.forced), "")

    def __call__(self, event: Event) -> None:
        """Raises Violation."""
        if isinstance(event, SegmentOut):
            self._on_out(event)
        elif isinstance(event, SegmentIn):
            self._on_in(event)
        elif isinstance(event, StateChange):
            self._on_state(event)
        elif isinstance(event, RetransmissionTimeout):
            self.flows[event.flow].on_timeout(event.una, event.rto_ns, event.attempt, event.time_ns)
        elif isinstance(event, CongestionChange):
            self.flows[event.flow].on_congestion(event.cwnd_bytes, event.ssthresh_bytes, event.why)
        elif isinstance(event, ConnectionClosed):
            self.flows[event.flow].on_closed(event.error, event.time_ns)

    def _on_out(self, event: SegmentOut) -> None:
        segment = event.segment
        self.segments += segment.segments
        due, self._due = self._due, None
        if not segment.reason:
            raise Violation(f"{self._name}: {segment} was sent without a reason")
        if segment.gso_size and not self._is_superpacket(segment):
            raise Violation(f"{self._name}: no device could divide {segment} by {segment.gso_size}")
        flow = self.flows.get(event.flow)
        if due is not None and (not segment.flags & RST or event.flow != _name_of(due)):
            raise Violation(f"{self._name}: {due} earns a RST, and not {segment}")
        if flow is None or (segment.flags & RST and flow.iss is None and due is None):
            raise Violation(f"{self._name}: {segment} answers nothing ({segment.reason})")
        flow.on_out(segment, event.state, event.time_ns)
        if segment.flags & SYN and not self.wraps:
            self._check_iss(event.flow, segment.seq, event.time_ns)
        if self.sent is not None:
            self.sent[segment.packet_id] = segment

    def _check_iss(self, name: FourTuple, iss: int, now_ns: int) -> None:
        """RFC 6528: by the clock, and for each pair of sockets from another number on."""
        begins = (iss - now_ns // 4_000) & MASK
        if self._begins.setdefault(begins, name) != name:
            raise Violation(f"{self._name}: the ISS of {name} follows from that of {self._begins[begins]}")

    def _is_superpacket(self, segment: Segment) -> bool:
        """More than one segment's text in one packet, plain otherwise, for a device that takes such."""
        fits = segment.gso_size < segment.payload_len <= LARGEST_PACKET - 40
        return fits and self._offload and segment.flags & (ACK | SYN | RST | URG) == ACK

    def _on_in(self, event: SegmentIn) -> None:
        segment = event.segment
        flow = self.flows.get(event.flow) or self._new(event)
        self._check_due()
        if segment.packet_id in self.forged and event.before != st.LISTEN:  # where a SYN is as good as any
            flow.on_forged(segment, event.time_ns)
        else:
            flow.on_in(segment, event.before, event.after, event.time_ns)
            if self.others:
                self._check_same(segment)
            self.heard.append(segment)
            del self.heard[:-REMEMBERED]
        if event.before in (st.CLOSED, st.LISTEN) and event.after == event.before and not segment.flags & RST:
            if event.before == st.CLOSED or segment.flags & ACK:
                self._due = segment  # RFC 9293 3.10.7.1, 3.10.7.2

    def _check_same(self, segment: Segment) -> None:
        """It is what the other host has sent, but for what joins or divides superpackets."""
        sent = self.others.get(segment.packet_id)
        if sent is None or sent.payload_len != segment.payload_len:
            return
        if segment.gso_size and segment.seq != sent.seq:
            return  # made of what superpackets were divided into, all of which have their number
        for name in ("seq", "ack", "flags", "wnd", "up", "options"):
            if getattr(sent, name) != getattr(segment, name):
                raise Violation(f"{self._name}: {name} was another when {segment} was sent: {sent}")

    def _check_due(self) -> None:
        if self._due is not None:
            raise Violation(f"{self._name}: {self._due} earns a RST, and there was none")

    def _on_state(self, event: StateChange) -> None:
        self._check_due()
        flow = self.flows.get(event.flow)
        if event.before in (st.CLOSED, st.LISTEN):
            flow = self._new(event)
        assert flow is not None
        if event.after in (st.CLOSED, st.LISTEN):
            flow.closed_ns = event.time_ns
        if event.after == st.TIME_WAIT:
            self._time_waits[event.flow] = event.time_ns
        elif event.cause == st.TIME_WAIT_TIMEOUT:
            lasted_ns = event.time_ns - max(self._time_waits[event.flow], 0)
            idle_ns = event.time_ns - max(self._time_waits[event.flow], flow.heard_ns)
            if not idle_ns <= self._config.time_wait_ns <= lasted_ns:
                raise Violation(f"{self._name}: TIME-WAIT lasted {lasted_ns} ns, {idle_ns} since something came")

    def _new(self, event: Event) -> Flow:
        before = self.flows.get(event.flow)
        flow = self.flows[event.flow] = Flow(self._name, event.flow, self._config, self._mtu, event.time_ns)
        flow.reset = before is not None and before.reset
        return flow


def _name_of(segment: Segment) -> FourTuple:
    return (segment.dst, segment.dport, segment.src, segment.sport)
