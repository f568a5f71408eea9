"""`tcpstack run`, as a person uses it: a command in a namespace with nothing but the stack."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TCPSTACK = (sys.executable, "-m", "tcpstack")
BIG = bytes(range(256)) * 4096 * 2  # 2 MB


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory to serve."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "index.html").write_text("<p>a page")
    (root / "big.bin").write_bytes(BIG)
    return root


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are over with the test, with all of their session."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(*words: str | Path, env: dict[str, str] | None = None, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TCPSTACK, "run", *map(str, words)], cwd=PROJECT, env={**os.environ, **(env or {})},
        input=input, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def start(started: list[subprocess.Popen[str]], *words: str | Path) -> subprocess.Popen[str]:
    """`tcpstack run` in a session of its own, without a terminal."""
    process = subprocess.Popen(
        [*TCPSTACK, "run", *map(str, words)], cwd=PROJECT, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace",  # lines that were read may leave half a character behind
    )  # fmt: skip
    started.append(process)
    return process


def is_alive(group: int) -> bool:
    """Whether the process group has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_command_has_our_stdin_stdout_stderr_and_gives_its_status() -> None:
    done = run("--", "sh", "-c", "cat; echo no >&2; exit 7", input="through\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "through\n", "no\n")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("host", ["10.9.0.2", "[fd09::2]"])
def test_curl_fetches_page_and_file(site: Path, host: str, loop: str) -> None:
    script = f"curl -sS http://{host}/ && curl -sS http://{host}/big.bin | sha256sum"
    done = run("--loop", loop, "--dir", site, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<p>a page" + hashlib.sha256(BIG).hexdigest())


def test_curl_without_dir_gets_the_welcome_page() -> None:
    done = run("--", "curl", "-sS", "--include", "http://10.9.0.2/")
    assert done.stdout.startswith("HTTP/1.1 200 OK")
    assert "TCP in Python" in done.stdout


def test_keep_alive_and_range_with_curl(site: Path) -> None:
    url = "http://10.9.0.2/big.bin"
    done = run(
        "--dir", site, "--",
        "curl", "-sS", "-r", "0-3", "-w", "%{http_code} %{num_connects} ", *2 * ("-o", "/dev/null", url),
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("206 1 206 0 ", "")


def test_ping_and_classic_services_answer() -> None:
    done = run(
        "--echo", "7", "--discard", "9", "--chargen", "19", "--", "sh", "-ec",
        "ping -q -c 1 -W 5 10.9.0.2 >/dev/null; ping -q -c 1 -W 5 fd09::2 >/dev/null\n"
        "echo hello | nc -N 10.9.0.2 7; head -c 100000 /dev/zero | nc -N fd09::2 9; nc 10.9.0.2 19 | head -c 5",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n !\"#$", "")


def test_services_switched_off_refuse() -> None:
    done = run("--http", "0", "--echo", "0", "--", "curl", "-sS", "http://10.9.0.2/")
    assert done.returncode == 7
    assert "connect" in done.stderr.lower()


def test_other_address_and_device_name_are_taken() -> None:
    script = "ip -br address show dev lab0; curl -sS http://192.0.2.130/"
    done = run("--tun", "lab0", "--address", "192.0.2.130/28", "--", "sh", "-c", script)
    assert "192.0.2.129/28" in done.stdout
    assert "TCP in Python" in done.stdout


def test_command_finds_addresses_in_its_environment_and_no_proxy_between() -> None:
    proxies = {"http_proxy": "http://127.0.0.1:9/", "no_proxy": "example.org", "NO_PROXY": ""}
    done = run(
        "--", "sh", "-c",
        'echo $TCPSTACK_ADDRESS $TCPSTACK_ADDRESS6 $no_proxy $NO_PROXY; '
        'curl -sS -o /dev/null http://$TCPSTACK_ADDRESS/ && curl -sS -o /dev/null "http://[$TCPSTACK_ADDRESS6]/"',
        env=proxies,
    )  # fmt: skip
    both = "example.org,10.9.0.2,fd09::2,stack"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"10.9.0.2 fd09::2 {both} {both}\n", "")


def test_command_killed_by_a_signal_gives_128_and_its_number() -> None:
    assert run("--", "sh", "-c", "kill -9 $$").returncode == 137


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("no-such-command", 127, "tcpstack: there is no command 'no-such-command'\n"),
        ("/etc/passwd", 126, "tcpstack: '/etc/passwd' cannot be run: Permission denied\n"),
        ("/", 126, "tcpstack: '/' cannot be run: "),
    ],
)
def test_command_that_cannot_be_run_says_so(command: str, status: int, said: str) -> None:
    done = run("--", command)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(said)


