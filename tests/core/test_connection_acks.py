"""When we acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2), and what that does to a sender that uses Nagle's algorithm."""

from __future__ import annotations

import pytest

from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.readiness import READABLE
from tcpstack.core.segment import ACK, PSH, Options, Segment
from tests.network import App, Network, is_data, is_pure_ack
from tests.scripted import IRS, ISS, MS, SECOND, Scripted, shape

MSS = 1460
OPTIONS = Options(mss=MSS, wscale=4)


def established(config: Config | None = None) -> tuple[Scripted, Connection]:
    host = Scripted(config=config)
    return host, host.established(options=OPTIONS)


def text_at(host: Scripted, offset: int, size: int = MSS, flags: int = ACK) -> Segment:
    """`size` octets of the peer's text, from its octet number `offset` on."""
    return host.segment(flags, IRS + 1 + offset, ISS + 1, text=bytes(size))


def numbers(segments: list[Segment]) -> list[int]:
    """SEG.ACK of each, relative: how many octets of text it acknowledges."""
    assert all(s.flags == ACK and not s.payload_len for s in segments)
    return [s.ack - IRS - 1 for s in segments]


# ------------------------------------------------------------------ delayed


@pytest.mark.rfc9293("MUST-40", "SHLD-18")
def test_established_one_segment_is_acknowledged_after_40_ms() -> None:
    host, _ = established()
    assert host.hear(text_at(host, 0)) == []
    assert host.wait(40 * MS - 1) == []
    assert numbers(host.wait(1)) == [MSS]
    assert host.wait(10 * SECOND) == []


@pytest.mark.rfc9293("SHLD-19")
def test_established_second_full_segment_is_acknowledged_at_once() -> None:
    host, _ = established()
    for pair in range(3):
        assert host.hear(text_at(host, 2 * pair * MSS)) == []
        assert numbers(host.hear(text_at(host, (2 * pair + 1) * MSS))) == [(2 * pair + 2) * MSS]
    assert host.wait(10 * SECOND) == []


@pytest.mark.rfc9293("SHLD-19")
def test_established_second_full_segment_of_a_peer_with_a_shorter_link_is_acknowledged_at_once() -> None:
    host = Scripted()
    host.established(options=Options(mss=MSS - 100, wscale=4))
    assert host.hear(text_at(host, 0, MSS - 100)) == []
    assert numbers(host.hear(text_at(host, MSS - 100, MSS - 100))) == [2 * (MSS - 100)]


def test_established_peer_without_mss_option_has_full_segments_of_ours() -> None:
    """536 is what we may send it (MUST-15), not what it sends."""
    host = Scripted()
    host.established(options=Options())
    assert host.hear(text_at(host, 0, MSS)) == []
    assert numbers(host.hear(text_at(host, MSS, MSS))) == [2 * MSS]


def test_established_small_segments_are_acknowledged_once_in_40_ms_from_the_first() -> None:
    host, _ = established()
    for count in range(4):
        assert host.hear(text_at(host, count * 10, 10, ACK | PSH)) == []
        if count < 3:
            assert host.wait(10 * MS) == []
    assert numbers(host.wait(10 * MS)) == [40]


def test_established_delay_of_zero_acknowledges_in_the_same_instant() -> None:
    host, _ = established(Config(delayed_ack_ns=0))
    host.hear(text_at(host, 0, 1))
    assert numbers(host.wait(0)) == [1]


@pytest.mark.parametrize("delay_ns", [-1, 500 * MS, SECOND])
@pytest.mark.rfc9293("MUST-40")
def test_delay_of_half_a_second_or_more_is_refused(delay_ns: int) -> None:
    with pytest.raises(ValueError, match="delayed_ack_ns"):
        Config(delayed_ack_ns=delay_ns)


def test_established_our_text_carries_the_acknowledgement_that_was_delayed() -> None:
    host, connection = established()
    host.hear(text_at(host, 0, 10))
    [sent] = host.send(connection, b"answer")
    assert sent.ack == IRS + 11
    host.hear(host.segment(ACK, IRS + 11, ISS + 7))
    assert host.wait(10 * SECOND) == []


# ------------------------------------------------------------------ batches


@pytest.mark.rfc9293("MUST-58", "MUST-59")
@pytest.mark.parametrize("count", [2, 3, 10, 40])
def test_established_batch_of_text_in_order_earns_one_acknowledgement(count: int) -> None:
    host, _ = established()
    assert numbers(host.hear(*(text_at(host, n * MSS) for n in range(count)))) == [count * MSS]


