"""What doctor says `run` and `serve` would do, which devices it touches, and how it prints what it found. The ways
themselves are tried in tests/kernel/test_cli_doctor.py."""

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
from tcpstack.device.base import DeviceError
from tests.cli.doctor_facts import ALL, DENIED, HERE, IDLE, machine, node

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
