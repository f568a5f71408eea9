"""TIME-WAIT as rules over an entry (RFC 9293 3.10.7.4; MAY-2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Segment
from tcpstack.core.seq import HALF, MASK, MODULUS
from tcpstack.core.timewait import GONE, NEW_INCARNATION, RESTART, STAY, TimeWait, on_time_wait

HERE, THERE = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])
START = 9 * SECOND_NS
LIMIT = 500 * MILLISECOND_NS
SND_NXT, RCV_NXT, WND = 3 * MODULUS + 7, 2 * MODULUS + 1, 5000  # the peer's FIN was the last number before a wrap


def an_entry() -> TimeWait:
    return TimeWait((HERE, 80, THERE, 4000), SND_NXT, RCV_NXT, WND, 312, 60 * SECOND_NS, START)


def arriving(flags: int, seq: int, size: int = 0) -> Segment:
    payload = (bytes(size),) if size else ()
    return Segment(THERE, 4000, HERE, 80, seq & MASK, SND_NXT & MASK, flags, 100, payload, size)


def answered(
    entry: TimeWait, segment: Segment, listening: bool = True, now_ns: int = START
) -> tuple[int, Segment | None]:
    return on_time_wait(entry, segment, listening, LIMIT, now_ns)


def assert_is_the_last_ack(answer: Segment | None) -> None:
    assert answer is not None
    assert (answer.flags, answer.seq, answer.ack, answer.wnd) == (ACK, SND_NXT & MASK, RCV_NXT & MASK, 312)
    assert (answer.src, answer.sport, answer.dst, answer.dport) == (HERE, 80, THERE, 4000)


@pytest.mark.rfc9293("MUST-13")
@pytest.mark.parametrize("size", [0, 10])
def test_the_fin_again_is_acknowledged_every_time_and_restarts_2_msl(size: int) -> None:
    entry = an_entry()
    for _ in range(3):
        verdict, answer = answered(entry, arriving(FIN | ACK, RCV_NXT - 1 - size, size))
        assert verdict == RESTART
        assert_is_the_last_ack(answer)


def test_a_fin_that_was_never_the_peers_last_word_restarts_nothing() -> None:
    verdict, answer = answered(an_entry(), arriving(FIN | ACK, RCV_NXT - 1000))
    assert verdict == STAY
    assert_is_the_last_ack(answer)


@pytest.mark.rfc9293("MAY-2")
@pytest.mark.parametrize("ahead", [0, 1, 100_000, HALF - 1])
def test_newer_syn_starts_a_new_incarnation_where_somebody_listens(ahead: int) -> None:
    assert answered(an_entry(), arriving(SYN, RCV_NXT + ahead)) == (NEW_INCARNATION, None)


@pytest.mark.parametrize("ahead", [0, WND - 1])
def test_newer_syn_in_the_window_is_challenged_where_nobody_listens(ahead: int) -> None:
    verdict, answer = answered(an_entry(), arriving(SYN, RCV_NXT + ahead), listening=False)
    assert verdict == STAY
    assert_is_the_last_ack(answer)


@pytest.mark.rfc9293("MAY-2")
@pytest.mark.parametrize("back", [1, 5000, HALF - 1, HALF])
def test_older_syn_is_an_old_duplicate_and_gets_the_last_ack(back: int) -> None:
    verdict, answer = answered(an_entry(), arriving(SYN, RCV_NXT - back))
    assert verdict == STAY
    assert_is_the_last_ack(answer)


@pytest.mark.parametrize("flags", [SYN | ACK, SYN | RST])
def test_newer_syn_that_opens_nothing_is_no_new_incarnation(flags: int) -> None:
    assert answered(an_entry(), arriving(flags, RCV_NXT + 1))[0] == STAY


def test_rst_at_rcv_nxt_ends_it() -> None:
    assert answered(an_entry(), arriving(RST, RCV_NXT)) == (GONE, None)


def test_rst_elsewhere_in_the_window_is_challenged() -> None:
    verdict, answer = answered(an_entry(), arriving(RST, RCV_NXT + 1))
    assert verdict == STAY
    assert_is_the_last_ack(answer)


@pytest.mark.parametrize("seq", [RCV_NXT - 1, RCV_NXT + WND, RCV_NXT + HALF])
def test_rst_outside_the_window_is_dropped(seq: int) -> None:
    assert answered(an_entry(), arriving(RST, seq)) == (STAY, None)


def test_acks_and_text_in_the_window_are_dropped() -> None:
    assert answered(an_entry(), arriving(ACK, RCV_NXT)) == (STAY, None)
    assert answered(an_entry(), arriving(ACK | PSH, RCV_NXT, 5)) == (STAY, None)


def test_segments_outside_the_window_are_acknowledged_at_most_twice_a_second() -> None:
    entry = an_entry()
    answers = [
        answered(entry, arriving(ACK, RCV_NXT - 50), now_ns=START + after * MILLISECOND_NS)[1] is not None
        for after in (0, 250, 499, 500, 999, 1000)
    ]
    assert answers == [True, False, False, True, False, True]


@given(st.integers(0, 255), st.integers(0, MASK), st.integers(0, 3000), st.booleans())
def test_nothing_raises_and_a_rst_is_never_answered_with_one(flags: int, seq: int, size: int, listening: bool) -> None:
    verdict, answer = answered(an_entry(), arriving(flags, seq, size), listening)
    assert verdict in (STAY, RESTART, GONE, NEW_INCARNATION)
    assert answer is None or answer.flags == ACK


@given(st.integers(0, 1 << 80), st.integers(0, 1 << 80), st.integers(0, 1 << 30), st.integers(0, 0xFFFF))
def test_entry_comes_back_from_its_octets(snd_nxt: int, rcv_nxt: int, wnd: int, field: int) -> None:
    entry = TimeWait((HERE, 80, THERE, 4000), snd_nxt, rcv_nxt, wnd, field, 60 * SECOND_NS, START)
    entry.challenged_ns = START + 1
    octets = entry.pack()
    found = TimeWait.unpack(entry.flow, entry.lasts_ns, octets)
    for name in TimeWait.__slots__:
        assert getattr(found, name) == getattr(entry, name), name
    assert TimeWait.expires_ns_of(octets) == entry.expires_ns
    assert len(octets) <= 40
