"""A network of simulated hosts (host.py), links (links.py) and routers (router.py), in virtual time (clock.py).

    network = Network(seed=1)
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    network.link(a, b, Line(rate_bps=10_000_000, delay_ns=20 * MILLISECOND_NS, queue_bytes=64_000))
    network.run(seconds=60)

All randomness comes from the seed, all time from the clock, all packet numbers from the network: the same seed gives
the same trace, in another process and on another machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from os import PathLike
from typing import BinaryIO, Self

from ..core.config import SECOND_NS, Config
from ..core.events import FaultHit, Tracer
from ..core.segment import Segment
from ..device.fault_lists import rules_of
from ..device.fault_rules import DROPPED, IN, OUT, Rule
from ..device.pipe import Line
from ..wire.codec import Codec
from ..wire.objects import OBJECTS
from ..wire.packet import FULL_OFFLOAD, LARGEST_PACKET, NO_OFFLOAD, Packet
from .clock import Clock
from .host import SimHost
from .links import Interface, Link, Node
from .records import Records
from .router import Router

LEAST_MTU = 68

__all__ = ["Interface", "Link", "Network", "Node", "Router", "SimHost"]


class Network:
    """A network and its clock. `codec` is OBJECTS (links carry Segments) or DPKT (links carry octets).

    tracer  gets every event of every host that is not given its own, and FaultHits for what links lose, as its sender
            sees it
    ladder  keep what the method `ladder` draws
    pcapng  a path, or a binary stream, to write all packets to, as they pass the hosts' interfaces; whole after `close`

    Raises OSError where that path cannot be written. As a context manager a Network does `close()` at the end.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        codec: Codec = OBJECTS,
        clock: Clock | None = None,
        tracer: Tracer | None = None,
        ladder: bool = False,
        pcapng: str | PathLike[str] | BinaryIO | None = None,
    ) -> None:
        self.seed = seed
        self.codec = codec
        self.clock = clock or Clock()
        self.random = random.Random(seed)
        self.tracer = tracer
        self.records = Records(ladder=ladder, pcapng=pcapng)
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
        faults: str | Rule | Sequence[str | Rule] = (),
        mtu: int = 1500,
        offload: bool = False,
        tracer: Tracer | None = None,
    ) -> SimHost:
        """A host with these addresses. `faults` act on its packets, "in" being towards it, and those in words that name
        no seed draw from the network's; `tracer` sees its events.

        With `offload` its stack sends and gets superpackets, as on a TUN device; without, each packet is one on the
        wire. Raises ValueError for an address that somebody has, FaultRuleError for a rule that is none.
        """
        __tracebackhide__ = True  # in reports of pytest: what is wrong is the caller's
        rules = rules_of(faults, self.seed, name)
        interface = self.interface(name, *addresses, mtu=mtu, offload=offload)
        host = SimHost(self, interface, config, rules, tracer or self.tracer)
        self.hosts.append(host)
        return host

    def interface(
        self, name: str, *addresses: str | IPv4Interface | IPv6Interface, mtu: int = 1500, offload: bool = False
    ) -> Interface:
        """A device with these addresses, for a stack that somebody else drives (aio/virtual.py)."""
        if type(mtu) is not int or not LEAST_MTU <= mtu <= LARGEST_PACKET:
            raise ValueError(f"an MTU is {LEAST_MTU} (RFC 791 3.2) to {LARGEST_PACKET} octets, so not {mtu!r}")
        own = [ip_interface(address) for address in addresses]
        for address in own:
            if address.ip.packed in self._interfaces:
                raise ValueError(f"{address.ip} is the address of {self._interfaces[address.ip.packed].name} already")
        interface = Interface(name, own, self)
        interface.mtu = mtu
        interface.offload = FULL_OFFLOAD if offload else NO_OFFLOAD
        for address in own:
            self._interfaces[address.ip.packed] = interface
            self.records.names[address.ip.packed] = name
        return interface

    def router(self, name: str) -> Router:
        """A router; its own addresses, from which its ICMP comes, are documentation's (RFC 5737, RFC 3849)."""
        if self._routers == 255:
            raise ValueError("a network has at most 255 routers: their own addresses are used up")
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

        Raises ValueError where a host has one already, or both are the same, or the MTU carries no IP.
        """
        ends = (a.interface if isinstance(a, SimHost) else a, b.interface if isinstance(b, SimHost) else b)
        if ends[0] is ends[1]:
            raise ValueError(f"a link joins two nodes, and {ends[0].name} is one")
        if type(mtu) is not int or mtu < LEAST_MTU:
            raise ValueError(f"an MTU is a number of octets from {LEAST_MTU} on (RFC 791 3.2), so not {mtu!r}")
        taken = next((end for end in ends if isinstance(end, Interface) and end.link is not None), None)
        if taken is not None:
            raise ValueError(f"{taken.name} has a link already: put a router between them")
        line = line or Line()
        link = Link(ends, (line, back or line), mtu, self)
        for end in ends:
            if isinstance(end, Interface):
                end.link = link
        self.links.append(link)
        self._routes.clear()
        return link

    def run(self, seconds: float | None = None) -> None:
        """Let so much virtual time pass; None: until nothing will ever happen again. Raises ValueError for less than
        none, and for what is no number."""
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ValueError(f"time passes forwards, and ends: {seconds} s can't be let pass")
        self.clock.run(None if seconds is None else self.clock.now_ns + round(seconds * SECOND_NS))

    def run_until(self, condition: Callable[[], bool], seconds: float = 3600.0) -> bool:
        """Let time pass until the condition holds. False where it does not within so many virtual seconds, or where
        nothing will ever happen again."""
        limit_ns = self.clock.now_ns + round(seconds * SECOND_NS)
        while not condition():
            if not self.clock.step(limit_ns):
                return False
        return True

    def ladder(self, *hosts: SimHost | Node | str, last_lines: int | None = None) -> str:
        """The connections so far as ladders, one after the other, each as the end saw it that opened it, and with what
        the other end really was in; with `hosts`, those that all of these take part in.

        Of long ones the beginning and the end are kept; with `last_lines` only the last rows of those, so many lines
        at the most. For `ladder=True`: else RuntimeError. Raises ValueError for a host that there is not, and for
        `last_lines` of less than 1.
        """
        names = [host if isinstance(host, str) else host.name for host in hosts]
        known = self.records.names
        stranger = next((name for name in names if name not in known.values()), None)
        if stranger is not None:
            raise ValueError(f"there is no host {stranger!r}: it is {' or '.join(dict.fromkeys(known.values()))}")
        return self.records.ladder(names, last_lines)

    def close(self) -> None:
        """The end of what is recorded: the file `pcapng` is whole. Idempotent."""
        self.records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def next_packet_id(self) -> int:
        """A number that no packet of this network has."""
        self._packet_id += 1
        return self._packet_id

    def interface_with(self, address: bytes) -> Interface | None:
        """The host's end that has an address, or None."""
        return self._interfaces.get(address)

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

    def tell_lost(self, where: str, packet: Packet, why: str) -> None:
        """A link or router lost a packet: an event for each end's tracer, as that end sees it."""
        segment = self.codec.decode(packet)
        if not isinstance(segment, Segment):
            return
        rule = f"{where}: {why}"
        source, target = (segment.src, segment.sport), (segment.dst, segment.dport)
        sender, receiver = self._interfaces.get(segment.src), self._interfaces.get(segment.dst)
        now_ns = self.clock.now_ns
        told: tuple[Tracer, ...] = ()
        if sender is not None:
            hit = FaultHit(now_ns, (*source, *target), segment, OUT, rule, DROPPED, packet.id)
            told = sender.tracers
            for tracer in (sender.tap, *told):
                if tracer is not None:
                    tracer(hit)
        if receiver is not None:
            hit = FaultHit(now_ns, (*target, *source), segment, IN, rule, DROPPED, packet.id)
            for tracer in receiver.tracers:
                if not any(tracer is each for each in told):  # whoever sees both ends is told once
                    tracer(hit)
