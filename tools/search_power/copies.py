"""Copies of the package in which a mutant is made, and processes that search in them."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from ..conformance.mutants import MUTANTS
from .drawn import Drawn

PLAYING = Path(__file__).with_name("playing.py")
TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Verdict:
    """cases  that were played   failure  what the last one broke; None where none did"""

    mutant: Drawn
    cases: int
    failure: str | None


def by_hand(root: Path, labels: Sequence[str]) -> list[Drawn]:
    """The mutants of tools/conformance, of these labels or all. Raises MutantError where one can't be made."""
    made = []
    for mutant in MUTANTS:
        if labels and mutant.label not in labels:
            continue
        file = mutant.file_in(root / "tcpstack")
        path = file.relative_to(root).as_posix()
        name = f"{path.removeprefix('tcpstack/')}: {mutant.label}: {mutant.name}"
        made.append(Drawn(path, name, file.read_text().replace(mutant.old, mutant.new)))
    return made


class Copies:
    """Copies of the package in temporary directories, one for each process that may play at once."""

    def __init__(self, root: Path, jobs: int) -> None:
        self._root = root
        self._jobs = jobs

    def __enter__(self) -> Copies:
        self._directory = tempfile.TemporaryDirectory(prefix="search-power-")
        self._free: SimpleQueue[Path] = SimpleQueue()
        for number in range(self._jobs):
            copy = Path(self._directory.name) / str(number)
            shutil.copytree(self._root / "tcpstack", copy / "tcpstack", ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(copy, quiet=1)
            self._free.put(copy)
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def play_all(self, mutants: Sequence[Drawn], seed: int, cases: int) -> Iterator[Verdict]:
        """In their order, as they come."""
        with ThreadPoolExecutor(self._jobs) as pool:
            yield from pool.map(lambda mutant: self.play(mutant, seed, cases), mutants)

    def play(self, mutant: Drawn | None, seed: int, cases: int) -> Verdict:
        """None: the package as it is."""
        copy = self._free.get()
        before = None if mutant is None else (copy / mutant.path).read_text()
        try:
            if mutant is not None:
                (copy / mutant.path).write_text(mutant.source)
            done = subprocess.run(
                (sys.executable, PLAYING, str(seed), str(cases)), cwd=copy, capture_output=True, text=True,
                timeout=TIMEOUT_S, env=dict(os.environ, PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1"),
            )  # fmt: skip
            said = json.loads(done.stdout) if done.stdout else {"cases": 0, "failure": f"died: {done.stderr[-200:]}"}
        except subprocess.TimeoutExpired:
            said = {"cases": 0, "failure": "does not come to an end"}
        finally:
            if mutant is not None and before is not None:
                (copy / mutant.path).write_text(before)
            self._free.put(copy)
        return Verdict(mutant or Drawn("", "", ""), said["cases"], said["failure"])
