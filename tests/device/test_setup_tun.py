"""setup_tun.sh, always in a network namespace that ends with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.kernel


@pytest.fixture
def shell() -> Shell:
    """Runs lines of bash in a network namespace of their own, in the project's directory. `setup` is the script."""
    if os.geteuid() != 0:
        pytest.skip("setup_tun.sh is for root")

    def run(lines: str, **env: str) -> subprocess.CompletedProcess[str]:
        script = "setup() { ./setup_tun.sh \"$@\"; }\n" + lines
        command = ["unshare", "-n", "bash", "-c", script]
        environment = {**os.environ, **env}
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60)

    return run


UP = "tun0 is up: 10.9.0.1/24 and fd09::1/64, MTU 1500, queue 5000, owner root, no program attached"


def test_up_makes_a_persistent_device_and_says_what_comes_next(shell):
    result = shell("setup up && ip -details link show dev tun0 && ip address show dev tun0")
    assert result.returncode == 0, result.stderr
    state, following, *shown = result.stdout.splitlines()
    assert state == UP
    assert following == "next:  tcpstack serve --tun tun0"
    text = "\n".join(shown)
    assert "tun type tun pi off" in text
    assert "persist on" in text
    assert "tentative" not in text
    assert "fe80" not in text
    assert result.stderr == ""


def test_up_takes_name_user_and_mtu(shell):
    result = shell("setup up wire0 --user nobody --mtu 9000")
    assert "wire0 is up: 10.9.0.1/24 and fd09::1/64, MTU 9000, queue 5000, owner nobody" in result.stdout
    assert "next:  tcpstack serve --tun wire0    (as nobody)" in result.stdout


def test_up_again_changes_nothing_and_repairs_what_was_changed(shell):
    result = shell(
        "setup up --user nobody --mtu 1400 >/dev/null; ip link set tun0 down; ip address flush dev tun0; setup up"
    )
    assert result.returncode == 0, result.stderr
    assert "MTU 1400, queue 5000, owner nobody" in result.stdout
    assert "tun0 is up: 10.9.0.1/24 and fd09::1/64" in result.stdout


def test_up_numbers_and_names_of_a_user_are_the_same(shell):
    assert shell("setup up --user nobody && setup up --user 65534").returncode == 0


def test_tcpstack_attaches_to_the_device_and_status_shows_that(shell):
    code = (
        "import subprocess; from tcpstack.device.tun import TunDevice; "
        "print(TunDevice.open('tun0').mtu, flush=True); subprocess.run(['./setup_tun.sh', 'status'])"
    )
    result = shell('setup up --mtu 1400 >/dev/null && $PYTHON -c "$CODE"', PYTHON=sys.executable, CODE=code)
    assert result.stdout.splitlines()[0] == "1400", result.stderr
    assert "owner root, a program attached" in result.stdout


def test_status_tells_up_from_down_from_absent_by_its_exit(shell):
    result = shell(
        "setup status; echo $?; setup up >/dev/null; setup status; echo $?;"
        "ip link set tun0 down; setup status; echo $?"
    )
    absent, one, up, zero, down, two = result.stdout.splitlines()
    assert (absent, one) == ("tun0 is not there; './setup_tun.sh up tun0' makes it", "1")
    assert (up, zero) == (UP, "0")
    assert down.startswith("tun0 is down: 10.9.0.1/24")
    assert two == "1"


def test_down_deletes_the_device_and_may_be_repeated(shell):
    result = shell("setup up >/dev/null; setup down; setup down && ip link show")
    assert result.returncode == 0
    assert result.stdout.splitlines()[:2] == ["tun0 is gone", "tun0 is not there"]
    assert "tun0:" not in result.stdout


def test_failure_half_way_leaves_no_device(shell, tmp_path):
    broken = tmp_path / "ip"
    fails = '[ "$1" = address ] && [ "$2" = replace ] && exit 2'
    broken.write_text(f'#!/bin/sh\n{fails}\nexec {shutil.which("ip")} "$@"\n')
    broken.chmod(0o755)
    result = shell("PATH=$BROKEN:$PATH ./setup_tun.sh up; echo $?; ip link show", BROKEN=str(tmp_path))
    assert result.stdout.splitlines()[0] == "2"
    assert "tun0" not in result.stdout


def test_without_ipv6_the_device_has_ipv4_and_the_user_is_told(shell):
    result = shell("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; setup up")
    assert result.returncode == 0
    assert "tun0 is up: 10.9.0.1/24, MTU 1500" in result.stdout
    assert result.stderr == "setup_tun.sh: IPv6 is off on this machine, so tun0 has IPv4 only\n"


@pytest.mark.parametrize(
    ("lines", "status", "message"),
    [
        ("setup", 2, "say up, down or status, not ''"),
        ("setup up --mtu", 2, "--mtu needs a value"),
        ("setup down --mtu 1500", 2, "--mtu goes with up only"),
        ("setup up --fast", 2, "there is no option --fast"),
        ("setup up tun0 tun1", 2, "one name only, not 'tun0' and 'tun1'"),
        ("setup up 'a b'", 1, "'a b' can't name an interface: use 1 to 15 characters without '/', ':', '%' or spaces"),
        ("setup up --mtu 1279", 1, "'1279' can't be the MTU: use 1280 (the least that IPv6 works with) to 65535"),
        ("setup up --mtu 08000", 1, "'08000' can't be the MTU"),
        ("setup up --user no-such-user", 1, "there is no user 'no-such-user' on this machine"),
        ("setup up lo", 1, "lo is there already, but not as a TUN device with one queue: choose another name"),
        ("setup down lo", 1, "lo is there already, but not as a TUN device with one queue"),
        ("ip tuntap add tap0 mode tap; setup up tap0", 1, "tap0 is there already, but not as a TUN device"),
        ("ip tuntap add mq0 mode tun multi_queue; setup up mq0", 1, "mq0 is there already, but not as a TUN device"),
        ("setup up >/dev/null; setup up tun1", 1, "the network of 10.9.0.1/24 is in use on tun0: take that down first"),
        (
            "setup up --user nobody >/dev/null; setup up --user root",
            1,
            "tun0 belongs to nobody: run './setup_tun.sh down tun0' first to give it to root",
        ),
        (
            "setpriv --reuid=65534 --clear-groups --inh-caps=-all bash < setup_tun.sh -s up",
            1,
            "'up' takes root: run it with sudo",
        ),
    ],
)
def test_refusal_is_one_sentence(shell, lines, status, message):
    result = shell(lines)
    assert result.returncode == status
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert message in line


def test_missing_ip_names_its_package(shell):
    result = shell("sed 's|/usr/sbin:/sbin|/nowhere|' setup_tun.sh | PATH=/nowhere /bin/bash -s up")
    assert result.returncode == 1
    assert result.stderr.endswith("the program ip is missing: install the package iproute2\n")


def test_missing_device_node_names_the_driver(shell):
    result = shell("unshare -m bash -c 'mount -t tmpfs tmpfs /dev/net && ./setup_tun.sh up'")
    assert result.returncode == 1
    assert result.stderr == "setup_tun.sh: there is no /dev/net/tun: load its driver with 'modprobe tun'\n"