def test_established_batch_of_text_and_an_answer_to_it_is_one_segment() -> None:
    host, connection = established()
    host.stack.notify = lambda conn, mask: mask & READABLE and host.stack.send(conn, b"answer", host.now_ns)
    [sent] = host.hear(*(text_at(host, n * MSS) for n in range(4)))
    assert (sent.text(), sent.ack) == (b"answer", IRS + 1 + 4 * MSS)
    assert connection.unsent_bytes == 0


def test_established_each_segment_above_a_gap_owes_its_own_duplicate() -> None:
    host, _ = established()
    for n in range(1, 4):
        assert numbers(host.hear(text_at(host, n * MSS))) == [0]


@pytest.mark.rfc9293("MAY-13")
@pytest.mark.parametrize("count", [3, 9])
def test_established_batch_above_a_gap_owes_as_many_duplicates_all_alike(count: int) -> None:
    host, _ = established()
    answers = host.hear(*(text_at(host, n * MSS) for n in range(1, count + 1)))
    assert numbers(answers) == [0] * count
    assert len({(s.seq, s.wnd) for s in answers}) == 1


def test_established_gap_filled_in_the_batch_duplicates_keep_the_number_of_their_arrival() -> None:
    """Renumbered, they would be duplicates of what acknowledges the gap's filling, and cause a retransmission."""
    host, _ = established()
    above = [text_at(host, n * MSS) for n in (1, 2, 3)]
    assert numbers(host.hear(*above, text_at(host, 0))) == [0, 0, 0, 4 * MSS]


def test_established_gap_filled_in_the_batch_the_right_edge_never_moves_left() -> None:
    host, _ = established()
    last = host.hear(text_at(host, 0), text_at(host, MSS))[-1]
    edge = last.ack + (last.wnd << 4)
    answers = host.hear(*(text_at(host, n * MSS) for n in (3, 4, 5)), text_at(host, 2 * MSS))
    assert numbers(answers) == [2 * MSS, 2 * MSS, 2 * MSS, 6 * MSS]
    for segment in answers:
        assert segment.ack + (segment.wnd << 4) >= edge
        edge = segment.ack + (segment.wnd << 4)


def test_established_gap_closed_in_part_in_the_batch_its_duplicates_are_duplicates_to_the_peer() -> None:
    """Same number, same window (RFC 5681 2), though text in order arrived behind them in the batch."""
    host, _ = established()
    before = host.hear(text_at(host, 0), text_at(host, MSS))[-1]
    answers = host.hear(*(text_at(host, n * MSS) for n in (4, 5, 6)), text_at(host, 2 * MSS))
    duplicates = [s for s in answers if s.ack == before.ack]
    assert len(duplicates) == 3
    assert {s.wnd for s in duplicates} == {before.wnd}


def test_established_text_that_fills_a_gap_is_acknowledged_at_once() -> None:
    host, _ = established()
    host.hear(text_at(host, 10, 10))
    assert numbers(host.hear(text_at(host, 0, 10))) == [20]
    assert numbers(host.hear(text_at(host, 40, 10))) == [20]
    assert numbers(host.hear(text_at(host, 30, 10))) == [20]
    assert numbers(host.hear(text_at(host, 20, 10))) == [50]


def test_established_text_in_order_then_above_a_gap_owes_no_delayed_ack_beside_the_duplicate() -> None:
    """The duplicate acknowledges what was delayed; the timer would send one more of it, a duplicate of nothing."""
    host, _ = established()
    assert host.hear(text_at(host, 0)) == []
    assert numbers(host.hear(text_at(host, 2 * MSS))) == [MSS]
    assert host.wait(SECOND) == []


def test_established_batch_of_two_in_order_and_three_above_a_gap_makes_three_duplicates_for_the_peer() -> None:
    host, _ = established()
    batch = [text_at(host, n * MSS) for n in (0, 1, 3, 4, 5)]
    assert numbers(host.hear(*batch)) == [2 * MSS] * 4  # one that is new to the peer, and three duplicates


def test_established_old_text_again_is_acknowledged_at_once() -> None:
    host, _ = established()
    host.hear(text_at(host, 0), text_at(host, MSS))
    assert numbers(host.hear(text_at(host, 0))) == [2 * MSS]
    assert numbers(host.hear(text_at(host, MSS), text_at(host, 0))) == [2 * MSS]


def test_established_segments_without_text_are_not_acknowledged() -> None:
    host, _ = established()
    ack = host.segment(ACK, IRS + 1, ISS + 1)
    assert host.hear(ack, ack, ack, ack) == []
    assert host.wait(10 * SECOND) == []


def test_established_acks_outside_the_window_are_answered_at_most_twice_a_second() -> None:
    host, _ = established()
    for _ in range(100):
        host.hear(host.segment(ACK, IRS - 100, ISS + 1))
        host.wait(20 * MS)
    assert [shape(s.segment) for s in host.sent] == [(ACK, ISS + 1, IRS + 1, 0)] * 4


