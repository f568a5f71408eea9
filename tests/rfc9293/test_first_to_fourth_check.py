"""RFC 9293 3.10.7.4, first to fourth check: sequence number, RST, (security,) SYN."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.readiness import CLOSED, EOF, READABLE, RESET
from tcpstack.core.receive.receiver import acceptable
from tcpstack.core.segment import ACK, FIN, RST, SYN
from tests.rfc9293.states import BUFFER, OPEN, SYN_RECEIVED, SYNCHRONIZED, in_state, is_ack
from tests.scripted import IRS, SECOND

ALL = (*SYN_RECEIVED, *SYNCHRONIZED)

# ------------------------------------------------------------------ first: sequence number


@pytest.mark.rfc9293("3.10.7.4-seq-straddles")
@pytest.mark.parametrize("state", OPEN)
def test_segment_that_straddles_old_and_new_only_the_new_part_counts(state: str) -> None:
    case = in_state(state)
    case.hear(ACK, case.nxt, text=b"abc")
    case.hear(ACK, case.nxt, text=b"XYZdef")
    assert case.read() == b"abcdef"


@pytest.mark.rfc9293("3.10.7.4-seq-straddles")
def test_segment_that_straddles_the_right_edge_is_taken_up_to_it() -> None:
    case = in_state("ESTABLISHED")
    answers = case.hear(ACK, case.nxt, text=b"x" * BUFFER + b"beyond")
    assert is_ack(case, answers, case.edge)
    assert case.read() == b"x" * BUFFER


@pytest.mark.rfc9293("3.10.7.4-seq-table-6")
@pytest.mark.parametrize(
    ("length", "window", "good", "bad"),
    [
        (0, 0, [0], [-1, 1]),
        (0, 10, [0, 9], [-1, 10]),
        (1, 0, [], [-1, 0, 1]),
        (5, 10, [-4, 0, 9], [-5, 10]),
        (50, 10, [-40, -49, 0, 9], [-50, 10]),
    ],
)
def test_table_6_decides_what_is_acceptable(length: int, window: int, good: list[int], bad: list[int]) -> None:
    nxt = 1000
    assert [offset for offset in good if not acceptable(nxt + offset, length, nxt, window)] == []
    assert [offset for offset in bad if acceptable(nxt + offset, length, nxt, window)] == []


@pytest.mark.rfc9293("3.10.7.4-seq-table-6")
@pytest.mark.parametrize("state", OPEN)
def test_first_and_last_octet_of_the_window_are_in_it_and_their_neighbours_are_not(state: str) -> None:
    for offset, inside in ((0, True), (BUFFER - 1, True), (-1, False), (BUFFER, False)):
        case = in_state(state)
        case.hear(ACK, case.nxt + offset, text=b"!")
        held = case.live.status()
        assert (held["readable_bytes"] == 1 or held["out_of_order_bytes"] == 1) is inside


@pytest.mark.rfc9293("3.10.7.4-seq-zero-window")
def test_zero_window_ack_at_rcv_nxt_is_taken_and_its_text_is_not() -> None:
    case = in_state("ESTABLISHED zero window")
    assert is_ack(case, case.hear(ACK, case.nxt, case.snd_nxt, text=b"!"))
    assert case.live.status()["unacknowledged_bytes"] == 0
    assert case.live.readable_bytes == BUFFER


@pytest.mark.rfc9293("3.10.7.4-seq-zero-window", "MUST-66")
@pytest.mark.parametrize("text", [b"", b"why"])
def test_zero_window_rst_at_rcv_nxt_is_taken(text: bytes) -> None:
    case = in_state("ESTABLISHED zero window")
    assert case.hear(RST, case.nxt, text=text) == []
    assert (case.state, case.told) == (st.CLOSED, RESET | CLOSED)


@pytest.mark.rfc9293("3.10.7.4-seq-unacceptable")
@pytest.mark.parametrize("state", ALL)
@pytest.mark.parametrize("offset", [-1000, BUFFER, BUFFER + 1000])
def test_unacceptable_segment_earns_an_ack_and_is_dropped(state: str, offset: int) -> None:
    case = in_state(state)
    before = case.state
    answers = case.hear(ACK, case.nxt + offset, case.snd_nxt, text=b"text")
    assert is_ack(case, answers)
    assert case.state == before
    if case.connection is not None and before != st.TIME_WAIT:
        assert case.live.readable_bytes == 0
        assert case.live.status()["unacknowledged_bytes"] == case.snd_nxt - case.una


@pytest.mark.rfc9293("3.10.7.4-seq-unacceptable-rst", "3.10.7.4-rst-outside")
@pytest.mark.parametrize("state", ALL)
@pytest.mark.parametrize("offset", [-1, BUFFER, BUFFER + 1000, 1 << 31])
def test_rst_outside_the_window_is_dropped_silently(state: str, offset: int) -> None:
    case = in_state(state)
    before = case.state
    assert case.hear(RST | ACK, case.nxt + offset) == []
    assert case.state == before


@pytest.mark.rfc9293("3.10.7.4-rst-outside")
@pytest.mark.parametrize("state", ALL)
def test_rst_left_of_the_window_is_dropped_though_its_text_reaches_in(state: str) -> None:
    case = in_state(state)
    before = case.state
    assert case.hear(RST | ACK, case.nxt - 1, text=b"abc") == []
    assert case.state == before


# ------------------------------------------------------------------ second: RST


@pytest.mark.rfc9293("3.10.7.4-rst-exact")
@pytest.mark.parametrize("state", ALL)
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_rst_at_rcv_nxt_resets(state: str, flags: int) -> None:
    case = in_state(state)
    assert case.hear(flags, case.nxt) == []
    assert case.state == st.CLOSED
    assert case.host.wait(1000 * SECOND) == []


@pytest.mark.rfc9293("3.10.7.4-rst-challenge", "3.10.7.4-rst-challenge-drop")
@pytest.mark.parametrize("state", ALL)
@pytest.mark.parametrize("offset", [1, 1000])
def test_rst_elsewhere_in_the_window_earns_a_challenge_ack_and_is_dropped(state: str, offset: int) -> None:
    case = in_state(state)
    before = case.state
    assert is_ack(case, case.hear(RST | ACK, case.nxt + offset, case.snd_nxt, text=b"x"))
    assert case.state == before
    if case.connection is not None and before != st.TIME_WAIT:
        assert (case.told, case.live.status()["out_of_order_bytes"]) == (0, 0)
        assert case.live.status()["unacknowledged_bytes"] == case.snd_nxt - case.una


@pytest.mark.rfc9293("3.10.7.4-rst-syn-received-passive", "MUST-11")
def test_syn_received_passive_rst_goes_back_to_listen_and_tells_nobody() -> None:
    case = in_state("SYN-RECEIVED passive")
    case.hear(RST, case.nxt)
    assert case.state == st.CLOSED
    assert case.host.told == []
    assert case.host.changes[-1] == (st.SYN_RECEIVED, st.RCV_RST_OR_SYN_PASSIVE, st.LISTEN)
    assert len(case.hear(SYN, IRS)) == 1
    assert case.state == st.SYN_RECEIVED


@pytest.mark.rfc9293("3.10.7.4-rst-syn-received-active", "MUST-11")
def test_syn_received_active_rst_is_refused() -> None:
    case = in_state("SYN-RECEIVED active")
    case.hear(RST, case.nxt)
    assert (case.state, case.told) == (st.CLOSED, RESET | CLOSED)
    assert isinstance(case.live.error, ConnectionRefusedError)
    assert case.host.wait(1000 * SECOND) == []


@pytest.mark.rfc9293("3.10.7.4-rst-established", "MUST-12")
@pytest.mark.parametrize("state", [*OPEN, "CLOSE-WAIT"])
def test_rst_flushes_the_queues_and_tells_the_user_of_a_reset(state: str) -> None:
    case = in_state(state)
    if state != "CLOSE-WAIT":
        case.hear(ACK, case.nxt + 5, text=b"above a gap")
        case.quiet()
    case.hear(RST, case.nxt)
    assert (case.state, case.told) == (st.CLOSED, RESET | CLOSED)
    assert isinstance(case.live.error, ConnectionResetError)
    assert (case.live.unsent_bytes, case.live.status()["out_of_order_bytes"]) == (0, 0)
    assert case.host.wait(1000 * SECOND) == []
    with pytest.raises(ConnectionResetError):
        case.host.send(case.live, b"more")


@pytest.mark.rfc9293("MUST-12")
def test_fin_tells_the_user_of_an_orderly_end() -> None:
    case = in_state("FIN-WAIT-2")
    case.hear(FIN | ACK, case.nxt, text=b"bye")
    assert case.told == READABLE | EOF | CLOSED
    assert case.live.error is None
    assert case.live.eof_received


@pytest.mark.rfc9293("3.10.7.4-rst-closing")
@pytest.mark.parametrize("state", ["CLOSING", "LAST-ACK", "TIME-WAIT"])
def test_rst_once_both_have_closed_ends_the_connection_without_an_error(state: str) -> None:
    case = in_state(state)
    assert case.hear(RST, case.nxt) == []
    assert case.state == st.CLOSED
    assert case.live.error is None


# ------------------------------------------------------------------ fourth: SYN


@pytest.mark.rfc9293("3.10.7.4-syn-syn-received-passive")
def test_syn_received_passive_syn_in_the_window_goes_back_to_listen() -> None:
    case = in_state("SYN-RECEIVED passive")
    assert case.hear(SYN, case.nxt + 5) == []
    assert case.state == st.CLOSED
    assert case.host.changes[-1] == (st.SYN_RECEIVED, st.RCV_RST_OR_SYN_PASSIVE, st.LISTEN)


@pytest.mark.rfc9293("3.10.7.4-syn-challenge", "3.10.7.4-syn-drop")
@pytest.mark.parametrize("state", SYNCHRONIZED)
@pytest.mark.parametrize("offset", [-1000, -1, 0, 7, BUFFER, 1_000_000])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK, SYN | FIN])
def test_syn_earns_a_challenge_ack_wherever_it_lies_and_is_dropped(state: str, offset: int, flags: int) -> None:
    case = in_state(state)
    before = case.state
    assert is_ack(case, case.hear(flags, case.nxt + offset, case.snd_nxt, text=b"x"))
    assert case.state == before
    if before != st.TIME_WAIT:
        assert (case.told, case.live.readable_bytes) == (0, 0)
        assert case.live.status()["unacknowledged_bytes"] == case.snd_nxt - case.una


@pytest.mark.rfc9293("3.10.7.4-seq-unacceptable")
@pytest.mark.parametrize("state", SYNCHRONIZED)
@pytest.mark.parametrize("flags", [SYN, SYN | FIN, SYN | ACK])
def test_syn_outside_the_window_is_challenged_once_in_500_ms_whatever_comes_with_it(state: str, flags: int) -> None:
    case = in_state(state)
    assert is_ack(case, case.hear(flags, case.nxt - 1000, case.una, text=b"x"))
    assert case.hear(flags, case.nxt - 1000, case.una, text=b"x") == []
