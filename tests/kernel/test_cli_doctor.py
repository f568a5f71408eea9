"""`tcpstack doctor` on machines that are as each finding wants them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tcpstack.cli.doctor_arguments import EPILOG
from tcpstack.cli.doctor_machine import container_kind
from tests.kernel.doctors import DOCTOR, PROJECT, as_nobody, environment, findings, only, shell

CONTAINER = container_kind(Path("/"), os.environ)
OFFLOADS = ["vnet_hdr", "multi_queue", "csum", "tso4", "tso6", "tso_ecn", "uso"]
SUDO = "run it as root: put `sudo` before the command"


def fixed_by(way: dict[str, Any], command: str) -> bool:
    assert way["status"] == "no"
    return bool(way["fix"] == command)


# Where everything works

def test_root_has_every_way_and_the_kernels_offload_is_listed() -> None:
    done = shell("$DOCTOR --json")
    report = only(done)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("root", "cap_net_admin", "user_namespace", "veth"):
        assert (report[name]["status"], report[name]["fix"]) == ("ok", None)
    assert report["container"]["status"] == ("ok" if CONTAINER else "skipped")
    assert report["persistent_device"]["fix"] == "./setup_tun.sh up tun0"
    assert (report["run"]["way"], report["serve"]["way"]) == ("root", "cap_net_admin")
    assert list(report["offload"]) == OFFLOADS
    assert report["offload"]["csum"]
    assert report["offload"]["tso4"]


def test_what_run_and_serve_are_said_to_do_they_do() -> None:
    report = only(shell("$DOCTOR --json"))
    script = """
    tcpstack() { "$PYTHON" -P -m tcpstack "$@"; }
    $RUN --silent --output /dev/null --write-out '%{http_code}\n'
    mkfifo "$SAID"; "$PYTHON" -P -m $SERVE 2> "$SAID" >&2 & read -r line < "$SAID"
    ip -brief address show dev tun0 | grep -o 10.9.0.1/24
    kill $!; wait $!; echo $?
    """
    commands = {"RUN": report["run"]["command"], "SERVE": report["serve"]["command"]}
    done = shell("mount -t tmpfs tmpfs /mnt;" + script, PYTHON=sys.executable, SAID="/mnt/said", **commands)
    assert done.stdout.splitlines() == ["200", "10.9.0.1/24", "0"], done.stderr


def test_text_is_plain_without_and_with_a_terminal() -> None:
    done = shell("$DOCTOR")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert [line[:19].rstrip() for line in done.stdout.splitlines() if line.startswith("  ok")][:2] == [
        "  ok  root", "  ok  CAP_NET_ADMIN"
    ]  # fmt: skip
    ours, theirs = pty.openpty()
    try:
        status = subprocess.run(
            ["unshare", "-mn", *DOCTOR], cwd=PROJECT, env=environment(), stdin=theirs, stdout=theirs, timeout=60
        ).returncode
        assert status == 0
        assert b"\x1b" not in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)


def test_examples_of_the_help_work() -> None:
    examples = [line.strip() for line in EPILOG.splitlines() if line.startswith("  tcpstack doctor")]
    script = 'tcpstack() { "$PYTHON" -P -m tcpstack "$@"; }; set -e;'
    first, second = (re.sub(r"  +the exit status.*", "", example) for example in examples)
    done = shell(f"{script} {first} >/dev/null; {second}", PYTHON=sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tcpstack run -- curl http://10.9.0.2/\n", "")


# Nobody

def test_nobody_whose_node_is_closed_gets_the_veth_pair_and_the_chmod_that_opens_it() -> None:
    done = as_nobody("0600", "doctor --json; chmod 0666 /dev/net/tun; doctor --json")
    closed, opened = findings(done)
    assert fixed_by(closed["user_namespace"], "sudo chmod 0666 /dev/net/tun")
    assert closed["user_namespace"]["found"] == "user nobody may not open /dev/net/tun (mode 0600)"
    assert (closed["veth"]["status"], closed["run"]["works"], closed["run"]["way"]) == ("ok", True, "veth")
    assert closed["run"]["does"].endswith("a veth pair in it, since this user may not open /dev/net/tun")
    assert closed["offload"] is None
    for name in ("root", "cap_net_admin"):
        assert fixed_by(closed[name], SUDO)
        assert fixed_by(opened[name], SUDO)
    assert opened["user_namespace"]["status"] == "ok"
    assert (opened["run"]["works"], opened["run"]["way"]) == (True, "user_namespace")
    assert list(opened["offload"]) == OFFLOADS
    assert (opened["uid"], opened["user"]) == (65534, "nobody")


def test_nobody_can_serve_after_the_fix_that_serve_is_given() -> None:
    fix = "./setup_tun.sh up tun0 --user nobody"
    before, after = findings(as_nobody("0666", f"doctor --json; (cd /mnt/project; {fix} >&2); doctor --json"))
    assert before["serve"]["fix"] == before["persistent_device"]["fix"] == f"sudo {fix}"
    assert after["persistent_device"]["status"] == "ok"
    assert after["persistent_device"]["tried"].endswith("attaching to tun0")
    assert (after["serve"]["works"], after["serve"]["way"]) == (True, "persistent_device")
    assert after["serve"]["command"] == "tcpstack serve"


# The node

def test_missing_node_is_named_and_run_falls_back() -> None:
    report = only(shell("mount -t tmpfs tmpfs /dev/net; $DOCTOR --json"))
    for name in ("root", "cap_net_admin", "user_namespace"):
        assert report[name]["found"].startswith("there is no /dev/net/tun")
        assert ("--device /dev/net/tun" if CONTAINER else "mknod -m 0666 /dev/net/tun c 10 200") in report[name]["fix"]
    assert (report["run"]["works"], report["run"]["way"]) == (True, "veth")
    assert not report["serve"]["works"]
    assert report["serve"]["fix"] == report["cap_net_admin"]["fix"]


def test_node_that_was_made_by_hand_as_a_file_is_told_from_the_drivers() -> None:
    report = only(shell("mount -t tmpfs tmpfs /dev/net; touch /dev/net/tun; $DOCTOR --json"))
    assert report["cap_net_admin"]["found"] == "/dev/net/tun is there, but is not the node of the TUN driver"


def test_node_on_a_mount_without_devices_is_opened_by_the_remount_that_is_told() -> None:
    script = (
        "mount -t tmpfs -o nodev tmpfs /dev/net; mknod -m 0666 /dev/net/tun c 10 200; $DOCTOR --json;"
        "mount -o remount,dev /dev/net; $DOCTOR --json"
    )
    closed, opened = findings(shell(script))
    assert fixed_by(closed["root"], "mount -o remount,dev /dev/net")
    assert fixed_by(closed["cap_net_admin"], "mount -o remount,dev /dev/net")
    assert opened["root"]["status"] == opened["cap_net_admin"]["status"] == "ok"


# Namespaces and capabilities

# CAP_SETFCAP stays: without it the kernel lets nobody map uid 0 into a user namespace.
UNCAPABLE = "setpriv --bounding-set=-all,+setfcap --inh-caps=-all"


def test_limit_of_user_namespaces_is_lifted_by_the_sysctl_that_is_told() -> None:
    """As in a user namespace of root's, where the limit is its own."""
    limit = "/proc/sys/user/max_user_namespaces"
    script = f"echo 0 > {limit}; {UNCAPABLE} $DOCTOR --json; echo 15000 > {limit}; {UNCAPABLE} $DOCTOR --json"
    done = shell(script, private="-Urmn")
    closed, opened = findings(done)
    for name in ("user_namespace", "veth", "run"):
        assert closed[name]["fix"] == "sysctl user.max_user_namespaces=15000"
    assert closed["user_namespace"]["found"] == "no more namespaces can be made: user.max_user_namespaces is 0"
    assert not closed["run"]["works"]
    assert (opened["user_namespace"]["status"], opened["run"]["works"]) == ("ok", True)


