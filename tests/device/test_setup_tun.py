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
pytestmark = [pytest.mark.kernel, pytest.mark.tun]


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
    state, serve, curl, down, *shown = result.stdout.splitlines()
    assert state == UP
    assert serve == "next:  tcpstack serve --tun tun0"
    assert curl == "       curl http://10.9.0.2/    (in another terminal)"
    assert down == "       sudo ./setup_tun.sh down tun0    (when done)"
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


def test_up_without_user_is_for_root_alone(shell):
    # The kernel lets anybody attach to a device without an owner.
    result = shell("setup up && ip -details link show dev tun0")
    assert " user root " in result.stdout


def test_up_takes_addresses_and_queue_and_says_which_are_the_stacks(shell):
    result = shell("setup up --address 192.0.2.9/29 --address FD07::3/64 --txqueuelen 77; setup up")
    again = ["tun0 is up: 192.0.2.9/29 and fd07::3/64, MTU 1500, queue 77, owner root, no program attached"]
    again += ["next:  tcpstack serve --tun tun0 --address 192.0.2.10/29"]
    first, second = result.stdout.split("(when done)\n")[:2]
    assert first.splitlines()[:2] == [again[0], again[1] + " --address FD07::2/64"]
    assert second.splitlines()[:2] == [again[0], again[1] + " --address fd07::2/64"]
    assert "curl http://192.0.2.10/ " in first


@pytest.mark.parametrize(
    ("kernel", "stack"),
    [
        ("10.9.0.1/30", "10.9.0.2/30"),
        ("10.9.0.2/30", "10.9.0.1/30"),
        ("172.16.0.255/16", "172.16.1.0/16"),
        ("10.255.255.254/8", "10.255.255.253/8"),
        ("fd00:1::ffff/126", "fd00:1::fffe/126"),
        ("fd00::1:a/64", "fd00::1:b/64"),
    ],
)
def test_stack_lives_in_the_network_of_the_kernels_address(shell, kernel, stack):
    result = shell("setup up --address $KERNEL", KERNEL=kernel)
    assert result.returncode == 0, result.stderr
    assert f" --address {stack}" in result.stdout


def test_printed_steps_work(shell, tmp_path):
    script = r"""
    cd "$PLACE"; ln -s "$ROOT/setup_tun.sh"; export PYTHONPATH=$ROOT; mkfifo said
    setup up --address 192.0.2.9/29 > out
    serve=$(sed -n 's/^next: *tcpstack //p' out) curl=$(sed -n 's/^ *\(curl [^ ]*\).*/\1/p' out)
    "$PYTHON" -m tcpstack $serve 2> said > served & read -r line < said
    $curl --silent --max-time 10 | grep -o 'It works'
    ip -oneline address show dev tun0 | awk '{print $4}'
    kill $!; wait $!; setup down
    """
    result = shell(script, ROOT=str(ROOT), PLACE=str(tmp_path), PYTHON=sys.executable)
    assert result.stdout.splitlines() == ["It works", "192.0.2.9/29", "fd09::1/64", "tun0 is gone"], result.stderr


def test_user_who_may_not_open_the_node_is_told_first(shell):
    node = "mount -t tmpfs tmpfs /dev/net; mknod -m $MODE /dev/net/tun c 10 200; ./setup_tun.sh up --user $OWNER"
    script = f"unshare -m bash -c '{node}'"
    first = "first: sudo chmod 0666 /dev/net/tun    (its mode is 660, so nobody may not open it)"
    assert first in shell(script, MODE="0660", OWNER="nobody").stdout.splitlines()
    assert "first:" not in shell(script, MODE="0666", OWNER="nobody").stdout
    assert "first:" not in shell(script, MODE="0600", OWNER="root").stdout
    grouped = script.replace("./setup", "chgrp nogroup /dev/net/tun; ./setup")
    assert "first:" not in shell(grouped, MODE="0660", OWNER="nobody").stdout


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


def test_down_leaves_everything_as_it_was_before_up(shell, tmp_path):
    show = "{ ip address; ip route show table all; ip -6 route show table all; ip rule; ip neighbour; } >"
    result = shell(
        f'cd "$PLACE"; ln -s {ROOT}/setup_tun.sh; {show} 1; setup up; {show} 2; setup down; {show} 3;'
        "cmp 1 2 || diff 1 3",
        PLACE=str(tmp_path),
    )
    assert result.returncode == 0, result.stdout
    assert "differ" in result.stdout  # what `up` makes shows in this


ATTACHED = (
    "import subprocess, sys; from tcpstack.device.tun import TunDevice; device = TunDevice.open('tun0'); "
    "result = subprocess.run(['bash', '-c', sys.argv[1]]); device.send; sys.exit(result.returncode)"
)


@pytest.mark.parametrize("state", ["up", "down"])
def test_down_leaves_a_device_to_the_program_that_uses_it(shell, state):
    lines = f"ip link set tun0 {state}; ./setup_tun.sh down; echo $?; ip -brief link show dev tun0"
    result = shell('setup up >/dev/null; "$PYTHON" -c "$CODE" "$LINES_"; setup down', PYTHON=sys.executable,
                   CODE=ATTACHED, LINES_=lines)  # fmt: skip
    assert result.stderr.startswith("setup_tun.sh: tun0 is in use by ")
    assert "(process " in result.stderr
    assert result.stderr.endswith("): stop that first\n")
    status, link, gone = result.stdout.splitlines()
    assert (status, link.split()[0], gone) == ("1", "tun0", "tun0 is gone")


