"""RST, in and out, in every state (RFC 9293 3.5.2, 3.5.3, 3.10.5, 3.10.7; RFC 5961 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.readiness import CLOSED, RESET
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Segment
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet
from tests.network import Network, is_data, is_rst, sent_by
from tests.scripted import IRS, ISS, MS, SECOND, Scripted, shape

TEXT = b"outstanding"


def syn_sent(host: Scripted) -> Connection:
    return host.connect()


def syn_received(host: Scripted) -> Connection:
    connection = host.connect()
    host.hear(host.segment(SYN, IRS))
    return connection


def established(host: Scripted) -> Connection:
    connection = host.established()
    host.send(connection, TEXT)
    return connection


def fin_wait_1(host: Scripted) -> Connection:
    connection = established(host)
    host.stack.shutdown(connection, host.now_ns)
    return connection


def fin_wait_2(host: Scripted) -> Connection:
    connection = fin_wait_1(host)
    host.hear(host.segment(ACK, IRS + 1, ISS + 2 + len(TEXT)))
    return connection


def close_wait(host: Scripted) -> Connection:
    connection = established(host)
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1))
    return connection


def closing(host: Scripted) -> Connection:
    connection = fin_wait_1(host)
    host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1))
    return connection


def last_ack(host: Scripted) -> Connection:
    connection = close_wait(host)
    host.stack.shutdown(connection, host.now_ns)
    return connection


Make = Callable[[Scripted], Connection]
SYNCHRONIZED: dict[str, tuple[Make, int, int]] = {  # how, RCV.NXT, SND.NXT
    "SYN-RECEIVED": (syn_received, IRS + 1, ISS + 1),
    "ESTABLISHED": (established, IRS + 1, ISS + 1 + len(TEXT)),
    "FIN-WAIT-1": (fin_wait_1, IRS + 1, ISS + 2 + len(TEXT)),
    "FIN-WAIT-2": (fin_wait_2, IRS + 1, ISS + 2 + len(TEXT)),
    "CLOSE-WAIT": (close_wait, IRS + 2, ISS + 1 + len(TEXT)),
    "CLOSING": (closing, IRS + 2, ISS + 2 + len(TEXT)),
    "LAST-ACK": (last_ack, IRS + 2, ISS + 2 + len(TEXT)),
}
synchronized = pytest.mark.parametrize("state", SYNCHRONIZED)
ERRORS = {
    "SYN-RECEIVED": ConnectionRefusedError,
    "ESTABLISHED": ConnectionResetError,
    "FIN-WAIT-1": ConnectionResetError,
    "FIN-WAIT-2": ConnectionResetError,
    "CLOSE-WAIT": ConnectionResetError,
    "CLOSING": type(None),
    "LAST-ACK": type(None),
}


def in_state(state: str, config: Config | None = None) -> tuple[Scripted, Connection, int, int]:
    make, rcv_nxt, snd_nxt = SYNCHRONIZED[state]
    host = Scripted(config=config)
    connection = make(host)
    assert st.STATE_NAMES[connection.state] == state
    host.sent.clear()
    host.told.clear()
    return host, connection, rcv_nxt, snd_nxt


# ------------------------------------------------------------------ in


@synchronized
@pytest.mark.parametrize("extra", [0, ACK, ACK | PSH, FIN, SYN | ACK])
def test_each_state_reset_at_rcv_nxt_closes_with_the_error_that_the_state_gives(state: str, extra: int) -> None:
    """No timestamps, no options, and no good ACK needed: the sequence number is what counts."""
    host, connection, rcv_nxt, _ = in_state(state)
    assert host.hear(host.segment(RST | extra, rcv_nxt, 77)) == []
    assert connection.state == st.CLOSED
    assert type(connection.error) is ERRORS[state]
    assert host.masks(connection) == CLOSED | (RESET if connection.error else 0)
    assert host.wait(1000 * SECOND) == []
    assert (host.stack.connections, host.stack.deadline_ns) == ((), None)


@synchronized
def test_each_state_reset_in_the_window_but_not_at_rcv_nxt_earns_one_challenge(state: str) -> None:
    host, connection, rcv_nxt, snd_nxt = in_state(state)
    before = connection.state
    rst = host.segment(RST, rcv_nxt + 10)
    assert [shape(s) for s in host.hear(rst, rst, rst)] == [(ACK, snd_nxt, rcv_nxt, 0)]
    assert connection.state == before
    host.now_ns += 499 * MS
    assert host.hear(rst) == []
    host.now_ns += 1 * MS
    assert len(host.hear(rst)) == 1


@synchronized
@pytest.mark.parametrize("offset", [-1, -1000, 600_000, 1 << 31])
def test_each_state_reset_outside_the_window_is_dropped(state: str, offset: int) -> None:
    host, connection, rcv_nxt, _ = in_state(state)
    before = connection.state
    assert host.hear(host.segment(RST, rcv_nxt + offset)) == []
    assert host.hear(host.segment(RST | ACK, rcv_nxt + offset, ISS + 1)) == []
    assert connection.state == before


@pytest.mark.rfc9293("SHLD-2")
def test_established_reset_with_text_counts_and_its_text_does_not() -> None:
    host, connection, rcv_nxt, _ = in_state("ESTABLISHED")
    host.hear(host.segment(RST, rcv_nxt, text=b"why I hang up"))
    assert isinstance(connection.error, ConnectionResetError)
    assert host.read(connection) == b""


def test_established_reset_left_of_the_window_whose_text_reaches_in_is_dropped() -> None:
    host, connection, rcv_nxt, _ = in_state("ESTABLISHED")
    assert host.hear(host.segment(RST, rcv_nxt - 2, text=b"long enough")) == []
    assert connection.state == st.ESTABLISHED


@pytest.mark.rfc9293("MUST-66")
@pytest.mark.parametrize("text", [b"", b"with text"])
def test_established_zero_window_reset_at_rcv_nxt_counts(text: bytes) -> None:
    host = Scripted(config=Config(receive_buffer_bytes=1000))
    connection = host.established()
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=bytes(1000)))
    host.wait(40 * MS)
    assert host.sent[-1].segment.wnd == 0
    host.hear(host.segment(RST, IRS + 1001, text=text))
    assert isinstance(connection.error, ConnectionResetError)
    assert len(host.read(connection)) == 1000


def test_syn_received_passive_reset_goes_back_to_listen_and_tells_nobody() -> None:
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS))
    assert host.hear(host.segment(RST, IRS + 1)) == []
    assert (host.stack.syn_records, listener.records, listener.accept()) == (0, 0, None)
    assert len(host.hear(host.segment(SYN, IRS + 9))) == 1


def test_established_reset_lets_go_of_all_that_can_never_be_read_or_sent() -> None:
    host, connection, rcv_nxt, _ = in_state("ESTABLISHED")
    host.hear(host.segment(ACK, rcv_nxt + 100, ISS + 1, text=b"above a gap"))
    assert connection.status()["out_of_order_bytes"] == 11
    host.hear(host.segment(RST, rcv_nxt))
    assert connection.status()["out_of_order_bytes"] == 0
    assert not connection._sender.buffer._chunks


def test_established_user_calls_after_a_reset_say_so() -> None:
    host, connection, rcv_nxt, _ = in_state("ESTABLISHED")
    host.hear(host.segment(RST, rcv_nxt))
    with pytest.raises(ConnectionResetError):
        host.send(connection, b"x")
    host.stack.shutdown(connection, host.now_ns)
    host.stack.close(connection, host.now_ns)
    host.stack.abort(connection, host.now_ns)
    assert host.read(connection) == b""
    assert host.sent == []


# ------------------------------------------------------------------ SYN in a synchronized state


@synchronized
@pytest.mark.parametrize("extra", [0, ACK, FIN])
@pytest.mark.parametrize("offset", [-1000, -1, 0, 10, 600_000])
def test_each_state_syn_earns_one_challenge_wherever_it_lies(state: str, extra: int, offset: int) -> None:
    if state == "SYN-RECEIVED" and (extra, offset) == (ACK, -1):
        return  # the SYN,ACK of a simultaneous open
    host, connection, rcv_nxt, snd_nxt = in_state(state)
    before = connection.state
    syn = host.segment(SYN | extra, rcv_nxt + offset, ISS + 1)
    assert [shape(s) for s in host.hear(syn)] == [(ACK, snd_nxt, rcv_nxt, 0)]
    assert connection.state == before
    if not extra & FIN:
        assert host.hear(syn) == []


# ------------------------------------------------------------------ out


@synchronized
def test_each_state_abort_sends_a_reset_where_3_10_5_says_so(state: str) -> None:
    host, connection, _, snd_nxt = in_state(state)
    host.stack.abort(connection, host.now_ns)
    expected = [] if state in ("CLOSING", "LAST-ACK") else [(RST, snd_nxt, 0, 0)]
    assert [shape(s.segment) for s in host.sent] == expected
    assert connection.state == st.CLOSED
    assert connection.error is None
    assert host.stack.connections == ()
    host.sent.clear()
    assert host.wait(1000 * SECOND) == []


def test_syn_sent_abort_is_silent() -> None:
    host = Scripted()
    connection = syn_sent(host)
    host.sent.clear()
    host.stack.abort(connection, host.now_ns)
    assert host.wait(1000 * SECOND) == []
    assert connection.state == st.CLOSED


@pytest.mark.parametrize("first", ["CLOSE-WAIT", "FIN-WAIT-1"])
def test_abort_while_the_fin_still_waits_behind_text_sends_a_reset(first: str) -> None:
    """LAST-ACK and CLOSING by name, but the peer has seen no FIN: silence would leave it waiting for ever."""
    host = Scripted()
    connection = host.established(wnd=100)
    if first == "CLOSE-WAIT":
        host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1, wnd=100))
    host.send(connection, bytes(500))
    host.stack.shutdown(connection, host.now_ns)
    if first == "FIN-WAIT-1":
        host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1, wnd=100))
    assert connection.state == (st.LAST_ACK if first == "CLOSE-WAIT" else st.CLOSING)
    host.sent.clear()
    host.stack.abort(connection, host.now_ns)
    assert [s.segment.flags for s in host.sent] == [RST]


def test_abort_with_a_probe_outstanding_resets_within_the_peers_window() -> None:
    """The probe octet has moved SND.NXT past the closed window: a RST there would be dropped by the peer."""
    host = Scripted()
    connection = host.established(wnd=0)
    host.send(connection, b"unwanted")
    host.wait(2 * SECOND)
    assert host.sent[-1].segment.payload_len == 1
    host.sent.clear()
    host.stack.abort(connection, host.now_ns)
    assert [shape(s.segment) for s in host.sent] == [(RST, ISS + 1, 0, 0)]


def test_network_abort_while_the_peers_window_is_closed_is_heard() -> None:
    net = Network(config=Config(receive_buffer_bytes=4000))
    client, server = net.pair(reading=False)
    client.send(bytes(10_000))
    net.run(for_ns=5 * SECOND)
    assert client.connection.status()["snd_wnd"] == 0
    client.abort()
    net.run(for_ns=SECOND)
    assert isinstance(server.connection.error, ConnectionResetError)


def test_network_abort_with_text_in_flight_and_lost_is_heard() -> None:
    """The RST lies beyond what the peer has: it is challenged, and the answer to the challenge resets."""
    net = Network()
    client, server = net.pair()
    net.run()
    net.drop(sent_by(net.a, is_data))
    client.send(bytes(5000))
    client.abort()
    net.run(for_ns=SECOND)
    assert isinstance(server.connection.error, ConnectionResetError)


@pytest.mark.parametrize(
    ("flags", "seq", "ack", "text", "answer"),
    [
        (SYN, 100, 0, b"", (RST | ACK, 0, 101, 0)),
        (SYN | FIN, 100, 0, b"abc", (RST | ACK, 0, 105, 0)),
        (0, 100, 0, b"abc", (RST | ACK, 0, 103, 0)),
        (FIN, (1 << 32) - 1, 0, b"", (RST | ACK, 0, 0, 0)),
        (ACK, 100, 55, b"", (RST, 55, 0, 0)),
        (SYN | ACK, 100, 55, b"", (RST, 55, 0, 0)),
        (ACK | FIN, 100, 55, b"abc", (RST, 55, 0, 0)),
    ],
)
def test_closed_each_segment_but_a_reset_earns_a_reset(
    flags: int, seq: int, ack: int, text: bytes, answer: tuple[int, int, int, int]
) -> None:
    host = Scripted()
    assert [shape(s) for s in host.hear(host.segment(flags, seq, ack, text=text))] == [answer]
    assert host.hear(host.segment(flags | RST, seq, ack, text=text)) == []


def test_two_hosts_out_of_step_do_not_answer_each_other_for_ever() -> None:
    """Both believe in a connection, with numbers that the other finds unacceptable."""
    net = Network(delay_ns=1 * MS)
    client, _ = net.pair()
    net.run()
    client.connection._sender.iss += 1_000_000
    client.connection._sender.una += 1_000_000
    client.connection._sender.nxt += 1_000_000
    client.connection._receiver.nxt += 9_000_000
    client.connection._receiver.edge += 9_000_000
    since = len(net.crossings)
    client.connection._acks.owe("a first one, out of step")
    net.a._touch(client.connection, net.now_ns)
    net.run(for_ns=60 * SECOND)
    assert len(net.crossings) - since <= 3


@pytest.mark.parametrize("seed", range(5))
def test_random_segments_never_raise_never_loop_and_are_answered_by_at_most_one_each(seed: int) -> None:
    """Amplification: what a stranger sends earns at most as many segments back; and no data leaves because of it."""
    net = Network(seed=seed)
    client, server = net.pair()
    net.run()
    rng = net.random
    template = client.connection.flow
    for _ in range(400):
        since = len(net.crossings)
        seq, ack = rng.getrandbits(32), rng.getrandbits(32)
        segment = Segment(
            template[0], template[1], template[2], template[3], seq, ack, rng.getrandbits(8), rng.getrandbits(16),
            (bytes(9),) if rng.random() < 0.5 else (), 0,
        )  # fmt: skip
        segment.payload_len = sum(map(len, segment.payload))
        inject(net, segment)
        answers = net.sent(net.b, since=since)
        assert len(answers) <= 1
        assert not [c for c in answers if is_data(c)]
    net.run(for_ns=SECOND)
    client.send(b"still here")
    if server.connection.state == st.ESTABLISHED:
        net.run(until=lambda: bytes(server.received).endswith(b"still here"), for_ns=SECOND)
    assert not [c for c in net.crossings if is_rst(c) and c.segment.flags & SYN]


def inject(net: Network, segment: Segment) -> None:
    """b hears a segment that nobody sent."""
    net.b.on_packets([Packet((encode(segment).data(),))], net.now_ns)
