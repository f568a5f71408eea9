"""Other TCP stacks for Python programs that can be had by name, to measure beside ours: installed where asked for,
into a directory of their own that is gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Peer:
    """The server `name` of __init__.py. `package` is what it needs, and what pip is told to install it; `module` is
    what has to be there then."""

    name: str
    package: str
    module: str
    pip_arguments: tuple[str, ...]


PEERS = (
    # mitmproxy-rs needs mitmproxy-linux only to redirect the traffic of other programs, but does not load without one;
    # that has wheels for Python 3.12 and later only, which serve 3.11 as well.
    Peer(
        "mitmproxy", "mitmproxy-rs", "mitmproxy_rs", ("--no-deps", "--ignore-requires-python", "mitmproxy-linux")
    ),
    Peer("pytcp", "pmd-pytcp", "pmd_pytcp", ()),
)


@dataclass(frozen=True)
class Installed:
    """What became of the wish to have them.

    names     the peers that can be measured
    versions  what they are, in words
    missing   of each of the others a sentence that says why it is left out
    """

    names: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


NOTHING_INSTALLED = Installed()


def install(directory: Path, peers: Iterable[Peer] = PEERS) -> Installed:
    """Install them below `directory`, each in one of its own name."""
    names, versions, missing = [], [], []
    for peer in peers:
        target = directory / peer.name
        problem = _install(peer, target)
        if problem:
            missing.append(f"{peer.package} is left out: {problem}.")
        else:
            names.append(peer.name)
            versions.append(f"{peer.package} {_version(peer, target)}")
    return Installed(tuple(names), tuple(versions), tuple(missing))


def environment(directory: Path, name: str) -> dict[str, str]:
    """This process's environment, but with what was installed for the server `name`."""
    path = (str(directory / name), os.environ.get("PYTHONPATH"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _install(peer: Peer, target: Path) -> str:
    """Why it could not be installed; "" where it was."""
    options = ("--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:", f"--target={target}")
    pip = (sys.executable, "-m", "pip", "install", *options, peer.package, *peer.pip_arguments)
    problem = _problem_of(pip, dict(os.environ))
    if problem:
        return f"pip could not install it ({problem})"
    problem = _problem_of((sys.executable, "-c", f"import {peer.module}"), environment(target.parent, target.name))
    return f"it does not load ({problem})" if problem else ""


def _problem_of(command: tuple[str, ...], env: dict[str, str]) -> str:
    """The last line that a command complained with; "" where it succeeded."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {_PATIENCE_S:g} s"
    if not done.returncode:
        return ""
    return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1].removeprefix("ERROR: ")


def _version(peer: Peer, target: Path) -> str:
    found = {each.metadata["Name"].replace("_", "-"): each.version for each in distributions(path=[str(target)])}
    return found[peer.package]
