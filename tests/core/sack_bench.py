"""A LoneSender whose peer reports what has arrived (RFC 2018, RFC 2883). Everything is counted in segments of MSS."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Any

from tcpstack.core.send.recovery import RECOVERED
from tcpstack.core.send.sack_recovery import Acknowledgement, SackRecovery
from tcpstack.core.send.sender import GIVE_UP
from tests.core.lone_sender import FIRST, MSS, LoneSender, ms

Block = tuple[int, int]  # first segment, and the one behind the last
SEGMENT_MS = 0.01  # what a segment takes on the wire


class Reporting(LoneSender):
    """`found` is what the last report meant (recovery.py, sack_recovery.py). A superpacket has `at_once` segments."""

    def __init__(self, *, at_once: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.sender.recover_by_sack()
        self.sender.chunk_bytes = at_once * self.sender.mss
        self.found = 0

    @property
    def sack(self) -> SackRecovery:
        assert self.sender.sack is not None
        return self.sender.sack

    @property
    def in_flight(self) -> float:
        return self.sender.in_flight_bytes / MSS

    @property
    def cwnd(self) -> float:
        return self.sender.congestion.cwnd_bytes / MSS

    @property
    def ssthresh(self) -> float:
        return self.sender.congestion.ssthresh_bytes / MSS

    def put(self, segments: int, fin: bool = False) -> list[int]:
        """The user queues so many segments (and closes); the numbers of those that leave."""
        return self.numbers(self.write(segments * MSS, fin))

    def report(
        self, ack: float, *blocks: Block, dsack: Block | None = None, echoed_ms: float | None = None
    ) -> list[int]:
        """An acknowledgement up to segment `ack` arrives now; the numbers of the segments that leave on it.

        `echoed_ms`: what provoked it left so long ago, as its timestamp tells.
        """
        sender = self.sender
        octets = [(FIRST + left * MSS, FIRST + right * MSS) for left, right in blocks]
        twice = None if dsack is None else (FIRST + dsack[0] * MSS, FIRST + dsack[1] * MSS)
        echoed = None if echoed_ms is None else self.now_ns - ms(echoed_ms)
        said = Acknowledgement(FIRST + int(ack * MSS), tuple(octets), twice, echoed)
        self.found = sender.on_report(said, self.now_ns)
        if self.found == RECOVERED:
            sender.on_recovered(self.now_ns)
        sender.set_window(sender.wnd, sender.wl1, sender.una)
        return self.numbers(self.transmit())

    def elapse(self, for_ms: float) -> list[tuple[float, int]]:
        """Time passes, and the deadlines that come are served: (ms from now, segment) of what leaves meanwhile."""
        sender, begun_ns, end_ns = self.sender, self.now_ns, self.now_ns + ms(for_ms)
        left: list[tuple[float, int]] = []
        for _ in range(10_000):
            if sender.deadline_ns > end_ns:
                self.now_ns = end_ns
                return left
            self.now_ns = max(sender.deadline_ns, self.now_ns)
            assert sender.on_timer(self.now_ns) != GIVE_UP
            left += [((self.now_ns - begun_ns) / ms(1), each) for each in self.numbers(self.transmit())]
        raise AssertionError("a deadline is not served")

    @staticmethod
    def numbers(sent: list[tuple[int, int, bool]]) -> list[int]:
        """The segments that these chunks are, one by one; a FIN alone is one."""
        numbers: list[int] = []
        for offset, size, _ in sent:
            assert offset % MSS == 0
            numbers += range(offset // MSS, (offset + max(size, 1) + MSS - 1) // MSS)
        return numbers


class Wire(Reporting):
    """The same with a path and a receiver: each segment arrives half a round trip after it left, and is reported at
    once, with the block that it is part of first.

    `lost` has the (segment, how often it has left) that do not arrive; `late_ms` what comes later by so much. `bursts`
    has how many segments left at each instant. `most_in_flight` is the most that was in recovery.
    """

    def __init__(self, rtt_ms: float = 100, **options: Any) -> None:
        super().__init__(rtt_ms=rtt_ms, **options)
        self.rtt_ms = rtt_ms
        self.lost: set[tuple[int, int]] = set()
        self.late_ms: dict[tuple[int, int], float] = {}
        self.times_sent: Counter[int] = Counter()
        self.bursts: list[int] = []
        self.states: list[int] = []
        self.most_in_recovery: float = 0
        self._arrived: set[int] = set()
        self._flying: list[tuple[int, int, str, Any]] = []
        self._count = 0
        self._free_ns = 0

    def receive(self, segments: int) -> None:
        """So many are there already."""
        self._arrived.update(range(segments))

    def launch(self, segments: list[int]) -> None:
        if segments:
            self.bursts.append(len(segments))
        for segment in segments:
            self.times_sent[segment] += 1
            key = segment, self.times_sent[segment]
            if key not in self.lost:
                self._free_ns = max(self._free_ns, self.now_ns) + ms(SEGMENT_MS)
                after_ms = (self._free_ns - self.now_ns) / ms(1)
                self._fly(self.rtt_ms / 2 + after_ms + self.late_ms.get(key, 0), "text", segment)

    def run(self, for_ms: float = 60_000) -> None:
        """Until all is acknowledged, or so long."""
        end_ns = self.now_ns + ms(for_ms)
        while self.una < self.written:
            due_ns = self.sender.deadline_ns
            if self._flying and self._flying[0][0] <= due_ns:
                due_ns = self._flying[0][0]
            if due_ns > end_ns:
                return
            self.now_ns = max(due_ns, self.now_ns)
            if self._flying and self._flying[0][0] <= self.now_ns:
                _, _, kind, what = heapq.heappop(self._flying)
                if kind == "text":
                    self._arrive(what)
                    continue
                leaves = self.report(what[0], *what[1], dsack=what[2]) if what[0] * MSS >= self.una else []
            else:
                assert self.sender.on_timer(self.now_ns) != GIVE_UP
                leaves = self.numbers(self.transmit())
            self.launch(leaves)
            if self.sack.active:
                self.most_in_recovery = max(self.most_in_recovery, self.in_flight)
            if self.states[-1:] != [self.sack.state]:
                self.states.append(self.sack.state)

    def _arrive(self, segment: int) -> None:
        arrived = self._arrived
        dsack = (segment, segment + 1) if segment in arrived else None
        arrived.add(segment)
        ack = next(n for n in range(len(arrived) + 1) if n not in arrived)
        blocks: list[Block] = []
        left = None
        for n in range(ack, max(arrived) + 2):
            if n in arrived and left is None:
                left = n
            elif n not in arrived and left is not None:
                blocks.append((left, n))
                left = None
        blocks.sort(key=lambda block: not block[0] <= segment < block[1])
        self._fly(self.rtt_ms / 2, "ack", (ack, blocks[:3], dsack))

    def _fly(self, for_ms: float, kind: str, what: Any) -> None:
        self._count += 1
        heapq.heappush(self._flying, (self.now_ns + ms(for_ms), self._count, kind, what))
