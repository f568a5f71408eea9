"""RFC 9293 3.6.1, 3.8.6 and 3.9: the user's calls, and the addresses they lead to."""

from __future__ import annotations

import errno
from random import Random

import pytest

from tcpstack.core import state as st
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Segment
from tcpstack.stack.stack import Stack
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import Packet
from tests.rfc9293.states import BUFFER, in_state
from tests.scripted import IRS, ISS, PEER, PEER_PORT, PORT, SECOND, START_NS, Scripted, shape


@pytest.mark.rfc9293("MAY-1")
def test_who_has_closed_for_good_reads_nothing_any_more() -> None:
    case = in_state("ESTABLISHED")
    case.host.stack.close(case.live, case.host.now_ns)
    case.quiet()
    answers = case.hear(ACK, case.nxt, case.snd_nxt, text=b"anyone there?")
    assert [a.flags for a in answers] == [RST]
    assert case.read() == b""


@pytest.mark.rfc9293("MAY-8")
def test_window_stays_closed_for_as_long_as_nobody_reads() -> None:
    case = in_state("ESTABLISHED zero window")
    for _ in range(60):
        case.host.wait(60 * SECOND)
        [answer] = case.hear(ACK, case.nxt, case.snd_nxt, text=b"?")
        assert (answer.ack, answer.wnd) == (case.nxt, 0)
    assert len(case.read()) == BUFFER


@pytest.mark.rfc9293("MUST-41")
@pytest.mark.parametrize("second", [None, bytes((10, 0, 0, 1))])
def test_passive_open_that_would_take_what_another_has_is_an_error_and_changes_nothing(second: bytes | None) -> None:
    host = Scripted()
    first = host.listen()
    with pytest.raises(OSError, match="listened on already") as caught:
        host.listen(address=second)
    assert caught.value.errno == errno.EADDRINUSE
    host.hear(host.segment(SYN, IRS))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    assert first.accept() is not None


@pytest.mark.rfc9293("MUST-42")
@pytest.mark.parametrize("state", ["SYN-SENT", "SYN-RECEIVED active"])
def test_one_can_listen_on_the_port_of_a_connection_that_is_being_opened(state: str) -> None:
    case = in_state(state)
    listener = case.host.listen(PORT)
    assert case.state == case.live.state
    case.host.hear(case.host.segment(SYN, 9000, sport=PEER_PORT + 1))
    case.host.hear(case.host.segment(ACK, 9001, ISS + 1, sport=PEER_PORT + 1))
    accepted = listener.accept()
    assert accepted is not None
    assert accepted.flow[3] == PEER_PORT + 1
    case.hear(SYN | ACK, IRS, ISS + 1)
    assert case.live.state == st.ESTABLISHED


@pytest.mark.rfc9293("MUST-43", "MUST-45")
@pytest.mark.parametrize("local", [(10, 0, 0, 1), (10, 0, 0, 9), (10, 1, 0, 1)])
def test_all_segments_come_from_the_address_of_the_first(local: tuple[int, ...]) -> None:
    address = bytes(local)
    stack = Stack(("10.0.0.1/24", "10.0.0.9/24", "10.1.0.1/24"), random=Random(1))
    sent: list[Segment] = []

    def took(packet: Packet, now_ns: int) -> None:
        segment = decode(packet)
        assert isinstance(segment, Segment)
        sent.append(segment)

    def hear(flags: int, seq: int, ack: int, text: bytes = b"") -> None:
        segment = Segment(PEER[4], 80, address, 4000, seq, ack, flags, 9999, (text,) if text else (), len(text))
        stack.on_packets([encode(segment)], START_NS)

    stack.send_packet = took
    connection = stack.connect(PEER[4], 80, START_NS, local=address, lport=4000)
    iss = sent[0].seq
    hear(SYN | ACK, IRS, iss + 1)
    stack.send(connection, b"text", START_NS)
    hear(ACK, IRS + 1, iss + 5, b"text")
    stack.on_timer(START_NS + SECOND)
    hear(RST, IRS + 7, iss + 5)  # earns a challenge
    stack.shutdown(connection, START_NS)
    stack.abort(connection, START_NS)
    hear(ACK, IRS + 5, iss + 5)  # after the end: earns a RST
    assert [s.flags for s in sent] == [SYN, ACK, PSH | ACK, ACK, ACK, FIN | ACK, RST, RST]
    assert {s.src for s in sent} == {address}


@pytest.mark.rfc9293("MUST-45")
def test_listener_on_all_addresses_answers_from_the_one_that_was_called() -> None:
    stack = Stack(("10.0.0.1/24", "10.0.0.9/24"), random=Random(1))
    sent: list[Packet] = []
    stack.send_packet = lambda packet, now_ns: sent.append(packet)
    stack.listen(80)
    stack.on_packets([encode(Segment(PEER[4], 5, bytes((10, 0, 0, 9)), 80, IRS, 0, SYN, 9999))], START_NS)
    assert [packet.data()[12:16] for packet in sent] == [bytes((10, 0, 0, 9))]


@pytest.mark.rfc9293("MUST-44")
def test_without_a_local_address_that_of_the_remotes_subnet_is_chosen_before_the_syn() -> None:
    stack = Stack(("10.0.0.1/24", "10.1.0.1/24", "10.2.0.1/24", "fd00::1/64"), random=Random(1))
    sent: list[Packet] = []
    stack.send_packet = lambda packet, now_ns: sent.append(packet)
    stack.connect(bytes((10, 1, 0, 2)), 80, START_NS)
    stack.connect(bytes((10, 2, 0, 2)), 80, START_NS)
    assert [packet.data()[12:16] for packet in sent] == [bytes((10, 1, 0, 1)), bytes((10, 2, 0, 1))]


@pytest.mark.rfc9293("MUST-60")
def test_text_that_no_acknowledgement_lets_go_is_not_kept_for_ever() -> None:
    host = Scripted()
    connection = host.established(wnd=1000)
    assert host.send(connection, bytes(3000))  # as much as the window takes
    host.hear(host.segment(ACK, IRS + 1, host.sent[-1].segment.seq + host.sent[-1].segment.payload_len, wnd=10))
    before = connection.unsent_bytes
    assert host.wait(SECOND) != []  # ten octets are a silly window, and yet
    assert connection.unsent_bytes < before


@pytest.mark.rfc9293("MUST-60", "MUST-61", "SHLD-27", "MAY-16")
def test_writes_behind_a_small_segment_are_gathered_into_the_largest_with_one_push() -> None:
    host = Scripted()
    connection = host.established()
    [first] = host.send(connection, b"first")
    assert first.flags == ACK | PSH
    full = [s for number in range(300) for s in host.send(connection, b"%03d" % number)]
    rest = host.hear(host.segment(ACK, IRS + 1, first.seq + 5))
    assert [(s.payload_len, s.flags) for s in (*full, *rest)] == [(536, ACK), (364, ACK | PSH)]
    assert b"".join(s.text() for s in (*full, *rest)) == b"".join(b"%03d" % number for number in range(300))


@pytest.mark.rfc9293("SHLD-28")
def test_text_in_plenty_leaves_in_segments_of_the_maximum_size() -> None:
    host = Scripted()
    connection = host.established()
    sent = [s for _ in range(40) for s in host.send(connection, bytes(100))]
    assert [shape(s)[3] for s in sent] == [100] + [536] * (len(sent) - 1)
    assert len(sent) == 8
