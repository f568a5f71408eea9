"""`tcpstack doctor` on machines that are as each finding wants them: made of namespaces, which end with the test."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tcpstack.cli.doctor import examine
from tcpstack.cli.doctor_arguments import EPILOG
from tcpstack.cli.doctor_machine import container_kind

PROJECT = Path(__file__).parents[2]
DOCTOR = (sys.executable, "-P", "-m", "tcpstack", "doctor")
CONTAINER = container_kind(Path("/"), os.environ)
OFFLOADS = ["vnet_hdr", "multi_queue", "csum", "tso4", "tso6", "tso_ecn", "uso"]
SUDO = "run it as root: put `sudo` before the command"

# Where nobody can find Python, the package and what it needs, in a mount namespace that ends with the command. The
# node of the TUN driver is one of our own, of which `mode` says who may open it.
AS_NOBODY = """
set -e
mode=$1; shift
mount -t tmpfs tmpfs /mnt
mkdir /mnt/python /mnt/project /mnt/packages
mount --bind "$BASE" /mnt/python
mount --bind "$PROJECT" /mnt/project
mount --bind "$PACKAGES" /mnt/packages
mknod -m "$mode" /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
cd /
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
doctor() { nobody "/mnt/python/bin/$PYTHON" -P -m tcpstack doctor "$@"; }
eval "$1"
"""


def environment(**changes: str) -> dict[str, str]:
    packages = [path for path in sys.path if path.endswith("-packages")]
    paths = {"PYTHONPATH": os.pathsep.join([str(PROJECT), *packages])}
    return {**{key: value for key, value in os.environ.items() if key != "TCPSTACK_DEVICE"}, **paths, **changes}


def shell(script: str, *argv: str, private: str = "-mn", **env: str) -> subprocess.CompletedProcess[str]:
    """Run bash with `script` in namespaces of its own. $DOCTOR there is `tcpstack doctor`."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a machine of each kind")
    return subprocess.run(
        ["unshare", private, "bash", "-c", script, "bash", *argv],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
        env=environment(DOCTOR=" ".join(DOCTOR), **env),
    )  # fmt: skip


