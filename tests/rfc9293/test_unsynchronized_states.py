"""RFC 9293 3.10.7.1 to 3.10.7.3: a segment arrives in CLOSED, LISTEN, SYN-SENT."""

from __future__ import annotations

import pytest

from tcpstack.core import state as st
from tcpstack.core.readiness import CLOSED, CONNECTED, EOF, READABLE, RESET
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN
from tests.rfc9293.states import PEER_WND, Case, in_state
from tests.scripted import IRS, ISS, shape

# ------------------------------------------------------------------ 3.10.7.1 CLOSED


@pytest.mark.rfc9293("3.10.7.1-rst")
@pytest.mark.parametrize("flags", [RST, RST | ACK, RST | SYN])
def test_closed_rst_is_dropped(flags: int) -> None:
    assert Case().hear(flags, IRS, ISS) == []


@pytest.mark.rfc9293("3.10.7.1-no-ack")
@pytest.mark.parametrize(
    ("flags", "text", "length"), [(SYN, b"", 1), (0, b"", 0), (SYN | FIN, b"abc", 5), (FIN, b"", 1)]
)
def test_closed_segment_without_ack_earns_a_reset_that_acknowledges_all_of_it(
    flags: int, text: bytes, length: int
) -> None:
    assert [shape(a) for a in Case().hear(flags, IRS, text=text)] == [(RST | ACK, 0, IRS + length, 0)]


@pytest.mark.rfc9293("3.10.7.1-ack", "3.10.7.4-fin-unsynchronized")
@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK, PSH | ACK])
def test_closed_segment_with_ack_earns_a_reset_at_that_number(flags: int) -> None:
    assert [shape(a) for a in Case().hear(flags, IRS, 777)] == [(RST, 777, 0, 0)]


# ------------------------------------------------------------------ 3.10.7.2 LISTEN


@pytest.mark.rfc9293("3.10.7.2-rst")
@pytest.mark.parametrize("flags", [RST, RST | ACK, RST | SYN])
def test_listen_rst_is_ignored(flags: int) -> None:
    case = in_state("LISTEN")
    assert case.hear(flags, IRS, ISS) == []
    assert case.state == st.CLOSED


@pytest.mark.rfc9293("3.10.7.2-ack", "3.10.7.4-fin-unsynchronized")
@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK])
def test_listen_ack_earns_a_reset_at_that_number(flags: int) -> None:
    case = in_state("LISTEN")
    assert [shape(a) for a in case.hear(flags, IRS, 777, text=b"text")] == [(RST, 777, 0, 0)]
    assert case.state == st.CLOSED


@pytest.mark.rfc9293("3.10.7.2-syn")
@pytest.mark.parametrize("version", [4, 6])
def test_listen_syn_earns_syn_ack_with_our_isn_and_leads_to_syn_received(version: int) -> None:
    case = in_state("LISTEN", version=version)
    assert [shape(a) for a in case.hear(SYN, IRS)] == [(SYN | ACK, ISS, IRS + 1, 0)]
    assert case.state == st.SYN_RECEIVED
    assert case.hear(ACK, IRS + 1, ISS + 1) == []
    assert case.state == st.ESTABLISHED


@pytest.mark.rfc9293("3.10.7.2-other", "3.10.7.4-fin-unsynchronized")
@pytest.mark.parametrize("flags", [0, FIN, PSH, FIN | PSH])
def test_listen_segment_with_neither_rst_nor_ack_nor_syn_is_dropped(flags: int) -> None:
    case = in_state("LISTEN")
    assert case.hear(flags, IRS, text=b"text") == []
    assert case.state == st.CLOSED


# ------------------------------------------------------------------ 3.10.7.3 SYN-SENT