def test_script_without_its_interpreter_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = run("--", script)
    assert done.returncode == 127
    assert "missing interpreter" in done.stderr


def test_verbose_draws_the_close_to_its_end_on_stderr(site: Path) -> None:
    """The server closes first, and curl is gone before the last segments are: they are drawn all the same."""
    done = run("-v", "--dir", site, "--", "curl", "-sS", "-H", "Connection: close", "http://10.9.0.2/")
    assert (done.returncode, done.stdout) == (0, "<p>a page")
    ladder = done.stderr
    assert "LISTEN → SYN-RECEIVED" in ladder
    assert re.search("FIN-WAIT-[12] → TIME-WAIT|CLOSING → TIME-WAIT", ladder)
    assert "ACK of the peer's FIN" in ladder
    assert "closed" in ladder.splitlines()[-1]


def test_fault_rule_is_seen_at_work(site: Path) -> None:
    done = run("-v", "--dir", site, "--fault", "drop syn nth=1", "--", "curl", "-sS", "http://10.9.0.2/")
    assert (done.returncode, done.stdout) == (0, "<p>a page")
    assert "killed by the fault rule “drop syn nth=1”" in done.stderr


def test_trace_is_a_capture_that_tshark_reads(site: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.pcapng"
    done = run("--trace", trace, "--dir", site, "--", "curl", "-sS", "-o", "/dev/null", "http://10.9.0.2/big.bin")
    assert done.returncode == 0
    fields = [f"-e{name}" for name in ("tcp.flags.syn", "tcp.flags.fin", "tcp.checksum.status", "tcp.len", "ip.src")]
    told = subprocess.run(
        ["tshark", "-r", trace, "-o", "tcp.check_checksum:TRUE", "-T", "fields", *fields],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split("\t") for line in told.stdout.splitlines()]
    assert sum(row[0] in ("1", "True") for row in rows) == 2  # SYN and SYN,ACK
    assert sum(row[1] in ("1", "True") for row in rows) >= 2
    assert {row[2] for row in rows} == {"1"}  # all good
    assert sum(int(row[3]) for row in rows if row[4] == "10.9.0.2") > len(BIG)


def test_sigterm_reaches_the_command_whose_status_counts(started: list[subprocess.Popen[str]]) -> None:
    script = 'trap "echo bye; exit 5" TERM; echo ready; while :; do sleep 0.05; done'
    process = start(started, "--", "sh", "-c", script)
    assert first_line(process) == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (5, "bye\n", "")


def test_sigint_without_a_terminal_reaches_the_command(started: list[subprocess.Popen[str]]) -> None:
    process = start(started, "--", "sh", "-c", "echo ready; exec sleep 60")
    assert first_line(process) == "ready\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_ctrl_c_amid_transfers_leaves_no_process(site: Path) -> None:
    """The terminal's SIGINT reaches the command and us: it goes first, and its status is ours."""
    each = "-o /dev/null http://10.9.0.2/big.bin"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(PROJECT)
        script = f"trap 'echo caught; exit 9' INT; curl -sS -Z --limit-rate 100K {each} {each}"
        os.execv(sys.executable, [*TCPSTACK, "run", "-v", "--dir", str(site), "--", "sh", "-c", script])
    try:
        said = read_until(terminal, b"len 1448")
        os.write(terminal, b"\x03")
        said += read_until(terminal, None)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert b"caught" in said
    assert b"Traceback" not in said
    assert os.waitstatus_to_exitcode(status) == 9
    assert not is_alive(pid)


def read_until(terminal: int, mark: bytes | None) -> bytes:
    """What a pseudo-terminal shows until `mark`, or until nobody has it open any more."""
    said = b""
    while mark is None or mark not in said:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # EIO: the last process has closed it
            data = b""
        if not data:
            assert mark is None, said
            break
        said += data
    return said


def test_client_left_behind_is_given_five_seconds(started: list[subprocess.Popen[str]]) -> None:
    """A process that COMMAND leaves behind does not close: it gets FIN, and RST when its time is over."""
    script = "{ sleep 60 | nc 10.9.0.2 7; } >/dev/null 2>&1 & echo $!; sleep 0.3"
    process = start(started, "-v", "--", "sh", "-c", script)
    begun = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert 5 < time.monotonic() - begun < 9
    assert re.search("FIN-WAIT-1 → FIN-WAIT-2", err)
    assert "RST" in err
    assert out.strip().isdigit()
