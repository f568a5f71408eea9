"""The state diagram in the documentation is drawn from the table that the engine runs."""

from __future__ import annotations

import re

import pytest

from tcpstack.core.state import CLOSED, STATE_NAMES, TRANSITIONS
from tools.state_diagram import PART, diagram


def transitions_shown(text: str) -> list[tuple[int, str, int]]:
    """Read the transitions back: those drawn, and those in the table beneath."""
    numbers = {name: number for number, name in enumerate(STATE_NAMES)}
    found = []
    for before, after, events in re.findall(r"^    (\w+) --> (\w+) : (.+)$", text, re.MULTILINE):
        ends = (numbers[before.replace("_", "-")], numbers[after.replace("_", "-")])
        # "RST or SYN arrives, after a passive OPEN" is one event; all other "or"s part events.
        parts = [events] if ends in [(3, 1)] else events.split(" or ")
        found += [(ends[0], event, ends[1]) for event in parts]
    for event, states in re.findall(r"^\| ([^|-]+) \| ([^|]+) \|$", text, re.MULTILINE)[1:]:
        found += [(numbers[name], event, CLOSED) for name in states.split(", ")]
    return found


def test_diagram_shows_each_transition_exactly_once():
    shown = transitions_shown(diagram())
    assert sorted(shown) == sorted((before, event, after) for (before, event), after in TRANSITIONS.items())


def test_document_shows_the_table_as_it_is(capsys):
    assert PART.main(["--check"]) == 0, capsys.readouterr().err


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "architecture.md"
    path.write_text(f"# Title\n\n{PART.begin}\nold\n{PART.end}\nafter\n", encoding="utf-8")
    return path


def test_check_fails_on_an_old_diagram_and_write_renews_it(document, capsys):
    assert PART.main(["--check"], document) == 1
    assert "run python -m tools.state_diagram --write" in capsys.readouterr().err
    assert PART.main(["--write"], document) == 0
    assert PART.main(["--check"], document) == 0
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n\n{PART.begin}\n")
    assert text.endswith(f"{PART.end}\nafter\n")
    assert "old" not in text
    assert PART.updated(text) == text


def test_document_without_markers_is_left_alone(document, capsys):
    document.write_text("# Title\n", encoding="utf-8")
    assert PART.main(["--write"], document) == 1
    assert "the markers are missing" in capsys.readouterr().err
    assert document.read_text(encoding="utf-8") == "# Title\n"


def test_without_arguments_it_prints(capsys):
    assert PART.main([]) == 0
    assert capsys.readouterr().out == diagram() + "\n"
