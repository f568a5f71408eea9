"""The scripts of tests/drill, run on Linux: what passes on both sides is what both do, and where they differ each has
a line of its own and the reason why."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tcpstack.drill.kernel import Kernel
from tcpstack.drill.run import FAILED, PASSED, Result, run_file
from tcpstack.drill.settings import Settings
from tcpstack.drill.side import Request

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
    # Processes: in one, a thread that is due would wait for the interpreter while another thread has it.
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as pool:
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


def test_what_a_command_complained_of_is_told_where_the_script_fails(tmp_path: Path) -> None:
    complaining = "`echo all is well; echo no such queue >&2`\n"
    failing = run(tmp_path, complaining + HANDSHAKE + "+0 read(4, ..., 10) = 10\n")
    passing = run(tmp_path, complaining + "0 `true`\n")

    assert "line 2: this command has ended well, but it said:\n        no such queue\n" in failing.message
    assert (passing.verdict, passing.message) == (PASSED, "")


def test_commands_are_children_of_a_process_that_goes_by_packetdrills_name_for_itself(tmp_path: Path) -> None:
    result = run(tmp_path, "`test $PPID = $PACKETDRILL_PID && echo kept > it_$PPID`\n0 `test -s it_${PPID}`\n")

    assert result.verdict == PASSED, result.message


def test_every_congestion_control_of_this_kernel_can_be_the_scripts(tmp_path: Path) -> None:
    """Those, too, that the host keeps from namespaces; the host's own setting stays as it is."""
    setting = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    before = setting.read_text()
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    name = "net.ipv4.tcp_congestion_control"
    for chosen in available:
        text = f'+0 getsockopt(4, SOL_TCP, TCP_CONGESTION, "{chosen}", [16]) = 0\n'
        text += f"+0 `sysctl {name} | grep {chosen}`\n"
        result = run(tmp_path, f"`sysctl -q {name}={chosen}`\n" + HANDSHAKE + text)
        assert result.verdict == PASSED, result.message
    missing = run(tmp_path, f"`sysctl -q {name}=nosuch`\n0 `true`\n")

    assert missing.verdict == FAILED
    assert "No such file or directory" in missing.message
    assert setting.read_text() == before


def test_packets_have_the_kernels_time_however_late_they_are_read(tmp_path: Path) -> None:
    kernel = Kernel(Settings(), tmp_path)
    try:
        kernel.start_clock()
        kernel.start_call(Request("socket", (socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)))
        made = kernel.finish_call(1_000_000_000)
        assert made is not None
        kernel.start_call(Request("connect", (made.result, "192.0.2.1", 8080)))
        called = kernel.finish_call(1_000_000_000)
        assert called is not None
        while kernel.now_ns < called.ended_ns + 50_000_000:
            time.sleep(0.01)
        syn = kernel.next_packet(kernel.now_ns)
    finally:
        kernel.close()

    assert syn is not None
    assert 0 < syn.time_ns <= called.ended_ns


def test_calls_that_linux_alone_has(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(20))
    result = run(
        tmp_path,
        HANDSHAKE
        + """\
   +0 setsockopt(4, SOL_TCP, TCP_INQ, [1], 4) = 0
   +0 epoll_create(1) = 5
   +0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN|EPOLLOUT|EPOLLET, fd=4}) = 0
   +0 epoll_wait(5, {events=EPOLLOUT, fd=4}, 1, 0) = 1
   +0 epoll_wait(5, {}, 1, 0) = 0
   +0 < P. 1:301(300) ack 1 win 1000
   +0 > . 1:1(0) ack 301
   +0 epoll_wait(5, {events=EPOLLIN|EPOLLOUT, fd=4}, 1, 0) = 1
   +0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 100}], msg_flags=0,
                  msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=200}]}, 0) = 100
   +0 write(4, NULL, 10) = -1 EFAULT (Bad address)
   +0 recv(4, NULL, 10, 0) = -1 EFAULT (Bad address)
   +0 write(4, ..., 10) = 10
   +0 > P. 1:11(10) ack 301
   +0 open("/proc/self/cwd", O_RDONLY) = 6
   +0 sendfile(4, 6, [0], 5) = -1 EINVAL
   +0 open("ZEROS", O_RDONLY) = 7
   +0 sendfile(4, 7, [5], 20) = 15
  +.1 < . 301:301(0) ack 11 win 1000
   +0 > P. 11:26(15) ack 301
   +0 close(7) = 0
   +0 sendfile(4, 7, [0], 5) = -1 EBADF
   +0 %{ assert SK_MEMINFO_RCVBUF > 0 and SK_MEMINFO_DROPS == 0 }%
""".replace("ZEROS", str(tmp_path / "zeros")),
    )

    assert result.verdict == PASSED, result.message


