"""Fault rules as text: what each one means, and how a wrong one is answered."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcpstack.device.fault_chain import STAGES
from tcpstack.device.fault_grammar import BEHIND, FORMS, grammar_in_words, shape
from tcpstack.device.faults import (
    ACK,
    ANY,
    DATA,
    FIN,
    RST,
    SYN,
    SYNACK,
    Blackhole,
    BurstLoss,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    FaultRuleError,
    Loss,
    Match,
    Mtu,
    Rate,
    Reorder,
    Rewrite,
    Rule,
    Strip,
    parse_rule,
)
from tests.device.faulty_wire import ANY_RULE, MS, SECOND

SEED = "seed=N from 0 to 999999999999999999"
TIME = "delay takes a time such as 40ms (in us, ms or s)"
NO_TIME = "which is no whole number of nanoseconds from 0 to 999999999999999999"
VERBS = "drop, loss, burst-loss, duplicate, reorder, corrupt, delay, rate, blackhole, mtu, strip or rewrite"
NTH = "nth=N, nth=N..M (M not below N) or nth=N.., counted from 1"
LIMITS = f"syn, synack, ack, data, fin, rst or any; {NTH}"


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
        ("loss 50% data nth=2.. seed=1 dir=in", Loss(0.5, 1, match=DATA, nth=(2, None), direction="in")),
        ("corrupt 100% dir=out ack", Corrupt(1.0, match=ACK, direction="out")),
        ("burst-loss enter=1% leave=30%", BurstLoss(0.01, 0.3)),
        (
            "burst-loss leave=30% enter=1% loss-in-bad=80% loss-in-good=0.1% seed=4",
            BurstLoss(enter=0.01, leave=0.3, loss_in_good=0.001, loss_in_bad=0.8, seed=4),
        ),
        ("delay 40ms", Delay(40 * MS)),
        ("delay 40ms jitter 5ms", Delay(40 * MS, jitter_ns=5 * MS)),
        ("delay 1.5s data nth=1", Delay(1_500 * MS, match=DATA, nth=1)),
        ("delay 250us jitter 0.5us seed=9", Delay(250_000, 500, 9)),
        ("rate 10mbit", Rate(10_000_000)),
        ("rate 10mbit queue 64kB", Rate(10_000_000, queue_bytes=64_000)),
        ("rate 0.5gbit queue 50p dir=in", Rate(500_000_000, queue_packets=50, direction="in")),
        ("rate 56kbit mark 30kB queue 1.5MB", Rate(56_000, queue_bytes=1_500_000, mark_bytes=30_000)),
        ("rate 1mbit queue 10p queue 1500B", Rate(1_000_000, queue_bytes=1500, queue_packets=10)),
        ("blackhole", Blackhole()),
        ("blackhole after=2s for=5s", Blackhole(2 * SECOND, 5 * SECOND)),
        ("blackhole for=100ms any", Blackhole(for_ns=100 * MS)),
        ("mtu 1280", Mtu(1280)),
        ("mtu 1280 silent", Mtu(1280, silent=True)),
        ("mtu 576 nth=10..", Mtu(576, nth=(10, None))),
        ("strip option=sack", Strip("sack")),
        ("strip syn option=timestamps", Strip("timestamps", match=SYN)),
        ("rewrite window=0", Rewrite(window=0)),
        ("rewrite mss=536 wscale=0 synack", Rewrite(mss=536, wscale=0, match=SYNACK)),
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
        "burst-loss enter=1% leave=30% seed=0",
        "burst-loss enter=0.5% leave=30% loss-in-good=0.1% loss-in-bad=80% data seed=2",
        "delay 40ms",
        "delay 40ms jitter 5ms nth=1 seed=0",
        "delay 1000.5us jitter 0.001us seed=0",
        "rate 10mbit queue 64kB queue 50p mark 1500B",
        "blackhole after=0s",
        "blackhole after=2s for=5s dir=out",
        "mtu 1280",
        "mtu 1280 silent fin",
        "strip option=wscale syn nth=1",
        "rewrite window=0 mss=536 wscale=0 ack",
    ],
)
def test_rule_made_as_an_object_writes_itself_in_the_grammar(text: str) -> None:
    assert dataclasses.replace(parse_rule(text), written="").text == text


@pytest.mark.parametrize(
    ("text", "problem", "caret"),
    [
        ("", f"a rule begins with {VERBS}", "^"),
        ("dorp syn", f"there is no rule 'dorp' (do you mean drop?): it is {VERBS}", "^^^^"),
        ("Loss 5%", f"there is no rule 'Loss' (do you mean loss?): it is {VERBS}", "^^^^"),
        ("xyz", f"there is no rule 'xyz': it is {VERBS}", "^^^"),
        (
            "delay 40 ms",
            "delay takes a time such as 40ms (in us, ms or s), not '40': without the space, 40ms",
            "      ^^",
        ),
        (
            "loss 0.1 % seed=3",
            "loss takes a percentage from 0% to 100%, such as 2.5%, not '0.1': without the space, 0.1%",
            "     ^^^",
        ),
        ("drop", "drop needs syn, synack, ack, data, fin, rst or any", "     ^"),
        ("drop sin", "drop takes syn, synack, ack, data, fin, rst or any, not 'sin'", "     ^^^"),
        (
            "drop syn nht=1",
            f"drop takes the options {NTH}; dir=in or dir=out; not 'nht=1'",
            "         ^^^^^",
        ),
        ("drop syn nth=0", f"nth takes {NTH}, not '0'", "             ^"),
        ("drop syn nth=4..2", f"nth takes {NTH}, not '4..2'", "             ^^^^"),
        ("drop syn nth=..2", f"nth takes {NTH}, not '..2'", "             ^^^"),
        ("loss", "loss needs a percentage from 0% to 100%, such as 2.5%", "     ^"),
        ("loss 5", "loss takes a percentage from 0% to 100%, such as 2.5%, not '5'", "     ^"),
        ("loss 101%", "loss takes a percentage from 0% to 100%, such as 2.5%, not '101%'", "     ^^^^"),
        ("loss -1%", "loss takes a percentage from 0% to 100%, such as 2.5%, not '-1%'", "     ^^^"),
        ("loss nan%", "loss takes a percentage from 0% to 100%, such as 2.5%, not 'nan%'", "     ^^^^"),
        ("loss 5% for", f"loss takes the options {LIMITS}; {SEED}; dir=in or dir=out; not 'for'", "        ^^^"),
        ("loss 5% seed", f"loss takes the options {LIMITS}; {SEED}; dir=in or dir=out; not 'seed'", "        ^^^^"),
        ("drop syn ack", "a rule is for one kind of packets: write another rule for the other", "         ^^^"),
        ("loss 5% syn data", "a rule is for one kind of packets: write another rule for the other",
         "            ^^^^"),
        ("loss 5% seed=x", f"seed takes {SEED}, not 'x'", "             ^"),
        ("loss 5% seed=", f"seed takes {SEED}, not ''", "             ^"),
        ("loss  5%  dir=up", "dir takes dir=in or dir=out, not 'up'", "            ^^"),
        ("loss 5% seed=1 seed=2", "seed= stands twice", "               ^^^^^^"),
        ("burst-loss enter=1%", "burst-loss needs leave=P%", "                    ^"),
        ("burst-loss enter=1 leave=1%", "enter takes enter=P%, not '1'", "                 ^"),
        ("delay", "delay needs a time such as 40ms (in us, ms or s)", "      ^"),
        ("delay 40", "delay takes a time such as 40ms (in us, ms or s), not '40'", "      ^^"),
        ("loss 5% seed=" + "9" * 19, f"seed takes {SEED}, not '{'9' * 19}'", "             " + "^" * 19),
        ("delay 0.0001us", f"{TIME}, not '0.0001us', {NO_TIME}", "      ^^^^^^^^"),
        ("delay 9999999999s", f"{TIME}, not '9999999999s', {NO_TIME}", "      ^^^^^^^^^^^"),
        ("blackhole for=0s", "for takes for=TIME above 0 such as for=5s, not '0s'", "              ^^"),
        (
            "rate 10mbit queue 10kB mark 50kB",
            "a queue of 10000 octets never has the 50000 at which it is to mark",
            "                                 ^",
        ),
        ("delay 40ms jitter", "jitter needs a time such as 5ms (in us, ms or s)", "                  ^"),
        ("delay 40ms jitter 5", "jitter takes a time such as 5ms (in us, ms or s), not '5'", "                  ^"),
        ("delay 4ms jitter 1ms jitter 2ms", "jitter stands twice", "                     ^^^^^^^^^^"),
        (
            "delay 40ms jiter 5ms",
            f"delay takes the options jitter and a time such as 5ms (in us, ms or s); {LIMITS}; {SEED}; "
            "dir=in or dir=out; not 'jiter'",
            "           ^^^^^",
        ),
        ("rate 10", "rate takes a rate above 0 such as 10mbit (in kbit, mbit or gbit), not '10'", "     ^^"),
        ("rate 0mbit", "rate takes a rate above 0 such as 10mbit (in kbit, mbit or gbit), not '0mbit'", "     ^^^^^"),
        (
            "rate 10mbit queue 64kb",
            "queue takes a size such as 64kB (in B, kB or MB) or a number of packets such as 50p, not '64kb'",
            "                  ^^^^",
        ),
        ("rate 1mbit queue 5p queue 6p", "queue stands twice", "                    ^^^^^^^^"),
        ("blackhole after=2", "after takes after=TIME such as after=2s, not '2'", "                ^"),
        ("mtu 67", "mtu takes a number of octets from 68 to 65535, not '67'", "    ^^"),
        ("mtu 1280 silent silent", "silent stands twice", "                ^^^^^^"),
        ("strip", "strip needs option=mss, wscale, sack or timestamps", "      ^"),
        (
            "strip option=sak",
            "option takes option=mss, wscale, sack or timestamps, not 'sak'",
            "             ^^^",
        ),
        ("rewrite", "rewrite needs window=N, mss=N or wscale=N", "        ^"),
        ("rewrite wscale=256", "wscale takes wscale=N from 0 to 255, not '256'", "               ^^^"),
    ],
)
def test_parse_rule_that_makes_no_sense_says_what_may_stand_there(text: str, problem: str, caret: str) -> None:
    with pytest.raises(FaultRuleError) as caught:
        parse_rule(text)
    assert caught.value.problem == problem
    assert str(caught.value).split("\n") == [problem, "  " + " ".join(text.split()), "  " + caret]


@pytest.mark.parametrize(
    ("text", "shown", "caret"),
    [
        ("損失 syn", "損失 syn", "^^^^"),
        ("drop 損失", "drop 損失", "     ^^^^"),
        ("drop 損失 e\u0301x nth=0", "drop 損失 e\u0301x nth=0", "     ^^^^"),
        ("drop \x1b[2J", "drop \\x1b[2J", "     ^^^^^^^"),
        ("drop a\0b", "drop a\\x00b", "     ^^^^^^"),
        ("drop \u202esyn", "drop \\u202esyn", "     ^^^^^^^^^"),
        ("drop \x07 nth=0", "drop \\x07 nth=0", "     ^^^^"),
    ],
)
def test_caret_is_under_the_place_and_nothing_reaches_the_terminal_raw(text: str, shown: str, caret: str) -> None:
    with pytest.raises(FaultRuleError) as caught:
        parse_rule(text)
    assert str(caught.value).split("\n")[1:] == [f"  {shown}", f"  {caret}"]
    assert caught.value.problem.isprintable()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Loss("2%"),  # type: ignore[arg-type]
        lambda: Loss(True),
        lambda: Loss(0.1, seed=True),
        lambda: BurstLoss(enter=0.1, leave=None),  # type: ignore[arg-type]
        lambda: Strip(["sack"]),  # type: ignore[arg-type]
        lambda: Mtu(1280, silent="no"),  # type: ignore[arg-type]
        lambda: Blackhole(for_ns=0),
        lambda: Delay(True),
        lambda: Delay(1.5),  # type: ignore[arg-type]
        lambda: Rate(1_000, queue_bytes=10, mark_bytes=11),
        *(lambda nth=nth: Drop(SYN, nth=nth) for nth in (0, 1.5, "3", True, [1, 2], (1, True))),
        *(lambda nth=nth: Drop(SYN, nth=nth) for nth in ((), (1,), (1, 2, 3), (None, None), (2, 1), (1, 10**18))),
    ],
)
def test_value_of_a_kind_that_no_rule_has_is_a_value_error(make: Callable[[], Rule]) -> None:
    with pytest.raises(ValueError):
        make()


EXAMPLES = {"P%": "5%", "TIME": "5ms", "RATE": "1mbit", "SIZE": "1kB", "Np": "5p", "N": "100", "MATCH": "data"}


@pytest.mark.parametrize("verb", FORMS)
def test_shape_of_a_rule_filled_in_is_such_a_rule(verb: str) -> None:
    limits = [limit.form for limit in BEHIND if limit in FORMS[verb].options and limit is not FORMS[verb].operand]
    words = re.sub(r"[\[\]]|\|\S+", "", " ".join([shape(verb), *limits]))
    filled = re.sub("P%|TIME|RATE|SIZE|Np|MATCH|N", lambda found: EXAMPLES[found[0]], words)
    rule = parse_rule(filled)
    assert type(rule) is FORMS[verb].rule
    assert all(slot.argument in repr(rule) for slot in FORMS[verb].options)


def test_grammar_in_words_has_every_rule_and_what_may_stand_behind_each() -> None:
    lines = grammar_in_words().splitlines()
    begun = [line.split()[0] for line in lines if re.match("  [^ ]", line)]
    assert begun == [*FORMS, *(limit.form for limit in BEHIND)]
    assert max(map(len, lines)) <= 100


def test_every_form_of_the_grammar_names_a_rule_by_its_verb() -> None:
    assert {verb: form.rule.VERB for verb, form in FORMS.items()} == {verb: verb for verb in FORMS}  # type: ignore[attr-defined]
    assert {form.rule for form in FORMS.values()} == set(STAGES)


@given(ANY_RULE)
@example(Loss(5e-324))
@example(Loss(1 - 2**-53))
@example(Drop(SYN, nth=(3, 3)))
@example(Delay(999_999_999_999_999_999))
@example(Rate(1))
def test_text_of_any_rule_reads_as_an_equal_rule(rule: Rule) -> None:
    again = parse_rule(rule.text)
    assert again == rule
    assert type(again) is type(rule)
    assert again.text == rule.text


WORDS = st.sampled_from(
    [
        *FORMS, "syn", "any", "nth=1", "nth=0", "seed=3", "dir=in", "jitter", "queue", "mark", "silent", "5ms", "5%",
        "9p", "10mbit", "64kB", "1280", "after=1s", "for=1s", "option=sack", "window=0", "enter=1%", "leave=2%", "=",
    ]
)  # fmt: skip


@given(st.text() | st.lists(WORDS | st.text(max_size=5), max_size=6).map(" ".join))
@example("loss " + "9" * 5000 + "%")
@example("loss 0." + "0" * 5000 + "1%")
@example("drop syn nth=" + "9" * 5000)
@example("delay " + "9" * 5000 + "s")
@example("loss \u0661%")
def test_parse_rule_gives_a_rule_or_raises_fault_rule_error_and_nothing_else(text: str) -> None:
    try:
        rule = parse_rule(text)
    except FaultRuleError as error:
        problem, shown, caret = str(error).rsplit("\n", 2)
        assert problem
        assert set(caret.strip()) == {"^"}
        assert len(caret) <= len(shown) + 2
    else:
        assert rule.text == " ".join(text.split())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Drop(SYN, nth=0),
        lambda: Drop(SYN, nth=(3, 2)),
        lambda: Drop(SYN, nth=10**18),
        lambda: Drop(SYN, direction="up"),
        lambda: Drop(2),  # the flag of core.segment instead of the Match
        lambda: Loss(5),
        lambda: Loss(-0.1),
        lambda: Loss(float("nan")),
        lambda: Loss(0.1, seed=-1),
        lambda: Loss(0.1, match="data"),
        lambda: BurstLoss(0.1, 1.1),
        lambda: BurstLoss(0.1, 0.1, loss_in_good=-1),
        lambda: Blackhole(-1),
        lambda: Blackhole(0, -1),
        lambda: Delay(-1),
        lambda: Delay(1.5),
        lambda: Delay(1, jitter_ns=-1),
        lambda: Rate(0),
        lambda: Rate(1, queue_bytes=-1),
        lambda: Mtu(67),
        lambda: Strip("sac"),
        lambda: Rewrite(),
        lambda: Rewrite(window=65536),
        lambda: Rewrite(wscale=-1),
    ],
)
def test_rule_object_that_makes_no_sense_raises_value_error(make: type[Match]) -> None:
    with pytest.raises(ValueError):
        make()
