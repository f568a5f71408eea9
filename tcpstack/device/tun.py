"""A TUN device: the kernel routes IP packets to an interface, and this process hangs on its other end.

pytun opens the device and gives it its name. It does not read or write: its calls block, allocate, refuse
memoryviews and raise an error of their own for "nothing there", so packets go through os.readv and os.writev
on the descriptor. The device gives and takes IP packets (IFF_NO_PI), behind virtio headers where they can be had
(IFF_VNET_HDR): then checksums are left to the kernel, and up to 64 KB of text cross in one packet.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import pytun

from ..core.segment import Buffer
from ..wire.packet import CHECKSUM_UNVERIFIED, FULL_OFFLOAD, LARGEST_PACKET, NO_OFFLOAD, Offload, Packet
from . import virtio
from .base import BATCH_BYTES, DeviceError, next_packet_id
from .read_buffers import ReadBuffers

TUN_NODE = "/dev/net/tun"
KERNELS_QUEUE_PACKETS = 500
"""The kernel's txqueuelen for a TUN device, unless somebody says otherwise (then set `queue_packets`)."""

_IOV_MAX = os.sysconf("SC_IOV_MAX")
_IFNAMSIZ = 16
_TUNGETIFF = 0x800454D2
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_IFF_VNET_HDR = 0x4000
_F_CSUM, _F_TSO4, _F_TSO6, _F_TSO_ECN = 1, 2, 4, 8
_IFREQ = struct.Struct("16sH22x")  # struct ifreq as TUNGETIFF fills it: the name, the flags

# What to ask for, best first: a kernel refuses all of a request of which it knows not all.
_OFFLOADS = (
    (_F_CSUM | _F_TSO4 | _F_TSO6 | _F_TSO_ECN, FULL_OFFLOAD),
    (_F_CSUM | _F_TSO4 | _F_TSO6, Offload(True, True, True)),
    (_F_CSUM | _F_TSO4, Offload(True, True)),
    (_F_CSUM, Offload(True)),
    (0, NO_OFFLOAD),
)

# A read with less room cuts a packet short without a word.
_ROOM = virtio.HEADER_BYTES + LARGEST_PACKET

_log = logging.getLogger(__name__)

# What a write answers when this packet can't be taken but the next one may be: the interface is down (EIO),
# the kernel has no room (EAGAIN, ENOBUFS, ENOMEM), a fault rule has bent the version field (EINVAL), or the packet's
# text is that of a mapped file which was cut (EFAULT).
_PACKET_REFUSED = frozenset((errno.EIO, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL, errno.EFAULT))


class NoTunError(DeviceError):
    """There is no /dev/net/tun, or not for this user. `problem` says which, without the remedy."""

    def __init__(self, code: int, problem: str, remedy: str) -> None:
        super().__init__(code, f"{problem}: {remedy}")
        self.problem = problem


