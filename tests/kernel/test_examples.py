"""What README.md and each command's --help tell a newcomer to type, typed: taken from the text itself, so that a change
to something that does not work fails here. The examples of `nc` with a COMMAND are in test_cli_nc.py, those of `doctor`
in test_cli_doctor.py."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tcpstack
from tcpstack import cli
from tcpstack.device.faults import parse_rule
from tests.kernel.doctors import PROJECT, environment, shell

README = (PROJECT / "README.md").read_text()
TYPES = "export USER=root; set -e\n"
INSTALLED = {"tcpstack": f'exec {sys.executable} -P -m tcpstack "$@"', "sudo": 'exec "$@"'}
UNTIL_UP = "curl -sS --retry 30 --retry-all-errors --retry-delay 1"
"""In place of a newcomer who types the second line when the first one says that it serves."""


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands that a newcomer has, found by a shell."""
    for name, line in INSTALLED.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def blocks(kind: str = "") -> list[str]:
    """The README's fenced blocks of that language, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """Its lines, without their comments."""
    return [line for line in (re.sub(r"\s+#.*", "", line) for line in block.splitlines()) if line]


SHOWN = [commands(block) for block in blocks() if not block.startswith("ms  ")]
"""But for the ladder, which is shown and not typed."""


def typed(script: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """By a newcomer in a shell; run makes the namespaces."""
    return subprocess.run(
        ["bash", "-c", TYPES + script], cwd=PROJECT, env=environment(**env), input=given, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def help_of(capsys: pytest.CaptureFixture[str], subcommand: str) -> str:
    assert cli.main([subcommand, "--help"]) == 0
    return capsys.readouterr().out


def examples(capsys: pytest.CaptureFixture[str], subcommand: str) -> list[str]:
    return re.findall(rf"^  (tcpstack {subcommand} .*)$", help_of(capsys, subcommand), re.MULTILINE)


def subcommands(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert cli.main(["--help"]) == 0
    return re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)


# The README


def test_readme_shows_what_is_typed_here() -> None:
    """A new block needs a test of its own."""
    assert [block[0] for block in SHOWN if block] == [
        "./tools/demo", "./tools/test", "tcpstack run -- curl http://10.9.0.2/",
        "sudo ./setup_tun.sh up tun0 --user $USER",
    ]  # fmt: skip
    assert len(blocks("python")) == 1
    inline = set(re.findall(r"`(tcpstack .*?)`", README))
    [netcat] = [command for command in inline if command.startswith("tcpstack nc -")]
    by_their_help = {"tcpstack run", "tcpstack serve", "tcpstack doctor", "tcpstack nc", "tcpstack fuzz --seconds 60"}
    assert inline <= {netcat, "tcpstack drill FILE", *by_their_help}
    for program in ("./tools/demo", "./tools/test", "./setup_tun.sh"):
        assert os.access(PROJECT / program, os.X_OK)


def test_readme_run_examples() -> None:
    page, loss, dir_shell = next(block for block in SHOWN if block[0].startswith("tcpstack run"))
    done = typed(page)
    assert (done.returncode, "TCP in Python" in done.stdout) == (0, True), done.stderr
    done = typed(loss)
    assert (done.returncode, "TCP in Python" in done.stdout) == (0, True)
    assert "killed by the fault rule “drop syn nth=1”" in done.stderr
    assert done.stderr.count("SYN-RECEIVED") >= 1  # by the retransmission
    by_name = re.search(r"`(curl http://stack/)`", README)
    assert by_name is not None
    done = typed(dir_shell, given=f"{by_name[1]} 2>/dev/null\nexit\n")
    assert (done.returncode, "README.md" in done.stdout) == (0, True), done.stderr
    assert typed("tcpstack run -- curl -s http://kernel/").returncode == 7  # the kernel is there, and refuses


def test_readme_nc_example(tmp_path: Path) -> None:
    command = re.search(r"`(tcpstack nc -.*?)`", README)
    assert command is not None
    (tmp_path / "README.md").write_text(README)
    done = typed(f'cd "$D"; {command[1]}', D=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "copy").read_text() == README


@pytest.mark.tun
def test_readme_serve_example() -> None:
    make, serve, fetch = next(block for block in SHOWN if "setup_tun.sh" in block[0])
    fetched = fetch.replace("curl", UNTIL_UP)
    done = shell(f"{TYPES}{make}; {serve} & {fetched}; kill -INT $!; wait $!")
    assert done.returncode == 0, done.stderr
    assert "tcpstack serve" in done.stdout  # the next step that setup_tun.sh tells
    assert "<a href=" in done.stdout  # the directory
    assert "SYN-RECEIVED → ESTABLISHED" in done.stdout  # -v
    assert "http on port 80, echo on port 7 (Ctrl-C ends it)" in done.stderr


@pytest.mark.tun
def test_readme_python_example(tmp_path: Path) -> None:
    """What listens on port 22 of the kernel's side tells what the server of the example answers to it."""
    (tmp_path / "example.py").write_text(blocks("python")[0])
    (tmp_path / "sshd.py").write_text(
        "import socket\n"
        "listener = socket.create_server(('', 22))\n"
        "print('listens', flush=True)\n"
        "client, _ = listener.accept()\n"
        "with socket.create_connection(('10.9.0.2', 7000), timeout=10) as to_example:\n"
        "    to_example.sendall(b'newcomer\\n')\n"
        "    client.sendall(to_example.makefile('rb').readline())\n"
        "client.recv(1)\n"
    )
    until_up = 'until [ -s "$D/up" ]; do sleep 0.02; done'
    script = f'"$P" "$D/sshd.py" >"$D/up" & {until_up}; timeout 20 "$P" "$D/example.py"'
    done = shell(script, P=sys.executable, D=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'hello newcomer\\n'\n", "")


async def test_readme_memory_pair_has_the_addresses_it_says() -> None:
    pattern = r"`async with tcpstack\.open_memory_pair\(\) as \(a, b\)`, which have\s+(\S+) and (\S+)\.\s"
    said = re.search(pattern, README)
    assert said is not None
    async with tcpstack.open_memory_pair() as pair:
        assert [str(host.addresses[0].ip) for host in pair] == list(said.groups())
        await pair[0].create_server(asyncio.Protocol, port=7)
        transport, _ = await pair[1].create_connection(asyncio.Protocol, said[1], 7)
        transport.close()


def test_readme_fault_rules_are_rules() -> None:
    told = re.search(r"`--fault RULE` \| breaks the wire on purpose: (.*)", README)
    assert told is not None
    rules = re.findall(r"`([^`]+)`", told[1])
    assert len(rules) >= 4
    assert [parse_rule(rule).written for rule in rules] == rules


def test_readme_documents_are_there() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (PROJECT / path).exists(), path


# --help


def test_each_command_has_an_example_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    names = subcommands(capsys)
    assert set(names) == {"serve", "run", "nc", "doctor", "drill", "fuzz"}
    for name in names:
        assert examples(capsys, name), name


def test_help_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = examples(capsys, "run")
    done = typed(example)
    assert (done.returncode, "TCP in Python" in done.stdout) == (0, True), done.stderr
    assert "LISTEN → SYN-RECEIVED" in done.stderr


@pytest.mark.tun
@pytest.mark.parametrize("prepared", ["./setup_tun.sh up >/dev/null;", ""])
def test_help_of_serve(capsys: pytest.CaptureFixture[str], prepared: str) -> None:
    [example] = examples(capsys, "serve")
    serve, fetch = re.split(r"\s{2,}then, from another terminal:\s+", example)
    fetched = fetch.replace("curl", UNTIL_UP)
    done = shell(f"{TYPES}{prepared} {serve} & S=$!; {fetched}; kill -INT $S; wait $S")
    assert done.returncode == 0, done.stderr
    assert "<a href=" in done.stdout
    assert "LISTEN → SYN-RECEIVED" in done.stdout


@pytest.mark.tun
def test_help_of_nc_on_this_host(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    [example] = [line for line in examples(capsys, "nc") if " -- " not in line]
    ours, theirs = re.split(r"\s{2,}then, from another terminal:\s+", example)
    until_up = 'until grep -q "Listening on 10.9.0.2 9000" "$D/said"; do sleep 0.02; done'
    done = shell(
        f'{TYPES}{ours} 2>"$D/said" </dev/null & until [ -e "$D/said" ]; do sleep 0.02; done; {until_up}; '
        f"echo hello | {theirs.replace('nc', 'nc -N', 1)}; wait $!",
        D=str(tmp_path),
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert "LISTEN → SYN-RECEIVED" in (tmp_path / "said").read_text()


def test_help_of_fuzz(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = examples(capsys, "fuzz")
    assert example == "tcpstack fuzz --seconds 60"
    done = typed(f"{example.replace('60', '1')} --seed 1 --save /nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+ cases, [\d.]+ simulated hours, \d+ segments, 0 failures", done.stdout.splitlines()[-1])


def test_help_of_drill(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = (PROJECT / "tests" / "drill" / "scripts" / "open-passive-wscale.pkt").read_text()
    (tmp_path / "handshake.pkt").write_text(script.replace("`./conditions.sh`\n", ""))
    lines = [re.split(r"\s{2,}", line)[0] for line in examples(capsys, "drill")]
    assert lines == ["tcpstack drill handshake.pkt", "tcpstack drill --kernel handshake.pkt"]
    for line in lines:
        done = typed(f'cd "$D"; {line}', D=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("passed  handshake.pkt  (")
