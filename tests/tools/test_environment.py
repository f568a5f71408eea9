"""tools/venv.sh: which Python it takes, and the one sentence where there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def find_python(*pythons: tuple[str, str, bool], directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run find_python where PATH has only these: (name, version or "" for a shim with nothing behind, with venv)."""
    for name, version, with_venv in pythons:
        program = directory / name
        new_enough = version and tuple(map(int, version.split("."))) >= (3, 11)
        program.write_text(
            "#!/bin/sh\n"
            'case "$2" in\n'
            f"*print*) {f'echo {version}' if version else 'exit 127'} ;;\n"
            f"*exit*) exit {0 if new_enough else 1} ;;\n"
            f"*ensurepip*) exit {0 if with_venv else 1} ;;\n"
            "esac\n"
        )
        program.chmod(0o755)
    script = "set -euo pipefail; source tools/venv.sh; find_python; echo \"$python $version\""
    command = ["/bin/bash", "-c", script, "demo"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PATH": str(directory), **env})


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ([("python3", "3.11", True), ("python3.13", "3.13", True)], "python3 3.11"),
        ([("python3", "3.9", True), ("python3.12", "3.12", True)], "python3.12 3.12"),
        ([("python3", "", True), ("python3.12", "3.12", True)], "python3.12 3.12"),
        ([("python3", "3.13", False), ("python3.11", "3.11", True)], "python3.11 3.11"),
    ],
    ids=["the first", "not one too old", "not an empty shim", "not one without venv"],
)
def test_takes_the_first_python_that_will_do(tmp_path, pythons, chosen):
    result = find_python(*pythons, directory=tmp_path)
    assert result.stdout == f"{tmp_path}/{chosen}\n"


def test_takes_the_python_that_it_is_told_to(tmp_path):
    pythons = [("python3", "3.12", True), ("mine", "3.11", True)]
    result = find_python(*pythons, directory=tmp_path, PYTHON="mine")
    assert result.stdout == f"{tmp_path}/mine 3.11\n"


@pytest.mark.parametrize(
    ("pythons", "env", "message"),
    [
        ([], {}, "there is no Python here: install the packages python3 and python3-venv (3.11 or later)"),
        (
            [("python3", "3.9", True)],
            {},
            "python3 is 3.9, and tcpstack needs Python 3.11 or later: install the package python3.11, or set PYTHON",
        ),
        (
            [("python3", "3.11", False)],
            {},
            "this Python can't make virtual environments: install the package python3.11-venv (or python3-venv)",
        ),
        ([("python3", "3.12", True)], {"PYTHON": "gone"}, "PYTHON is set to gone, which is not a Python that runs"),
    ],
    ids=["none", "too old", "without venv", "PYTHON is wrong"],
)
def test_says_in_one_sentence_what_is_missing(tmp_path, pythons, env, message):
    result = find_python(*pythons, directory=tmp_path, **env)
    assert result.returncode == 1
    assert result.stderr == f"demo: {message}\n"
