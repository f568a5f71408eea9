"""Errors that a user can cause at the command line or in the API, and that take no kernel: one sentence, a documented
status. docs/errors.md lists all; the rows here are those that no other test causes (see the table there)."""

from __future__ import annotations

import asyncio
import errno
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tcpstack
from tcpstack import cli

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fuzz"], "one of the arguments --seconds --cases is required"),
        (["fuzz", "--cases", "0"], "argument --cases: '0' is not a number above zero"),
        (["fuzz", "--seconds", "soon"], "argument --seconds: 'soon' is not a number above zero"),
        (["doctor", "--tun", "no/name"], "--tun: 'no/name' can't name an interface: use 1 to 15 octets"),
        (["doctor", "--", "true"], "doctor runs no command: leave out what follows '--'"),
        (["nc", "10.9.0.1", "0"], "0 is not a port: 1 to 65535, or the name of a service"),
        (["nc", "-l", "0"], "0 is not a port: 1 to 65535, or the name of a service"),
        (["nc", "--fault", "dorp syn", "-l", "9"], "there is no rule 'dorp' (do you mean drop?): it is drop, "),
        (["nc", "--address", "10.9.0.300/24", "-l", "9"], "'10.9.0.300/24' is not an address with a prefix length"),
        (["run", "--address", "10.9.0.2/33", "--", "true"], "'10.9.0.2/33' is not an address with a prefix length"),
        (["run", "--trace", "/proc/x/y", "--", "true"], "there is no directory '/proc/x'"),
    ],
)  # fmt: skip
def test_mistake_is_named_with_status_2(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tcpstack: ")
    assert said in err
    assert "Traceback" not in err


def test_script_that_is_not_there_is_named_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drill", "/nowhere/x.pkt"]) == 1
    assert capsys.readouterr() == ("", "tcpstack: /nowhere/x.pkt: No such file or directory\n")


# The API, on a memory pair


@pytest.mark.parametrize(
    ("method", "arguments", "kind", "said"),
    [
        ("create_server", (None, 80), errno.EADDRINUSE, "port 80 is listened on already"),
        ("create_server", ("192.0.2.1", 81), errno.EADDRNOTAVAIL, "192.0.2.1 is not an address of this stack"),
        ("create_server", (None, 70000), ValueError, "the port must be 0 to 65535, not 70000"),
        ("create_connection", ("10.9.0.2", 0), ValueError, "the remote port must be 1 to 65535, not 0"),
        ("create_connection", ("10.9.0.2", 81), errno.ECONNREFUSED, "('10.9.0.2', 81)"),
        ("create_connection", ("10.9.0.1", 81), errno.ECONNREFUSED, "('10.9.0.1', 81)"),
        ("create_connection", ("224.0.0.1", 81), errno.ENETUNREACH, "224.0.0.1 is not the address of one host"),
        ("create_connection", ("no-such-host.invalid", 81), socket.gaierror, "[Errno "),
    ],
)  # fmt: skip
async def test_failing_call_of_a_host_says_why(method: str, arguments: tuple[Any, ...], kind: Any, said: str) -> None:
    async with tcpstack.open_memory_pair() as (host, _):
        await host.create_server(asyncio.Protocol, port=80)
        with pytest.raises(kind if isinstance(kind, type) else OSError, match=re.escape(said)) as raised:
            await getattr(host, method)(asyncio.Protocol, *arguments)
        assert isinstance(kind, type) or raised.value.errno == kind


async def test_port_0_listens_on_a_free_port() -> None:
    async with tcpstack.open_memory_pair() as (host, _):
        server = await host.create_server(asyncio.Protocol, port=0)
        assert server.sockets[0].getsockname()[1] > 0


async def test_address_that_is_none_is_named() -> None:
    for text in ("10.9.0.300/24", "10.9.0.2/33", "stack"):
        with pytest.raises(ValueError, match=re.escape(text)):
            async with tcpstack.open_tun("tun0", text):
                pass


async def test_name_that_no_interface_can_have_is_named() -> None:
    with pytest.raises(tcpstack.DeviceError, match="'no/name' can't name an interface: use 1 to 15 octets"):
        async with tcpstack.open_tun("no/name", "10.9.0.2/24"):
            pass


# Ctrl-C before there is anything to interrupt

INTERRUPTED = """
import os, signal, sys
class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupter())
from tcpstack.__main__ import command
sys.exit(command())
"""


@pytest.mark.parametrize(
    ("module", "status"),
    [
        ("tcpstack.cli", -signal.SIGINT),
        ("argparse", -signal.SIGINT),
        ("tcpstack.cli.netcat_arguments", -signal.SIGINT),
        ("tcpstack.cli.serve", 130),
        ("asyncio", 130),
        ("uvloop", 130),
        ("dpkt", 130),
        ("tcpstack.stack.stack", 130),
    ],
)
def test_ctrl_c_while_modules_are_loaded_ends_it_quietly(module: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "serve", "--tun", "no/name"], cwd=PROJECT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