def test_a_connection_is_opened_fast(tmp_path: Path) -> None:
    """The first asks for a cookie, the second has its text in the SYN."""
    opening = """\
   +0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, IPPROTO_TCP) = FD
   +0 sendto(FD, ..., 100, MSG_FASTOPEN, ..., ...) = """
    result = run(
        tmp_path,
        "`sysctl -q net.ipv4.tcp_fastopen=1 net.ipv4.tcp_timestamps=0`\n"
        + opening.replace("+0 s", "0 s", 1).replace("FD", "3")
        + """-1 EINPROGRESS
   +0 > S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 10,FO,nop,nop>
 +.01 < S. 0:0(0) ack 1 win 1000 <mss 1000,FO 0102030405060708,nop,nop>
   +0 > . 1:1(0) ack 1
   +0 close(3) = 0
   +0 > F. 1:1(0) ack 1
"""
        + opening.replace("FD", "4")
        + """100
   +0 > S 0:100(100) <mss 1460,nop,nop,sackOK,nop,wscale 10,FO 0102030405060708,nop,nop>
 +.01 < S. 0:0(0) ack 101 win 1000 <mss 1000>
   +0 > . 101:101(0) ack 1
""",
    )

    assert result.verdict == PASSED, result.message


def test_a_large_packet_is_a_train_where_its_mss_is_said(tmp_path: Path) -> None:
    """By what Linux then takes its peer's segments to be."""
    train = "+0 < P. 1:6001(6000) ack 1 win 1000\n*  > . 1:1(0) ack 6001\n"
    as_one = run(tmp_path, HANDSHAKE + train + "+0 %{ assert tcpi_rcv_mss == 1460, tcpi_rcv_mss }%\n")
    as_train = run(tmp_path, "--mss=700\n" + HANDSHAKE + train + "+0 %{ assert tcpi_rcv_mss == 700, tcpi_rcv_mss }%\n")

    assert as_one.verdict == PASSED, as_one.message
    assert as_train.verdict == PASSED, as_train.message


def test_linux_is_taken_at_its_word_with_large_packets(tmp_path: Path) -> None:
    """With strict segments a packet is what Linux hands down to its interface, PSH included."""
    write = "+0 write(4, ..., 2000) = 2000\n"
    small = "`sysctl -q net.ipv4.tcp_congestion_control=reno`\n" + HANDSHAKE.replace("win 1000", "win 10000")
    text = {
        "whole": "+0 > P. 1:2001(2000) ack 1\n",
        "cut": "+0 > . 1:1001(1000) ack 1\n+0 > P. 1001:2001(1000) ack 1\n",
    }
    verdicts = {
        (kind, strict): run(tmp_path, ("--strict_segments\n" if strict else "") + small + write + text[kind]).verdict
        for kind in text
        for strict in (False, True)
    }

    assert verdicts == {
        ("whole", False): PASSED, ("whole", True): PASSED, ("cut", False): PASSED, ("cut", True): FAILED,
    }  # fmt: skip
