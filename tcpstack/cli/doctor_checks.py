"""Each way to a device, tried for real. None makes an interface in the network namespace that doctor is in, and
what is made elsewhere is gone again when the check returns.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..device.base import DeviceError
from ..device.namespace import Namespace
from ..device.tun import TUN_NODE, TunDevice
from .doctor_devices import TunInterface, free_name, try_to_attach
from .doctor_machine import Machine
from .doctor_remedies import Cause, as_root, capability_cause, grant, namespace_cause, network_cause, node_cause

OK, NO, SKIPPED = "ok", "no", "skipped"

_TUNSETOFFLOAD = 0x400454D0  # <linux/if_tun.h>
_CSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
# Nothing goes without checksums, ECN not without either TSO, and the two kinds of USO not without each other.
_OFFLOADS = {
    "csum": _CSUM,
    "tso4": _CSUM | _TSO4,
    "tso6": _CSUM | _TSO6,
    "tso_ecn": _CSUM | _TSO4 | _TSO6 | _TSO_ECN,
    "uso": _CSUM | _USO4 | _USO6,
}
_FEATURES = {"vnet_hdr": 0x4000, "multi_queue": 0x0100}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a device. status is OK, NO or SKIPPED (it does not apply here); fix is there where it is NO."""

    name: str
    status: str
    tried: str
    found: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A private namespace with a device that was made and closed.

    error            why there was none
    rootless         whether a user namespace was around it
    fallback_reason  why it had a veth pair although a TUN device would have been preferred
    offload          what a TUN device in it took over of what it was asked to
    """

    error: OSError | None = None
    rootless: bool = False
    fallback_reason: str | None = None
    offload: Mapping[str, bool] = field(default_factory=dict)


    @property
    def device(self) -> str:
        """What kind it was."""
        return "tun" if self.offload else "veth"


def try_namespace(device: str | None = None, rootless: bool | None = None, *, known: Trial | None = None) -> Trial:
    """Make a namespace with a device as `run` does, and end it; the arguments are those of `Namespace.open`. Where
    `known` was a success with the very same, it is not repeated."""
    if known is not None and known.error is None and (known.device, known.rootless) == (device, rootless):
        return known
    try:
        with Namespace.open(device=device, rootless=rootless) as namespace:
            end = namespace.device
            offload = _offload(end.fileno()) if isinstance(end, TunDevice) else {}
            return Trial(None, namespace.rootless, namespace.fallback_reason, offload)
    except OSError as error:
        return Trial(error)


def _offload(fd: int) -> dict[str, bool]:
    """What a TUN device can take over, by TUNSETOFFLOAD: which needs no privilege once it is open."""
    taken = {}
    for name, bits in _OFFLOADS.items():
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, bits)
        except OSError:
            taken[name] = False
        else:
            taken[name] = True
    return taken


def driver_features(machine: Machine) -> dict[str, bool]:
    """What the driver itself can do, as TUNGETFEATURES on the node said."""
    return {name: bool(machine.node.features & bit) for name, bit in _FEATURES.items()}


def root_way(machine: Machine, trial: Trial) -> Way:
    """CAP_SYS_ADMIN and CAP_NET_ADMIN: a network namespace, with the device in it."""
    tried = "unshare --net"
    found = "a network namespace and a TUN device in it were made, and are gone again"
    return _namespace_way("root", tried, found, machine, trial, rootless=False)


def user_namespace_way(machine: Machine, trial: Trial) -> Way:
    """No privilege: a user namespace, and a network namespace with the device in it."""
    tried = "unshare --user --net"
    found = "a user namespace and a TUN device in it were made, and are gone again"
    return _namespace_way("user_namespace", tried, found, machine, trial, rootless=True)


def veth_way(machine: Machine, trial: Trial) -> Way:
    """No TUN device: a veth pair instead, and a packet socket at its end."""
    rootless = needs_user_namespace(machine)
    tried = f"unshare {'--user ' if rootless else ''}--net"
    found = "a namespace and a veth pair with a packet socket in it were made, and are gone again"
    return _namespace_way("veth", tried, found, machine, trial, rootless, tun=False)


def needs_user_namespace(machine: Machine) -> bool:
    """Whether `Namespace.open`, left to itself, puts a user namespace around."""
    return bool(machine.lacks("CAP_NET_ADMIN", "CAP_SYS_ADMIN"))


def _namespace_way(
    name: str, tried: str, found: str, machine: Machine, trial: Trial, rootless: bool, tun: bool = True
) -> Way:
    if trial.error is None:
        return Way(name, OK, tried, found)
    return Way(name, NO, tried, *namespace_cause(machine, trial.error, rootless=rootless, tun=tun))


def cap_net_admin_way(machine: Machine) -> Way:
    """CAP_NET_ADMIN: a new device in the network namespace that we are in. Not tried to the end: that would show."""
    tried = f"opening {TUN_NODE}, asking whether CAP_NET_ADMIN counts in this network namespace; no device was made"
    cause = network_cause(machine) or node_cause(machine)
    if cause is not None:
        return Way("cap_net_admin", NO, tried, *cause)
    return Way("cap_net_admin", OK, tried, "a TUN device may be made here")


def container_way(machine: Machine) -> Way:
    """A container that was given the device and CAP_NET_ADMIN."""
    tried = "looking for the marks of a container"
    if machine.container is None:
        return Way("container", SKIPPED, tried, "this is no container")
    tried += f", opening {TUN_NODE}"
    lacking = machine.lacks("CAP_NET_ADMIN")
    node = node_cause(machine)
    if node is None and not lacking:
        return Way("container", OK, tried, f"this one ({machine.container}) was given {TUN_NODE} and CAP_NET_ADMIN")
    cause = capability_cause(machine, "CAP_NET_ADMIN")
    if cause is not None and node is not None:
        return Way("container", NO, tried, f"{cause.found}, and {node.found}", cause.fix)
    missing = cause or node
    assert missing is not None
    return Way("container", NO, tried, *missing)


@dataclass(frozen=True, slots=True)
class Attached:
    """A device that is there, whether it was tried to attach to it, and what came of that."""

    device: TunInterface
    tried: bool
    error: DeviceError | None = None

    @property
    def works(self) -> bool:
        """Whether we have been attached to it."""
        return self.tried and self.error is None


def attach_to_each(devices: Sequence[TunInterface], name: str) -> list[Attached]:
    """Try those of the devices that are this user's, and `name`, which `serve` would take: but none that a program
    uses, or that would not be afterwards what it was before."""
    attached = []
    for device in devices:
        wanted = device.is_ours() or device.name == name
        tried = wanted and device.persistent and device.is_plain and not device.in_use
        attached.append(Attached(device, tried, try_to_attach(device) if tried else None))
    return attached


def persistent_device_way(machine: Machine, attached: Sequence[Attached]) -> Way:
    """A device that root made for this user (setup_tun.sh does)."""
    names = ", ".join(each.device.name for each in attached if each.tried)
    tried = "asking netlink for TUN devices" + (f", attaching to {names}" if names else "")
    working = [each.device for each in attached if each.works]
    # To bring one up, or give the kernel an address on it, takes more than to attach.
    capable = network_cause(machine) is None
    ready = [device for device in working if capable or (device.up and device.addresses)]
    if ready:
        found = "; ".join(f"{device.name} can be attached to ({device.describe()})" for device in ready)
        return Way("persistent_device", OK, tried, found)
    if working:
        [device, *_] = working
        found = f"{device.name} can be attached to, but is {device.describe()}"
        return Way("persistent_device", NO, tried, found, set_up(machine, device.name))
    return Way("persistent_device", NO, tried, *_device_cause(machine, attached))


def _device_cause(machine: Machine, attached: Sequence[Attached]) -> Cause:
    for each in attached:
        if each.error is not None:
            return attach_cause(machine, each)
    busy = next((each.device.name for each in attached if each.device.is_ours() and each.device.in_use), None)
    if busy is not None:
        return Cause(f"{busy} is user {machine.user}'s, and a program uses it", f"stop the program that uses {busy}")
    others = ", ".join(each.device.name for each in attached)
    found = f"no TUN device here is user {machine.user}'s{f' (but there is {others})' if others else ''}"
    return Cause(found, set_up(machine))


def attach_cause(machine: Machine, attached: Attached) -> Cause:
    """Why attaching failed, or was not tried with an idle device."""
    device, error = attached.device, attached.error
    if cause := node_cause(machine):
        return Cause(f"{device.name} is there, but {cause.found}", cause.fix)
    if error is None or error.errno == errno.EPERM:
        # Not to be taken from its owner.
        fix = set_up(machine, free_name(), elsewhere=bool(device.addresses))
        return Cause(f"{device.name} belongs to another user", fix)
    problem, _, remedy = (error.strerror or str(error)).partition(": ")
    return Cause(problem, remedy)


def set_up(machine: Machine, name: str = "tun0", *, elsewhere: bool = False) -> str:
    """The command that makes a persistent device for this user, `elsewhere` with other addresses than the usual."""
    if machine.container is not None and machine.out_of_reach("CAP_NET_ADMIN"):
        return grant(machine, device=node_cause(machine) is not None, capabilities=("CAP_NET_ADMIN",))
    words = [f"./setup_tun.sh up {name}"]
    if machine.uid != 0:
        words.append(f"--user {machine.user}")
    if elsewhere:
        words.append("--address 10.10.0.1/24 --address fd0a::1/64")
    return as_root(machine, " ".join(words))
