"""Timestamps on a connection (RFC 7323): what is sent and echoed, PAWS, and the round trips that an echo tells."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.receive.timestamps import OUTDATED_NS
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Options, Segment
from tcpstack.core.seq import MASK
from tests.scripted import IRS, ISS, MS, SECOND, Scripted, shape

T = 1_000_000  # the peer's clock as it opens


def stamped(tsval: int, tsecr: int = 0, **others: object) -> Options:
    return Options(timestamps=(tsval & MASK, tsecr & MASK), **others)  # type: ignore[arg-type]


def stamps_of(segment: Segment) -> tuple[int, int]:
    assert segment.options is not None
    assert segment.options.timestamps is not None
    return segment.options.timestamps


@pytest.fixture
def host() -> Scripted:
    return Scripted()


def opened(host: Scripted, tsval: int = T, **offers: object) -> Connection:
    """An active open that comes to timestamps; `sent` is empty."""
    return host.established(options=stamped(tsval, 1, mss=1460, **offers))


def data(host: Scripted, at: int, text: bytes, tsval: int, tsecr: int = 0, flags: int = ACK) -> list[Segment]:
    """The peer's text, `at` octets into the stream, arrives by itself."""
    return host.hear(host.segment(flags, IRS + 1 + at, ISS + 1, text=text, options=stamped(tsval, tsecr)))


# -- the handshake


def test_syn_has_our_clock_and_echoes_nothing(host: Scripted) -> None:
    host.connect()
    tsval, tsecr = stamps_of(host.sent[0].segment)
    assert tsecr == 0
    host.wait(1 * SECOND)
    assert stamps_of(host.sent[1].segment) == ((tsval + 1000) & MASK, 0)


@pytest.mark.parametrize("peer", [Options(mss=1460), None])
def test_peer_without_timestamps_gets_none(host: Scripted, peer: Options | None) -> None:
    connection = host.established(options=peer)
    sent = host.send(connection, b"x") + data(host, 0, b"y" * 3000, T)
    assert [segment.options for segment in sent] == [None] * len(sent)
    assert connection.status()["timestamps"] is False


def test_switched_off_they_are_neither_offered_nor_answered() -> None:
    host = Scripted(config=Config(timestamps=False))
    connection = opened(host)
    assert host.send(connection, b"x")[0].options is None
    host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=stamped(T, 0), sport=9))
    assert syn_ack.options is not None
    assert syn_ack.options.timestamps is None


def test_each_segment_carries_them_once_negotiated_and_is_shorter_by_that(host: Scripted) -> None:
    connection = opened(host, sack_permitted=True)
    sent = host.send(connection, bytes(4000))
    assert [segment.payload_len for segment in sent] == [1448, 1448, 1104]
    clock = stamps_of(sent[0])[0]
    assert [stamps_of(segment) for segment in sent] == [(clock, T)] * 3
    host.wait(7 * MS)
    [ack, *_] = data(host, 1000, b"above a gap", T + 8)
    assert stamps_of(ack) == (clock + 7 & MASK, T)
    assert ack.options is not None
    assert ack.options.sack == ((IRS + 1001, IRS + 1012),)
    host.stack.abort(connection, host.now_ns)
    rst = host.sent[-1].segment
    assert (rst.flags, stamps_of(rst)) == (RST, (clock + 7 & MASK, T))


def test_acknowledgement_with_timestamps_has_room_for_three_blocks(host: Scripted) -> None:
    opened(host, sack_permitted=True)
    for number in range(1, 6):
        [ack] = data(host, number * 100, b"x", T)
    assert ack.options is not None
    assert [left - IRS - 1 for left, _ in ack.options.sack] == [500, 400, 300]


