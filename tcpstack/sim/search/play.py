"""Plays a case and watches: what must hold after every event, and what must hold in the end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from ...core import state as st
from ...core.config import MILLISECOND_NS, SECOND_NS
from ...core.connection import Connection
from ...core.events import CongestionChange, Event, SegmentIn, SegmentOut, Tracer
from ...core.readiness import CONNECTED, EOF, READABLE, RESET
from ...core.segment import SYN, FourTuple
from ...device.pipe import Line
from ...stack.listener import Listener
from ...wire.codec import FAST
from ...wire.objects import OBJECTS
from ..network import Network, Router, SimHost
from .case import Case, Plan, Talk
from .watch import Violation, Wire

EVENTS_PER_SECOND = 60_000
"""What a simulated second may cost at the very most, beyond what the octets sent in it explain."""
HEALED = Line(delay_ns=MILLISECOND_NS)
GRACE_NS = 2_000 * SECOND_NS
"""What healed connections may take to end: several backed-off timeouts, and the slowest reader of all."""


@dataclass(slots=True)
class Result:
    """What a case that held came to."""

    simulated_ns: int
    happened: int
    segments: int
    errors: int


class _End:
    """One end of a conversation: follows its Plan, checks what it hears."""

    def __init__(self, player: _Player, host: SimHost, plan: Plan, says: bytes, hears: bytes) -> None:
        self._player = player
        self._host = host
        self._plan = plan
        self._says = says
        self._hears = hears
        self.said = 0
        self.heard = 0
        self.eof = False
        self.over = False
        self.cut = False  # aborted, by its plan
        self.error: OSError | None = None
        self.connection: Connection | None = None
        self._reading = False  # a slow read is to come
        self._read_ns: int | None = None  # when one was: they keep to regular intervals

    def begin(self, connection: Connection) -> None:
        """The connection is there, established or opening: the plan starts."""
        self.connection = connection
        connection.user = self
        clock = self._player.network.clock
        for at_ns, size in self._plan.writes:
            clock.call_after(at_ns, partial(self._write, size))
        last_ns = self._plan.writes[-1][0] if self._plan.writes else 0
        if self._plan.ending != "wait":
            clock.call_after(last_ns, self._end)
        self.on_readiness(READABLE)

    def on_readiness(self, mask: int) -> None:
        connection = self.connection
        assert connection is not None
        if mask & RESET:
            self.error = connection.error
            self._hear()
            self.over = True
            return
        if self._plan.read_every_ns and not self._player.healed:
            if not self._reading:
                self._read_later()
        elif mask & (READABLE | EOF | CONNECTED):
            self._hear()
        if self._player.healed and self.eof:
            self._host.close(connection)

    def finish(self) -> None:
        """The network is healed: read all there is, say no more."""
        connection = self.connection
        if connection is not None and not self.over:
            self._hear()
            self.cut = self.cut or connection.state == st.SYN_SENT  # CLOSE then ends the attempt
            self._host.shutdown(connection)

    def leave(self) -> None:
        """The program is gone."""
        if self.connection is not None and not self.over:
            self._host.close(self.connection)
            self.over = True

    def _write(self, size: int) -> None:
        connection = self.connection
        if self.over or connection is None or self._player.healed:
            return
        try:
            text = self._says[self.said : self.said + size]
            if self._plan.urgent:
                connection.send_urgent(text)
                text = b""
            self._host.send(connection, text)
        except OSError:
            return
        self.said += size

    def _end(self) -> None:
        connection = self.connection
        if self.over or connection is None:
            return
        if self._plan.ending == "shutdown" and connection.state != st.SYN_SENT:  # where CLOSE ends the attempt
            self._host.shutdown(connection)
            return
        self.cut = True  # what was on its way, or unread, is lost by right
        self.over = True
        if self._plan.ending == "abort":
            self._host.abort(connection)
        else:
            self._host.close(connection)

    def _read_later(self) -> None:
        clock, every_ns = self._player.network.clock, self._plan.read_every_ns
        if self._read_ns is None:
            self._read_ns = clock.now_ns
        self._reading = True
        clock.call_after(every_ns - (clock.now_ns - self._read_ns) % every_ns, self._read_slowly)

    def _read_slowly(self) -> None:
        self._reading = False
        if self.over or self._player.healed:
            return
        connection = self.connection
        assert connection is not None
        self._read_ns = self._player.network.clock.now_ns
        waited = connection.readable_bytes > 0 or connection.eof_received
        self._hear(self._plan.read_bytes)
        if waited and not self.eof:  # so once for nothing: that, too, must do no harm
            self._read_later()

    def _hear(self, max_bytes: int = 0) -> None:
        connection = self.connection
        assert connection is not None
        if self.cut:
            return
        while chunks := self._host.receive(connection, max_bytes or 1 << 30):
            for chunk in chunks:
                if self.eof:
                    raise Violation(f"{self._host.name}: text after the FIN")
                if self._hears[self.heard : self.heard + len(chunk)] != chunk:
                    raise Violation(
                        f"{self._host.name}: what was heard at octet {self.heard} is not what was said there"
                    )
                self.heard += len(chunk)
            if max_bytes:
                break
        if connection.eof_received and not connection.readable_bytes:
            self.eof = True


class _Player:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.healed = False
        self.network = network = Network(case.seed, codec=FAST if case.octets else OBJECTS)
        prefix = ("10.0.0.{}/24", "fd00::{}/64")[case.version == 6]
        self._wires = tuple(Wire(*each) for each in zip(("a", "b"), case.offloads, strict=True))
        self.hosts = tuple(
            network.host(
                "ab"[number],
                prefix.format(number + 1),
                config=case.configs[number],
                faults=case.faults[number],
                offload=case.offloads[number],
                tracer=self._tracer(number, self._wires[number]),
            )
            for number in range(2)
        )
        self._join()
        self._ends: list[_End] = []
        self._listeners: dict[tuple[int, int], Listener] = {}
        self._names: dict[FourTuple, _End] = {}  # of the opener's connection: who answers it
        for host in self.hosts:
            host.notify = self._notify

    def play(self) -> Result:
        case, network = self.case, self.network
        for index, talk in enumerate(case.talks):
            network.clock.call_after(talk.at_ns, partial(self._open, index, talk))
        self._let_pass(case.lasts_ns)
        self._heal()
        deadline_ns = network.clock.now_ns + GRACE_NS
        while self._unfinished() and network.clock.now_ns < deadline_ns and network.clock.next_ns is not None:
            self._let_pass(10 * SECOND_NS)
        self._check_delivered()
        for end in self._ends:
            end.leave()
        for listener in self._listeners.values():
            listener.close(network.clock.now_ns)
        self._let_pass(GRACE_NS)
        self._check_nothing_left()
        segments = sum(wire.segments for wire in self._wires)
        errors = sum(end.error is not None for end in self._ends)
        return Result(network.clock.now_ns, network.clock.happened, segments, errors)

    def _join(self) -> None:
        network = self.network
        near: list[SimHost | Router] = [self.hosts[0]]
        near += [network.router(f"r{number}") for number in range(self.case.routers)]
        near.append(self.hosts[1])
        for left, right in pairwise(near):
            network.link(left, right, *self.case.lines)

    def _tracer(self, number: int, wire: Wire) -> Tracer:
        def watch(event: Event) -> None:
            if isinstance(event, SegmentOut):
                wire.on_out(event.segment)
            elif isinstance(event, SegmentIn):
                segment = event.segment
                if segment.flags & SYN and (segment.options is None or segment.options.wscale is None):
                    wire.scaling_off(event.flow)
            elif isinstance(event, CongestionChange):
                self._check_congestion(self.hosts[number], event)

        return watch

    def _check_congestion(self, host: SimHost, event: CongestionChange) -> None:
        """RFC 5681 3.1: never under one segment."""
        status = next(each.status() for each in host.stack.connections if each.flow == event.flow)
        if event.cwnd_bytes < int(str(status["snd_mss"])):
            raise Violation(f"the congestion window is {event.cwnd_bytes} octets, under one segment")

    def _open(self, index: int, talk: Talk) -> None:
        opener, other = self.hosts[talk.opener], self.hosts[1 - talk.opener]
        draw = random.Random(f"{self.case.seed} talk {index}")
        texts = [draw.randbytes(sum(size for _, size in plan.writes)) for plan in talk.plans]
        first = _End(self, opener, talk.plans[0], texts[0], texts[1])
        second = _End(self, other, talk.plans[1], texts[1], texts[0])
        self._ends += (first, second)
        here, there = (host.stack.addresses[0].ip.packed for host in (opener, other))
        try:
            if talk.both_open:
                # Of its own pair of ports, so that it is one connection and not two.
                port = 1_000 + index
                first.begin(opener.connect(there, port, lport=port))
                second.begin(other.connect(here, port, lport=port))
            else:
                self._listen(1 - talk.opener, talk.port)
                connection = opener.connect(there, talk.port)
                self._names[connection.flow] = second
                first.begin(connection)
        except OSError:
            first.over = second.over = True

    def _listen(self, host: int, port: int) -> None:
        if (host, port) not in self._listeners:
            listener = self.hosts[host].listen(port)
            listener.on_connection = lambda: self._accept(listener)
            self._listeners[host, port] = listener

    def _accept(self, listener: Listener) -> None:
        while (connection := listener.accept()) is not None:
            local, lport, remote, rport = connection.flow
            end = self._names.get((remote, rport, local, lport))
            if end is None or end.connection is not None:
                raise Violation(f"a connection that nobody opened was accepted: port {rport}")
            end.begin(connection)

    def _notify(self, connection: Connection, mask: int) -> None:
        user = connection.user
        if isinstance(user, _End) and not user.over:
            user.on_readiness(mask)

    def _heal(self) -> None:
        """The wire is fine from now on, and everybody reads on and finishes."""
        self.healed = True
        for link in self.network.links:
            link.reconfigure(HEALED)
        for host in self.hosts:
            host.heal()
        for end in tuple(self._ends):
            end.finish()

    def _let_pass(self, duration_ns: int) -> None:
        """Let time pass, at most so much, and see that no more happens in it than can be explained."""
        clock, begun = self.network.clock, self.network.clock.happened
        until_ns = clock.now_ns + duration_ns
        allowed = EVENTS_PER_SECOND * (1 + duration_ns // SECOND_NS)
        while clock.step(until_ns):
            if clock.happened - begun > allowed:
                raise Violation(f"{allowed} events in under {duration_ns / SECOND_NS} simulated seconds")
        if clock.next_ns is None:
            self._check_stuck()
        else:
            clock.run(until_ns)

    def _unfinished(self) -> bool:
        return any(not (end.over or end.eof) for end in self._ends if end.connection is not None)

    def _check_stuck(self) -> None:
        """Nothing will ever happen again, yet there are connections: are they waiting for their users only?"""
        for host in self.hosts:
            for connection in host.stack.connections:
                if connection.unsent_bytes or connection.status()["unacknowledged_bytes"]:
                    raise Violation(f"{host.name}: stuck for ever with text to send: {connection.status()}")

    def _check_delivered(self) -> None:
        """Whoever was not cut off, by a program or by an error, has heard all that the other said."""
        for first, second in zip(self._ends[::2], self._ends[1::2], strict=True):
            for end, other in ((first, second), (second, first)):
                cut = end.cut or other.cut or end.error or other.error
                if cut or end.connection is None or other.connection is None:
                    continue
                if end.heard != other.said or not end.eof:
                    status = end.connection.status()
                    raise Violation(f"heard {end.heard} of {other.said} octets, end {end.eof}, and no error: {status}")
        if self.case.is_clean:
            self._check_nothing_sent_twice()

    def _check_nothing_sent_twice(self) -> None:
        """With no drops or reordering, and a round trip below the timeout, nothing is sent twice but probes."""
        longest_ns = sum(2 * (line.delay_ns + line.jitter_ns) for line in self.case.lines)
        slow = any(line.rate_bps is not None and line.rate_bps < 10_000_000 for line in self.case.lines)
        slow |= any(config.delayed_ack_ns >= config.rto_min_ns for config in self.case.configs)
        if slow or longest_ns * (1 + self.case.routers) > 150 * MILLISECOND_NS:
            return
        for wire in self._wires:
            if wire.resent:
                raise Violation(f"sent twice, though nothing was lost: {wire.resent}")

    def _check_nothing_left(self) -> None:
        for host in self.hosts:
            stack = host.stack
            left = [connection.status() for connection in stack.connections]
            if left or stack.syn_records or stack.time_waits or stack.deadline_ns is not None:
                raise Violation(
                    f"{host.name}: left behind: {stack.syn_records} SYN records, {stack.time_waits} TIME-WAITs, "
                    f"deadline {stack.deadline_ns}, connections {left}"
                )
        if any(link.under_way for link in self.network.links) or self.network.clock.next_ns is not None:
            raise Violation("something is on its way still, though everything has ended")


def play(case: Case) -> Result:
    """Run the case. Raises Violation where something does not hold; anything else that is raised is a bug as well."""
    return _Player(case).play()
