"""Fast retransmit and fast recovery (RFC 5681 3.2, RFC 6582), also against a transcription of the RFC's own steps."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpstack.core.congestion.newreno import initial_window
from tcpstack.core.send.recovery import ENTERED, NOTHING, PARTIAL, RECOVERED
from tests.core.lone_sender import MSS, LoneSender, Sent, ms


def segments(*numbers: int) -> list[Sent]:
    return [(n * MSS, MSS, False) for n in numbers]


def ten_in_flight() -> LoneSender:
    it = LoneSender()
    assert it.write(1000 * MSS) == segments(*range(10))
    it.wait(50)
    return it


# -- limited transmit (RFC 3042)


def test_first_two_duplicates_each_let_a_new_segment_go_and_cwnd_stays() -> None:
    it = ten_in_flight()
    assert [it.ack(0), it.ack(0)] == [segments(10), segments(11)]
    assert it.sender.congestion.cwnd_bytes == 10 * MSS
    assert it.ack(0) == segments(0)
    assert it.sender.congestion.ssthresh_bytes == 5 * MSS  # RFC 5681 3.2: of the ten, not of the twelve


def test_three_in_flight_and_the_first_lost_is_mended_without_a_timeout() -> None:
    """What limited transmit is for: the third duplicate is one that a new segment provokes."""
    it = LoneSender(retransmitted=True)  # cwnd begins with one segment
    it.write(100 * MSS)
    it.ack(MSS, after_ms=50)
    assert it.ack(2 * MSS, after_ms=50) == segments(3, 4)
    assert it.sender.congestion.cwnd_bytes == 3 * MSS
    assert [it.ack(2 * MSS), it.ack(2 * MSS)] == [segments(5), segments(6)]  # 3 and 4 have arrived
    assert it.ack(2 * MSS, after_ms=50) == segments(2)  # 5 has


def test_limited_transmit_keeps_to_the_peers_window() -> None:
    it = LoneSender(wnd=11 * MSS)
    it.write(100 * MSS)
    it.wait(50)
    assert [it.ack(0), it.ack(0)] == [segments(10), []]


def test_limited_transmit_ends_with_an_acknowledgement_of_something_new() -> None:
    it = ten_in_flight()
    it.ack(0)
    it.ack(0)
    assert it.ack(2 * MSS) == segments(12, 13)  # twelve of them in flight by now: slow start
    assert it.sender.in_flight_bytes == it.sender.congestion.cwnd_bytes == 12 * MSS


def test_duplicates_after_a_timeout_let_nothing_go_beyond_cwnd() -> None:
    it = ten_in_flight()
    it.timeout()
    assert it.ack(MSS, after_ms=10) == segments(1, 2)
    assert [it.ack(MSS), it.ack(MSS)] == [[], []]


def test_made_up_duplicates_of_one_small_segment_are_worth_that_segment() -> None:
    it = LoneSender(nagle=False)
    it.write(300)
    it.ack(0)
    it.ack(0)
    assert it.sender.in_flight_bytes == 0


# -- entering


@pytest.mark.rfc9293("MUST-19")
def test_third_duplicate_sends_the_first_segment_again_and_halves_the_window() -> None:
    it = ten_in_flight()
    it.ack(0)
    it.ack(0)
    assert it.ack(0) == segments(0)
    assert it.sender.congestion.cwnd_bytes == it.sender.congestion.ssthresh_bytes == 5 * MSS
    # RFC 6582: cwnd = ssthresh + 3, twelve outstanding: four more duplicates before new text may leave.
    assert [it.ack(0) for _ in range(4)] == [[], [], [], []]
    assert it.ack(0) == segments(12)
    assert it.ack(0) == segments(13)


def test_two_duplicates_and_progress_are_reordering() -> None:
    it = ten_in_flight()
    for n in range(1, 6):
        it.hear(n * MSS)
        assert it.hear(n * MSS) == NOTHING
        assert it.hear(n * MSS) == NOTHING
    assert it.sender.retransmitted == 0


def test_acknowledgement_with_another_window_is_no_duplicate() -> None:
    it = ten_in_flight()
    for wnd in (900_000, 800_000, 700_000, 600_000):
        assert it.hear(0, wnd=wnd) == NOTHING


def test_fast_retransmit_of_short_segments_sends_up_to_a_full_one() -> None:
    it = LoneSender(nagle=False)
    for _ in range(5):
        it.write(300)
    for _ in range(3):
        it.hear(0)
    assert it.transmit() == [(0, MSS, False)]
    assert it.sender.in_flight_bytes >= 0


# -- in recovery


def test_full_acknowledgement_ends_recovery_without_a_burst() -> None:
    it = LoneSender()
    it.write(10 * MSS)
    it.wait(50)
    for _ in range(3):
        it.ack(0)
    assert it.hear(10 * MSS) == RECOVERED
    assert it.sender.congestion.cwnd_bytes == 2 * MSS  # min(ssthresh, max(0, SMSS) + SMSS)
    assert it.write(10 * MSS) == segments(10, 11)


@pytest.mark.rfc9293("MUST-19")
def test_partial_acknowledgement_sends_the_next_hole_at_once_and_stays() -> None:
    it = ten_in_flight()
    for _ in range(9):
        it.ack(0)
    assert it.nxt == 14 * MSS  # four of the nine let new text out, the first two by limited transmit
    assert it.hear(4 * MSS) == PARTIAL
    # Deflated by four segments, inflated by one: one more new segment beside the retransmission.
    assert it.transmit() == segments(4, 14)
    assert it.hear(8 * MSS) == PARTIAL
    assert it.transmit()[0] == segments(8)[0]
    assert it.hear(11 * MSS) == PARTIAL
    assert it.hear(12 * MSS) == RECOVERED


def test_partial_acknowledgement_of_less_than_a_segment_is_not_given_a_segment_back() -> None:
    """RFC 6582 3.2: "If the partial ACK acknowledges at least one SMSS of new data, then add back SMSS"."""
    it = ten_in_flight()
    for _ in range(6):
        it.ack(0)
    usable = it.sender.congestion.cwnd_bytes - it.sender.in_flight_bytes
    assert it.hear(MSS // 2) == PARTIAL
    # The hole's segment is taken out of what is in flight, and goes in again with the retransmission.
    assert it.sender.congestion.cwnd_bytes - it.sender.in_flight_bytes == usable + MSS
    it.transmit()
    assert it.sender.congestion.cwnd_bytes - it.sender.in_flight_bytes == usable


def test_duplicates_that_nobody_sent_segments_for_earn_no_licence_to_send() -> None:
    """RFC 5681 3.2 step 4: the inflation may be limited to what is outstanding. A forger gains no more than that."""
    it = ten_in_flight()
    sent = sum(len(it.ack(0)) for _ in range(1000))
    assert 0 <= it.sender.in_flight_bytes <= it.sender.congestion.cwnd_bytes
    it.ack(5 * MSS)
    assert 0 <= it.sender.in_flight_bytes <= it.sender.congestion.cwnd_bytes
    assert sent <= 1000


def test_each_retransmission_says_why_it_is_one() -> None:
    it = ten_in_flight()
    for _ in range(3):
        it.ack(0)
    assert "third duplicate ACK" in it.last.reason
    it.hear(4 * MSS)
    it.transmit()
    assert [chunk.reason for _, chunk in it.log if chunk.seq == it.sender.una] == [
        "data", "retransmission: partial ACK in fast recovery",
    ]  # fmt: skip
    it.timeout()
    assert it.last.reason == "retransmission: timeout"


# -- what may not enter


def test_duplicates_of_what_was_sent_before_recovery_ended_start_no_second_one() -> None:
    """RFC 6582 3.2 step 2 (the "careful" test): SEG.ACK must cover more than recover."""
    it = ten_in_flight()
    for _ in range(3):
        it.ack(0)
    it.ack(12 * MSS)
    for _ in range(5):
        assert it.hear(12 * MSS) == NOTHING
    it.hear(13 * MSS)
    assert [it.hear(13 * MSS) for _ in range(3)] == [NOTHING, NOTHING, ENTERED]


def test_duplicates_after_a_timeout_start_no_recovery_for_what_was_sent_before() -> None:
    """RFC 6582 3.2 step 4."""
    it = ten_in_flight()
    it.timeout()
    it.ack(3 * MSS, after_ms=10)
    for _ in range(5):
        assert it.hear(3 * MSS) == NOTHING
    assert it.sender.congestion.ssthresh_bytes == 5 * MSS


def test_timeout_in_recovery_ends_it_and_goes_back() -> None:
    it = ten_in_flight()
    for _ in range(8):
        it.ack(0)
    outstanding = it.nxt
    assert it.timeout() == segments(0)
    assert not it.sender.recovery.active
    assert it.sender.in_flight_bytes == MSS
    it.ack(MSS, after_ms=10)
    assert it.nxt == outstanding


# -- the RFC's own words as the oracle


class LiteralNewReno:
    """RFC 6582 section 3.2 as it is written: cwnd is inflated and deflated, SND.NXT pulled back after a timeout; and
    before it, RFC 3042 section 2.

    Numbers are in segments of text that never ends. Each method returns the segments that leave.
    """

    def __init__(self) -> None:
        self.una = self.nxt = self.max = 0
        self.recover = -2  # nothing sent yet: the loss of the very first segment (0) must count
        self.dup_acks = 0
        self.recovering = False
        self.cwnd: float = initial_window(MSS) / MSS
        self.ssthresh: float = 1 << 30
        self.acked = 0.0
        self.timeouts = 0
        self.limited = 0

    def send(self, *first: int) -> list[int]:
        sent = list(first)
        while self.nxt - self.una + 1 <= self.cwnd:
            sent.append(self.nxt)
            self.nxt += 1
            self.max = max(self.max, self.nxt)
        return sent

    def on_duplicate(self) -> list[int]:
        self.dup_acks += 1
        if self.recovering:
            self.cwnd += 1  # RFC 5681 3.2 step 4
            return self.send()
        if self.dup_acks == 3 and self.una - 1 > self.recover:  # "covers more than recover"
            self.recover = self.max - 1  # "the highest sequence number transmitted"
            self.recovering = True
            # RFC 5681 3.2: "no more than", and what limited transmit has added "MUST NOT be included". After a recovery
            # more than cwnd may be outstanding.
            self.ssthresh = max(min(self.max - self.una - self.limited, int(self.cwnd)) / 2, 2)
            self.cwnd = self.ssthresh + 3
            self.acked = 0.0
            return self.send(self.una)
        # By the letter "cwnd plus 2" for either: as Linux, one for each that has left the network.
        if self.dup_acks < 3 and self.una - 1 > self.recover and self.max - self.una + 1 <= self.cwnd + self.dup_acks:
            self.nxt += 1
            self.max += 1
            self.limited += 1
            return [self.max - 1]
        return []

    def on_new(self, ack: int) -> list[int]:
        newly = ack - self.una
        self.una = ack
        self.nxt = max(self.nxt, ack)
        self.dup_acks = self.timeouts = self.limited = 0
        if self.recovering and ack - 1 < self.recover:  # partial
            self.cwnd = max(self.cwnd - newly + 1, self.ssthresh)  # the one deviation, see recovery.py
            return self.send(ack)
        if self.recovering:
            self.recovering = False
            self.cwnd = min(self.ssthresh, max(self.max - ack, 1) + 1)
        elif self.cwnd < self.ssthresh:
            self.cwnd = min(self.cwnd + newly, max(self.ssthresh, self.cwnd))
        else:
            self.acked += newly
            if self.acked >= self.cwnd:
                self.acked -= self.cwnd
                self.cwnd += 1
        return self.send()

    def on_timeout(self) -> list[int]:
        self.timeouts += 1
        if self.timeouts == 1:
            self.ssthresh = max((self.max - self.una) / 2, 2)
        self.cwnd = 1
        self.acked = 0.0
        self.recover = self.max - 1
        self.recovering = False
        self.dup_acks = 0
        self.nxt = self.una
        return self.send()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from([True] + [False] * 9), max_size=200), st.integers(60, 300))
@example([True], 60)
@example([True, False] * 5 + [False] * 20, 120)
@example([False] * 9 + [True], 60)
@example([True] * 10, 60)
@example([False] * 20 + [True, False, True] + [False] * 11 + [True], 120)
@example([True] * 3 + [False] * 11 + [True], 60)
@example([True] * 4 + [False] * 8 + [True] * 2 + [False] * 4 + [True] * 3 + [False] * 2 + [True], 60)
def test_over_any_losses_the_same_segments_leave_as_by_the_letter_of_rfc_6582(lost: list[bool], count: int) -> None:
    """A path in order without loss of acknowledgements; `lost` is the fate of each transmission in turn.

    The receiver acknowledges each segment that arrives, half a round trip of 100 ms on."""
    it = LoneSender(send_buffer_bytes=1 << 30, wnd=1 << 30, r2_ns=1 << 60)
    letter = LiteralNewReno()
    path: list[tuple[int, int, int]] = []
    transmissions = 0
    received: set[int] = set()
    rcv_nxt = 0

    def leave(numbers: list[int], sent: list[Sent]) -> None:
        nonlocal transmissions
        assert sent == segments(*numbers)
        for number in numbers:
            transmissions += 1
            if transmissions > len(lost) or not lost[transmissions - 1]:
                heapq.heappush(path, (it.now_ns + ms(100), transmissions, number))

    leave(letter.send(), it.write(3000 * MSS))
    while transmissions < count:
        if path and path[0][0] < it.sender.timer_ns:
            it.now_ns, _, number = heapq.heappop(path)
            received.add(number)
            before = rcv_nxt
            while rcv_nxt in received:
                rcv_nxt += 1
            if rcv_nxt > letter.una:
                leave(letter.on_new(rcv_nxt), it.ack(rcv_nxt * MSS))
            elif it.sender.nxt > it.sender.una:
                assert before == rcv_nxt
                leave(letter.on_duplicate(), it.ack(rcv_nxt * MSS))
        else:
            leave(letter.on_timeout(), it.timeout())
