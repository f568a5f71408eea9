"""A veth pair in place of a TUN device: the kernel's end here, the stack's in a network namespace of its own.

That namespace has no name and no process, only the packet socket that is bound in it: the pair is gone when the
device is closed, and before that it stays, as with a TUN. Nothing but the stack answers at its end.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from . import libc, netlink
from .base import DeviceError
from .packet_socket import KERNEL_MAC, STACK_MAC, PacketSocketDevice

_STACK_END, _STACK_END_INDEX = "wire0", 1000
_IFF_NOARP = 0x80  # <linux/if.h>
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17  # <linux/ethtool.h>

_QUEUED_BYTES = 1024
"""What the kernel counts for a packet that waits in a socket, on top of the MTU: 804 octets where that is 1500."""
_SUPERPACKETS_BYTES = 16 << 20
"""As much for superpackets: more than any window that is offered."""


def open_veth(
    name: str,
    addresses: Sequence[str],
    *,
    mtu: int = 1500,
    txqueuelen: int = netlink.TXQUEUELEN,
    offload: bool = True,
) -> PacketSocketDevice:
    """Make a pair whose kernel's end, `name`, is up in the calling thread's network namespace with these
    addresses. The other end is the device, which goes by the same name; up to txqueuelen packets (or what
    net.core.rmem_max has room for) wait in it.

    No address needs resolving: whatever is routed to `name` reaches the device. Without `offload`, what the kernel
    sends has complete checksums and is no larger than the MTU. For a thread in which no event loop is running; takes
    CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_NET_RAW. Raises DeviceError, and ValueError where an address is none.
    """
    with _new_network_namespace() as home:
        _make_pair(name, mtu, home)
        netlink.configure(_STACK_END)
        # Ours comes up first: so the kernel's has its carrier from the start, and loses no packet to the lack of it.
        queue_bytes = txqueuelen * (mtu + _QUEUED_BYTES)
        if offload:
            queue_bytes = max(queue_bytes, _SUPERPACKETS_BYTES)
        device = PacketSocketDevice.open(_STACK_END, name, queue_bytes=queue_bytes, offload=offload)
        device.kernels_fd = os.dup(home)
    try:
        _resolve_nothing(name)
        if not offload:
            _leave_nothing_to_others(name)
        netlink.configure(name, addresses, mtu=mtu, txqueuelen=txqueuelen)
    except BaseException:
        device.close()
        raise
    return device


@contextmanager
def _new_network_namespace() -> Iterator[int]:
    """The calling thread is in a new network namespace; gives a descriptor of the one that it was in before."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            libc.unshare(libc.CLONE_NEWNET)
        except OSError as error:
            problem = f"the other end of a veth pair can have no network namespace ({error.strerror})"
            raise DeviceError(error.errno, problem) from None
        try:
            yield home
        finally:
            libc.setns(home, libc.CLONE_NEWNET)
    finally:
        os.close(home)


def _make_pair(name: str, mtu: int, home: int) -> None:
    from pyroute2 import IPRoute, NetlinkError  # slow to import, see netlink.py

    kernels = {"ifname": name, "address": KERNEL_MAC, "mtu": mtu, "net_ns_fd": home}
    with IPRoute() as route:
        try:
            # The kernel is in no hurry (a second) to see the carrier of an interface that is its own peer, which it
            # tells by the index, in whatever namespace. Without a carrier there is no IPv6.
            route.link(
                "add", ifname=_STACK_END, index=_STACK_END_INDEX, kind="veth", address=STACK_MAC, mtu=mtu, peer=kernels
            )
        except NetlinkError as error:
            raise _pair_error(error.code, name, mtu) from None


def _resolve_nothing(name: str) -> None:
    """Whatever is routed to `name` goes to the one other end."""
    from pyroute2 import IPRoute, NetlinkError

    try:
        with IPRoute() as route:
            route.link("set", index=socket.if_nametoindex(name), flags=_IFF_NOARP, change=_IFF_NOARP)
    except NetlinkError as error:
        raise DeviceError(error.code, f"{name} can't do without ARP ({os.strerror(error.code)})") from None


def _leave_nothing_to_others(name: str) -> None:
    """No offload: without that of checksums the kernel also divides what is too large."""
    value = array.array("I", (_ETHTOOL_STXCSUM, 0))  # struct ethtool_value
    ifreq = struct.pack("16sP16x", os.fsencode(name), value.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, ifreq)
    except OSError as error:
        raise DeviceError(error.errno, f"{name} can't do without offload ({error.strerror})") from None


def _pair_error(code: int, name: str, mtu: int) -> DeviceError:
    match code:
        case errno.EINVAL | errno.ERANGE:
            return DeviceError(code, f"{name} can't take an MTU of {mtu}: {os.strerror(code)}")
        case errno.EOPNOTSUPP:
            return DeviceError(code, "this kernel has no veth pairs: load their driver with `modprobe veth`")
        case _:
            return DeviceError(code, f"no veth pair can be made for {name} ({os.strerror(code)})")
