"""The list of differences to Linux: none that shows nowhere, and the document has them with their counts.

That Linux does what the list says is tests/kernel/test_state_matrix.py.
"""

from __future__ import annotations

from tests.core.linux_differences import DIFFERENCES
from tools.state_matrix import PART, figures


def test_each_difference_to_linux_shows_in_a_case() -> None:
    found = figures()
    assert set(found.by_reason) == {difference.reason for difference in DIFFERENCES}
    assert found.differing.total() == found.by_reason.total()


def test_the_document_has_the_figures() -> None:
    text = PART.path.read_text(encoding="utf-8")
    assert PART.updated(text) == text, "run python -m tools.state_matrix --write"
