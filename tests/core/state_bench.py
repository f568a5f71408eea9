"""A host whose connections can be put into each state, with numbers that are known."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tcpstack.core import events
from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.segment import ACK, FIN, SYN, FourTuple, Segment
from tcpstack.stack.stack import Stack
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import Packet
from tests.core.letter import MOD, OUR_BUFFER, PEER_WND, UP, Tcb
from tests.scripted import OURS, PEER, START_NS, KnownIsn

LISTENING, DEAF = 80, 81  # local ports
SENT = b"0123456789"  # outstanding in the synchronized states


class Bench:
    """A host; each case gets a flow of its own in it (the peer's ports differ)."""

    def __init__(self, version: int, iss: int, irs: int) -> None:
        self.version, self.iss, self.irs = version, iss, irs
        self.sent: list[Segment] = []
        self.told = 0
        self.sport = 1024
        self.lport = DEAF
        self.traced: list[events.Event] = []
        # Acknowledgements of text are "delayed" by nothing, so that they leave in the same instant.
        config = Config(receive_buffer_bytes=OUR_BUFFER, delayed_ack_ns=0, window_scaling=False)
        addresses = ("10.0.0.1/24", "fd00::1/64")
        self.stack = Stack(addresses, config=config, random=Random(1), tracer=self.traced.append)
        self.stack.isn = KnownIsn(iss)
        self.stack.send_packet = self.took
        self.stack.notify = self.notify
        self.listener = self.stack.listen(LISTENING, backlog=1 << 30)
        self.connection: Connection | None = None

    def took(self, packet: Packet, now_ns: int) -> None:
        segment = decode(Packet((packet.data(),)))
        assert isinstance(segment, Segment)
        self.sent.append(segment)

    def notify(self, connection: Connection, mask: int) -> None:
        if connection is self.connection:
            self.told |= mask

    @property
    def flow(self) -> FourTuple:
        return OURS[self.version], self.lport, PEER[self.version], self.sport

    def hear(self, seq: int, ack: int, flags: int, text: bytes = b"") -> None:
        self.arrive(seq, ack, flags, text)
        deadline_ns = self.stack.deadline_ns
        if deadline_ns is not None and deadline_ns <= START_NS:
            self.stack.on_timer(START_NS)

    def arrive(self, seq: int, ack: int, flags: int, text: bytes, now_ns: int = START_NS) -> None:
        """Without a look at the timers."""
        payload = (text,) if text else ()
        segment = Segment(
            PEER[self.version], self.sport, OURS[self.version], self.lport,
            seq % MOD, ack % MOD, flags, PEER_WND, payload, len(text), up=UP,
        )  # fmt: skip
        self.stack.on_packets((Packet((encode(segment).data(),)),), now_ns)

    def open(self, lport: int) -> None:
        """An active open from `lport`."""
        self.lport = lport
        self.connection = self.stack.connect(PEER[self.version], self.sport, START_NS, lport=lport)
        self.connection.user = self

    @property
    def state(self) -> int:
        stack, flow = self.stack, self.flow
        if flow in stack._connections:
            return stack._connections[flow].state
        if flow in stack._records:
            return st.SYN_RECEIVED
        if flow in stack._time_waits:
            return st.TIME_WAIT
        return st.LISTEN if self.lport == LISTENING else st.CLOSED


def make_closed(b: Bench) -> Tcb:
    b.lport = DEAF
    return Tcb(st.CLOSED, b.iss, b.iss + 1, b.iss + 1, b.irs, b.irs + 1, OUR_BUFFER)


def make_listen(b: Bench) -> Tcb:
    b.lport = LISTENING
    return Tcb(st.LISTEN, b.iss, b.iss + 1, b.iss + 1, b.irs, b.irs + 1, OUR_BUFFER)


def make_syn_sent(b: Bench) -> Tcb:
    b.open(DEAF)
    return Tcb(st.SYN_SENT, b.iss, b.iss, b.iss + 1, b.irs, b.irs + 1, OUR_BUFFER)


def make_syn_received_passive(b: Bench) -> Tcb:
    b.lport = LISTENING
    b.hear(b.irs, 0, SYN)
    return Tcb(st.SYN_RECEIVED, b.iss, b.iss, b.iss + 1, b.irs, b.irs + 1, OUR_BUFFER, passive=True)


def make_syn_received_active(b: Bench) -> Tcb:
    b.open(DEAF)
    b.hear(b.irs, 0, SYN)
    return Tcb(st.SYN_RECEIVED, b.iss, b.iss, b.iss + 1, b.irs, b.irs + 1, OUR_BUFFER)


def make_established(b: Bench) -> Tcb:
    return established(b, DEAF)


def established(b: Bench, lport: int) -> Tcb:
    b.open(lport)
    assert b.connection is not None
    b.hear(b.irs, b.iss + 1, SYN | ACK)
    b.stack.send(b.connection, SENT, START_NS)
    una = b.iss + 1
    return Tcb(st.ESTABLISHED, b.iss, una, una + len(SENT), b.irs, b.irs + 1, OUR_BUFFER, listening=lport == LISTENING)


def make_established_zero_window(b: Bench) -> Tcb:
    tcb = make_established(b)
    for start in range(0, OUR_BUFFER, 1024):
        b.hear(tcb.rcv_nxt + start, tcb.una, ACK, bytes(1024))
    tcb.rcv_nxt += OUR_BUFFER
    tcb.rcv_wnd = 0
    tcb.unread = OUR_BUFFER
    return tcb


def shut_down(b: Bench, tcb: Tcb, state: int) -> Tcb:
    assert b.connection is not None
    b.stack.shutdown(b.connection, START_NS)
    tcb.nxt += 1
    tcb.fin_sent = True
    tcb.state = state
    return tcb


def peer_shuts_down(b: Bench, tcb: Tcb, state: int) -> Tcb:
    b.hear(tcb.rcv_nxt, tcb.una, FIN | ACK)
    tcb.rcv_nxt += 1
    tcb.rcv_wnd -= 1  # the right edge stays
    tcb.state = state
    return tcb


def make_fin_wait_1(b: Bench) -> Tcb:
    return shut_down(b, make_established(b), st.FIN_WAIT_1)


def make_fin_wait_2(b: Bench, lport: int = DEAF) -> Tcb:
    tcb = shut_down(b, established(b, lport), st.FIN_WAIT_2)
    b.hear(tcb.rcv_nxt, tcb.nxt, ACK)
    tcb.una = tcb.nxt
    return tcb


def make_close_wait(b: Bench) -> Tcb:
    return peer_shuts_down(b, make_established(b), st.CLOSE_WAIT)


def make_closing(b: Bench) -> Tcb:
    return peer_shuts_down(b, make_fin_wait_1(b), st.CLOSING)


def make_last_ack(b: Bench) -> Tcb:
    return shut_down(b, make_close_wait(b), st.LAST_ACK)


def make_time_wait(b: Bench) -> Tcb:
    return peer_shuts_down(b, make_fin_wait_2(b), st.TIME_WAIT)


def make_time_wait_listening(b: Bench) -> Tcb:
    tcb = peer_shuts_down(b, make_fin_wait_2(b, LISTENING), st.TIME_WAIT)
    tcb.iss = tcb.nxt + 1  # of the next incarnation: MAY-2, condition 1
    return tcb


MAKERS: dict[str, Callable[[Bench], Tcb]] = {
    "CLOSED": make_closed,
    "LISTEN": make_listen,
    "SYN-SENT": make_syn_sent,
    "SYN-RECEIVED, passive": make_syn_received_passive,
    "SYN-RECEIVED, active": make_syn_received_active,
    "ESTABLISHED": make_established,
    "ESTABLISHED, zero window": make_established_zero_window,
    "FIN-WAIT-1": make_fin_wait_1,
    "FIN-WAIT-2": make_fin_wait_2,
    "CLOSE-WAIT": make_close_wait,
    "CLOSING": make_closing,
    "LAST-ACK": make_last_ack,
    "TIME-WAIT": make_time_wait,
    "TIME-WAIT, listening": make_time_wait_listening,
}
