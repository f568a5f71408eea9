"""A sender over any path, to any receiver: all arrives, in order, and no limit is broken on the way."""

from __future__ import annotations

import heapq
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.send.chunk import REASON_FIN, REASON_OVERRIDE, REASON_PROBE, Chunk
from tcpstack.core.timers import NEVER
from tests.core.lone_sender import FIRST, LoneSender, ms, stream

MSS = 100
OK, LOST, TWICE, LATE = "ok", "lost", "twice", "late"
fates = st.lists(st.sampled_from([OK, OK, OK, LOST, TWICE, LATE]), max_size=80)


class ModelReceiver:
    """Octets in a map, a buffer of `capacity`, a user who reads. Everything is offsets of text."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: dict[int, int] = {}
        self.taken = bytearray()  # in order; of these, `read` octets are with the user
        self.read = 0
        self.fin_at: int | None = None
        self.fin_reached = False

    @property
    def nxt(self) -> int:
        return len(self.taken) + self.fin_reached

    @property
    def wnd(self) -> int:
        return max(self.read + self.capacity - self.nxt, 0)

    def take(self, offset: int, text: bytes, fin: bool) -> None:
        edge = self.nxt + self.wnd
        for n, octet in enumerate(text, offset):
            if len(self.taken) <= n < edge:
                assert self.held.setdefault(n, octet) == octet
        while len(self.taken) in self.held:
            self.taken.append(self.held.pop(len(self.taken)))
        if fin and offset + len(text) < edge:
            self.fin_at = offset + len(text)
        if self.fin_at == len(self.taken):
            self.fin_reached = True


class Run:
    """One conversation on a clock: what arrives at either end is an event in a heap."""

    def __init__(self, it: LoneSender, receiver: ModelReceiver, out: list[str], back: list[str]) -> None:
        self.it = it
        self.receiver = receiver
        self.fates = {"out": iter(out), "back": iter(back)}
        self.heap: list[tuple[int, int, str, tuple[Any, ...]]] = []
        self.count = 0
        self.high = 0  # the end of what was ever sent

    def at(self, after_ms: float, kind: str, *what: Any) -> None:
        self.count += 1
        heapq.heappush(self.heap, (self.it.now_ns + ms(after_ms), self.count, kind, what))

    def leave(self, kind: str, *what: Any) -> None:
        fate = next(self.fates[kind], OK)
        if fate != LOST:
            self.at(250 if fate == LATE else 50, kind, *what)
        if fate == TWICE:
            self.at(55, kind, *what)

    def send(self) -> None:
        it, sender = self.it, self.it.sender
        before = len(it.log)
        it.transmit()
        for _, chunk in it.log[before:]:
            self.check(chunk)
            text = b"".join(sender.buffer.view(chunk.seq, chunk.size)) if chunk.size else b""
            self.leave("out", chunk.seq - FIRST, text, chunk.fin)
        assert 0 <= sender.in_flight_bytes <= sender.nxt - sender.una
        assert sender.congestion.cwnd_bytes >= MSS
        fin_waits = sender.fin_seq is not None and not sender.fin_acknowledged
        waits = sender.una < sender.nxt or sender.unsent_bytes > 0 or fin_waits
        assert (sender.timer_ns != NEVER) == waits

    def check(self, chunk: Chunk) -> None:
        sender = self.it.sender
        start, end = chunk.seq - FIRST, chunk.seq - FIRST + chunk.size + chunk.fin
        assert end > start
        assert start >= self.it.una
        assert chunk.size <= MSS
        assert chunk.fin == (sender.fin_seq is not None and end == sender.fin_seq - FIRST + 1)
        if start < self.high:
            assert end <= self.high  # nothing new in a retransmission
        else:
            assert start == self.high  # no gap
            self.high = end
            if chunk.reason not in (REASON_PROBE, REASON_OVERRIDE, REASON_FIN):
                fin = sender.fin_seq is not None and sender.nxt > sender.fin_seq  # takes no room in the network
                assert sender.in_flight_bytes <= sender.congestion.cwnd_bytes + fin
        if chunk.reason == REASON_PROBE:
            assert sender.wnd == 0
            assert chunk.size + chunk.fin == 1
        elif sender.wnd:
            assert end <= self.it.una + sender.wnd
        if chunk.size and end - chunk.fin == sender.buffer.end - FIRST:
            assert chunk.psh  # MUST-61

    def acknowledge(self) -> None:
        self.leave("back", self.receiver.nxt, self.receiver.wnd)

    def step(self) -> None:
        it, receiver = self.it, self.receiver
        if not self.heap or it.sender.timer_ns <= self.heap[0][0]:
            assert it.sender.timer_ns != NEVER
            it.now_ns = it.sender.timer_ns
            it.sender.on_timer(it.now_ns)
            self.send()
            return
        it.now_ns, _, kind, what = heapq.heappop(self.heap)
        if kind == "out":
            receiver.take(*what)
            self.acknowledge()
        elif kind == "back":
            ack, wnd = what
            if ack >= it.una:  # and WL1, WL2 allow it
                it.hear(ack, wnd)
            self.send()
        elif kind == "write":
            it.sender.buffer.append(stream(it.written, what[0]))
            it.written += what[0]
            self.send()
        elif kind == "close":
            it.sender.queue_fin()
            self.send()
        else:  # read
            small = receiver.wnd < MSS
            receiver.read = min(receiver.read + what[0], len(receiver.taken))
            if small and receiver.wnd >= min(MSS, receiver.capacity // 2):
                self.acknowledge()


@settings(deadline=None, max_examples=200)
@given(
    writes=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), min_size=1, max_size=8),
    capacity=st.one_of(st.integers(20, 350), st.just(10_000)),
    reads=st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 500)), max_size=12),
    shrunk=st.one_of(st.none(), st.integers(1, 300)),
    nagle=st.booleans(),
    out=fates,
    back=fates,
)
def test_over_any_path_to_any_receiver_all_text_and_the_fin_arrive_and_no_limit_is_broken(
    writes: list[tuple[int, int]],
    capacity: int,
    reads: list[tuple[int, int]],
    shrunk: int | None,
    nagle: bool,
    out: list[str],
    back: list[str],
) -> None:
    it = LoneSender(
        mss=MSS, wnd=capacity, nagle=nagle, r2_ns=1 << 62, rto_max_ns=ms(4000), persist_max_ns=ms(5000)
    )
    receiver = ModelReceiver(capacity)
    run = Run(it, receiver, out, back)
    total = 0
    for after_ms, size in writes:
        run.at(after_ms, "write", size)
        total += size
    run.at(401, "close")
    for after_ms, size in reads:
        run.at(after_ms, "read", size)
    steps, progress_ns = 0, it.now_ns
    while not it.sender.fin_acknowledged or it.written < total:
        una = it.una
        run.step()
        steps += 1
        progress_ns = it.now_ns if it.una > una else progress_ns
        assert it.now_ns - progress_ns < ms(120_000), "no progress"  # the longest timer has 5 s
        if steps == 40 and shrunk is not None:
            receiver.capacity = min(receiver.capacity, shrunk)  # the right edge may move left
        if steps > 60 and not any(event[2] == "read" for event in run.heap):
            run.at(20, "read", 120)
    assert receiver.taken == stream(0, total)
    assert receiver.fin_reached
    assert it.sender.in_flight_bytes == 0
    assert it.sender.timer_ns == NEVER
    assert not it.sender.buffer._chunks
