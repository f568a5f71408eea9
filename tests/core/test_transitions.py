"""The table of transitions against RFC 9293 3.10, transcribed by hand, and against what the engine does.

`RFC` is every change of state that section 3.10 names. Where `TRANSITIONS` says otherwise, or more, the row stands in
`ADDED` or `LEFT_OUT` with the reason. Each row of the table is then made to happen (`DRIVERS`), and nothing but rows of
the table may happen on the way.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.events import SegmentIn, StateChange
from tcpstack.core.readiness import CLOSED
from tcpstack.core.segment import ACK, FIN, RST, SYN, Segment
from tcpstack.wire import icmp
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.icmp import encode_icmp, error
from tests.scripted import IRS, ISS, OURS, PEER, PEER_PORT, SECOND, Scripted

Row = tuple[int, str]

RFC: dict[Row, tuple[int, str]] = {
    # 3.10.1 OPEN
    (st.CLOSED, st.PASSIVE_OPEN): (st.LISTEN, "3.10.1 CLOSED: if passive, enter the LISTEN state"),
    (st.CLOSED, st.ACTIVE_OPEN): (st.SYN_SENT, "3.10.1 CLOSED: enter SYN-SENT state, and return"),
    (st.LISTEN, st.ACTIVE_OPEN): (st.SYN_SENT, "3.10.1 LISTEN: change the connection from passive to active"),
    # 3.10.4 CLOSE
    (st.LISTEN, st.CLOSE): (st.CLOSED, "3.10.4 LISTEN: delete TCB, enter CLOSED state"),
    (st.SYN_SENT, st.CLOSE): (st.CLOSED, "3.10.4 SYN-SENT: delete the TCB"),
    (st.SYN_RECEIVED, st.CLOSE): (st.FIN_WAIT_1, "3.10.4 SYN-RECEIVED: form a FIN segment, enter FIN-WAIT-1"),
    (st.ESTABLISHED, st.CLOSE): (st.FIN_WAIT_1, "3.10.4 ESTABLISHED: in any case, enter FIN-WAIT-1 state"),
    (st.CLOSE_WAIT, st.CLOSE): (st.LAST_ACK, "3.10.4 CLOSE-WAIT: send a FIN segment, enter LAST-ACK state"),
    # 3.10.5 ABORT
    (st.LISTEN, st.ABORT): (st.CLOSED, "3.10.5 LISTEN: delete TCB, enter CLOSED state"),
    (st.SYN_SENT, st.ABORT): (st.CLOSED, "3.10.5 SYN-SENT: delete the TCB, enter CLOSED state"),
    (st.SYN_RECEIVED, st.ABORT): (st.CLOSED, "3.10.5 SYN-RECEIVED: send a reset, enter CLOSED state"),
    (st.ESTABLISHED, st.ABORT): (st.CLOSED, "3.10.5 ESTABLISHED: send a reset, enter CLOSED state"),
    (st.FIN_WAIT_1, st.ABORT): (st.CLOSED, "3.10.5 FIN-WAIT-1: send a reset, enter CLOSED state"),
    (st.FIN_WAIT_2, st.ABORT): (st.CLOSED, "3.10.5 FIN-WAIT-2: send a reset, enter CLOSED state"),
    (st.CLOSE_WAIT, st.ABORT): (st.CLOSED, "3.10.5 CLOSE-WAIT: send a reset, enter CLOSED state"),
    (st.CLOSING, st.ABORT): (st.CLOSED, "3.10.5 CLOSING: delete the TCB, enter CLOSED state"),
    (st.LAST_ACK, st.ABORT): (st.CLOSED, "3.10.5 LAST-ACK: delete the TCB, enter CLOSED state"),
    (st.TIME_WAIT, st.ABORT): (st.CLOSED, "3.10.5 TIME-WAIT: delete the TCB, enter CLOSED state"),
    # 3.10.7.2 LISTEN
    (st.LISTEN, st.RCV_SYN): (st.SYN_RECEIVED, "3.10.7.2, third: should be changed to SYN-RECEIVED"),
    # 3.10.7.3 SYN-SENT
    (st.SYN_SENT, st.RCV_RST): (st.CLOSED, "3.10.7.3, second: if the ACK was acceptable, enter CLOSED state"),
    (st.SYN_SENT, st.RCV_SYN_ACK): (st.ESTABLISHED, "3.10.7.3, fourth: SND.UNA > ISS, change to ESTABLISHED"),
    (st.SYN_SENT, st.RCV_SYN): (st.SYN_RECEIVED, "3.10.7.3, fourth: otherwise, enter SYN-RECEIVED"),
    # 3.10.7.4, second: check the RST bit
    (st.SYN_RECEIVED, st.RCV_RST_OR_SYN_PASSIVE): (
        st.LISTEN, "3.10.7.4, second and fourth, SYN-RECEIVED: passive OPEN, return this connection to LISTEN"),
    (st.SYN_RECEIVED, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, SYN-RECEIVED: active OPEN, enter the CLOSED state"),
    (st.ESTABLISHED, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, ESTABLISHED: enter the CLOSED state"),
    (st.FIN_WAIT_1, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, FIN-WAIT-1: enter the CLOSED state"),
    (st.FIN_WAIT_2, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, FIN-WAIT-2: enter the CLOSED state"),
    (st.CLOSE_WAIT, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, CLOSE-WAIT: enter the CLOSED state"),
    (st.CLOSING, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, CLOSING: enter the CLOSED state"),
    (st.LAST_ACK, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, LAST-ACK: enter the CLOSED state"),
    (st.TIME_WAIT, st.RCV_RST): (st.CLOSED, "3.10.7.4, second, TIME-WAIT: enter the CLOSED state"),
    # 3.10.7.4, fourth: check the SYN bit
    (st.TIME_WAIT, st.RCV_NEWER_SYN): (st.CLOSED, "3.10.7.4, fourth, and MAY-2: new connections can be accepted"),
    # 3.10.7.4, fifth: check the ACK field
    (st.SYN_RECEIVED, st.RCV_ACK_OF_SYN): (st.ESTABLISHED, "3.10.7.4, fifth, SYN-RECEIVED: enter ESTABLISHED state"),
    (st.FIN_WAIT_1, st.RCV_ACK_OF_FIN): (st.FIN_WAIT_2, "3.10.7.4, fifth, FIN-WAIT-1: then enter FIN-WAIT-2"),
    (st.CLOSING, st.RCV_ACK_OF_FIN): (st.TIME_WAIT, "3.10.7.4, fifth, CLOSING: then enter the TIME-WAIT state"),
    (st.LAST_ACK, st.RCV_ACK_OF_FIN): (st.CLOSED, "3.10.7.4, fifth, LAST-ACK: delete the TCB, enter CLOSED"),
    # 3.10.7.4, eighth: check the FIN bit
    (st.SYN_RECEIVED, st.RCV_FIN): (st.CLOSE_WAIT, "3.10.7.4, eighth, SYN-RECEIVED: enter the CLOSE-WAIT state"),
    (st.ESTABLISHED, st.RCV_FIN): (st.CLOSE_WAIT, "3.10.7.4, eighth, ESTABLISHED: enter the CLOSE-WAIT state"),
    (st.FIN_WAIT_1, st.RCV_FIN): (st.CLOSING, "3.10.7.4, eighth, FIN-WAIT-1: otherwise, enter the CLOSING state"),
    (st.FIN_WAIT_2, st.RCV_FIN): (st.TIME_WAIT, "3.10.7.4, eighth, FIN-WAIT-2: enter the TIME-WAIT state"),
    # 3.10.8 timeouts
    **{
        (state, st.USER_TIMEOUT): (st.CLOSED, "3.10.8: for any state if the user timeout expires, enter CLOSED")
        for state in range(st.LISTEN, st.TIME_WAIT + 1)
    },
    (st.TIME_WAIT, st.TIME_WAIT_TIMEOUT): (st.CLOSED, "3.10.8: delete the TCB, enter the CLOSED state"),
}  # fmt: skip

LEFT_OUT: dict[Row, str] = {
    (st.LISTEN, st.ACTIVE_OPEN): "A listener serves any peer, as in sockets: it cannot be turned into one connection.",
    (st.SYN_RECEIVED, st.RCV_FIN): "The fifth check has moved on to ESTABLISHED before the eighth sees the FIN.",
    (st.LISTEN, st.USER_TIMEOUT): "Nothing is outstanding in LISTEN: no timer runs.",
    (st.FIN_WAIT_2, st.USER_TIMEOUT): "All that was sent is acknowledged: only an orphan has a limit.",
    (st.TIME_WAIT, st.USER_TIMEOUT): "All that was sent is acknowledged: the 2 MSL are its limit.",
}

ADDED: dict[Row, tuple[int, str]] = {
    (st.SYN_SENT, st.RCV_UNREACHABLE): (
        st.CLOSED, "RFC 5461 4.2: an unreachable ends an open at once, as in Linux; deviates from MUST-56 here alone."),
    (st.FIN_WAIT_2, st.ORPHAN_TIMEOUT): (
        st.CLOSED, "When the application is gone and the peer never closes, FIN-WAIT-2 would last for ever."),
    **{
        (state, st.KEEPALIVE_TIMEOUT): (
            st.CLOSED, "3.8.4, MAY-5: the peer is taken for dead; elsewhere something is outstanding, which has R2.")
        for state in (st.ESTABLISHED, st.FIN_WAIT_2, st.CLOSE_WAIT)
    },
}  # fmt: skip


@pytest.mark.rfc9293("MAY-2")
def test_table_is_the_rfcs_but_for_the_rows_that_are_explained() -> None:
    wanted = {row: after for row, (after, _) in RFC.items() if row not in LEFT_OUT}
    wanted |= {row: after for row, (after, _) in ADDED.items()}
    assert wanted == st.TRANSITIONS


def test_each_explained_difference_is_one() -> None:
    assert set(LEFT_OUT) <= set(RFC)
    assert not set(LEFT_OUT) & set(st.TRANSITIONS)
    assert not set(ADDED) & set(RFC)


def test_names_and_numbers_of_states_agree() -> None:
    for number, name in enumerate(st.STATE_NAMES):
        assert getattr(st, name.replace("-", "_")) == number
    reached = set(st.TRANSITIONS.values()) | {st.CLOSED}
    assert reached == set(range(len(st.STATE_NAMES)))
    assert {state for state, _ in st.TRANSITIONS} == reached


# ------------------------------------------------------------------ making each row happen

CONFIG = Config(time_wait_ns=10 * SECOND, fin_wait_2_ns=20 * SECOND)


class Play(Scripted):
    """A host and its one connection, led from state to state. The peer's next number is `seq`."""

    def __init__(self) -> None:
        super().__init__(config=CONFIG)
        self.seq = IRS + 1
        self.connection: Connection | None = None

    @property
    def conn(self) -> Connection:
        assert self.connection is not None
        return self.connection

    @property
    def next(self) -> int:
        """Our SND.NXT, which acknowledges all that we have said."""
        return max((s.segment.seq + s.segment.len for s in self.sent), default=ISS)

    def peer(self, flags: int, ack: int | None = None, seq: int | None = None) -> list[Segment]:
        seq = self.seq if seq is None else seq
        answers = self.hear(self.segment(flags, seq, self.next if ack is None else ack))
        if flags & FIN:
            self.seq = seq + 1
        return answers

    # -- states

    def syn_sent(self) -> None:
        self.connection = self.connect()

    def record(self) -> None:
        self.listener = self.listen()
        self.peer(SYN, seq=IRS)

    def syn_received(self) -> None:
        self.syn_sent()
        self.peer(SYN, seq=IRS)

    def established(self) -> None:  # type: ignore[override]
        self.syn_sent()
        self.peer(SYN | ACK, seq=IRS)

    def fin_wait_1(self) -> None:
        self.established()
        self.stack.shutdown(self.conn, self.now_ns)

    def fin_wait_2(self) -> None:
        self.fin_wait_1()
        self.peer(ACK)

    def close_wait(self) -> None:
        self.established()
        self.peer(FIN | ACK)

    def closing(self) -> None:
        self.fin_wait_1()
        self.peer(FIN | ACK, ack=ISS + 1)

    def last_ack(self) -> None:
        self.close_wait()
        self.stack.shutdown(self.conn, self.now_ns)

    def time_wait(self) -> None:
        self.fin_wait_2()
        self.peer(FIN | ACK)

    # -- events

    def reset(self) -> None:
        self.peer(RST, seq=self.seq)

    def abort(self) -> None:
        self.stack.abort(self.conn, self.now_ns)

    def abort_when_told_of_the_end(self) -> None:
        def notify(connection: Connection, mask: int) -> None:
            if mask & CLOSED:
                self.stack.abort(connection, self.now_ns)

        self.stack.notify = notify

    def silence(self) -> None:
        """Nobody answers for longer than any limit; something is outstanding."""
        if self.conn.state in (st.ESTABLISHED, st.CLOSE_WAIT):
            self.send(self.conn, b"unanswered")
        self.wait(400 * SECOND)

    def keepalives(self) -> None:
        """They are switched on, and nobody answers them."""
        self.stack.set_keepalive(self.conn, self.conn.keepalive._replace(on=True), self.now_ns)
        self.wait(3 * 3600 * SECOND)

    def unreachable(self) -> None:
        syn = self.sent[-1].segment
        assert syn.flags == SYN
        message = error(PEER[4], OURS[4], icmp.UNREACHABLE, icmp.CODE_PORT, encode(syn).data())
        self.hear_packets(encode_icmp(message))

    def newer_syn(self) -> None:
        self.listen()
        self.hear(self.segment(SYN, self.seq + 100_000))

    def orphan_timeout(self) -> None:
        self.stack.close(self.conn, self.now_ns)
        self.wait(21 * SECOND)


