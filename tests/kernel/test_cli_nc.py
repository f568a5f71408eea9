"""`tcpstack nc` as a person uses it, in a namespace of its own, against the kernel's nc."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tcpstack.cli.netcat_arguments import EPILOG
from tests.kernel.nc_command import NC, PROJECT, Started, digest, group_is_alive, random_files, run, wait_for

SIZE = 20_000_000
KERNEL = {4: "10.9.0.1", 6: "fd09::1"}
STACK = {4: "10.9.0.2", 6: "fd09::2"}


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


@pytest.fixture
def started() -> Iterator[Started]:
    made = Started()
    yield made
    made.close()


# Files, in a namespace of nc's own


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("listening", [True, False], ids=["listening", "connecting"])
def test_file_each_way_at_once_arrives_whole(
    files: tuple[Path, Path], copies: tuple[Path, Path], listening: bool, family: int, loop: str
) -> None:
    """The kernel's nc drops what it has not sent when it listens and its peer closes first: then it has the -N."""
    if listening:
        ours = ("-N", f"-{family}", "-l", "9000")
        theirs = f"nc -N {STACK[family]} 9000"
    else:
        ours = (KERNEL[family], "9000")
        theirs = f"nc -N -l {KERNEL[family]} 9000"
    with open(files[0], "rb") as stdin, open(copies[1], "wb") as stdout:
        done = run("--loop", loop, *ours, "--", "sh", "-c", f"exec {theirs} <{files[1]} >{copies[0]}",
                   stdin=stdin, stdout=stdout)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert digest(copies[0]) == digest(files[0])
    assert digest(copies[1]) == digest(files[1])


