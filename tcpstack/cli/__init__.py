"""The command `tcpstack`: one subcommand a file, and here what they share: parsing, errors, exit statuses.

Exit statuses: 0 done, 1 it could not be done, 2 it was not asked for in a way that can be understood, 130
interrupted, 141 nobody reads the output; `tcpstack run` gives COMMAND's own. An error is one sentence on stderr, never
a traceback. docs/errors.md has them all.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from .arguments import ServeOptions, add_serve_options, serve_options
from .descriptors import abandon, replace_missing, tell, unwritable
from .doctor_arguments import add_doctor_parser
from .drill_arguments import DrillOptions, add_drill_parser, drill_options
from .fuzz_arguments import add_fuzz_parser
from .netcat_arguments import NetcatOptions, add_netcat_parser, netcat_options

DESCRIPTION = "A TCP in Python, behind a TUN device: it answers for an IP address of its own."
SERVE = """\
Own an address on a TUN device and serve there until Ctrl-C or SIGTERM. Then all connections are closed, and
reset where they are not done after 5 s; a second Ctrl-C resets them at once. One line is printed for each
connection that is over.
"""
SERVE_EXAMPLE = """\
example, on a device that ./setup_tun.sh made (or as root, without one):
  tcpstack serve --dir . -v         then, from another terminal:  curl http://10.9.0.2/
"""
RUN = """\
Make a network namespace (no root needed where user namespaces are allowed), serve in it as `tcpstack serve`
does, and run COMMAND there. The kernel's side has the first free address of each network: 10.9.0.1, fd09::1.
"""
RUN_EXAMPLE = """\
example:
  tcpstack run -v -- curl http://10.9.0.2/

COMMAND finds the stack's addresses in TCPSTACK_ADDRESS and TCPSTACK_ADDRESS6, and by the name stack; the kernel's
side is called kernel. The exit status is COMMAND's own: 128+N where signal N ended it, 127 where there is no such
command, 126 where it can't be executed.
"""


_DISK_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own by default). Returns the exit status; raises nothing."""
    replace_missing()
    status, sentence = _outcome(argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        abandon(sys.stdout)
        status, sentence = _failure(unwritable(error))
    if sentence is not None:
        tell(sentence)
    return status


def _outcome(argv: Sequence[str] | None) -> tuple[int, str | None]:
    """The exit status, and what is to be said of an error."""
    try:
        return _subcommand(argv), None
    except SystemExit as stop:  # argparse: --help, --version, or an error that it has told of
        return stop.code if isinstance(stop.code, int) else 1, None
    except KeyboardInterrupt:
        return 130, None
    except OSError as error:
        return _failure(error)
    except ValueError as error:
        return 2, str(error)


def _subcommand(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    # COMMAND's words are not for argparse, whose reading of "--" differs from one Python to the next.
    dashes = arguments.index("--") if "--" in arguments else len(arguments)
    parsed = _parser().parse_args(arguments[:dashes])
    if parsed.subcommand == "doctor":
        if dashes < len(arguments):
            raise ValueError("doctor runs no command: leave out what follows '--'")
        return _doctor(parsed.tun, parsed.json)
    if parsed.subcommand == "drill":
        if dashes < len(arguments):
            raise ValueError("drill runs no command: leave out what follows '--'")
        return _drill(drill_options(parsed))
    if parsed.subcommand == "fuzz":
        return _fuzz(parsed)
    if parsed.subcommand == "nc":
        return _netcat(netcat_options(parsed, arguments[dashes + 1 :]))
    options = serve_options(parsed)
    if parsed.subcommand == "run":
        # Where COMMAND began before the dashes, they are its own.
        command = [*parsed.command, *arguments[dashes if parsed.command else dashes + 1 :]]
        if not command:
            raise ValueError("run what? Name a command, as in: tcpstack run -- curl http://10.9.0.2/")
        return _run(options, command)
    if dashes < len(arguments):
        raise ValueError("serve runs no command: leave out what follows '--', or use `tcpstack run`")
    return _serve(options)


def _serve(options: ServeOptions) -> int:
    from .serve import serve  # the event loop, the engine: a tenth of a second that --help need not wait for

    return serve(options)


def _run(options: ServeOptions, command: list[str]) -> int:
    from .run import run

    return run(options, command)


def _doctor(tun: str | None, as_json: bool) -> int:
    from .doctor import doctor

    return doctor(tun, as_json=as_json)


def _drill(options: DrillOptions) -> int:
    from .drill import drill

    return drill(options)


def _fuzz(parsed: argparse.Namespace) -> int:
    from .fuzz import fuzz

    return fuzz(parsed)


def _netcat(options: NetcatOptions) -> int:
    from .netcat import netcat

    return netcat(options)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tcpstack", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"tcpstack {__version__}", help="say which and exit")
    commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="serve http, echo, discard and chargen on a TUN device",
        description=SERVE,
        epilog=SERVE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run = commands.add_parser(
        "run",
        help="run a command in a network namespace that holds nothing but it and the stack",
        description=RUN,
        epilog=RUN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="tcpstack run [serve's options] -- COMMAND...",
    )
    add_doctor_parser(commands)
    add_netcat_parser(commands)
    add_fuzz_parser(commands)
    add_drill_parser(commands)
    add_serve_options(serve)
    add_serve_options(run)
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...", help="what to run there")
    return parser


class _Parser(argparse.ArgumentParser):
    """Errors as the rest of the program has them: one sentence (and where to read more), status 2. Whoever takes fault
    rules has them all at the end of --help."""

    def format_help(self) -> str:
        told = super().format_help()
        if self.get_default("fault") is None:
            return told
        from ..device.fault_grammar import grammar_in_words  # nothing else here needs it

        return f"{told}\nfault rules, of which docs/faults.md has examples:\n{grammar_in_words()}\n"

    def parse_known_args(self, *arguments: Any, **words: Any) -> Any:
        """A subcommand says itself what it does not know: its own --help tells more."""
        parsed, unknown = super().parse_known_args(*arguments, **words)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"tcpstack: {message}\n({self.prog} --help tells more)\n")


def _failure(error: OSError) -> tuple[int, str | None]:
    if isinstance(error, BrokenPipeError):  # whoever read our output has gone
        return 128 + signal.SIGPIPE, None
    what = error.strerror or str(error) or type(error).__name__
    if error.errno in _DISK_ERRORS and what == os.strerror(error.errno) and error.filename is None:
        what = str(unwritable(error).strerror)  # what else we write says so itself
    return 1, f"{error.filename}: {what}" if isinstance(error.filename, str) else what
