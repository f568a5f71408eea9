"""What Linux sends, with the time at which it did: a packet socket beside the interface, which the kernel itself
gives a time to each packet. How soon this process comes to read them makes no difference.

Packets are as they are handed down to the interface: one that is to be segmented by hardware is one packet, and has
its checksum left open.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

from ..device import virtio
from ..wire.packet import LARGEST_PACKET
from .side import Arrived

_PACKET_OUTGOING = 4  # <linux/if_packet.h>
_SCM_TIMESTAMPNS = 35  # <asm/socket.h>
_TIMESPEC = struct.Struct("=qq")
_HEAD_BYTES = {65534: virtio.HEADER_BYTES, 1: virtio.HEADER_BYTES + 14}
"""Before the packet, by the kind of link (ARPHRD_NONE, ARPHRD_ETHER)."""
_ROOM = max(_HEAD_BYTES.values()) + LARGEST_PACKET
_IP_TYPES = frozenset((0x0800, 0x86DD))


class KernelPackets:
    """Takes over the packet socket that _kernel_calls.py made in the namespace."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor, for polling."""
        return self._socket.fileno()

    def receive(self, start_ns: int) -> Iterator[Arrived]:
        """Those that the kernel has sent, their times counted from `start_ns` of time.monotonic_ns()."""
        wall_ns = time.time_ns() - time.monotonic_ns()  # the kernel's times are the wall clock's
        while True:
            try:
                octets, ancillary, _, (_, kind, direction, link, _) = self._socket.recvmsg(_ROOM, 64)
            except BlockingIOError:
                return
            if direction != _PACKET_OUTGOING or kind not in _IP_TYPES:
                continue
            sent_ns = time.monotonic_ns()
            for _, name, data in ancillary:
                if name == _SCM_TIMESTAMPNS:
                    seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                    sent_ns = seconds * 1_000_000_000 + nanoseconds - wall_ns
            checksum, gso_size = virtio.read(octets)
            yield Arrived(sent_ns - start_ns, octets[_HEAD_BYTES[link] :], checksum, gso_size)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
