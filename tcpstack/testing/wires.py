"""What a test says of the wire, made ready for one seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..aio import virtual
from ..device.faults import Rule, parse_rule
from ..device.pipe import Line


def seeded(faults: Sequence[str | Rule], seed: int) -> list[Rule]:
    """The rules. Those in words that leave something to chance draw from `seed`, unless they say `seed=` themselves.

    Raises FaultRuleError for a rule that is none.
    """
    rules: list[Rule] = []
    for position, fault in enumerate(faults):
        if not isinstance(fault, str):
            rules.append(fault)
            continue
        rule = parse_rule(fault)
        if "seed=" in dataclasses.replace(rule, written="").text and "seed=" not in fault:
            # Two rules of one verb and one seed would hit the same packets.
            rule = parse_rule(f"{fault} seed={seed + position}")
        rules.append(rule)
    return rules


def as_line(line: Line | Mapping[str, str] | None) -> Line:
    """A Line from words: {"delay": "20ms", "jitter": "5ms", "rate": "10mbit", "queue": "64kB"}, each of them optional.
    None is a line without delay or limit. Raises ValueError for words that make no sense."""
    if isinstance(line, Line):
        return line
    words = dict(line or {})
    unknown = words.keys() - {"delay", "jitter", "rate", "queue"}
    if unknown:
        raise ValueError(f"a line has delay, jitter, rate and queue, not {', '.join(sorted(unknown))}")
    return virtual.line(**words)
