"""A turn: batches, the quantum that keeps one flow from starving others, who is told what and when, the trace."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.events import ConnectionClosed, SegmentIn, SegmentOut, StateChange
from tcpstack.core.readiness import CLOSED, CONNECTED, EOF, READABLE, RESET, WRITABLE
from tcpstack.core.segment import ACK, FIN, RST, SYN, Options
from tcpstack.stack.turns import QUANTUM_BYTES, ROUNDS
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet
from tests.network import MS, SECOND, Network, is_data, sent_by
from tests.scripted import IRS, ISS, Scripted

MSS = 1460
WIDE = Options(mss=MSS, wscale=10)


def opened_wide(host: Scripted, port: int) -> Connection:
    """An established connection whose congestion and send windows are several quanta wide."""
    host.port = port
    connection = host.established(options=WIDE)
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=65535))
    connection._sender.congestion.cwnd_bytes = 64 * QUANTUM_BYTES
    return connection


# ------------------------------------------------------------------ fairness


def test_user_call_sends_at_most_a_quantum_and_the_rest_is_due_at_once() -> None:
    host = Scripted(config=Config(send_buffer_bytes=1 << 30))
    connection = opened_wide(host, 80)
    sent = host.send(connection, bytes(10 * QUANTUM_BYTES))
    assert QUANTUM_BYTES <= sum(s.payload_len for s in sent) < QUANTUM_BYTES + MSS
    assert host.stack.deadline_ns == 0
    host.wait(0)
    assert sum(s.segment.payload_len for s in host.sent) == 10 * QUANTUM_BYTES


def test_turn_with_a_bulk_flow_serves_the_others_before_its_second_quantum() -> None:
    host = Scripted(config=Config(send_buffer_bytes=1 << 30))
    bulk, small = opened_wide(host, 80), opened_wide(host, 81)
    host.send(bulk, bytes(50 * QUANTUM_BYTES))
    host.sent.clear()
    # The small one has something to say in the turn in which the bulk flow goes on.
    host.port = 81
    host.stack._busy = True
    host.send(small, b"me too")
    host.stack._busy = False
    host.stack.on_timer(host.now_ns)
    order = [s.segment.sport for s in host.sent]
    before = sum(s.segment.payload_len for s in host.sent[: order.index(81)])
    assert before <= QUANTUM_BYTES + MSS
    assert sum(s.segment.payload_len for s in host.sent) <= (ROUNDS + 1) * (QUANTUM_BYTES + MSS)


def test_network_bulk_flow_does_not_delay_the_answers_of_another() -> None:
    net = Network(delay_ns=1 * MS, config=Config(receive_buffer_bytes=512 * 1024))
    client, server = net.pair()
    other, echo = net.pair(81)
    echo.on_event = lambda app, mask: app.send(b"pong") if mask & READABLE else None
    client.send(bytes(20_000_000))
    net.run(until=lambda: len(server.received) > 1_000_000)
    for _ in range(20):
        started = net.now_ns
        count = len(other.received)
        other.send(b"ping")
        assert net.run(until=lambda count=count: len(other.received) == count + 4)
        assert net.now_ns - started == 2 * MS
    assert len(server.received) < 20_000_000


# ------------------------------------------------------------------ who is told what


def test_batch_tells_each_user_once_with_all_of_it() -> None:
    host = Scripted()
    connection = host.established()
    host.hear(
        host.segment(ACK, IRS + 1, ISS + 1, text=b"a"),
        host.segment(ACK, IRS + 2, ISS + 1, text=b"b"),
        host.segment(ACK | FIN, IRS + 3, ISS + 1),
    )
    assert host.told == [(connection, READABLE | EOF)]


def test_batch_that_connects_delivers_and_resets_tells_it_all() -> None:
    host = Scripted()
    connection = host.connect()
    host.hear(
        host.segment(SYN | ACK, IRS, ISS + 1),
        host.segment(ACK, IRS + 1, ISS + 1, text=b"brief"),
        host.segment(RST, IRS + 6),
    )
    assert host.told == [(connection, CONNECTED | READABLE | RESET | CLOSED)]
    assert host.read(connection) == b"brief"
    assert host.sent[-1].segment.flags == SYN


def test_user_call_never_tells_anybody() -> None:
    host = Scripted()
    connection = host.established()
    host.send(connection, b"x" * 100_000)
    host.read(connection)
    host.stack.abort(connection, host.now_ns)
    assert host.told == []


def test_call_from_inside_a_notification_is_sent_at_the_end_of_the_turn_joined_with_the_ack() -> None:
    host = Scripted()
    connection = host.established()
    sent_within: list[int] = []

    def notify(conn: Connection, mask: int) -> None:
        if mask & READABLE:
            text = host.read(conn)
            host.stack.send(conn, text, host.now_ns)
            sent_within.append(len(host.sent))

    host.stack.notify = notify
    answers = host.hear(host.segment(ACK, IRS + 1, ISS + 1, text=b"echo"))
    assert sent_within == [0]
    assert [s.text() for s in answers] == [b"echo"]
    assert answers[0].ack == IRS + 5
    assert connection.state == st.ESTABLISHED


def test_call_from_outside_is_sent_before_it_returns() -> None:
    host = Scripted()
    connection = host.established()
    assert len(host.send(connection, b"now")) == 1


def test_writable_is_told_when_queued_octets_leave_in_a_turn() -> None:
    host = Scripted()
    connection = host.established(wnd=1000, options=Options(mss=MSS))
    host.send(connection, bytes(3000))
    assert connection.unsent_bytes == 2000
    host.hear(host.segment(ACK, IRS + 1, ISS + 1001, wnd=1000))
    assert host.told == [(connection, WRITABLE)]
    assert connection.unsent_bytes == 1000


def test_notification_that_closes_another_connection_of_the_batch_is_safe() -> None:
    host = Scripted()
    host.port = 80
    one = host.established()
    host.port = 81
    two = host.established()
    told: list[Connection] = []

    def notify(connection: Connection, mask: int) -> None:
        told.append(connection)
        host.stack.abort(two if connection is one else one, host.now_ns)

    host.stack.notify = notify
    segments = []
    for port in (80, 81):
        host.port = port
        segments.append(host.segment(ACK, IRS + 1, ISS + 1, text=b"x"))
    host.hear(*segments)
    assert told == [one, two]
    assert host.stack.connections == ()


def test_segments_behind_a_reset_in_one_batch_meet_no_connection() -> None:
    host = Scripted()
    host.established()
    answers = host.hear(host.segment(RST, IRS + 1), host.segment(ACK, IRS + 1, ISS + 1, text=b"late"))
    assert [(s.flags, s.seq) for s in answers] == [(RST, ISS + 1)]


def test_connection_reset_and_opened_anew_in_one_batch_is_the_new_one() -> None:
    host = Scripted()
    listener = host.listen()
    host.hear(host.segment(SYN, IRS))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    old = listener.accept()
    host.hear(
        host.segment(RST, IRS + 1),
        host.segment(SYN, 70_000),
        host.segment(ACK, 70_001, ISS + 1, text=b"new"),
    )
    new = listener.accept()
    assert new is not None
    assert new is not old
    assert host.stack.connections == (new,)
    assert host.read(new) == b"new"
    host.wait(1 * SECOND)
    assert new.state == st.ESTABLISHED


def test_fin_repeated_in_the_batch_of_the_first_is_acknowledged() -> None:
    host = Scripted()
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    fin = host.segment(FIN | ACK, IRS + 1, ISS + 2)
    assert {s.ack for s in host.hear(fin, fin, fin)} == {IRS + 2}
    assert host.stack.time_waits == 1


def test_garbage_is_counted_and_the_rest_of_the_batch_is_served() -> None:
    host = Scripted()
    connection = host.established()
    good = host.segment(ACK, IRS + 1, ISS + 1, text=b"good")
    packets = [Packet((data,)) for data in (b"", b"\0", b"\x45" + bytes(19), b"\x60" + bytes(39), bytes(1500))]
    broken = bytearray(encode(good).data())
    broken[-1] ^= 1
    host.hear_packets(*packets, Packet((bytes(broken),)), encode(good))
    assert host.read(connection) == b"good"
    assert sum(host.stack.counters.values()) == 6
    assert host.stack.counters["tcp_bad_checksum"] == 1


# ------------------------------------------------------------------ time


@pytest.mark.parametrize("early_ns", [1, 1 * MS])
def test_timer_called_early_does_nothing(early_ns: int) -> None:
    host = Scripted()
    connection = host.established()
    host.send(connection, b"x")
    host.sent.clear()
    deadline_ns = host.stack.deadline_ns
    assert deadline_ns is not None
    for _ in range(5):
        host.stack.on_timer(deadline_ns - early_ns)
    assert host.sent == []
    assert host.stack.deadline_ns == deadline_ns


def test_timer_called_late_does_each_thing_once() -> None:
    host = Scripted()
    connection = host.established()
    host.send(connection, b"x")
    host.sent.clear()
    host.now_ns += 3 * SECOND
    host.stack.on_timer(host.now_ns)
    assert len(host.sent) == 1
    assert host.stack.deadline_ns is not None
    assert host.stack.deadline_ns > host.now_ns


def test_heap_of_deadlines_stays_small_over_a_long_transfer() -> None:
    net = Network(delay_ns=1 * MS)
    net.max_batch = 1
    client, server = net.pair()
    client.send(bytes(5_000_000))
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(net.a._deadlines._heap), len(net.b._deadlines._heap))
        return len(server.received) == 5_000_000

    assert net.run(until=done)
    assert most < 50


# ------------------------------------------------------------------ the trace


def test_trace_shows_each_segment_with_the_states_around_it_and_a_reason() -> None:
    net = Network()
    client, server = net.pair()
    client.send(b"question")
    client.shutdown()
    net.run(until=lambda: server.eof)
    server.send(b"answer")
    server.shutdown()
    net.run()
    for name, local in (("a", "a"), ("b", "b")):
        state = st.CLOSED if name == "a" else st.LISTEN
        outs = [c for c in net.crossings if c.sender == local]
        seen = 0
        for event in net.events[name]:
            if isinstance(event, StateChange):
                assert event.before == state
                state = event.after
            elif isinstance(event, SegmentIn):
                assert event.after == state
                assert event.segment.reason == ""
            elif isinstance(event, SegmentOut):
                assert event.state == state
                assert event.segment.reason
                assert event.segment.packet_id > 0
                assert (event.segment.seq, event.segment.flags) == (outs[seen].segment.seq, outs[seen].segment.flags)
                seen += 1
        assert seen == len(outs)
        assert state == st.CLOSED
    befores = [(e.before, e.after) for e in net.events["b"] if isinstance(e, SegmentIn)]
    assert befores[:2] == [(st.LISTEN, st.SYN_RECEIVED), (st.SYN_RECEIVED, st.ESTABLISHED)]


def test_trace_counts_what_a_connection_carried_when_it_is_closed() -> None:
    net = Network()
    net.drop(sent_by(net.a, is_data), times=1)
    client, server = net.pair()
    client.send(bytes(1000))
    server.send(bytes(77))
    client.shutdown()
    net.run(until=lambda: server.eof)
    server.shutdown()
    net.run()
    [mine] = [e for e in net.events["a"] if isinstance(e, ConnectionClosed)]
    [theirs] = [e for e in net.events["b"] if isinstance(e, ConnectionClosed)]
    assert (mine.bytes_in, mine.bytes_out, mine.retransmitted, mine.error) == (77, 1000, 1, None)
    assert (theirs.bytes_in, theirs.bytes_out, theirs.retransmitted, theirs.error) == (1000, 77, 0, None)
    assert mine.opened_ns == net.crossings[0].time_ns


@pytest.mark.parametrize("kind", ["none", "loss"])
def test_each_segment_that_leaves_gives_a_reason_that_fits(kind: str) -> None:
    net = Network(seed=3)
    if kind == "loss":
        net.drop(net.chance(0.05))
    client, server = net.pair()
    client.send(bytes(300_000))
    server.send(bytes(300_000))
    net.run()
    client.close()
    server.close()
    net.run()
    highest: dict[str, int] = {}
    for crossing in net.crossings:
        if is_data(crossing):
            end = crossing.segment.seq + crossing.segment.payload_len
            new = end > highest.get(crossing.sender, 0)
            assert crossing.reason.startswith("data" if new else "retransmission: ")
            highest[crossing.sender] = max(end, highest.get(crossing.sender, 0))
    first = {crossing.reason for crossing in net.crossings}
    assert any("data" in reason for reason in first)
    assert any(reason.startswith("retransmission: ") for reason in first) == (kind == "loss")
