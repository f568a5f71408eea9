"""`tcpstack nc` on a device of the host, and its exit statuses beside those of the kernel's nc."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tcpstack.device.namespace import Namespace
from tests.kernel.nc_command import NC, Started, digest, random_files

SIZE = 20_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with random_files(tmp_path_factory.mktemp("files"), SIZE) as made:
        yield made


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    made = tmp_path / "one.copy", tmp_path / "other.copy"
    yield made
    for path in made:
        path.unlink(missing_ok=True)


class Host(Started):
    """A namespace that stands for a host: tun7 is there, as setup_tun.sh would have made it, 10.7.0.1 and fd07::1."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace.exec_prefix)
        for words in (
            "tuntap add dev tun7 mode tun", "address add 10.7.0.1/24 dev tun7",
            "address add fd07::1/64 dev tun7 nodad", "link set tun7 up",
        ):  # fmt: skip
            subprocess.run([*self.prefix, "ip", *words.split()], check=True)

    TCPSTACK = (*NC, "--tun", "tun7", "--address", "10.7.0.2/24", "--address", "fd07::2/64")

    def listener(self, script: str) -> subprocess.Popen[Any]:
        """A Python program with a socket `s` that listens on port 9000, once it does."""
        head = (
            "import os, socket, struct, time\n"
            "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
            "s.bind(('', 9000)); s.listen(4); print('listens', flush=True)\n"
            "def reset(c): c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()\n"
        )
        process = self.start(sys.executable, "-c", head + script)
        assert process.stdout.readline() == "listens\n"
        return process


@pytest.fixture
def host() -> Iterator[Host]:
    with Namespace.open() as namespace:
        made = Host(namespace)
        yield made
        made.close()


@pytest.mark.parametrize("family", [4, 6])
def test_on_the_hosts_device_a_file_each_way(
    host: Host, files: tuple[Path, Path], copies: tuple[Path, Path], family: int
) -> None:
    stack, kernel = {4: ("10.7.0.2", "10.7.0.1"), 6: ("fd07::2", "fd07::1")}[family]
    with open(files[0], "rb") as source, open(copies[0], "wb") as copy:
        ours = host.start(*host.TCPSTACK, "-v", "-l", "9000", stdin=subprocess.DEVNULL, stdout=copy)
        assert ours.stderr.readline() == "Listening on 10.7.0.2 9000\n"
        assert ours.stderr.readline() == "Listening on fd07::2 9000\n"
        theirs = host.start("nc", "-N", stack, "9000", stdin=source)
        assert (ours.wait(30), theirs.wait(30)) == (0, 0)
    with open(files[1], "rb") as source, open(copies[1], "wb") as copy:
        theirs = host.start("nc", "-v", f"-{family}", "-n", "-l", "9000", stdout=copy)
        assert theirs.stderr.readline().startswith("Listening on ")
        ours = host.start(*host.TCPSTACK, "-N", kernel, "9000", stdin=source)
        assert (ours.wait(30), theirs.wait(30)) == (0, 0)
    assert digest(copies[0]) == digest(files[0])
    assert digest(copies[1]) == digest(files[1])


HOLD = "c, _ = s.accept(); print('has it', flush=True); time.sleep(60)"
RESET = "c, _ = s.accept(); c.recv(1); reset(c); time.sleep(60)"
ANSWER = "c, _ = s.accept(); c.sendall(b'answer'); c.close(); time.sleep(60)"
SINK = "c, _ = s.accept()\nwhile c.recv(65536): pass\nc.sendall(b'got it'); c.close(); time.sleep(60)"
NOT_ACCEPTING = (
    "s.listen(0); held = [socket.create_connection(('127.0.0.1', 9000)) for _ in range(1)]\n"
    "print('full', flush=True); time.sleep(60)"
)


@pytest.mark.parametrize(
    ("script", "words", "given", "status", "output"),
    [
        (None, (), "", 1, ""),
        (ANSWER, (), "", 0, "answer"),
        (SINK, ("-N",), "data", 0, "got it"),
        (RESET, (), "x", 0, ""),
        (RESET, (), "open x", 0, ""),
        (HOLD, ("-w", "1"), "open", 0, ""),
        (HOLD, ("-w", "1"), "", 0, ""),
        (HOLD, ("-N", "-w", "1"), "", 0, ""),
        (ANSWER, ("-w", "1"), "open", 0, "answer"),
        (NOT_ACCEPTING, ("-w", "1"), "", 1, ""),
    ],
    ids=[
        "refused", "answered", "half-closed", "reset", "reset with stdin open", "idle with stdin open", "idle",
        "idle after FIN", "idle after the peer's FIN", "no answer to SYN",
    ],
)  # fmt: skip
def test_client_exits_as_nc_does(
    host: Host, script: str | None, words: Sequence[str], given: str, status: int, output: str
) -> None:
    """`given` is put into stdin, which stays open where it says so."""
    seen = []
    for program in (("nc",), host.TCPSTACK):
        server = host.listener(script) if script is not None else None
        if script is NOT_ACCEPTING:
            assert server.stdout.readline() == "full\n"
        begun = time.monotonic()
        client = host.start(*program, *words, "10.7.0.1", "9000")
        client.stdin.write(given.removeprefix("open").strip())
        client.stdin.flush()
        if not given.startswith("open"):
            client.stdin.close()
            client.stdin = None
        code = client.wait(15)
        seen.append((code, client.stdout.read()))
        if "-w" in words:
            assert 0.9 < time.monotonic() - begun < 5
        if server is not None:
            server.kill()
            server.wait()
    assert seen == [(status, output)] * 2


