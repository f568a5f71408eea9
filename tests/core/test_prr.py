"""Proportional rate reduction against the formulas of RFC 9937 6, and over whole recoveries."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.send.prr import Prr

MSS = 10


class Formulas:
    """prr_delivered, prr_out and sndcnt by their names, in exact arithmetic."""

    def __init__(self, recover_fs: int) -> None:
        self.recover_fs = recover_fs
        self.prr_delivered = 0
        self.prr_out = 0
        self.sndcnt = 0

    def on_ack(self, delivered_data: int, inflight: int, ssthresh: int, mss: int, safe_ack: bool) -> None:
        self.prr_delivered += delivered_data
        if inflight > ssthresh:
            self.sndcnt = ceil(Fraction(self.prr_delivered * ssthresh, self.recover_fs)) - self.prr_out
        else:
            self.sndcnt = max(self.prr_delivered - self.prr_out, delivered_data)
            if safe_ack:
                self.sndcnt += mss
            self.sndcnt = min(ssthresh - inflight, self.sndcnt)
        if self.prr_out == 0:
            # The RFC has "prr_out is 0 and sndcnt is 0"; less than a segment is as good as nothing.
            self.sndcnt = max(self.sndcnt, mss)

    def on_sent(self, data_sent: int) -> None:
        self.prr_out += data_sent
        self.sndcnt -= data_sent


steps = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 100), st.integers(0, 400), st.integers(10, 300), st.booleans()),
        st.integers(1, 50),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=400)
@given(st.integers(1, 500), steps)
def test_whatever_arrives_and_leaves_the_count_is_that_of_the_formulas(
    recover_fs: int, script: list[tuple[int, int, int, bool] | int]
) -> None:
    prr, rfc = Prr(recover_fs), Formulas(recover_fs)
    for step in script:
        if isinstance(step, int):
            prr.on_sent(step)
            rfc.on_sent(step)
        else:
            delivered, inflight, ssthresh, safe = step
            prr.on_ack(delivered, inflight, ssthresh, MSS, safe)
            rfc.on_ack(delivered, inflight, ssthresh, MSS, safe)
        assert prr.sndcnt_bytes == max(rfc.sndcnt, 0)


def test_first_acknowledgement_lets_a_segment_go_whatever_is_in_flight() -> None:
    """"Force a fast retransmit upon entering recovery"."""
    prr = Prr(200)
    prr.on_ack(1, 190, 100, MSS, False)
    assert prr.sndcnt_bytes == MSS
    prr.on_sent(MSS)
    assert prr.sndcnt_bytes == 0
    prr.on_ack(1, 189, 100, MSS, False)
    assert prr.sndcnt_bytes == 0


def test_above_ssthresh_one_leaves_for_each_two_that_arrive_where_it_is_half() -> None:
    prr = Prr(200)
    allowed = []
    for in_flight in range(190, 100, -MSS):
        prr.on_ack(MSS, in_flight, 100, MSS, True)
        allowed.append(prr.sndcnt_bytes)
        if prr.sndcnt_bytes >= MSS:
            prr.on_sent(MSS)
    # The first goes at once; of the others the count is rounded up, and whole segments leave.
    assert allowed == [10, 0, 5, 10, 5, 10, 5, 10, 5]


@pytest.mark.parametrize(("safe", "sndcnt_bytes"), [(False, 20), (True, 30)])
def test_below_ssthresh_a_safe_acknowledgement_lets_a_segment_more_go(safe: bool, sndcnt_bytes: int) -> None:
    prr = Prr(200)
    prr.on_ack(20, 50, 100, MSS, safe)
    assert prr.sndcnt_bytes == sndcnt_bytes


def test_below_ssthresh_no_more_leaves_than_reaches_it() -> None:
    prr = Prr(200)
    prr.on_ack(80, 85, 100, MSS, True)
    assert prr.sndcnt_bytes == 15


def test_what_may_leave_is_never_less_than_nothing() -> None:
    prr = Prr(200)
    prr.on_ack(20, 150, 100, MSS, False)
    prr.on_sent(50)
    assert prr.sndcnt_bytes == 0
    prr.on_ack(20, 180, 100, MSS, False)
    assert prr.sndcnt_bytes == 0


# -- a whole recovery


class Path:
    """Segments in a pipe, each answered as it comes out at the far end; the sender has always more to send.

    The loss of a segment is known when a later one is reported, a lost retransmission likewise.
    """

    def __init__(self, window: int, lost: set[int], ssthresh_segments: int) -> None:
        self.ssthresh = ssthresh_segments * MSS
        self.pipe: deque[tuple[int, int, bool]] = deque()  # (place in the order of sending, segment, does it arrive?)
        self.order = 0
        self.sent_as: dict[int, int] = {}
        self.arrived: set[int] = set()
        self.lost: set[int] = set()
        self.una = self.nxt = 0
        for _ in range(window):
            self.send(self.nxt, self.nxt not in lost)
        self.recover = self.nxt
        self.prr: Prr | None = None
        self.delivered = self.out = self.acks = 0
        self.recover_fs = 0
        self.found = 0  # segments found lost by the last acknowledgement

    def send(self, segment: int, arrives: bool) -> None:
        self.order += 1
        self.pipe.append((self.order, segment, arrives))
        self.sent_as[segment] = self.order
        self.lost.discard(segment)
        self.nxt = max(self.nxt, segment + 1)

    @property
    def in_flight(self) -> int:
        return MSS * sum(1 for n in range(self.una, self.nxt) if n not in self.arrived and n not in self.lost)

    def step(self, resend_arrives: bool) -> int:
        """What comes out next is answered. Returns the octets that leave for it; -1 where nothing comes out."""
        while self.pipe:
            order, segment, arrives = self.pipe.popleft()
            if arrives:
                break
        else:
            return -1
        una, known, flight_before = self.una, len(self.lost), self.in_flight
        self.arrived.add(segment)
        while self.una in self.arrived:
            self.una += 1
        late = {n for n in range(self.una, self.nxt) if n not in self.arrived and self.sent_as[n] < order}
        self.found = len(late - self.lost)
        self.lost = (self.lost | late) - self.arrived
        if self.prr is None:
            if not self.lost:
                return self.fill(flight_before)
            self.recover = self.nxt
            self.recover_fs = flight_before
            self.prr = Prr(self.recover_fs)
        self.acks += 1
        self.delivered += MSS
        safe = self.una > una and len(self.lost) <= known
        self.prr.on_ack(MSS, self.in_flight, self.ssthresh, MSS, safe)
        allowed = self.prr.sndcnt_bytes
        sent = 0
        while self.prr.sndcnt_bytes >= MSS:
            self.prr.on_sent(MSS)
            self.send(min(self.lost) if self.lost else self.nxt, resend_arrives)
            sent += MSS
        self.out += sent
        assert sent <= allowed
        return sent

    def fill(self, window: int) -> int:
        """As before the loss: as much leaves as has arrived."""
        sent = 0
        while self.in_flight < window:
            self.send(self.nxt, True)
            sent += MSS
        return sent

    def recovered(self) -> bool:
        return self.una >= self.recover


@settings(deadline=None, max_examples=100)
@given(st.integers(8, 60), st.data())
def test_recovery_of_few_losses_ends_with_ssthresh_in_flight(window: int, data: st.DataObject) -> None:
    ssthresh = data.draw(st.integers(window // 2, window * 7 // 10))
    lost = data.draw(st.sets(st.integers(0, window - 4), min_size=1, max_size=max((window - ssthresh) // 2, 1)))
    path = Path(window, lost, ssthresh)
    while not path.recovered():
        before = path.in_flight
        sent = path.step(True)
        assert sent >= 0  # the clock of acknowledgements never stops
        if path.prr is None:
            continue
        assert sent <= (2 + path.found) * MSS  # no burst
        assert path.in_flight <= max(before, path.ssthresh, MSS)
        if path.in_flight > path.ssthresh:
            # Proportionate, to within the segment that goes at once and the one that can't be divided.
            proportion = Fraction(path.delivered * path.ssthresh, path.recover_fs)
            assert path.out <= max(ceil(proportion), MSS)
            assert path.out > proportion - MSS
    assert abs(path.in_flight - path.ssthresh) <= MSS


@settings(deadline=None, max_examples=100)
@given(st.integers(8, 60), st.data())
def test_recovery_of_many_losses_sends_no_more_than_arrives_and_a_segment_for_each_advance(
    window: int, data: st.DataObject
) -> None:
    ssthresh = data.draw(st.integers(2, window * 7 // 10))
    lost = data.draw(st.sets(st.integers(0, window - 1), min_size=1))
    path = Path(window, lost, ssthresh)
    for _ in range(10 * window):
        before = path.in_flight
        resend_arrives = data.draw(st.integers(0, 5)) > 0
        if path.step(resend_arrives) < 0 or (path.prr is not None and path.recovered()):
            break
        assert path.in_flight <= max(before, path.ssthresh, MSS)
        assert path.out <= path.delivered + MSS * path.acks