@pytest.mark.rfc9293("MAY-12")
def test_established_ack_of_what_was_never_sent_is_challenged_and_its_text_dropped() -> None:
    host, connection = established()
    [answer] = host.hear(host.segment(ACK, IRS + 1, ISS + 2, text=b"forged"))
    assert shape(answer) == (ACK, ISS + 1, IRS + 1, 0)
    assert host.read(connection) == b""


# ------------------------------------------------------------------ PSH


@pytest.mark.rfc9293("MUST-60", "MUST-61")
def test_established_last_segment_of_what_is_queued_has_psh_and_no_other() -> None:
    host, connection = established()
    sent = host.send(connection, bytes(4 * MSS + 1))
    # Nagle's algorithm lets the small one go: no other small one is outstanding.
    assert [(s.payload_len, bool(s.flags & PSH)) for s in sent] == [(MSS, False)] * 4 + [(1, True)]


def test_established_text_without_psh_is_delivered_as_with_it() -> None:
    host, connection = established()
    host.hear(text_at(host, 0, 3, ACK))
    assert connection.readable_bytes == 3
    assert host.told


# ------------------------------------------------------------------ Nagle against delayed acknowledgements


def stream(net: Network, sizes: list[int], every_ns: int, nodelay: bool = False) -> int:
    """One end writes; returns how many ns after the last write the other has it all."""
    client, server = net.pair()
    client.connection.nodelay = nodelay
    net.run()
    for size in sizes:
        client.send(bytes(size))
        net.run(for_ns=every_ns)
    started = net.now_ns
    assert net.run(until=lambda: len(server.received) == sum(sizes), for_ns=60 * SECOND)
    return net.now_ns - started


@pytest.mark.rfc9293("SHLD-7")
@pytest.mark.parametrize("size", [1, 100, 1000, 1459, 1460, 1461, 2190, 2920, 5000])
@pytest.mark.parametrize("every_ns", [0, 200_000])
def test_established_stream_of_writes_never_stalls_40_ms_for_each(size: int, every_ns: int) -> None:
    """1,000 writes take what the path needs, whatever their size: not 40 s."""
    took = stream(Network(delay_ns=1 * MS), [size] * 1000, every_ns)
    assert took < 100 * MS


@pytest.mark.parametrize("size", [100, 2190])
def test_established_request_and_response_take_a_round_trip_each(size: int) -> None:
    net = Network(delay_ns=1 * MS)
    client, server = net.pair()
    net.run()
    def serve(app: App, mask: int) -> None:
        if mask & READABLE and len(app.received) % size == 0:
            app.send(b"response")

    server.on_event = serve
    started = net.now_ns
    for count in range(1, 101):
        client.send(bytes(size))
        assert net.run(until=lambda count=count: len(client.received) == 8 * count, for_ns=SECOND)
    assert net.now_ns - started == 100 * 2 * MS


@pytest.mark.rfc9293("SHLD-7")
def test_established_small_writes_coalesce_while_one_is_unacknowledged() -> None:
    host, connection = established()
    assert [s.text() for s in host.send(connection, b"one")] == [b"one"]
    assert host.send(connection, b"two") == []
    assert host.send(connection, b"three") == []
    [rest] = host.hear(host.segment(ACK, IRS + 1, ISS + 4))
    assert rest.text() == b"twothree"


def test_established_full_segments_do_not_wait_for_the_small_one_before_them() -> None:
    host, connection = established()
    host.send(connection, b"small")
    assert [s.payload_len for s in host.send(connection, bytes(2 * MSS + 7))] == [MSS, MSS]


@pytest.mark.rfc9293("MUST-17")
def test_established_nodelay_sends_each_write_at_once() -> None:
    host, connection = established()
    connection.nodelay = True
    for text in (b"one", b"two", b"three"):
        assert [s.text() for s in host.send(connection, text)] == [text]


def test_established_nodelay_switched_on_lets_go_what_waits_with_the_next_write() -> None:
    host, connection = established()
    host.send(connection, b"one")
    host.send(connection, b"two")
    connection.nodelay = True
    assert [s.text() for s in host.send(connection, b"three")] == [b"twothree"]


def test_established_config_without_nagle_starts_with_nodelay() -> None:
    _, connection = established(Config(nagle=False))
    assert connection.nodelay


def test_network_nodelay_stream_sends_a_segment_for_each_write() -> None:
    net = Network(delay_ns=1 * MS)
    stream(net, [10] * 50, 100_000, nodelay=True)
    assert len(net.sent(net.a, is_data)) == 50
    assert len(net.sent(net.b, is_pure_ack)) <= 3
