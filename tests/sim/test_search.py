"""The search for bugs: it finds what is planted, shrinks it, and a fresh slice of it holds each time."""

from __future__ import annotations

import os
import re
import runpy
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tcpstack.cli import fuzz, main
from tcpstack.core import state as st
from tcpstack.core.connection import Connection
from tcpstack.core.receive.acks import AckPolicy
from tcpstack.core.receive.receiver import Receiver
from tcpstack.core.segment import ACK
from tcpstack.core.send.sender import Sender
from tcpstack.sim.search import Attack, Case, Plan, Talk, Violation, draw_case, play, shrink

CASES = Path(__file__).parent / "cases"
SLICE_SECONDS = 10
PLANTED_CASES = 160
"""In which each planted bug is found: three times what the last of them needs."""


def play_kept(directory):
    """Each case that the search has kept there, by its file's name; none where there is no such directory."""
    for path in sorted(directory.glob("case_*.py")):
        try:
            play(runpy.run_path(str(path))["CASE"])
        except Exception as error:
            pytest.fail(f"{path.name}: {type(error).__name__}: {error}")


def test_cases_that_were_found_before_hold():
    play_kept(CASES)


def test_case_that_was_kept_fails_as_long_as_the_bug_is_there(monkeypatch, tmp_path):
    plant_swapped_octets(monkeypatch)
    monkeypatch.setattr(fuzz, "SHRINKING_S", 0.0)
    for seed in range(1000):
        failure = fuzz.failure_of(draw_case(seed))
        if failure is not None:
            break
    fuzz._Keeper(tmp_path, lambda: False).keep(seed, failure)
    with pytest.raises(pytest.fail.Exception, match=rf"case_{seed}\.py: Violation: "):
        play_kept(tmp_path)
    monkeypatch.undo()
    play_kept(tmp_path)


def test_fresh_slice_of_the_search_holds():
    seed = int(os.environ.get("TCPSTACK_FUZZ_SEED", int.from_bytes(os.urandom(4), "big")))
    print(f"searching from seed {seed}: TCPSTACK_FUZZ_SEED={seed} does it again")
    until = time.monotonic() + SLICE_SECONDS
    while time.monotonic() < until:
        try:
            play(draw_case(seed))
        except Exception as error:
            pytest.fail(f"tcpstack fuzz --seed {seed} --cases 1: {type(error).__name__}: {error}")
        seed += 1


def test_case_of_a_seed_is_the_same_again_and_its_repr_makes_it():
    from tcpstack.core.config import Config
    from tcpstack.device.pipe import Line

    names = {"Attack": Attack, "Case": Case, "Plan": Plan, "Talk": Talk, "Config": Config, "Line": Line}
    for seed in range(50):
        assert draw_case(seed) == draw_case(seed) == eval(repr(draw_case(seed)), names)


def plant_swapped_octets(monkeypatch):
    """Text that fills a gap comes out in another order."""
    real = Receiver.read

    def read(self, max_bytes):
        chunks = real(self, max_bytes)
        return [bytes(chunk)[::-1] if len(chunk) > 1_000 else chunk for chunk in chunks]

    monkeypatch.setattr(Receiver, "read", read)


def plant_window_that_shrinks(monkeypatch):
    """A field that is not held to the edge offered before."""
    real = Receiver.window_field
    monkeypatch.setattr(Receiver, "window_field", lambda self: real(self) // (1 + self.nxt % 2))


def plant_no_persist_timer(monkeypatch):
    """A sender that waits for a window update which can be lost."""
    real = Sender.arm

    def arm(self, now_ns):
        if (self.una < self.nxt and self.wnd > 0) or self.una == self.iss:
            real(self, now_ns)

    monkeypatch.setattr(Sender, "arm", arm)


def plant_acknowledgements_that_never_come(monkeypatch):
    """Delayed for ever."""
    monkeypatch.setattr(AckPolicy, "on_text", lambda self, *_: None)


def plant_impatience(monkeypatch):
    """Timers that go off long before their time."""
    real = Sender._arm
    monkeypatch.setattr(Sender, "_arm", lambda self, now_ns, after_ns: real(self, now_ns, after_ns // 100))


def plant_acknowledgements_of_acknowledgements(monkeypatch):
    """A war of ACKs."""
    real = Connection.on_segment

    def on_segment(self, segment, now_ns):
        mask = real(self, segment, now_ns)
        if self.state == st.ESTABLISHED and segment.flags == ACK and not segment.payload_len:
            self._acks.owe_duplicate(self._receiver.nxt, "ACK: of an ACK")
        return mask

    monkeypatch.setattr(Connection, "on_segment", on_segment)


def plant_resets_of_healthy_connections(monkeypatch):
    """Text at an odd number is refused."""
    real = Connection._check_ack

    def check_ack(self, segment, seq, now_ns):
        if segment.payload_len and self.state == st.ESTABLISHED and segment.seq % 2:
            return self._check_rst(self._receiver.nxt, now_ns)
        return real(self, segment, seq, now_ns)

    monkeypatch.setattr(Connection, "_check_ack", check_ack)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (plant_acknowledgements_of_acknowledgements, "an ACK that answers nothing"),
        (plant_resets_of_healthy_connections, "RST|nothing was in its way"),
        (plant_swapped_octets, "is not what was said there"),
        (plant_window_that_shrinks, "right edge moves left"),
        (plant_no_persist_timer, "no timer runs"),
        (plant_acknowledgements_that_never_come, "has waited .* for its acknowledgement"),
        (plant_impatience, "sent twice, though nothing was lost"),
    ],
)
def test_planted_bug_is_found(monkeypatch, plant, says):
    plant(monkeypatch)
    for seed in range(PLANTED_CASES):
        try:
            play(draw_case(seed))
        except Violation as violation:
            if re.search(says, str(violation)):  # another check may have seen it first, in another case
                return
    pytest.fail(f"nothing said {says!r}")


def test_shrinking_leaves_what_the_failure_needs():
    plans = (Plan(writes=((0, 5), (10, 7000), (20, 3))), Plan(writes=((0, 100),), ending="abort"))
    talks = (Talk(0, 0, 1, plans), Talk(0, 0, 2, plans))
    case = replace(draw_case(3), faults=(("loss 5%", "drop fin nth=1"), ()), talks=talks)
    small = shrink(case, lambda c: any("fin" in rule for rule in c.faults[0]) and any(
        size >= 1000 for talk in c.talks for _, size in talk.plans[0].writes
    ))  # fmt: skip
    assert small.faults == (("drop fin nth=1",), ())
    assert len(small.talks) == 1
    assert [size for _, size in small.talks[0].plans[0].writes] == [1750]
    assert small.talks[0].plans[1] == Plan()


def test_fuzz_command_says_what_it_did(capsys, tmp_path):
    assert main(["fuzz", "--seed", "1", "--cases", "25", "--jobs", "1", "--save", str(tmp_path)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("25 cases, ")
    assert last.endswith(" 0 failures")
    assert not list(tmp_path.iterdir())


def test_slow_reader_waits_for_text_and_does_not_ask_for_it_again_and_again():
    reader = Plan(read_every_ns=1_000_000, read_bytes=100)
    talk = Talk(0, 0, 80, (Plan(writes=((0, 1_000), (30_000_000_000, 1_000)), ending="wait"), reader))
    result = play(Case(seed=1, talks=(talk,), lasts_ns=60_000_000_000))
    assert result.simulated_ns > 31_000_000_000
    assert result.happened < 100, "of 30,000 milliseconds in which nothing comes"