def test_passive_open_answers_with_its_clock_and_the_echo(host: Scripted) -> None:
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=stamped(T, 0, mss=1460)))
    tsval, tsecr = stamps_of(syn_ack)
    assert tsecr == T
    host.wait(20 * MS)
    # The peer's SYN again: its clock has gone on, and so the round trip is that of this one.
    [again] = host.hear(host.segment(SYN, IRS, options=stamped(T + 1000, 0, mss=1460)))
    assert stamps_of(again) == (tsval + 20 & MASK, T + 1000)
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, options=stamped(T + 1001, tsval)))
    connection = listener.accept()
    assert connection is not None
    connection.user = host
    [segment] = host.send(connection, b"hello")
    assert stamps_of(segment) == (tsval + 20 & MASK, T + 1001)


def test_syn_ack_after_a_timeout_has_the_clock_of_that_time(host: Scripted) -> None:
    host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=stamped(T, 0)))
    [again] = host.wait(1 * SECOND)
    assert stamps_of(again) == (stamps_of(syn_ack)[0] + 1000 & MASK, T)


def test_simultaneous_open_agrees_on_them(host: Scripted) -> None:
    connection = host.connect()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=stamped(T, 0, mss=1460)))
    assert (syn_ack.flags, stamps_of(syn_ack)[1]) == (SYN | ACK, T)
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1, options=stamped(T + 5, 0, mss=1460)))
    assert connection.state == st.ESTABLISHED
    assert stamps_of(host.send(connection, b"x")[0])[1] == T + 5


def test_clock_of_a_connection_is_its_own_and_goes_on_in_the_next_of_its_name(host: Scripted) -> None:
    isn = host.stack.isn
    one, other = (bytes(4), 1, bytes(4), 2), (bytes(4), 1, bytes(4), 3)
    assert isn.timestamp_offset(one) == isn.timestamp_offset(one) != isn.timestamp_offset(other)
    assert isn.timestamp_offset(one) != isn._hash(one, b"ISN")  # which everybody who connects is told


# -- PAWS


@pytest.mark.parametrize(("older", "refused"), [(0, False), (1, True), (1 << 30, True), ((1 << 31) - 1, True)])
def test_text_with_an_old_timestamp_is_refused_and_acknowledged(host: Scripted, older: int, refused: bool) -> None:
    """RFC 7323 5.3 R1: "Send an acknowledgment in reply [...] and drop the segment"."""
    connection = opened(host)
    data(host, 0, b"old " * 1000, T + 10)
    [ack] = data(host, 4000, b"new " * 1000, T + 10 - older)
    assert host.read(connection) == b"old " * 1000 + (b"" if refused else b"new " * 1000)
    assert shape(ack) == (ACK, ISS + 1, IRS + 1 + (4000 if refused else 8000), 0)
    assert stamps_of(ack)[1] == T + 10
    assert ("PAWS" in host.sent[-1].reason) == refused


def test_old_fin_is_refused(host: Scripted) -> None:
    connection = opened(host)
    [ack] = data(host, 0, b"", T - 1, flags=FIN | ACK)
    assert (connection.state, ack.ack) == (st.ESTABLISHED, IRS + 1)


def test_old_acknowledgement_acknowledges_nothing_and_is_answered_twice_a_second(host: Scripted) -> None:
    connection = opened(host)
    host.send(connection, b"x")
    old = host.segment(ACK, IRS + 1, ISS + 2, options=stamped(T - 1))
    answers = [len(host.hear(old)) for _ in range(5)]
    assert answers == [1, 0, 0, 0, 0]
    assert connection.status()["unacknowledged_bytes"] == 1
    host.hear(host.segment(ACK, IRS + 1, ISS + 2, options=stamped(T)))
    assert connection.status()["unacknowledged_bytes"] == 0


@pytest.mark.parametrize("options", [None, stamped(T - 1000), stamped(T + 5)], ids=["none", "old", "new"])
def test_reset_counts_whatever_its_timestamp(host: Scripted, options: Options | None) -> None:
    """RFC 7323 5.2: an RST "MUST NOT be subjected to the PAWS check", and most have no timestamp."""
    connection = opened(host)
    assert host.hear(host.segment(RST, IRS + 1, options=options)) == []
    assert connection.state == st.CLOSED


