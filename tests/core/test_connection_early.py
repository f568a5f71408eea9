"""What comes early: text and FIN with a SYN, and user calls before the handshake is done."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.readiness import CONNECTED, EOF, READABLE
from tcpstack.core.segment import ACK, FIN, RST, SYN, Options
from tests.network import Network, is_syn, is_syn_ack
from tests.scripted import IRS, ISS, SECOND, Scripted, shape

SCALED = Options(mss=1460, wscale=7)


@pytest.mark.rfc9293("MUST-14")
@pytest.mark.parametrize("version", [4, 6])
def test_closed_active_open_sends_syn_then_syn_ack_earns_the_ack(version: int) -> None:
    host = Scripted(version=version)
    connection = host.connect()
    [syn] = host.since(0)
    assert shape(syn) == (SYN, ISS, 0, 0)
    assert syn.options is not None
    assert syn.options.timestamps is not None
    assert syn.options == Options(1460 if version == 4 else 1440, 8, True, (syn.options.timestamps[0], 0))
    assert connection.state == st.SYN_SENT
    [ack] = host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    assert shape(ack) == (ACK, ISS + 1, IRS + 1, 0)
    assert ack.options is None
    assert connection.state == st.ESTABLISHED
    assert host.masks(connection) == CONNECTED


@pytest.mark.parametrize("version", [4, 6])
def test_listen_syn_earns_syn_ack_then_ack_establishes(version: int) -> None:
    host = Scripted(version=version)
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=SCALED))
    assert shape(syn_ack) == (SYN | ACK, ISS, IRS + 1, 0)
    assert syn_ack.options == Options(mss=1460 if version == 4 else 1440, wscale=8)
    assert (host.stack.syn_records, host.stack.connections) == (1, ())
    assert host.hear(host.segment(ACK, IRS + 1, ISS + 1)) == []
    connection = listener.accept()
    assert connection is not None
    assert connection.state == st.ESTABLISHED
    assert (host.stack.syn_records, host.stack.connections) == (0, (connection,))


def test_listen_ack_with_text_and_fin_establishes_delivers_and_closes() -> None:
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS))
    [ack] = host.hear(host.segment(ACK | FIN, IRS + 1, ISS + 1, text=b"all at once"))
    assert shape(ack) == (ACK, ISS + 1, IRS + 13, 0)
    connection = listener.accept()
    assert connection is not None
    assert connection.state == st.CLOSE_WAIT
    assert connection.eof_received
    assert host.read(connection) == b"all at once"


# ------------------------------------------------------------------ text and FIN with a SYN


def test_listen_syn_with_text_acknowledges_the_syn_and_takes_the_text_when_it_comes_again() -> None:
    host = Scripted()
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, text=b"early"))
    assert syn_ack.ack == IRS + 1
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"early"))
    connection = listener.accept()
    assert connection is not None
    assert host.read(connection) == b"early"


def test_syn_received_passive_syn_with_text_repeated_earns_syn_ack_and_keeps_the_record() -> None:
    """Its text reaches into the window. The SYN does not: it must not send the record back to LISTEN."""
    host = Scripted()
    listener = host.listen()
    syn = host.segment(SYN, IRS, text=b"early")
    host.hear(syn)
    [again] = host.hear(syn)
    assert shape(again) == (SYN | ACK, ISS, IRS + 1, 0)
    assert host.hear(host.segment(ACK, IRS + 1, ISS + 1)) == []
    assert listener.accept() is not None


def test_listen_syn_with_fin_opens_and_the_fin_counts_when_it_comes_again() -> None:
    host = Scripted()
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN | FIN, IRS))
    assert shape(syn_ack) == (SYN | ACK, ISS, IRS + 1, 0)
    [again] = host.hear(host.segment(SYN | FIN, IRS))
    assert shape(again) == (SYN | ACK, ISS, IRS + 1, 0)
    [ack] = host.hear(host.segment(ACK | FIN, IRS + 1, ISS + 1))
    assert ack.ack == IRS + 2
    connection = listener.accept()
    assert connection is not None
    assert connection.state == st.CLOSE_WAIT


def test_syn_sent_syn_ack_with_text_and_fin_is_taken_whole() -> None:
    host = Scripted()
    connection = host.connect()
    [ack] = host.hear(host.segment(SYN | ACK | FIN, IRS, ISS + 1, text=b"hello"))
    assert shape(ack) == (ACK, ISS + 1, IRS + 7, 0)
    assert connection.state == st.CLOSE_WAIT
    assert host.masks(connection) == CONNECTED | READABLE | EOF
    assert host.read(connection) == b"hello"


# ------------------------------------------------------------------ the user, before the handshake is done


def test_syn_sent_send_is_queued_and_leaves_with_the_ack() -> None:
    host = Scripted()
    connection = host.connect()
    assert host.send(connection, b"early") == []
    assert connection.unsent_bytes == 5
    [first] = host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    assert first.text() == b"early"
    assert (first.seq, first.ack) == (ISS + 1, IRS + 1)


def test_syn_sent_close_deletes_silently_and_a_late_syn_ack_is_reset() -> None:
    host = Scripted()
    connection = host.connect()
    host.sent.clear()
    host.stack.close(connection, host.now_ns)
    assert connection.state == st.CLOSED
    assert host.stack.connections == ()
    [rst] = host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    assert shape(rst) == (RST, ISS + 1, 0, 0)
    host.wait(200 * SECOND)
    assert len(host.sent) == 1


def test_syn_received_active_close_enters_fin_wait_1_and_the_fin_follows_the_ack_of_our_syn() -> None:
    host = Scripted()
    connection = host.connect()
    host.hear(host.segment(SYN, IRS))
    host.stack.shutdown(connection, host.now_ns)
    assert connection.state == st.FIN_WAIT_1
    [fin] = host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    assert shape(fin) == (FIN | ACK, ISS + 1, IRS + 1, 0)
    host.hear(host.segment(ACK, IRS + 1, ISS + 2))
    assert connection.state == st.FIN_WAIT_2


def test_fin_wait_1_whose_syn_is_unacknowledged_repeats_syn_ack() -> None:
    host = Scripted()
    connection = host.connect()
    host.hear(host.segment(SYN, IRS))
    host.stack.shutdown(connection, host.now_ns)
    host.sent.clear()
    host.wait(1 * SECOND)
    assert [shape(s.segment) for s in host.sent] == [(SYN | ACK, ISS, IRS + 1, 0)]
    assert host.hear(host.segment(ACK, IRS + 1, ISS + 9))[0].flags == RST
    assert connection.state == st.FIN_WAIT_1


def test_syn_received_active_close_with_text_queued_sends_text_then_fin() -> None:
    host = Scripted()
    connection = host.connect()
    host.send(connection, b"last words")
    host.hear(host.segment(SYN, IRS))
    host.stack.shutdown(connection, host.now_ns)
    assert connection.state == st.SYN_RECEIVED  # 3.10.4: queue for processing after entering ESTABLISHED
    with pytest.raises(BrokenPipeError):
        connection.send(b"more")
    [text] = host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    assert (text.text(), text.flags & FIN) == (b"last words", FIN)
    assert connection.state == st.FIN_WAIT_1


def test_open_connection_opened_again_raises() -> None:
    host = Scripted()
    connection = host.connect()
    with pytest.raises(OSError, match="already exists"):
        connection.open(host.now_ns)


def test_lost_segments_of_the_handshake_each_once_only_delay_it() -> None:
    for match in (is_syn, is_syn_ack, lambda c: c.segment.flags == ACK):
        net = Network()
        net.drop(match, times=1)
        client, server = net.pair()
        client.send(b"in")
        assert net.run(until=lambda server=server: bytes(server.received) == b"in", for_ns=5 * SECOND)
