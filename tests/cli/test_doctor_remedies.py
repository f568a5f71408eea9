"""What doctor takes for the cause of what it finds, where that can't be had on every machine, and what it says is to
be done about it."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from tcpstack.cli import doctor_checks as checks
from tcpstack.cli.doctor_machine import Machine, Node, container_kind, look, look_at_node
from tcpstack.cli.doctor_remedies import capability_cause, grant, namespace_cause, network_cause, node_cause
from tcpstack.device.base import DeviceError
from tcpstack.device.namespace import _unshare_error
from tests.cli.doctor_facts import ALL, DENIED, HERE, SUDO, machine, node

# /dev/net/tun

ABSENT = node(errno=errno.ENOENT, mode=None)


@pytest.mark.parametrize(
    ("found", "here", "fix"),
    [
        ("there is no /dev/net/tun, and the kernel has not loaded its driver",
         machine(node=ABSENT, has_driver=False), "sudo modprobe tun"),
        ("there is no /dev/net/tun, and the kernel has not loaded its driver",
         machine(node=ABSENT, has_driver=False, uid=0), "modprobe tun"),
        ("the modules of the running kernel, 6.1.0, are not installed",
         machine(node=ABSENT, has_driver=False, has_modules=False), "reboot"),
        ("/dev/net/tun has no driver behind it",
         machine(node=node(errno=errno.ENODEV), has_driver=False), "sudo modprobe tun"),
        ("there is no /dev/net/tun, though the kernel has its driver", machine(node=ABSENT),
         "sudo mkdir -p /dev/net && sudo mknod -m 0666 /dev/net/tun c 10 200"),
        ("there is no /dev/net/tun", machine(node=ABSENT, container="docker"), "docker run --device /dev/net/tun ..."),
        ("has not loaded its driver", machine(node=ABSENT, has_driver=False, container="podman"),
         "modprobe tun  (as root outside the container), then podman run --device /dev/net/tun ..."),
        ("user ann may not open /dev/net/tun (mode 0600)", machine(node=node(errno=errno.EACCES, mode=0o600)),
         "sudo chmod 0666 /dev/net/tun"),
        ("/dev/net/tun lies on /dev, which is mounted so that no device works on it (nodev)",
         machine(node=node(errno=errno.EACCES, nodev="/dev")), "sudo mount -o remount,dev /dev"),
        ("the device cgroup that this process is in denies /dev/net/tun", machine(node=node(errno=errno.EPERM)),
         "DeviceAllow=/dev/net/tun rw  (in the systemd unit that this runs in)"),
        ("the device cgroup that this process is in denies /dev/net/tun",
         machine(node=node(errno=errno.EPERM), container="docker"), "docker run --device /dev/net/tun ..."),
        ("is not the node of the TUN driver", machine(node=node(is_right=False), uid=0),
         "rm -r /dev/net/tun && mkdir -p /dev/net && mknod -m 0666 /dev/net/tun c 10 200"),
        ("is not the node of the TUN driver", machine(node=node(is_right=False), container="docker"),
         "docker run --device /dev/net/tun ..."),
        ("/dev/net/tun can't be opened (EMFILE)", machine(node=node(errno=errno.EMFILE)), "sudo modprobe tun"),
    ],
)  # fmt: skip
def test_node_that_can_not_be_opened_has_a_cause_and_a_fix(found: str, here: Machine, fix: str) -> None:
    cause = node_cause(here)
    assert cause is not None
    assert found in cause.found
    assert cause.fix == fix


def test_node_that_opens_has_none() -> None:
    assert node_cause(HERE) is None


def test_look_at_node_tells_absent_from_wrong_from_right(tmp_path: Path) -> None:
    wrong = tmp_path / "tun"
    wrong.touch(mode=0o640)
    assert look_at_node(str(tmp_path / "absent")) == Node(errno.ENOENT, None, True, None, 0)
    found = look_at_node(str(wrong))
    assert (found.mode, found.is_right) == (0o640, False)
    assert not look_at_node(str(tmp_path)).is_right  # what docker makes of -v /dev/net/tun where there is none
    assert not look_at_node("/dev/null").is_right


# Capabilities

@pytest.mark.parametrize(
    ("here", "fix"),
    [
        (machine(), SUDO),
        (machine(container="docker"), SUDO),
        (machine(container="docker", bounding=0), "docker run --cap-add NET_ADMIN --cap-add SYS_ADMIN ..."),
        (machine(container="docker", bounding=0, node=ABSENT, uid=0),
         "docker run --device /dev/net/tun --cap-add NET_ADMIN --cap-add SYS_ADMIN ..."),
        (machine(uid=0, bounding=0), "CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN  (in the systemd unit that this"
         " runs in)"),
    ],
)  # fmt: skip
def test_missing_capability_is_got_from_whoever_has_it(here: Machine, fix: str) -> None:
    cause = capability_cause(here, "CAP_NET_ADMIN", "CAP_SYS_ADMIN")
    assert cause is not None
    assert cause.found == "user ann lacks CAP_NET_ADMIN and CAP_SYS_ADMIN"
    assert cause.fix == fix


def test_capability_that_is_there_but_not_for_this_network_namespace_does_not_count() -> None:
    assert network_cause(machine(capabilities=ALL)) is None
    cause = network_cause(machine(capabilities=ALL, rules_network=False))
    assert cause is not None
    assert cause.fix.startswith("unshare --net")


def test_only_what_is_lacking_is_named() -> None:
    cause = capability_cause(machine(capabilities=1 << 12), "CAP_NET_ADMIN", "CAP_SYS_ADMIN")
    assert cause is not None
    assert cause.found == "user ann lacks CAP_SYS_ADMIN"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("docker", "docker run --device /dev/net/tun --cap-add NET_ADMIN ..."),
        ("podman", "podman run --device /dev/net/tun --cap-add NET_ADMIN ..."),
        ("containerd", "docker run --device /dev/net/tun --cap-add NET_ADMIN ..."),
        ("kubernetes", "securityContext: {privileged: true}  (in the pod's manifest)"),
        ("lxc", "lxc config device add CONTAINER tun unix-char path=/dev/net/tun"),
        ("systemd-nspawn", "systemd-nspawn --bind=/dev/net/tun --capability=CAP_NET_ADMIN ..."),
    ],
)
def test_each_engine_is_told_in_its_own_words(kind: str, told: str) -> None:
    assert grant(machine(container=kind), device=True, capabilities=("CAP_NET_ADMIN",)) == told


# Namespaces

@pytest.mark.parametrize(
    ("switch", "off", "who"),
    [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "AppArmor"),
        ("kernel.unprivileged_userns_clone", "0", "the kernel"),
    ],
)
def test_switch_against_user_namespaces_is_the_cause(switch: str, off: str, who: str) -> None:
    here = machine(sysctls={switch: off, "user.max_user_namespaces": "9"})
    cause = namespace_cause(here, DENIED, rootless=True)
    assert cause.found == f"{who} keeps user namespaces from ordinary users ({switch} is {off})"
    assert cause.fix == f"sudo sysctl {switch}={1 - int(off)}"
    on = machine(sysctls={switch: str(1 - int(off))})
    assert namespace_cause(on, DENIED, rootless=True).found == "this process may not make a user namespace"


@pytest.mark.parametrize(
    ("here", "error", "rootless", "found", "fix"),
    [
        (machine(has_unshare=False), DeviceError(errno.ENOENT, "there is no program unshare: ..."), True,
         "there is no program unshare", "install the package util-linux"),
        (HERE, DeviceError(errno.EINVAL, "no namespace (unshare: unrecognized option '--keep-caps')"), True,
         "this unshare is too old", "install util-linux 2.36 or later"),
        (machine(sysctls={"user.max_user_namespaces": "0"}), DeviceError(errno.ENOSPC, "no more"), True,
         "no more namespaces can be made: user.max_user_namespaces is 0", "sudo sysctl user.max_user_namespaces=15000"),
        (machine(uid=0, capabilities=ALL, sysctls={"user.max_user_namespaces": "0", "user.max_net_namespaces": "0"}),
         DeviceError(errno.ENOSPC, "no more"), False,
         "user.max_net_namespaces is 0", "sysctl user.max_net_namespaces=15000"),
        (HERE, DENIED, False, "user ann lacks CAP_NET_ADMIN and CAP_SYS_ADMIN", SUDO),
        (machine(container="docker"), DENIED, True, "docker's system call filter forbids it",
         "docker run --device /dev/net/tun --security-opt seccomp=unconfined ..."),
        (machine(container="kubernetes"), DENIED, True, "may not make a user namespace",
         "securityContext: {privileged: true}  (in the pod's manifest)"),
        (machine(uid=0, capabilities=ALL), DENIED, False, "may not make a network namespace, though it is root's",
         "run it outside the sandbox that forbids it"),
        (HERE, DENIED, True, "may not make a user namespace", SUDO),
        (machine(node=ABSENT), DeviceError(errno.ENOENT, "there is no /dev/net/tun: ..."), True,
         "there is no /dev/net/tun, though", "sudo mkdir"),
        (HERE, DeviceError(errno.EBUSY, "tun0 is taken: take tun1"), True, "tun0 is taken", "take tun1"),
        (machine(node=ABSENT), _unshare_error("unshare: failed to execute /x/python3: Permission denied", True),
         True, f"this user may not execute this Python in a namespace ({sys.executable}, Permission denied)",
         "install tcpstack for a Python that everybody may execute"),
        (HERE, DeviceError(errno.EINVAL, "no namespace (unshare: who: knows)"), True,
         "no namespace (unshare: who: knows)", SUDO),
        (HERE, DeviceError(errno.EIO, "something odd"), True, "something odd", SUDO),
    ],
)  # fmt: skip
def test_error_of_a_namespace_has_a_cause_and_a_fix(
    here: Machine, error: OSError, rootless: bool, found: str, fix: str
) -> None:
    cause = namespace_cause(here, error, rootless=rootless)
    assert found in cause.found
    assert cause.fix.startswith(fix)


def test_veth_pair_is_not_blamed_on_the_node() -> None:
    error = DeviceError(errno.EOPNOTSUPP, "this kernel has no veth pairs: load their driver with `modprobe veth`")
    cause = namespace_cause(machine(node=ABSENT), error, rootless=True, tun=False)
    assert cause == ("this kernel has no veth pairs", "load their driver with `modprobe veth`")


# Containers

@pytest.mark.parametrize(
    ("mark", "text", "kind"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", 'engine="podman-4.3.1"', "podman"),
        ("run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("run/systemd/container", "wsl\n", None),
        ("proc/1/cgroup", "0::/docker/abc\n", "docker"),
        ("proc/1/cgroup", "0::/machine.slice/libpod-abc.scope\n", "podman"),
        ("proc/1/cgroup", "0::/kubepods.slice/x\n", "kubernetes"),
        ("proc/1/cgroup", "0::/init.scope\n", None),
        ("etc/hostname", "docker\n", None),
    ],
)
def test_container_is_known_by_its_mark(tmp_path: Path, mark: str, text: str, kind: str | None) -> None:
    place = tmp_path / mark
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    assert container_kind(tmp_path, {}) == kind
    assert container_kind(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == "kubernetes"


def test_container_row_tells_what_the_container_was_not_given() -> None:
    assert checks.container_way(HERE).status == "skipped"
    assert checks.container_way(machine(container="docker", capabilities=ALL)).status == "ok"
    way = checks.container_way(machine(container="docker", bounding=0, node=ABSENT))
    assert way.status == "no"
    assert way.found == "user ann lacks CAP_NET_ADMIN, and there is no /dev/net/tun"
    assert way.fix == "docker run --device /dev/net/tun --cap-add NET_ADMIN ..."
    only_node = checks.container_way(machine(container="docker", capabilities=ALL, node=ABSENT))
    assert only_node.fix == "docker run --device /dev/net/tun ..."


def test_look_agrees_with_the_kernel_about_this_process() -> None:
    here = look()
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert here.uid == int(status["Uid"].split()[1])
    assert here.lacks("CAP_NET_ADMIN") == (() if int(status["CapEff"], 16) >> 12 & 1 else ("CAP_NET_ADMIN",))
    assert here.node == look_at_node("/dev/net/tun")