def test_text_without_the_timestamp_is_taken(host: Scripted) -> None:
    """As Linux. Deviates from RFC 7323 3.2, by which it SHOULD be dropped: a middlebox that takes options out would
    have the connection stand still."""
    connection = opened(host)
    host.hear(host.segment(ACK | PSH, IRS + 1, ISS + 1, text=b"bare"))
    assert host.read(connection) == b"bare"


def test_after_24_days_of_silence_no_timestamp_is_old(host: Scripted) -> None:
    connection = opened(host)
    host.wait(OUTDATED_NS + 1)
    data(host, 0, b"late", T - 1)
    assert host.read(connection) == b"late"


def test_old_ack_of_our_syn_ack_opens_nothing(host: Scripted) -> None:
    listener = host.listen()
    host.hear(host.segment(SYN, IRS, options=stamped(T, 0)))
    [answer] = host.hear(host.segment(ACK, IRS + 1, ISS + 1, options=stamped(T - 1)))
    assert shape(answer) == (ACK, ISS + 1, IRS + 1, 0)
    assert stamps_of(answer)[1] == T
    assert listener.accept() is None


# -- what is echoed


def test_delayed_acknowledgement_echoes_the_earlier_segment(host: Scripted) -> None:
    """RFC 7323 4.3 (2): only what begins at or before Last.ACK.sent counts, so the delay is part of the round trip."""
    opened(host)
    assert data(host, 0, bytes(100), T + 1) == []
    [ack] = data(host, 100, bytes(3000), T + 2)
    assert stamps_of(ack)[1] == T + 1
    [ack] = data(host, 3100, bytes(3000), T + 3)
    assert stamps_of(ack)[1] == T + 3


def test_text_above_a_gap_is_not_echoed_but_what_fills_it_is(host: Scripted) -> None:
    opened(host)
    [ack] = data(host, 100, bytes(100), T + 2)
    assert stamps_of(ack)[1] == T
    [ack] = data(host, 0, bytes(100), T + 3)
    assert (ack.ack, stamps_of(ack)[1]) == (IRS + 201, T + 3)


def test_segment_with_an_unacceptable_ack_leaves_no_trace(host: Scripted) -> None:
    """Else a blind attacker could lift TS.Recent, and all that the peer sends would be old."""
    connection = opened(host)
    host.hear(host.segment(ACK, IRS + 1, ISS + 5_000_000, text=b"evil", options=stamped(T + (1 << 30))))
    data(host, 0, b"good", T + 1)
    assert host.read(connection) == b"good"


# -- round trips by the echo


def test_round_trip_of_what_was_sent_twice_is_known_by_the_echo(host: Scripted) -> None:
    """Karn's rule gives no sample; the timestamp tells which of the two is acknowledged (RFC 7323 4.1)."""
    connection = opened(host, sack_permitted=True)
    host.wait(500 * MS)
    rtt_ns = connection.status()["srtt_ns"]
    host.send(connection, bytes(100))
    host.wait(5 * SECOND)
    again = host.sent[-1]
    host.wait(80 * MS)
    since_ns = host.now_ns - again.time_ns
    host.hear(host.segment(ACK, IRS + 1, ISS + 101, options=stamped(T + 6000, stamps_of(again.segment)[0])))
    srtt_ns = connection.status()["srtt_ns"]
    assert isinstance(rtt_ns, int)
    assert isinstance(srtt_ns, int)
    assert srtt_ns == pytest.approx(rtt_ns + (since_ns - rtt_ns) / 8, abs=1 * MS)


