"""Hosts joined by links that can do harm, in explicit time: the tests' network.

Packets really are encoded and decoded on the way. Nothing here knows a clock: `run` jumps from one event (a packet
arrives, a host's deadline comes) to the next. All chance comes from one seed, so a run can be repeated.

    net = Network(delay_ns=20 * MS)
    net.listen(net.b, 80)
    app = net.connect(net.a, net.b, 80)
    net.drop(is_syn, times=1)
    net.run(until=lambda: app.connected)
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tcpstack.core import events
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.readiness import CLOSED, CONNECTED, EOF, READABLE, RESET
from tcpstack.core.segment import ACK, FIN, RST, SYN, Segment
from tcpstack.stack.listener import Listener
from tcpstack.stack.stack import Stack
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import Packet

MS = 1_000_000
SECOND = 1_000_000_000
START_NS = 1_000 * SECOND
SPIN_LIMIT = 10_000
"""So many turns at one instant mean that two ends answer each other for ever, or that a deadline is not served."""


@dataclass(slots=True)
class Crossing:
    """A segment that a host sent. `sender` is the host's name; `reason` is why it says it sent it;
    `fates` is what rules did to it ("dropped", ...), in order."""

    time_ns: int
    sender: str
    segment: Segment
    reason: str
    fates: list[str]

    @property
    def key(self) -> tuple[object, ...]:
        """All that can be compared between two runs."""
        s = self.segment
        fields = (s.sport, s.dport, s.seq, s.ack, s.flags, s.wnd, s.text(), repr(s.options))
        return (self.time_ns, self.sender, *fields, self.reason, tuple(self.fates))


Match = Callable[[Crossing], bool]


def is_syn(crossing: Crossing) -> bool:
    return crossing.segment.flags & (SYN | ACK) == SYN


def is_syn_ack(crossing: Crossing) -> bool:
    return crossing.segment.flags & (SYN | ACK) == SYN | ACK


def is_fin(crossing: Crossing) -> bool:
    return bool(crossing.segment.flags & FIN)


def is_rst(crossing: Crossing) -> bool:
    return bool(crossing.segment.flags & RST)


def is_data(crossing: Crossing) -> bool:
    return crossing.segment.payload_len > 0


def is_pure_ack(crossing: Crossing) -> bool:
    return crossing.segment.flags & (SYN | ACK | FIN | RST) == ACK and not crossing.segment.payload_len


def is_any(crossing: Crossing) -> bool:
    return True


def sent_by(stack: Stack, match: Match = is_any) -> Match:
    """`match`, for what this host sends."""
    return lambda crossing: crossing.sender == stack.name and match(crossing)


@dataclass(slots=True)
class Flight:
    """A packet about to fly: `delay_ns` is how long it will take. A rule may change or remove it."""

    packet: Packet
    delay_ns: int


class Rule:
    """What befalls the packets that match, the first `times` of them (None: all). `hits` counts them."""

    def __init__(self, match: Match, fate: str, act: Callable[[Flight, Crossing], list[Flight]], times: int | None):
        self.match = match
        self.fate = fate
        self.act = act
        self.times = times
        self.hits = 0

    def apply(self, flights: list[Flight], crossing: Crossing) -> list[Flight]:
        if (self.times is not None and self.hits >= self.times) or not self.match(crossing):
            return flights
        self.hits += 1
        crossing.fates.append(self.fate)
        return [changed for flight in flights for changed in self.act(flight, crossing)]


class App:
    """The user of one connection: it keeps what it is told, and reads all there is unless `reading` is False."""

    def __init__(self, net: Network, stack: Stack, connection: Connection, reading: bool = True) -> None:
        self.net = net
        self.stack = stack
        self.connection = connection
        self.reading = reading
        self.received = bytearray()
        self.masks: list[tuple[int, int]] = []
        self.on_event: Callable[[App, int], None] | None = None
        connection.user = self

    @property
    def told(self) -> int:
        """All that the connection has told, or-ed."""
        total = 0
        for _, mask in self.masks:
            total |= mask
        return total

    @property
    def connected(self) -> bool:
        return bool(self.told & CONNECTED)

    @property
    def eof(self) -> bool:
        return bool(self.told & EOF)

    @property
    def done(self) -> bool:
        return bool(self.told & CLOSED)

    @property
    def was_reset(self) -> bool:
        return bool(self.told & RESET)

    def hear(self, mask: int) -> None:
        self.masks.append((self.net.now_ns, mask))
        if mask & READABLE and self.reading:
            self.read()
        if self.on_event is not None:
            self.on_event(self, mask)

    def read(self, max_bytes: int = 1 << 30) -> bytes:
        data = b"".join(self.stack.receive(self.connection, max_bytes, self.net.now_ns))
        self.received += data
        return data

    def send(self, data: bytes) -> None:
        self.stack.send(self.connection, data, self.net.now_ns)

    def shutdown(self) -> None:
        self.stack.shutdown(self.connection, self.net.now_ns)

    def close(self) -> None:
        self.stack.close(self.connection, self.net.now_ns)

    def abort(self) -> None:
        self.stack.abort(self.connection, self.net.now_ns)


class Network:
    """`hosts` hosts, named a, b, c, ..., at 10.0.0.1, .2, ... and fd00::1, ...; the first two are `a` and `b`.

    now_ns      the time;  random: the seeded source that rules use
    delays_ns   one-way delays by (sender, receiver); `delay_ns` where absent
    crossings   all that was sent, in order;  events: what each host traced, by name
    accepted    the apps of connections that were accepted, in order
    max_batch   how many packets a host gets in one turn, at most
    """

    def __init__(
        self,
        *,
        hosts: int = 2,
        delay_ns: int = 10 * MS,
        seed: int = 1,
        config: Config | None = None,
        mtu: int = 1500,
    ) -> None:
        self.now_ns = START_NS
        self.random = Random(seed)
        self.delay_ns = delay_ns
        self.delays_ns: dict[tuple[str, str], int] = {}
        self.max_batch = 1 << 30
        self.rules: list[Rule] = []
        self.crossings: list[Crossing] = []
        self.events: dict[str, list[events.Event]] = {}
        self.accepted: list[App] = []
        self.stacks: list[Stack] = []
        self._by_address: dict[bytes, Stack] = {}
        self._reasons: dict[int, str] = {}
        self._flying: list[tuple[int, int, Stack, Packet]] = []
        self._count = 0
        for index in range(hosts):
            self._add_host("abcdefghij"[index], index + 1, Random(seed * 1000 + index), config, mtu)
        self.a, self.b = self.stacks[:2]

    # ------------------------------------------------------------------ users

    def listen(
        self, stack: Stack, port: int, *, accept: bool = True, reading: bool = True, **options: object
    ) -> Listener:
        """A listener; unless `accept` is False, what connects is accepted at once and gets an App (`accepted`)."""
        listener = stack.listen(port, **options)  # type: ignore[arg-type]

        def on_connection() -> None:
            while (connection := listener.accept()) is not None:
                self.accepted.append(App(self, stack, connection, reading))

        if accept:
            listener.on_connection = on_connection
        return listener

    def connect(
        self, client: Stack, server: Stack, port: int, *, version: int = 4, reading: bool = True, **options: object
    ) -> App:
        remote = self.address(server, version)
        return App(self, client, client.connect(remote, port, self.now_ns, **options), reading)  # type: ignore[arg-type]

    def pair(
        self, port: int = 80, *, version: int = 4, reading: bool = True, config: Config | None = None
    ) -> tuple[App, App]:
        """An established connection: (the client's App on a, the server's on b)."""
        if self.b._listener(self.address(self.b, version), port) is None:
            self.listen(self.b, port, reading=reading, config=config)
        client = self.connect(self.a, self.b, port, version=version, reading=reading, config=config)
        count = len(self.accepted)
        assert self.run(until=lambda: client.connected and len(self.accepted) > count)
        return client, self.accepted[-1]

    @staticmethod
    def address(stack: Stack, version: int = 4) -> bytes:
        return next(a.ip.packed for a in stack.addresses if a.version == version)

    # ------------------------------------------------------------------ harm

    def drop(self, match: Match = is_any, times: int | None = None) -> Rule:
        return self._rule(match, "dropped", lambda flight, _: [], times)

    def delay(self, match: Match, by_ns: int, times: int | None = None) -> Rule:
        def act(flight: Flight, _: Crossing) -> list[Flight]:
            return [Flight(flight.packet, flight.delay_ns + by_ns)]

        return self._rule(match, "delayed", act, times)

    def duplicate(self, match: Match = is_any, times: int | None = None, after_ns: int = 0) -> Rule:
        def act(flight: Flight, _: Crossing) -> list[Flight]:
            return [flight, Flight(flight.packet, flight.delay_ns + after_ns)]

        return self._rule(match, "duplicated", act, times)

    def edit(self, match: Match, change: Callable[[Segment], None], times: int | None = None) -> Rule:
        """`change` alters the segment in place; its checksum is made anew."""

        def act(flight: Flight, _: Crossing) -> list[Flight]:
            segment = decode(Packet((flight.packet.data(),), id=flight.packet.id))
            assert isinstance(segment, Segment)
            change(segment)
            return [Flight(encode(segment), flight.delay_ns)]

        return self._rule(match, "edited", act, times)

    def corrupt(self, match: Match = is_any, times: int | None = None) -> Rule:
        """One bit of the packet flips."""

        def act(flight: Flight, _: Crossing) -> list[Flight]:
            data = bytearray(flight.packet.data())
            bit = self.random.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
            return [Flight(Packet((bytes(data),), id=flight.packet.id), flight.delay_ns)]

        return self._rule(match, "corrupted", act, times)

    def chance(self, probability: float, match: Match = is_any) -> Match:
        """`match`, in so many cases out of one."""
        return lambda crossing: match(crossing) and self.random.random() < probability

    def heal(self) -> None:
        """No harm from now on."""
        self.rules.clear()

    # ------------------------------------------------------------------ time

    def run(self, until: Callable[[], bool] | None = None, for_ns: int | None = None) -> bool:
        """Go on until `until` holds (True), nothing is left to happen, or `for_ns` have passed (both False)."""
        end_ns = None if for_ns is None else self.now_ns + for_ns
        spins = 0
        while until is None or not until():
            next_ns = self.next_ns
            if next_ns is None or (end_ns is not None and next_ns > end_ns):
                self.now_ns = self.now_ns if end_ns is None else end_ns
                return False
            spins = spins + 1 if next_ns <= self.now_ns else 0
            assert spins < SPIN_LIMIT, f"the hosts spin at {self.now_ns}: {[c.key for c in self.crossings[-4:]]}"
            self.now_ns = max(next_ns, self.now_ns)
            self._turn()
        return True

    @property
    def next_ns(self) -> int | None:
        """When something happens next; None where nothing ever will."""
        times = [stack.deadline_ns for stack in self.stacks if stack.deadline_ns is not None]
        if self._flying:
            times.append(self._flying[0][0])
        return min(times) if times else None

    def sent(self, stack: Stack, match: Match = is_any, since: int = 0) -> list[Crossing]:
        """What this host sent and matches, from crossing number `since` on."""
        return [c for c in self.crossings[since:] if c.sender == stack.name and match(c)]

    def _turn(self) -> None:
        batches: dict[Stack, list[Packet]] = {}
        flying = self._flying
        held = []
        while flying and flying[0][0] <= self.now_ns:
            entry = heapq.heappop(flying)
            batch = batches.setdefault(entry[2], [])
            if len(batch) < self.max_batch:
                batch.append(entry[3])
            else:
                held.append(entry)
        for entry in held:
            heapq.heappush(flying, entry)
        for stack, packets in batches.items():
            stack.on_packets(packets, self.now_ns)
        for stack in self.stacks:
            if stack.deadline_ns is not None and stack.deadline_ns <= self.now_ns:
                stack.on_timer(self.now_ns)

    # ------------------------------------------------------------------ inside

    def _add_host(self, name: str, number: int, random: Random, config: Config | None, mtu: int) -> None:
        self.events[name] = traced = []

        def tracer(event: events.Event) -> None:
            traced.append(event)
            if isinstance(event, events.SegmentOut):
                self._reasons[event.segment.packet_id] = event.segment.reason

        addresses = (f"10.0.0.{number}/24", f"fd00::{number}/64")
        stack = Stack(addresses, mtu=mtu, config=config, random=random, tracer=tracer, name=name)
        stack.send_packet = lambda packet, now_ns: self._launch(stack, packet)
        stack.notify = lambda connection, mask: connection.user.hear(mask)  # type: ignore[attr-defined]
        self.stacks.append(stack)
        for address in stack.addresses:
            self._by_address[address.ip.packed] = stack

    def _launch(self, sender: Stack, packet: Packet) -> None:
        frozen = Packet((packet.data(),), packet.checksum, packet.gso_size, packet.id)
        assert len(frozen) <= sender.mtu, f"a packet of {len(frozen)} octets on a link of {sender.mtu}"
        segment = decode(frozen)
        assert isinstance(segment, Segment), segment
        reason = self._reasons.pop(packet.id)
        assert reason, f"no reason given for {segment}"
        crossing = Crossing(self.now_ns, sender.name, segment, reason, [])
        self.crossings.append(crossing)
        receiver = self._by_address.get(segment.dst)
        if receiver is None:
            crossing.fates.append("no such host")
            return
        flights = [Flight(frozen, self.delays_ns.get((sender.name, receiver.name), self.delay_ns))]
        for rule in self.rules:
            flights = rule.apply(flights, crossing)
        for flight in flights:
            self._count += 1
            heapq.heappush(self._flying, (self.now_ns + flight.delay_ns, self._count, receiver, flight.packet))

    def _rule(
        self, match: Match, fate: str, act: Callable[[Flight, Crossing], list[Flight]], times: int | None
    ) -> Rule:
        rule = Rule(match, fate, act, times)
        self.rules.append(rule)
        return rule
