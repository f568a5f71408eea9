"""The rest of the resolver of a simulation: socket's older calls by name, and those that lead from addresses to names.

They raise what socket's raise: gaierror for a name, herror for an address that no simulated host has.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from .virtual_names import Address, current_host_name, getaddrinfo, port_number

_HOST_NOT_FOUND = 1  # <netdb.h>
Found = tuple[str, list[str], list[str]]
"""A name, its aliases (there are none), its addresses."""


class Resolver:
    """socket's calls of these names, where the world is `names`: hosts' addresses by their names."""

    def __init__(self, names: Mapping[str, Sequence[Address]]) -> None:
        self._names = names

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By the names that they have in the module socket; its getfqdn asks them."""
        return {
            "getaddrinfo": lambda *args, **kwargs: getaddrinfo(self._names, *args, **kwargs),
            "gethostname": lambda: current_host_name() or "localhost",
            "gethostbyname": lambda host: self.gethostbyname_ex(host)[2][0],
            "gethostbyname_ex": self.gethostbyname_ex,
            "gethostbyaddr": self.gethostbyaddr,
            "getnameinfo": self.getnameinfo,
        }

    def gethostbyname_ex(self, host: str) -> Found:
        """The IPv4 addresses of a host."""
        return host, [], self._addresses(host, socket.AF_INET)

    def gethostbyaddr(self, host: str) -> Found:
        """The name and the addresses of the host that has an address, or that name."""
        first = self._addresses(host)[0]
        name = self._name(first)
        if name is None:
            raise socket.herror(_HOST_NOT_FOUND, f"no simulated host has the address {first}")
        found = self._names.get(name, [ip_address(first)])
        return name, [], [str(each) for each in found if each.version == ip_address(first).version]

    def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        """The name of a host where one has the address, else the address; and the port in digits."""
        if not isinstance(sockaddr, tuple) or len(sockaddr) < 2:
            raise TypeError(f"a socket's address is a tuple of an IP address and a port, not {sockaddr!r}")
        address = self._addresses(sockaddr[0])[0]
        name = None if flags & socket.NI_NUMERICHOST else self._name(address)
        if name is None and flags & socket.NI_NAMEREQD:
            raise socket.gaierror(socket.EAI_NONAME, f"no simulated host has the address {address}")
        return name or address, str(port_number(sockaddr[1]))

    def _addresses(self, host: str, family: int = 0) -> list[str]:
        return [entry[4][0] for entry in getaddrinfo(self._names, host, 0, family)]

    def _name(self, address: str) -> str | None:
        wanted = ip_address(address)
        if wanted.is_loopback:
            return "localhost"
        return next((name for name, addresses in self._names.items() if wanted in addresses), None)


def check_name(name: str) -> None:
    """Raise ValueError for what cannot be asked for as a host's name."""
    sensible = isinstance(name, str) and name.isprintable() and name.split() == [name]
    try:
        ip_address(name)
    except ValueError:
        pass
    else:
        sensible = False
    if not sensible:
        raise ValueError(f"a host's name is a word, such as 'a' or 'db.example', not {name!r}")