def as_nobody(mode: str, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `script` as root in a network namespace; `doctor` in it is nobody's, whose node has this mode."""
    packages = next(path for path in sys.path if path.endswith("-packages"))
    done = shell(
        AS_NOBODY, mode, script, BASE=sys.base_prefix, PROJECT=str(PROJECT), PACKAGES=packages,
        PYTHON=Path(sys.executable).resolve().name, PYTHONPATH="/mnt/project:/mnt/packages",
        LD_LIBRARY_PATH="/mnt/python/lib", **env,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def findings(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The reports on stdout, one after the other, each with the ways by name."""
    assert done.stdout, done.stderr
    decoder = json.JSONDecoder()
    text, reports = done.stdout, []
    while text.strip():
        report, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        reports.append({**report, **{way["name"]: way for way in report["ways"]}})
    return reports


def only(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    [report] = findings(done)
    return report


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


# Devices that are there

SHOW = "ip -details -oneline link show dev tun0"


def test_idle_device_of_ours_is_as_before_when_it_has_been_attached_to() -> None:
    script = f"./setup_tun.sh up >/dev/null; {SHOW} >&2; $DOCTOR --json; {SHOW} >&2"
    done = shell(script)
    report = only(done)
    before, after = done.stderr.splitlines()
    assert before == after
    assert report["persistent_device"]["found"].startswith("tun0 can be attached to (up with 10.9.0.1/24 and fd09::1")
    assert report["serve"]["way"] == "persistent_device"


def test_device_that_would_lose_its_flags_is_left_alone() -> None:
    done = shell(f"ip tuntap add tun0 mode tun vnet_hdr user root; {SHOW} >&2; $DOCTOR --json; {SHOW} >&2")
    report = only(done)
    before, after = done.stderr.splitlines()
    assert "vnet_hdr on" in before
    assert before == after
    assert report["persistent_device"]["tried"] == "asking netlink for TUN devices"
    assert "not tried" in report["serve"]["does"]


def test_device_in_use_is_not_disturbed() -> None:
    """The program that uses it gets its packets before, while and after doctor looks."""
    code = (
        "import socket, subprocess, sys\n"
        "from tcpstack.device.tun import TunDevice\n"
        "device = TunDevice.open('tun0')\n"
        "def crosses(text):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:\n"
        "        sender.sendto(text, ('10.9.0.2', 9))\n"
        "    return [packet.data()[-len(text):] for packet in device.receive(10, 0)] == [text]\n"
        "ok = crosses(b'before')\n"
        "subprocess.run(sys.argv[1:])\n"
        "sys.exit(not (ok and crosses(b'after')))\n"
    )
    done = shell('./setup_tun.sh up >/dev/null; "$PYTHON" -c "$CODE" $DOCTOR --json', CODE=code, PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    report = only(done)
    assert report["persistent_device"]["tried"] == "asking netlink for TUN devices"
    assert report["persistent_device"]["found"] == "tun0 is user root's, and a program uses it"
    assert (report["serve"]["works"], report["serve"]["fix"]) == (False, "stop the program that uses tun0")
    assert report["run"]["works"]


def test_device_of_another_user_is_not_attached_to_and_a_network_of_its_own_is_told() -> None:
    setup = "(cd /mnt/project; ./setup_tun.sh up >/dev/null)"
    own = "(cd /mnt/project; ./setup_tun.sh up tun1 --user nobody --address 10.10.0.1/24 --address fd0a::1/64 >&2)"
    before, after = findings(as_nobody("0666", f"{setup}; doctor --json; {own}; doctor --json"))
    assert before["serve"]["does"] == "tun0 belongs to another user"
    assert before["serve"]["fix"] == (
        "sudo ./setup_tun.sh up tun1 --user nobody --address 10.10.0.1/24 --address fd0a::1/64"
    )
    assert after["serve"]["command"] == (
        "tcpstack serve --tun tun1 --address 10.10.0.2/24 --address fd0a::2/64"
    )


def test_device_of_ours_that_is_down_takes_root_to_come_up() -> None:
    setup = "(cd /mnt/project; ./setup_tun.sh up --user nobody >/dev/null; ip link set tun0 down)"
    report = only(as_nobody("0666", f"{setup}; doctor --json"))
    assert fixed_by(report["persistent_device"], "sudo ./setup_tun.sh up tun0 --user nobody")
    assert report["serve"]["fix"] == "sudo ./setup_tun.sh up tun0 --user nobody"


def test_interface_that_is_no_tun_and_a_tun_with_several_queues_are_refused() -> None:
    script = "ip tuntap add mq0 mode tun multi_queue; $DOCTOR --json --tun mq0; $DOCTOR --json --tun lo"
    several, loopback = findings(shell(script))
    assert several["serve"]["does"].startswith("mq0 has several queues")
    assert loopback["serve"]["does"] == "lo is there, and is no TUN device"


# What stays behind

def processes_of(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we looked
            if int(after_name[3]) == session and after_name[0] != "Z":
                found.append(int(entry.name))
    return found


def test_no_interface_is_made_where_doctor_runs() -> None:
    """Interfaces are numbered in a row: the next one has the number after ours."""
    new = "ip link add {0} type veth peer name {0}p; ip -json link show dev {0} >&2"
    done = shell(f"{new.format('v1')}; $DOCTOR --json; {new.format('v2')}; ip -json link >&2")
    assert only(done)["root"]["status"] == "ok"
    [first], [second], all_of_them = map(json.loads, done.stderr.splitlines())
    assert second["ifindex"] == first["ifindex"] + 2
    assert {link["ifname"] for link in all_of_them} == {"lo", "v1", "v1p", "v2", "v2p"}


def test_no_process_and_no_interface_stays_behind() -> None:
    before = socket.if_nameindex()
    process = subprocess.Popen(
        [*DOCTOR, "--json"], cwd=PROJECT, env=environment(), stdout=subprocess.PIPE, start_new_session=True
    )
    process.communicate(timeout=60)
    assert processes_of(process.pid) == []
    assert socket.if_nameindex() == before


def test_no_descriptor_stays_open_in_the_process_that_examines() -> None:
    examine()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        examine()
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after_s", [0.15, 0.4, 0.65])
def test_signal_at_any_moment_leaves_no_process(number: signal.Signals, after_s: float) -> None:
    process = subprocess.Popen(
        DOCTOR, cwd=PROJECT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    pidfd = os.pidfd_open(process.pid)
    select.select([pidfd], [], [], after_s)  # it may be over before
    os.close(pidfd)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    limit = time.monotonic() + 5
    while processes_of(process.pid) and time.monotonic() < limit:
        time.sleep(0.02)
    assert processes_of(process.pid) == []
    # Python's own start and end are not ours to make quiet.
    if number is signal.SIGINT and after_s > 0.2:
        assert process.returncode in (130, 0, -signal.SIGINT), err


def test_reader_that_goes_away_ends_it_quietly() -> None:
    done = shell("$DOCTOR | head -n 1; echo ${PIPESTATUS[0]}")
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[1] in ("0", "141")
