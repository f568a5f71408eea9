"""Lists of fault rules as people write them: rules and words side by side, and chance that comes from one seed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

from .fault_grammar import FaultRuleError, parse_rule
from .fault_rules import Rule


def rules_of(faults: str | Rule | Iterable[str | Rule], seed: int, name: str) -> list[Rule]:
    """The rules for the host called `name`. Those in words that leave something to chance, and name no seed, are given
    one that is drawn from `seed`, that name and their position: two rules of one verb and one seed would hit the same
    packets.

    Raises FaultRuleError for a rule that is none.
    """
    __tracebackhide__ = True  # in reports of pytest: it is the caller's words that are wrong
    listed = [faults] if isinstance(faults, str | Rule) else list(faults)
    try:
        return [_rule_of(fault, seed, f"{name} {position}") for position, fault in enumerate(listed)]
    except FaultRuleError as error:
        raise error.with_traceback(None) from None  # the way through the grammar explains nothing


def _rule_of(fault: object, seed: int, place: str) -> Rule:
    if isinstance(fault, Rule):
        return fault
    if not isinstance(fault, str):
        raise FaultRuleError("a fault is a rule or its text", repr(fault), 0, len(repr(fault)))
    rule = parse_rule(fault)
    if "seed=" in dataclasses.replace(rule, written="").text and "seed=" not in fault:
        return parse_rule(f"{fault} seed={random.Random(f'{seed} {place}').getrandbits(31)}")
    return rule
