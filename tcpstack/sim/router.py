"""A router between links: it passes packets on towards their destination."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..wire.icmp import IcmpMessage
from ..wire.packet import Packet
from . import routing

if TYPE_CHECKING:
    from .links import Link
    from .network import Network


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
        """A packet has come along the link: it goes on at once. One with a damaged header is dropped in silence (RFC
        1812 5.2.2), so that what a fault rule broke is not mended on the way."""
        if not routing.has_a_right_header(packet):
            self._refuse(packet, "damaged header", None)
            return
        passed = routing.with_hop_counted(packet)
        source = self.address if len(routing.destination_of(packet)) == 4 else self.address6
        onward = self._network.link_towards(self, routing.destination_of(packet))
        if passed is None:
            self._refuse(packet, "hop limit used up", routing.time_exceeded(packet, source))
        elif onward is None:
            self._refuse(packet, "no route", routing.no_route(packet, source))
        elif len(passed) > onward.mtu:
            self._refuse(packet, "too big", routing.too_big(packet, source, onward.mtu))
        else:
            self.counters["forwarded"] += 1
            onward.send(self, passed)

    def _refuse(self, packet: Packet, why: str, error: IcmpMessage | None) -> None:
        """Count a packet that goes no further, and tell its source, if it may be told."""
        self.counters[why] += 1
        network = self._network
        network.tell_lost(f"router {self.name}", packet, why)
        link = network.link_towards(self, error.dst) if error is not None else None
        if error is not None and link is not None:
            error.packet_id = network.next_packet_id()
            link.send(self, network.codec.encode_icmp(error))