@pytest.mark.parametrize("listening", [True, False], ids=["listening", "connecting"])
def test_file_through_pipes_to_the_kernel(files: tuple[Path, Path], copies: tuple[Path, Path], listening: bool) -> None:
    ours = ("-N", "-l", "9000") if listening else ("-N", KERNEL[4], "9000")
    theirs = f"nc {STACK[4]} 9000 </dev/null" if listening else "nc -l 9000"
    with subprocess.Popen(["cat", files[0]], stdout=subprocess.PIPE) as source:
        done = run(*ours, "--", "sh", "-c", f"{theirs} | cat >{copies[0]}", stdin=source.stdout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert digest(copies[0]) == digest(files[0])


@pytest.mark.parametrize("listening", [True, False], ids=["listening", "connecting"])
def test_file_through_pipes_from_the_kernel(files: tuple[Path, Path], started: Started, listening: bool) -> None:
    ours = ("-l", "9000") if listening else (KERNEL[4], "9000")
    theirs = f"nc -N {STACK[4]} 9000" if listening else "nc -N -l 9000"
    process = started.start(*NC, *ours, "--", "sh", "-c", f"exec {theirs} <{files[0]}",
                            stdin=subprocess.DEVNULL, text=False)  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert hashlib.sha256(out).hexdigest() == digest(files[0])


def test_listener_whose_client_closes_first_still_sends_all(
    files: tuple[Path, Path], copies: tuple[Path, Path]
) -> None:
    client = f"nc -N {STACK[4]} 9000 </dev/null >{copies[0]}"
    with open(files[0], "rb") as stdin:
        done = run("-N", "-l", "9000", "--", "sh", "-c", client, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    assert digest(copies[0]) == digest(files[0])


def test_what_a_lossy_wire_holds_back_at_the_end_is_waited_for(
    files: tuple[Path, Path], copies: tuple[Path, Path]
) -> None:
    """All of it has left long before all of it has arrived."""
    with subprocess.Popen(["head", "-c", "300000", files[0]], stdout=subprocess.PIPE) as source:
        done = run("-l", "9000", "--fault", "loss 10% seed=3 dir=out", "--",
                   "sh", "-c", f"nc -N {STACK[4]} 9000 </dev/null >{copies[0]}", stdin=source.stdout)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert copies[0].read_bytes() == files[0].read_bytes()[:300000]


def test_slow_reader_closes_the_window_and_misses_nothing(files: tuple[Path, Path], started: Started) -> None:
    client = f"head -c 4000000 {files[0]} | nc -N {STACK[4]} 9000"
    process = started.start(*NC, "-vv", "-l", "9000", "--", "sh", "-c", client, stdin=subprocess.DEVNULL, text=False)
    for line in process.stderr:
        if b"ACK" in line and b"win 0 " in line and b"> " in line:
            break
    ladder = threading.Thread(target=process.stderr.read)
    ladder.start()
    out = process.stdout.read()
    ladder.join(30)
    assert process.wait(30) == 0
    assert hashlib.sha256(out).digest() == hashlib.sha256(files[0].read_bytes()[:4_000_000]).digest()


# What it says


def test_verbose_says_what_nc_says() -> None:
    done = run("-v", "-N", KERNEL[4], "9000", "--", "nc", "-n", "-v", "-l", KERNEL[4], "9000")
    ours, theirs = "Connection to 10.9.0.1 9000 port [tcp/*] succeeded!", r"Connection received on 10\.9\.0\.2 \d+"
    lines = done.stderr.splitlines()
    assert (done.returncode, lines[0]) == (0, "Listening on 10.9.0.1 9000")
    assert ours in lines
    assert any(re.fullmatch(theirs, line) for line in lines)

    done = run("-v", "-4", "-l", "80", "--", "nc", "-n", "-v", "-N", STACK[4], "80")
    lines = done.stderr.splitlines()
    assert (done.returncode, lines[0]) == (0, "Listening on 10.9.0.2 80")
    assert "Connection to 10.9.0.2 80 port [tcp/*] succeeded!" in lines
    assert any(re.fullmatch(r"Connection received on 10\.9\.0\.1 \d+", line) for line in lines)


def test_very_verbose_draws_the_ladder_to_the_end_and_keeps_stdout_clean() -> None:
    server = ("sh", "-c", "echo answer | nc -N -l 9000")
    done = run("-vv", "-N", KERNEL[4], "9000", "--", *server, input="question", stdin=None)
    assert (done.returncode, done.stdout) == (0, "answer\n")
    for step in ("SYN-SENT → ESTABLISHED", '"question"', "ESTABLISHED → FIN-WAIT-1", "ACK of the peer's FIN"):
        assert step in done.stderr
    assert "conversation 2" not in done.stderr  # it waited for the command to listen


def test_command_speaks_on_stderr_has_no_stdin_and_knows_the_stack() -> None:
    script = 'echo $TCPSTACK_ADDRESS $TCPSTACK_ADDRESS6; cat; exec nc -N "$TCPSTACK_ADDRESS" 9000 </dev/null'
    done = run("-l", "9000", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "10.9.0.2 fd09::2\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("-l", "9000", "--", "no-such-command"), 127, "there is no command 'no-such-command'"),
        ((KERNEL[4], "9000", "--", "/etc/passwd"), 126, "'/etc/passwd' cannot be run: Permission denied"),
        (("-l", "9000", "--", "true"), 1, "'true' ended without connecting to port 9000"),
        ((KERNEL[4], "9000", "--", "true"), 1, "10.9.0.1 port 9000 refused the connection: nothing listens there, "
         "so start that first, or check the port"),
        (("-w", "0.2", KERNEL[6], "9000", "--", "sleep", "60"), 1, "fd09::1 port 9000 refused the connection: nothing "
         "listens there, so start that first, or check the port"),
        (("-w", "0.3", "10.9.0.99", "9000", "--", "sleep", "60"), 1, "10.9.0.99 port 9000 did not answer within 0.3 s: "
         "check that the kernel behind the device has this address, or a route to it"),
        ((STACK[4], "9000", "--", "nc", "-l", "9000"), 1, "10.9.0.2 port 9000 refused the connection: that is this "
         "stack itself, where nothing listens, not the kernel behind it"),
        (("127.0.0.1", "9000", "--", "nc", "-l", "9000"), 1, "127.0.0.1 port 9000 refused the connection: that is this "
         "stack itself, where nothing listens, not the kernel behind it"),
        (("-l", "9000", "--tun", "no/name", "--", "true"), 1, None),
    ],
)  # fmt: skip
def test_failure_is_one_sentence(words: Sequence[str], status: int, said: str | None) -> None:
    begun = time.monotonic()
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
    assert done.stderr.startswith("tcpstack: ")
    if said is not None:
        assert done.stderr == f"tcpstack: {said}\n"
    assert time.monotonic() - begun < 30, "the command is not waited for"


def test_reader_of_stdout_goes_away_ends_it_at_once(files: tuple[Path, Path], started: Started) -> None:
    process = started.start(*NC, KERNEL[4], "9000", "--", "sh", "-c", f"nc -l 9000 <{files[0]}", text=False)
    assert process.stdout.read(1000) == files[0].read_bytes()[:1000]
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""


def test_examples_of_the_help_do_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(os.urandom(100_000))
    examples = [line.strip() for line in EPILOG.splitlines() if line.startswith("  tcpstack nc ") and " -- " in line]
    assert len(examples) == 2
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for example in examples:
        shell = ["sh", "-c", example.replace("tcpstack nc", " ".join(NC), 1)]
        done = subprocess.run(
            shell, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "README.md").read_bytes()
        (tmp_path / "copy").unlink()


def test_full_disk_is_told(files: tuple[Path, Path]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(KERNEL[4], "9000", "--", "sh", "-c", f"nc -N -l 9000 <{files[0]}", stdout=full)
    said = "tcpstack: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-"])
