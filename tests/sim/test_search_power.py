"""The search's checks go on finding what they are for: behaviours taken out of the engine, one at a time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.search_power.copies import Copies, by_hand

ROOT = Path(__file__).parents[2]
CASES = 60
FOUND = (
    ("MUST-11", "after a passive open a RST changes nothing", "a RST at RCV.NXT changes nothing"),
    ("MUST-12", "a reset looks like an orderly end", "nobody was told why"),
    ("MUST-13", "TIME-WAIT lasts 1 MSL", "TIME-WAIT lasted 30000000000 ns"),
    ("MUST-17", "Nagle is always on", "nothing holds back what waits"),
    ("MUST-19", "no backoff", "not twice that"),
    ("MUST-29", "answers do not count", "given up .* after something came"),
    ("MUST-30", "no URG is sent", "urgent text without URG"),
)
"""(label of a mutant in tools/conformance, its name, what the search is to say of it)"""


@pytest.fixture(scope="module")
def copies():
    with Copies(ROOT, 1) as copies:
        yield copies


@pytest.mark.parametrize(("label", "name", "says"), FOUND)
def test_behaviour_that_is_taken_out_is_missed(copies, label, name, says):
    [mutant] = [each for each in by_hand(ROOT, [label]) if each.name.endswith(name)]
    verdict = copies.play(mutant, seed=1, cases=CASES)
    assert re.search(says, verdict.failure or f"nothing, in {verdict.cases} cases")
