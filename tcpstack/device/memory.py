"""Two devices joined back to back in memory: what one sends the other receives. No TUN, no root, no clock.

The far side of each is a queue bounded in packets, as a TUN device's is (txqueuelen): what comes to a full
queue is dropped and counted, and TCP has to cope, as it would outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..wire.packet import NO_OFFLOAD, Offload, Packet
from .base import DeviceError, next_packet_id

QUEUE_PACKETS = 500
"""Linux's txqueuelen for a TUN device."""


class MemoryDevice:
    """One end of a pair; made by `pair`. A Device without a descriptor: `on_ready` says that packets wait.

    `on_ready` is called from inside the other end's `send` (or from `receive`, where packets are left over),
    once for all that comes until the next `receive`. Whoever sets it calls `receive` once to get what came
    before.

    `dropped` counts the packets sent from this end that got lost, by reason: "queue_full", "too_big" (above
    the MTU, superpackets excepted) and "peer_closed".
    """

    __slots__ = (
        "_announced", "_arrived", "_closed", "_peer", "_queue_packets", "dropped", "mtu", "name", "offload", "on_ready",
    )  # fmt: skip

    def __init__(self, name: str, mtu: int, queue_packets: int = QUEUE_PACKETS, offload: Offload = NO_OFFLOAD) -> None:
        self.name = name
        self.mtu = mtu
        self.offload = replace(offload, unread=False)
        self.on_ready: Callable[[], None] | None = None
        self.dropped = {"queue_full": 0, "too_big": 0, "peer_closed": 0}
        self._queue_packets = queue_packets
        self._arrived: deque[Packet] = deque()
        self._announced = False
        self._closed = False
        self._peer: MemoryDevice | None = None

    def fileno(self) -> int:
        """-1: there is nothing to poll."""
        return -1

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        """Up to max_packets, in the order in which they were sent, each with one buffer and an id."""
        self._check_open()
        self._announced = False
        arrived = self._arrived
        packets = [arrived.popleft() for _ in range(min(max_packets, len(arrived)))]
        if arrived:
            self._announce()
        return packets

    def send(self, packet: Packet, now_ns: int) -> bool:
        """Put the packet into the other end's queue; False where it was dropped (see `dropped`)."""
        self._check_open()
        if len(packet) > self.mtu and not packet.gso_size:
            return self._drop("too_big")
        peer = self._peer
        if peer is None or peer._closed:
            return self._drop("peer_closed")
        if len(peer._arrived) >= peer._queue_packets:
            return self._drop("queue_full")
        # Joined into octets of its own: the chunks may be views of a send buffer that is about to change.
        packet_id = packet.id or next_packet_id()
        peer._arrived.append(Packet((packet.data(),), packet.checksum, packet.gso_size, packet_id))
        peer._announce()
        return True

    @property
    def queue_packets(self) -> int:
        """What may wait here."""
        return self._queue_packets

    @property
    def deadline_ns(self) -> int | None:
        """None: nothing is held back."""
        return None

    def on_timer(self, now_ns: int) -> None:
        """Nothing is ever due."""

    def close(self) -> None:
        """Drop what waits here; what the other end sends from now on is lost. Idempotent."""
        self._closed = True
        self._arrived.clear()
        self.on_ready = None

    def _announce(self) -> None:
        if self.on_ready is not None and not self._announced:
            self._announced = True
            self.on_ready()

    def _drop(self, reason: str) -> bool:
        self.dropped[reason] += 1
        return False

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceError(f"{self.name} is closed")


def pair(
    mtu: int = 1500, name: str = "memory", queue_packets: int = QUEUE_PACKETS, offload: Offload = NO_OFFLOAD
) -> tuple[MemoryDevice, MemoryDevice]:
    """Two joined devices, called `name`-a and `name`-b, each with a queue of `queue_packets` packets."""
    if mtu < 68:
        raise ValueError(f"an MTU below 68 carries no IP (RFC 791 3.2), so not {mtu}")
    if queue_packets < 1:
        raise ValueError(f"a queue of {queue_packets} packets passes none on")
    a = MemoryDevice(f"{name}-a", mtu, queue_packets, offload)
    b = MemoryDevice(f"{name}-b", mtu, queue_packets, offload)
    a._peer, b._peer = b, a
    return a, b
