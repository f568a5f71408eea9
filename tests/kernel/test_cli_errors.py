"""Errors that a user can cause at the command line, each on a machine that is made for it in namespaces of the test's
own. docs/errors.md lists all of them; the rows here are those that no other test causes (see the table there)."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.kernel.doctors import PROJECT, environment, shell

TCPSTACK = f"{sys.executable} -P -m tcpstack"
BUT = "setpriv --bounding-set=-{0} --inh-caps=-{0} "
NO_NODE = "mount -t tmpfs none /dev/net; "
CLOSED_NODE = NO_NODE + "mknod -m 0 /dev/net/tun c 10 200; "
UNPRIVILEGED = BUT.format("dac_override,-dac_read_search,-net_admin")
FULL = "mount -t tmpfs -o size=8k none /mnt; "


def caused_by(script: str, private: str = "-mn") -> subprocess.CompletedProcess[str]:
    """In `script`, $T is the command."""
    return shell(script.replace("$T", TCPSTACK), private=private)


@pytest.mark.tun
@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        (NO_NODE + "$T serve", 1, "there is no /dev/net/tun: load its driver with `modprobe tun`, or start the "
         "container with `--device /dev/net/tun`"),
        (CLOSED_NODE + UNPRIVILEGED + "$T serve", 1, "this user may not open /dev/net/tun: run as root, or allow it "
         "with `sudo chmod 0666 /dev/net/tun`"),
        (BUT.format("net_admin") + "$T serve", 1, "attaching to tun0 takes CAP_NET_ADMIN: run as root, or let root "
         "make one for you with `./setup_tun.sh up NAME --user YOU`"),
        ("$T serve --tun lo", 1, "lo exists and is not a TUN device with a single queue: choose another name"),
        ("$T nc --tun lo -l 9", 1, "lo exists and is not a TUN device with a single queue: choose another name"),
        ("$T run --tun lo -- true", 1, "lo exists and is not a TUN device with a single queue: choose another name"),
        ("$T serve --tun a/b", 1, "'a/b' can't name an interface: use 1 to 15 octets without '/', ':' or spaces"),
        ("ip link set lo up; ip address add 10.9.0.2/32 dev lo; $T serve", 2,
         "10.9.0.2 is the kernel's own address there: the stack needs another one"),
        ("ip link set lo up; $T nc --address 127.0.0.1/8 -l 9", 2,
         "127.0.0.1 is the kernel's own address there: the stack needs another one"),
        ("$T run -- sh -c 'ip link delete tun0; sleep 0.3; exit 3'", 3,
         "tun0 was deleted: make it anew and attach again; the command goes on without the stack"),
        ("ip link add t0 type veth; PATH=/nowhere $T run -- true", 1,
         "there is no program unshare: install the package util-linux"),
    ],
)  # fmt: skip
def test_device_or_address_that_can_not_be_had_is_one_sentence(script: str, status: int, said: str) -> None:
    done = caused_by(script)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"tcpstack: {said}\n")


def test_namespace_that_is_denied_is_one_sentence() -> None:
    done = caused_by("echo 0 >/proc/sys/user/max_net_namespaces; exec $T run -- true", private="-Ur")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("tcpstack: no more namespaces can be made (")
    assert done.stderr.endswith("user.max_net_namespaces is 0): raise the limit\n")


def test_device_of_an_unknown_kind_in_the_environment_is_one_sentence() -> None:
    done = caused_by("TCPSTACK_DEVICE=tap $T run -- true")
    said = "tcpstack: TCPSTACK_DEVICE can be auto, tun or veth, not 'tap'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("mkdir -m 0 /mnt/d; $T run --dir /mnt/d -- true", "argument --dir: '/mnt/d' may not be read"),
        ("mkdir -m 0 /mnt/d; $T run --trace /mnt/d/x -- true",
         "argument --trace: '/mnt/d/x' cannot be written: permission denied"),
        ("install -m 0 /dev/null /mnt/x; $T run --trace /mnt/x -- true",
         "argument --trace: '/mnt/x' cannot be written: permission denied"),
    ],
)  # fmt: skip
def test_file_that_may_not_be_used_is_one_sentence(script: str, said: str) -> None:
    without = BUT.format("dac_override,-dac_read_search")
    done = caused_by(f"mount -t tmpfs none /mnt; {script.replace('$T', without + '$T')}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"tcpstack: {said}\n(tcpstack run --help tells more)\n"


def test_script_that_may_not_be_read_is_one_sentence() -> None:
    without = BUT.format("dac_override,-dac_read_search")
    done = caused_by(f"mount -t tmpfs none /mnt; install -m 0 /dev/null /mnt/x.pkt; {without}$T drill /mnt/x.pkt")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "tcpstack: /mnt/x.pkt: Permission denied\n")


def test_file_that_curl_asks_for_and_may_not_be_read_is_403() -> None:
    without = BUT.format("dac_override,-dac_read_search")
    ask = "curl -s -o /dev/null -w '%{http_code}' http://10.9.0.2/x"
    done = caused_by(f"mount -t tmpfs none /mnt; install -m 0 /dev/null /mnt/x; {without}$T run --dir /mnt -- {ask}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "403", "")


def test_disk_that_fills_up_with_the_capture_ends_only_that() -> None:
    fetch = "curl -sS -o /dev/null -w '%{http_code}' http://10.9.0.2/__init__.py"
    read = "tshark -r /mnt/x >/dev/null 2>&1; echo $?"
    done = caused_by(FULL + f"$T run --trace /mnt/x --dir tcpstack/cli -- {fetch}; {read}")
    said = "tcpstack: the capture /mnt/x ends here, and all else goes on: No space left on device\n"
    assert (done.stdout, done.stderr) == ("2000\n", said)


@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
@pytest.mark.parametrize("words", ["doctor", "fuzz --cases 1 --jobs 1"])
def test_output_that_fills_a_disk_is_one_sentence(words: str, unbuffered: str) -> None:
    done = caused_by(f"unset PYTHONUNBUFFERED; {unbuffered}$T {words} >/dev/full")
    said = "tcpstack: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.tun
def test_output_of_serve_that_fills_a_disk_stops_it_with_one_sentence() -> None:
    fetch = "curl -s --retry 20 --retry-all-errors --retry-delay 1 -o /dev/null http://10.9.0.2/"
    done = caused_by(f"{fetch} & $T serve -v >/dev/full; S=$?; kill $! 2>/dev/null; wait; exit $S")
    first, second = done.stderr.splitlines()
    assert first.endswith("(Ctrl-C ends it)")
    assert (done.returncode, second) == (1, "tcpstack: standard output cannot be written: No space left on device")


@pytest.mark.parametrize("words", ["doctor", "fuzz --cases 1 --jobs 1", "--help"])
def test_reader_that_has_gone_is_141_and_nothing_is_said(words: str) -> None:
    done = caused_by(f"unset PYTHONUNBUFFERED; {{ sleep 0.1; $T {words}; echo $? >&2; }} | :")
    assert done.stderr == f"{128 + signal.SIGPIPE}\n"


def test_reader_of_the_ladder_that_has_gone_does_not_hurt_the_command() -> None:
    fetch = "curl -sS -o /dev/null -w '%{http_code}\\n' http://10.9.0.2/"
    done = caused_by(f"{{ $T run -v -- {fetch} 2>&3 | cat; }} 3>&1 >&2 | :")
    assert done.stderr == "200\n"
    done = caused_by("$T run -v -- curl -sS -o /dev/null -w '%{http_code}' http://10.9.0.2/ 2>/dev/full; echo $?")
    assert (done.stdout, done.stderr) == ("2000\n", "")


@pytest.mark.tun
@pytest.mark.parametrize(
    ("words", "status"),
    [("doctor", 0), ("run -- true", 0), ("run -v -- curl -s http://10.9.0.2/", 0), ("nc -l 9 -- true", 1),
     ("fuzz --cases 1 --jobs 1", 0), ("--version", 0), ("serve --http port", 2)],
)  # fmt: skip
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_are_as_dev_null(words: str, status: int, closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{TCPSTACK} {words} {closed}"], cwd=PROJECT, env=environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr


@pytest.mark.tun
def test_serve_without_streams_serves() -> None:
    fetch = "curl -s --retry 20 --retry-all-errors --retry-delay 1 -o /dev/null -w '%{http_code}' http://10.9.0.2/"
    done = caused_by(f"$T serve -v <&- >&- 2>&- & {fetch}; kill $!; wait $!; echo ' '$?")
    assert (done.stdout, done.stderr) == ("200 0\n", "")
