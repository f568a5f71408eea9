"""What `run` and `serve` would do on this machine, from what the checks found."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_interface

from ..aio.opening import kernel_addresses
from .arguments import DEFAULT_ADDRESSES
from .doctor_checks import OK, Attached, Trial, Way, attach_cause, needs_user_namespace, set_up
from .doctor_devices import TunInterface, free_name
from .doctor_machine import Machine
from .doctor_remedies import namespace_cause, network_cause, node_cause

DEFAULT_TUN = "tun0"


@dataclass(frozen=True, slots=True)
class Choice:
    """way is the name of the Way that is taken, does what then happens (or why nothing can), command a command line
    that works, and fix what would make one work where there is none."""

    works: bool
    way: str | None
    does: str
    command: str | None = None
    fix: str | None = None


def run_choice(machine: Machine, trial: Trial) -> Choice:
    """`tcpstack run`, of which `trial` was all but the command."""
    if trial.error is not None:
        found, fix = namespace_cause(machine, trial.error, rootless=needs_user_namespace(machine))
        return Choice(False, None, found, fix=fix)
    space = "a user namespace" if trial.rootless else "a network namespace"
    command = "tcpstack run -- curl http://10.9.0.2/"
    if trial.device == "tun":
        way = "user_namespace" if trial.rootless else "root"
        return Choice(True, way, f"makes {space}, and a TUN device in it", command)
    why = f", since {trial.fallback_reason}" if trial.fallback_reason else ""
    return Choice(True, "veth", f"makes {space}, and a veth pair in it{why}", command)


def serve_choice(machine: Machine, attached: Sequence[Attached], new_device: Way, asked: str | None) -> Choice:
    """`tcpstack serve`, with `--tun ASKED` where that is not None. new_device is the way of CAP_NET_ADMIN."""
    name = asked or DEFAULT_TUN
    capable = new_device.status == OK
    by_name = {each.device.name: each for each in attached}
    there = by_name.get(name)
    if there is None and name in {known for _, known in socket.if_nameindex()}:
        return Choice(False, None, f"{name} is there, and is no TUN device", fix=f"tcpstack serve --tun {free_name()}")
    if there is None and capable:
        return Choice(True, "cap_net_admin", f"makes {name} here, gone when it ends", _command(name))
    if there is not None and (choice := _attaching(machine, there, capable)):
        return choice
    if asked is None:
        for each in attached:
            if each.works and (choice := _attaching(machine, each, capable)):
                return choice
    return _missing(machine, name) if there is None else _unusable(machine, there)


def _attaching(machine: Machine, attached: Attached, capable: bool) -> Choice | None:
    """`serve` on a device that is there; None where it can't."""
    device = attached.device
    if device.in_use or device.is_multi_queue or attached.error is not None:
        return None
    if not attached.tried and (node_cause(machine) or not (capable or device.lets_us_in())):
        return None
    words = [] if capable else _addresses_beside(device)  # who is capable gives the kernel what it lacks there
    if words is None:
        return None
    untried = "" if attached.tried else " (not tried: it would lose its flags)"
    return Choice(
        True, "persistent_device", f"attaches to {device.name}, {device.describe()}{untried}",
        _command(device.name, words),
    )  # fmt: skip


def _missing(machine: Machine, name: str) -> Choice:
    """There is no device of this name, and we can't make one."""
    cause = network_cause(machine)
    if cause is not None:
        return Choice(False, None, f"there is no {name}, and {cause.found}", fix=set_up(machine, name))
    cause = node_cause(machine)
    assert cause is not None, "one of the two has kept us from making a device"
    return Choice(False, None, cause.found, fix=cause.fix)


def _unusable(machine: Machine, attached: Attached) -> Choice:
    """Why not the device that is there."""
    device = attached.device
    if device.in_use:
        return Choice(False, None, f"a program uses {device.name}", fix=f"stop the program that uses {device.name}")
    if device.is_multi_queue:
        found = f"{device.name} has several queues, and serve takes one with a single queue"
        return Choice(False, None, found, fix=f"tcpstack serve --tun {free_name()}")
    if not attached.works:
        found, fix = attach_cause(machine, attached)
        return Choice(False, None, found, fix=fix)
    return Choice(False, None, f"{device.name} is {device.describe()}", fix=set_up(machine, device.name))


def _addresses_beside(device: TunInterface) -> list[str] | None:
    """The options of an unprivileged `serve` whose addresses fit the kernel's on the device; None where it has none
    to fit, or is down: to change that takes root."""
    if not device.up:
        return None
    try:
        if not kernel_addresses([ip_interface(address) for address in DEFAULT_ADDRESSES], device.addresses):
            return []
    except ValueError:
        pass  # what would be ours is the kernel's own there
    taken = {address.ip for address in device.addresses}
    found: dict[object, str] = {}
    for address in device.addresses:
        free = next((host for host in address.network.hosts() if host not in taken), None)
        if free is not None and not address.is_link_local:
            found.setdefault(address.network, f"--address {free}/{address.network.prefixlen}")
    return list(found.values()) or None


def _command(name: str, words: Sequence[str] = ()) -> str:
    return " ".join(["tcpstack serve", *([f"--tun {name}"] if name != DEFAULT_TUN else []), *words])
