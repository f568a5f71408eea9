"""Simulated hosts, links and routers. What aio/driver.py does on an event loop, SimHost does on the virtual clock.

    network = Network(seed=1)
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    network.link(a, b, Line(rate_bps=10_000_000, delay_ns=20 * MILLISECOND_NS, queue_bytes=64_000))
    network.run(seconds=60)

All randomness comes from the seed, all time from the clock, all packet numbers from the network: the same seed gives
the same trace, in another process and on another machine.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from ..core.config import SECOND_NS, Config
from ..core.connection import Connection
from ..core.events import FaultHit, Tracer
from ..core.segment import Buffer, Segment
from ..device.base import Device
from ..device.fault_octets import with_congestion_marked
from ..device.fault_rules import DROPPED, IN, OUT, Rule
from ..device.faults import FaultyDevice, parse_rule
from ..device.pipe import Line, Pipe
from ..stack.listener import Listener
from ..stack.stack import Stack
from ..wire.codec import Codec
from ..wire.icmp import IcmpMessage
from ..wire.objects import OBJECTS
from ..wire.packet import NO_OFFLOAD, Packet
from . import routing
from .clock import Clock, Happening

BATCH_PACKETS = 64


class Interface:
    """A host's end of a link: a Device, whose packets come from the network. `send` fails while nothing is linked.

    tracer  is told what links lose of the host's packets, and of those for it
    """

    def __init__(self, name: str, addresses: Sequence[IPv4Interface | IPv6Interface], network: Network) -> None:
        self.name = name
        self.addresses = addresses
        self.mtu = 1500
        self.offload = NO_OFFLOAD
        self.on_ready: Callable[[], None] | None = None
        self.link: Link | None = None
        self.tracer: Tracer | None = None
        self._network = network
        self._arrived: deque[Packet] = deque()

    def fileno(self) -> int:
        return -1

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        arrived = self._arrived
        packets = [arrived.popleft() for _ in range(min(max_packets, len(arrived)))]
        if arrived and self.on_ready is not None:
            self.on_ready()
        return packets

    def send(self, packet: Packet, now_ns: int) -> bool:
        return self.link is not None and self.link.send(self, packet)

    @property
    def deadline_ns(self) -> int | None:
        return None

    def on_timer(self, now_ns: int) -> None:
        """Nothing is held back here: what is on its way is the link's."""

    def close(self) -> None:
        """Take the cable out: what is on its way here is lost, and nothing leaves any more."""
        self._arrived.clear()
        self.link = None

    def deliver(self, packet: Packet, link: Link) -> None:
        """A packet has come along the link."""
        if self.link is not link:
            return
        self._arrived.append(packet)
        if self.on_ready is not None:
            self.on_ready()


class Router:
    """Passes packets on towards their destination: counts down the hop limit, and says by ICMP what it cannot pass.

    Its own address, which ICMP comes from, is `address` for IPv4 and `address6` for IPv6.
    """

    def __init__(self, name: str, address: bytes, address6: bytes, network: Network) -> None:
        self.name = name
        self.address = address
        self.address6 = address6
        self.counters: Counter[str] = Counter()
        self._network = network

    def deliver(self, packet: Packet, link: Link) -> None:
        """A packet has come along the link: it goes on at once."""
        passed = routing.with_hop_counted(packet)
        source = self.address if len(routing.destination_of(packet)) == 4 else self.address6
        onward = self._network.link_towards(self, routing.destination_of(packet))
        if passed is None:
            self._refuse("hop limit used up", routing.time_exceeded(packet, source))
        elif onward is None:
            self._refuse("no route", routing.no_route(packet, source))
        elif len(passed) > onward.mtu:
            self._refuse("too big", routing.too_big(packet, source, onward.mtu))
        else:
            self.counters["forwarded"] += 1
            onward.send(self, passed)

    def _refuse(self, why: str, error: IcmpMessage | None) -> None:
        """Count a packet that goes no further, and tell its source, if it may be told."""
        self.counters[why] += 1
        network = self._network
        link = network.link_towards(self, error.dst) if error is not None else None
        if error is not None and link is not None:
            error.packet_id = network.next_packet_id()
            link.send(self, network.codec.encode_icmp(error))


