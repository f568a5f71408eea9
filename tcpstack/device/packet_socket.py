"""One end of a veth pair as a device, through a packet socket: what serves where there is no TUN to be had.

The kernel's end of the pair is an Ethernet interface with the kernel's addresses; what it sends arrives at the
other end, where this socket hears every frame and nobody else listens. Neither end resolves addresses (veth.py
switches ARP and neighbour discovery off), so a frame's header says the same each time.

Each frame comes and goes with a virtio_net_hdr before it (PACKET_VNET_HDR), which says what the kernel has left
undone, and to the kernel what we have: the transport checksum, and the division into packets of the wire's size.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.segment import Buffer
from ..wire.packet import FULL_OFFLOAD, LARGEST_PACKET, NO_OFFLOAD, Packet
from . import virtio
from .base import BATCH_BYTES, DeviceError, next_packet_id
from .read_buffers import ReadBuffers

KERNEL_MAC = "02:00:00:00:00:01"
"""What the kernel's end must have: a frame for another address is not for the kernel. (Locally administered.)"""
STACK_MAC = "02:00:00:00:00:02"

_LARGEST_QUEUE_BYTES = 1 << 29  # doubled, it still is an int
_IOV_MAX = os.sysconf("SC_IOV_MAX")
_SIOCGIFMTU = 0x8921
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263  # <linux/socket.h>
_PACKET_VNET_HDR, _PACKET_QDISC_BYPASS, _PACKET_IGNORE_OUTGOING = 15, 20, 23  # <linux/if_packet.h>
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD

_ETHERNET_BYTES = 14
_HEAD_BYTES = virtio.HEADER_BYTES + _ETHERNET_BYTES
_ROOM = _HEAD_BYTES + LARGEST_PACKET
_IP_TYPES = frozenset(type_.to_bytes(2, "big") for type_ in (_ETH_P_IP, _ETH_P_IPV6))


def _outgoing_head(type_: int) -> bytes:
    return bytes.fromhex((KERNEL_MAC + STACK_MAC).replace(":", "")) + type_.to_bytes(2, "big")


# By the IP version of the packet that follows.
_OUTGOING_HEADS = {4: _outgoing_head(_ETH_P_IP), 6: _outgoing_head(_ETH_P_IPV6)}

# What a send answers when this packet can't be taken but the next one may be: the kernel's end is down or has no
# room (ENOBUFS, ENOMEM, EAGAIN), the packet is larger than the MTU (EMSGSIZE), or its text is that of a mapped file
# which was cut (EFAULT).
_PACKET_REFUSED = frozenset((errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EMSGSIZE, errno.EINVAL, errno.EFAULT))
# Nobody sets our end down, but the pair goes with either end: ENETDOWN while it does, ENXIO afterwards.
_DELETED = frozenset((errno.ENETDOWN, errno.ENXIO))


