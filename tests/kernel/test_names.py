"""Names in `tcpstack run`: the two ends have some, no other costs time, and nobody outside sees any of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ordinary_user import needs_root

PROJECT = Path(__file__).parents[2]
RUN = (sys.executable, "-m", "tcpstack", "run")
# As in test_namespace.py: a user without privilege, but for what it takes to map uid 0.
UNCAPABLE = ("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all")


def execute(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return subprocess.run(
        command, cwd=PROJECT, env={**environment, "LC_ALL": "C", **env}, capture_output=True, text=True, timeout=60
    )


def run(*words: str, prefix: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
    return execute(*prefix, *RUN, *words, **env)


@pytest.mark.parametrize("prefix", [(), UNCAPABLE], ids=["root", "rootless"])
@pytest.mark.parametrize(("family", "address"), [("-4", "10.9.0.2"), ("-6", "fd09::2")])
def test_curl_finds_the_stack_by_name(prefix, family, address):
    if prefix:
        needs_root()
    done = run("--", "curl", family, "-sS", "-w", "%{remote_ip}", "http://stack/", prefix=prefix)
    assert (done.returncode, done.stderr) == (0, "")
    assert "TCP in Python" in done.stdout
    assert done.stdout.endswith(address)


def test_names_mean_the_addresses_that_the_ends_have():
    addresses = ("--address", "192.0.2.130/28", "--address", "fd07::9/64", "--address", "198.51.100.7/24")
    done = run(*addresses, "--", "sh", "-c", "for n in stack kernel; do getent ahosts $n | grep STREAM | sort; done")
    found = [line.split()[0] for line in done.stdout.splitlines()]
    assert found == ["192.0.2.130", "198.51.100.7", "fd07::9", "192.0.2.129", "198.51.100.1", "fd07::1"]


def test_name_is_kept_from_a_proxy():
    done = run("--", "curl", "-sS", "-o", "/dev/null", "http://stack/", http_proxy="http://127.0.0.1:9/")
    assert (done.returncode, done.stderr) == (0, "")


def test_names_of_this_machine_stay():
    done = run("--", "cat", "/etc/hosts")
    assert done.stdout.endswith(Path("/etc/hosts").read_text())


def test_any_user_may_read_them_whatever_the_umask():
    needs_root()
    script = ("umask 077; exec \"$@\"", "sh", *RUN, "--", "setpriv", "--reuid=65534", "getent", "hosts", "stack")
    assert execute("sh", "-c", *script).stdout.split() == ["fd09::2", "stack"]


# Name servers: each is asked, and there is nobody to answer. The third would be on the stack's own subnet.
@pytest.mark.parametrize("server", ["127.0.0.53", "192.0.2.53", "10.9.0.53", "fd09::53"])
def test_unknown_name_is_unknown_at_once(server, tmp_path):
    needs_root()
    (tmp_path / "resolv.conf").write_text(f"nameserver {server}\n")
    script = f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec "$@"'
    started = time.monotonic()
    done = run("--", "curl", "-sS", "http://example.org/", prefix=("unshare", "-m", "sh", "-c", script, "sh"))
    assert done.returncode == 6, done.stderr  # "Could not resolve host"
    assert time.monotonic() - started < 4  # a resolver that waits does so for 5 s


# Outside

def test_nothing_of_it_is_seen_outside():
    """Not even where mounts are shared, as systemd has them."""
    needs_root()
    hosts = Path("/etc/hosts").read_bytes()
    command = ("unshare", "-m", "--propagation", "shared", *RUN, "--", "sh", "-c", SPOIL_AND_WAIT)
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1 10.9.0.2\n"  # it has mounts of its own, and its own file
        mounts = Path(f"/proc/{process.pid}/mountinfo").read_text()  # of `run`, in the mount namespace around it
        assert " / / " in mounts
        assert " /etc/hosts " not in mounts
        assert " /etc/resolv.conf " not in mounts
        assert Path(f"/proc/{process.pid}/root/etc/hosts").read_bytes() == hosts
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert Path("/etc/hosts").read_bytes() == hosts


SPOIL_AND_WAIT = """
echo 192.0.2.1 spoiled >> /etc/hosts
echo $(grep -c ' /etc/hosts ' /proc/self/mountinfo) $(getent -s files ahostsv4 stack | sed -n '1s/ .*//p')
cat
"""


# Where it can't be done. The limit is that of mount namespaces in a user namespace of the test's own.
DENIED = ("unshare", "-U", "-r", "sh", "-c", 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec "$@"', "sh")


def test_without_mount_namespaces_command_runs_all_the_same():
    needs_root()
    script = "curl -sS -o /dev/null http://10.9.0.2/ && ! getent hosts stack"
    done = run("--", "sh", "-c", script, prefix=(*DENIED, *UNCAPABLE))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_mount_namespaces_verbose_says_why_there_are_no_names():
    needs_root()
    done = run("-v", "--", "true", prefix=(*DENIED, *UNCAPABLE))
    reason = "unshare: No space left on device"
    assert done.stderr == f"tcpstack: the names stack and kernel mean nothing in here: {reason}\n"
    assert done.returncode == 0
