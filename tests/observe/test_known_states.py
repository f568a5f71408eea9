"""The right-hand column where both ends are recorded: each row has what the other end's own events say of the segment,
whatever the line does to it, and whenever it arrives."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpstack.core.config import MILLISECOND_NS
from tcpstack.core.events import Event, SegmentIn, SegmentOut, StateChange
from tcpstack.core.segment import SYN, FourTuple, Segment
from tcpstack.core.seq import MASK
from tcpstack.core.state import CLOSED, LISTEN, TRANSITIONS
from tcpstack.device.pipe import Line
from tcpstack.observe import KnownPeers, Ladder, fan_out
from tcpstack.observe.recording import Recording
from tcpstack.observe.rows import Arrow, Row
from tcpstack.sim.network import Network
from tcpstack.testing import pair

FAULTS = ("loss 10%", "duplicate 20%", "reorder 20%", "corrupt 5%", "drop synack nth=1", "drop fin nth=1")
ENDS = ("close", "abort the client", "abort the server", "close the server, cut off")
NEXT = {(state, after) for (state, _), after in TRANSITIONS.items()}
# What one step of one end can pass through without a segment of its own: nothing, one arrow of the diagram, or two.
REACHABLE = {(s, s) for s in range(11)} | NEXT | {(a, c) for a, b in NEXT for b2, c in NEXT if b == b2}


class Rows(Ladder):
    """A ladder that keeps its arrows."""

    def __init__(self, known: KnownPeers) -> None:
        super().__init__(known=known)
        self.arrows: list[Arrow] = []

    def _draw(self, number: int, rows: list[Row]) -> None:
        self.arrows += [row for row in rows if isinstance(row, Arrow)]
        super()._draw(number, rows)


def converse(
    seed: int, faults: list[str], end: str, *, offload: bool = False
) -> tuple[list[Arrow], list[Event], FourTuple]:
    """The arrows, all events, and the opener's four-tuple."""
    events: list[Event] = []
    known = KnownPeers()
    ladder = Rows(known)
    kept = Recording(ladder, known)
    network = Network(seed, tracer=fan_out(kept, events.append))
    client = network.host("client", "10.0.0.1/24", faults=faults, offload=offload)
    server = network.host("server", "10.0.0.2/24", offload=offload)
    network.link(client, server, Line(delay_ns=10 * MILLISECOND_NS, jitter_ns=3 * MILLISECOND_NS))
    for host in (client, server):
        host.notify = pair._hear
    accepted: list[pair.End] = []
    listener = server.listen(80)

    def accept() -> None:
        while (connection := listener.accept()) is not None:
            accepted.append(pair.End(server, connection))

    listener.on_connection = accept
    ours = pair.End(client, client.connect(server.stack.addresses[0].ip.packed, 80))
    network.run_until(lambda: bool(accepted) or ours.error is not None, 120)
    if accepted:
        theirs = accepted[0]
        ours.send(bytes(20_000))
        theirs.send(bytes(30_000))
        network.run(seconds=0.02 if "cut off" in end else 0.05)
        if end == "close":
            theirs.close()
            ours.close()
        elif end == "abort the client":
            ours.abort()
        elif end == "abort the server":
            theirs.abort()
        else:
            network.run(seconds=0.001 * (seed % 50))
            theirs.close()
        network.run(seconds=0.001 if "cut off" in end else 200)
    kept.render()
    return ladder.arrows, events, events[0].flow


def own(state: int, flags: int) -> int:
    """A connection that is over is CLOSED, though a listener got the segment in its place."""
    return CLOSED if state == LISTEN and not flags & SYN else state


def state_when_left(events: list[Event], there: FourTuple, segment: Segment) -> int | None:
    """Where that end was when the segment left this one, by the last that it had told; None before the first."""
    state = None
    for event in events:
        if isinstance(event, SegmentOut) and event.segment is segment:
            return state
        if event.flow == there and isinstance(event, (SegmentIn, StateChange)):
            flags = event.segment.flags if isinstance(event, SegmentIn) else SYN
            state = own(event.after, flags)
    raise AssertionError("a row of a segment that did not leave")


def assert_true(arrows: list[Arrow], events: list[Event], flow: FourTuple) -> None:
    there = (*flow[2:], *flow[:2])
    its = [event for event in events if event.flow == there]
    for arrow in arrows:
        segment, flags = arrow.segment, arrow.segment.flags
        if arrow.out and not arrow.dead:
            found = [
                (own(event.before, flags), own(event.after, flags))
                for event in its
                if isinstance(event, SegmentIn) and (event.segment.seq - segment.seq) & MASK == 0
                and event.segment.packet_id == segment.packet_id
            ]  # fmt: skip
            assert arrow.theirs[:2] == (found[0] if found else (state_when_left(events, there, segment),) * 2)
        elif not arrow.out:
            left = [own(e.state, flags) for e in its if isinstance(e, SegmentOut)
                    and e.segment.packet_id == segment.packet_id]  # fmt: skip
            assert [arrow.theirs.after] == left
            assert (arrow.theirs.before, arrow.theirs.after) in REACHABLE


@example(seed=13, faults=[], end=ENDS[3])
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.lists(st.sampled_from(FAULTS), unique=True), st.sampled_from(ENDS))
def test_each_row_has_what_the_other_ends_own_events_say(seed: int, faults: list[str], end: str) -> None:
    arrows, events, flow = converse(seed, faults, end)
    assert arrows
    assert_true(arrows, events, flow)


@example(seed=5541, faults=["loss 10%", "reorder 20%", "duplicate 20%"], end="close")
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.sampled_from(FAULTS[:3]), unique=True), st.sampled_from(ENDS[:2]))
def test_pieces_and_runs_of_superpackets_too(seed: int, faults: list[str], end: str) -> None:
    """What divides and joins on the way changes SEQ or packet id; the octets are the same."""
    arrows, events, flow = converse(seed, faults, end, offload=True)
    there = (*flow[2:], *flow[:2])
    its = [event for event in events if event.flow == there]
    for arrow in arrows:
        segment, flags = arrow.segment, arrow.segment.flags
        if arrow.out and not arrow.dead and segment.payload_len:
            over = [
                (own(event.before, flags), own(event.after, flags))
                for event in its
                if isinstance(event, SegmentIn)
                and (segment.seq - event.segment.seq) & MASK < event.segment.payload_len
            ]  # fmt: skip
            states = {state for move in over for state in move}
            assert not over or {arrow.theirs.before, arrow.theirs.after} <= states
        elif not arrow.out:
            of = [e for e in its if isinstance(e, SegmentOut) and e.segment.packet_id == segment.packet_id]
            assert [arrow.theirs.after] == [own(e.state, flags) for e in of]
