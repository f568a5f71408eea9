"""Plays a case and watches: what must hold after every event, and what must hold in the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from ...core import state as st
from ...core.config import MILLISECOND_NS, SECOND_NS
from ...core.connection import Connection
from ...core.events import Tracer
from ...core.segment import FourTuple, Segment
from ...device.pipe import Line
from ...stack.listener import Listener
from ...wire.codec import FAST
from ...wire.objects import OBJECTS
from ..network import Network, Router, SimHost
from .case import Attack, Case, Talk
from .end import End
from .flow import Flow
from .forging import CHALLENGED, forge
from .known import Violation
from .watch import Wire
from .wrapping import WrappingNumbers

EVENTS_PER_SECOND = 60_000
"""What a simulated second may cost at the very most, beyond what the octets sent in it explain."""
HEALED = Line(delay_ns=MILLISECOND_NS)
GRACE_NS = 2_000 * SECOND_NS
"""What healed connections may take to end: several backed-off timeouts, and the slowest reader of all."""
SILENCE_NS = 500 * SECOND_NS
"""Longer than R2, and than all keep-alives take."""
KEPT_ALIVE = frozenset({st.ESTABLISHED, st.FIN_WAIT_2, st.CLOSE_WAIT})


@dataclass(slots=True)
class Result:
    """What a case that held came to."""

    simulated_ns: int
    happened: int
    segments: int
    errors: int


class Player:
    """Plays one case. No round trip takes less than `round_trip_ns` until it is `healed`.

    before  makes of what watches a host the tracer that it gets, for whoever wants to see its events, too
    """

    def __init__(self, case: Case, before: Callable[[Tracer], Tracer] = lambda watching: watching) -> None:
        self.case = case
        self.healed = False
        self.round_trip_ns = sum(line.delay_ns for line in case.lines) * (1 + case.routers)
        self.network = network = Network(case.seed, codec=FAST if case.octets else OBJECTS)
        prefix = ("10.0.0.{}/24", "fd00::{}/64")[case.version == 6]
        self._wires = tuple(map(Wire, "ab", case.configs, case.mtus, case.offloads))
        self.hosts = tuple(
            network.host(
                "ab"[number],
                prefix.format(number + 1),
                config=case.configs[number],
                faults=case.faults[number],
                mtu=case.mtus[number],
                offload=case.offloads[number],
                tracer=before(self._wires[number]),
            )
            for number in range(2)
        )
        if case.wraps:
            for host, wire in zip(self.hosts, self._wires, strict=True):
                host.stack.isn = WrappingNumbers(network.random.randbytes(16))
                wire.wraps = True
        if case.octets and not any(case.faults) and not case.attacks:
            first, second = self._wires
            first.sent = second.others = {}
            second.sent = first.others = {}
        self._join()
        self._ends: list[End] = []
        self._listeners: dict[tuple[int, int], Listener] = {}
        self._answers: dict[FourTuple, list[tuple[Flow, End]]] = {}  # of the opener's connections: who answers
        for host in self.hosts:
            host.notify = self._notify

    def play(self) -> Result:
        case, network = self.case, self.network
        for attack in case.attacks:
            network.clock.call_after(attack.at_ns, partial(self._attack, attack))
        for index, talk in enumerate(case.talks):
            network.clock.call_after(talk.at_ns, partial(self._open, index, talk))
        self._let_pass(case.lasts_ns)
        self._heal()
        deadline_ns = network.clock.now_ns + GRACE_NS
        if not case.heals:
            self._let_pass(GRACE_NS)
        while self._unfinished() and network.clock.now_ns < deadline_ns and network.clock.next_ns is not None:
            self._let_pass(10 * SECOND_NS)
        self._check_delivered()
        for end in self._ends:
            end.leave()
        for listener in self._listeners.values():
            listener.close(network.clock.now_ns)
        self._let_pass(GRACE_NS)
        self._check_nothing_left()
        errors = sum(end.error is not None for end in self._ends)
        return Result(network.clock.now_ns, network.clock.happened, self.segments, errors)

    @property
    def segments(self) -> int:
        """How many there were so far, as on the wire."""
        return sum(wire.segments for wire in self._wires)

    def _join(self) -> None:
        network = self.network
        near: list[SimHost | Router] = [self.hosts[0]]
        near += [network.router(f"r{number}") for number in range(self.case.routers)]
        near.append(self.hosts[1])
        for left, right in pairwise(near):
            network.link(left, right, *self.case.lines)

    def wire_of(self, host: SimHost) -> Wire:
        return self._wires[self.hosts.index(host)]

    def check_reset(self, host: SimHost, connection: Connection) -> None:
        """The program hears that its connection has died: is there a reason?"""
        local, lport, remote, rport = connection.flow
        error, wire = connection.error, self._wires[host is self.hosts[0]]
        if isinstance(error, ConnectionResetError | ConnectionRefusedError):
            peer = wire.flows.get((remote, rport, local, lport))
            if peer is None or not peer.reset:
                raise Violation(f"{host.name}: {error}, though the peer sent no RST: {connection.status()}")
        elif self.case.routers and any(rule.startswith("corrupt") for rules in self.case.faults for rule in rules):
            return  # a router may have said that a damaged packet's hop limit was used up, or found no way for it
        elif "keep-alives" not in str(error) and self.case.heals and (self.case.is_clean or self.case.is_patient):
            raise Violation(f"{host.name}: {error}, though the network has healed in time: {connection.status()}")

    def _open(self, index: int, talk: Talk) -> None:
        opener, other = self.hosts[talk.opener], self.hosts[1 - talk.opener]
        draw = random.Random(f"{self.case.seed} talk {index}")
        texts = [draw.randbytes(sum(size for _, size in plan.writes)) for plan in talk.plans]
        first = End(self, opener, talk.plans[0], texts[0], texts[1])
        second = End(self, other, talk.plans[1], texts[1], texts[0])
        self._ends += (first, second)
        here, there = (host.stack.addresses[0].ip.packed for host in (opener, other))
        try:
            if talk.nobody:
                first.begin(opener.connect(there, 999))
                second.over = second.nobody = True
            elif talk.both_open:
                # Of its own pair of ports, so that it is one connection and not two.
                port = 1_000 + index
                first.begin(opener.connect(there, port, lport=port))
                second.begin(other.connect(here, port, lport=port))
            else:
                self._listen(1 - talk.opener, talk.port)
                connection = opener.connect(there, talk.port, lport=talk.lport)
                opened = self.wire_of(opener).flows[connection.flow]
                self._answers.setdefault(connection.flow, []).append((opened, second))
                first.begin(connection)
        except OSError:
            first.over = second.over = True

    def _attack(self, attack: Attack) -> None:
        host, wire = self.hosts[attack.host], self._wires[attack.host]
        segment = forge(attack, host, wire)
        if segment is None or host.interface.link is None:
            return
        segment.packet_id = self.network.next_packet_id()
        if attack.kind != "replay":
            wire.forged.add(segment.packet_id)
        # Past the fault rules: what they hold back may have become true when it arrives.
        host.take([self.network.codec.encode(segment, False, 64, 0)])
        if attack.kind in CHALLENGED and not self.case.faults[attack.host]:
            flow = wire.flows[segment.dst, segment.dport, segment.src, segment.sport]
            self.network.clock.call_after(0, partial(self._check_answered, flow, segment))

    def _check_answered(self, flow: Flow, segment: Segment) -> None:
        """RFC 5961: an ACK goes back, at most one in some time."""
        if flow.closed_ns is None and flow.spoken_ns < self.network.clock.now_ns - flow.config.challenge_ack_ns:
            raise Violation(f"{flow.name}: {segment} earns a challenge ACK")

    def _listen(self, host: int, port: int) -> None:
        if (host, port) not in self._listeners:
            listener = self.hosts[host].listen(port, backlog=self.case.backlog)
            accept = self._accept_later if self.case.accept_ns else self._accept
            listener.on_connection = partial(accept, host, listener)
            self._listeners[host, port] = listener

    def _accept_later(self, host: int, listener: Listener) -> None:
        self.network.clock.call_after(self.case.accept_ns, partial(self._accept, host, listener))

    def _accept(self, host: int, listener: Listener) -> None:
        while (connection := listener.accept()) is not None:
            local, lport, remote, rport = connection.flow
            irs = self._wires[host].flows[connection.flow].irs
            opened = self._answers.get((remote, rport, local, lport), ())
            end = next((end for flow, end in reversed(opened) if flow.iss == irs), None)
            if end is None or end.connection is not None:
                raise Violation(f"a connection that nobody opened was accepted: port {rport}")
            end.begin(connection)

    def _notify(self, connection: Connection, mask: int) -> None:
        user = connection.user
        if isinstance(user, End) and not user.over:
            user.on_readiness(mask)

    def _heal(self) -> None:
        """The wire is fine from now on, or dead, and everybody reads on and finishes."""
        for end in self._ends:
            end.check_told()
        self.healed = True
        for link in self.network.links:
            if not self.case.is_quiet:  # where another round trip would be a reason to probe
                link.reconfigure(HEALED)
        for host in self.hosts:
            host.heal()
            if not self.case.heals:
                host.stack.send_packet = lambda packet, now_ns: False
        if not self.case.heals:
            self._let_pass(SILENCE_NS)
            self._check_asked()
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
        if not self.case.heals:
            self._check_given_up()
            return
        for first, second in zip(self._ends[::2], self._ends[1::2], strict=True):
            self._check_no_error(first, second)
            for end, other in ((first, second), (second, first)):
                if other.program.urgent and end.heard and not end.urgent:
                    raise Violation(f"nobody was told of urgent text, of which {end.heard} octets were heard")
                if end.connection is not None and not end.cut and not end.error:
                    if end.connection.state == st.CLOSED and not end.connection.eof_received:
                        raise Violation(f"it ended, and nobody was told why: {end.connection.status()}")
                cut = end.cut or other.cut or end.error or other.error
                if cut or end.connection is None or other.connection is None:
                    continue
                if end.heard != other.said or not end.eof:
                    status = end.connection.status()
                    raise Violation(f"heard {end.heard} of {other.said} octets, end {end.eof}, and no error: {status}")
        if self.case.is_quiet:
            self._check_nothing_sent_twice()
        if self.case.is_clean and not self.case.accept_ns:
            self._check_nothing_forced()

    def _check_no_error(self, first: End, second: End) -> None:
        """Where nothing is lost that matters, a connection fails only where a program wants that."""
        error = first.error or second.error
        if error and self.case.is_gentle and not (first.cut or second.cut or second.nobody):
            raise Violation(f"it failed, though nothing was in its way: {error}")

    def _check_asked(self) -> None:
        """Where keep-alives are on, a peer that is gone is found out (RFC 9293 3.8.4)."""
        for end in self._ends:
            connection = end.connection
            if connection is not None and not end.over and connection.keepalive.on and connection.state in KEPT_ALIVE:
                raise Violation(f"keep-alives do not find out that nobody answers: {connection.status()}")

    def _check_given_up(self) -> None:
        """The network is dead: who had something to say has learned it; who waits for the other's FIN does not know."""
        for end in self._ends:
            connection = end.connection
            if connection is not None and connection.state not in (st.CLOSED, st.FIN_WAIT_2, st.TIME_WAIT):
                raise Violation(f"not given up, though nobody answers: {connection.status()}")

    def _check_nothing_sent_twice(self) -> None:
        """With no drops or reordering, and a round trip below the timeout, nothing is sent twice but probes.

        Nor that where there were probes: a segment with nothing but old text, or of an end that does not know whether
        its probe was taken, is not acceptable (RFC 9293 3.10.7.4), and what it acknowledges is not heard.
        """
        forced = any(wire.forced for wire in self._wires)
        probed = forced or any(wire.resent_probe for wire in self._wires)
        for wire in self._wires:
            resent = wire.resent_probe if self.case.is_even and not forced else ""
            resent = resent or ("" if probed else wire.resent)
            if resent:
                raise Violation(f"sent twice, though nothing was lost: {resent}")

    def _check_nothing_forced(self) -> None:
        """Where everybody reads at once, no window closes."""
        for wire in self._wires:
            if wire.forced and all(end.reads_at_once for end in self._ends):
                raise Violation(f"forced out, though everybody reads at once: {wire.forced}")

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
    return Player(case).play()