def test_status_is_1_where_run_does_not_work() -> None:
    done = shell(f"echo 0 > /proc/sys/user/max_user_namespaces; {UNCAPABLE} $DOCTOR", private="-Urmn")
    assert done.returncode == 1
    assert "  no  tcpstack run " in done.stdout


def test_root_without_capabilities_is_told_who_has_to_give_them() -> None:
    report = only(shell(f"{UNCAPABLE} $DOCTOR --json"))
    assert report["root"]["found"] == "user root lacks CAP_NET_ADMIN and CAP_SYS_ADMIN"
    assert ("--cap-add NET_ADMIN" if CONTAINER else "CapabilityBoundingSet=CAP_NET_ADMIN") in report["root"]["fix"]
    assert report["user_namespace"]["status"] == "ok"
    assert (report["run"]["works"], report["run"]["way"]) == (True, "user_namespace")


def test_container_that_was_not_given_the_capability_is_told_the_option() -> None:
    done = shell(f"{UNCAPABLE} $DOCTOR --json", KUBERNETES_SERVICE_HOST="192.0.2.1")
    way = only(done)["container"]
    assert (way["status"], way["fix"]) == ("no", "securityContext: {privileged: true}  (in the pod's manifest)")


def test_capability_in_a_user_namespace_is_not_one_for_the_network_namespace_outside() -> None:
    report = only(shell("unshare --user --map-root-user $DOCTOR --json"))
    way = report["cap_net_admin"]
    assert way["status"] == "no"
    assert "but not for this network namespace" in way["found"]
    assert report["root"]["status"] == "ok"  # a network namespace of this user namespace's own


def test_missing_unshare_names_its_package_and_run_does_not_work(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    done = shell("PATH=$ONLY $DOCTOR --json", ONLY=str(tmp_path))
    report = only(done)
    assert done.returncode == 1
    for name in ("root", "user_namespace", "veth", "run"):
        assert report[name]["fix"] == "install the package util-linux"
    assert report["missing_programs"]["unshare"] == "util-linux"
    assert report["serve"]["works"]


def test_device_that_the_environment_asks_for_is_what_run_would_make() -> None:
    report = only(shell("$DOCTOR --json", TCPSTACK_DEVICE="veth"))
    assert (report["run"]["works"], report["run"]["way"]) == (True, "veth")
    assert report["root"]["status"] == "ok"
