"""What doctor concludes from what it finds, where that can't be had on every machine, and how it prints that. The
ways themselves are tried in tests/kernel/test_cli_doctor.py."""

from __future__ import annotations

import dataclasses
import errno
import json
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from tcpstack import cli
from tcpstack.cli import doctor as module
from tcpstack.cli import doctor_checks as checks
from tcpstack.cli.doctor import Report, doctor
from tcpstack.cli.doctor_checks import Attached, Trial, Way
from tcpstack.cli.doctor_choice import Choice, run_choice, serve_choice
from tcpstack.cli.doctor_devices import TunInterface
from tcpstack.cli.doctor_machine import Machine, Node, container_kind, look, look_at_node
from tcpstack.cli.doctor_remedies import capability_cause, grant, namespace_cause, network_cause, node_cause
from tcpstack.device.base import DeviceError

ALL = (1 << 12) | (1 << 21)
OPENS = Node(errno=0, mode=0o666, is_right=True, nodev=None, features=0x7173)
HERE = Machine(
    uid=1000, user="ann", kernel="6.1.0", capabilities=0, bounding=ALL, rules_network=True, has_driver=True,
    has_modules=True, has_unshare=True, container=None, node=OPENS, sysctls={},
)  # fmt: skip
DENIED = DeviceError(errno.EPERM, "this process may not make a user namespace: run as root")
SUDO = "run it as root: put `sudo` before the command"
IDLE = TunInterface(
    name="tun0", owner=1000, group=None, persistent=True, in_use=False, is_plain=True, is_multi_queue=False, up=True,
    mtu=1500, addresses=(ip_interface("10.9.0.1/24"), ip_interface("fd09::1/64")),
)  # fmt: skip


def machine(**changes: Any) -> Machine:
    return dataclasses.replace(HERE, **changes)


def node(**changes: Any) -> Node:
    return dataclasses.replace(OPENS, **changes)


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


# What run and serve would do

CAPABLE = Way("cap_net_admin", "ok", "", "")
INCAPABLE = Way("cap_net_admin", "no", "", "", "fix")


@pytest.mark.parametrize(
    ("trial", "choice"),
    [
        (Trial(offload={"csum": True}), (True, "root", "makes a network namespace, and a TUN device in it")),
        (Trial(rootless=True, offload={"csum": False}), (True, "user_namespace", "makes a user namespace, and a TUN")),
        (Trial(rootless=True, fallback_reason="there is no /dev/net/tun"),
         (True, "veth", "makes a user namespace, and a veth pair in it, since there is no /dev/net/tun")),
        (Trial(DENIED), (False, None, "this process may not make a user namespace")),
    ],
)  # fmt: skip
def test_run_does_what_its_trial_did(trial: Trial, choice: tuple[bool, str | None, str]) -> None:
    found = run_choice(HERE, trial)
    assert (found.works, found.way) == choice[:2]
    assert found.does.startswith(choice[2])
    assert (found.command is None, found.fix is None) == (not found.works, found.works)


@pytest.fixture
def as_ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.getegid", lambda: 100)
    monkeypatch.setattr("os.getgroups", lambda: [100, 44])


def attached(error: DeviceError | None = None, tried: bool = True, **changes: Any) -> Attached:
    return Attached(dataclasses.replace(IDLE, **changes), tried, error)


@pytest.mark.usefixtures("as_ann")
@pytest.mark.parametrize(
    ("there", "asked", "command"),
    [
        (attached(), None, "tcpstack serve"),
        (attached(), "tun0", "tcpstack serve"),
        (attached(name="wire0"), None, "tcpstack serve --tun wire0"),
        (attached(name="wire0"), "wire0", "tcpstack serve --tun wire0"),
        (attached(addresses=(ip_interface("192.0.2.1/29"), ip_interface("fe80::7/64"))), None,
         "tcpstack serve --address 192.0.2.2/29"),
        (attached(addresses=(ip_interface("10.9.0.2/24"),)), None, "tcpstack serve --address 10.9.0.1/24"),
        (attached(tried=False, is_plain=False, owner=None, group=44), None, "tcpstack serve"),
    ],
)  # fmt: skip
def test_serve_without_capabilities_takes_an_idle_device_and_fits_its_addresses(
    there: Attached, asked: str | None, command: str
) -> None:
    choice = serve_choice(HERE, [there], INCAPABLE, asked)
    assert (choice.works, choice.way, choice.command, choice.fix) == (True, "persistent_device", command, None)


EPERM = DeviceError(errno.EPERM, "attaching takes CAP_NET_ADMIN: run as root")


