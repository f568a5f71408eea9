"""Fault rules act on the segments that a superpacket stands for, and so does the ladder, in the order of the wire."""

from __future__ import annotations

import re

import pytest

from tcpstack.core.events import Event
from tcpstack.device.faults import FaultyDevice, parse_rule
from tcpstack.device.memory import pair
from tcpstack.observe import Ladder, fan_out
from tcpstack.stack.stack import Stack
from tcpstack.wire.packet import FULL_OFFLOAD

MILLISECOND_NS = 1_000_000
MSS = 1448


class Bench:
    """`near`, which the ladder watches, behind `rules`, and `far`; both pass superpackets to their devices. Explicit
    time, and a hop takes a millisecond."""

    def __init__(self, *rules: str) -> None:
        self.now_ns = 1_000 * MILLISECOND_NS
        self.ladder = Ladder()
        self.events: list[Event] = []
        tracer = fan_out(self.ladder, self.events.append)
        near_end, self.far_device = pair(mtu=1500, offload=FULL_OFFLOAD)
        self.near_device = FaultyDevice(near_end, [parse_rule(rule) for rule in rules], tracer)
        self.near = Stack(["10.9.0.2/24"], mtu=1500, tracer=tracer)
        self.far = Stack(["10.9.0.1/24"], mtu=1500)
        for stack, device in ((self.near, self.near_device), (self.far, self.far_device)):
            stack.offload = device.offload
            stack.send_packet = device.send
        listener = self.far.listen(80)
        self.ours = self.near.connect(self.far.addresses[0].ip.packed, 80, self.now_ns)
        self.run()
        accepted = listener.accept()
        assert accepted is not None
        self.theirs = accepted

    def run(self, milliseconds: int = 2000) -> None:
        for _ in range(milliseconds):
            self.now_ns += MILLISECOND_NS
            for stack, device in ((self.near, self.near_device), (self.far, self.far_device)):
                if device.deadline_ns is not None and device.deadline_ns <= self.now_ns:
                    device.on_timer(self.now_ns)
                stack.on_packets(device.receive(64, self.now_ns), self.now_ns)
                stack.on_timer(self.now_ns)

    def send(self, stack: Stack, segments: int) -> str:
        """The ladder of what `stack` sends at once."""
        before = len(self.ladder.render())
        connection = self.ours if stack is self.near else self.theirs
        stack.send(connection, bytes(segments * MSS), self.now_ns)
        self.run()
        return self.ladder.render()[before:]


def arrows(text: str) -> list[tuple[str, int, int]]:
    """Each arrow with text: ">", "<" or "X", its SEQ and its length in segments."""
    found = []
    for line in text.splitlines():
        if part := re.search(r"(X|<)?─+ [A-Z,]+ seq (\d+) ack \d+ len (\d+).*?(X|>|─)(?: |$)", line):
            found.append((part[1] or part[4], (int(part[2]) - 1) // MSS, int(part[3]) // MSS))
    return found


def test_superpacket_that_nothing_hits_is_one_arrow():
    bench = Bench()
    assert arrows(bench.send(bench.near, 8)) == [(">", 0, 8)]


def test_segments_of_a_superpacket_that_leaves_die_by_themselves():
    bench = Bench("drop data nth=3 dir=out", "drop data nth=6..7 dir=out")
    text = bench.send(bench.near, 10)
    # The second rule does not see what the first has dropped.
    assert arrows(text)[:5] == [(">", 0, 2), ("X", 2, 1), (">", 3, 3), ("X", 6, 2), (">", 8, 2)]
    assert text.count("killed by the fault rule “drop data nth=3 dir=out”: it never arrives") == 1
    joined = " ".join(text.split())
    assert "each of its 2 segments is killed by the fault rule “drop data nth=6..7 dir=out”" in joined


def test_superpacket_of_which_all_segments_die_is_one_dead_arrow():
    bench = Bench("drop data dir=out nth=1..10")
    text = bench.send(bench.near, 10)
    assert arrows(text)[0] == ("X", 0, 10)


@pytest.mark.parametrize("dead", [1, 3, 8])
def test_segment_that_comes_and_dies_stands_at_its_place_in_the_batch(dead: int):
    bench = Bench(f"drop data nth={dead} dir=in")
    text = bench.send(bench.far, 8)
    ways = [("X" if number == dead - 1 else "<", number, 1) for number in range(8)]
    assert arrows(text)[:8] == ways
    (again,) = arrows(text)[8:]
    assert again == ("<", dead - 1, 1)
    assert text.count("sent before") == 1


def test_copies_of_segments_of_one_superpacket_are_told_apart():
    bench = Bench("duplicate 100% data nth=2..3 dir=in")
    text = bench.send(bench.far, 4)
    assert arrows(text) == [("<", number, 1) for number in (0, 1, 1, 2, 2, 3)]
    copies = [row for row in re.split(r"\n(?= *\d+\.\d{3} )", text) if "the copy that the fault rule made" in row]
    assert [arrows(row) for row in copies] == [[("<", 1, 1)], [("<", 2, 1)]]
