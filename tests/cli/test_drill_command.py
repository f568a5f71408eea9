"""`tcpstack drill`: what it prints, and its exit statuses."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from tcpstack.cli.drill import drill
from tcpstack.cli.drill_arguments import add_drill_parser, drill_options
from tcpstack.drill.engine import Engine
from tcpstack.drill.side import Request

GOOD = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 close(3) = 0\n"
BAD = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 close(3) = 1\n"
WRONG = "0 socket(..., SOCK_STRAEM, IPPROTO_TCP) = 3\n"
ELSEWHERE = "0 `reboot`\n"
SCRIPTS = Path(__file__).parents[1] / "drill" / "scripts"


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser(prog="tcpstack")
    add_drill_parser(parser.add_subparsers())
    return drill(drill_options(parser.parse_args(["drill", *map(str, arguments)])))


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    for name, text in (("good", GOOD), ("bad", BAD), ("wrong", WRONG), ("elsewhere", ELSEWHERE)):
        (tmp_path / f"{name}.pkt").write_text(text)
    return tmp_path


def test_one_script_that_passes(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(scripts / "good.pkt") == 0

    out = capsys.readouterr().out
    assert out.startswith(f"passed  {scripts}/good.pkt  (0.000 s in 0.")
    assert out.count("\n") == 1


def test_one_script_that_fails(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(scripts / "bad.pkt") == 1

    out = capsys.readouterr().out
    assert out.startswith(f"FAILED  {scripts}/bad.pkt:2: close() returned 0, not 1\n    +0 close(3) = 1\n")


def test_a_script_that_is_none_and_one_that_is_for_elsewhere(
    scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(scripts / "wrong.pkt") == 2
    assert run(scripts / "elsewhere.pkt") == 2

    out = capsys.readouterr().out
    assert f"{scripts}/wrong.pkt:1:15: 'SOCK_STRAEM' stands for nothing here: do you mean SOCK_STREAM?\n" in out
    assert f"not run  {scripts}/elsewhere.pkt:1: `reboot`: no command is run on the engine but sysctl" in out


def test_a_directory_is_all_scripts_beneath_it(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(scripts) == 1

    assert capsys.readouterr().out.endswith("\n4 scripts: 1 passed, 1 failed, 2 could not be run\n")


def test_verbose_shows_the_ladder_of_what_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-v", SCRIPTS / "open-active.pkt") == 0

    assert "SYN-SENT → ESTABLISHED     <── SYN,ACK seq 0 ack 1" in capsys.readouterr().out


def test_options_of_the_command_line_prevail(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scripts / "six.pkt"
    path.write_text(
        "--ip_version=ipv4\n" + GOOD.replace("+0 close(3) = 0\n", "+0...1 connect(3, ..., ...) = 0\n")
        + "+.5 > S 0:0(0) <...>\n+0 < S. 0:0(0) ack 1 win WIN <mss 1000>\n"
    )  # fmt: skip

    assert run("--ip_version=ipv6", "--tolerance_usecs=1000000", "-D", "WIN=1000", "-v", path) == 0

    assert "fd3d:" in capsys.readouterr().out


def test_the_command_lines_of_the_corpora_are_understood(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devices = ("--gateway_ip=192.168.0.1", "--netmask_ip=255.255.0.0", "--send_omit_free")
    words = ("-D", "CMSG_LEVEL_IP=SOL_IP", "-D", "TFO_COOKIE=3021b9d889017eeb")

    assert run(*devices, *words, scripts / "good.pkt") == 0
    assert capsys.readouterr().out.startswith("passed")


def test_differences_are_listed_and_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--differences", SCRIPTS / "urgent.pkt", SCRIPTS / "open-active.pkt") == 0

    out = capsys.readouterr().out
    assert out.startswith(f"{SCRIPTS}/urgent.pkt:")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mtu=3", "good.pkt"), "--mtu is a number from 68 to 65535, not '3'"),
        (("empty",), "there is no script"),
    ],
)
def test_what_was_not_asked_for_in_a_way_that_can_be_understood(
    scripts: Path, arguments: tuple[str, ...], words: str
) -> None:
    (scripts / "empty").mkdir()
    *options, name = arguments

    with pytest.raises(ValueError, match=words):
        run(*options, scripts / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "nosuch.pkt")


def test_one_that_is_not_there_does_not_keep_the_others_from_being_run(
    scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(scripts / "nosuch.pkt", scripts / "good.pkt") == 2

    out = capsys.readouterr().out
    assert out.startswith(f"not run  {scripts}/nosuch.pkt: No such file or directory\npassed  ")
    assert out.endswith("2 scripts: 1 passed, 0 failed, 1 could not be run\n")


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(OSError, match="Input/output error") as caught:
        run("/proc/self/mem")
    assert caught.value.filename == "/proc/self/mem"


def test_a_script_on_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + BAD.encode())))

    assert run("-") == 1

    assert capsys.readouterr().out.startswith("FAILED  stdin:2: close() returned 0, not 1\n")


def test_a_defect_of_ours_ends_one_script_and_not_the_run(
    scripts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start_call(self: Engine, request: Request) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Engine, "start_call", start_call)

    assert run(scripts / "good.pkt", scripts / "bad.pkt") == 1

    out = capsys.readouterr().out
    assert f"FAILED  {scripts}/good.pkt: the drill itself failed, which is a bug: ZeroDivisionError: oh\n" in out
    assert out.endswith("2 scripts: 0 passed, 2 failed\n")


def test_help_has_an_example_of_each_side(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")

    out = capsys.readouterr().out
    assert "tcpstack drill handshake.pkt " in out
    assert "tcpstack drill --kernel handshake.pkt" in out


def test_addresses_that_no_network_has_together(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found before any namespace is made."""
    status = run("--kernel", "--local_ip=10.0.0.1", "--remote_ip=200.0.0.1", scripts / "good.pkt")

    assert status == 2
    assert "10.0.0.1 and 200.0.0.1 are on no network together" in capsys.readouterr().out


def test_a_terminal_without_box_drawing_gets_the_ladder_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ascii:
        encoding = "ascii"

        def __init__(self) -> None:
            self.written = ""

        def write(self, text: str) -> None:
            text.encode("ascii")
            self.written += text

        def flush(self) -> None:
            pass

    stream = Ascii()
    monkeypatch.setattr("sys.stdout", stream)

    assert run("-v", SCRIPTS / "open-active.pkt") == 0
    assert "SYN,ACK seq 0 ack 1" in stream.written