def test_late_acknowledgement_of_the_first_transmission_undoes_the_timeout(host: Scripted) -> None:
    """Eifel (RFC 3522): the echo is older than the retransmission, so that was for nothing."""
    connection = opened(host, sack_permitted=True)
    first = host.send(connection, bytes(20_000))
    before = connection.status()["cwnd_bytes"]
    resent = host.wait(2 * SECOND)
    assert resent
    assert connection.status()["cwnd_bytes"] < before
    host.hear(host.segment(ACK, IRS + 1, ISS + 1449, options=stamped(T + 2000, stamps_of(first[0])[0])))
    assert connection.status()["cwnd_bytes"] >= before


@pytest.mark.parametrize("stamped", [False, True])
def test_lost_retransmission_is_found_though_the_echo_is_from_before_the_gap(stamped: bool) -> None:
    """What is reported above a gap is answered with a TS.Recent from before it: that tells of nothing above."""
    host = Scripted()
    offered = (900_000, 0) if stamped else None
    connection = host.established(options=Options(mss=1460, sack_permitted=True, timestamps=offered))
    mss = connection._sender.mss
    first = host.send(connection, b"x" * (mss * 10))[0]
    echo = first.options.timestamps[0] if stamped and first.options and first.options.timestamps else 0

    def ack(*blocks: tuple[int, int]) -> list[Segment]:
        sack = tuple((ISS + 1 + left * mss, ISS + 1 + right * mss) for left, right in blocks)
        stamps = (900_020, echo) if stamped else None
        return host.hear(host.segment(ACK, IRS + 1, ISS + 1 + mss, options=Options(timestamps=stamps, sack=sack)))

    host.now_ns += 20 * MS
    ack()
    again = ack((2, 3))  # the segments 1 and 3 are lost
    for end in range(5, 11):
        again += ack((4, end), (2, 3))
    assert [(s.seq - ISS - 1) // mss for s in again] == [1, 3]
    host.now_ns += 20 * MS
    # The retransmission of 3 arrives, that of 1 is lost again.
    assert [(s.seq - ISS - 1) // mss for s in ack((2, 10))] == [1]
    sack = connection._sender.sack
    assert sack is not None
    assert not sack.rack.reordering_seen


# -- TIME-WAIT


def in_time_wait(host: Scripted) -> None:
    connection = opened(host)
    host.stack.close(connection, host.now_ns)
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2, options=stamped(T + 10)))
    assert host.stack.time_waits == 1
    host.sent.clear()


def test_time_wait_acknowledges_with_timestamps_and_echoes_the_repeated_fin(host: Scripted) -> None:
    in_time_wait(host)
    [ack] = host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2, options=stamped(T + 20)))
    assert shape(ack) == (ACK, ISS + 2, IRS + 2, 0)
    assert stamps_of(ack)[1] == T + 20


def test_time_wait_answers_an_old_segment_without_starting_anew(host: Scripted) -> None:
    in_time_wait(host)
    host.wait(59 * SECOND)
    [ack] = host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 2, options=stamped(T + 9)))
    assert stamps_of(ack)[1] == T + 10
    host.wait(1 * SECOND)
    assert host.stack.time_waits == 0


@pytest.mark.rfc9293("SHLD-4", "MAY-2")
@pytest.mark.parametrize(
    ("seq", "options", "opens"),
    [
        (IRS - 1000, stamped(T + 11), True),
        (IRS + 1000, stamped(T + 10), True),
        (IRS - 1000, stamped(T + 10), False),
        (IRS + 1000, stamped(T + 9), False),
        (IRS + 1000, None, True),
        (IRS - 1000, None, False),
    ],
)
def test_syn_in_time_wait_opens_anew_where_it_is_younger(
    host: Scripted, seq: int, options: Options | None, opens: bool
) -> None:
    """RFC 6191 2: by its timestamp, where that is equal by its sequence number; without timestamps by that alone."""
    in_time_wait(host)
    host.listen()
    [answer] = host.hear(host.segment(SYN, seq, options=options))
    assert answer.flags == (SYN | ACK if opens else ACK)
    assert host.stack.time_waits == (0 if opens else 1)
