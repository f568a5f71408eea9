"""LISTEN, and SYN-RECEIVED after a passive open, as rules over a record (RFC 9293 3.10.7.2 and 3.10.7.4)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.listen import (
    BACK_TO_LISTEN,
    ESTABLISH,
    STAY,
    SynRecord,
    abort,
    answer_listen,
    on_syn_received,
    on_syn_received_timer,
    syn_ack,
)
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Options, Segment
from tcpstack.core.seq import MASK

HERE, THERE = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])
CONFIG = Config()
START = 7 * SECOND_NS
IRS, ISS = MASK, 0xFFFF_FFF0  # both wrap with the first octets


def arriving(flags: int, seq: int = IRS + 1, ack: int = ISS + 1, size: int = 0) -> Segment:
    payload = (bytes(size),) if size else ()
    return Segment(THERE, 4000, HERE, 80, seq & MASK, ack & MASK if flags & ACK else 0, flags, 8000, payload, size)


def a_record(size: int = 0, options: Options | None = None, config: Config = CONFIG) -> SynRecord:
    syn = arriving(SYN, IRS, size=size)
    syn.options = options
    return SynRecord(syn, ISS, 1500, config, START)


# -- LISTEN


@given(st.integers(0, 255))
def test_listen_drops_any_rst(flags: int) -> None:
    assert answer_listen(arriving(flags | RST)) is None


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK, PSH | ACK])
def test_listen_answers_any_ack_with_a_rst_at_seg_ack(flags: int) -> None:
    answer = answer_listen(arriving(flags, ack=1234))
    assert answer is not None
    assert (answer.flags, answer.seq) == (RST, 1234)


@pytest.mark.parametrize("flags", [0, FIN, PSH])
def test_listen_drops_what_is_neither_syn_nor_ack_nor_rst(flags: int) -> None:
    assert answer_listen(arriving(flags, size=3)) is None


# -- the SYN,ACK


@pytest.mark.rfc9293("MUST-14")
def test_syn_ack_acknowledges_the_syn_alone_and_offers_what_was_offered() -> None:
    answer = syn_ack(a_record(size=100, options=Options(mss=1400, wscale=0)), CONFIG, "why", 0)
    assert (answer.flags, answer.seq, answer.ack) == (SYN | ACK, ISS, (IRS + 1) & MASK)
    assert (answer.src, answer.sport, answer.dst, answer.dport) == (HERE, 80, THERE, 4000)
    assert answer.options == Options(mss=1460, wscale=8)
    assert answer.wnd == 0xFFFF  # never scaled, RFC 7323 2.2
    assert answer.reason == "why"


def test_syn_ack_to_a_syn_without_scale_offers_none() -> None:
    assert syn_ack(a_record(), CONFIG, "", 0).options == Options(mss=1460)


def test_syn_ack_of_a_small_buffer_offers_no_more_than_it() -> None:
    config = Config(receive_buffer_bytes=3000)
    assert syn_ack(a_record(config=config), config, "", 0).wnd == 3000


# -- SYN-RECEIVED


def test_ack_of_our_syn_establishes() -> None:
    assert on_syn_received(a_record(), arriving(ACK), CONFIG, START) == (ESTABLISH, None)
    assert on_syn_received(a_record(), arriving(ACK | PSH, size=500), CONFIG, START) == (ESTABLISH, None)
    assert on_syn_received(a_record(), arriving(ACK | FIN), CONFIG, START) == (ESTABLISH, None)


@pytest.mark.parametrize("ack", [ISS, ISS + 2, ISS - 1, ISS + (1 << 31)])
def test_syn_received_ack_for_anything_else_sends_rst_and_stays(ack: int) -> None:
    verdict, answer = on_syn_received(a_record(), arriving(ACK, ack=ack), CONFIG, START)
    assert verdict == STAY
    assert answer is not None
    assert (answer.flags, answer.seq) == (RST, ack & MASK)


@pytest.mark.parametrize("size", [0, 1, 1000])
@pytest.mark.parametrize("fin", [0, FIN])
def test_syn_received_the_same_syn_again_gets_the_same_syn_ack(size: int, fin: int) -> None:
    """Text or FIN with the SYN reach into the window; the SYN itself still lies left of it."""
    record = a_record(size)
    verdict, answer = on_syn_received(record, arriving(SYN | fin, IRS, size=size), CONFIG, START)
    assert verdict == STAY
    assert answer is not None
    assert (answer.flags, answer.seq, answer.ack) == (SYN | ACK, ISS, (IRS + 1) & MASK)


@pytest.mark.rfc9293("MUST-18")
def test_syn_received_syn_ack_that_went_again_for_the_peers_syn_is_counted_as_sent_twice() -> None:
    """Karn: which SYN,ACK the peer's ACK answers can't be told, so the record must say that there were two."""
    record = a_record()
    on_syn_received(record, arriving(SYN, IRS), CONFIG, START)
    assert record.attempts == 1


def test_syn_received_syns_repeated_without_end_neither_move_the_deadline_nor_grow_the_next() -> None:
    record = a_record()
    deadline = record.deadline_ns
    for _ in range(1000):
        on_syn_received(record, arriving(SYN, IRS), CONFIG, START)
    assert record.deadline_ns == deadline
    on_syn_received_timer(record, CONFIG, deadline)
    assert record.deadline_ns == deadline + 2 * CONFIG.rto_initial_ns


def test_syn_received_rst_at_rcv_nxt_returns_to_listen() -> None:
    assert on_syn_received(a_record(), arriving(RST), CONFIG, START) == (BACK_TO_LISTEN, None)


def test_syn_received_rst_elsewhere_in_the_window_is_challenged() -> None:
    verdict, answer = on_syn_received(a_record(), arriving(RST, IRS + 2), CONFIG, START)
    assert verdict == STAY
    assert answer is not None
    assert (answer.flags, answer.seq, answer.ack) == (ACK, (ISS + 1) & MASK, (IRS + 1) & MASK)


@pytest.mark.parametrize("seq", [IRS, IRS - 5, IRS + 1 + 0xFFFF, IRS + 1 + (1 << 31)])
def test_syn_received_rst_outside_the_window_is_dropped(seq: int) -> None:
    assert on_syn_received(a_record(), arriving(RST, seq), CONFIG, START) == (STAY, None)
    assert on_syn_received(a_record(), arriving(RST | SYN, seq), CONFIG, START) == (STAY, None)


def test_syn_received_rst_left_of_the_window_whose_text_reaches_in_is_dropped() -> None:
    assert on_syn_received(a_record(), arriving(RST, IRS, size=10), CONFIG, START) == (STAY, None)


def test_syn_received_new_syn_in_the_window_returns_to_listen() -> None:
    assert on_syn_received(a_record(), arriving(SYN, IRS + 10), CONFIG, START) == (BACK_TO_LISTEN, None)


def test_syn_received_segment_without_ack_is_dropped() -> None:
    assert on_syn_received(a_record(), arriving(FIN), CONFIG, START) == (STAY, None)
    assert on_syn_received(a_record(), arriving(0, size=4), CONFIG, START) == (STAY, None)


@pytest.mark.parametrize("seq", [IRS - 4, IRS + 1 + 0xFFFF, IRS + 1 + (1 << 31)])
def test_syn_received_segment_outside_the_window_is_acknowledged_at_most_twice_a_second(seq: int) -> None:
    record = a_record()
    answers = []
    for after_ms in (0, 1, 499, 500, 999, 1000):
        now = START + after_ms * MILLISECOND_NS
        verdict, answer = on_syn_received(record, arriving(ACK, seq), CONFIG, now)
        assert verdict == STAY
        answers.append(answer is not None)
    assert answers == [True, False, False, True, False, True]


@given(st.integers(0, 255), st.integers(0, MASK), st.integers(0, MASK), st.integers(0, 3000))
def test_syn_received_establishes_only_for_our_isn(flags: int, seq: int, ack: int, size: int) -> None:
    verdict, answer = on_syn_received(a_record(), arriving(flags, seq, ack, size), CONFIG, START)
    if verdict == ESTABLISH:
        assert flags & (ACK | SYN | RST) == ACK
        assert ack == (ISS + 1) & MASK
    assert answer is None or not flags & RST or answer.flags == ACK


# -- the record's timer


def test_syn_ack_goes_again_with_doubling_intervals_until_the_record_expires() -> None:
    record = a_record()
    sent_after: list[int] = []
    while (answer := on_syn_received_timer(record, CONFIG, now := record.deadline_ns)) is not None:
        assert (answer.flags, answer.seq) == (SYN | ACK, ISS)
        sent_after.append((now - START) // SECOND_NS)
        assert record.attempts == len(sent_after)
    assert sent_after == [1, 3, 7, 15, 31]
    assert now == START + CONFIG.syn_received_r2_ns


def test_syn_ack_intervals_are_capped() -> None:
    config = Config(rto_max_ns=2 * SECOND_NS)
    record = a_record(config=config)
    times = [record.deadline_ns]
    while on_syn_received_timer(record, config, record.deadline_ns) is not None:
        times.append(record.deadline_ns)
    assert {later - earlier for earlier, later in pairwise(times[:-1])} == {2 * SECOND_NS}
    assert times[-1] == START + config.syn_received_r2_ns  # the last is cut


# -- what comes of it


@pytest.mark.rfc9293("MUST-15", "MUST-16")
def test_record_remembers_what_the_syn_offered() -> None:
    assert a_record(options=Options(mss=9000, wscale=3)).negotiated(CONFIG).mss == 1460
    assert a_record(options=Options(mss=9000, wscale=3)).negotiated(CONFIG).snd_shift == 3
    assert a_record().negotiated(CONFIG).mss == 536


def test_aborted_record_resets_from_snd_nxt() -> None:
    answer = abort(a_record(), "why")
    assert (answer.flags, answer.seq, answer.dst, answer.reason) == (RST, (ISS + 1) & MASK, THERE, "why")


# -- as octets

offers = st.builds(
    Options,
    mss=st.none() | st.integers(0, 0xFFFF),
    wscale=st.none() | st.integers(0, 255),
    sack_permitted=st.booleans(),
    timestamps=st.none() | st.tuples(st.integers(0, MASK), st.just(0)),
)


@given(offers, st.integers(0, 300), st.integers(0, 300), st.integers(0, 1 << 62))
def test_record_comes_back_from_its_octets(options: Options, attempts: int, timeouts: int, challenged: int) -> None:
    record = a_record(options=options)
    record.attempts, record.timeouts, record.challenged_ns = attempts, timeouts, challenged
    octets = record.pack()
    found = SynRecord.unpack(record.flow, octets)
    record.attempts, record.timeouts = min(attempts, 255), min(timeouts, 255)
    for field in SynRecord.__slots__:
        assert getattr(found, field) == getattr(record, field), field
    assert SynRecord.deadline_ns_of(octets) == record.deadline_ns
    assert len(octets) <= 64


def test_record_of_a_syn_without_options_comes_back_as_one_that_offered_nothing() -> None:
    record = a_record()
    assert SynRecord.unpack(record.flow, record.pack()).peer == record.peer == Options()
