"""Whatever a script says, it is run or refused, and nothing else comes of it."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcpstack.drill.grammar import parse
from tcpstack.drill.run import FAILED, PASSED, UNSUPPORTED, run_file
from tcpstack.drill.script import ENGINE, KERNEL, ScriptError

SCRIPTS = [path.read_text() for path in sorted((Path(__file__).parent / "scripts").glob("*.pkt"))]
WORDS = re.findall(r"[A-Za-z_]+|[0-9.]+|\S", "\n".join(SCRIPTS))
UNUSUAL = {"-1", "4294967295", "65535", "0x7fffffff", "1...2", "~", '"', "`", "%{", "}%"}
PIECES = st.sampled_from(sorted(set(WORDS) | UNUSUAL))


def complaint(text: str, side: str) -> str:
    """What is wrong with a script; "" where it is one."""
    try:
        parse(text, "x.pkt", side)
    except ScriptError as error:
        return str(error)
    return ""


@given(st.lists(PIECES, max_size=40), st.sampled_from([ENGINE, KERNEL]))
def test_any_row_of_words_is_a_script_or_is_told_why_not(words: list[str], side: str) -> None:
    assert re.match(r"x\.pkt:\d+:\d+: |$", complaint(" ".join(words), side))


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=60))
def test_any_text_is_a_script_or_is_told_why_not(text: str) -> None:
    assert re.match(r"x\.pkt:\d+:\d+: |$", complaint(text, ENGINE))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SCRIPTS), st.integers(0, 10_000), PIECES)
def test_a_script_with_one_word_exchanged_passes_fails_or_is_refused(
    tmp_path: Path, text: str, place: int, piece: str
) -> None:
    found = [match for match in re.finditer(r"[A-Za-z_]+|[0-9.]+|\S", text) if match.start() > text.index("\n")]
    word = found[place % len(found)]
    path = tmp_path / "script.pkt"
    path.write_text(text[: word.start()] + piece + text[word.end() :])
    try:
        result = run_file(path)
    except ScriptError:
        return

    assert result.verdict in (PASSED, FAILED, UNSUPPORTED)
    assert (result.message == "") == (result.verdict == PASSED)
