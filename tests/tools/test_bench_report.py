"""What the bench makes of its figures: tables, chart, document; and what it says of peers that can't be had."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.bench.__main__ import main, write
from tools.bench.chart import WHOLE, Bar, Group, svg
from tools.bench.peers import NOTHING_INSTALLED, Installed, Peer, environment, install
from tools.bench.report import BEGIN, END, SIMULATION_ROWS, TABLES, embedded, groups, render
from tools.bench.session import BULK, MEMORY, NO_OFFLOAD_SERVERS, PEERS, SERVERS, SIMULATION, Outcome, Plan

PROJECT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
GIVEN = {
    "gbit_per_s": 8.0, "cpu_s_per_gb": 0.5, "per_s": 1000.0, "cpu_us_each": 40.0, "median_us": 20.0, "p99_us": 40.0,
}  # fmt: skip


def outcome_of(plan: Plan, installed: Installed = NOTHING_INSTALLED, **changes: float) -> Outcome:
    """Every server has GIVEN; those that are no bare loop, `changes` instead of some of it."""
    outcome = Outcome(installed=installed)
    for name in plan.names:
        for server in plan.servers_for(name, installed):
            results = GIVEN if server.startswith("bare") else {**GIVEN, **changes}
            outcome.series[name, server] = [dict(results) for _ in range(plan.rounds)]
    return outcome


def row_of(report: str, title: str, table: int = 0) -> list[str]:
    part = [part for part in report.split("\n\n") if part.startswith("|")][table]
    line = next(line for line in part.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_ratio_is_of_the_same_round_and_more_is_better():
    plan = Plan(names=("connects", "ping"), rounds=3)
    outcome = Outcome()
    for pace in (1, 10, 2):
        for server in SERVERS:
            half = 1 if server == "bare" else 2
            connects, ping = (outcome.series.setdefault((name, server), []) for name in plan.names)
            connects.append({"per_s": 1000.0 * pace / half})
            ping.append({"median_us": 20.0 / pace * half, "p99_us": 40.0 / pace * half})

    report = render(plan, outcome)

    assert row_of(report, "connections/s") == ["2,000 ±225%", *["0.50x (1,000 ±225%)"] * 3]
    assert [cell[:11] for cell in row_of(report, "ping, median us")[1:]] == ["0.50x (20.0"] * 3


def test_each_table_has_its_own_bare_loop():
    plan = Plan(names=BULK, rounds=1)
    outcome = outcome_of(plan)
    outcome.series["bulk-in", "bare"] = [{**GIVEN, "gbit_per_s": 16.0}]
    outcome.series["bulk-in", "bare-no-offload"] = [{**GIVEN, "gbit_per_s": 4.0}]

    report = render(plan, outcome)

    assert row_of(report, "bulk in, Gbit/s")[:2] == ["16.0 ±0%", "0.50x (8.00 ±0%)"]
    assert row_of(report, "bulk in, Gbit/s", table=1) == ["4.00 ±0%", *["2.0x (8.00 ±0%)"] * 2]


def test_servers_without_offload_are_measured_in_bulk_only():
    for name in Plan().names:
        servers = Plan().servers_for(name)
        assert set(NO_OFFLOAD_SERVERS) <= set(servers) if name in BULK else not set(NO_OFFLOAD_SERVERS) & set(servers)


def test_only_what_was_chosen_is_shown():
    plan = Plan(names=("ping",), rounds=1)
    report = render(plan, outcome_of(plan))
    assert "Without offload" not in report
    assert "Memory" not in report
    assert "bulk" not in report
    assert report.count("| ping") == 2


def test_peers_stand_in_both_tables_beside_its_bare_loop():
    plan = Plan(names=("bulk-in", "ping"), rounds=1, with_peers=True)
    outcome = outcome_of(plan, Installed(PEERS, ("mitmproxy-rs 1.2", "pmd-pytcp 3.4")), gbit_per_s=2.0)

    report = render(plan, outcome)

    assert "MTU 1500; mitmproxy-rs 1.2; pmd-pytcp 3.4." in report
    for at, table in enumerate(TABLES):
        cells = row_of(report, "bulk in, Gbit/s", at)
        assert len(cells) == len(table.servers)
        assert cells[-2:] == ["0.25x (2.00 ±0%)"] * 2


def test_peer_that_failed_or_is_missing_is_said_so_once():
    plan = Plan(names=("bulk-in", "ping"), rounds=1, with_peers=True)
    missing = "pmd-pytcp is left out: pip could not install it (no network)."
    outcome = outcome_of(plan, Installed(("mitmproxy",), ("mitmproxy-rs 1.2",), (missing,)))
    for name in plan.names:
        del outcome.series[name, "mitmproxy"]
        outcome.failures[name, "mitmproxy"] = "the server mitmproxy did not start"

    report = render(plan, outcome)

    assert row_of(report, "bulk in, Gbit/s")[-1] == row_of(report, "ping, median us")[-1] == "failed"
    assert report.endswith(f"\n\n{missing}\nFailed: the server mitmproxy did not start.\n")
    assert "pmd-pytcp" not in "".join(line for line in report.splitlines() if line.startswith("|"))
    assert not any(bar.title == "mitmproxy-rs" for group in groups(plan, outcome) for bar in group.bars)


def test_simulated_time_is_told_as_multiple_of_real_time_and_by_the_minute():
    plan = Plan(names=(SIMULATION,), rounds=3)
    rounds = [{"simulated_s": pace, "segments": 20_000.0, "events": 50_000.0} for pace in (15.0, 20.0, 25.0)]
    report = render(plan, Outcome(simulation=[dict.fromkeys(SIMULATION_ROWS, speed) for speed in rounds]))
    for title in SIMULATION_ROWS.values():
        assert row_of(report, title) == ["20.0x ±25%", "3.00", "20,000", "50,000"]
    assert report.count("\n\n") == 1, "no other table, no empty remark"


def test_memory_is_in_octets():
    plan = Plan(names=(MEMORY,))
    outcome = Outcome(memory={"protocol": 4321.6, "streams": 8000.0, "syn_record": 262.4, "time_wait": 180.0})
    report = render(plan, outcome)
    assert row_of(report, "idle connection, Protocol") == ["4,320"]
    assert row_of(report, "SYN record") == ["262"]
    assert report.count("\n\n") == 1, "no other table, no empty remark"


def test_retransmissions_and_congestion_control_are_told():
    plan = Plan(names=("bulk-in",), rounds=2)
    outcome = outcome_of(plan)
    for results in outcome.series.values():
        for each in results:
            each |= {"congestion_control": "cubic", "retransmissions": 0}
    outcome.series["bulk-in", "kernel"][0]["retransmissions"] = 1200
    outcome.series["bulk-in", "bare-no-offload"][1]["retransmissions"] = 3

    remarks = render(plan, outcome).split("\n\n")[-1]

    assert "The kernel's congestion control was cubic.\n" in remarks
    assert "sent again: 1,200 (kernel, streams), 3 (bare loop, no offload)." in remarks


def test_chart_has_a_bar_for_each_ratio():
    plan = Plan(names=("bulk-in", "connects", "ping"), rounds=1)
    drawn = groups(plan, outcome_of(plan, gbit_per_s=4.0, per_s=250.0))
    assert [(group.title, [bar.ratio for bar in group.bars]) for group in drawn] == [
        ("bulk in", [0.5] * 3),
        ("connections", [0.25] * 3),
        ("bulk in, without offload", [0.5] * 2),
    ]


def test_svg_bars_are_as_long_as_their_ratios_and_cut_with_an_arrow():
    bars = tuple(Bar(f"server {ratio}", ratio) for ratio in (0.0004, 0.5, 1.0, WHOLE, 7.7))
    root = ElementTree.fromstring(svg("<speed> & more", [Group("a < b", bars)], "the ceiling"))

    widths = [float(rect.get("width", "")) for rect in root.iter(f"{SVG}rect") if rect.get("height") == "13"]
    tiny, half, one, whole, cut = widths
    assert tiny == 1
    assert one == pytest.approx(half * 2, abs=0.1)
    assert cut == whole == pytest.approx(one * WHOLE, abs=0.1)
    assert len(list(root.iter(f"{SVG}path"))) == 1, "one arrow"
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert [text for text in texts if text and text.endswith("x")] == ["0.0004x", "0.50x", "1.00x", "1.50x", "7.70x"]
    assert {"<speed> & more", "a < b", "1 = the ceiling", *(bar.title for bar in bars)} <= set(texts)
    [line] = [line for line in root.iter(f"{SVG}line") if line.get("class") == "one"]
    assert float(line.get("x1", "")) == pytest.approx(330 + one, abs=0.1)


def test_svg_colours_a_server_alike_in_every_group_and_minds_the_dark():
    drawing = svg("t", [Group("a", (Bar("x", 1), Bar("y", 1))), Group("b", (Bar("y", 1),))], "1")
    rects = [rect for rect in ElementTree.fromstring(drawing).iter(f"{SVG}rect") if rect.get("fill")]
    legend, bars = rects[:2], rects[2:]
    colours = [rect.get("fill") for rect in legend]
    assert [rect.get("fill") for rect in bars] == [*colours, colours[1]]
    assert colours[0] != colours[1]
    assert "prefers-color-scheme: dark" in drawing


def test_embedding_replaces_what_is_between_the_markers():
    once = embedded(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert embedded(once, "new\n") == once
    with pytest.raises(ValueError, match="markers are missing"):
        embedded("no markers", "new\n")


def test_writing_puts_the_chart_beside_the_document_and_into_it(tmp_path):
    document = tmp_path / "speed.md"
    document.write_text(f"before\n{BEGIN}\n{END}\n", encoding="utf-8")
    write(document, "report\n", "<svg/>\n")
    assert (tmp_path / "speed.svg").read_text(encoding="utf-8") == "<svg/>\n"
    text = document.read_text(encoding="utf-8")
    assert "](speed.svg)\n\nreport\n" in text
    assert text == embedded(text, text.split("\n\n", 1)[1].partition(f"\n{END}")[0])


def test_document_has_the_markers_and_explains_every_row():
    text = (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8")
    embedded(text, "")
    for name in Plan().names:
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["speed"], "'speed' is none of bulk-in"),
        (["--rounds", "0"], "'0' is not a number above 0"),
        (["--seconds", "soon"], "'soon' is not a number above 0"),
        (["--write", "x.md", "ping"], "--write takes no selection"),
    ],
)
def test_bad_arguments_are_explained(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert complaint in capsys.readouterr().err


def test_peer_that_no_index_has_is_left_out_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    installed = install(tmp_path, [Peer("nobody", "no-such-tcp", "no_such_tcp", ())])
    assert installed.names == installed.versions == ()
    [sentence] = installed.missing
    assert sentence.startswith("no-such-tcp is left out: pip could not install it (")


def test_peers_are_found_in_a_directory_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert environment(tmp_path, "pytcp")["PYTHONPATH"] == f"{tmp_path / 'pytcp'}:mine"
    monkeypatch.delenv("PYTHONPATH")
    assert environment(tmp_path, "pytcp")["PYTHONPATH"] == str(tmp_path / "pytcp")
