"""What `tcpstack doctor` does to the devices that it finds, and what stays behind: nothing."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcpstack.cli.doctor import examine
from tests.kernel.doctors import DOCTOR, PROJECT, as_nobody, environment, findings, only, shell

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
    done = shell(f"ip tuntap add tun0 mode tun pi user root; {SHOW} >&2; $DOCTOR --json; {SHOW} >&2")
    report = only(done)
    before, after = done.stderr.splitlines()
    assert "pi on" in before
    assert before == after
    assert report["persistent_device"]["tried"] == "asking netlink for TUN devices"
    assert "not tried" in report["serve"]["does"]


def test_device_that_serve_has_used_keeps_the_flag_of_its_headers_and_works_again() -> None:
    use = '"$PYTHON" -c "from tcpstack.device.tun import TunDevice; TunDevice.open(\'tun0\').close()"'
    script = f"./setup_tun.sh up >/dev/null; {use}; {SHOW} >&2; $DOCTOR --json; {SHOW} >&2"
    done = shell(script, PYTHON=sys.executable, TCPSTACK_OFFLOAD="on")
    report = only(done)
    before, after = done.stderr.splitlines()
    assert "vnet_hdr on" in before
    assert before == after
    assert (report["persistent_device"]["status"], report["serve"]["way"]) == ("ok", "persistent_device")


def test_device_in_use_is_not_disturbed() -> None:
    """The program that uses it gets its packets before, while and after doctor looks."""
    code = (
        "import socket, subprocess, sys, time\n"
        "from tcpstack.device.tun import TunDevice\n"
        "device = TunDevice.open('tun0')\n"
        "def crosses(text):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:\n"
        "        sender.sendto(text, ('10.9.0.2', 9))\n"
        "    return any(packet.data().endswith(text) for packet in device.receive(10, 0))\n"
        "limit = time.monotonic() + 10\n"  # the kernel takes its time to believe in a new carrier
        "while not crosses(b'before') and time.monotonic() < limit:\n"
        "    time.sleep(0.01)\n"
        "subprocess.run(sys.argv[1:])\n"
        "sys.exit(not crosses(b'after'))\n"
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
    assert report["persistent_device"]["fix"] == "sudo ./setup_tun.sh up tun0 --user nobody"
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