@pytest.mark.parametrize(
    ("words", "status"),
    [(("-4", "fd07::1", "9000"), 1), (("no-such-host.invalid", "9000"), 1), (("-l", "192.0.2.1", "9000"), 1)],
)
def test_what_names_nothing_exits_as_nc_does(host: Host, words: Sequence[str], status: int) -> None:
    assert [host.start(*program, *words).wait(15) for program in (("nc",), host.TCPSTACK)] == [status] * 2


@pytest.mark.parametrize(
    ("words", "client", "output"),
    [
        ((), "c.sendall(b'all'); c.close()", "all"),
        ((), "c.sendall(b'all'); c.shutdown(socket.SHUT_WR); time.sleep(60)", "all"),
        ((), "reset(c)", ""),
        (("-w", "1"), "time.sleep(60)", ""),
    ],
    ids=["closed", "half-closed", "reset", "idle"],
)
def test_listener_exits_as_nc_does(host: Host, words: Sequence[str], client: str, output: str) -> None:
    head = (
        "import socket, struct, sys, time\n"
        "def reset(c): c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()\n"
        "c = socket.create_connection((sys.argv[1], 9000))\n"
    )
    seen = []
    for program, address in ((("nc", "-n"), "127.0.0.1"), (host.TCPSTACK, "10.7.0.2")):
        listener = host.start(*program, "-v", *words, "-l", "9000")  # stdin stays open
        assert listener.stderr.readline().startswith("Listening on ")
        peer = host.start(sys.executable, "-c", head + client, address)
        code = listener.wait(15)
        seen.append((code, listener.stdout.read()))
        peer.kill()
        peer.wait()
    assert seen == [(0, output)] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_as_nc_in_a_shells_eyes_and_the_peer_hears_of_it(host: Host, number: signal.Signals) -> None:
    script = "c, _ = s.accept(); print('has it', flush=True); print(c.recv(9), flush=True); c.close()"
    for program in (("nc",), host.TCPSTACK):
        server = host.listener(script)
        client = host.start(*program, "10.7.0.1", "9000")
        assert server.stdout.readline() == "has it\n"
        client.send_signal(number)
        assert server.stdout.readline() == "b''\n"  # FIN
        code = client.wait(10)
        assert (128 - code if code < 0 else code) == 128 + number
        assert server.wait(10) == 0


def test_second_connection_is_refused(host: Host) -> None:
    ours = host.start(*host.TCPSTACK, "-v", "-l", "9000")
    while "fd07::2" not in ours.stderr.readline():
        pass
    first = host.start("nc", "10.7.0.2", "9000")
    assert ours.stderr.readline().startswith("Connection received on 10.7.0.1 ")
    assert host.start("nc", "-v", "10.7.0.2", "9000").communicate(timeout=10)[1].endswith("Connection refused\n")
    first.stdin.close()
    first.stdin = None


def test_device_that_others_use_or_that_goes_away_is_told(host: Host) -> None:
    first = host.start(*host.TCPSTACK, "-v", "-l", "9000")
    while "fd07::2" not in first.stderr.readline():
        pass
    second = host.start(*host.TCPSTACK, "-l", "9001")
    busy = "tcpstack: another program uses tun7: stop it, or choose another name\n"
    assert second.communicate(timeout=10) == ("", busy)
    assert second.returncode == 1
    subprocess.run([*host.prefix, "ip", "link", "delete", "tun7"], check=True)
    out, err = first.communicate(timeout=10)
    assert (first.returncode, out) == (1, "")
    assert err.startswith("tcpstack: tun7 was deleted")
    assert err.count("\n") == 1


def test_peer_that_dies_is_told_and_no_failure(host: Host) -> None:
    server = host.listener(RESET)
    client = host.start(*host.TCPSTACK, "10.7.0.1", "9000")
    client.stdin.write("xyz")
    client.stdin.flush()
    assert client.wait(10) == 0
    assert client.stderr.read() == "tcpstack: 10.7.0.1 port 9000 reset the connection\n"
    server.kill()


def test_name_with_several_addresses_tries_each(host: Host, tmp_path: Path) -> None:
    """The resolver reads the process's own /etc/hosts: in a mount namespace of its own that is ours to write."""
    hosts = tmp_path / "hosts"
    hosts.write_text("10.7.0.1 both\nfd07::1 both\n")
    server = host.start("nc", "-n", "-v", "-6", "-l", "9000")
    assert server.stderr.readline().startswith("Listening on ")
    client = host.start(
        "unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, *host.TCPSTACK, "-vN",
        "both", "9000", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    _, err = client.communicate(timeout=15)
    assert client.returncode == 0
    assert "Connection to both (fd07::1) 9000 port [tcp/*] succeeded!\n" in err
    only_v4 = host.start(
        "unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, *host.TCPSTACK, "-v", "-4",
        "both", "9000", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    _, err = only_v4.communicate(timeout=15)
    assert only_v4.returncode == 1
    assert err.startswith("tcpstack: both (10.7.0.1) port 9000 refused the connection: ")
