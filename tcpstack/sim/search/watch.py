"""What must hold of each segment that a host sends, whatever the network does to it."""

from __future__ import annotations

from ...core.segment import ACK, RST, SYN, URG, FourTuple, Segment
from ...core.seq import MASK
from ...wire.packet import LARGEST_PACKET


class Violation(AssertionError):
    """The engine did what it must not. The message says what, when and to whom."""


class Wire:
    """Watches what one host puts on the wire; `offload` says whether that may be superpackets.

    segments  how many there were, as on the wire
    resent    the first that held something sent before, and why it was sent; "" where none did
    """

    def __init__(self, name: str, offload: bool) -> None:
        self._name = name
        self._offload = offload
        self._edges: dict[FourTuple, int] = {}
        self._shifts: dict[FourTuple, int] = {}
        self._sent: dict[FourTuple, int] = {}  # what comes behind the last octet sent
        self.segments = 0
        self.resent = ""

    def on_out(self, segment: Segment) -> None:
        """The host sends this. Raises Violation."""
        self.segments += segment.segments
        flow = (segment.src, segment.sport, segment.dst, segment.dport)
        if not segment.reason:
            raise Violation(f"{self._name}: {segment} was sent without a reason")
        if segment.gso_size and not self._is_superpacket(segment):
            raise Violation(f"{self._name}: no device could divide {segment} by {segment.gso_size}")
        if segment.flags & SYN:
            self._edges.pop(flow, None)
            self._sent.pop(flow, None)
            scale = segment.options.wscale if segment.options else None
            self._shifts[flow] = scale or 0
        if segment.flags & RST:
            return
        if segment.flags & ACK and not segment.flags & SYN:
            self._check_edge(flow, segment)
        if segment.len and "probe" not in segment.reason:
            self._note_resent(flow, segment)

    def scaling_off(self, flow: FourTuple) -> None:
        """The peer did not offer scaling: our fields are octets."""
        self._shifts[flow] = 0

    def _is_superpacket(self, segment: Segment) -> bool:
        """More than one segment's text in one packet, plain otherwise, for a device that takes such."""
        fits = segment.gso_size < segment.payload_len <= LARGEST_PACKET - 40
        return fits and self._offload and segment.flags & (ACK | SYN | RST | URG) == ACK

    def _check_edge(self, flow: FourTuple, segment: Segment) -> None:
        edge = segment.ack + (segment.wnd << self._shifts.get(flow, 0))
        before = self._edges.get(flow)
        if before is not None and (edge - before) & MASK >= 1 << 31:
            raise Violation(f"{self._name}: the window's right edge moves left by {(before - edge) & MASK}: {segment}")
        self._edges[flow] = edge

    def _note_resent(self, flow: FourTuple, segment: Segment) -> None:
        end = (segment.seq + segment.len) & MASK
        before = self._sent.get(flow)
        if before is not None and (segment.seq - before) & MASK >= 1 << 31:
            self.resent = self.resent or f"{self._name}: {segment} ({segment.reason})"
        if before is None or (end - before) & MASK < 1 << 31:
            self._sent[flow] = end
