"""Runs a script's events, one after another, against a Side. What is expected of both sides is judged here, once.

A relative time counts from when the event before was over, as in packetdrill: from the arrival of a packet that was
expected, from the return of a call, from when a packet was injected; but that of a packet to inject behind another
from when that was due. What is to happen at once then does, however late it is by the script: the packets tell.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import NamedTuple

from ..core.config import SECOND_NS
from ..core.segment import ACK, PSH, RST, SYN, FourTuple, Segment
from ..wire.dpkt_codec import decode
from ..wire.dropped import Dropped
from ..wire.packet import Packet as WirePacket
from .call_values import Names
from .calls import RETURNS_DESCRIPTOR, check, received, request_of, sent
from .failure import Failed, seconds
from .flows import Flow, pattern
from .matching import Field, compare
from .octets import cut
from .script import Call, Command, Event, Icmp, Packet, Script, Snippet, Unsupported
from .settings import Settings
from .side import Arrived, CommandFailed, Outcome, Request, Side
from .snippets import SnippetError, Snippets

ANY_TIME_NS = 300 * SECOND_NS
"""How long a packet expected at "*" is waited for in virtual time."""
ANY_REAL_TIME_NS = 30 * SECOND_NS
"""The same in real time."""
CALL_PATIENCE_NS = SECOND_NS
"""How long a call that is not to block may take in real time; in virtual time it takes none."""
_FIRST_PORT = 40_001
_NOT_TCP = ("ip_other_protocol", "ip6_")


class _Seen(NamedTuple):
    """A segment that the tested side sent: of which flow, and as it arrived."""

    flow: Flow
    segment: Segment
    arrived: Arrived

    @property
    def octets(self) -> bytes:
        return self.arrived.octets

    @property
    def time_ns(self) -> int:
        return self.arrived.time_ns

    @property
    def unit(self) -> int:
        """The octets of text in each segment of the wire, the last excepted."""
        return self.arrived.gso_size or self.segment.payload_len


class _Blocked(NamedTuple):
    """A call that has not returned yet, and when it is to."""

    event: Event
    call: Call
    request: Request
    due_ns: int
    tolerance_ns: int


class Runner:
    """One run of one script. `real_time` says which sort of time the side has.

    remarks  what commands complained of that ended well, each with its event
    """

    def __init__(self, script: Script, settings: Settings, side: Side, *, real_time: bool) -> None:
        self.remarks: list[tuple[Event, str]] = []
        self._script = script
        self._settings = settings
        self._side = side
        self._call_patience_ns = CALL_PATIENCE_NS if real_time else 0
        self._any_time_ns = ANY_REAL_TIME_NS if real_time else ANY_TIME_NS
        self._names = Names()
        self._snippets = Snippets()
        self._base_ns = 0
        self._due_ns = 0  # when the event before would have been over, had nothing here taken any time
        self._anchor_ns: int | None = None  # when the packet was due that was injected just now
        self._flows: list[Flow] = []
        self._current: Flow | None = None
        self._fresh = True  # the next packet without ports begins a connection: only a listener is under test
        self._held: deque[_Seen] = deque()
        self._blocked: _Blocked | None = None
        self._latest_fd: int | None = None
        self._written: dict[int, bytearray] = {}
        self._text_known = True  # nothing but calls that say what they write has written
        self._read: dict[int, int] = {}

    @property
    def printed(self) -> list[str]:
        """What the script's snippets printed."""
        return self._snippets.printed

    def run(self) -> None:
        """Raises Failed at the first event that is not as the script says, and Unsupported. The script has passed
        preflight.check()."""
        started = False
        for event in self._script.events:
            try:
                if event.when.untimed and isinstance(event.action, Command):
                    self._command(event, event.action)
                    continue
                if not started:
                    self._side.start_clock()
                    started = True
                self._run(event)
            except Unsupported as lack:
                lack.event = event
                raise
        self._finish_blocked()

    def _run(self, event: Event) -> None:
        action = event.action
        when = event.when
        injects = isinstance(action, Icmp) or (isinstance(action, Packet) and action.inbound)
        anchor_ns, self._anchor_ns = self._anchor_ns, None
        at_ns = when.start_ns + (self._base_ns if when.relative else 0)
        if when.relative and injects and anchor_ns is not None:
            at_ns = when.start_ns + anchor_ns
        tolerance_ns = self._tolerance_ns(at_ns)
        self._due_ns = when.start_ns + (self._due_ns if when.relative else 0)
        if isinstance(action, Packet) and not injects:
            self._expect(event, action, at_ns, tolerance_ns)
            return
        if when.relative and anchor_ns is None:
            at_ns = max(at_ns, self._side.now_ns)
        self._side.wait_until(at_ns)
        late_ns = self._side.now_ns - at_ns
        if late_ns > tolerance_ns:
            raise Failed(event, f"too late: the script's {seconds(at_ns)} s is past by {seconds(late_ns)} s")
        if isinstance(action, (Packet, Icmp)):
            self._inject(event, action)
            self._base_ns, self._anchor_ns = self._side.now_ns, at_ns
            return
        if isinstance(action, Call):
            self._call(event, action, at_ns, tolerance_ns)
        elif isinstance(action, Command):
            self._command(event, action)
        else:
            self._assert(event, action)
        self._base_ns = self._side.now_ns  # in real time it took a while

    def _tolerance_ns(self, at_ns: int) -> int:
        share_ns = int(self._settings.tolerance_share * max(at_ns - self._base_ns, 0))
        return max(self._settings.tolerance_ns, share_ns)

    # ------------------------------------------------------------------ packets in

    def _inject(self, event: Event, action: Packet | Icmp) -> None:
        if isinstance(action, Icmp):
            if self._current is None:
                raise Failed(event, "an ICMP error is about a connection, and there is none yet")
            self._side.inject(self._current.octets_of_icmp(action))
            return
        self._side.inject(self._flow_for(action).octets_of(action))

    def _flow_for(self, packet: Packet) -> Flow:
        """The connection that a packet of the script is of; a new one where it is the first of it."""
        if packet.ports is None:
            if self._current is None or (self._fresh and packet.inbound):
                return self._begin_flow(None)
            return self._current
        ports = packet.ports if packet.inbound else packet.ports[::-1]
        found = next((flow for flow in self._flows if flow.live_ports == ports), None)
        return found or self._begin_flow(ports)

    def _begin_flow(self, ports: tuple[int, int] | None) -> Flow:
        """A connection that the script opens towards the tested side."""
        settings = self._settings
        rport, lport = ports or (self._free_port(), settings.bind_port)
        return self._add_flow(Flow((settings.local.packed, lport, settings.remote.packed, rport), ports))

    def _free_port(self) -> int:
        taken = {flow.live_ports[0] for flow in self._flows}
        return next(port for port in range(_FIRST_PORT, 1 << 16) if port not in taken)

    def _add_flow(self, flow: Flow) -> Flow:
        self._flows.append(flow)
        self._current = flow
        self._fresh = False
        return flow

    # ------------------------------------------------------------------ packets out

    def _expect(self, event: Event, expected: Packet, at_ns: int, tolerance_ns: int) -> None:
        when = event.when
        # Early is what is so by the script alone: how late this was itself is no fault of the packet's.
        late_ns = tolerance_ns + self._settings.late_ns
        first_ns, last_ns = min(self._due_ns, at_ns) - tolerance_ns, at_ns + late_ns
        if when.until_ns is not None:
            last_ns = when.until_ns + (self._base_ns if when.relative else 0) + late_ns
        if when.any:
            first_ns, last_ns = 0, self._base_ns + self._any_time_ns
        seen = self._next_segment(event, last_ns, expected)
        if seen is None:
            raise Failed(event, f"no packet: none was sent up to {seconds(last_ns)} s")
        if self._fresh and seen.flow is self._current:
            self._fresh = False
        seen.flow.learn(seen.segment, expected)
        seen = self._cut(seen, expected)
        packet = seen.flow.written(seen.segment, seen.octets, expected)
        packet, text = self._gather(event, expected, packet, seen, last_ns)
        fields = self._fields(expected, packet, seen)
        in_time = first_ns <= seen.time_ns <= last_ns
        expected_time = "any" if when.any else seconds(at_ns)
        if when.until_ns is not None:
            expected_time += f"~{seconds(last_ns - late_ns)}"
        fields.insert(0, Field("time", expected_time, seconds(seen.time_ns), in_time))
        if not all(field.agrees for field in fields):
            wrong = [field.name for field in fields if not field.agrees]
            if wrong == ["time"]:
                tolerance = "" if when.any else f" (tolerance {seconds(tolerance_ns)} s)"
                raise Failed(event, f"the packet came at {seconds(seen.time_ns)} s{tolerance}", fields)
            raise Failed(event, f"another packet than expected: {', '.join(wrong)}", fields)
        self._check_text(event, packet, text)
        self._base_ns, self._due_ns = max(self._base_ns, seen.time_ns), seen.time_ns

    def _fields(self, expected: Packet, packet: Packet, seen: _Seen) -> list[Field]:
        if expected.ports is None and seen.flow is self._current:
            packet = replace(packet, ports=None)
        elif expected.ports is None and self._current is not None:
            _, lport, _, rport = self._current.name
            expected = replace(expected, ports=(lport, rport))
        elif seen.flow.ports is not None:
            packet = replace(packet, ports=seen.flow.ports[::-1])
        return compare(expected, packet, self._settings)

    def _gather(
        self, event: Event, expected: Packet, packet: Packet, seen: _Seen, last_ns: int
    ) -> tuple[Packet, bytes]:
        """Segments of one size (the last may be shorter) that follow one another, taken together as the one large
        packet that the script expects, as a sender with segmentation offload hands it down. PSH is then as expected:
        Linux sets it on each packet that is to be segmented, and what those are is a matter of its pacing."""
        text = seen.segment.text()
        first = packet
        while (
            not self._settings.strict_segments
            and packet.seq == expected.seq
            and 0 < packet.size < expected.size
            and not packet.flags & (SYN | RST)
        ):
            more = self._next_segment(event, last_ns, expected)
            if more is None:
                break
            part = more.flow.written(more.segment, more.octets, expected)
            follows = more.flow is seen.flow and part.seq == (packet.seq + packet.size) & 0xFFFF_FFFF
            fits = 0 < more.unit <= seen.unit and packet.size % seen.unit == 0
            fits = fits and packet.size + part.size <= expected.size
            if not follows or not fits or part.ack != first.ack or part.flags & (SYN | RST | ACK) != ACK:
                self._held.appendleft(more)
                break
            flags = part.flags & ~PSH | expected.flags & PSH
            packet = replace(part, flags=flags, seq=first.seq, size=packet.size + part.size, options=first.options)
            text += more.segment.text()
        return packet, text

    def _cut(self, seen: _Seen, expected: Packet) -> _Seen:
        """Of a packet that is still to be segmented as much as the script expects, where that is whole segments; what
        follows is held. But with strict segments all of it."""
        arrived, size = seen.arrived, expected.size
        if self._settings.strict_segments or not arrived.gso_size or not 0 < size < seen.segment.payload_len:
            return seen
        if size % arrived.gso_size:
            return seen
        first, rest = (self._part(seen, octets) for octets in cut(arrived.octets, size))
        self._held.appendleft(rest)
        return first

    @staticmethod
    def _part(seen: _Seen, octets: bytes) -> _Seen:
        arrived = replace(seen.arrived, octets=octets)
        segment = decode(WirePacket((octets,), arrived.checksum, arrived.gso_size))
        assert isinstance(segment, Segment)
        return _Seen(seen.flow, segment, arrived)

    def _next_segment(self, event: Event, until_ns: int, expected: Packet) -> _Seen | None:
        """The next TCP segment of a connection that the script knows, or the SYN of one that it has asked for. What an
        earlier connection goes on to send is nothing to a script without ports, as in packetdrill."""
        if self._held:
            return self._held.popleft()
        while (arrived := self._side.next_packet(until_ns)) is not None:
            item = decode(WirePacket((arrived.octets,), arrived.checksum, arrived.gso_size))
            if isinstance(item, Dropped) and not item.counter.startswith(_NOT_TCP):
                raise Failed(event, f"the packet that was sent is no good: {item.counter}")
            if isinstance(item, Segment):
                flow = self._flow_named((item.src, item.sport, item.dst, item.dport), item.flags)
                if flow is not None and (flow is self._current or flow.ports or expected.ports):
                    return _Seen(flow, item, arrived)
        return None

    def _flow_named(self, name: FourTuple, flags: int) -> Flow | None:
        found = next((flow for flow in self._flows if flow.name == name), None)
        if found is None and flags & (SYN | ACK) == SYN:
            return self._add_flow(Flow(name))
        return found

    def _check_text(self, event: Event, packet: Packet, text: bytes) -> None:
        """The text must be what the application wrote at that place, where only one application has written."""
        if len(self._written) != 1 or len(self._flows) != 1 or not text or not self._text_known:
            return
        (written,) = self._written.values()
        start = packet.seq - 1
        if start >= 0 and bytes(written[start : start + len(text)]) != text:
            raise Failed(event, "the text of the packet is not what was written")

    # ------------------------------------------------------------------ calls

    def _call(self, event: Event, call: Call, at_ns: int, tolerance_ns: int) -> None:
        self._finish_blocked()
        request = request_of(call, self._names, self._settings, self._unnamed_text)
        if (writing := sent(request)) is not None:
            self._written.setdefault(writing[0], bytearray()).extend(writing[1])
        self._side.start_call(request)
        if request.name in ("listen", "socket"):
            self._fresh = True
        if request.name in ("connect", "sendto"):
            self._latest_fd = request.arguments[0]
        if call.until_ns is not None:
            due_ns = call.until_ns + (self._base_ns if event.when.relative else 0)
            share_ns = int(self._settings.tolerance_share * (due_ns - at_ns))
            self._blocked = _Blocked(event, call, request, due_ns, max(tolerance_ns, share_ns))
            return
        outcome = self._side.finish_call(at_ns + self._call_patience_ns)
        if outcome is None:
            raise Failed(event, f"{call.name}() blocks; a call that is to block is written START...END {call.name}()")
        self._finished(event, call, request, outcome)

    def _finish_blocked(self) -> None:
        if self._blocked is None:
            return
        event, call, request, due_ns, tolerance_ns = self._blocked
        self._blocked = None
        last_ns = due_ns + tolerance_ns + self._settings.late_ns
        outcome = self._side.finish_call(last_ns)
        if outcome is None:
            raise Failed(event, f"{call.name}() still blocks at {seconds(last_ns)} s")
        if not due_ns - tolerance_ns <= outcome.ended_ns <= last_ns:
            ended = f"{call.name}() returned at {seconds(outcome.ended_ns)} s, not at {seconds(due_ns)} s"
            raise Failed(event, f"{ended} (tolerance {seconds(tolerance_ns)} s)")
        self._finished(event, call, request, outcome)

    def _finished(self, event: Event, call: Call, request: Request, outcome: Outcome) -> None:
        complaint = check(call, outcome)
        if complaint:
            raise Failed(event, complaint)
        if call.name in RETURNS_DESCRIPTOR and outcome.result >= 0 and isinstance(call.result, int):
            self._names.real[call.result] = outcome.result
            if request.name in ("socket", "accept"):
                self._latest_fd = outcome.result
        if request.name == "close" and outcome.result == 0:
            for number, real in tuple(self._names.real.items()):
                if real == request.arguments[0]:
                    del self._names.real[number]
        if (writing := sent(request)) is not None:
            unwritten = len(writing[1]) - max(outcome.result, 0)
            written = self._written[writing[0]]
            del written[len(written) - unwritten :]
        if request.name == "sendfile":
            self._text_known = False
        if (reading := received(request)) is not None:
            self._check_read(event, *reading, outcome)

    def _check_read(self, event: Event, fd: int, flags: int, outcome: Outcome) -> None:
        """What is read must be the pattern that was injected, in order, once."""
        if flags or len(self._flows) != 1 or self._flows[0].urgent or len(self._read) > 1:
            return
        at = self._read.get(fd, 0)
        if outcome.text != pattern(at, len(outcome.text)):
            raise Failed(event, "the text that was read is not what was sent")
        self._read[fd] = at + len(outcome.text)

    def _unnamed_text(self, fd: int, size: int) -> bytes:
        return pattern(len(self._written.get(fd, b"")), size)

    # ------------------------------------------------------------------ commands and assertions

    def _command(self, event: Event, command: Command) -> None:
        try:
            said = self._side.run_command(command.text)
            if said:
                self.remarks.append((event, said))
        except CommandFailed as failed:
            raise Failed(event, str(failed)) from None

    def _assert(self, event: Event, snippet: Snippet) -> None:
        if self._latest_fd is None:
            raise Failed(event, "a snippet is about a socket, and there is none")
        try:
            self._snippets.run(snippet.text, self._side.tcp_info(self._latest_fd))
        except SnippetError as error:
            raise Failed(event, str(error)) from None
