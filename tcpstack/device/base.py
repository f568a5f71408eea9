"""What every device is: packets in, packets out, never blocking.

A device moves `Packet`s; it knows nothing of TCP. It may hold packets back (a fault rule that delays them),
in which case it has a deadline of its own. Time is passed in, as everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Protocol

from ..wire.packet import Offload, Packet

next_packet_id: Callable[[], int] = itertools.count(1).__next__
"""A number no other packet of this process has, above 0, for `Packet.id`.

The device nearest the wire numbers what arrives, the stack what it sends; a packet keeps its number on its way, through
faults and copies of it, so that events and captures speak of the same packet.
"""


BATCH_BYTES = 192 * 1024
"""What a device gives at once, at the most: more would push each other out of the processor's cache."""


class DeviceError(OSError):
    """The device cannot be had or is gone; the message says which, and what to do about it."""


class Device(Protocol):
    """A source and sink of IP packets.

    name      what to call it in messages ("tun0")
    mtu       the largest packet that goes over the wire, in octets; superpackets are larger
    offload   what it does for those that send by it, for as long as it is open; what arrives may have as much left
              undone (wire/segmentation.py does it), but has not where there is none
    queue_packets  how many packets may wait in it for us, where that is known to be bounded: a window far above that
              overflows it
    on_ready  set by whoever reads: called (with no arguments, from any turn of the loop) when a device
              without a descriptor has packets to give; devices with a descriptor never call it
    """

    name: str
    mtu: int
    on_ready: Callable[[], None] | None

    @property
    def offload(self) -> Offload: ...

    @property
    def queue_packets(self) -> int | None: ...

    def fileno(self) -> int:
        """A descriptor that polls readable when packets wait, or -1 where there is none (see on_ready)."""

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        """Up to max_packets that have arrived, or about BATCH_BYTES of them; empty when none waits. Raises DeviceError
        when it is gone."""

    def send(self, packet: Packet, now_ns: int) -> bool:
        """Take a packet. False where the device had to drop it (queue full): TCP's timers see to it.
        Raises DeviceError when the device is gone."""

    @property
    def deadline_ns(self) -> int | None:
        """When a packet held back is due (then call `on_timer`), or None."""

    def on_timer(self, now_ns: int) -> None:
        """Let go of what is due: outgoing packets leave, incoming ones become receivable (see on_ready)."""

    def close(self) -> None:
        """Give the device back. Idempotent."""
