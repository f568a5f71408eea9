"""Two real stacks and a faulty link between them: what the ladder infers of the far one is what it went through."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from tcpstack.core.events import Event, SegmentIn, SegmentOut, StateChange
from tcpstack.core.segment import SYN
from tcpstack.core.state import STATE_NAMES, TIME_WAIT_TIMEOUT
from tcpstack.device.faults import FaultyDevice, parse_rule
from tcpstack.device.memory import pair
from tcpstack.observe import KnownPeers, Ladder, fan_out
from tcpstack.observe.recording import Recording
from tcpstack.stack.stack import Stack

STATE = "([A-Z][A-Z0-9-]+)"
MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000


class Laboratory:
    """`near`, which the ladder watches, and `far`, in explicit time. Each hop takes 50 us."""

    def __init__(self, rules: list[str], seed: int) -> None:
        self.now_ns = SECOND_NS
        self.far_moves: list[tuple[str, str]] = []
        self.near_events: list[Event] = []
        known = KnownPeers()
        self.inferring = Ladder()
        self.knowing = Recording(Ladder(known=known), known)
        tracer = fan_out(self.inferring, self.knowing, self.near_events.append)
        near_end, self._far_device = pair()
        self._near_device = FaultyDevice(near_end, [parse_rule(rule) for rule in rules], tracer)
        self.near = Stack(["10.9.0.2/24"], mtu=1500, random=random.Random(seed), tracer=tracer)
        self.far = Stack(
            ["10.9.0.1/24"], mtu=1500, random=random.Random(seed + 1), tracer=fan_out(self.knowing, self._far_moved)
        )
        self.near.send_packet = self._near_device.send
        self.far.send_packet = self._far_device.send

    def _far_moved(self, event: Event) -> None:
        if isinstance(event, StateChange) and event.cause != TIME_WAIT_TIMEOUT:
            self.far_moves.append((STATE_NAMES[event.before], STATE_NAMES[event.after]))

    def run(self, duration_ns: int) -> None:
        end_ns = self.now_ns + duration_ns
        for _ in range(10_000):
            arrived = [
                (stack, packets)
                for stack, device in ((self.near, self._near_device), (self.far, self._far_device))
                if (packets := device.receive(64, self.now_ns))
            ]
            for stack, packets in arrived:
                stack.on_packets(packets, self.now_ns)
            if arrived:
                self.now_ns += MILLISECOND_NS // 20
                continue
            deadlines = (self.near.deadline_ns, self.far.deadline_ns, self._near_device.deadline_ns)
            due_ns = min((each for each in deadlines if each is not None), default=end_ns)
            if due_ns >= end_ns:
                self.now_ns = end_ns
                return
            self.now_ns = max(self.now_ns, due_ns)
            device_ns = self._near_device.deadline_ns
            if device_ns is not None and device_ns <= self.now_ns:
                self._near_device.on_timer(self.now_ns)
            self.near.on_timer(self.now_ns)
            self.far.on_timer(self.now_ns)
        raise AssertionError("the stacks never come to rest")

    def converse(self, opener: str, closing: str) -> None:
        """One connection with a request and an answer of 5 kB; `closing`: "near", "far" or "both" at once."""
        client, server = (self.near, self.far) if opener == "near" else (self.far, self.near)
        listener = server.listen(80)
        ours = client.connect(server.addresses[0].ip.packed, 80, self.now_ns)
        self.run(20 * SECOND_NS)
        theirs = listener.accept()
        assert theirs is not None
        client.send(ours, b"GET / HTTP/1.1\r\n\r\n", self.now_ns)
        self.run(20 * SECOND_NS)
        server.receive(theirs, 1000, self.now_ns)
        server.send(theirs, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000, self.now_ns)
        ends = {client: ours, server: theirs}
        order = {"near": [self.near, self.far], "far": [self.far, self.near]}.get(closing)
        if order is None:
            self.run(20 * SECOND_NS)
            client.receive(ours, 10_000, self.now_ns)
            for stack, connection in ends.items():
                stack.shutdown(connection, self.now_ns)
        else:
            for stack in order:
                stack.shutdown(ends[stack], self.now_ns)
                self.run(20 * SECOND_NS)
        self.run(30 * SECOND_NS)

    def inferred_moves(self) -> list[tuple[str, str]]:
        """The far end's moves as the ladder tells them: in its column, and in the notes of what crossed."""
        text = self.inferring.render()
        # A crossing's explanation is wrapped: read it off the joined lines of its row.
        text = re.sub(r"\n {30,}", " ", text)
        moves: list[tuple[str, str]] = []
        for before, after, never in re.findall(f"(?:~|takes it ){STATE} → {STATE}|it was not in {STATE}", text):
            if never:  # taken back: it stands before the crossing segment's own move
                del moves[[a for _, a in moves].index(never)]
            else:
                moves.append((before, after))
        return moves


