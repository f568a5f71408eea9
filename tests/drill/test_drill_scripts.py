"""Each script of ours passes on the engine, at the very nanosecond; tests/kernel/test_drill.py runs them on Linux."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tcpstack.drill.run import PASSED, read, run_file
from tcpstack.drill.script import Script

SCRIPTS = Path(__file__).parent / "scripts"
EXACT = (("tolerance_usecs", "0"), ("tolerance_percent", "0"))
EVERY = sorted(SCRIPTS.glob("*.pkt"))


@pytest.mark.parametrize("script", [path.stem for path in EVERY])
def test_script_passes_on_the_engine_in_exact_time(script: str) -> None:
    result = run_file(SCRIPTS / f"{script}.pkt", options=EXACT)

    assert result.verdict == PASSED, result.message


def test_there_are_scripts_for_what_the_engine_does() -> None:
    assert len(EVERY) >= 70


def test_a_script_run_twice_gives_the_same_ladder() -> None:
    paths = (SCRIPTS / "recovery-inflation.pkt", SCRIPTS / "close-simultaneous.pkt")

    first, second = ([run_file(path).ladder for path in paths] for _ in range(2))

    assert first == second


def test_every_script_says_in_its_first_line_what_it_shows() -> None:
    for path in EVERY:
        first = path.read_text().splitlines()[0]
        assert first.startswith("// "), path
        assert first.endswith((".", ":")), path


def test_no_reason_for_a_difference_is_without_lines_that_differ() -> None:
    for path in EVERY:
        lines = path.read_text().splitlines()
        for index, line in enumerate(lines):
            if line.startswith("//differs:"):
                assert lines[index + 1].startswith(("//engine:", "//kernel:")), f"{path}:{index + 1}"


def test_scripts_without_a_difference_are_the_same_for_both_sides() -> None:
    def events(script: Script) -> list[str]:
        return [event.source for event in script.events]

    for path in EVERY:
        engine, kernel = (read(path, kernel=kernel)[0] for kernel in (False, True))
        assert (events(engine) == events(kernel)) == (not engine.differences), path


def test_the_engine_needs_no_root_and_touches_no_network() -> None:
    """In a process of its own whose socket() fails."""
    program = (
        "import socket, sys\n"
        "def refuse(*arguments, **named): raise PermissionError('no sockets here')\n"
        "from tcpstack.drill.run import run_file\n"
        "socket.socket.__init__ = refuse\n"
        "result = run_file(sys.argv[1])\n"
        "print(result.verdict)\n"
    )
    path = SCRIPTS / "close-first.pkt"

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2], timeout=60,
    )  # fmt: skip

    assert done.stdout == "passed\n"
