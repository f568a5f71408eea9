"""Lists of fault rules as people write them: rules and words side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from .fault_grammar import FaultRuleError, parse_rule
from .fault_rules import Rule


def rules_of(faults: str | Rule | Iterable[str | Rule], seed_at: Callable[[int], int]) -> list[Rule]:
    """The rules. Those in words that leave something to chance, and name no seed, draw from the one that `seed_at`
    gives for their position: two rules of one verb and one seed would hit the same packets.

    Raises FaultRuleError for a rule that is none.
    """
    listed = [faults] if isinstance(faults, str | Rule) else list(faults)
    return [_rule_of(fault, position, seed_at) for position, fault in enumerate(listed)]


def _rule_of(fault: object, position: int, seed_at: Callable[[int], int]) -> Rule:
    if isinstance(fault, Rule):
        return fault
    if not isinstance(fault, str):
        raise FaultRuleError("a fault is a rule or its text", repr(fault), 0, len(repr(fault)))
    rule = parse_rule(fault)
    if "seed=" in dataclasses.replace(rule, written="").text and "seed=" not in fault:
        return parse_rule(f"{fault} seed={seed_at(position)}")
    return rule
