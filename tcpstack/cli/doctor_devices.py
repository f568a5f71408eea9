"""The TUN devices that are here already: who may attach to each, whether somebody has, what `serve` would find.

Asked of the kernel by netlink. /sys/class/net would not do: it shows the network namespace of whoever mounted it.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any, TypeAlias

from ..device.base import DeviceError
from ..device.tun import TunDevice

Interface: TypeAlias = IPv4Interface | IPv6Interface

_IFF_UP = 0x1  # <linux/if.h>
_TYPE_TUN = 1  # <linux/if_tun.h>; a TAP has 2


@dataclass(frozen=True, slots=True)
class TunInterface:
    """owner, group  the ids that may attach; None for no such limit: with neither, anybody may
    in_use        whether a program is attached
    has_headers   whether virtio headers go before its packets, which whoever attaches says anew
    is_plain      whether attaching as `serve` does would leave its other flags as they are: a single queue, no packet
                  information
    """

    name: str
    owner: int | None
    group: int | None
    persistent: bool
    in_use: bool
    has_headers: bool
    is_plain: bool
    is_multi_queue: bool
    up: bool
    mtu: int
    addresses: tuple[Interface, ...]

    def is_ours(self) -> bool:
        """Whether it was made for this user."""
        return self.owner == os.geteuid() or (self.owner is None and self.group in _groups())

    def lets_us_in(self) -> bool:
        """Whether this user may attach without any capability (the kernel's tun_not_capable)."""
        return self.owner in (None, os.geteuid()) and (self.group is None or self.group in _groups())

    def describe(self) -> str:
        """Its state in a few words."""
        where = " and ".join(map(str, self.addresses)) or "no address"
        return f"{'up' if self.up else 'down'} with {where}, MTU {self.mtu}"


def tun_interfaces() -> list[TunInterface]:
    """The TUN devices of this network namespace (no TAPs); none where a sandbox keeps netlink from us. For a thread
    in which no event loop is running."""
    from pyroute2 import IPRoute, NetlinkError  # slow to import, see device/netlink.py

    try:
        with IPRoute() as route:
            tuns = [link for link in route.get_links() if link.get(("linkinfo", "kind")) == "tun"]
            return [
                _interface(link, _addresses(route.get_addr(index=link["index"])))
                for link in tuns
                if link.get(("linkinfo", "data", "tun_type")) == _TYPE_TUN
            ]
    except (OSError, NetlinkError):
        return []


def try_to_attach(device: TunInterface) -> DeviceError | None:
    """Attach to it and let go at once, as `serve` would begin; why that failed, or None. Nothing of the device
    changes but that it has a carrier meanwhile. Only for one that is persistent and plain: another one would
    lose flags that its owner gave it, and one that vanished meanwhile could be made anew."""
    try:
        TunDevice.open(device.name, offload=device.has_headers).close()
    except DeviceError as error:
        return error
    return None


def free_name() -> str:
    """A name for a TUN device that no interface here has."""
    taken = {name for _, name in socket.if_nameindex()}
    return next(name for number in itertools.count() if (name := f"tun{number}") not in taken)


def _interface(link: Any, addresses: Sequence[Interface]) -> TunInterface:
    def data(key: str) -> Any:
        return link.get(("linkinfo", "data", f"tun_{key}"))

    return TunInterface(
        name=link.get("ifname"),
        owner=data("owner"),
        group=data("group"),
        persistent=bool(data("persist")),
        in_use=bool(link.get("carrier")),
        has_headers=bool(data("vnet_hdr")),
        is_plain=not (data("pi") or data("multi_queue")),
        is_multi_queue=bool(data("multi_queue")),
        up=bool(link["flags"] & _IFF_UP),
        mtu=link.get("mtu"),
        addresses=tuple(addresses),
    )


def _addresses(entries: Sequence[Any]) -> list[Interface]:
    return [
        ip_interface(f"{entry.get('IFA_LOCAL') or entry.get('IFA_ADDRESS')}/{entry['prefixlen']}") for entry in entries
    ]


def _groups() -> set[int]:
    return {os.getegid(), *os.getgroups()}
