"""Why a way to a device is closed, and the one command or setting that opens it. Pure: what was read of the machine
and the error that was met go in, sentences come out.
"""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

from ..device.namespace import NOT_EXECUTABLE
from ..device.tun import TUN_NODE
from .doctor_machine import Machine

ENOUGH_NAMESPACES = 15000
SUDO = "run it as root: put `sudo` before the command"

_NO_SUCH_THING = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR)

# The switches that keep ordinary users from having user namespaces, each with the value that does so.
_SWITCHES = (("kernel.apparmor_restrict_unprivileged_userns", "1"), ("kernel.unprivileged_userns_clone", "0"))


class Cause(NamedTuple):
    """What was found, and what is to be done about it."""

    found: str
    fix: str


def node_cause(machine: Machine) -> Cause | None:
    """What is wrong with /dev/net/tun; None where it can be opened."""
    node = machine.node
    if not node.is_right:
        anew = f"rm -r {TUN_NODE} && {_make_node()}" if machine.container is None else None
        found = f"{TUN_NODE} is there, but is not the node of the TUN driver"
        return Cause(found, as_root(machine, anew) if anew else grant(machine, device=True))
    if node.errno == 0:
        return None
    if node.errno in _NO_SUCH_THING:
        return _missing_node(machine)
    if node.errno == errno.EPERM:  # not by its mode, which says EACCES: by the device cgroup
        found = f"the device cgroup that this process is in denies {TUN_NODE}"
        fix = f"DeviceAllow={TUN_NODE} rw  (in the systemd unit that this runs in)"
        return Cause(found, fix if machine.container is None else grant(machine, device=True))
    if node.nodev is not None:
        found = f"{TUN_NODE} lies on {node.nodev}, which is mounted so that no device works on it (nodev)"
        return Cause(found, as_root(machine, f"mount -o remount,dev {node.nodev}"))
    if node.errno == errno.EACCES:
        found = f"user {machine.user} may not open {TUN_NODE} (mode {node.mode or 0:04o})"
        return Cause(found, as_root(machine, f"chmod 0666 {TUN_NODE}"))
    return Cause(f"{TUN_NODE} can't be opened ({errno.errorcode.get(node.errno, node.errno)})", _modprobe(machine))


def _missing_node(machine: Machine) -> Cause:
    there = machine.node.mode is not None
    found = f"{TUN_NODE} has no driver behind it" if there else f"there is no {TUN_NODE}"
    if not machine.has_driver:
        if machine.container is None and not machine.has_modules:
            why = f"the modules of the running kernel, {machine.kernel}, are not installed (was it upgraded?)"
            return Cause(f"{found}, and {why}", "reboot")
        return Cause(f"{found}, and the kernel has not loaded its driver", _modprobe(machine))
    if machine.container is not None:
        return Cause(found, grant(machine, device=True))
    return Cause(f"{found}, though the kernel has its driver", as_root(machine, _make_node()))


def capability_cause(machine: Machine, *names: str) -> Cause | None:
    """Which of the capabilities this process lacks; None where it has all."""
    lacking = machine.lacks(*names)
    if not lacking:
        return None
    found = f"user {machine.user} lacks {' and '.join(lacking)}"
    if machine.uid != 0 and not machine.out_of_reach(*names):
        return Cause(found, SUDO)
    if machine.container is not None:
        return Cause(found, grant(machine, device=node_cause(machine) is not None, capabilities=lacking))
    return Cause(found, f"CapabilityBoundingSet={' '.join(names)}  (in the systemd unit that this runs in)")


def network_cause(machine: Machine) -> Cause | None:
    """Why no device can be made in this network namespace, as far as capabilities go; None where one can."""
    cause = capability_cause(machine, "CAP_NET_ADMIN")
    if cause is None and not machine.rules_network:
        found = "this process has CAP_NET_ADMIN, but not for this network namespace, which an outer user rules"
        return Cause(found, "unshare --net  (or `tcpstack run`, which does that)")
    return cause


