"""`tcpstack drill`: scripts in packetdrill's language, one after another, a line for each on stdout."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..drill.run import FAILED, PASSED, Result, read, run_file
from ..drill.script import ScriptError
from ..drill.settings import SettingError, settings
from .drill_arguments import DrillOptions

_FAILED, _NOT_RUN = 1, 2


def drill(options: DrillOptions) -> int:
    """Run the scripts. Returns 0 where all passed, 1 where one failed, 2 where one is no script or cannot run here.

    Raises OSError for a file that cannot be read, NamespaceError where the kernel cannot be had, and ValueError for a
    directory without scripts and for a setting that cannot be.
    """
    try:
        settings(options.settings)
    except SettingError as error:
        raise ValueError(str(error)) from None
    paths = list(_scripts(options.paths))
    if options.differences:
        return _list_differences(paths, options)
    counts = {PASSED: 0, FAILED: 0, "": 0}
    for path in paths:
        try:
            result = run_file(path, kernel=options.kernel, options=options.settings, defines=options.defines)
        except ScriptError as error:
            _say(str(error))
            counts[""] += 1
            continue
        _tell(result, options)
        counts[result.verdict if result.verdict in counts else ""] += 1
    if len(paths) > 1:
        not_run = f", {counts['']} could not be run" if counts[""] else ""
        _say(f"{len(paths)} scripts: {counts[PASSED]} passed, {counts[FAILED]} failed{not_run}")
    return _FAILED if counts[FAILED] else _NOT_RUN if counts[""] else 0


def _scripts(paths: Sequence[str]) -> Iterator[Path]:
    """The files, and for a directory all scripts beneath it, in order."""
    for given in paths:
        path = Path(given)
        if not path.is_dir():
            if not path.exists():
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), given)
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
        for difference in script.differences:
            _say(f"{path}:{difference.line}: {difference.reason}")
    return status


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()
