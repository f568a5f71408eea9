"""`tcpstack drill`: scripts in packetdrill's language, one after another, a line for each on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..device.namespace import NamespaceError
from ..drill.run import FAILED, PASSED, STDIN, UNSUPPORTED, Result, read, run_file
from ..drill.script import ScriptError
from ..drill.settings import SettingError, settings
from .drill_arguments import DrillOptions

_FAILED, _NOT_RUN = 1, 2


def drill(options: DrillOptions) -> int:
    """Run the scripts. Returns 0 where all passed, 1 where one failed, 2 where one is no script or cannot run here.

    Of several, one that cannot be read or that brings the program down does not keep the others from being run.
    Raises OSError where there is but one, and it cannot be read; NamespaceError where the kernel cannot be had; and
    ValueError for a directory without scripts and for a setting that cannot be.
    """
    try:
        settings(options.settings)
    except SettingError as error:
        raise ValueError(str(error)) from None
    paths = list(_scripts(options.paths))
    if options.differences:
        return _list_differences(paths, options)
    counts = {PASSED: 0, FAILED: 0, UNSUPPORTED: 0}
    for path in paths:
        counts[_verdict(path, options, alone=len(paths) == 1)] += 1
    if len(paths) > 1:
        not_run = f", {counts[UNSUPPORTED]} could not be run" if counts[UNSUPPORTED] else ""
        _say(f"{len(paths)} scripts: {counts[PASSED]} passed, {counts[FAILED]} failed{not_run}")
    return _FAILED if counts[FAILED] else _NOT_RUN if counts[UNSUPPORTED] else 0


def _verdict(path: Path, options: DrillOptions, *, alone: bool) -> str:
    """Run one script and tell of it."""
    try:
        result = run_file(path, kernel=options.kernel, options=options.settings, defines=options.defines)
    except ScriptError as error:
        _say(str(error))
        return UNSUPPORTED
    except OSError as error:
        if alone or isinstance(error, NamespaceError) or error.filename != str(path):
            raise
        _say(f"not run  {path}: {error.strerror}")
        return UNSUPPORTED
    except Exception as error:  # a defect of ours, and no reason to leave the other scripts
        _say(f"FAILED  {path}: the drill itself failed, which is a bug: {type(error).__name__}: {error}")
        return FAILED
    _tell(result, options)
    return result.verdict


def _scripts(paths: Sequence[str]) -> Iterator[Path]:
    """The files, and for a directory all scripts beneath it, in order."""
    for given in paths:
        path = Path(given)
        if given == STDIN or not path.is_dir():
            yield path
            continue
        found = sorted(path.rglob("*.pkt"))
        if not found:
            raise ValueError(f"there is no script (*.pkt) in {given}")
        yield from found


def _tell(result: Result, options: DrillOptions) -> None:
    for line in result.printed:
        _say(line)
    if result.verdict == PASSED:
        if options.verbose:
            _say(result.ladder.rstrip("\n"))
        _say(f"passed  {result.path}  ({result.script_ns / 1e9:.3f} s in {result.real_ns / 1e9:.3f} s)")
    else:
        _say(f"{'FAILED' if result.verdict == FAILED else 'not run'}  {result.message}")


def _list_differences(paths: Sequence[Path], options: DrillOptions) -> int:
    status = 0
    for path in paths:
        try:
            script, _ = read(path, options=options.settings, defines=options.defines)
        except ScriptError as error:
            _say(str(error))
            status = _NOT_RUN
            continue
        except OSError as error:
            if len(paths) == 1:
                raise
            _say(f"{path}: {error.strerror}")
            status = _NOT_RUN
            continue
        for difference in script.differences:
            _say(f"{path}:{difference.line}: {difference.reason}")
    return status


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()
