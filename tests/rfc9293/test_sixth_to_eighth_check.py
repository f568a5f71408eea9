"""RFC 9293 3.10.7.4, sixth to eighth check: URG, the segment text, the FIN bit."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.connection import Connection
from tcpstack.core.readiness import CLOSED, EOF, READABLE
from tcpstack.core.segment import ACK, FIN, PSH, URG
from tests.rfc9293.states import BUFFER, FIN_RECEIVED, OPEN, SENT, in_state, is_ack
from tests.scripted import ISS, SECOND, shape

# ------------------------------------------------------------------ sixth: URG


@pytest.mark.rfc9293("MUST-31")
@pytest.mark.parametrize("up", [0, 1, 3, 5, 6, 0xFFFF])
def test_urgent_text_is_read_in_its_place_wherever_the_pointer_points(up: int) -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK, case.nxt, text=b"abc")
    assert is_ack(case, case.hear(ACK | URG | PSH, case.nxt + 3, text=b"Urgent", up=up), case.nxt + 9)
    case.hear(ACK, case.nxt + 9, text=b"def")
    assert case.read() + case.read() == b"abcUrgentdef"


@pytest.mark.rfc9293("MUST-31")
def test_urgent_text_of_many_segments_is_read_whole() -> None:
    case = in_state("ESTABLISHED")
    for number in range(100):
        case.hear(ACK | URG, case.nxt + 1000 * number, text=bytes([number]) * 1000, up=0xFFFF)
        assert case.read() == bytes([number]) * 1000
    assert case.state == st.ESTABLISHED


@pytest.mark.rfc9293("3.10.7.4-urg-after-fin")
@pytest.mark.parametrize("state", FIN_RECEIVED)
def test_urg_after_the_fin_is_ignored(state: str) -> None:
    case = in_state(state)
    assert case.hear(ACK | URG, case.nxt, text=b"Urgent", up=6) == []
    assert (case.state, case.told, case.live.readable_bytes) == (case.live.state, 0, 0)


# ------------------------------------------------------------------ seventh: text


@pytest.mark.rfc9293("3.10.7.4-text-deliver")
@pytest.mark.parametrize("state", OPEN)
def test_text_goes_to_the_user_in_order_and_once(state: str) -> None:
    case = in_state(state)
    parts = [b"abc", b"defgh", b"i", b"jklmnopq"]
    starts = [0, 3, 8, 9]
    for index in (0, 2, 2, 3, 1, 0, 3):
        case.hear(ACK, case.nxt + starts[index], text=parts[index])
    assert case.told == READABLE
    assert case.read() == b"abcdefghijklmnopq"
    assert case.read() == b""


@pytest.mark.rfc9293("3.10.7.4-text-acknowledge")
@pytest.mark.parametrize("state", OPEN)
def test_text_that_is_taken_is_acknowledged(state: str) -> None:
    case = in_state(state)
    assert is_ack(case, case.hear(ACK, case.nxt, text=b"text"), case.nxt + 4)


@pytest.mark.rfc9293("3.10.7.4-text-window")
@pytest.mark.parametrize("state", OPEN)
def test_rcv_nxt_advances_over_the_text_and_the_right_edge_stays_or_moves_right(state: str) -> None:
    case = in_state(state)
    edge = case.edge
    for start in range(0, BUFFER, 512):
        [ack] = case.hear(ACK, case.nxt + start, text=bytes(512))
        assert ack.ack == case.nxt + start + 512
        assert ack.ack + ack.wnd >= edge
        edge = ack.ack + ack.wnd
    assert edge == case.edge  # nothing was read


@pytest.mark.rfc9293("3.10.7.4-text-piggyback")
@pytest.mark.parametrize("state", ["ESTABLISHED", "CLOSE-WAIT"])
def test_acknowledgement_goes_with_our_text(state: str) -> None:
    case = in_state("ESTABLISHED")
    flags, length = (FIN | ACK, 5) if state == "CLOSE-WAIT" else (ACK, 4)

    def answers(connection: Connection, mask: int) -> None:
        if mask & READABLE:
            case.host.stack.send(connection, b"answer", case.host.now_ns)

    case.host.stack.notify = answers
    [answer] = case.hear(flags, case.nxt, case.snd_nxt, text=b"text")
    assert shape(answer) == (ACK | PSH, case.snd_nxt, case.nxt + length, 6)
    assert case.hear(ACK, case.nxt + length, case.snd_nxt + 6) == []
    assert case.host.wait(10 * SECOND) == []


@pytest.mark.rfc9293("3.10.7.4-text-after-fin")
@pytest.mark.parametrize("state", FIN_RECEIVED)
def test_text_after_the_fin_is_ignored(state: str) -> None:
    case = in_state(state)
    before = case.state
    assert case.hear(ACK, case.nxt, text=b"after the end") == []
    assert (case.state, case.told, case.live.readable_bytes) == (before, 0, 0)


# ------------------------------------------------------------------ eighth: FIN


@pytest.mark.rfc9293("3.10.7.4-fin-signal", "MUST-12")
@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize("text", [b"", b"bye"])
def test_fin_is_told_acknowledged_and_counts_an_octet(state: str, text: bytes) -> None:
    case = in_state(state)
    answers = case.hear(FIN | ACK, case.nxt, text=text)
    assert is_ack(case, answers, case.nxt + len(text) + 1)
    assert case.told & (EOF | READABLE) == (EOF | READABLE if text else EOF)
    assert (case.read(), case.live.eof_received, case.live.error) == (text, True, None)


@pytest.mark.rfc9293("3.10.7.4-fin-signal")
def test_fin_above_a_gap_waits_for_the_text_before_it() -> None:
    case = in_state("ESTABLISHED")
    case.hear(FIN | ACK, case.nxt + 5, text=b"world")
    assert (case.state, case.told) == (st.ESTABLISHED, 0)
    assert is_ack(case, case.hear(ACK, case.nxt, text=b"hello"), case.nxt + 11)
    assert (case.state, case.told, case.read()) == (st.CLOSE_WAIT, READABLE | EOF, b"helloworld")


@pytest.mark.rfc9293("3.10.7.4-fin-established")
@pytest.mark.parametrize("state", ["SYN-RECEIVED active", "ESTABLISHED"])
def test_fin_leads_to_close_wait(state: str) -> None:
    case = in_state(state)
    case.hear(FIN | ACK, case.nxt, case.snd_nxt)
    assert case.state == st.CLOSE_WAIT


@pytest.mark.rfc9293("3.10.7.4-fin-established")
def test_syn_received_passive_fin_with_the_ack_of_our_syn_leads_to_close_wait() -> None:
    case = in_state("SYN-RECEIVED passive")
    assert [shape(a) for a in case.hear(FIN | ACK, case.nxt, ISS + 1)] == [(ACK, ISS + 1, case.nxt + 1, 0)]
    assert case.state == st.CLOSE_WAIT


@pytest.mark.rfc9293("3.10.7.4-fin-fin-wait-1")
def test_fin_wait_1_fin_leads_to_closing_or_where_ours_is_acknowledged_to_time_wait() -> None:
    case = in_state("FIN-WAIT-1")
    case.hear(FIN | ACK, case.nxt)
    assert (case.state, case.told) == (st.CLOSING, EOF)
    case = in_state("FIN-WAIT-1")
    case.hear(FIN | ACK, case.nxt, case.snd_nxt)
    assert (case.state, case.told) == (st.TIME_WAIT, EOF | CLOSED)
    assert case.host.wait(59 * SECOND) == []  # the other timers are off


@pytest.mark.rfc9293("3.10.7.4-fin-fin-wait-2")
def test_fin_wait_2_fin_leads_to_time_wait_with_no_timer_but_its_own() -> None:
    case = in_state("FIN-WAIT-2")
    assert is_ack(case, case.hear(FIN | ACK, case.nxt), case.nxt + 1)
    assert (case.state, case.told) == (st.TIME_WAIT, EOF | CLOSED)
    assert case.host.wait(60 * SECOND - 1) == []
    assert case.state == st.TIME_WAIT
    case.host.wait(1)
    assert (case.state, case.host.stack.deadline_ns) == (st.CLOSED, None)


@pytest.mark.rfc9293("3.10.7.4-fin-remain")
@pytest.mark.parametrize("state", FIN_RECEIVED[:3])
def test_states_after_the_fin_remain_when_it_comes_again(state: str) -> None:
    case = in_state(state)
    before = case.state
    for seq in (case.nxt - 1, case.nxt):  # as it was, and one that cannot be
        case.hear(FIN | ACK, seq)
        assert (case.state, case.told) == (before, 0)
    assert case.live.status()["unacknowledged_bytes"] == len(SENT) + (state != "CLOSE-WAIT")


@pytest.mark.rfc9293("3.10.7.4-fin-time-wait")
def test_time_wait_remains_when_the_fin_comes_again_with_its_text() -> None:
    case = in_state("FIN-WAIT-2")
    case.hear(FIN | ACK, case.nxt, text=b"bye")
    case.quiet()
    case.host.wait(59 * SECOND)
    assert is_ack(case, case.hear(FIN | ACK, case.nxt, text=b"bye"), case.nxt + 4)
    case.host.wait(59 * SECOND)
    assert (case.state, case.told) == (st.TIME_WAIT, 0)
    case.host.wait(SECOND)
    assert case.state == st.CLOSED
