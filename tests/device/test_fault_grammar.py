"""Fault rules as text: what each one means, and how a wrong one is answered."""

from __future__ import annotations

import dataclasses

import pytest

from tcpstack.device.fault_grammar import FORMS
from tcpstack.device.faults import (
    ACK,
    ANY,
    DATA,
    FIN,
    RST,
    SYN,
    SYNACK,
    Corrupt,
    Drop,
    Duplicate,
    FaultRuleError,
    Loss,
    Match,
    Reorder,
    Rule,
    parse_rule,
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("drop syn nth=1", Drop(SYN, nth=1)),
        ("drop synack nth=1", Drop(SYNACK, nth=1)),
        ("drop ack", Drop(ACK)),
        ("drop data nth=2..4 dir=out", Drop(DATA, nth=(2, 4), direction="out")),
        ("drop data nth=3..3", Drop(DATA, nth=3)),
        ("drop fin nth=2..", Drop(FIN, nth=(2, None))),
        ("drop rst dir=in", Drop(RST, direction="in")),
        ("drop any dir=in nth=7", Drop(ANY, nth=7, direction="in")),
        ("loss 5% seed=7", Loss(0.05, seed=7)),
        ("loss 5%", Loss(0.05, seed=0)),
        ("duplicate 2.5%", Duplicate(0.025)),
        ("reorder 100% dir=out seed=3", Reorder(1.0, seed=3, direction="out")),
        ("corrupt 0.1%", Corrupt(0.001)),
        ("corrupt 0%", Corrupt(0.0)),
        ("  loss \t 5%   seed=7 ", Loss(0.05, seed=7)),
    ],
)
def test_parse_rule_gives_the_rule_that_the_text_describes(text: str, rule: Rule) -> None:
    parsed = parse_rule(text)
    assert parsed == rule
    assert type(parsed) is type(rule)
    assert parsed.text == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "drop syn nth=1",
        "drop any",
        "drop data nth=2..4 dir=out",
        "drop fin nth=2..",
        "loss 5% seed=7",
        "duplicate 2.5% seed=0",
        "reorder 100% seed=3 dir=in",
        "corrupt 0.1% seed=0",
    ],
)
def test_rule_made_as_an_object_writes_itself_in_the_grammar(text: str) -> None:
    assert dataclasses.replace(parse_rule(text), written="").text == text


@pytest.mark.parametrize(
    ("text", "problem", "caret"),
    [
        ("", "a rule begins with drop, loss, duplicate, reorder or corrupt", "^"),
        ("dorp syn", "there is no rule 'dorp': it is drop, loss, duplicate, reorder or corrupt", "^^^^"),
        ("drop", "drop needs syn, synack, ack, data, fin, rst or any", "     ^"),
        ("drop sin", "drop takes syn, synack, ack, data, fin, rst or any, not 'sin'", "     ^^^"),
        (
            "drop syn nht=1",
            "drop takes the options nth=N, nth=N..M or nth=N.., counted from 1; dir=in or dir=out; not 'nht=1'",
            "         ^^^^^",
        ),
        ("drop syn nth=0", "nth takes nth=N, nth=N..M or nth=N.., counted from 1, not '0'", "             ^"),
        ("drop syn nth=4..2", "nth takes nth=N, nth=N..M or nth=N.., counted from 1, not '4..2'", "             ^^^^"),
        ("drop syn nth=..2", "nth takes nth=N, nth=N..M or nth=N.., counted from 1, not '..2'", "             ^^^"),
        ("loss", "loss needs a percentage from 0% to 100%, such as 2.5%", "     ^"),
        ("loss 5", "loss takes a percentage from 0% to 100%, such as 2.5%, not '5'", "     ^"),
        ("loss 101%", "loss takes a percentage from 0% to 100%, such as 2.5%, not '101%'", "     ^^^^"),
        ("loss -1%", "loss takes a percentage from 0% to 100%, such as 2.5%, not '-1%'", "     ^^^"),
        ("loss nan%", "loss takes a percentage from 0% to 100%, such as 2.5%, not 'nan%'", "     ^^^^"),
        ("loss 5% nth=1", "loss takes the options seed=N; dir=in or dir=out; not 'nth=1'", "        ^^^^^"),
        ("loss 5% seed", "loss takes the options seed=N; dir=in or dir=out; not 'seed'", "        ^^^^"),
        ("loss 5% seed=x", "seed takes seed=N, not 'x'", "             ^"),
        ("loss 5% seed=", "seed takes seed=N, not ''", "             ^"),
        ("loss  5%  dir=up", "dir takes dir=in or dir=out, not 'up'", "            ^^"),
        ("loss 5% seed=1 seed=2", "seed= stands twice", "               ^^^^^^"),
    ],
)
def test_parse_rule_that_makes_no_sense_says_what_may_stand_there(text: str, problem: str, caret: str) -> None:
    with pytest.raises(FaultRuleError) as caught:
        parse_rule(text)
    assert caught.value.problem == problem
    assert str(caught.value).split("\n") == [problem, "  " + " ".join(text.split()), "  " + caret]


def test_every_form_of_the_grammar_names_a_rule_by_its_verb() -> None:
    assert {verb: form.rule.VERB for verb, form in FORMS.items()} == {verb: verb for verb in FORMS}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Drop(SYN, nth=0),
        lambda: Drop(SYN, nth=(3, 2)),
        lambda: Drop(SYN, direction="up"),
        lambda: Drop(2),  # the flag of core.segment instead of the Match
        lambda: Loss(5),
        lambda: Loss(-0.1),
        lambda: Loss(float("nan")),
    ],
)
def test_rule_object_that_makes_no_sense_raises_value_error(make: type[Match]) -> None:
    with pytest.raises(ValueError):
        make()