@pytest.mark.usefixtures("as_ann")
@pytest.mark.parametrize(
    ("there", "asked", "does", "fix"),
    [
        (None, None, "there is no tun0, and user ann lacks CAP_NET_ADMIN", "sudo ./setup_tun.sh up tun0 --user ann"),
        (None, "x", "there is no x, and user ann lacks CAP_NET_ADMIN", "sudo ./setup_tun.sh up x --user ann"),
        (attached(name="wire0"), "tun9", "there is no tun9, and", "sudo ./setup_tun.sh up tun9 --user ann"),
        (attached(tried=False, in_use=True), None, "a program uses tun0", "stop the program that uses tun0"),
        (attached(tried=False, is_plain=False, is_multi_queue=True), None, "tun0 has several queues",
         "tcpstack serve --tun tun0"),
        (attached(up=False), None, "tun0 is down with 10.9.0.1/24", "sudo ./setup_tun.sh up tun0 --user ann"),
        (attached(addresses=(ip_interface("fe80::7/64"),)), None, "tun0 is up with fe80::7/64", "sudo ./setup_tun.sh"),
        (attached(EPERM, owner=0), None, "tun0 belongs to another user",
         "sudo ./setup_tun.sh up tun0 --user ann --address 10.10.0.1/24 --address fd0a::1/64"),
        (attached(tried=False, is_plain=False, owner=0, addresses=()), None, "tun0 belongs to another user",
         "sudo ./setup_tun.sh up tun0 --user ann"),
        (attached(DeviceError(errno.EIO, "tun0 is odd: hit it")), None, "tun0 is odd", "hit it"),
        (None, "lo", "lo is there, and is no TUN device", "tcpstack serve --tun tun0"),
    ],
)  # fmt: skip
def test_serve_that_would_not_work_says_why(there: Attached | None, asked: str | None, does: str, fix: str) -> None:
    choice = serve_choice(HERE, [there] if there else [], INCAPABLE, asked)
    assert (choice.works, choice.way, choice.command) == (False, None, None)
    assert choice.does.startswith(does)
    assert choice.fix is not None
    assert choice.fix.startswith(fix)


def test_serve_with_capabilities_makes_the_device_or_takes_it_as_it_is() -> None:
    here = machine(uid=0, capabilities=ALL)
    made = serve_choice(here, [], CAPABLE, "tun9")
    assert (made.works, made.way, made.command) == (True, "cap_net_admin", "tcpstack serve --tun tun9")
    taken = serve_choice(here, [attached(up=False, addresses=())], CAPABLE, None)
    assert (taken.works, taken.way, taken.command) == (True, "persistent_device", "tcpstack serve")


def test_serve_with_capability_but_no_node_says_what_is_wrong_with_the_node() -> None:
    here = machine(uid=0, capabilities=ALL, node=node(errno=errno.EACCES, nodev="/dev"))
    assert serve_choice(here, [], INCAPABLE, None).fix == "mount -o remount,dev /dev"
    way = checks.persistent_device_way(here, [attached(DeviceError(errno.EACCES, "denied"))])
    assert way.found.startswith("tun0 is there, but /dev/net/tun lies on /dev")


@pytest.mark.usefixtures("as_ann")
@pytest.mark.parametrize(
    ("owner", "group", "ours", "lets_us_in"),
    [
        (1000, None, True, True),
        (1000, 7, True, False),
        (None, 44, True, True),
        (None, 7, False, False),
        (None, None, False, True),
        (0, None, False, False),
        (0, 44, False, False),
    ],
)
def test_who_may_attach(owner: int | None, group: int | None, ours: bool, lets_us_in: bool) -> None:
    device = dataclasses.replace(IDLE, owner=owner, group=group)
    assert (device.is_ours(), device.lets_us_in()) == (ours, lets_us_in)


@pytest.mark.usefixtures("as_ann")
@pytest.mark.parametrize(
    ("changes", "tried"),
    [
        ({}, True),
        ({"name": "wire0"}, True),
        ({"owner": 0}, True),
        ({"owner": 0, "name": "wire0"}, False),
        ({"owner": None, "name": "wire0"}, False),
        ({"in_use": True}, False),
        ({"is_plain": False}, False),
        ({"persistent": False}, False),
    ],
)
def test_only_our_idle_devices_and_the_one_of_serve_are_attached_to(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], tried: bool
) -> None:
    touched: list[str] = []
    monkeypatch.setattr(checks, "try_to_attach", lambda device: touched.append(device.name))
    device = dataclasses.replace(IDLE, **changes)
    [found] = checks.attach_to_each([device], "tun0")
    assert (found.tried, touched) == (tried, [device.name] if tried else [])


