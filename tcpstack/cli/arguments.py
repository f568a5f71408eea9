"""The options that `serve` and `run` share: what they are called, what they may be, and what they mean."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ..device.faults import Rule

Interface: TypeAlias = IPv4Interface | IPv6Interface

DEFAULT_ADDRESSES = ("10.9.0.2/24", "fd09::2/64")
SERVICES = (("http", 80), ("echo", 7), ("discard", 0), ("chargen", 0))
"""Each service's option and its default port; 0 is off."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What to serve, where and how. `ports` has the port of each service that is on, by its name."""

    tun: str
    addresses: tuple[Interface, ...]
    ports: dict[str, int]
    directory: str | None
    loop: str
    trace: str | None
    faults: tuple[Rule, ...]
    verbose: bool


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """Declare on `parser` what every stack has: its device, addresses, loop, capture and faults."""
    parser.add_argument("--tun", metavar="NAME", default="tun0", help="the TUN device (default: tun0)")
    parser.add_argument(
        "--address", metavar="CIDR", action="append", type=_address,
        help="an address of the stack with its prefix length; may be repeated "
        "(default: 10.9.0.2/24 and fd09::2/64)",
    )  # fmt: skip
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="the event loop (default: uvloop)"
    )
    parser.add_argument(
        "--trace", metavar="FILE", type=_trace_file, help="write all packets to FILE, as pcapng for Wireshark"
    )
    parser.add_argument(
        "--fault", metavar="RULE", action="append", type=_fault_rule, default=[],
        help="harm packets on purpose, as in --fault 'drop syn nth=1' --fault 'loss 5%%'; the rules are listed below; "
        "may be repeated",
    )  # fmt: skip


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`; `serve_options` reads what it has parsed."""
    for name, port in SERVICES:
        parser.add_argument(
            f"--{name}", metavar="PORT", type=_port, default=port,
            help=f"where to serve {name}; 0 is off (default: {port or 'off'})",
        )  # fmt: skip
    parser.add_argument(
        "--dir", metavar="DIR", type=_directory, help="what http serves (default: a page that says hello)"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print the conversation as a ladder, as it happens"
    )
    add_stack_options(parser)


def serve_options(parsed: argparse.Namespace) -> ServeOptions:
    """What was asked for. Raises ValueError where the options contradict one another."""
    ports = {name: port for name, _ in SERVICES if (port := getattr(parsed, name))}
    by_port: dict[int, str] = {}
    for name, port in ports.items():
        if port in by_port:
            raise ValueError(
                f"--{by_port[port]} and --{name} cannot share port {port}: move one, or give it 0 for off"
            )
        by_port[port] = name
    return ServeOptions(
        tun=parsed.tun,
        addresses=stack_addresses(parsed),
        ports=ports,
        directory=parsed.dir,
        loop=parsed.loop,
        trace=parsed.trace,
        faults=tuple(parsed.fault),
        verbose=parsed.verbose,
    )


def stack_addresses(parsed: argparse.Namespace) -> tuple[Interface, ...]:
    """The stack's addresses. Raises ValueError where one is named twice."""
    addresses = tuple(parsed.address or map(ip_interface, DEFAULT_ADDRESSES))
    hosts = [address.ip for address in addresses]
    twice = next((host for host in hosts if hosts.count(host) > 1), None)
    if twice is not None:
        raise ValueError(f"--address names {twice} twice")
    return addresses


def _address(text: str) -> Interface:
    if "/" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} lacks its prefix length, as in 10.9.0.2/24 or fd09::2/64")
    try:
        interface = ip_interface(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address with a prefix length, as in 10.9.0.2/24 or fd09::2/64"
        ) from None
    network = interface.network
    if network.num_addresses < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} is a network of one address: the kernel's side needs another, as in {interface.ip}/"
            f"{24 if interface.version == 4 else 64}"
        )
    reserved = {network.network_address} | ({network.broadcast_address} if interface.version == 4 else set())
    if network.num_addresses > 2 and interface.ip in reserved:
        raise argparse.ArgumentTypeError(f"{text!r} is no host's address: choose one inside {network}")
    if interface.is_multicast or interface.is_unspecified:
        raise argparse.ArgumentTypeError(f"{text!r} is no host's address: choose one as in 10.9.0.2/24")
    return interface


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535, or 0 for off")
    return int(text)


def _directory(text: str) -> str:
    if not os.path.isdir(text):
        why = "is not a directory" if os.path.exists(text) else "does not exist"
        raise argparse.ArgumentTypeError(f"{text!r} {why}")
    if not os.access(text, os.R_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} may not be read")
    return text


def _trace_file(text: str) -> str:
    """Looks only: nothing is created or overwritten before the whole command line has proved right."""
    folder = os.path.dirname(text) or "."
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: there is no directory {folder!r}")
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: it is a directory")
    if not os.access(text if os.path.exists(text) else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: permission denied")
    return text


def _fault_rule(text: str) -> Rule:
    from ..device.faults import FaultRuleError, parse_rule

    try:
        return parse_rule(text)
    except FaultRuleError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
