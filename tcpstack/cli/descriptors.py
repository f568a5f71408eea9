"""Standard streams that were closed before the program began, or fail while it runs. Light to import."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def replace_missing() -> None:
    """Put /dev/null where stdin, stdout or stderr were closed before this process began: another file would get the
    number. To be called before there are others."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Each lives as long as the process.
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def abandon(stream: TextIO) -> None:
    """What `stream` still holds, and what is written to it from now on, goes nowhere: a write has failed, which must
    not happen again when the interpreter flushes it at its exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def tell(sentence: str) -> None:
    """Print it on stderr, as this program's. Where nobody can read that, nothing happens."""
    try:
        print(f"tcpstack: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def unwritable(error: OSError) -> OSError:
    """What a failed write to stdout is to be told as: BrokenPipeError as such, anything else with its sentence."""
    if isinstance(error, BrokenPipeError):
        return error
    return OSError(error.errno, f"standard output cannot be written: {error.strerror}")