def test_descriptors_that_were_closed_are_as_dev_null(closed: str) -> None:
    command = " ".join([*NC, "-N", KERNEL[4], "9000", "--", "sh", "-c", "'echo answer | nc -N -l 9000'"])
    shell = ["sh", "-c", f"{command} {closed}"]
    done = subprocess.run(shell, cwd=PROJECT, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"answer\n", b"")


# Signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_amid_a_transfer_ends_it_quietly_with_its_command(
    started: Started, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """The peer is sent what was taken from stdin, and FIN; a signal without a terminal reaches nc alone."""
    process = started.start(*NC, "-v", KERNEL[4], "9000", "--", "sh", "-c", f"nc -l 9000 >{tmp_path / 'copy'}")
    assert "succeeded" in process.stderr.readline()
    process.stdin.write("so far")
    process.stdin.flush()
    wait_for(lambda: (tmp_path / "copy").read_bytes() == b"so far")
    begun = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (status, "", "")
    assert time.monotonic() - begun < 3
    assert not group_is_alive(process.pid)


def test_signal_while_listening_or_connecting_ends_it(started: Started) -> None:
    for words in (("-v", "-l", "9000"), ("10.9.0.99", "9000")):
        process = started.start(*NC, *words, "--", "sh", "-c", "echo runs; exec sleep 60")
        while process.stderr.readline() != "runs\n":
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (130, "", "")


def test_ctrl_c_on_a_terminal_leaves_it_as_it_was() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(PROJECT)
        os.execv(NC[0], [*NC, "-v", KERNEL[4], "9000", "--", "nc", "-l", "9000"])
    try:
        said = b""
        while b"succeeded" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"hello\n")
        while said.count(b"hello") < 2:  # the terminal's echo, and the kernel's nc
            said += os.read(terminal, 4096)
        flags = re.search(r"flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/0").read_text())
        assert flags is not None
        assert not int(flags[1], 8) & os.O_NONBLOCK  # which would be the shell's problem, too
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):  # EIO: the last process has closed it
            while data := os.read(terminal, 4096):
                said += data
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"Traceback" not in said
    assert not group_is_alive(pid)
