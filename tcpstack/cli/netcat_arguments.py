"""What `tcpstack nc` is told: its options, and what they mean. Loads nothing heavy, for --help's sake."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .arguments import Interface, add_stack_options, stack_addresses

if TYPE_CHECKING:
    from ..device.faults import Rule

DESCRIPTION = """\
Netcat on the stack: stdin goes to the peer, and what the peer sends goes to stdout. It connects from the
stack's own address to HOST (the kernel behind the TUN device, and what that forwards to), or with -l waits for
one connection to PORT.

With COMMAND both live in a network namespace made for them (no root needed where user namespaces are allowed).
COMMAND is a program of the kernel's side there, which has 10.9.0.1 and fd09::1. stdin and stdout stay nc's:
COMMAND has no input, and its output goes to stderr. Without COMMAND, nc works on this host's TUN device.
"""
EPILOG = """\
When it ends, as OpenBSD's nc: once stdin is at its end and the peer has closed. With -l it is enough that the
peer has closed and stdin has been silent for a second. The end of stdin is passed on with -N only, so one of
the two ends has to be given -N. Ctrl-C ends it within half a second, and resets a peer that goes on.

exit status, as OpenBSD's nc: 0 a connection was made and is over, however it ended; 1 there was none, or a
file, a device or a name failed; 130 Ctrl-C; 143 SIGTERM. Not as nc: 2 the command line is wrong; 141 whoever
read stdout has gone; 127 and 126 COMMAND can't be run.

examples, a file each way, in a namespace of its own:
  tcpstack nc -l 9000 -- sh -c 'nc -N 10.9.0.2 9000 < README.md' > copy
  tcpstack nc -N 10.9.0.1 9000 -- sh -c 'nc -l 9000 > copy' < README.md
and on this host, with a device that ./setup_tun.sh made (or as root, without one):
  tcpstack nc -vv -l 9000           then, from another terminal:  nc 10.9.0.2 9000
"""


@dataclass(frozen=True, slots=True)
class NetcatOptions:
    """What to do. `host` is None where none was named, `version` 4, 6 or None for either; `command` may be empty."""

    listen: bool
    host: str | None
    port: int
    version: int | None
    shut_down: bool
    wait_s: float | None
    verbosity: int
    tun: str
    addresses: tuple[Interface, ...]
    loop: str
    trace: str | None
    faults: tuple[Rule, ...]
    command: tuple[str, ...]


def add_netcat_parser(commands: Any) -> None:
    """Declare the subcommand `nc`; `netcat_options` reads what it has parsed."""
    parser = commands.add_parser(
        "nc",
        help="netcat: connect stdin and stdout to a peer",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="tcpstack nc [options] HOST PORT [-- COMMAND...]\n"
        "       tcpstack nc [options] -l [HOST] PORT [-- COMMAND...]",
    )
    parser.add_argument(
        "words", nargs="*", metavar="HOST PORT",
        help="an address or a name (with -l one of the stack's own, all of them by default); a number or a service",
    )  # fmt: skip
    parser.add_argument("-l", "--listen", action="store_true", help="wait for one connection and take it")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="version", action="store_const", const=4, help="IPv4 only")
    family.add_argument("-6", dest="version", action="store_const", const=6, help="IPv6 only")
    parser.add_argument("-N", dest="shut_down", action="store_true", help="half-close: send FIN at the end of stdin")
    parser.add_argument(
        "-w", dest="wait_s", metavar="SECS", type=_seconds,
        help="give up a connection that is not made, or in which nothing moves, for SECS; -l still waits for ever",
    )  # fmt: skip
    parser.add_argument(
        "-v", "--verbose", action="count", default=0,
        help="say who is connected; -vv also draws the conversation as a ladder, as it happens, on stderr",
    )  # fmt: skip
    add_stack_options(parser)


def netcat_options(parsed: argparse.Namespace, command: Sequence[str]) -> NetcatOptions:
    """What was asked for. Raises ValueError where it makes no sense."""
    words = parsed.words
    example = "-l 9000" if parsed.listen else "10.9.0.1 9000"
    if not (1 if parsed.listen else 2) <= len(words) <= 2:
        what = "a port, and at most an address before it" if parsed.listen else "a host and a port"
        raise ValueError(f"nc needs {what}, as in: tcpstack nc {example}")
    return NetcatOptions(
        listen=parsed.listen,
        host=words[0] if len(words) == 2 else None,
        port=_port(words[-1]),
        version=parsed.version,
        shut_down=parsed.shut_down,
        wait_s=parsed.wait_s,
        verbosity=parsed.verbose,
        tun=parsed.tun,
        addresses=stack_addresses(parsed),
        loop=parsed.loop,
        trace=parsed.trace,
        faults=tuple(parsed.fault),
        command=tuple(command),
    )


def _port(text: str) -> int:
    if text.isascii() and text.isdigit():
        if len(text) < 6 and 1 <= int(text) <= 65535:
            return int(text)
        raise ValueError(f"{text} is not a port: 1 to 65535, or the name of a service")
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        raise ValueError(f"{text!r} is not a port: 1 to 65535, or the name of a service") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds, as in 5 or 0.5")
    return seconds
