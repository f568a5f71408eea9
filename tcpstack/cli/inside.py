"""The namespace in which a command runs, for those subcommands that run one: what it is like in there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..aio.opening import kernel_addresses
from ..device.namespace import Namespace
from .arguments import Interface
from .descriptors import tell

STACK_NAME, KERNEL_NAME = "stack", "kernel"
"""What a command in there may call the two ends, instead of their addresses."""


def open_namespace(addresses: Sequence[Interface], tun: str, *, verbose: bool) -> Namespace:
    """A namespace for a stack with these addresses: the kernel has the first free address of each subnet, on the
    device `tun`. One line on stderr for what is not as a person would expect it.

    Raises NamespaceError (no namespace, no device), and ValueError where an address is in the way.
    """
    kernel = kernel_addresses(addresses, ())
    names = {
        STACK_NAME: [str(address.ip) for address in addresses],
        KERNEL_NAME: [str(address.ip) for address in kernel],
    }
    namespace = Namespace.open([str(address) for address in kernel], tun_name=tun, names=names)
    if namespace.fallback_reason is not None:
        tell(f"using a veth pair instead of a TUN device: {namespace.fallback_reason}")
    if namespace.names_problem is not None and verbose:
        tell(f"the names {STACK_NAME} and {KERNEL_NAME} mean nothing in here: {namespace.names_problem}")
    return namespace


def command_environment(addresses: Sequence[Interface], ours: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: ours, with the stack's addresses, and with these and its name kept from any proxy."""
    environment = dict(ours)
    for version, name in ((4, "TCPSTACK_ADDRESS"), (6, "TCPSTACK_ADDRESS6")):
        of_version = [str(address.ip) for address in addresses if address.version == version]
        if of_version:
            environment[name] = of_version[0]
    hosts = [*(str(address.ip) for address in addresses), STACK_NAME]
    # curl prefers the small name where both stand, so each gets what the other had where it was not set.
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        present = ours.get(name) or ours.get(other, "")
        environment[name] = ",".join(filter(None, (present, *hosts))) if present != "*" else present
    return environment