class TunDevice:
    """A TUN device as a `Device`: `open` attaches to one or creates it, `from_fd` takes a descriptor over."""

    __slots__ = ("_buffers", "_fd", "_has_headers", "mtu", "name", "offload", "on_ready", "queue_packets")

    def __init__(self, fd: int, name: str, mtu: int, has_headers: bool, offload: bool) -> None:
        """Not for callers: `open` and `from_fd` make sure of what this takes on trust."""
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self.name = name
        self.mtu = mtu
        self.on_ready: Callable[[], None] | None = None
        self.queue_packets: int | None = KERNELS_QUEUE_PACKETS
        self._fd = fd
        self._has_headers = has_headers
        self._buffers = ReadBuffers(_ROOM)
        self.offload = self._negotiate(offload and has_headers)

    @classmethod
    def open(cls, name: str | None = None, *, mtu: int | None = None, offload: bool = True) -> TunDevice:
        """Attach to the TUN device `name`, or create it; None has the kernel name a new one.

        A device created here vanishes when closed, and is down until `netlink.configure` has been called.
        mtu, in octets, is set where given (which takes CAP_NET_ADMIN), else asked of the device. offload=False has each
        packet cross by itself and complete, as on a wire.
        Raises DeviceError with an errno and a sentence that says what to do; it is a NoTunError where
        this user can't have a TUN device of any name.
        """
        if name is not None and not is_interface_name(name):
            rule = "use 1 to 15 octets without '/', ':' or spaces"
            raise DeviceError(errno.EINVAL, f"{name!r} can't name an interface: {rule}")
        _check_node()
        headers = _IFF_VNET_HDR if offload else 0
        try:
            tun = pytun.TunTapDevice(name or "", pytun.IFF_TUN | pytun.IFF_NO_PI | headers)
        except OSError as error:
            raise _attach_error(error, name or "a new TUN device") from None
        try:
            if mtu is not None:
                _set_mtu(tun, mtu)
            # pytun's descriptor is inheritable; the duplicate is not.
            return cls(os.dup(tun.fileno()), tun.name, tun.mtu, offload, offload)
        finally:
            tun.close()

    @classmethod
    def from_fd(cls, fd: int, name: str | None = None, mtu: int = 1500, *, offload: bool = True) -> TunDevice:
        """Take over a TUN descriptor, of any network namespace; it is closed with this object.

        It must have been attached with IFF_TUN | IFF_NO_PI, and with IFF_VNET_HDR where there is to be offload.
        name is by default what the kernel calls the device.
        mtu must be said where it is not 1500: outside the device's namespace it can't be asked.
        Raises DeviceError, and leaves the descriptor open, where it is that of a TAP or no such thing
        at all. A missing IFF_NO_PI goes unseen: TUNGETIFF uses its bit for IFF_NOFILTER too.
        """
        try:
            raw_name, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
        except OSError as error:
            why = f"is not that of an attached TUN device ({error.strerror})"
            raise DeviceError(error.errno, f"descriptor {fd} {why}") from None
        if not flags & pytun.IFF_TUN:
            remedy = "open it with IFF_TUN | IFF_NO_PI"
            raise DeviceError(errno.EINVAL, f"descriptor {fd} doesn't carry IP packets: {remedy}")
        return cls(fd, name or os.fsdecode(raw_name.rstrip(b"\0")), mtu, bool(flags & _IFF_VNET_HDR), offload)

    def fileno(self) -> int:
        """The descriptor, for polling; -1 once closed."""
        return self._fd

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        """Up to max_packets that have arrived, numbered; empty when none waits, which is also so while the
        interface is down. Raises DeviceError when it was deleted."""
        packets: list[Packet] = []
        fd, has_headers, buffers, size = self._fd, self._has_headers, self._buffers, 0
        while len(packets) < max_packets and size < BATCH_BYTES:
            current = buffers.current
            try:
                length = os.readv(fd, (current,))
            except BlockingIOError:
                break
            except OSError as error:
                if packets:
                    break  # these first: the next call meets the error again
                raise self._failure(error) from None
            size += length
            if has_headers:
                checksum, gso_size = virtio.read(current)
                octets = buffers.take(virtio.HEADER_BYTES, length)
                packets.append(Packet((octets,), checksum, gso_size, next_packet_id()))
            else:
                packets.append(Packet((buffers.take(0, length),), CHECKSUM_UNVERIFIED, 0, next_packet_id()))
        return packets

    def send(self, packet: Packet, now_ns: int) -> bool:
        """Write one packet. False where the kernel would not have it: the interface is down, memory is short.
        Raises DeviceError when the interface was deleted."""
        buffers: tuple[Buffer, ...] = packet.buffers
        if self._has_headers:
            buffers = (virtio.header_for(packet), *buffers)
        if len(buffers) > _IOV_MAX:
            buffers = (b"".join(buffers),)
        try:
            os.writev(self._fd, buffers)
        except OSError as error:
            if error.errno in _PACKET_REFUSED:
                return False
            raise self._failure(error) from None
        return True

    @property
    def deadline_ns(self) -> int | None:
        """None: a TUN device holds nothing back."""
        return None

    def on_timer(self, now_ns: int) -> None:
        """Nothing is ever due."""

    def close(self) -> None:
        """Give the descriptor back; an interface that is not persistent vanishes with it. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self.offload != NO_OFFLOAD:
                # The interface may stay, and be used next by a program that knows nothing of partial checksums.
                with contextlib.suppress(OSError):
                    fcntl.ioctl(fd, _TUNSETOFFLOAD, 0)
            os.close(fd)

    def _negotiate(self, wanted: bool) -> Offload:
        """Ask the kernel to leave undone what we can do without; what it grants."""
        fd = self._fd
        if self._has_headers:
            fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", virtio.HEADER_BYTES))
        granted = NO_OFFLOAD
        for flags, offload in _OFFLOADS if wanted else _OFFLOADS[-1:]:
            try:
                fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)
            except OSError:
                continue
            granted = offload
            break
        if wanted and granted != FULL_OFFLOAD:
            missing = ", ".join(
                field.name for field in fields(granted) if field.compare and not getattr(granted, field.name)
            )
            _log.warning("%s: this kernel takes no %s off us: more packets cross, and slower", self.name, missing)
        return replace(granted, unread=granted.checksum)

    def _failure(self, error: OSError) -> DeviceError:
        if self._fd < 0:
            return DeviceError(errno.EBADF, f"{self.name} was closed by this program")
        if error.errno == errno.EBADFD:
            return DeviceError(errno.EBADFD, f"{self.name} was deleted: make it anew and attach again")
        return DeviceError(error.errno, f"{self.name} failed ({error.strerror}): attach again")


def is_interface_name(name: str) -> bool:
    """The kernel's own rule (dev_valid_name)."""
    return (
        0 < len(os.fsencode(name)) < _IFNAMSIZ
        and name not in (".", "..")
        and not any(character in "/:\0" or character.isspace() for character in name)
    )


