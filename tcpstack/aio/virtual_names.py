"""Whose program is running, and what the names of hosts mean: the resolver of a simulation."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, TypeAlias

from ..stack.addresses import LOOPBACK, UNSPECIFIED
from .pseudo_socket import SocketAddress, socket_address

if TYPE_CHECKING:
    from .host import Host

Address: TypeAlias = IPv4Address | IPv6Address
Entry: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketAddress]
"""As socket.getaddrinfo gives them."""

CURRENT_HOST: ContextVar[Host | None] = ContextVar("tcpstack.current_host", default=None)
"""The simulated host that the running code belongs to: what it starts, and what is called back for it, inherits it."""

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def current_host_name() -> str | None:
    """The name of the host that the running code belongs to, or None."""
    host = CURRENT_HOST.get()
    return host.device.name if host is not None else None


def getaddrinfo(
    names: Mapping[str, Sequence[Address]],
    host: str | bytes | None,
    port: str | bytes | int | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[Entry]:
    """socket.getaddrinfo where the world is `names`, and localhost. Ports are numbers: there is no list of services.

    Raises socket.gaierror for a name that no host has, and where it has no address of `family`.
    """
    number = port_number(port)
    if isinstance(host, bytes):
        host = host.decode("ascii", "backslashreplace")
    kind = _kind(type or socket.SOCK_STREAM)
    protocol = proto or (socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else 0)
    canonical = (host or "") if flags & socket.AI_CANONNAME else ""
    entries = [
        (_FAMILIES[address.version], kind, protocol, canonical, socket_address(address.packed, number))
        for address in _addresses(names, host, flags)
        if family in (0, _FAMILIES[address.version])
    ]
    if not entries:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} has no address of the family that was asked for")
    return entries


def _addresses(names: Mapping[str, Sequence[Address]], host: str | None, flags: int) -> Sequence[Address]:
    if host is None:
        return _in_each_family(UNSPECIFIED if flags & socket.AI_PASSIVE else LOOPBACK)
    try:
        return (ip_address(host),)
    except ValueError:
        pass
    found = names.get(host.lower())
    if found is None and host.lower() == "localhost":
        return _in_each_family(LOOPBACK)
    if found is None:
        known = ", ".join(names) or "none"
        raise socket.gaierror(socket.EAI_NONAME, f"no simulated host is called {host!r} (hosts: {known})")
    return found


def _in_each_family(known: Mapping[int, bytes]) -> Sequence[Address]:
    """Of these addresses, known by their size, one for each family that the current host has; without one, all."""
    host = CURRENT_HOST.get()
    sizes = list(known) if host is None else list(dict.fromkeys(len(each.packed) for each in host.addresses))
    return [ip_address(known[size]) for size in sizes]


def _kind(type: int) -> socket.SocketKind:
    try:
        return socket.SocketKind(type)
    except ValueError:
        raise socket.gaierror(socket.EAI_SOCKTYPE, f"there are no sockets of type {type}") from None


def port_number(port: str | bytes | int | None) -> int:
    """The port, where it is a number or one in digits; 0 for None. Raises socket.gaierror."""
    try:
        return int(port or 0)
    except ValueError:
        reason = f"{port!r} is no port number, and a simulation has no list of services"
        raise socket.gaierror(socket.EAI_SERVICE, reason) from None
