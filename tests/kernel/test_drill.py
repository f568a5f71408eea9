"""The scripts of tests/drill, run on Linux: what passes on both sides is what both do, and where they differ each has
a line of its own and the reason why."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tcpstack.drill.run import FAILED, PASSED, Result, run_file

SCRIPTS = Path(__file__).parents[1] / "drill" / "scripts"
AT_ONCE = 4
"""They mostly wait: each has its own namespace, and two minutes of waiting become half of one."""
ATTEMPTS = 2
ATTEMPTS_ALONE = 10
"""Time is real here. A machine that is busy, with the other scripts or something else, delays what a script expects; a
difference between the kernel and the script comes back each time."""


def attempt(script: str, times: int = ATTEMPTS) -> Result:
    for _ in range(times):
        result = run_file(SCRIPTS / f"{script}.pkt", kernel=True)
        if result.verdict == PASSED:
            break
    return result


@pytest.fixture(scope="module", autouse=True)
def sysctl() -> None:
    if shutil.which("sysctl") is None and shutil.which("sysctl", path="/usr/sbin:/sbin") is None:
        pytest.skip("the scripts need the program sysctl (Debian's package procps)")


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> dict[str, Result]:
    """Of all scripts that this run has chosen, by name. They are over before the first test looks."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen = [item.callspec.params["script"] for item in items if item.originalname == "test_script_passes_on_linux"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(chosen, pool.map(attempt, chosen), strict=True))
    return {
        script: result if result.verdict == PASSED else attempt(script, ATTEMPTS_ALONE)
        for script, result in found.items()
    }


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.pkt")))
def test_script_passes_on_linux(script: str, results: dict[str, Result]) -> None:
    result = results[script]

    assert result.verdict == PASSED, result.message


HANDSHAKE = """\
    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
   +0 bind(3, ..., ...) = 0
   +0 listen(3, 1) = 0
   +0 < S 0:0(0) win 1000 <mss 1000>
   +0 > S. 0:0(0) ack 1 <mss 1460>
  +.1 < . 1:1(0) ack 1 win 1000
   +0 accept(3, ..., ...) = 4
"""


def run(tmp_path: Path, text: str) -> Result:
    path = tmp_path / "script.pkt"
    path.write_text("--tolerance_usecs=100000\n" + text)
    return run_file(path, kernel=True)


def test_a_difference_is_shown_with_the_kernels_conversation(tmp_path: Path) -> None:
    result = run(tmp_path, HANDSHAKE + "+0 write(4, ..., 10) = 10\n+0 > P. 1:12(11) ack 1\n")

    assert result.verdict == FAILED
    assert "script.pkt:10: another packet than expected: seq" in result.message
    assert "1:12(11)  1:11(10)  <- differs" in result.message
    assert "Linux 192.168.0.1:8080" in result.message
    assert "SYN-RECEIVED → ESTABLISHED <── ACK seq 1 ack 1" in result.message


def test_calls_that_block_forever_and_calls_that_fail_end_the_run(tmp_path: Path) -> None:
    blocking = run(tmp_path, HANDSHAKE + "+0...0.2 read(4, ..., 10) = 10\n")
    failing = run(tmp_path, HANDSHAKE + "+0 close(9) = 0\n")

    assert "read() still blocks at" in blocking.message
    assert "close() returned -1 EBADF, not 0" in failing.message


def test_tcp_info_can_be_asked_for_while_a_call_blocks(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        HANDSHAKE + "+0...0.3 read(4, ..., 10) = 10\n+.1 %{ assert tcpi_state == TCP_ESTABLISHED }%\n"
        "+.1 < P. 1:11(10) ack 1 win 1000\n",
    )

    assert result.verdict == PASSED, result.message


def test_commands_run_in_the_namespace_and_one_that_fails_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    name = "net.ipv4.tcp_fin_timeout"
    good = run(tmp_path, f"`test -e here && sysctl -q {name}=7`\n0 `test $(sysctl -n {name}) = 7`\n")
    bad = run(tmp_path, "`echo no such luck; exit 3`\n0 `true`\n")

    assert good.verdict == PASSED, good.message
    assert bad.verdict == FAILED
    assert "script.pkt:2: `echo no such luck; exit 3` ended with status 3: no such luck" in bad.message


def test_ctrl_c_while_a_command_runs_shows_no_traceback(tmp_path: Path) -> None:
    """A terminal sends it to the whole process group."""
    path = tmp_path / "script.pkt"
    path.write_text("`touch here; sleep 30`\n0 `true`\n")
    words = (sys.executable, "-m", "tcpstack", "drill", "--kernel", str(path))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        until = time.monotonic() + 20
        while not (tmp_path / "here").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (130, "", "")