def _check_node() -> None:
    """Raise DeviceError where /dev/net/tun can't be opened: what fails after this is about the interface."""
    try:
        os.close(os.open(TUN_NODE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            remedy = f"load its driver with `modprobe tun`, or start the container with `--device {TUN_NODE}`"
            raise NoTunError(error.errno, f"there is no {TUN_NODE}", remedy) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = f"run as root, or allow it with `sudo chmod 0666 {TUN_NODE}`"
            raise NoTunError(error.errno, f"this user may not open {TUN_NODE}", remedy) from None
        raise DeviceError(error.errno, f"{TUN_NODE} can't be opened ({error.strerror})") from None


def _attach_error(error: OSError, name: str) -> DeviceError:
    match error.errno:
        case errno.EPERM:
            remedy = "run as root, or let root make one for you with `./setup_tun.sh up NAME --user YOU`"
            return DeviceError(errno.EPERM, f"attaching to {name} takes CAP_NET_ADMIN: {remedy}")
        case errno.EBUSY:
            return DeviceError(errno.EBUSY, f"another program uses {name}: stop it, or choose another name")
        case errno.EINVAL:
            problem = "exists and is not a TUN device with a single queue"
            return DeviceError(errno.EINVAL, f"{name} {problem}: choose another name")
        case _:
            return DeviceError(error.errno, f"{name} can't be attached to ({error.strerror})")


def _set_mtu(tun: pytun.TunTapDevice, mtu: int) -> None:
    try:
        tun.mtu = mtu
    except OSError as error:
        if error.errno == errno.EPERM:
            remedy = "run as root, or leave the MTU as it is"
            problem = f"setting the MTU of {tun.name} takes CAP_NET_ADMIN"
            raise DeviceError(errno.EPERM, f"{problem}: {remedy}") from None
        problem = f"can't have an MTU of {mtu} octets ({error.strerror})"
        raise DeviceError(error.errno, f"{tun.name} {problem}: use 68 to 65535") from None