def play(*steps: Callable[[Play], object]) -> Play:
    host = Play()
    for step in steps:
        step(host)
    return host


P = Play
DRIVERS: dict[Row, tuple[Callable[[Play], object], ...]] = {
    (st.CLOSED, st.ACTIVE_OPEN): (P.syn_sent,),
    (st.LISTEN, st.RCV_SYN): (P.record,),
    (st.SYN_SENT, st.RCV_SYN_ACK): (P.established,),
    (st.SYN_SENT, st.RCV_SYN): (P.syn_received,),
    (st.SYN_SENT, st.RCV_RST): (P.syn_sent, lambda h: h.peer(RST | ACK, seq=0)),
    (st.SYN_SENT, st.RCV_UNREACHABLE): (P.syn_sent, P.unreachable),
    (st.SYN_SENT, st.CLOSE): (P.syn_sent, lambda h: h.stack.shutdown(h.conn, h.now_ns)),
    (st.SYN_SENT, st.ABORT): (P.syn_sent, P.abort),
    (st.SYN_SENT, st.USER_TIMEOUT): (P.syn_sent, P.silence),
    (st.SYN_RECEIVED, st.RCV_ACK_OF_SYN): (P.record, lambda h: h.peer(ACK)),
    (st.SYN_RECEIVED, st.RCV_RST_OR_SYN_PASSIVE): (P.record, P.reset),
    (st.SYN_RECEIVED, st.RCV_RST): (P.syn_received, P.reset),
    (st.SYN_RECEIVED, st.CLOSE): (P.syn_received, lambda h: h.stack.shutdown(h.conn, h.now_ns)),
    (st.SYN_RECEIVED, st.ABORT): (P.syn_received, P.abort),
    (st.SYN_RECEIVED, st.USER_TIMEOUT): (P.syn_received, P.silence),
    (st.ESTABLISHED, st.CLOSE): (P.fin_wait_1,),
    (st.ESTABLISHED, st.RCV_FIN): (P.close_wait,),
    (st.ESTABLISHED, st.RCV_RST): (P.established, P.reset),
    (st.ESTABLISHED, st.ABORT): (P.established, P.abort),
    (st.ESTABLISHED, st.USER_TIMEOUT): (P.established, P.silence),
    (st.ESTABLISHED, st.KEEPALIVE_TIMEOUT): (P.established, P.keepalives),
    (st.FIN_WAIT_1, st.RCV_ACK_OF_FIN): (P.fin_wait_2,),
    (st.FIN_WAIT_1, st.RCV_FIN): (P.closing,),
    (st.FIN_WAIT_1, st.RCV_RST): (P.fin_wait_1, P.reset),
    (st.FIN_WAIT_1, st.ABORT): (P.fin_wait_1, P.abort),
    (st.FIN_WAIT_1, st.USER_TIMEOUT): (P.fin_wait_1, P.silence),
    (st.FIN_WAIT_2, st.RCV_FIN): (P.time_wait,),
    (st.FIN_WAIT_2, st.RCV_RST): (P.fin_wait_2, P.reset),
    (st.FIN_WAIT_2, st.ABORT): (P.fin_wait_2, P.abort),
    (st.FIN_WAIT_2, st.KEEPALIVE_TIMEOUT): (P.fin_wait_2, P.keepalives),
    (st.FIN_WAIT_2, st.ORPHAN_TIMEOUT): (P.fin_wait_2, P.orphan_timeout),
    (st.CLOSE_WAIT, st.CLOSE): (P.last_ack,),
    (st.CLOSE_WAIT, st.RCV_RST): (P.close_wait, P.reset),
    (st.CLOSE_WAIT, st.ABORT): (P.close_wait, P.abort),
    (st.CLOSE_WAIT, st.USER_TIMEOUT): (P.close_wait, P.silence),
    (st.CLOSE_WAIT, st.KEEPALIVE_TIMEOUT): (P.close_wait, P.keepalives),
    (st.CLOSING, st.RCV_ACK_OF_FIN): (P.closing, lambda h: h.peer(ACK)),
    (st.CLOSING, st.RCV_RST): (P.closing, P.reset),
    (st.CLOSING, st.ABORT): (P.closing, P.abort),
    (st.CLOSING, st.USER_TIMEOUT): (P.closing, P.silence),
    (st.LAST_ACK, st.RCV_ACK_OF_FIN): (P.last_ack, lambda h: h.peer(ACK)),
    (st.LAST_ACK, st.RCV_RST): (P.last_ack, P.reset),
    (st.LAST_ACK, st.ABORT): (P.last_ack, P.abort),
    (st.LAST_ACK, st.USER_TIMEOUT): (P.last_ack, P.silence),
    (st.TIME_WAIT, st.TIME_WAIT_TIMEOUT): (P.time_wait, lambda h: h.wait(10 * SECOND)),
    (st.TIME_WAIT, st.RCV_RST): (P.time_wait, P.reset),
    (st.TIME_WAIT, st.RCV_NEWER_SYN): (P.time_wait, P.newer_syn),
    (st.TIME_WAIT, st.ABORT): (P.abort_when_told_of_the_end, P.time_wait),
}