@pytest.mark.rfc9293("3.10.7.3-ack")
@pytest.mark.parametrize("ack", [ISS - 1, ISS, ISS + 2, ISS + (1 << 31)])
@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK])
def test_syn_sent_ack_that_is_not_for_our_syn_earns_a_reset_and_is_dropped(flags: int, ack: int) -> None:
    case = in_state("SYN-SENT")
    assert [shape(a) for a in case.hear(flags, IRS, ack)] == [(RST, ack, 0, 0)]
    assert (case.state, case.told) == (st.SYN_SENT, 0)


@pytest.mark.rfc9293("3.10.7.3-ack", "3.10.7.3-rst")
@pytest.mark.parametrize("ack", [ISS, ISS + 2])
def test_syn_sent_rst_with_an_ack_that_is_not_for_our_syn_is_dropped(ack: int) -> None:
    case = in_state("SYN-SENT")
    assert case.hear(RST | ACK, IRS, ack) == []
    assert (case.state, case.told) == (st.SYN_SENT, 0)


@pytest.mark.rfc9293("3.10.7.3-rst")
def test_syn_sent_rst_with_the_ack_of_our_syn_ends_the_open_with_an_error() -> None:
    case = in_state("SYN-SENT")
    assert case.hear(RST | ACK, IRS, ISS + 1) == []
    assert (case.state, case.told) == (st.CLOSED, RESET | CLOSED)
    assert isinstance(case.live.error, ConnectionRefusedError)


@pytest.mark.rfc9293("3.10.7.3-rst")
@pytest.mark.parametrize("flags", [RST, RST | SYN])
def test_syn_sent_rst_without_ack_is_dropped(flags: int) -> None:
    case = in_state("SYN-SENT")
    assert case.hear(flags, IRS) == []
    assert (case.state, case.told) == (st.SYN_SENT, 0)


@pytest.mark.rfc9293("3.10.7.3-syn-ack")
def test_syn_sent_syn_with_the_ack_of_ours_establishes_and_is_acknowledged() -> None:
    case = in_state("SYN-SENT")
    answers = case.hear(SYN | ACK, IRS, ISS + 1)
    assert [shape(a) for a in answers] == [(ACK, ISS + 1, IRS + 1, 0)]
    assert (case.state, case.told) == (st.ESTABLISHED, CONNECTED)
    assert case.live.status()["snd_wnd"] == PEER_WND


@pytest.mark.rfc9293("3.10.7.3-syn-ack")
def test_syn_sent_text_and_fin_of_the_syn_ack_are_processed() -> None:
    case = in_state("SYN-SENT")
    answers = case.hear(SYN | FIN | ACK, IRS, ISS + 1, text=b"hello")
    assert [shape(a) for a in answers] == [(ACK, ISS + 1, IRS + 7, 0)]
    assert (case.state, case.told) == (st.CLOSE_WAIT, CONNECTED | READABLE | EOF)
    assert case.read() == b"hello"


@pytest.mark.rfc9293("3.10.7.3-syn")
def test_syn_sent_syn_without_ack_leads_to_syn_received_and_earns_a_syn_ack() -> None:
    case = in_state("SYN-SENT")
    assert [shape(a) for a in case.hear(SYN, IRS, wnd=777)] == [(SYN | ACK, ISS, IRS + 1, 0)]
    assert (case.state, case.told) == (st.SYN_RECEIVED, 0)
    assert case.live.status()["snd_wnd"] == 777


@pytest.mark.rfc9293("3.10.7.3-neither", "3.10.7.4-fin-unsynchronized")
@pytest.mark.parametrize(("flags", "ack"), [(0, 0), (ACK, ISS + 1), (FIN, 0), (FIN | ACK, ISS + 1), (PSH, 0)])
def test_syn_sent_segment_with_neither_syn_nor_rst_is_dropped(flags: int, ack: int) -> None:
    case = in_state("SYN-SENT")
    assert case.hear(flags, IRS, ack, text=b"text") == []
    assert (case.state, case.told) == (st.SYN_SENT, 0)
    assert case.live.readable_bytes == 0