# What is printed

WAYS = (
    Way("root", "no", "unshare --net", "user ann lacks CAP_SYS_ADMIN", "sudo " + "very " * 30 + "long"),
    Way("container", "skipped", "looking", "this is no container"),
)
REPORT = Report(
    machine=HERE,
    ways=WAYS,
    run=Choice(True, "user_namespace", "makes a user namespace", "tcpstack run -- curl http://10.9.0.2/"),
    serve=Choice(False, None, "there is no tun0", fix="sudo ./setup_tun.sh up"),
    offload={"csum": True, "uso": False},
    missing_programs={"tshark": "tshark"},
)


def test_text_marks_each_way_and_keeps_what_is_for_copying_in_one_line() -> None:
    lines = REPORT.as_text(80).splitlines()
    assert lines[0].endswith("Linux 6.1.0, as user ann")
    root = next(index for index, line in enumerate(lines) if line.startswith("  no  root  "))
    assert lines[root].endswith("user ann lacks CAP_SYS_ADMIN (tried: unshare --net)")
    assert lines[root + 1].strip() == f"fix: {WAYS[0].fix}"
    assert any(line.startswith("  -   container  ") for line in lines)
    assert any(line.startswith("  ok  tcpstack run  ") for line in lines)
    assert any(line.strip() == "try: tcpstack run -- curl http://10.9.0.2/" for line in lines)
    assert any(line.strip() == "fix: sudo ./setup_tun.sh up" for line in lines)
    assert lines[-2] == "offload (asked of a TUN device in a namespace of its own): csum; not uso"
    assert lines[-1] == "hint: the examples in the documentation also use tshark (package tshark)"
    assert all(len(line) <= 80 for line in lines if "fix:" not in line)


def test_text_says_when_offload_is_not_known_and_where_we_are() -> None:
    report = dataclasses.replace(REPORT, machine=machine(container="docker"), offload=None, missing_programs={})
    lines = report.as_text(100).splitlines()
    assert lines[0].endswith(", in a container (docker)")
    assert lines[-1].startswith("offload: not known")


def test_json_has_the_documented_keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "examine", lambda tun: REPORT)
    assert doctor(as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == 1
    assert printed["ways"][1] == {
        "name": "container", "status": "skipped", "tried": "looking", "found": "this is no container", "fix": None
    }  # fmt: skip
    assert printed["run"] == {
        "works": True, "way": "user_namespace", "does": "makes a user namespace",
        "command": "tcpstack run -- curl http://10.9.0.2/", "fix": None,
    }  # fmt: skip
    assert (printed["offload"], printed["missing_programs"]) == ({"csum": True, "uso": False}, {"tshark": "tshark"})
    assert cli.main(["doctor", "--help"]) == 0
    told = capsys.readouterr().out
    assert [key for key in (*printed, *printed["ways"][0], *printed["run"]) if key not in told] == []
    assert [name for name in module.WAY_TITLES if name not in told] == []


def test_status_is_that_of_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    broken = dataclasses.replace(REPORT, run=Choice(False, None, "nothing works", fix="try harder"))
    asked = []
    monkeypatch.setattr(module, "examine", lambda tun: asked.append(tun) or broken)
    assert cli.main(["doctor", "--tun", "tun7"]) == 1
    assert asked == ["tun7"]
    assert "  no  tcpstack run       nothing works\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "curl"], "doctor runs no command"),
        (["tun0"], "tun0"),
        (["--address", "x"], "--address"),
        (["--tun", "a/b"], "--tun: 'a/b' can't name an interface: use 1 to 15 octets"),
        (["--tun", ""], "--tun: '' can't name an interface"),
    ],
)
def test_mistake_is_named_with_status_2(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert cli.main(["doctor", *words]) == 2
    assert said in capsys.readouterr().err


def test_programs_are_looked_for_where_debian_keeps_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "PROGRAMS", {"no-such-program": "nothing", "sh": "dash"})
    (tmp_path / "sh").touch(mode=0o755)
    assert module._missing_programs() == {"no-such-program": "nothing"}


def test_look_agrees_with_the_kernel_about_this_process() -> None:
    here = look()
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert here.uid == int(status["Uid"].split()[1])
    assert here.lacks("CAP_NET_ADMIN") == (() if int(status["CapEff"], 16) >> 12 & 1 else ("CAP_NET_ADMIN",))
    assert here.node == look_at_node("/dev/net/tun")
