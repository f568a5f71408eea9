"""tools/conformance: its data hold together, and it finds out what is untested, stale or unnoticed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.conformance.__main__ import DOCUMENT, check, find_places, main, write
from tools.conformance.document import document
from tools.conformance.model import Requirement, Status, applications, in_part, met, unmet
from tools.conformance.mutants import MUTANTS
from tools.conformance.mutate import Mutant, MutantError, mutate
from tools.conformance.requirements import LABELS, REQUIREMENTS
from tools.conformance.runs import MarkedTest, RunError, marked_files, run, run_all
from tools.conformance.source import Source, SourceError

ROOT = Path(__file__).parents[2]

# ------------------------------------------------------------------ the data


def test_each_label_of_the_rfc_is_there_once_and_no_other() -> None:
    labels = [requirement.label for requirement in REQUIREMENTS]
    expected = {f"{kind}-{number}" for kind, count in LABELS.items() for number in range(1, count + 1)}
    assert Counter(labels).most_common(1)[0][1] == 1
    assert {label for label in labels if label.partition("-")[0] in LABELS} == expected
    assert LABELS == {"MUST": 69, "SHLD": 31, "MAY": 18, "REC": 1}


def test_names_without_a_label_begin_with_their_section() -> None:
    for requirement in REQUIREMENTS:
        if not requirement.kind:
            assert requirement.label.startswith(f"{requirement.section}-")


def test_what_is_met_says_where_and_what_is_not_says_why() -> None:
    for requirement in REQUIREMENTS:
        assert requirement.text, requirement
        assert bool(requirement.where) is requirement.needs_test, requirement
        assert bool(requirement.note) is (requirement.status in (Status.IN_PART, Status.NOT_MET)), requirement


def test_what_implements_a_requirement_exists() -> None:
    assert find_places(ROOT, REQUIREMENTS)


def test_each_requirement_that_is_met_has_a_mutant() -> None:
    assert {m.label for m in MUTANTS} == {r.label for r in REQUIREMENTS if r.needs_test}
    assert len({(m.label, m.name) for m in MUTANTS}) == len(MUTANTS)


def test_each_mutant_can_be_made() -> None:
    wrong = []
    for mutant in MUTANTS:
        try:
            mutant.file_in(ROOT / "tcpstack")
        except MutantError as error:
            wrong.append(str(error))
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------ a small project

PACKAGE = '''
def greet(name: str) -> str:
    return "hello " + name

class Door:
    open: bool = False

    def knock(self) -> int:
        return 3
'''
TESTS = '''
import pytest
from tcpstack.code import Door, greet

@pytest.mark.rfc9293("MUST-1", "SHLD-1")
@pytest.mark.parametrize("name", ["a", "b"])
def test_greeting(name):
    assert greet(name) == "hello " + name

@pytest.mark.rfc9293("MUST-2")
def test_knocking():
    assert Door().knock() > 0

def test_other():
    raise AssertionError("not marked, so not run")
'''
CONFIGURATION = '[tool.pytest.ini_options]\npythonpath = ["."]\nmarkers = ["rfc9293(*labels): labels"]\n'
TEXTS = (
    met("MUST-1", "3.1", "Greet.", "greet"),
    met("MUST-2", "3.2", "Knock.", "Door.knock"),
    in_part("SHLD-1", "3.1", "Greet all.", "greet", but="only those with a name"),
    unmet("MAY-1", "3.3", "Bow.", "nobody does"),
    applications("SHLD-2", "3.4", "Be polite."),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    shutil.copytree(ROOT / "tools" / "conformance", root / "tools" / "conformance")
    for path, text in {
        "tcpstack/__init__.py": "", "tcpstack/pytest_plugin.py": "", "tcpstack/code.py": PACKAGE,
        "tests/test_code.py": TESTS, "docs/none.md": "", "pyproject.toml": CONFIGURATION,
    }.items():  # fmt: skip
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_document_is_written_and_is_then_up_to_date(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(project, TEXTS) == 1
    assert "out of date" in capsys.readouterr().err
    assert write(project, TEXTS) == 0
    assert capsys.readouterr().out == "conformance: 5 requirements, 2 tests, 0 faults\n"
    assert check(project, TEXTS) == 0
    page = (project / DOCUMENT).read_text()
    assert "| MUST and MUST NOT | 2 | 2 | 0 | 0 | 0 |" in page
    assert "| SHOULD and SHOULD NOT | 2 | 0 | 1 | 0 | 1 |" in page
    assert (
        "| MUST-1 | 3.1 | Greet. | [greet](../tcpstack/code.py) | [test_greeting](../tests/test_code.py) | met |"
    ) in page
    assert "| SHLD-1 | 3.1 | Greet all. | [greet](../tcpstack/code.py) | [test_greeting]" in page
    assert "met in part: only those with a name |" in page
    assert "| MAY-1 | 3.3 | Bow. |  |  | not taken: nobody does |" in page
    assert "| SHLD-2 | 3.4 | Be polite. |  |  | the application's |" in page


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('@pytest.mark.rfc9293("MUST-2")\n', "", "MUST-2 has no test"),
        ('"MUST-2"', '"MUST-2", "MUST-99"', "MUST-99 is no requirement: tests/test_code.py::test_knocking"),
        ('"MUST-2"', '"MUST-2", "MAY-1"', "MAY-1 is said to be not met, yet has tests: test_knocking"),
        ("knock() > 0", "knock() > 9", "MUST-2 fails: tests/test_code.py::test_knocking"),
        ("def test_knocking():", "def test_knocking():\n    pytest.skip()", "MUST-2 has no test that ran and passed"),
    ],
)
def test_what_is_wrong_is_said_and_is_an_error(
    old: str, new: str, complaint: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(project / "tests/test_code.py", old, new)
    assert write(project, TEXTS) == 1
    assert complaint in capsys.readouterr().err


def test_tests_that_cannot_be_collected_say_why(project: Path) -> None:
    replace(project / "tests/test_code.py", "import Door", "import Gate, Door")
    with pytest.raises(RunError, match="cannot import name 'Gate'"):
        check(project, TEXTS)


def test_a_failure_stands_in_the_document(project: Path) -> None:
    replace(project / "tests/test_code.py", '"hello " + name\n\n@', '"hello a"\n\n@')
    assert write(project, TEXTS) == 1
    assert "**fails**: test_greeting |" in (project / DOCUMENT).read_text()


def test_a_pipe_in_a_text_does_not_end_its_cell() -> None:
    page = document([unmet("MUST-1", "3", "a | b", "c | d")], {}, [])
    assert "| a \\| b |  |  | not met: c \\| d |" in page


def test_names_are_found_where_they_are_and_nowhere_else(project: Path) -> None:
    (project / "tcpstack/more.py").write_text("def greet(): ...\nLIMIT = 3\n")
    source = Source(project / "tcpstack")
    assert source.place("more.py:greet") == ("tcpstack/more.py", "greet")
    assert source.place("Door.open") == ("tcpstack/code.py", "Door.open")
    assert source.place("LIMIT") == ("tcpstack/more.py", "LIMIT")
    with pytest.raises(SourceError, match=r"code\.py, tcpstack/more\.py: say which"):
        source.place("greet")
    with pytest.raises(SourceError, match="nowhere"):
        source.place("Door.close")


def test_run_of_one_label_counts_cases_by_function(project: Path) -> None:
    found = run(project, ["tests/test_code.py"], label="SHLD-1")
    assert found.package == project / "tcpstack"
    [test] = found.tests
    assert (test.path, test.name) == ("tests/test_code.py", "test_greeting")
    assert test.outcomes["SHLD-1"] == {"passed": 2, "failed": 0, "skipped": 0}
    assert test.passed("SHLD-1")
    assert not MarkedTest("", "", {"A-1": {"passed": 1, "failed": 1, "skipped": 0}}).passed("A-1")


MORE_TESTS = '''
import pytest

class TestMore:
    @pytest.mark.rfc9293("MUST-2")
    def test_that_fails(self):
        raise AssertionError

    @pytest.mark.rfc9293("MUST-1")
    def test_that_passes(self):
        pass
'''


def test_run_by_several_processes_finds_what_one_finds(project: Path) -> None:
    (project / "tests" / "test_more.py").write_text(MORE_TESTS)
    found, alone = run_all(project), run(project, marked_files(project))
    assert found.failed
    assert alone.failed
    assert [(test.path, test.name, test.outcomes) for test in found.tests] == [
        (test.path, test.name, test.outcomes) for test in alone.tests
    ]
    assert len(found.tests) == 4
    assert "bringing up nodes" in found.output
    assert "bringing up nodes" not in alone.output


# ------------------------------------------------------------------ mutants

SILENT = Mutant("MUST-1", "nobody is greeted", '"hello " + name', '""')
STUBBORN = Mutant("MUST-2", "one knock fewer", "return 3", "return 2")


def tried(project: Path, mutants: Sequence[Mutant], *labels: str) -> int:
    before = (project / "tcpstack/code.py").read_text()
    code = mutate(project, labels, mutants)
    assert (project / "tcpstack/code.py").read_text() == before
    return code


def test_mutants_that_are_noticed_are_killed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tried(project, [SILENT, STUBBORN], "MUST-1") == 0
    assert capsys.readouterr().out == "killed     MUST-1: nobody is greeted\nconformance: 1 of 1 mutants killed\n"


def test_a_mutant_that_nobody_notices_survives(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tried(project, [SILENT, STUBBORN]) == 1
    said = capsys.readouterr()
    assert "SURVIVES   MUST-2: one knock fewer" in said.out
    assert "1 of 2 mutants killed" in said.out
    assert said.err == "conformance: not killed: MUST-2: one knock fewer (SURVIVES)\n"


@pytest.mark.parametrize(
    ("mutant", "verdict"),
    [
        (Mutant("MUST-1", "no such text", "good evening", ""), "CANNOT"),
        (Mutant("MUST-1", "no Python", '"hello " + name', '"hello " +'), "CANNOT"),
        (Mutant("MUST-1", "twice", "return", "pass; return"), "CANNOT"),
        (Mutant("MAY-1", "what has no test", "return 3", "return 2"), "NO TEST"),
        (Mutant("MUST-1", "nothing can be collected", "class Door", "class Gate"), "BREAKS"),
    ],
)
def test_a_mutant_that_shows_nothing_is_not_killed(
    mutant: Mutant, verdict: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(project, [mutant]) == 1
    assert f"{verdict:10} {mutant.label}: {mutant.name}" in capsys.readouterr().out


def test_a_mutant_of_a_test_that_fails_anyway_is_not_killed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(project / "tests/test_code.py", "knock() > 0", "knock() > 9")
    assert tried(project, [STUBBORN]) == 1
    assert "FAILS      MUST-2" in capsys.readouterr().out


def test_mutant_says_where_its_text_stands_too_often(project: Path) -> None:
    (project / "tcpstack/more.py").write_text("x = 'hello '\n")
    with pytest.raises(MutantError, match=r"code\.py \(1\), more\.py \(1\)"):
        Mutant("MUST-1", "ambiguous", "hello ", "").file_in(project / "tcpstack")


def test_mutate_of_an_unknown_label_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mutate", "MUST-70"]) == 1
    assert "no mutant of MUST-70" in capsys.readouterr().err


def test_requirement_knows_its_kind() -> None:
    assert [Requirement(label, "", "").kind for label in ("MUST-1", "REC-1", "3.10.7.4-rst")] == ["MUST", "REC", ""]
