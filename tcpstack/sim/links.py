"""Links, and the ends by which hosts hang on them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, TypeAlias

from ..core.events import Tracer
from ..device.fault_octets import with_congestion_marked
from ..device.pipe import Line, Pipe
from ..wire.packet import CHECKSUM_PARTIAL, NO_OFFLOAD, Packet
from ..wire.segmentation import wire_packets
from .offload import joined, wire_size
from .router import Router
from .routing import destination_of

if TYPE_CHECKING:
    from .network import Network


class Interface:
    """A host's end of a link: a Device, whose packets come from the network. `send` fails while nothing is linked.

    offload  with FULL_OFFLOAD it takes and gives superpackets, also such as it makes of what arrives at once
    tracers  are told what links lose of the host's packets, and of those for it
    tap      the same for a capture, which has to do with the host's own packets only
    """

    def __init__(self, name: str, addresses: Sequence[IPv4Interface | IPv6Interface], network: Network) -> None:
        self.name = name
        self.addresses = addresses
        self.mtu = 1500
        self.offload = NO_OFFLOAD
        self.queue_packets: int | None = None
        self.on_ready: Callable[[], None] | None = None
        self.link: Link | None = None
        self.tracers: tuple[Tracer, ...] = ()
        self.tap: Tracer | None = None
        self._network = network
        self._arrived: list[Packet] = []

    def fileno(self) -> int:
        return -1

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        arrived = self._arrived
        packets, self._arrived = arrived[:max_packets], arrived[max_packets:]
        if self._arrived and self.on_ready is not None:
            self.on_ready()
        return joined(packets) if self.offload.checksum else packets

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


Node: TypeAlias = Interface | Router


class Link:
    """A wire between two nodes, with a Line for each direction. Packets above `mtu` are dropped and counted, as those
    that find its queue full; those that it marked as having met congestion are counted.

    A superpacket goes whole over a line with neither a rate nor a queue to a host that takes it so; else as the packets
    that it stands for, each of which waits, or is lost, by itself.
    """

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
        """A packet enters at the end that is `source`. False where the queue has no room for it, or for a part."""
        there = 0 if source is self.ends[0] else 1
        if not packet.gso_size and packet.checksum != CHECKSUM_PARTIAL:
            return self._put(packet, there)
        sent = True
        for each in (packet,) if self._carries_whole(packet, there) else wire_packets(packet):
            sent = self._put(each, there) and sent
        return sent

    def reconfigure(self, line: Line, back: Line | None = None) -> None:
        """Change what the link does from now on; what is under way arrives as it would have."""
        for pipe, changed in zip(self._pipes, (line, back or line), strict=True):
            pipe.line = changed

    @property
    def under_way(self) -> int:
        """How many packets are on the link, both ways."""
        return sum(map(len, self._pipes))

    def _carries_whole(self, packet: Packet, there: int) -> bool:
        line, end = self._pipes[there].line, self.ends[1 - there]
        limited = line.rate_bps is not None or line.queue_bytes is not None or line.queue_packets is not None
        return not limited and isinstance(end, Interface) and end.offload.takes_superpackets(destination_of(packet))

    def _put(self, packet: Packet, there: int) -> bool:
        clock = self._network.clock
        size = len(packet)
        if (wire_size(packet) if packet.gso_size else size) > self.mtu:
            self._lose(packet, "above the link's MTU")
            return False
        pipe = self._pipes[there]
        marked = with_congestion_marked(packet) if pipe.congested(clock.now_ns) else None
        if not pipe.put(marked or packet, size, clock.now_ns):
            self._lose(packet, "queue full")
            return False
        if marked is not None:
            self.counters["marked"] += 1
        arrives_ns = pipe.last_arrival_ns
        assert arrives_ns is not None
        clock.call_at(arrives_ns, self._arrivals[there])
        return True

    def _arrive(self, there: int) -> None:
        for packet in self._pipes[there].take(self._network.clock.now_ns):
            self.ends[1 - there].deliver(packet, self)

    def _lose(self, packet: Packet, why: str) -> None:
        self.counters[why] += 1
        where = f"link {' to '.join(end.name for end in self.ends)}"
        self._network.tell_lost(where, packet, why)
