"""`tcpstack serve` on a TUN device that it makes in a namespace of the test's own, against the kernel's programs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tcpstack.device.namespace import Namespace

pytestmark = pytest.mark.tun
PROJECT = Path(__file__).parents[2]
TUN = ("--tun", "tun7", "--address", "10.7.0.2/24", "--address", "fd07::2/64")


class Inside:
    """Starts programs in the namespace, which end with the test."""

    def __init__(self, prefix: Sequence[str]) -> None:
        self.prefix = prefix
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.prefix, *map(str, words)], cwd=PROJECT, start_new_session=True, text=True,
            errors="replace",  # lines that were read may leave half a character behind
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *map(str, words)], cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False
        )

    def serve(self, *words: str | Path) -> subprocess.Popen[str]:
        """`tcpstack serve`, once it says that it serves."""
        process = self.start(sys.executable, "-m", "tcpstack", "serve", *TUN, *words)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "Ctrl-C ends it" in line, line + process.communicate(timeout=5)[1]
        return process

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def inside() -> Iterator[Inside]:
    with Namespace.open() as namespace:
        inside = Inside(namespace.exec_prefix)
        yield inside
        inside.close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    root.mkdir()
    (root / "index.html").write_text("<p>a page")
    with open(root / "sparse.bin", "wb") as file:
        file.truncate(1 << 30)
    return root


def ended(process: subprocess.Popen[str], limit_s: float = 15.0) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=limit_s)
    return process.returncode, out, err


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_device_is_made_services_answer_and_sigterm_ends_it(inside: Inside, site: Path, loop: str) -> None:
    server = inside.serve("--loop", loop, "--dir", site, "--discard", "9")
    for host in ("10.7.0.2", "[fd07::2]"):
        assert inside.run("curl", "-sS", f"http://{host}/").stdout == "<p>a page"
    assert inside.run("sh", "-c", "echo hello | nc -N 10.7.0.2 7").stdout == "hello\n"
    assert inside.run("sh", "-c", "head -c 300000 /dev/zero | nc -N fd07::2 9").returncode == 0

    server.send_signal(signal.SIGTERM)
    status, out, err = ended(server)

    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 4
    assert re.match(r"10\.7\.0\.1:\d+ -> :80  in \d+ B  out \d+ B  .* ms  closed$", lines[0])
    assert re.match(r"\[fd07::1\]:\d+ -> :80 ", lines[1])
    assert re.match(r"10\.7\.0\.1:\d+ -> :7  in 6 B  out 6 B ", lines[2])
    assert re.match(r"\[fd07::1\]:\d+ -> :9  in 300\.0 kB  out 0 B ", lines[3])
    assert inside.run("ip", "link", "show", "dev", "tun7").returncode != 0


def test_ctrl_c_amid_transfers_ends_all_of_them_in_order(inside: Inside, site: Path) -> None:
    server = inside.serve("--dir", site, "-v")
    downloads = [
        inside.start("curl", "-sS", "--limit-rate", "20M", "-o", "/dev/null", "http://10.7.0.2/sparse.bin")
        for _ in range(3)
    ]
    idle = inside.start("nc", "-N", "10.7.0.2", "7")
    assert server.stdout is not None
    said = ""
    while not all(f"{port}" in said for port in ("conversation 4", "len 1448")):
        said += server.stdout.readline()

    server.send_signal(signal.SIGINT)
    idle.stdin.close()  # type: ignore[union-attr]
    idle.stdin = None
    status, out, err = ended(server)

    assert (status, err) == (0, "")
    assert out.count("our application closes") + said.count("our application closes") == 4
    assert "RST" not in out
    for download in downloads:
        assert ended(download)[0] == 18  # curl: transfer closed with octets remaining
    assert ended(idle)[0] == 0


def test_second_ctrl_c_resets_at_once(inside: Inside) -> None:
    """nc keeps its half open while its stdin is: it would use up the five seconds."""
    server = inside.serve("-v")
    client = inside.start("nc", "10.7.0.2", "7")
    assert server.stdout is not None
    while "SYN-RECEIVED → ESTABLISHED" not in server.stdout.readline():
        pass
    server.send_signal(signal.SIGINT)
    while "FIN-WAIT-1 → FIN-WAIT-2" not in server.stdout.readline():
        pass

    begun = time.monotonic()
    server.send_signal(signal.SIGINT)
    status, out, err = ended(server)

    assert (status, err) == (130, "")
    assert time.monotonic() - begun < 3
    assert re.search(r"── RST", out)
    assert client.poll() is None or client.returncode == 0


def test_peer_that_does_not_finish_is_reset_after_five_seconds(inside: Inside) -> None:
    server = inside.serve("-v")
    inside.start("nc", "10.7.0.2", "7")
    assert server.stdout is not None
    while "SYN-RECEIVED → ESTABLISHED" not in server.stdout.readline():
        pass
    begun = time.monotonic()
    server.send_signal(signal.SIGTERM)
    status, out, err = ended(server)
    assert (status, err) == (0, "")
    assert 4.9 < time.monotonic() - begun < 8
    assert "FIN-WAIT-1 → FIN-WAIT-2" in out
    assert "── RST" in out


def test_device_in_use_says_so(inside: Inside) -> None:
    inside.serve()
    second = inside.start(sys.executable, "-m", "tcpstack", "serve", *TUN)
    status, out, err = ended(second)
    assert (status, out) == (1, "")
    assert err.startswith("tcpstack: ")
    assert "tun7: stop it, or choose another name\n" in err


def test_device_deleted_under_it_says_so(inside: Inside) -> None:
    server = inside.serve()
    assert inside.run("ip", "link", "delete", "dev", "tun7").returncode == 0
    status, out, err = ended(server)
    assert (status, out) == (1, "")
    assert err.startswith("tcpstack: tun7 was deleted")
    assert "Traceback" not in err


def test_address_of_the_kernel_is_refused(inside: Inside) -> None:
    assert inside.run("ip", "tuntap", "add", "dev", "tun7", "mode", "tun").returncode == 0
    assert inside.run("ip", "address", "add", "10.7.0.2/24", "dev", "tun7").returncode == 0
    status, out, err = ended(inside.start(sys.executable, "-m", "tcpstack", "serve", *TUN))
    assert (status, out) == (2, "")
    assert err.startswith("tcpstack: 10.7.0.2 is the kernel's own address")


def test_reader_of_the_output_goes_away_it_stops_quietly(inside: Inside) -> None:
    server = inside.serve("-v")
    assert server.stdout is not None
    server.stdout.close()
    server.stdout = None
    inside.run("curl", "-sS", "-o", "/dev/null", "http://10.7.0.2/")  # at whose first segment it stops
    status, _, err = ended(server)
    assert (status, err) == (141, "")


def test_capture_that_cannot_be_written_is_an_error_at_the_start(inside: Inside) -> None:
    server = inside.start(sys.executable, "-m", "tcpstack", "serve", *TUN, "--trace", "/dev/full")
    assert ended(server) == (1, "", "tcpstack: the capture /dev/full cannot be written: No space left on device\n")
