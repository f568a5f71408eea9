"""Makes a failing case small: takes away whatever the failure does not need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from itertools import pairwise
from typing import TypeAlias, TypeVar

from ...core.config import MILLISECOND_NS, Config
from ...device.pipe import Line
from .case import Case, Plan, Talk

T = TypeVar("T")
Writes: TypeAlias = tuple[tuple[int, int], ...]
Settings = TypeVar("Settings", Config, Line)

_NAME = re.compile(r"^\w+: ")
_WORD = re.compile(r"\b[a-z']{2,}\b")
_KIND_WORDS = 4
_PLAIN = Case(seed=0)
_LEAST_NS = 100 * MILLISECOND_NS
"""The shortest that a case is made."""


def shrink(case: Case, fails: Callable[[Case], bool], tries: int = 1_000) -> Case:
    """The smallest case found, by at most `tries` plays, for which `fails` still holds."""
    progress = True
    while progress and tries > 0:
        progress = False
        for candidate in _simpler(case):
            tries -= 1
            if fails(candidate):
                case, progress = candidate, True
                break
            if tries <= 0:
                break
    return case


def kind_of(failure: str) -> str:
    """What sort of failure this is, of "Exception: message": the exception and the message's first words, without
    names and numbers, which are others in a smaller case."""
    exception, _, message = failure.partition(": ")
    return " ".join([exception, *_WORD.findall(_NAME.sub("", message))[:_KIND_WORDS]])


def _simpler(case: Case) -> Iterator[Case]:
    """Cases that are like this one but for one thing that is simpler, the greatest simplifications first."""
    for index in range(len(case.talks)):
        if len(case.talks) > 1:
            yield replace(case, talks=_without(case.talks, index))
    for host in range(2):
        for index in range(len(case.faults[host])):
            yield replace(case, faults=_put(case.faults, host, _without(case.faults[host], index)))
    for host in range(2):
        if case.offloads[host]:
            yield replace(case, offloads=_put(case.offloads, host, False))
    if case.routers:
        yield replace(case, routers=0)
    half = len(case.attacks) // 2
    if case.attacks:
        yield replace(case, attacks=())
    if half:
        yield replace(case, attacks=case.attacks[:half])
        yield replace(case, attacks=case.attacks[half:])
    if not case.heals:
        yield replace(case, heals=True)
    for name in ("mtus", "wraps", "backlog", "accept_ns", "version", "octets"):
        if getattr(case, name) != getattr(_PLAIN, name):
            yield replace(case, **{name: getattr(_PLAIN, name)})
    for lasts_ns in (case.lasts_ns // 4, case.lasts_ns // 2):
        if lasts_ns >= _LEAST_NS:
            yield replace(case, lasts_ns=lasts_ns)
    for place in range(2):
        for line in _plainer(case.lines[place]):
            yield replace(case, lines=_put(case.lines, place, line))
        for config in _plainer(case.configs[place]):
            yield replace(case, configs=_put(case.configs, place, config))
    for index, talk in enumerate(case.talks):
        for simpler in _simpler_talks(talk):
            yield replace(case, talks=(*case.talks[:index], simpler, *case.talks[index + 1 :]))


def _plainer(settings: Settings) -> Iterator[Settings]:
    """These settings with the defaults, all of them, or else one."""
    plain = type(settings)()
    if settings == plain:
        return
    yield plain
    for field in filter(lambda field: field.init, fields(settings)):
        default = getattr(plain, field.name)
        if getattr(settings, field.name) != default:
            with suppress(ValueError):  # one setting may ask for another
                yield replace(settings, **{field.name: default})


def _simpler_talks(talk: Talk) -> Iterator[Talk]:
    if talk.at_ns:
        yield replace(talk, at_ns=0)
    if talk.both_open:
        yield replace(talk, both_open=False)
    if talk.lport:
        yield replace(talk, lport=0)
    if talk.opener:
        yield replace(talk, opener=0)
    for end in range(2):
        plan = talk.plans[end]
        for simpler in _simpler_plans(plan):
            yield replace(talk, plans=_put(talk.plans, end, simpler))


def _simpler_plans(plan: Plan) -> Iterator[Plan]:
    half = len(plan.writes) // 2
    if half:
        yield replace(plan, writes=plan.writes[:half])
        yield replace(plan, writes=plan.writes[half:])
    elif plan.writes:
        yield replace(plan, writes=())
    if any(size > 1 for _, size in plan.writes):
        yield replace(plan, writes=tuple((at_ns, max(size // 2, 1)) for at_ns, size in plan.writes))
    if any(at_ns for at_ns, _ in plan.writes):
        yield replace(plan, writes=tuple((0, size) for _, size in plan.writes))
    if plan.urgent:
        yield replace(plan, urgent=False)
    if plan.hasty:
        yield replace(plan, hasty=False)
    if plan.paced:
        yield replace(plan, paced=False)
    if plan.read_every_ns:
        yield replace(plan, read_bytes=0, read_every_ns=0)
    if plan.ending != "shutdown":
        yield replace(plan, ending="shutdown")
    for writes in _fewer_writes(plan.writes):
        yield replace(plan, writes=writes)


def _fewer_writes(writes: Writes) -> Iterator[Writes]:
    """Without a quarter of them, an eighth and so on to each single one; then with two neighbours as one."""
    count = max(len(writes) // 4, 1) if len(writes) > 2 else 0
    while count:
        for start in range(0, len(writes), count):
            yield writes[:start] + writes[start + count :]
        count //= 2
    for index, ((at_ns, size), (_, more)) in enumerate(pairwise(writes)):
        yield (*writes[:index], (at_ns, size + more), *writes[index + 2 :])


def _without(items: tuple[T, ...], index: int) -> tuple[T, ...]:
    return items[:index] + items[index + 1 :]


def _put(items: tuple[T, T], index: int, item: T) -> tuple[T, T]:
    return (item, items[1]) if index == 0 else (items[0], item)
