"""`tcpstack nc` and other programs as processes, for the tests of both."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
NC = (sys.executable, "-m", "tcpstack", "nc")


def run(*words: str | Path, stdin: Any = subprocess.DEVNULL, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """`tcpstack nc`, to its end; its output as text."""
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 60, **kwargs}
    return subprocess.run([*NC, *map(str, words)], cwd=PROJECT, check=False, stdin=stdin, **kwargs)


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def random_files(folder: Path, size: int) -> Iterator[tuple[Path, Path]]:
    """Two files with nothing in common, which are not kept."""
    made = folder / "one", folder / "other"
    for path in made:
        path.write_bytes(os.urandom(size))
    yield made
    for path in made:
        path.unlink()


class Started:
    """Processes that end with the test, with all of their session."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self.prefix = prefix
        self._processes: list[subprocess.Popen[Any]] = []

    def start(self, *words: str | Path, **kwargs: Any) -> subprocess.Popen[Any]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        kwargs = {**pipes, "text": True, **kwargs}
        process = subprocess.Popen(
            [*self.prefix, *map(str, words)], cwd=PROJECT, start_new_session=True, **kwargs
        )  # fmt: skip
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if group_is_alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
