"""RFC 9293 3.10.7.4, fifth check: the ACK field, state by state."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.readiness import CLOSED, CONNECTED
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN
from tests.rfc9293.states import OPEN, PEER_WND, SENT, Case, in_state, is_ack
from tests.scripted import IRS, ISS, SECOND, shape

OUTSTANDING = (*OPEN[:2], "CLOSE-WAIT", "CLOSING", "LAST-ACK")  # states in which something of ours is unacknowledged
TEXT_OPEN = ("ESTABLISHED", "FIN-WAIT-1")


def unacknowledged(case: Case) -> object:
    return case.live.status()["unacknowledged_bytes"]


@pytest.mark.rfc9293("3.10.7.4-ack-off")
@pytest.mark.parametrize("state", ["SYN-RECEIVED passive", "SYN-RECEIVED active", *OPEN, "CLOSE-WAIT", "TIME-WAIT"])
@pytest.mark.parametrize("flags", [0, FIN, PSH])
def test_segment_without_ack_is_dropped(state: str, flags: int) -> None:
    case = in_state(state)
    before = case.state
    assert case.hear(flags, case.nxt, text=b"text") == []
    assert case.state == before
    assert case.host.told == []


@pytest.mark.rfc9293("3.10.7.4-ack-range", "MAY-12")
@pytest.mark.parametrize("state", OUTSTANDING)
def test_ack_from_a_window_before_snd_una_up_to_snd_nxt_is_acceptable_and_no_other(state: str) -> None:
    case = in_state(state)
    for ack, good in (
        (case.una - PEER_WND - 1, False), (case.una - PEER_WND, True), (case.una - 1, True),
        (case.snd_nxt + 1, False), (case.snd_nxt + PEER_WND, False), (case.una, True),
    ):  # fmt: skip
        answers = case.hear(ACK, case.nxt, ack)
        assert answers == [] if good else is_ack(case, answers), ack - case.una
        case.host.wait(SECOND // 2)  # challenges are at most two a second
    assert case.host.stack.connections != ()


@pytest.mark.rfc9293("3.10.7.4-ack-range-drop", "3.10.7.4-ack-not-sent", "MAY-12")
@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize("offset", [1, 5000, 1 << 31])
def test_ack_of_what_was_never_sent_earns_an_ack_and_its_text_is_dropped(state: str, offset: int) -> None:
    case = in_state(state)
    before = unacknowledged(case)
    assert is_ack(case, case.hear(ACK, case.nxt, case.snd_nxt + offset, text=b"injected"))
    assert (case.live.readable_bytes, unacknowledged(case), case.told) == (0, before, 0)


@pytest.mark.rfc9293("3.10.7.4-ack-range-drop")
@pytest.mark.parametrize("state", OPEN)
def test_ack_older_than_any_window_earns_an_ack_and_its_text_is_dropped(state: str) -> None:
    case = in_state(state)
    assert is_ack(case, case.hear(ACK, case.nxt, case.una - 2 * PEER_WND, text=b"injected"))
    assert (case.live.readable_bytes, case.told) == (0, 0)


# ------------------------------------------------------------------ SYN-RECEIVED


@pytest.mark.rfc9293("3.10.7.4-ack-syn-received")
def test_syn_received_active_ack_of_our_syn_establishes_with_its_window() -> None:
    case = in_state("SYN-RECEIVED active")
    case.hear(ACK, case.nxt, ISS + 1, wnd=4321)
    assert (case.state, case.told) == (st.ESTABLISHED, CONNECTED)
    assert case.live.status()["snd_wnd"] == 4321


@pytest.mark.rfc9293("3.10.7.4-ack-syn-received")
def test_syn_received_passive_ack_of_our_syn_establishes_with_its_window() -> None:
    case = Case()
    listener = case.host.listen()
    case.hear(SYN, IRS)
    case.hear(ACK, case.nxt, ISS + 1, wnd=4321)
    connection = listener.accept()
    assert connection is not None
    assert connection.state == st.ESTABLISHED
    assert connection.status()["snd_wnd"] == 4321


@pytest.mark.rfc9293("3.10.7.4-ack-syn-received-rst")
@pytest.mark.parametrize("state", ["SYN-RECEIVED passive", "SYN-RECEIVED active"])
@pytest.mark.parametrize("ack", [ISS - 1, ISS, ISS + 2, ISS + 5000])
def test_syn_received_any_other_ack_earns_a_reset_at_that_number(state: str, ack: int) -> None:
    case = in_state(state)
    assert [shape(a) for a in case.hear(ACK, case.nxt, ack)] == [(RST, ack, 0, 0)]
    assert case.state == st.SYN_RECEIVED


# ------------------------------------------------------------------ synchronized states


@pytest.mark.rfc9293("3.10.7.4-ack-una")
@pytest.mark.parametrize("state", TEXT_OPEN)
def test_new_ack_takes_away_what_it_acknowledges_and_the_rest_goes_again(state: str) -> None:
    case = in_state(state)
    before = unacknowledged(case)
    assert isinstance(before, int)
    case.hear(ACK, case.nxt, case.una + 4)
    assert unacknowledged(case) == before - 4
    again = case.host.wait(3 * SECOND)
    assert {s.seq for s in again} == {case.una + 4}
    assert again[0].text() == SENT[4:]


@pytest.mark.rfc9293("3.10.7.4-ack-una")
def test_ack_of_all_that_was_sent_leaves_nothing_to_send_again() -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK, case.nxt, case.snd_nxt)
    assert case.host.wait(100 * SECOND) == []


@pytest.mark.rfc9293("3.10.7.4-ack-duplicate")
@pytest.mark.parametrize("back", [0, 1, PEER_WND])
def test_duplicate_ack_acknowledges_nothing_and_its_text_is_taken(back: int) -> None:
    case = in_state("ESTABLISHED")
    case.hear(ACK, case.nxt, case.una - back, text=b"text")
    assert unacknowledged(case) == len(SENT)
    assert case.read() == b"text"


@pytest.mark.rfc9293("3.10.7.4-ack-window")
def test_window_is_taken_from_segments_not_older_than_the_last_that_gave_it() -> None:
    case = in_state("ESTABLISHED")
    first = case.nxt
    case.hear(ACK, first + 10, wnd=2000)  # above a gap: its sequence number is newer
    assert case.live.status()["snd_wnd"] == 2000
    case.hear(ACK, first, wnd=3000, text=b"0123456789")  # older
    assert case.live.status()["snd_wnd"] == 2000
    case.hear(ACK, first + 10, wnd=4000)  # as old, and so is its ACK
    assert case.live.status()["snd_wnd"] == 4000
    case.hear(ACK, first + 10, case.una - 1, wnd=5000)  # its ACK is older
    assert case.live.status()["snd_wnd"] == 4000


@pytest.mark.rfc9293("3.10.7.4-ack-fin-wait-1")
def test_fin_wait_1_ack_of_our_fin_leads_to_fin_wait_2_and_an_ack_of_less_does_not() -> None:
    case = in_state("FIN-WAIT-1")
    case.hear(ACK, case.nxt, case.snd_nxt - 1)
    assert case.state == st.FIN_WAIT_1
    case.hear(ACK, case.nxt, case.snd_nxt)
    assert case.state == st.FIN_WAIT_2


@pytest.mark.rfc9293("3.10.7.4-ack-fin-wait-1")
def test_fin_wait_1_segment_whose_ack_leads_to_fin_wait_2_is_processed_on_there() -> None:
    case = in_state("FIN-WAIT-1")
    case.hear(FIN | ACK, case.nxt, case.snd_nxt, text=b"bye")
    assert (case.state, case.read()) == (st.TIME_WAIT, b"bye")


@pytest.mark.rfc9293("3.10.7.4-ack-fin-wait-2")
def test_fin_wait_2_acks_are_taken_and_the_connection_stays() -> None:
    case = in_state("FIN-WAIT-2")
    assert case.hear(ACK, case.nxt, wnd=1234) == []
    assert (case.state, case.told) == (st.FIN_WAIT_2, 0)
    assert case.live.status()["snd_wnd"] == 1234
    assert case.host.wait(3600 * SECOND) == []
    assert case.state == st.FIN_WAIT_2


@pytest.mark.rfc9293("3.10.7.4-ack-close-wait")
def test_close_wait_acks_are_taken_as_in_established() -> None:
    case = in_state("CLOSE-WAIT")
    case.hear(ACK, case.nxt, case.snd_nxt, wnd=1234)
    assert (case.state, unacknowledged(case)) == (st.CLOSE_WAIT, 0)
    assert case.live.status()["snd_wnd"] == 1234
    [sent] = case.host.send(case.live, b"more")
    case.hear(ACK, case.nxt, case.snd_nxt + 4)
    assert (sent.text(), unacknowledged(case)) == (b"more", 0)


@pytest.mark.rfc9293("3.10.7.4-ack-closing")
def test_closing_ack_of_our_fin_leads_to_time_wait_and_an_ack_of_less_does_not() -> None:
    case = in_state("CLOSING")
    case.hear(ACK, case.nxt, case.snd_nxt - 1)
    assert (case.state, case.told) == (st.CLOSING, 0)
    case.hear(ACK, case.nxt, case.snd_nxt)
    assert (case.state, case.told) == (st.TIME_WAIT, CLOSED)


@pytest.mark.rfc9293("3.10.7.4-ack-last-ack")
def test_last_ack_ack_of_our_fin_leads_to_closed_and_an_ack_of_less_does_not() -> None:
    case = in_state("LAST-ACK")
    case.hear(ACK, case.nxt, case.snd_nxt - 1)
    assert (case.state, case.told) == (st.LAST_ACK, 0)
    assert case.hear(ACK, case.nxt, case.snd_nxt) == []
    assert (case.state, case.told) == (st.CLOSED, CLOSED)
    assert case.host.wait(1000 * SECOND) == []


@pytest.mark.rfc9293("3.10.7.4-ack-time-wait", "3.10.7.4-fin-time-wait")
def test_time_wait_the_fin_again_is_acknowledged_and_the_2_msl_start_anew() -> None:
    case = in_state("TIME-WAIT")
    for _ in range(3):
        case.host.wait(59 * SECOND)
        assert is_ack(case, case.hear(FIN | ACK, case.nxt - 1, case.snd_nxt))
        assert case.state == st.TIME_WAIT
    case.host.wait(60 * SECOND)
    assert case.state == st.CLOSED