class PacketSocketDevice:
    """The stack's end of a veth pair as a `Device`: `open` binds a socket to it, `from_fd` takes one over.

    kernels_fd  a descriptor of the network namespace that the kernel's end is in, which this keeps; or -1. Without
                it, that namespace ends with its last process, and the pair with it.
    """

    __slots__ = ("_buffers", "_deleted", "_fd", "kernels_fd", "mtu", "name", "offload", "on_ready", "queue_packets")

    def __init__(self, fd: int, name: str, mtu: int, kernels_fd: int, offload: bool = True) -> None:
        """Not for callers: `open` and `from_fd` make sure of what this takes on trust."""
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self.name = name
        self.mtu = mtu
        self.on_ready: Callable[[], None] | None = None
        self.queue_packets: int | None = None  # octets bound it, not packets
        self.kernels_fd = kernels_fd
        self._fd = fd
        self._deleted = False
        self._buffers = ReadBuffers(_ROOM)
        # The kernel's end leaves undone what its own settings allow (veth.py), whatever we say here.
        self.offload = replace(FULL_OFFLOAD, unread=True) if offload else NO_OFFLOAD

    @classmethod
    def open(
        cls, interface: str, name: str | None = None, *, queue_bytes: int | None = None, offload: bool = True
    ) -> PacketSocketDevice:
        """Bind a new socket to `interface`, an end of a veth pair in the calling thread's network namespace; its
        other end must have KERNEL_MAC. `name` is what to call the device, where that is not `interface`.

        queue_bytes is the memory that packets may fill which wait for us, as the kernel counts it: 2,304 for one
        of 1,500 octets. Without CAP_NET_ADMIN in the first namespace, net.core.rmem_max limits it.
        Raises DeviceError.
        """
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as bound:
                for option in (_PACKET_VNET_HDR, _PACKET_QDISC_BYPASS, _PACKET_IGNORE_OUTGOING):
                    bound.setsockopt(_SOL_PACKET, option, 1)
                if queue_bytes is not None:
                    _set_queue(bound, queue_bytes)
                bound.bind((interface, _ETH_P_ALL))
                device = cls.from_fd(bound.fileno(), name, offload=offload)
                bound.detach()
                return device
        except DeviceError:
            raise
        except OSError as error:
            raise _open_error(error, interface) from None

    @classmethod
    def from_fd(
        cls, fd: int, name: str | None = None, *, kernels_fd: int = -1, offload: bool = True
    ) -> PacketSocketDevice:
        """Take over a socket as `open` makes it, of any network namespace, and kernels_fd where there is one; both
        are closed with this object.

        name is by default that of the interface; the MTU is the interface's.
        Raises DeviceError, and leaves the descriptors open, where fd is no such thing.
        """
        try:
            with socket.socket(fileno=os.dup(fd)) as probe:
                if probe.family != socket.AF_PACKET or not probe.getsockopt(_SOL_PACKET, _PACKET_VNET_HDR):
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                interface = probe.getsockname()[0]
                # struct ifreq: the name, then a union, of which the MTU takes the first four octets.
                ifreq = fcntl.ioctl(fd, _SIOCGIFMTU, struct.pack("16s24x", os.fsencode(interface)))
        except OSError as error:
            why = f"is not that of a packet socket with PACKET_VNET_HDR on an interface ({error.strerror})"
            raise DeviceError(error.errno, f"descriptor {fd} {why}") from None
        return cls(fd, name or interface, struct.unpack_from("=i", ifreq, 16)[0], kernels_fd, offload)

    def fileno(self) -> int:
        """The descriptor, for polling; -1 once closed."""
        return self._fd

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        """The IP packets of up to max_packets frames that have arrived, numbered; empty when none waits.
        Raises DeviceError when the pair was deleted."""
        packets: list[Packet] = []
        fd, buffers, size = self._fd, self._buffers, 0
        for _ in range(max_packets):
            if size >= BATCH_BYTES:
                break
            current = buffers.current
            try:
                length = os.readv(fd, (current,))
            except BlockingIOError as error:
                if self._deleted and not packets:
                    raise self._failure(error) from None
                break
            except OSError as error:
                failure = self._failure(error)
                if packets:
                    break  # these first: the next call comes here again, or finds `_deleted`
                raise failure from None
            if bytes(current[_HEAD_BYTES - 2 : _HEAD_BYTES]) not in _IP_TYPES:
                continue
            size += length
            checksum, gso_size = virtio.read(current)
            packets.append(Packet((buffers.take(_HEAD_BYTES, length),), checksum, gso_size, next_packet_id()))
        return packets

    def send(self, packet: Packet, now_ns: int) -> bool:
        """Send one packet. False where the kernel would not have it: its end is
        down, memory is short, the packet is above the MTU or not IP. Raises DeviceError when the pair was deleted."""
        buffers: tuple[Buffer, ...] = packet.buffers
        first = buffers[0]
        if len(buffers) >= _IOV_MAX - 1 or not first:
            first = packet.data()
            buffers = (first,)
        head = _OUTGOING_HEADS.get(first[0] >> 4) if first else None
        if head is None:
            return False
        # csum_start counts from the start of the frame.
        virtio_header = virtio.header_for(packet, _ETHERNET_BYTES)
        try:
            os.writev(self._fd, (virtio_header, head, *buffers))
        except OSError as error:
            if error.errno in _PACKET_REFUSED:
                return False
            raise self._failure(error) from None
        return True

    @property
    def deadline_ns(self) -> int | None:
        """None: nothing is held back."""
        return None

    def on_timer(self, now_ns: int) -> None:
        """Nothing is ever due."""

    def close(self) -> None:
        """Give the descriptors back; they may be what keeps the pair (see veth.py). Idempotent."""
        for fd in (self._fd, self.kernels_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self.kernels_fd = -1

    def _failure(self, error: OSError) -> DeviceError:
        if self._fd < 0:
            return DeviceError(errno.EBADF, f"{self.name} was closed by this program")
        if self._deleted or error.errno in _DELETED:
            self._deleted = True  # a socket tells of it only once
            return DeviceError(errno.ENXIO, f"{self.name} was deleted: make it anew")
        return DeviceError(error.errno, f"{self.name} failed ({error.strerror}): make it anew")


def _set_queue(bound: socket.socket, queue_bytes: int) -> None:
    # The kernel doubles what it is told.
    asked = min(queue_bytes // 2, _LARGEST_QUEUE_BYTES)
    try:
        bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, asked)
    except PermissionError:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)


def _open_error(error: OSError, interface: str) -> DeviceError:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return DeviceError(errno.EPERM, f"a packet socket on {interface} takes CAP_NET_RAW: run as root")
        case errno.ENODEV:
            return DeviceError(errno.ENODEV, f"there is no interface {interface} in this network namespace")
        case errno.EAFNOSUPPORT:
            problem = "this kernel has no packet sockets: load them with `modprobe af_packet`"
            return DeviceError(errno.EAFNOSUPPORT, problem)
        case _:
            return DeviceError(error.errno, f"no packet socket can be had on {interface} ({error.strerror})")