def test_up_keeps_the_mtu_under_a_program_that_uses_the_device(shell):
    lines = "./setup_tun.sh up --mtu 1400; echo $?; ./setup_tun.sh up --mtu 1500 | head -n 1"
    result = shell('setup up >/dev/null; "$PYTHON" -c "$CODE" "$LINES_"', PYTHON=sys.executable, CODE=ATTACHED,
                   LINES_=lines)  # fmt: skip
    assert "which would not learn of another MTU: stop that first" in result.stderr
    assert result.stdout.splitlines() == ["1", UP.replace("no program", "a program")]


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


def test_default_routes_and_what_stands_for_them_are_no_conflict(shell):
    routes = ("default", "0.0.0.0/1", "128.0.0.0/1", "::/0", "::/1", "2000::/3")
    result = shell(f"set -e; {LINK}; {'; '.join(f'ip route add {route} dev d0' for route in routes)}; setup up")
    assert result.returncode == 0, result.stderr


def test_network_that_was_taken_meanwhile_is_not_given_back_to_a_device_that_lost_it(shell):
    taken = f"{LINK}; ip address add 10.9.0.9/24 dev d0"
    result = shell(f"setup up >/dev/null; ip address flush dev tun0; {taken}; setup up")
    assert result.returncode == 1
    assert "the network of 10.9.0.1/24 is in use on d0" in result.stderr


# A link that is up and has nothing to do with us.
LINK = "ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up"


@pytest.mark.parametrize(
    ("lines", "status", "message"),
    [
        ("setup", 2, "say up, down or status, not ''"),
        ("setup up --mtu", 2, "--mtu needs a value"),
        ("setup down --mtu 1500", 2, "--mtu goes with up only"),
        ("setup up --fast", 2, "there is no option --fast"),
        ("setup down --address 10.8.0.1/24", 2, "--address goes with up only"),
        ("setup up --address 10.8.0.1/24 --address 10.7.0.1/24", 2, "one IPv4 --address only, not '10.8.0.1/24' and"),
        ("setup up --address fd08::1/64 --address fd07::1/64", 2, "one IPv6 --address only, not 'fd08::1/64' and"),
        ("setup up --txqueuelen 0", 1, "'0' can't be the queue's length: use 1 to 9999999 packets"),
        ("setup up --address 10.8.0.1", 1, "'10.8.0.1' is not for this: give a host's IPv4 address with its prefix"),
        ("setup up --address 10.8.0.0/24", 1, "'10.8.0.0/24' is not for this"),
        ("setup up --address 10.8.0.255/24", 1, "'10.8.0.255/24' is not for this"),
        ("setup up --address 10.8.0.300/24", 1, "'10.8.0.300/24' is not for this"),
        ("setup up --address 127.0.0.1/8", 1, "'127.0.0.1/8' is not for this"),
        ("setup up --address 10.8.0.1/31", 1, "'10.8.0.1/31' is not for this"),
        ("setup up --address fe80::1/64", 1, "'fe80::1/64' is not for this: give a host's IPv6 address with its"),
        ("setup up --address fd08::/64", 1, "'fd08::/64' is not for this"),
        ("setup up --address fd08::1::2/64", 1, "'fd08::1::2/64' is not for this"),
        ("setup up --address fd08::1/127", 1, "'fd08::1/127' is not for this"),
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
            f"{LINK}; ip address add 10.9.0.77/32 dev d0; setup up",
            1,
            "the network of 10.9.0.1/24 is in use on d0: take that down first, or give another --address",
        ),
        (
            f"{LINK}; ip -6 address add fd09::77/128 dev d0; setup up",
            1,
            "the network of fd09::1/64 is in use on d0: take that down first, or give another --address",
        ),
        (
            f"{LINK}; ip route add 10.9.0.128/25 dev d0; setup up",
            1,
            "the network of 10.9.0.1/24 is routed elsewhere (10.9.0.128/25 dev d0): take that route away first, or",
        ),
        (
            f"{LINK}; ip address add 192.0.2.1/24 dev d0; ip route add 10.0.0.0/8 via 192.0.2.9 table 77; setup up",
            1,
            "the network of 10.9.0.1/24 is routed elsewhere (10.0.0.0/8 via 192.0.2.9 dev d0):",
        ),
        (
            "ip -6 route add unreachable fd00::/8; setup up",
            1,
            "the network of fd09::1/64 is routed elsewhere (unreachable fd00::/8 dev lo):",
        ),
        (
            "setup up >/dev/null; setup up --address 10.8.0.1/24",
            1,
            "tun0 has 10.9.0.1/24: run './setup_tun.sh down tun0' first to give it 10.8.0.1/24",
        ),
        (
            "ip tuntap add tun0 mode tun; setup up --user nobody",
            1,
            "tun0 belongs to anybody: run './setup_tun.sh down tun0' first to give it to nobody",
        ),
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