RULES = [
    [],
    ["drop syn nth=1"],
    ["drop synack nth=1"],
    ["drop fin nth=1"],
    ["drop fin nth=2"],
    ["drop data nth=3"],
    ["drop ack nth=1..2"],
    ["drop data nth=2", "drop fin nth=1"],
    ["loss 20% seed=1"],
    ["loss 20% seed=2"],
    ["duplicate 30% seed=3"],
    ["loss 10% seed=4", "duplicate 10% seed=5"],
]


@pytest.mark.parametrize("rules", RULES, ids=" + ".join)
@pytest.mark.parametrize(("opener", "closing"), list(itertools.product(["near", "far"], ["near", "far", "both"])))
def test_inferred_moves_are_those_the_far_end_made(rules, opener, closing):
    laboratory = Laboratory(rules, seed=len(rules))
    laboratory.converse(opener, closing)
    assert laboratory.far_moves[-1][1] in ("CLOSED", "TIME-WAIT")
    assert laboratory.inferred_moves() == laboratory.far_moves


@pytest.mark.parametrize("seed", range(6))
def test_reordering_inference_ends_where_the_far_end_is(seed):
    laboratory = Laboratory([f"reorder 20% seed={seed}", f"loss 5% seed={seed}"], seed)
    laboratory.converse("far", "near")
    assert laboratory.inferred_moves()[-1][1] == laboratory.far_moves[-1][1]


@pytest.mark.parametrize("rules", RULES[:6], ids=" + ".join)
def test_known_moves_are_those_the_far_end_made(rules):
    laboratory = Laboratory(rules, seed=0)
    laboratory.converse("near", "far")
    moves = re.findall(f"[>─X] +{STATE} → {STATE}$", laboratory.knowing.render(), re.MULTILINE)
    assert moves[:2] == [("LISTEN", "SYN-RECEIVED"), ("SYN-RECEIVED", "ESTABLISHED")]
    # A FIN that waits for an acknowledgement of text is no segment yet when the application closes.
    closes = ("ESTABLISHED", "FIN-WAIT-1")
    assert [move for move in moves if move != closes] == [move for move in laboratory.far_moves if move != closes]


def test_each_segment_is_drawn_once_with_its_reason():
    laboratory = Laboratory(["loss 10% seed=9"], seed=3)
    laboratory.converse("far", "near")
    text = laboratory.inferring.render()
    segments = [event for event in laboratory.near_events if isinstance(event, (SegmentIn, SegmentOut))]
    killed_before_us = text.count("X── ")
    assert len(re.findall(r"(?:<──|───|X──) [A-Z]", text)) == len(segments) + killed_before_us
    ours = [event.segment for event in segments if isinstance(event, SegmentOut)]
    assert text.count("why: ") == len(ours)
    assert all(segment.reason for segment in ours)
    assert "why: retransmission" in text
    isns = {str(event.segment.seq) for event in segments if event.segment.flags & SYN}
    assert [text.count(f"ISN {isn};") for isn in isns] == [1, 1]