def namespace_cause(machine: Machine, error: OSError, *, rootless: bool, tun: bool = True) -> Cause:
    """Why `Namespace.open` raised `error`, with a user namespace or without, a TUN device or a veth pair."""
    text = error.strerror or str(error)
    if not machine.has_unshare:
        return Cause("there is no program unshare", "install the package util-linux")
    if "unrecognized option" in text:
        return Cause(f"this unshare is too old ({text})", "install util-linux 2.36 or later")
    if error.errno == errno.ENOSPC:
        return _limit_cause(machine, rootless)
    if not rootless and (cause := capability_cause(machine, "CAP_NET_ADMIN", "CAP_SYS_ADMIN")):
        return cause
    if text.startswith(NOT_EXECUTABLE):
        return _as_told(text)
    if rootless and error.errno == errno.EPERM and (cause := _switch_cause(machine)):
        return cause
    if tun and (cause := node_cause(machine)):
        return cause
    if error.errno == errno.EPERM:
        return _denied_cause(machine, rootless)
    return _as_told(text)


def _as_told(text: str) -> Cause:
    """The problem and the remedy of a sentence, with a colon between them; one in parentheses is somebody else's."""
    told = re.fullmatch(r"((?:[^()]|\([^()]*\))+?): (.+)", text, re.DOTALL)
    return Cause(told[1], told[2]) if told else Cause(text, SUDO)


def _limit_cause(machine: Machine, rootless: bool) -> Cause:
    names = ("user.max_user_namespaces", "user.max_net_namespaces")[not rootless :]
    name = next((each for each in names if machine.sysctls.get(each) == "0"), names[0])
    found = f"no more namespaces can be made: {name} is {machine.sysctls.get(name, 'unknown')}"
    return Cause(found, as_root(machine, f"sysctl {name}={ENOUGH_NAMESPACES}"))


def _switch_cause(machine: Machine) -> Cause | None:
    for name, off in _SWITCHES:
        if machine.sysctls.get(name) == off:
            who = "AppArmor" if "apparmor" in name else "the kernel"
            found = f"{who} keeps user namespaces from ordinary users ({name} is {off})"
            return Cause(found, as_root(machine, f"sysctl {name}={1 - int(off)}"))
    return None


def _denied_cause(machine: Machine, rootless: bool) -> Cause:
    found = f"this process may not make a {'user' if rootless else 'network'} namespace"
    if machine.container in ("docker", "podman"):
        return Cause(f"{found}: {machine.container}'s system call filter forbids it", _UNFILTERED[machine.container])
    if machine.container is not None:
        return Cause(found, grant(machine, device=True, capabilities=("CAP_NET_ADMIN", "CAP_SYS_ADMIN")))
    if machine.uid == 0:
        return Cause(f"{found}, though it is root's", "run it outside the sandbox that forbids it")
    return Cause(found, SUDO)


_UNFILTERED = {
    engine: f"{engine} run --device {TUN_NODE} --security-opt seccomp=unconfined ..." for engine in ("docker", "podman")
}


def grant(machine: Machine, *, device: bool = False, capabilities: tuple[str, ...] = ()) -> str:
    """How whoever starts this container lets it have the device and the capabilities."""
    short = [name.removeprefix("CAP_") for name in capabilities]
    match machine.container:
        case "kubernetes":
            return "securityContext: {privileged: true}  (in the pod's manifest)"
        case "lxc" | "lxc-libvirt":
            return f"lxc config device add CONTAINER tun unix-char path={TUN_NODE}"
        case "systemd-nspawn":
            words = [f"--bind={TUN_NODE}"] * device + [f"--capability={','.join(capabilities)}"] * bool(capabilities)
            return f"systemd-nspawn {' '.join(words)} ..."
        case engine:
            words = [f"--device {TUN_NODE}"] * device + [f"--cap-add {name}" for name in short]
            return f"{engine if engine == 'podman' else 'docker'} run {' '.join(words)} ..."


def as_root(machine: Machine, command: str) -> str:
    """The command with what makes root of this user."""
    return command if machine.uid == 0 else " && ".join(f"sudo {part}" for part in command.split(" && "))


def _make_node() -> str:
    return f"mkdir -p /dev/net && mknod -m 0666 {TUN_NODE} c 10 200"


def _modprobe(machine: Machine) -> str:
    if machine.container is not None:
        return f"modprobe tun  (as root outside the container), then {grant(machine, device=True)}"
    return as_root(machine, "modprobe tun")
