"""python -m tools.search_power"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tcpstack.sim.search.shrink import kind_of

from ..conformance.mutate import MutantError
from .copies import Copies, Verdict, by_hand
from .drawn import draw

ROOT = Path(__file__).parents[2]
FOLDERS = ("tcpstack/core", "tcpstack/stack")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 where a mutant could not be made, or the search finds something without one."""
    parser = argparse.ArgumentParser(prog="python -m tools.search_power", description=__doc__)
    parser.add_argument("--cases", type=int, default=300, help="for each mutant (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first case (default: %(default)s)")
    parser.add_argument("--drawn", type=int, default=300, help="how many are drawn (default: %(default)s)")
    parser.add_argument("--draw", type=int, default=1, help="from which seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at once (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write each verdict there as well")
    parser.add_argument("labels", nargs="*", help="of the mutants of tools/conformance; all where there are none")
    options = parser.parse_args(arguments)
    try:
        groups = {
            "by hand": by_hand(ROOT, options.labels),
            "drawn": draw(ROOT, FOLDERS, options.drawn, options.draw),
        }
    except MutantError as error:
        print(f"search_power: {error}", file=sys.stderr)
        return 1
    told: dict[str, list[dict[str, Any]]] = {}
    with Copies(ROOT, options.jobs) as copies:
        sound = copies.play(None, options.seed, options.cases)
        if sound.failure is not None:
            print(f"search_power: without a mutant: {sound.failure}", file=sys.stderr)
            return 1
        for group, mutants in groups.items():
            verdicts = []
            for verdict in copies.play_all(mutants, options.seed, options.cases):
                verdicts.append(verdict)
                _print(verdict)
            told[group] = [
                {"mutant": each.mutant.name, "cases": each.cases, "failure": each.failure} for each in verdicts
            ]
            _summarize(group, verdicts)
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=1))
    return 0


def _print(verdict: Verdict) -> None:
    if verdict.failure is None:
        print(f"not found  {verdict.mutant.name}", flush=True)
    else:
        print(f"after {verdict.cases:4} {verdict.mutant.name}\n           {verdict.failure[:200]}", flush=True)


def _summarize(group: str, verdicts: Sequence[Verdict]) -> None:
    found = [each for each in verdicts if each.failure is not None]
    print(f"== {group}: {len(found)} of {len(verdicts)} found")
    by_folder = Counter(each.mutant.path.rpartition("/")[0] for each in verdicts)
    found_by_folder = Counter(each.mutant.path.rpartition("/")[0] for each in found)
    for folder, count in sorted(by_folder.items()):
        print(f"     {found_by_folder[folder]:4} of {count:4} in {folder}")
    print("   by the check")
    for kind, count in Counter(kind_of(each.failure or "") for each in found).most_common():
        print(f"     {count:4} {kind}")


if __name__ == "__main__":
    sys.exit(main())
