"""The kernel's side of an interface: addresses, MTU, queue length, up.

Through pyroute2, whose synchronous face runs an event loop of its own: call this from a thread in which none
is running (`asyncio.to_thread` where there is one). It acts on the calling thread's network namespace.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any

from .base import DeviceError

TXQUEUELEN = 2000
"""Packets that may wait for us in the kernel, on a device that is ours alone. Without offload, the kernel's own 500 are
full after 730,000 octets at an MTU of 1500: three peers that fill windows of 256 KiB at once lose packets to that, and
so does one whose window has grown."""

_IFA_F_NODAD = 0x02  # <linux/if_addr.h>
_RTN_LOCAL = 2  # <linux/rtnetlink.h>
_IN_USE_S = 1.0

# A TUN has no router to solicit (the kernel would at 0, 4, 13 and 30 s) and no use for a link-local address.
# All this must be in place before the interface comes up.
_QUIET = {"router_solicitations": "0", "accept_ra": "0", "addr_gen_mode": "1"}


def configure(
    name: str,
    addresses: Sequence[str | IPv4Interface | IPv6Interface] = (),
    *,
    mtu: int | None = None,
    txqueuelen: int | None = None,
) -> None:
    """Keep the interface quiet, give it its addresses ("10.9.0.1/24") and bring it up.

    mtu in octets, txqueuelen in packets; None leaves either alone. An address that is there already stays; an
    IPv6 one skips duplicate address detection, and is in use when this returns if the interface has a carrier.
    Raises DeviceError, and ValueError where an address is none.
    """
    from pyroute2 import IPRoute, NetlinkError  # takes 0.13 to 0.26 s: only who configures an interface pays

    interfaces = [ip_interface(address) for address in addresses]
    with IPRoute() as route:
        found = route.link_lookup(ifname=name)
        if not found:
            raise DeviceError(errno.ENODEV, f"there is no interface {name} in this network namespace")
        index = found[0]
        _write_quiet_sysctls(name)
        step = ""
        try:
            if mtu is not None:
                step = f"take an MTU of {mtu}"
                route.link("set", index=index, mtu=mtu)
            if txqueuelen is not None:
                step = f"take a queue of {txqueuelen} packets"
                route.link("set", index=index, txqlen=txqueuelen)
            for interface in interfaces:
                step = f"take the address {interface}"
                prefix = interface.network.prefixlen
                flags = _IFA_F_NODAD if interface.version == 6 else 0
                try:
                    route.addr("add", index=index, address=str(interface.ip), prefixlen=prefix, flags=flags)
                except NetlinkError as error:
                    if error.code != errno.EEXIST:
                        raise
            step = "come up"
            route.link("set", index=index, state="up")
        except NetlinkError as error:
            raise _refusal(error.code, name, step) from None
        _wait_until_in_use(route, [str(interface.ip) for interface in interfaces if interface.version == 6])


def _wait_until_in_use(route: Any, addresses: Sequence[str]) -> None:
    """IPv6 puts an address to use in a worker thread of its own; what arrives for it before that is dropped. Where
    that takes longer than _IN_USE_S, there may be no carrier, and this returns all the same."""
    from pyroute2 import NetlinkError

    deadline_s = time.monotonic() + _IN_USE_S
    for address in addresses:
        while time.monotonic() < deadline_s:
            with suppress(NetlinkError):
                if route.route("get", dst=address)[0]["type"] == _RTN_LOCAL:
                    break
            time.sleep(0.0005)


def _write_quiet_sysctls(name: str) -> None:
    directory = Path("/proc/sys/net/ipv6/conf", name)
    for key, value in _QUIET.items():
        try:
            (directory / key).write_text(value)
        except OSError:
            continue  # /proc/sys may be read-only (a container), IPv6 off: then the stack hears some noise


def _refusal(code: int, name: str, step: str) -> DeviceError:
    match code:
        case errno.EPERM:
            remedy = "configuring an interface takes CAP_NET_ADMIN, so run as root"
        case errno.EACCES | errno.EINVAL if ":" in step:
            remedy = "IPv6 is off here, or the MTU is under the 1280 octets that it needs"
        case _:
            remedy = os.strerror(code)
    return DeviceError(code, f"{name} can't {step}: {remedy}")
