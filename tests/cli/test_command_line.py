"""What the command line takes, and what it says of what it does not take."""

import argparse
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tcpstack import cli
from tcpstack.cli.arguments import ServeOptions, add_serve_options, serve_options
from tcpstack.device.fault_grammar import FORMS, shape


class Asked:
    """Stands where the commands would run: keeps what they were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.options: ServeOptions | None = None
        self.command: list[str] | None = None
        self.raises: BaseException | None = None
        monkeypatch.setattr(cli, "_serve", self._serve)
        monkeypatch.setattr(cli, "_run", self._run)

    def _serve(self, options: ServeOptions) -> int:
        self.options = options
        if self.raises is not None:
            raise self.raises
        return 0

    def _run(self, options: ServeOptions, command: list[str]) -> int:
        self.options, self.command = options, command
        return 3


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def options_of(*words: str) -> ServeOptions:
    parser = argparse.ArgumentParser()
    add_serve_options(parser)
    return serve_options(parser.parse_args(words))


def test_serve_alone_has_the_documented_defaults(asked: Asked) -> None:
    assert cli.main(["serve"]) == 0
    options = asked.options
    assert options is not None
    assert options.tun == "tun0"
    assert [str(address) for address in options.addresses] == ["10.9.0.2/24", "fd09::2/64"]
    assert options.ports == {"http": 80, "echo": 7}
    assert options.loop == "uvloop"
    assert (options.directory, options.trace, options.faults, options.verbose) == (None, None, (), False)


def test_serve_options_are_taken(tmp_path: Path) -> None:
    trace = tmp_path / "new.pcapng"
    options = options_of(
        "--tun", "t9", "--address", "192.0.2.7/28", "--address", "2001:db8::7/64", "--http", "8080", "--echo", "0",
        "--discard", "9", "--chargen", "19", "--dir", str(tmp_path), "--loop", "asyncio", "--trace", str(trace), "-v",
    )  # fmt: skip
    assert options.tun == "t9"
    assert [str(address) for address in options.addresses] == ["192.0.2.7/28", "2001:db8::7/64"]
    assert options.ports == {"http": 8080, "discard": 9, "chargen": 19}
    assert (options.directory, options.loop, options.verbose) == (str(tmp_path), "asyncio", True)
    assert options.trace == str(trace)
    assert not trace.exists()


def test_fault_rules_keep_their_order() -> None:
    rules = options_of("--fault", "drop syn nth=1", "--fault", "loss 5% seed=7").faults
    assert [rule.written for rule in rules] == ["drop syn nth=1", "loss 5% seed=7"]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["--", "curl", "-s", "x"], ["curl", "-s", "x"]),
        (["-v", "--", "sh", "-c", "x", "--", "y"], ["sh", "-c", "x", "--", "y"]),
        (["-v", "curl", "-v", "x"], ["curl", "-v", "x"]),
        (["--echo", "0", "env", "--", "x"], ["env", "--", "x"]),
        (["--", "-odd"], ["-odd"]),
        (["--", "--"], ["--"]),
    ],
)
def test_run_hands_over_the_command_word_by_word(asked: Asked, words: list[str], command: list[str]) -> None:
    assert cli.main(["run", *words]) == 3
    assert asked.command == command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "--address", "10.9.0.2"], "'10.9.0.2' lacks its prefix length, as in 10.9.0.2/24"),
        (["serve", "--address", "10.9.0.300/24"], "'10.9.0.300/24' is not an address"),
        (["serve", "--address", "10.9.0.0/24"], "is no host's address: choose one inside 10.9.0.0/24"),
        (["serve", "--address", "10.9.0.255/24"], "is no host's address"),
        (["serve", "--address", "224.0.0.1/8"], "is no host's address"),
        (["serve", "--address", "10.9.0.2/32"], "as in 10.9.0.2/24"),
        (["serve", "--address", "fd09::2/128"], "as in fd09::2/64"),
        (["serve", "--address", "10.9.0.2/24", "--address", "10.9.0.2/16"], "names 10.9.0.2 twice"),
        (["serve", "--http", "65536"], "--http: '65536' is not a port: 1 to 65535, or 0 for off"),
        (["serve", "--http", "-1"], "'-1' is not a port"),
        (["serve", "--echo", "eighty"], "'eighty' is not a port"),
        (["serve", "--echo", "80"], "--http and --echo cannot share port 80"),
        (["serve", "--dir", "/nowhere/at/all"], "'/nowhere/at/all' does not exist"),
        (["serve", "--dir", __file__], "is not a directory"),
        (["serve", "--trace", "/nowhere/x.pcapng"], "there is no directory '/nowhere'"),
        (["serve", "--trace", "/"], "it is a directory"),
        (["serve", "--loop", "trio"], "invalid choice: 'trio'"),
        (["serve", "--fault", "dorp syn"], "dorp"),
        (["serve", "--", "curl"], "tcpstack run"),
        (["run"], "run what?"),
        (["run", "--foo"], "unrecognized arguments: --foo\n(tcpstack run --help tells more)"),
        (["fuzz", "--cases", "1", "--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 on"),
        (["run", "-v", "--"], "run what?"),
        ([], "required"),
        (["sevre"], "sevre"),
    ],
)  # fmt: skip
def test_mistake_is_named_with_status_2(
    asked: Asked, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tcpstack: ")
    assert said in err
    assert "Traceback" not in err
    assert asked.options is None


def test_mistaken_fault_rule_is_pointed_at(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--fault", "drop sin nth=1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    rule = next(line for line in lines if line.strip() == "drop sin nth=1")
    caret = lines[lines.index(rule) + 1]
    assert rule[caret.index("^") :].startswith("sin")


def test_directory_that_may_not_be_read_is_refused(
    asked: Asked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    assert cli.main(["serve", "--dir", str(tmp_path)]) == 2
    assert "may not be read" in capsys.readouterr().err
    assert cli.main(["serve", "--trace", str(tmp_path / "x")]) == 2
    assert "permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(16, "tun0 is in use: stop it"), 1, "tcpstack: tun0 is in use: stop it\n"),
        (FileNotFoundError(2, "No such file", "x.pcapng"), 1, "tcpstack: x.pcapng: No such file\n"),
        (OSError("odd"), 1, "tcpstack: odd\n"),
        (ValueError("10.9.0.1 is the kernel's own"), 2, "tcpstack: 10.9.0.1 is the kernel's own\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)  # fmt: skip
def test_error_while_running_is_one_sentence(
    asked: Asked, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    asked.raises = error
    assert cli.main(["serve"]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["run", "--help"], ["--version"]])
def test_help_is_given_with_status_0(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "tcpstack" in out
    assert max(map(len, out.splitlines())) <= 120
    if words[0] in ("serve", "run"):
        assert "example" in out


@pytest.mark.parametrize("command", ["serve", "run", "nc"])
def test_help_of_whoever_takes_fault_rules_has_them_all(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert cli.main([command, "--help"]) == 0
    out = capsys.readouterr().out
    for verb, form in FORMS.items():
        assert f"\n  {shape(verb)}" in out
        assert f"  {form.what}\n" in out
    assert out.count("docs/faults.md") == 1
    assert cli.main(["fuzz", "--help"]) == 0
    assert "docs/faults.md" not in capsys.readouterr().out


def test_module_runs_as_the_command_and_help_loads_nothing_heavy() -> None:
    """--help must not wait for the event loop's, the engine's or netlink's imports."""
    code = (
        "import sys, runpy\n"
        "sys.argv = ['tcpstack', 'serve', '--help']\n"
        "try:\n    runpy.run_module('tcpstack', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "print(*{'asyncio', 'uvloop', 'dpkt', 'pyroute2', 'h11'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--fault RULE" in done.stdout
    assert done.stderr.split() == []


def test_trace_file_that_is_there_may_be_overwritten(tmp_path: Path) -> None:
    trace = tmp_path / "old.pcapng"
    trace.write_text("old")
    assert options_of("--trace", str(trace)).trace == str(trace)
    assert stat.S_ISREG(trace.stat().st_mode)
    assert trace.read_text() == "old"
