"""One script, one run: `run_file("x.pkt")` against our engine, or with kernel=True against Linux."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import preflight
from .engine import Engine
from .engine_checks import EngineChecks
from .failure import Failed, at
from .grammar import parse
from .promptness import excess_tick_ns
from .runner import Runner
from .script import ENGINE, KERNEL, Script, ScriptError, Unsupported
from .settings import SettingError, Settings, settings
from .side import Side

STDIN = "-"
PASSED, FAILED, UNSUPPORTED = "passed", "failed", "unsupported"


@dataclass(frozen=True, slots=True)
class Result:
    """verdict  PASSED, FAILED, or UNSUPPORTED: this side cannot run it
    message  why, in full, for the latter two
    ladder   the conversation
    printed  what the script's snippets printed
    script_ns, real_ns  how long it took by the script's clock, and by the wall's
    """

    path: str
    verdict: str
    message: str
    ladder: str
    printed: tuple[str, ...]
    script_ns: int
    real_ns: int


def run_file(
    path: str | Path,
    *,
    kernel: bool = False,
    options: Sequence[tuple[str, str]] = (),
    defines: Mapping[str, str] | None = None,
) -> Result:
    """Run a script, that on stdin for "-". `options` prevail over its own; `defines` are words that stand for others.

    Raises ScriptError for a script that is not of the language, OSError where the file cannot be read, and
    NamespaceError where the kernel cannot be had.
    """
    path = Path(path)
    began_ns = time.monotonic_ns()
    script, chosen = read(path, kernel=kernel, options=options, defines=defines)
    try:
        preflight.check(script, chosen, preflight.KernelChecks() if kernel else EngineChecks(path.parent))
    except Unsupported as lack:
        return Result(script.path, UNSUPPORTED, _told(script, lack), "", (), 0, time.monotonic_ns() - began_ns)
    try:
        side = _side(chosen, path.parent, kernel)
        if kernel and "tolerance_usecs" not in dict(options):
            chosen = replace(chosen, late_ns=excess_tick_ns())
    except SettingError as error:
        raise ScriptError(f"{script.path}: {error}") from None
    verdict, message = PASSED, ""
    runner = Runner(script, chosen, side, real_time=kernel)
    try:
        runner.run()
    except Failed as failed:
        verdict, message = FAILED, failed.render(script.path, side.ladder(), runner.remarks)
    except Unsupported as lack:
        verdict, message = UNSUPPORTED, _told(script, lack)
    finally:
        ladder, script_ns = side.ladder(), side.now_ns
        side.close()
    real_ns = time.monotonic_ns() - began_ns
    return Result(script.path, verdict, message, ladder, tuple(runner.printed), script_ns, real_ns)


def read(
    path: str | Path,
    *,
    kernel: bool = False,
    options: Sequence[tuple[str, str]] = (),
    defines: Mapping[str, str] | None = None,
) -> tuple[Script, Settings]:
    """The script as one side runs it, and what it runs with. Raises ScriptError and OSError."""
    name, text = _text(path)
    version = 6 if dict(options).get("ip_version") == "ipv6" else 4
    script = parse(text, name, KERNEL if kernel else ENGINE, version=version, defines=defines)
    try:
        own = [(name, value) for name, value, _ in script.options]
        return script, settings([*own, *options])
    except SettingError as error:
        line = next((line for name, _, line in script.options if f"--{name}" in str(error)), 1)
        raise ScriptError(f"{name}:{line}: {error}") from None


def _text(path: str | Path) -> tuple[str, str]:
    """What messages call the script, and its text."""
    if str(path) == STDIN:
        return "stdin", sys.stdin.buffer.read().decode("utf-8-sig", errors="replace")
    try:
        return str(path), Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # reading tells no name


def _told(script: Script, lack: Unsupported) -> str:
    return at(script.path, lack.event, str(lack)) if lack.event is not None else f"{script.path}: {lack}"


def _side(chosen: Settings, directory: Path, kernel: bool) -> Side:
    if not kernel:
        return Engine(chosen, directory)
    from .kernel import Kernel  # namespaces and netlink: a drill on the engine needs neither

    return Kernel(chosen, directory)