LISTENERS = {(st.CLOSED, st.PASSIVE_OPEN), (st.LISTEN, st.CLOSE), (st.LISTEN, st.ABORT)}
"""Rows of the Listener, which is no connection: what they come to is tested by what a SYN then earns."""


def test_each_row_of_the_table_has_a_driver() -> None:
    assert set(DRIVERS) | LISTENERS == set(st.TRANSITIONS)


@pytest.mark.parametrize("row", DRIVERS, ids=lambda row: f"{st.STATE_NAMES[row[0]]}, {row[1]}")
def test_each_row_of_the_table_happens(row: Row) -> None:
    host = play(*DRIVERS[row])
    before, cause = row
    assert (before, cause, st.TRANSITIONS[row]) in host.changes
    for change in host.changes:
        assert st.TRANSITIONS[change[0], change[1]] == change[2]
    # One unbroken path; a record that goes back to LISTEN, or a TIME-WAIT that a SYN replaces, changes hands.
    hands = {st.RCV_NEWER_SYN}
    for (_, first, after), (then, _, _) in zip(host.changes, host.changes[1:], strict=False):
        assert after == then or first in hands


@pytest.mark.parametrize("row", DRIVERS, ids=lambda row: f"{st.STATE_NAMES[row[0]]}, {row[1]}")
def test_each_segment_in_shows_the_states_that_its_changes_lead_through(row: Row) -> None:
    host = play(*DRIVERS[row])
    moves: list[StateChange] = []
    for event in host.events:
        if isinstance(event, StateChange) and event.cause not in st.USER_CALLS | st.TIMEOUTS:
            moves.append(event)
        elif isinstance(event, SegmentIn):
            if moves:
                assert moves[-1].before == event.before or len(moves) > 1
                assert moves[-1].after == event.after
            else:
                assert event.before == event.after
            moves.clear()


def test_listener_opened_closed_and_what_a_syn_earns() -> None:
    host = Scripted()
    syn = host.segment(SYN, IRS)
    assert [s.flags for s in host.hear(syn)] == [RST | ACK]  # CLOSED
    listener = host.listen()
    assert [s.flags for s in host.hear(syn)] == [SYN | ACK]  # LISTEN
    listener.close(host.now_ns)
    assert [s.flags for s in host.hear(host.segment(SYN, IRS, sport=PEER_PORT + 1))] == [RST | ACK]  # CLOSED again
