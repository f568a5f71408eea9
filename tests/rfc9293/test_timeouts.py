"""RFC 9293 3.10.8 and 3.8.3: what happens when time passes."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.events import ExcessiveRetransmission, RetransmissionTimeout
from tcpstack.core.readiness import CLOSED, RESET
from tcpstack.core.segment import ACK, SYN
from tcpstack.stack.stack import Stack
from tcpstack.wire.packet import Packet
from tests.rfc9293.states import SENT, in_state
from tests.scripted import ISS, PEER, SECOND, START_NS, Scripted, shape


@pytest.mark.rfc9293("3.10.8-user-timeout")
@pytest.mark.parametrize("state", ["ESTABLISHED", "FIN-WAIT-1", "CLOSE-WAIT", "CLOSING", "LAST-ACK"])
def test_user_timeout_flushes_tells_and_closes(state: str) -> None:
    case = in_state(state)
    case.hear(ACK, case.nxt + 5, text=b"above a gap")
    case.host.wait(299 * SECOND)
    assert case.state != st.CLOSED
    case.host.wait(SECOND)
    assert (case.state, case.told & (RESET | CLOSED)) == (st.CLOSED, RESET | CLOSED)
    assert isinstance(case.live.error, TimeoutError)
    assert (case.live.unsent_bytes, case.live.status()["out_of_order_bytes"]) == (0, 0)
    assert case.host.wait(1000 * SECOND) == []
    assert case.host.stack.deadline_ns is None


@pytest.mark.rfc9293("3.10.8-retransmission")
@pytest.mark.parametrize("state", ["ESTABLISHED", "CLOSE-WAIT"])
def test_retransmission_timeout_sends_the_first_segment_again_and_starts_anew(state: str) -> None:
    case = in_state(state)
    again = case.host.wait(10 * SECOND)
    assert len(again) >= 3
    assert {(s.seq, s.text()) for s in again} == {(case.una, SENT)}


@pytest.mark.rfc9293("3.10.8-time-wait")
def test_time_wait_timeout_deletes_the_connection() -> None:
    case = in_state("TIME-WAIT")
    case.host.wait(60 * SECOND - 1)
    assert case.state == st.TIME_WAIT
    case.host.wait(1)
    assert (case.state, case.host.stack.deadline_ns) == (st.CLOSED, None)


@pytest.mark.rfc9293("MUST-22")
def test_syn_goes_again_with_doubled_timeouts_until_r2_and_the_user_is_told() -> None:
    host = Scripted(config=Config(syn_r2_ns=40 * SECOND))
    connection = host.connect()
    begin_ns = host.now_ns
    host.wait(39 * SECOND)
    assert [(s.time_ns - begin_ns) // SECOND for s in host.sent] == [0, 1, 3, 7, 15, 31]
    assert {shape(s.segment) for s in host.sent} == {(SYN, ISS, 0, 0)}
    assert [e.attempt for e in host.events if isinstance(e, RetransmissionTimeout)] == [1, 2, 3, 4, 5]
    host.wait(SECOND)
    assert host.masks(connection) == RESET | CLOSED
    assert isinstance(connection.error, TimeoutError)


@pytest.mark.rfc9293("SHLD-9", "MUST-47", "3.9.1.8-reports")
def test_each_timeout_is_told_the_tracer_before_r2() -> None:
    case = in_state("ESTABLISHED")
    case.host.events.clear()
    case.host.wait(100 * SECOND)
    told = [e for e in case.host.events if isinstance(e, RetransmissionTimeout)]
    assert [e.attempt for e in told] == list(range(1, len(told) + 1))
    assert len(told) > 3
    assert {(e.flow, e.una) for e in told} == {(case.live.flow, 1)}
    assert case.state == st.ESTABLISHED


@pytest.mark.rfc9293("MUST-20", "SHLD-10")
def test_third_retransmission_is_told_as_too_many_once_until_something_is_acknowledged() -> None:
    case = in_state("ESTABLISHED")
    host, events = case.host, case.host.events
    una = 1
    for wait_s in (4, 120):  # the timeout stays backed off
        events.clear()
        host.send(case.live, b"x")
        host.wait(wait_s * SECOND)
        told = [e for e in events if isinstance(e, ExcessiveRetransmission)]
        assert [(e.flow, e.una, e.retransmissions) for e in told] == [(case.live.flow, una, 3)]
        timeouts = [e for e in events if isinstance(e, RetransmissionTimeout)]
        assert told[0].time_ns == timeouts[2].time_ns
        assert len(timeouts) > 3
        assert case.state == st.ESTABLISHED
        una = case.live._sender.nxt - case.live._sender.iss
        host.hear(host.segment(ACK, case.live._receiver.nxt, case.live._sender.nxt))


@pytest.mark.rfc9293("MUST-20", "SHLD-10")
def test_syn_that_goes_a_third_time_again_is_told_as_too_many() -> None:
    host = Scripted()
    host.connect()
    host.wait(60 * SECOND)
    told = [e for e in host.events if isinstance(e, ExcessiveRetransmission)]
    assert [(e.una, e.retransmissions) for e in told] == [(0, 3)]


def test_r1_can_be_set() -> None:
    host = Scripted(config=Config(r1_retransmissions=5))
    host.connect()
    host.wait(60 * SECOND)
    assert [e.retransmissions for e in host.events if isinstance(e, ExcessiveRetransmission)] == [5]


@pytest.mark.rfc9293("SHLD-20")
def test_without_a_tracer_nobody_is_told_and_all_goes_on() -> None:
    packets: list[Packet] = []
    stack = Stack(("10.0.0.1/24",), tracer=None)
    stack.send_packet = lambda packet, now_ns: packets.append(packet)
    connection = stack.connect(PEER[4], 80, START_NS)
    while (deadline_ns := stack.deadline_ns) is not None:
        stack.on_timer(max(deadline_ns, START_NS))
    assert len(packets) > 3
    assert isinstance(connection.error, TimeoutError)