Node = Interface | Router


class Link:
    """A wire between two nodes, with a Line for each direction. Packets above `mtu` are dropped and counted."""

    def __init__(self, ends: tuple[Node, Node], lines: tuple[Line, Line], mtu: int, network: Network) -> None:
        self.ends = ends
        self.mtu = mtu
        self.counters: Counter[str] = Counter()
        self._network = network
        # A stream of draws for each direction, so that neither hangs on how the two interleave.
        draws = tuple(random.Random(network.random.getrandbits(64)).randrange for _ in lines)
        self._pipes: tuple[Pipe[Packet], Pipe[Packet]] = (Pipe(lines[0], draws[0]), Pipe(lines[1], draws[1]))
        self._arrivals = (lambda: self._arrive(0), lambda: self._arrive(1))

    def send(self, source: Node, packet: Packet) -> bool:
        """A packet enters at the end that is `source`. False where the queue has no room for it."""
        there = 0 if source is self.ends[0] else 1
        clock = self._network.clock
        if len(packet) > self.mtu:
            self._lose(packet, "above the link's MTU")
            return False
        pipe = self._pipes[there]
        if pipe.congested(clock.now_ns):
            self.counters["met congestion"] += 1
            packet = with_congestion_marked(packet) or packet
        if not pipe.put(packet, len(packet), clock.now_ns):
            self._lose(packet, "queue full")
            return False
        arrives_ns = pipe.last_arrival_ns
        assert arrives_ns is not None
        clock.call_at(arrives_ns, self._arrivals[there])
        return True

    def reconfigure(self, line: Line, back: Line | None = None) -> None:
        """Change what the link does from now on; what is under way arrives as it would have."""
        for pipe, changed in zip(self._pipes, (line, back or line), strict=True):
            pipe.line = changed

    @property
    def under_way(self) -> int:
        """How many packets are on the link, both ways."""
        return sum(map(len, self._pipes))

    def _arrive(self, there: int) -> None:
        for packet in self._pipes[there].take(self._network.clock.now_ns):
            self.ends[1 - there].deliver(packet, self)

    def _lose(self, packet: Packet, why: str) -> None:
        self.counters[why] += 1
        self._network.tell_lost(self, packet, why)


