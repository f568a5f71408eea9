"""`tcpstack fuzz`: how it ends, and that it leaves no process; what it keeps of what it finds."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tcpstack.cli import fuzz as fuzz_command
from tcpstack.cli import fuzz_search, fuzz_worker, main
from tcpstack.cli.fuzz_worker import Tally
from tcpstack.sim.search.play import Player
from tcpstack.sim.search.shrink import kind_of

PROJECT = Path(__file__).parents[2]
Search = subprocess.Popen[str]


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Search]:
    """A search without end, whose two processes play."""
    words = (sys.executable, "-m", "tcpstack", "fuzz", "--seconds", "600", "--seed", "7", "--jobs", "2")
    with subprocess.Popen(
        (*words, "--save", str(tmp_path)), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: len(children(process.pid)) == 2 and all(map(has_answered, children(process.pid))))
        yield process
        process.kill()


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def has_answered(pid: int) -> bool:
    found = re.search(r"^syscw: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    return found is not None and int(found[1]) > 0


def eventually(holds, patience_s: float = 20.0) -> None:
    until = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_over(pid: int) -> bool:
    """Gone, or a zombie that nobody has waited for yet."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def stop_workers(process: Search) -> list[int]:
    """Nothing that they play comes to an end from here on."""
    workers = children(process.pid)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    return workers


def told(process: Search) -> tuple[str, str]:
    """Its last line, and what it said on stderr."""
    out, err = process.communicate(timeout=20)
    return out.splitlines()[-1], err


def test_ctrl_c_waits_for_what_is_under_way_and_a_second_one_does_not(searching: Search) -> None:
    workers = stop_workers(searching)

    searching.send_signal(signal.SIGINT)
    assert searching.stderr is not None
    assert "Ctrl-C again ends it now" in searching.stderr.readline()
    assert searching.poll() is None
    searching.send_signal(signal.SIGINT)

    last, err = told(searching)
    assert (searching.returncode, err) == (130, "")
    assert re.fullmatch(r"\d+ cases, .* 0 failures", last)
    assert all(map(is_over, workers))


def test_one_ctrl_c_ends_it_with_what_was_done(searching: Search) -> None:
    searching.send_signal(signal.SIGINT)

    last, err = told(searching)
    assert searching.returncode == 130
    assert re.fullmatch(r"\d+ cases, .* 0 failures", last)
    assert "Traceback" not in err


def test_sigterm_ends_it_at_once(searching: Search) -> None:
    workers = stop_workers(searching)

    searching.terminate()

    told(searching)
    assert searching.returncode == 143
    assert all(map(is_over, workers))


def test_processes_do_not_outlive_a_search_that_was_killed(searching: Search) -> None:
    workers = stop_workers(searching)

    searching.kill()

    searching.wait()
    eventually(lambda: all(map(is_over, workers)))


def test_process_that_was_killed_is_told_of_with_its_seeds(searching: Search) -> None:
    one, _ = stop_workers(searching)

    os.kill(one, signal.SIGKILL)

    last, err = told(searching)
    assert searching.returncode == 2
    assert "cases, " in last
    assert re.fullmatch(
        r"tcpstack: a process was killed by SIGKILL while it played seeds \d+ to \d+; under way elsewhere: seeds .*\n",
        err,
    )


def test_answer_of_a_process_is_one_write_however_python_buffers() -> None:
    words = (sys.executable, "-m", "tcpstack.cli.fuzz_worker", str(os.getpid()))
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=PROJECT, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("7 1 inf\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith("}\n")
        assert "\nsyscw: 1\n" in Path(f"/proc/{process.pid}/io").read_text()
        process.stdin.close()


