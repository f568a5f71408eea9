"""A failing case as a script: it makes the case again, can be read, and says no more than the failure needs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tcpstack.core.config import Config
from tcpstack.core.receive.acks import AckPolicy
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, draw_case, play, show, shrink
from tcpstack.sim.search.script import script_of, source_of

HOSTILE = 'Violation: a: "quoted" \\ and ""' + ", and so on" * 30


@pytest.mark.parametrize("seed", range(0, 1000, 37))
def test_script_makes_the_same_case_again_in_lines_that_can_be_read(seed):
    case = draw_case(seed)
    script = script_of(case, seed, HOSTILE)
    said = {"__name__": "kept"}
    exec(script, said)
    assert said["CASE"] == case
    assert max(map(len, script.splitlines())) <= 120
    assert f"--seed {seed} " in said["__doc__"]


def test_script_imports_what_it_uses():
    script = script_of(Case(seed=1, talks=(Talk(0, 1, 7_000, (Plan(), Plan())),)), 1, HOSTILE)
    assert [line for line in script.splitlines() if "import" in line] == [
        "from tcpstack.sim.search import Case, Plan, Talk, show"
    ]


TALK = Talk(0, 0, 80, (Plan(), Plan(writes=((0, 5_000),))))


def test_case_that_holds_shows_its_result_alone(capsys):
    case = Case(seed=1, talks=(TALK,))
    assert show(case) == 0
    assert capsys.readouterr().out == f"{play(case)}\n"


def test_case_that_fails_shows_what_when_and_in_which_conversation(monkeypatch, capsys):
    monkeypatch.setattr(AckPolicy, "on_text", lambda policy, size, rmss, now_ns: None)
    line = Line(delay_ns=2_000_000)
    other = replace(TALK, port=81, plans=(Plan(), Plan()))
    case = Case(seed=1, lines=(line, line), configs=(Config(), Config(send_buffer_bytes=3_000)), talks=(other, TALK))
    assert show(case) == 1
    failure, _, *ladder = capsys.readouterr().out.splitlines()
    assert failure.startswith("at 1.220000 s: Violation: a: text has waited 212000000 ns for its")
    assert sum(each.startswith("── conversation ") for each in ladder) == 1
    assert any(re.search(r"  a 10\.0\.0\.1:\d+ +b 10\.0\.0\.2:80$", each) for each in ladder)
    assert "— here it fails —" in ladder[-1]
    assert " 220.000  FIN-WAIT-2 " in "".join(ladder[-4:-1])


def test_error_of_the_engine_is_shown_with_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr(AckPolicy, "on_text", lambda policy, size, rmss, now_ns: 1 // 0)
    assert show(Case(seed=1, talks=(TALK,))) == 1
    out = capsys.readouterr().out
    assert out.startswith("at 1.000000 s: ZeroDivisionError: ")
    assert "── conversation 1: a and b" in out
    assert "Traceback (most recent call last):" in out


def test_what_is_so_by_default_is_not_said():
    assert source_of(Case(seed=1, configs=(Config(), Config(sack=False)))) == (
        "Case(seed=1, configs=(Config(), Config(sack=False)))"
    )
    assert source_of(Talk(0, 1, 7_000, (Plan(ending="wait"), Plan()))) == (
        'Talk(at_ns=0, opener=1, port=7_000, plans=(Plan(ending="wait"), Plan()))'
    )


def test_settings_are_shrunk_one_by_one():
    configs = (Config(sack=False, nagle=False, receive_buffer_bytes=1), Config(timestamps=False))
    lines = (Line(rate_bps=1_000_000, queue_bytes=4_000, mark_bytes=3_000), Line(delay_ns=5))
    case = replace(draw_case(3), configs=configs, lines=lines)
    small = shrink(case, lambda each: not each.configs[0].sack and each.lines[0].mark_bytes is not None)
    assert small.configs == (Config(sack=False), Config())
    assert small.lines == (Line(mark_bytes=3_000), Line())


def test_all_that_a_case_says_is_shrunk():
    talk = Talk(0, 1, 80, (Plan(hasty=True), Plan()), both_open=True, lport=300)
    case = Case(
        seed=1, version=6, octets=True, lasts_ns=20_000_000_000, mtus=(1280, 1500), wraps=True, backlog=1, accept_ns=5,
        talks=(talk,),
    )  # fmt: skip
    small = shrink(case, lambda each: True)
    assert small == Case(seed=1, talks=(Talk(0, 0, 80, (Plan(), Plan())),), lasts_ns=small.lasts_ns)
    assert small.lasts_ns <= 200_000_000


def shrunk_sizes(needs, *sizes):
    """What is left of a program's writes where the failure needs this of their sizes."""
    talk = Talk(0, 0, 80, (Plan(writes=tuple((0, size) for size in sizes)), Plan()))

    def said(case):
        return [size for _, size in case.talks[0].plans[0].writes]

    return said(shrink(Case(seed=1, talks=(talk,)), lambda case: needs(said(case))))


def test_single_writes_are_taken_away():
    assert shrunk_sizes(lambda sizes: {11, 13, 17} <= set(sizes), 11, *range(100, 110), 13, *range(200, 212), 17) == [
        11, 13, 17
    ]  # fmt: skip


def test_neighbouring_writes_are_joined():
    assert shrunk_sizes(lambda sizes: sum(sizes) == 5 * 700, *[700] * 5) == [3_500]
