"""RFC 9293 3.8.5, the communication of urgent information: SEND and RECEIVE with it, and the sixth check."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.readiness import CONNECTED, EOF, READABLE, URGENT
from tcpstack.core.segment import ACK, FIN, PSH, SYN, URG, Options, Segment
from tests.rfc9293.states import BUFFER, OPEN, in_state
from tests.scripted import IRS, ISS, MS, SECOND, Scripted, shape


def send_urgent(host: Scripted, connection: Connection, data: bytes) -> list[Segment]:
    connection.send_urgent(data)
    return host.send(connection, b"")


def points_to(segment: Segment) -> int:
    """The octet that is behind the urgent text, as the segment has it: in numbers of the wire."""
    assert segment.flags & URG
    return (segment.seq + segment.up) % 2**32


# ------------------------------------------------------------------ SEND


@pytest.mark.rfc9293("MUST-30", "MUST-62")
@pytest.mark.parametrize("state", ["ESTABLISHED", "CLOSE-WAIT"])
def test_urgent_text_is_sent_with_a_pointer_to_the_octet_behind_it(state: str) -> None:
    case = in_state(state)
    case.hear(ACK, case.nxt, case.snd_nxt)  # so that nothing is outstanding
    case.live.send(b"abc")
    [sent] = send_urgent(case.host, case.live, b"urgent")
    assert shape(sent) == (ACK | PSH | URG, case.snd_nxt, case.nxt, 9)
    assert (sent.text(), sent.up) == (b"abcurgent", 9)


@pytest.mark.rfc9293("MUST-62")
def test_what_follows_urgent_text_has_no_urg_and_in_one_segment_the_pointer_is_where_they_part() -> None:
    host = Scripted()
    connection = host.established()
    connection.send_urgent(b"urgent")
    [sent] = host.send(connection, b"plain")
    assert (sent.text(), sent.flags & URG, sent.up) == (b"urgentplain", URG, 6)
    host.hear(host.segment(ACK, IRS + 1, ISS + 12))
    [sent] = host.send(connection, b"plain")
    assert (sent.flags, sent.up) == (ACK | PSH, 0)


@pytest.mark.rfc9293("MUST-31", "MUST-62")
@pytest.mark.parametrize("iss", [ISS, 2**32 - 1000])
def test_each_segment_of_long_urgent_text_points_to_its_end_or_as_far_as_the_field_reaches(iss: int) -> None:
    host = Scripted(iss=iss, config=Config(send_buffer_bytes=1 << 20))
    connection = host.established(wnd=65535, options=Options(mss=1460, wscale=4))
    first, end = iss + 1, iss + 1 + 200_000
    connection.send_urgent(bytes(200_000))
    segments = host.send(connection, bytes(20_000))
    offset = 0
    while offset < 220_000:
        for segment in segments:
            assert segment.seq == (first + offset) % 2**32
            if offset < 200_000:
                assert segment.flags & URG
                assert segment.up == min(200_000 - offset, 65535)
            else:
                assert (segment.flags & URG, segment.up) == (0, 0)
            offset += segment.payload_len
        host.now_ns += MS
        segments = host.hear(host.segment(ACK, IRS + 1, first + offset, wnd=65535))
    assert (first + offset) % 2**32 == (end + 20_000) % 2**32


@pytest.mark.rfc9293("MUST-30")
def test_urgent_text_again_moves_the_pointer_on() -> None:
    host = Scripted()
    connection = host.established()
    [one] = send_urgent(host, connection, b"one")
    [two] = send_urgent(host, connection, b"two")
    assert (points_to(one), points_to(two)) == (ISS + 4, ISS + 7)


@pytest.mark.rfc9293("MUST-30", "MUST-62")
def test_retransmission_of_urgent_text_has_the_pointer_of_now() -> None:
    host = Scripted(config=Config(nagle=False))
    connection = host.established()
    send_urgent(host, connection, b"one")
    send_urgent(host, connection, b"two")
    again, *_ = host.wait(SECOND)
    assert (again.text(), points_to(again)) == (b"onetwo", ISS + 7)


@pytest.mark.rfc9293("MUST-30")
def test_urgent_text_is_told_at_once_where_the_peers_window_is_closed() -> None:
    host = Scripted()
    connection = host.established(wnd=0)
    [told] = send_urgent(host, connection, b"urgent")
    assert shape(told) == (ACK | URG, ISS + 1, IRS + 1, 0)
    assert points_to(told) == ISS + 7
    assert host.sent[-1].reason == "URG: urgent text waits to be sent"
    probe, *_ = host.wait(SECOND)
    assert (shape(probe), points_to(probe)) == ((ACK | URG, ISS + 1, IRS + 1, 1), ISS + 7)
    # And from a sequence number that is in the window, now that the probe has moved SND.NXT past it.
    [told] = send_urgent(host, connection, b"more")
    assert (shape(told), points_to(told)) == ((ACK | URG, ISS + 1, IRS + 1, 0), ISS + 11)


@pytest.mark.rfc9293("MUST-30")
def test_urgent_text_beyond_what_the_pointer_reaches_is_not_told_again() -> None:
    """The segment would say what the one before it said, and three such are taken for a loss (RFC 5681 2)."""
    host = Scripted()
    connection = host.established(wnd=0)
    [told] = send_urgent(host, connection, bytes(65_534))
    assert told.up == 65_534
    [told] = send_urgent(host, connection, bytes(65_536))
    assert told.up == 65_535
    assert send_urgent(host, connection, b"more") == []


@pytest.mark.rfc9293("MUST-30")
def test_every_acknowledgement_carries_urg_while_urgent_text_waits() -> None:
    host = Scripted(config=Config(delayed_ack_ns=0))
    connection = host.established(wnd=0)
    send_urgent(host, connection, b"urgent")
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=0, text=b"text"))
    [acknowledgement] = host.wait(0)
    assert (shape(acknowledgement), points_to(acknowledgement)) == ((ACK | URG, ISS + 1, IRS + 5, 0), ISS + 7)
    [duplicate] = host.hear(host.segment(ACK, IRS + 10, ISS + 1, wnd=0, text=b"text"))
    assert (shape(duplicate), points_to(duplicate)) == ((ACK | URG, ISS + 1, IRS + 5, 0), ISS + 7)


@pytest.mark.rfc9293("MUST-30")
def test_nothing_is_told_by_itself_where_the_urgent_text_can_leave() -> None:
    host = Scripted()
    connection = host.established()
    assert [s.payload_len for s in send_urgent(host, connection, b"urgent")] == [6]
    assert host.wait(0) == []


@pytest.mark.rfc9293("MUST-30")
def test_urgent_text_does_not_wait_for_nagle() -> None:
    host = Scripted(config=Config(nagle=True))
    connection = host.established()
    assert len(host.send(connection, b"a")) == 1
    assert host.send(connection, b"b") == []
    [sent] = send_urgent(host, connection, b"urgent")
    assert (sent.text(), sent.up) == (b"burgent", 7)
    assert host.send(connection, b"c") == []


@pytest.mark.rfc9293("MUST-30")
@pytest.mark.parametrize("state", ["SYN-SENT", "SYN-RECEIVED active"])
def test_urgent_text_from_before_the_handshake_goes_urgent_after_it(state: str) -> None:
    case = in_state(state)
    assert send_urgent(case.host, case.live, b"early") == []
    answers = case.hear(SYN | ACK if state == "SYN-SENT" else ACK, IRS + (state != "SYN-SENT"), ISS + 1)
    [text] = [s for s in answers if s.payload_len]
    assert (text.text(), points_to(text)) == (b"early", ISS + 6)
    assert not any(s.flags & SYN for s in answers)


@pytest.mark.rfc9293("MUST-30")
def test_fin_behind_urgent_text_goes_with_it_and_alone_it_has_no_urg() -> None:
    host = Scripted()
    connection = host.established(wnd=6)
    connection.send_urgent(b"urgent")
    host.stack.shutdown(connection, host.now_ns)
    assert [(s.flags, s.up) for s in host.since(0)] == [(ACK | PSH | URG, 6)]
    assert [(s.flags, s.up) for s in host.hear(host.segment(ACK, IRS + 1, ISS + 7))] == [(FIN | ACK, 0)]


@pytest.mark.rfc9293("MUST-30")
def test_no_octets_are_no_urgent_text_and_after_close_there_is_none() -> None:
    host = Scripted()
    connection = host.established()
    assert send_urgent(host, connection, b"") == []
    [plain] = host.send(connection, b"plain")
    assert not plain.flags & URG
    host.stack.shutdown(connection, host.now_ns)
    with pytest.raises(BrokenPipeError):
        connection.send_urgent(b"late")
    with pytest.raises(TypeError):
        host.connect(lport=81).send_urgent("text")  # type: ignore[arg-type]


# ------------------------------------------------------------------ the sixth check


@pytest.mark.rfc9293("3.10.7.4-urg", "MUST-32")
@pytest.mark.parametrize("state", OPEN)
def test_urgent_pointer_is_told(state: str) -> None:
    case = in_state(state)
    case.hear(ACK | URG, case.nxt, text=b"urg", up=10)
    assert case.told == URGENT | READABLE
    assert case.live.urgent_bytes == 10


@pytest.mark.rfc9293("3.10.7.4-urg", "MUST-32")
def test_urgent_pointer_is_told_when_it_advances_and_not_when_it_repeats_or_recedes() -> None:
    case = in_state("ESTABLISHED")
    for seq, up, told in (
        (0, 10, True), (0, 10, False), (0, 9, False), (4, 6, False), (0, 11, True), (4, 8, True), (0, 0, False),
    ):  # fmt: skip
        case.hear(ACK | URG, case.nxt + seq, up=up)
        assert (case.told == URGENT) is told, (seq, up)
        case.quiet()
    assert case.live.urgent_bytes == 12


@pytest.mark.rfc9293("3.10.7.4-urg", "MUST-32")
def test_urgent_pointer_to_what_has_been_read_is_not_told_and_one_beyond_it_is() -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK, case.nxt, text=b"0123456789")
    assert case.read() == b"0123456789"
    case.quiet().hear(ACK | URG, case.nxt + 9, text=b"9", up=1)
    assert (case.told, case.live.urgent_bytes) == (0, 0)
    case.hear(ACK | URG, case.nxt + 10, up=1)
    assert (case.told, case.live.urgent_bytes) == (URGENT, 1)


@pytest.mark.rfc9293("3.10.7.4-urg", "MUST-32")
def test_urgent_pointer_to_what_waits_unread_is_told() -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK, case.nxt, text=b"0123456789")
    case.quiet().hear(ACK | URG, case.nxt + 10, up=0)
    assert (case.told, case.live.urgent_bytes) == (URGENT, 10)


@pytest.mark.rfc9293("MUST-32")
def test_urgent_pointer_is_told_ahead_of_the_text_that_is_missing() -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK | URG, case.nxt + 100, text=b"late", up=4)
    assert (case.told, case.live.urgent_bytes) == (URGENT, 104)


@pytest.mark.rfc9293("MUST-32")
def test_urgent_pointer_of_the_syn_ack_counts_from_the_syn() -> None:
    case = in_state("SYN-SENT")
    case.hear(SYN | ACK | URG, IRS, ISS + 1, text=b"early", up=6)
    assert case.told == CONNECTED | READABLE | URGENT
    assert case.live.urgent_bytes == 5
    case = in_state("SYN-RECEIVED active")
    case.hear(SYN | ACK | URG, IRS, ISS + 1, text=b"early", up=6)
    assert case.told == CONNECTED | READABLE | URGENT
    assert case.live.urgent_bytes == 5


@pytest.mark.rfc9293("MUST-32")
def test_urgent_pointer_that_ends_a_passive_open_is_known_to_whoever_accepts() -> None:
    case = in_state("SYN-RECEIVED passive")
    case.hear(ACK | URG, IRS + 1, ISS + 1, text=b"early", up=5)
    [connection] = case.host.stack.connections
    assert connection.urgent_bytes == 5


@pytest.mark.rfc9293("3.10.7.4-urg")
@pytest.mark.parametrize(("flags", "seq", "ack"), [(URG, 0, 0), (ACK | URG, 0, 1 << 20), (ACK | URG, BUFFER, 0)])
def test_urgent_pointer_of_what_fails_an_earlier_check_is_not_believed(flags: int, seq: int, ack: int) -> None:
    case = in_state("ESTABLISHED")
    case.hear(flags, case.nxt + seq, case.una + ack, up=10)
    assert (case.told, case.live.urgent_bytes) == (0, 0)


@pytest.mark.rfc9293("3.10.7.4-urg-after-fin")
@pytest.mark.parametrize("state", ["ESTABLISHED", "FIN-WAIT-1"])
def test_urg_after_the_fin_is_not_told_of_what_waits_unread(state: str) -> None:
    case = in_state(state)
    case.hear(ACK | FIN, case.nxt, text=b"bye")
    case.quiet().hear(ACK | URG, case.nxt + 4, up=6)
    assert (case.told, case.live.urgent_bytes) == (0, 0)


@pytest.mark.rfc9293("MUST-66", "3.10.7.4-seq-zero-window")
@pytest.mark.parametrize("text", [b"", b"!"])
def test_zero_window_urgent_pointer_at_rcv_nxt_is_told(text: bytes) -> None:
    case = in_state("ESTABLISHED zero window")
    case.hear(ACK | URG, case.nxt, text=text, up=1)
    assert (case.told, case.live.urgent_bytes) == (URGENT, BUFFER + 1)
    case.quiet().hear(ACK | URG, case.nxt, text=text, up=1)
    assert case.told == 0
    case.hear(ACK | URG, case.nxt, case.una + (1 << 20), text=text, up=2)
    case.hear(ACK | URG, case.nxt + 1, text=text, up=2)
    assert (case.told, case.live.urgent_bytes) == (0, BUFFER + 1)


# ------------------------------------------------------------------ RECEIVE


@pytest.mark.rfc9293("MUST-33")
def test_how_much_urgent_text_is_left_to_read_is_known_from_read_to_read() -> None:
    case = in_state("ESTABLISHED")
    assert case.live.urgent_bytes == 0
    case.hear(ACK | URG, case.nxt, text=b"urge", up=6)
    left = [(case.live.urgent_bytes, case.live.status()["urgent_bytes"])]
    for size in (1, 100):
        case.host.read(case.live, size)
        left.append((case.live.urgent_bytes, case.live.status()["urgent_bytes"]))
    case.hear(ACK, case.nxt + 4, text=b"ntplain")
    left.append((case.live.urgent_bytes, case.live.status()["urgent_bytes"]))
    assert left == [(6, 6), (5, 5), (2, 2), (2, 2)]
    assert (case.read(), case.live.urgent_bytes) == (b"nt", 0)
    assert (case.read(), case.live.urgent_bytes) == (b"plain", 0)


@pytest.mark.rfc9293("MUST-30", "MUST-33")
def test_text_behind_urgent_text_is_not_received_in_one_call_with_it() -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK | URG, case.nxt, text=b"abcUrgentdef", up=9)
    assert [case.read() for _ in range(3)] == [b"abcUrgent", b"def", b""]


@pytest.mark.rfc9293("MUST-33")
def test_pointer_beyond_the_fin_ends_there() -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK | URG, case.nxt, text=b"urgent", up=0xFFFF)
    assert case.live.urgent_bytes == 0xFFFF
    case.hear(ACK | FIN, case.nxt + 6)
    assert (case.told & EOF, case.live.urgent_bytes) == (EOF, 6)
    assert (case.read(), case.live.urgent_bytes) == (b"urgent", 0)


@pytest.mark.rfc9293("MUST-31", "MUST-33")
def test_urgent_text_longer_than_the_field_can_say_is_urgent_to_its_end() -> None:
    host = Scripted()
    connection = host.established(irs=2**32 - 1000)
    first, size = 2**32 - 999, 100_000
    for offset in range(0, size, 1000):
        host.hear(host.segment(ACK | URG, first + offset, ISS + 1, text=bytes(1000), up=min(size - offset, 0xFFFF)))
        assert connection.urgent_bytes == min(size - offset, 0xFFFF)
        assert len(host.read(connection)) == 1000
    assert (connection.urgent_bytes, connection.state) == (0, st.ESTABLISHED)


@pytest.mark.rfc9293("3.9.1.8-reports")
def test_each_advance_of_the_urgent_pointer_is_reported() -> None:
    case = in_state("ESTABLISHED")
    for up in (1, 2, 3):
        case.hear(ACK | URG, case.nxt, up=up)
    assert [mask for _, mask in case.host.told] == [URGENT] * 3


def test_keepalive_after_urgent_text_has_no_urg() -> None:
    host = Scripted(config=Config(keepalive=True, keepalive_idle_ns=SECOND))
    connection = host.established()
    send_urgent(host, connection, b"!")
    host.hear(host.segment(ACK, IRS + 1, ISS + 2))
    [probe] = host.wait(SECOND)
    assert shape(probe) == (ACK, ISS + 1, IRS + 1, 0)


def test_news_of_urgent_text_is_no_duplicate_acknowledgement() -> None:
    """RFC 5681 2: a duplicate brings nothing new. Found by the search."""
    host = Scripted()
    connection = host.established(wnd=3000)
    host.send(connection, bytes(1460))
    for up in range(1, 6):
        host.hear(host.segment(ACK | URG, IRS + 1, ISS + 1, wnd=3000, up=up))
    assert connection.retransmitted == 0
    for _ in range(3):
        host.hear(host.segment(ACK | URG, IRS + 1, ISS + 1, wnd=3000, up=5))
    assert connection.retransmitted == 1
