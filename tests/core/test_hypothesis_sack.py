"""Two engines over a link that does its worst, with reports thrown in that say anything at all."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tcpstack.core.config import Config
from tcpstack.core.segment import ACK, Options, Segment
from tcpstack.core.seq import MASK
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet
from tests.core.lone_sender import stream
from tests.network import MS, SECOND, App, Network, is_data, is_pure_ack, sent_by

who = st.sampled_from([0, 1])
near = st.integers(-4000, 40_000)
edges = st.one_of(
    near.map(lambda n: ("una", n)), near.map(lambda n: ("nxt", -n)), st.integers(0, MASK).map(lambda n: ("any", n))
)


class TwoEngines(RuleBasedStateMachine):
    """Each end sends octets that the other knows; `sent` counts them."""

    @initialize(
        delay_ns=st.sampled_from([1000, 5 * MS, 60 * MS]),
        sacks=st.sampled_from([(True, True), (True, True), (True, False), (False, True)]),
        buffer_bytes=st.sampled_from([3000, 20_000, 1 << 18]),
        seed=st.integers(0, 1000),
    )
    def begin(self, delay_ns: int, sacks: tuple[bool, bool], buffer_bytes: int, seed: int) -> None:
        self.net = net = Network(delay_ns=delay_ns, seed=seed)
        for stack, sack in zip(net.stacks, sacks, strict=True):
            stack.config = Config(sack=sack, receive_buffer_bytes=buffer_bytes, time_wait_ns=SECOND)
        self.apps: tuple[App, App] = net.pair()
        self.sent = [0, 0]
        self.closed = [False, False]
        self.both = all(sacks)
        self.checked = 0

    @rule(end=who, size=st.sampled_from([1, 100, 1460, 1461, 9000, 60_000]))
    def send(self, end: int, size: int) -> None:
        if not self.closed[end]:
            self.apps[end].send(stream(self.sent[end], size))
            self.sent[end] += size

    @rule(after_ns=st.sampled_from([1, MS, 7 * MS, 30 * MS, 100 * MS, 400 * MS, 3 * SECOND]))
    def wait(self, after_ns: int) -> None:
        self.net.run(for_ns=after_ns)

    @rule(end=who, times=st.integers(1, 12), what=st.sampled_from([is_data, is_pure_ack]), skip=st.integers(0, 5))
    def lose(self, end: int, times: int, what, skip: int) -> None:  # type: ignore[no-untyped-def]
        left = [skip]

        def behind(crossing) -> bool:  # type: ignore[no-untyped-def]
            if not what(crossing):
                return False
            left[0] -= 1
            return left[0] < 0

        self.net.drop(sent_by(self.net.stacks[end], behind), times=times)

    @rule(end=who, times=st.integers(1, 6), by_ns=st.sampled_from([MS, 20 * MS, 300 * MS, 2 * SECOND]))
    def delay(self, end: int, times: int, by_ns: int) -> None:
        self.net.delay(sent_by(self.net.stacks[end]), by_ns, times=times)

    @rule(end=who, times=st.integers(1, 6), after_ns=st.sampled_from([0, 30 * MS]))
    def double(self, end: int, times: int, after_ns: int) -> None:
        self.net.duplicate(sent_by(self.net.stacks[end]), times=times, after_ns=after_ns)

    @rule(end=who)
    def stop_reading(self, end: int) -> None:
        self.apps[end].reading = False

    @rule(end=who)
    def read(self, end: int) -> None:
        self.apps[end].reading = True
        self.apps[end].read()

    @precondition(lambda self: sum(self.sent) > 0)
    @rule(end=who)
    def shut(self, end: int) -> None:
        if not self.closed[end]:
            self.closed[end] = True
            self.apps[end].shutdown()

    @rule(end=who, back=st.sampled_from([0, 0, 0, 1, 5000]), blocks=st.lists(st.tuples(edges, edges), max_size=4))
    def say_anything(self, end: int, back: int, blocks: list) -> None:  # type: ignore[type-arg]
        """An acknowledgement of no more than there is, with blocks that may be anything."""
        connection = self.apps[end].connection
        sender, receiver = connection._sender, connection._receiver
        if connection.error is not None or connection.state == 0:
            return
        bases = {"una": sender.una, "nxt": sender.nxt, "any": 0}
        told = tuple(((bases[a] + m) & MASK, (bases[b] + n) & MASK) for (a, m), (b, n) in blocks)
        local, lport, remote, rport = connection.flow
        wnd = sender.wnd >> sender.shift
        seq, ack = receiver.nxt & MASK, max(sender.una - back, sender.iss + 1) & MASK
        segment = Segment(remote, rport, local, lport, seq, ack, ACK, wnd, options=Options(sack=told))
        self.net.stacks[end].on_packets([Packet((encode(segment).data(),))], self.net.now_ns)

    @invariant()
    def accounts_hold(self) -> None:
        for app in getattr(self, "apps", ()):
            sender = app.connection._sender
            assert 0 <= sender.in_flight_bytes <= sender.nxt - sender.una
            assert sender.congestion.cwnd_bytes >= sender.mss
            sack = sender.sack
            assert (sack is not None) == self.both
            if sack is not None:
                board = list(sack.board)
                assert sack.board.sacked_bytes == sum(each.end - each.seq for each in board if each.sacked)
                assert sack.lost_bytes == sum(each.end - each.seq for each in board if each.lost)
                if board and sender.buffer._chunks:
                    assert (board[0].seq, board[-1].end) == (sender.una, sender.nxt)

    @invariant()
    def nothing_leaves_beyond_the_window_and_no_report_without_leave(self) -> None:
        if not hasattr(self, "net"):
            return
        for crossing in self.net.crossings[self.checked :]:
            options = crossing.segment.options
            assert self.both or options is None or not options.sack
        self.checked = len(self.net.crossings)

    def teardown(self) -> None:
        """The link heals, everybody reads and closes: all arrives."""
        if not hasattr(self, "net"):
            return
        self.net.heal()
        for end, app in enumerate(self.apps):
            app.reading = True
            app.read()
            self.shut_at_last(end)
        self.net.run(until=lambda: all(app.done for app in self.apps), for_ns=2000 * SECOND)
        for end, app in enumerate(self.apps):
            assert app.connection.error is None
            assert bytes(app.received) == stream(0, self.sent[1 - end])

    def shut_at_last(self, end: int) -> None:
        if not self.closed[end]:
            self.closed[end] = True
            self.apps[end].shutdown()


TestTwoEngines = TwoEngines.TestCase
TestTwoEngines.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
