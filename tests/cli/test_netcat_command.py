"""What the command line of `tcpstack nc` takes, and what it says of what it does not take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tcpstack import cli
from tcpstack.cli.netcat_arguments import NetcatOptions

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NetcatOptions]:
    """What `nc` was asked for, instead of doing it."""
    options: list[NetcatOptions] = []
    monkeypatch.setattr(cli, "_netcat", lambda one: options.append(one) or 0)
    return options


def test_connect_alone_has_the_documented_defaults(asked: list[NetcatOptions]) -> None:
    assert cli.main(["nc", "10.9.0.1", "9000"]) == 0
    (options,) = asked
    assert (options.listen, options.host, options.port, options.version) == (False, "10.9.0.1", 9000, None)
    assert (options.shut_down, options.wait_s, options.verbosity, options.command) == (False, None, 0, ())
    assert (options.tun, options.loop, options.trace, options.faults) == ("tun0", "uvloop", None, ())
    assert [str(address) for address in options.addresses] == ["10.9.0.2/24", "fd09::2/64"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-l", "9000"], {"listen": True, "host": None, "port": 9000}),
        (["-l", "fd09::2", "9000"], {"listen": True, "host": "fd09::2", "port": 9000}),
        (["-6Nvvw2.5", "kernel", "http"], {"version": 6, "shut_down": True, "verbosity": 2, "wait_s": 2.5, "port": 80}),
        (["-4", "-v", "h", "1"], {"version": 4, "verbosity": 1}),
        (["h", "65535", "-N"], {"shut_down": True, "port": 65535}),
        (["-l", "1", "--", "nc", "-N", "--", "x"], {"command": ("nc", "-N", "--", "x")}),
        (["h", "1", "--tun", "t9", "--address", "192.0.2.7/28", "--loop", "asyncio"], {"tun": "t9", "loop": "asyncio"}),
    ],
)
def test_options_are_taken(asked: list[NetcatOptions], words: list[str], expected: dict[str, Any]) -> None:
    assert cli.main(["nc", *words]) == 0
    assert {name: getattr(asked[0], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nc needs a host and a port, as in: tcpstack nc 10.9.0.1 9000"),
        (["9000"], "nc needs a host and a port"),
        (["-l"], "nc needs a port, and at most an address before it, as in: tcpstack nc -l 9000"),
        (["h", "1", "2"], "nc needs a host and a port"),
        (["h", "0"], "0 is not a port: 1 to 65535, or the name of a service"),
        (["h", "65536"], "65536 is not a port"),
        (["-l", "no-such-service"], "'no-such-service' is not a port"),
        (["-w", "0", "h", "1"], "'0' is not a time in seconds"),
        (["-w", "soon", "h", "1"], "'soon' is not a time in seconds"),
        (["-w", "nan", "h", "1"], "'nan' is not a time in seconds"),
        (["-4", "-6", "h", "1"], "not allowed with argument"),
        (["-u", "h", "1"], "-u"),
    ],
)
def test_mistake_is_named_with_status_2(
    asked: list[NetcatOptions], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["nc", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, asked) == ("", [])
    assert err.startswith("tcpstack: ")
    assert said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-host.invalid", "1"], "no address is known for 'no-such-host.invalid': "),
        (["-4", "fd09::1", "1"], "no IPv4 address is known for 'fd09::1': "),
        (["x" * 70, "1"], f"{'x' * 70!r} cannot be the name of a host"),
        (["-l", "10.9.0.1", "1"], "10.9.0.1 is no address of the stack, which has 10.9.0.2 and fd09::2"),
        (["-6", "-l", "1", "--address", "10.9.0.2/24"], "the stack has no IPv6 address: give it one with --address"),
        (["fd09::1", "1", "--address", "10.9.0.2/24"], "fd09::1 has no IPv4 address, and the stack no other"),
    ],
)
def test_host_that_cannot_be_meant_is_named_with_status_1(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["nc", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tcpstack: {said}")
    assert err.count("\n") == 1


def test_help_fits_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from tcpstack import cli\n"
        "assert cli.main(['nc', '--help']) == 0\n"
        "print(*{'asyncio', 'uvloop', 'dpkt', 'pyroute2', 'h11'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: tcpstack nc [options] HOST PORT [-- COMMAND...]\n")
    assert "example" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert done.stderr.split() == []
