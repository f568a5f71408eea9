"""Hosts to be had in one call: on a TUN device, or two of them joined in memory."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TypeAlias

from ..core.config import Config
from ..core.events import Tracer
from ..device import memory, netlink
from ..device.base import Device
from ..device.faults import Rule
from ..device.namespace import offload_by_default
from ..device.tun import TunDevice
from ..wire.packet import FULL_OFFLOAD, NO_OFFLOAD
from .host import Host

_IFF_UP = 0x1  # <linux/if.h>

Interface: TypeAlias = IPv4Interface | IPv6Interface
Address: TypeAlias = str | Interface


@asynccontextmanager
async def open_tun(
    name: str | None = "tun0",
    *address: Address,
    addresses: Sequence[Address] = (),
    fd: int | None = None,
    device: Device | None = None,
    mtu: int | None = None,
    offload: bool | None = None,
    config: Config | None = None,
    tracer: Tracer | None = None,
    faults: Sequence[str | Rule] = (),
    random: random.Random | None = None,
    grace_s: float = 5.0,
) -> AsyncIterator[Host]:
    """A host with these addresses ("10.9.0.2/24", "fd09::2/64") on a TUN device, while `async with` lasts.

    The device is `device` where given (any Device); else descriptor `fd`, as somebody else opened and
    configured it (with `mtu` where that is not 1500); else the interface `name`. That one is created where it
    is missing (None: under a name that the kernel picks), and the kernel gets the first free address of each
    subnet on it. A device that is up and has an address of each subnet is left as it is, and takes no
    privilege. offload says whether checksums and the division of superpackets are left to the kernel, by default as
    the environment variable TCPSTACK_OFFLOAD says ("on" or "off"), or else yes.

    config, tracer and random go to the stack; `faults` are rules, or their texts, that act on its packets. At
    the end the host is closed as by `aclose(grace_s)`.

    Raises DeviceError with what to do about it; FaultRuleError; ValueError for addresses that make no sense.
    """
    own = [ip_interface(each) for each in (*address, *addresses)]
    if not own:
        raise ValueError("the stack needs an address, such as '10.9.0.2/24'")
    if device is None:
        if fd is None:
            device = await tun_device(name, own, mtu, offload=offload)
        else:
            device = TunDevice.from_fd(fd, mtu=mtu or 1500, offload=_offload(offload))
    async with _running(device, own, config, tracer, faults, random, grace_s) as host:
        yield host


@asynccontextmanager
async def open_memory_pair(
    addresses_a: Sequence[Address] = ("10.9.0.1/24", "fd09::1/64"),
    addresses_b: Sequence[Address] = ("10.9.0.2/24", "fd09::2/64"),
    *,
    mtu: int = 1500,
    offload: bool = False,
    config: Config | None = None,
    tracer: Tracer | None = None,
    faults: Sequence[str | Rule] = (),
    random: random.Random | None = None,
    grace_s: float = 5.0,
) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts, a and b, joined back to back in this process: no TUN, no privilege.

    With `offload`, superpackets cross. `tracer` sees a; `faults` act on a's packets, "in" being towards a. Raises
    FaultRuleError and ValueError.
    """
    device_a, device_b = memory.pair(mtu=mtu, offload=FULL_OFFLOAD if offload else NO_OFFLOAD)
    async with (
        _running(device_a, addresses_a, config, tracer, faults, random, grace_s) as host_a,
        _running(device_b, addresses_b, config, None, (), random, grace_s) as host_b,
    ):
        try:
            yield host_a, host_b
        finally:
            # Together, since each needs the other to finish.
            await asyncio.gather(host_a.aclose(grace_s), host_b.aclose(grace_s))


@asynccontextmanager
async def _running(
    device: Device,
    addresses: Sequence[Address],
    config: Config | None,
    tracer: Tracer | None,
    faults: Sequence[str | Rule],
    random: random.Random | None,
    grace_s: float,
) -> AsyncIterator[Host]:
    try:
        host = Host(device, addresses, config=config, tracer=tracer, faults=faults, random=random)
    except BaseException:
        device.close()
        raise
    try:
        yield host
    finally:
        await host.aclose(grace_s)


async def tun_device(
    name: str | None, own: Sequence[Interface], mtu: int | None = None, *, offload: bool | None = None
) -> TunDevice:
    """What `open_tun` does with `name`: the device, up, with the kernel reachable for a stack that has `own`."""
    _refuse_addresses_of_the_kernel(own)
    existed = name in {known for _, known in socket.if_nameindex()}
    device = TunDevice.open(name, offload=_offload(offload))
    try:
        up, present = await asyncio.to_thread(_interface_state, device.name) if existed else (False, [])
        missing = kernel_addresses(own, present)
        new_mtu = mtu if mtu != device.mtu else None
        if missing or not up or new_mtu is not None:
            queue = None if existed else netlink.TXQUEUELEN
            await asyncio.to_thread(netlink.configure, device.name, missing, mtu=new_mtu, txqueuelen=queue)
            device.mtu = new_mtu or device.mtu
            device.queue_packets = queue or device.queue_packets
    except BaseException:
        device.close()
        raise
    return device


def _offload(wanted: bool | None) -> bool:
    return offload_by_default() if wanted is None else wanted


def _refuse_addresses_of_the_kernel(own: Sequence[Interface]) -> None:
    """Raise ValueError where the kernel has one of them, on whatever interface: we would never see a packet for it."""
    for interface in own:
        with socket.socket(socket.AF_INET if interface.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((str(interface.ip), 9))  # sends nothing, and picks the source address
            except OSError:
                continue
            if probe.getsockname()[0] == str(interface.ip):
                raise ValueError(f"{interface.ip} is the kernel's own address there: the stack needs another one")


def _interface_state(name: str) -> tuple[bool, list[Interface]]:
    """Whether the interface is up, and the kernel's addresses on it. For a thread without a running loop."""
    from pyroute2 import IPRoute  # slow to import, see netlink.py

    with IPRoute() as route:
        index = route.link_lookup(ifname=name)[0]
        up = bool(route.get_links(index)[0]["flags"] & _IFF_UP)
        found = [
            ip_interface(f"{entry.get('IFA_LOCAL') or entry.get('IFA_ADDRESS')}/{entry['prefixlen']}")
            for entry in route.get_addr(index=index)
        ]
    return up, found


def kernel_addresses(own: Sequence[Interface], present: Sequence[Interface]) -> list[Interface]:
    """What the kernel's side lacks, next to the addresses `present`: for each subnet of `own` in which it has
    none, the first host address that is not ours. Raises ValueError where an own address is the kernel's
    already, or a subnet has no room for two."""
    ours = {interface.ip for interface in own}
    taken = ours & {interface.ip for interface in present}
    if taken:
        address = min(map(str, taken))
        raise ValueError(f"{address} is the kernel's own address there: the stack needs another one")
    missing: dict[object, Interface] = {}
    for interface in own:
        network = interface.network
        if network in missing or any(each.ip in network for each in present):
            continue
        free = next((host for host in network.hosts() if host not in ours), None)
        if free is None:
            raise ValueError(f"{interface} leaves the kernel no address: give a larger subnet, such as /24")
        missing[network] = ip_interface(f"{free}/{network.prefixlen}")
    return list(missing.values())
