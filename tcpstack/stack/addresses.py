"""A host's own addresses: what it speaks from, whom it can speak to at all, and what is itself."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import TypeAlias

Address: TypeAlias = bytes | str | IPv4Address | IPv6Address
LIMITED_BROADCAST = b"\xff\xff\xff\xff"
LOOPBACK = {4: bytes((127, 0, 0, 1)), 16: bytes(15) + b"\1"}
"""What a host calls itself, by the octets of an address. All of 127.0.0.0/8 is loopback."""
UNSPECIFIED = {4: bytes(4), 16: bytes(16)}
"""All addresses of a family to whoever listens; this host itself to whoever connects."""
MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one (RFC 4291 2.5.5.2)."""
_V4_NO_HOST = frozenset((127, *range(224, 240)))  # first octets of loopback and multicast


class Addresses:
    """interfaces  the addresses with their subnets, in the order given;  packed: the addresses alone, as octets.

    Raises ValueError where there are none.
    """

    __slots__ = ("_broadcasts", "interfaces", "packed")

    def __init__(self, addresses: Iterable[str | IPv4Interface | IPv6Interface]) -> None:
        self.interfaces = tuple(ip_interface(address) for address in addresses)
        if not self.interfaces:
            raise ValueError("a stack needs at least one address, such as 10.9.0.2/24")
        self.packed = frozenset(address.ip.packed for address in self.interfaces)
        self._broadcasts = frozenset(
            address.network.broadcast_address.packed
            for address in self.interfaces
            if address.version == 4 and address.network.prefixlen < 31
        ) | {LIMITED_BROADCAST, bytes((127, 255, 255, 255))}

    def is_here(self, address: bytes) -> bool:
        """Whether what is sent there comes back: the address is one of ours, or loopback."""
        return address in self.packed or is_loopback(address)

    def refusal(self, destination: bytes, source: bytes) -> str:
        """Why a packet of the device's from there to there is not to be answered, as a counter's name; "" where it may
        be.

        RFC 1122 3.2.1.3 (g), MUST-63: what cannot be a source is never answered, or others would be flooded. Nor is
        what comes from ourselves, or from or to loopback: such packets do not come by a device.
        """
        if destination not in self.packed:
            return "not_for_us"
        if source in self.packed or source in self._broadcasts:
            return "martian_source"
        return "martian_source" if _is_no_host(source) else ""

    def target_of(self, remote: bytes) -> bytes:
        """Where a connection to there leads: as on Linux, the unspecified address means this host.

        Raises OSError (ENETUNREACH) where it is no single host (MUST-46).
        """
        target = ip_address(remote)
        if target.is_multicast or remote in self._broadcasts:
            raise OSError(errno.ENETUNREACH, f"{target} is not the address of one host")
        return LOOPBACK[len(remote)] if target.is_unspecified else remote

    def check_local(self, address: bytes) -> bytes:
        """`address`, for a listener. Raises OSError (EADDRNOTAVAIL) where it is neither ours, nor loopback, nor the
        unspecified one, which stands for all of its family."""
        if not self.is_here(address) and address != UNSPECIFIED[len(address)]:
            raise OSError(errno.EADDRNOTAVAIL, f"{ip_address(address)} is not an address of this stack")
        return address

    def source_for(self, remote: bytes, local: bytes | None) -> bytes:
        """MUST-43, MUST-44: the local address as asked for, else one of the remote's family, of its subnet if any; to
        ourselves the remote address itself, to loopback 127.0.0.1 or ::1.

        Raises OSError: EADDRNOTAVAIL where `local` is none of ours, EINVAL (as Linux) where it is loopback and the
        remote is not here, ENETUNREACH where we have no address of that family.
        """
        if local is not None:
            if not self.is_here(local) or len(local) != len(remote):
                name = ip_address(local)
                raise OSError(errno.EADDRNOTAVAIL, f"{name} is not an address of this stack for {ip_address(remote)}")
            if is_loopback(local) and not self.is_here(remote):
                raise OSError(errno.EINVAL, f"{ip_address(local)} reaches this stack alone, not {ip_address(remote)}")
            return local
        if remote in self.packed:
            return remote
        if is_loopback(remote):
            return LOOPBACK[len(remote)]
        candidates = [address for address in self.interfaces if len(address.ip.packed) == len(remote)]
        if not candidates:
            family = "IPv4" if len(remote) == 4 else "IPv6"
            raise OSError(errno.ENETUNREACH, f"the stack has no {family} address to reach {ip_address(remote)} from")
        target = ip_address(remote)
        return next((a for a in candidates if target in a.network), candidates[0]).ip.packed


def _is_no_host(address: bytes) -> bool:
    """Whether the address is multicast, unspecified, loopback, or an IPv4 one in the form of an IPv6 one, which has no
    place on the wire."""
    if len(address) == 4:
        return address[0] in _V4_NO_HOST or address == UNSPECIFIED[4]
    host = ip_address(address)
    return host.is_multicast or host.is_unspecified or host.is_loopback or address.startswith(MAPPED)


def is_loopback(address: bytes) -> bool:
    """127.0.0.0/8 or ::1."""
    return address[0] == 127 if len(address) == 4 else address == LOOPBACK[16]


def packed_address(address: Address) -> bytes:
    """A user's address as octets; an IPv4 one where that stands in the form of an IPv6 one, as on Linux. Raises
    TypeError for what is no address, ValueError for text that names none."""
    if type(address) is bytes and len(address) in (4, 16):
        return address[12:] if address.startswith(MAPPED) and len(address) == 16 else address
    if not isinstance(address, (bytes, str, IPv4Address, IPv6Address)):
        raise TypeError(
            f'an address must be text such as "10.9.0.1", 4 or 16 octets, or an address object, not {address!r}'
        )
    return packed_address(ip_address(address).packed)


def check_port(port: int, lowest: int, name: str) -> None:
    """Raises TypeError for what is no int, ValueError for what is not `lowest` to 65535; `name` says which port."""
    if not isinstance(port, int):
        raise TypeError(f"the {name} must be an int, not {port!r}")
    if not lowest <= port <= 65535:
        raise ValueError(f"the {name} must be {lowest} to 65535, not {port}")