def test_ctrl_c_of_a_terminal_while_processes_start_shows_no_traceback(tmp_path: Path) -> None:
    """A terminal sends it to the whole process group."""
    words = (sys.executable, "-m", "tcpstack", "fuzz", "--seconds", "60", "--save", str(tmp_path))
    with subprocess.Popen(
        words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        eventually(lambda: len(children(process.pid)) > 0)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "Traceback" not in err


def test_seeds_go_on_beyond_any_number() -> None:
    batches = fuzz_search._batches(5 << 60, None)

    assert [next(batches) for _ in range(2)] == [(5 << 60, 20), ((5 << 60) + 20, 20)]
    assert list(fuzz_search._batches(3, 25)) == [(3, 20), (23, 5)]


@pytest.mark.parametrize("place", ["/proc/x", "/dev/null", "/dev/null/x"])
def test_place_where_no_case_can_be_kept_is_told_of_before_the_search(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuzz", "--seconds", "600", "--save", place]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tcpstack: --save: cases could not be kept in {place}: ")


def test_place_for_cases_is_not_made_before_there_is_one(tmp_path: Path) -> None:
    assert main(["fuzz", "--cases", "1", "--jobs", "1", "--save", str(tmp_path / "a" / "b")]) == 0

    assert not list(tmp_path.iterdir())


def test_shrinking_keeps_to_the_failure_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A smaller case that fails in another way is another find."""
    found = "Violation: one: left behind: 3 SYN records"

    def failure_of(case, tally=None):
        return found if len(case.talks) > 1 else "Violation: stuck for ever"

    monkeypatch.setattr(fuzz_command, "search", lambda *_: (each for each in [Tally(cases=1, failures=[(2, found)])]))
    monkeypatch.setattr(fuzz_command, "failure_of", failure_of)
    monkeypatch.setattr(fuzz_command, "draw_case", case_of_two_talks)

    assert main(["fuzz", "--cases", "1", "--save", str(tmp_path)]) == 1

    assert capsys.readouterr().out.splitlines()[1:-1] == [
        "seed 2: Violation: one: left behind: 3 SYN records",
        f"  kept as {tmp_path}/case_2.py; shrinking it, for 30 s at most",
        "  shrunk to Violation: one: left behind: 3 SYN records",
    ]
    assert (tmp_path / "case_2.py").read_text().count("Talk(") == 2
    assert [each.name for each in tmp_path.iterdir()] == ["case_2.py"]


def test_find_is_kept_before_it_is_shrunk_and_each_smaller_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that nothing is lost when the search is ended meanwhile."""
    plays = itertools.count()

    def failure_of(case, tally=None):
        if next(plays) == 1:
            raise KeyboardInterrupt
        return "Violation: stuck for ever"

    monkeypatch.setattr(fuzz_command, "failure_of", failure_of)
    monkeypatch.setattr(fuzz_command, "draw_case", lambda seed: replace(case_of_two_talks(seed), routers=1))

    with pytest.raises(KeyboardInterrupt):
        fuzz_command._Keeper(tmp_path, lambda: False).keep(2, "Violation: stuck for ever")

    (kept,) = tmp_path.iterdir()
    assert kept.read_text().count("Talk(") == 1
    assert "  kept as" in capsys.readouterr().out


def test_search_that_is_to_end_shrinks_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_command, "failure_of", lambda case, tally=None: pytest.fail("played"))

    fuzz_command._Keeper(tmp_path, lambda: True).keep(2, "Violation: stuck for ever")

    assert (tmp_path / "case_2.py").exists()


def test_of_each_kind_one_find_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz_command, "SHRINKING_S", 0.0)
    keeper = fuzz_command._Keeper(tmp_path, lambda: False)
    for seed, failure in ((1, "Violation: stuck for 3 s"), (2, "Violation: stuck for 4 s"), (3, "KeyError: 7")):
        keeper.keep(seed, failure)

    assert sorted(each.name for each in tmp_path.iterdir()) == ["case_1.py", "case_3.py"]
    assert f"seed 2: Violation: stuck for 4 s (as {tmp_path}/case_1.py)\n" in capsys.readouterr().out


def test_easy_bug_does_not_flood_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = [(seed, f"Violation: stuck for {seed} s") for seed in range(92)]
    monkeypatch.setattr(fuzz_command, "SHRINKING_S", 0.0)
    monkeypatch.setattr(fuzz_command, "search", lambda *_: (each for each in [Tally(92, 10**9, 1, failures)]))

    assert main(["fuzz", "--cases", "92", "--save", str(tmp_path)]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("seed ") for line in lines) == 5
    assert lines[-2] == f"and 87 more as {tmp_path}/case_0.py"
    assert lines[-1] == "92 cases, 1.0 simulated seconds, 1 segment, 92 failures"


def test_case_that_failed_counts_as_far_as_it_was_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Player, "_check_nothing_left", lambda self: 1 // 0)
    tally = fuzz_worker.play_batch(1, 1, until=float("inf"))
    assert [failure for _, failure in tally.failures] == ["ZeroDivisionError: integer division or modulo by zero"]
    assert tally.simulated_ns > 10**9
    assert tally.segments > 0


def test_batch_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken engine can take minutes for what takes milliseconds."""
    assert fuzz_worker.play_batch(1, 20, until=0.0).cases == 1
    assert fuzz_worker.play_batch(1, 2, until=float("inf")).cases == 2


def case_of_two_talks(seed: int):
    from tcpstack.sim.search import Case, Plan, Talk

    return Case(seed, talks=(Talk(0, 0, 1, (Plan(), Plan())), Talk(0, 0, 2, (Plan(), Plan()))))


def test_kind_of_a_failure_is_without_its_numbers_and_names() -> None:
    assert kind_of("Violation: one: the window's right edge moves left by 5: <SYN>") == (
        kind_of("Violation: two7: the window's right edge moves left by 99: <ACK>")
    )
    assert kind_of("Violation: heard 3 of 8 octets") != kind_of("AssertionError: heard 3 of 8 octets")