class SimHost:
    """A host of the simulation: the real Stack, driven by the virtual clock. User calls as Stack's, without the time.

    name     what to call it           interface  its end of the link
    stack    the engine                notify     set by the user: gets (connection, readiness mask)
    """

    def __init__(
        self,
        network: Network,
        interface: Interface,
        config: Config | None,
        faults: Sequence[str | Rule],
        tracer: Tracer | None,
    ) -> None:
        self.name = interface.name
        self.interface = interface
        self._network = network
        self._clock = network.clock
        interface.tracer = tracer
        self._device: Device = interface
        if faults:
            rules = [parse_rule(rule) if isinstance(rule, str) else rule for rule in faults]
            self._device = FaultyDevice(interface, rules, tracer, network.next_packet_id)
        self.stack = Stack(
            interface.addresses,
            mtu=interface.mtu,
            config=config,
            random=random.Random(network.random.getrandbits(64)),
            tracer=tracer,
            name=interface.name,
            codec=network.codec,
            packet_ids=network.next_packet_id,
        )
        self.stack.send_packet = self._device.send
        self._device.on_ready = self._schedule_turn
        self._turn_scheduled = False
        self._timer: Happening | None = None

    @property
    def notify(self) -> Callable[[Connection, int], None]:
        return self.stack.notify

    @notify.setter
    def notify(self, notify: Callable[[Connection, int], None]) -> None:
        self.stack.notify = notify

    def connect(self, remote: bytes, port: int, *, local: bytes | None = None, lport: int = 0) -> Connection:
        connection = self.stack.connect(remote, port, self._clock.now_ns, local=local, lport=lport)
        self._look_ahead()
        return connection

    def listen(self, port: int, *, address: bytes | None = None, backlog: int = 100) -> Listener:
        return self.stack.listen(port, address=address, backlog=backlog)

    def send(self, connection: Connection, data: bytes) -> None:
        self.stack.send(connection, data, self._clock.now_ns)
        self._look_ahead()

    def receive(self, connection: Connection, max_bytes: int) -> list[Buffer]:
        chunks = self.stack.receive(connection, max_bytes, self._clock.now_ns)
        self._look_ahead()
        return chunks

    def shutdown(self, connection: Connection) -> None:
        self.stack.shutdown(connection, self._clock.now_ns)
        self._look_ahead()

    def close(self, connection: Connection) -> None:
        self.stack.close(connection, self._clock.now_ns)
        self._look_ahead()

    def abort(self, connection: Connection) -> None:
        self.stack.abort(connection, self._clock.now_ns)
        self._look_ahead()

    def heal(self) -> None:
        """The fault rules act no more; what they hold back is lost."""
        self._device = self.interface
        self.stack.send_packet = self.interface.send
        self.interface.on_ready = self._schedule_turn

    def _schedule_turn(self) -> None:
        """Packets have arrived: what arrives at one instant is one batch."""
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._clock.call_at(self._clock.now_ns, self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        packets = self._device.receive(BATCH_PACKETS, self._clock.now_ns)
        if packets:
            self.stack.on_packets(packets, self._clock.now_ns)
        self._look_ahead()

    def _on_timer(self) -> None:
        self._timer = None
        now_ns = self._clock.now_ns
        if (due_ns := self._device.deadline_ns) is not None and due_ns <= now_ns:
            self._device.on_timer(now_ns)
        if (due_ns := self.stack.deadline_ns) is not None and due_ns <= now_ns:
            self.stack.on_timer(now_ns)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Be called when the earliest deadline has come, unless that is arranged for then or before."""
        deadlines = [at for at in (self.stack.deadline_ns, self._device.deadline_ns) if at is not None]
        if not deadlines:
            return
        due_ns = max(min(deadlines), self._clock.now_ns)
        if self._timer is not None:
            if self._timer.when_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer = self._clock.call_at(due_ns, self._on_timer)


class Network:
    """A network and its clock. `codec` is OBJECTS (links carry Segments) or DPKT (links carry octets).

    tracer  gets every event of every host, and FaultHits for what links lose, as its sender sees it
    """

    def __init__(
        self, seed: int = 0, *, codec: Codec = OBJECTS, clock: Clock | None = None, tracer: Tracer | None = None
    ) -> None:
        self.seed = seed
        self.codec = codec
        self.clock = clock or Clock()
        self.random = random.Random(seed)
        self.tracer = tracer
        self.hosts: list[SimHost] = []
        self.links: list[Link] = []
        self._interfaces: dict[bytes, Interface] = {}
        self._routers = 0
        self._packet_id = 0
        self._routes: dict[tuple[Node, bytes], Link | None] = {}

    def host(
        self,
        name: str,
        *addresses: str | IPv4Interface | IPv6Interface,
        config: Config | None = None,
        faults: Sequence[str | Rule] = (),
        mtu: int = 1500,
        tracer: Tracer | None = None,
    ) -> SimHost:
        """A host with these addresses. `faults` act on its packets, "in" being towards it; `tracer` sees its events.

        Raises ValueError for an address that somebody has, FaultRuleError for a rule that is none.
        """
        interface = self.interface(name, *addresses, mtu=mtu)
        host = SimHost(self, interface, config, faults, tracer or self.tracer)
        self.hosts.append(host)
        return host

    def interface(self, name: str, *addresses: str | IPv4Interface | IPv6Interface, mtu: int = 1500) -> Interface:
        """A device with these addresses, for a stack that somebody else drives (aio/virtual.py)."""
        own = [ip_interface(address) for address in addresses]
        interface = Interface(name, own, self)
        interface.mtu = mtu
        for address in own:
            if address.ip.packed in self._interfaces:
                raise ValueError(f"{address.ip} is the address of {self._interfaces[address.ip.packed].name} already")
            self._interfaces[address.ip.packed] = interface
        return interface

    def router(self, name: str) -> Router:
        """A router; its own addresses, from which its ICMP comes, are documentation's (RFC 5737, RFC 3849)."""
        self._routers += 1
        number = self._routers
        return Router(name, bytes((192, 0, 2, number)), bytes.fromhex("20010db8") + number.to_bytes(12, "big"), self)

    def link(
        self,
        a: SimHost | Node,
        b: SimHost | Node,
        line: Line | None = None,
        back: Line | None = None,
        *,
        mtu: int = 1500,
    ) -> Link:
        """Join two nodes: `line` from a to b, `back` from b to a (the same where None). A host has one link.

        Raises ValueError where a host has one already.
        """
        ends = (a.interface if isinstance(a, SimHost) else a, b.interface if isinstance(b, SimHost) else b)
        line = line or Line()
        link = Link(ends, (line, back or line), mtu, self)
        for end in ends:
            if isinstance(end, Interface):
                if end.link is not None:
                    raise ValueError(f"{end.name} has a link already: put a router between them")
                end.link = link
        self.links.append(link)
        self._routes.clear()
        return link

    def run(self, seconds: float | None = None) -> None:
        """Let so much virtual time pass; None: until nothing will ever happen again."""
        self.clock.run(None if seconds is None else self.clock.now_ns + round(seconds * SECOND_NS))

    def run_until(self, condition: Callable[[], bool], seconds: float = 3600.0) -> bool:
        """Let time pass until the condition holds. False where it does not within so many virtual seconds, or where
        nothing will ever happen again."""
        limit_ns = self.clock.now_ns + round(seconds * SECOND_NS)
        while not condition():
            next_ns = self.clock.next_ns
            if next_ns is None or next_ns > limit_ns:
                return False
            self.clock.step()
        return True

    def next_packet_id(self) -> int:
        """A number that no packet of this network has."""
        self._packet_id += 1
        return self._packet_id

    def link_towards(self, node: Node, destination: bytes) -> Link | None:
        """The link by which `node` reaches an address in the fewest hops, or None."""
        key = (node, destination)
        if key not in self._routes:
            self._routes[key] = self._find_route(node, self._interfaces.get(destination))
        return self._routes[key]

    def _find_route(self, node: Node, target: Interface | None) -> Link | None:
        """Breadth first from the target back; ties go to the link that was made first."""
        if target is None:
            return None
        reached: set[Node] = {target}
        frontier: list[Node] = [target]
        while frontier:
            onward: list[Node] = []
            for link in self.links:
                for end, other in (link.ends, link.ends[::-1]):
                    if end in frontier and other not in reached:
                        if other is node:
                            return link
                        reached.add(other)
                        if isinstance(other, Router):
                            onward.append(other)
            frontier = onward
        return None

    def tell_lost(self, link: Link, packet: Packet, why: str) -> None:
        """A link lost a packet: an event for each end's tracer, as that end sees it."""
        segment = self.codec.decode(packet)
        if not isinstance(segment, Segment):
            return
        rule = f"link {' to '.join(end.name for end in link.ends)}: {why}"
        source, target = (segment.src, segment.sport), (segment.dst, segment.dport)
        sender, receiver = self._interfaces.get(segment.src), self._interfaces.get(segment.dst)
        now_ns = self.clock.now_ns
        if sender is not None and sender.tracer is not None:
            sender.tracer(FaultHit(now_ns, (*source, *target), segment, OUT, rule, DROPPED, packet.id))
        # Whoever sees both ends is told once.
        if receiver is not None and receiver.tracer is not None and receiver.tracer is not self.tracer:
            receiver.tracer(FaultHit(now_ns, (*target, *source), segment, IN, rule, DROPPED, packet.id))
