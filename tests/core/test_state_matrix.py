"""Every state x every combination of SYN, RST, FIN, ACK and text x sequence edges x acknowledgement edges.

What ought to happen comes from `Letter`: RFC 9293 3.10.7 transcribed sentence by sentence, with the three checks of
RFC 5961 as it quotes them, in arithmetic modulo 2^32. It shares no code with the engine. Where the engine departs from
the letter, the letter's answer is replaced under a name of DEPARTURES, which says why; each of those must come up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from tcpstack.core import events
from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.readiness import CLOSED, CONNECTED, EOF, READABLE, RESET
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, URG, FourTuple, Segment, flag_names
from tcpstack.stack.stack import Stack
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import Packet

from tests.scripted import OURS, PEER, SECOND, START_NS, KnownIsn

MOD = 1 << 32
TEXT = b"text"
LISTENING, DEAF = 80, 81  # local ports
PEER_WND, OUR_BUFFER = 10_000, 4_096
SENT = b"0123456789"  # outstanding in the synchronized states

DEPARTURES = {
    "peer's SYN again": "SYN-RECEIVED after a passive open answers the SYN it knows with SYN,ACK, not with a bare ACK: "
    "that is the acknowledgement the peer lacks. Text with it does not make it a SYN in the window.",
    "simultaneous open": "In SYN-RECEIVED after an active open, the SYN of the peer's SYN,ACK is trimmed off (Figure 8 "
    "needs it; the first check lets one trim). By the letter the segment would be unacceptable.",
    "refused": "A RST that answers our SYN tells the user 'connection refused', as sockets do, not 'reset'.",
    "text with a SYN": "Text and FIN of a SYN that cannot be acknowledged yet are not kept; the peer sends them again.",
    "ACK in SYN-RECEIVED": "Any ACK that is not for our SYN earns the RST of the SYN-RECEIVED clause; RFC 5961's range "
    "would let half of them pass for old, and MAX.SND.WND means nothing before the handshake is done.",
    "second FIN": "A FIN behind the peer's FIN cannot be: it is ignored like text there. The letter advances over it.",
    "FIN in TIME-WAIT": "The repeated FIN lies left of the window, so the letter never comes to the clause that "
    "restarts the 2 MSL. Here it does.",
    "ACK in TIME-WAIT": "An ACK number out of range is not answered: the entry keeps no MAX.SND.WND, and no ACK can "
    "change anything any more.",
    "newer SYN": "MAY-2: a SYN beyond RCV.NXT opens a new connection from TIME-WAIT, where somebody listens.",
    "zero window": "'Special allowance should be made to accept valid ACKs, URGs, and RSTs' (MUST-66): at RCV.NXT.",
}


# ---------------------------------------------------------------------------------------- the letter of 3.10.7


@dataclass
class Tcb:
    """What the letter needs to know of a connection. Numbers are modulo 2^32."""

    state: int
    iss: int
    una: int
    nxt: int
    irs: int
    rcv_nxt: int
    rcv_wnd: int
    passive: bool = False
    fin_sent: bool = False
    listening: bool = False


@dataclass
class Outcome:
    """state after; answers as (flags, SEQ, ACK); the text the user gets; what the user is told; how it departs."""

    state: int
    answers: list[tuple[int, int, int]] = field(default_factory=list)
    text: bytes = b""
    told: int = 0
    error: type[OSError] | None = None
    restarts: bool = False
    departures: set[str] = field(default_factory=set)


@dataclass
class Arrival:
    seq: int
    ack: int
    flags: int
    text: bytes

    @property
    def len(self) -> int:
        return len(self.text) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def __str__(self) -> str:
        return f"{flag_names(self.flags)} seq={self.seq} ack={self.ack} text={len(self.text)}"


def within(low: int, x: int, size: int) -> bool:
    """low =< x < low + size, modulo 2^32."""
    return (x - low) % MOD < size


def letter(tcb: Tcb, seg: Arrival) -> Outcome:
    """3.10.7 SEGMENT ARRIVES."""
    out = Outcome(tcb.state)
    if tcb.state == st.CLOSED:
        in_closed(seg, out)
    elif tcb.state == st.LISTEN:
        in_listen(tcb, seg, out)
    elif tcb.state == st.SYN_SENT:
        in_syn_sent(tcb, seg, out)
    else:
        in_other_states(tcb, seg, out)
    return out


def in_closed(seg: Arrival, out: Outcome) -> None:
    """3.10.7.1"""
    if seg.flags & RST:
        return
    if not seg.flags & ACK:
        out.answers.append((RST | ACK, 0, (seg.seq + seg.len) % MOD))
    else:
        out.answers.append((RST, seg.ack, 0))


def in_listen(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """3.10.7.2"""
    if seg.flags & RST:  # first
        return
    if seg.flags & ACK:  # second
        out.answers.append((RST, seg.ack, 0))
        return
    if seg.flags & SYN:  # third
        out.answers.append((SYN | ACK, tcb.iss, (seg.seq + 1) % MOD))
        out.state = st.SYN_RECEIVED
        if seg.text or seg.flags & FIN:
            out.departures.add("text with a SYN")
    # fourth: dropped


def in_syn_sent(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """3.10.7.3"""
    acked = False
    if seg.flags & ACK:  # first
        acked = 0 < (seg.ack - tcb.una) % MOD <= (tcb.nxt - tcb.una) % MOD
        if not acked:
            if not seg.flags & RST:
                out.answers.append((RST, seg.ack, 0))
            return
    if seg.flags & RST:  # second
        if acked:
            out.state, out.error, out.told = st.CLOSED, ConnectionRefusedError, RESET | CLOSED
            out.departures.add("refused")
        return
    if not seg.flags & SYN:  # fifth
        return
    tcb.irs, tcb.rcv_nxt, tcb.rcv_wnd = seg.seq, (seg.seq + 1) % MOD, OUR_BUFFER  # fourth
    if not acked:
        out.state = st.SYN_RECEIVED
        out.answers.append((SYN | ACK, tcb.iss, tcb.rcv_nxt))
        if seg.text or seg.flags & FIN:
            out.departures.add("text with a SYN")
        return
    out.state, tcb.una, out.told = st.ESTABLISHED, seg.ack, CONNECTED
    text_and_fin(tcb, Arrival(tcb.rcv_nxt, seg.ack, seg.flags & ~SYN, seg.text), out)
    acknowledge(tcb, out)


def in_other_states(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """3.10.7.4"""
    flags = seg.flags
    # First, check sequence number.
    if tcb.state == st.SYN_RECEIVED and seg.seq == tcb.irs and not flags & RST:
        if tcb.passive and flags & (SYN | ACK) == SYN:
            out.departures.add("peer's SYN again")
            out.answers.append((SYN | ACK, tcb.iss, tcb.rcv_nxt))
            return
        if not tcb.passive and flags & (SYN | ACK) == SYN | ACK:
            out.departures.add("simultaneous open")
            trimmed = Arrival(tcb.rcv_nxt, seg.ack, flags & ~SYN, seg.text)
            in_other_states(tcb, trimmed, out)
            if out.state != st.SYN_RECEIVED:
                acknowledge(tcb, out)
            return
    if tcb.state == st.TIME_WAIT and tcb.listening and flags & (SYN | ACK | RST) == SYN:
        if within(tcb.rcv_nxt, seg.seq, MOD // 2):
            out.departures.add("newer SYN")
            out.state = st.SYN_RECEIVED
            out.answers.append((SYN | ACK, tcb.iss, (seg.seq + 1) % MOD))
            return
    if not acceptable(tcb, seg):
        not_acceptable(tcb, seg, out)
        return
    # Second, check the RST bit.
    if flags & RST:
        check_rst(tcb, seg, out)
        return
    # Third, security: none. Fourth, check the SYN bit.
    if flags & SYN:
        if tcb.state == st.SYN_RECEIVED and tcb.passive:
            out.state = st.LISTEN
        else:
            acknowledge(tcb, out)
        return
    # Fifth, check the ACK field; seventh, the text; eighth, the FIN bit.
    if flags & ACK and check_ack(tcb, seg, out):
        text_and_fin(tcb, seg, out)


def acceptable(tcb: Tcb, seg: Arrival) -> bool:
    """Table 6."""
    if seg.len == 0:
        return seg.seq == tcb.rcv_nxt if tcb.rcv_wnd == 0 else within(tcb.rcv_nxt, seg.seq, tcb.rcv_wnd)
    if tcb.rcv_wnd == 0:
        return False
    last = (seg.seq + seg.len - 1) % MOD
    return within(tcb.rcv_nxt, seg.seq, tcb.rcv_wnd) or within(tcb.rcv_nxt, last, tcb.rcv_wnd)


def not_acceptable(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """First check: "an acknowledgment should be sent in reply (unless the RST bit is set)"."""
    allowance = tcb.rcv_wnd == 0 and seg.seq == tcb.rcv_nxt
    if seg.flags & RST:
        if allowance:
            out.departures.add("zero window")
            check_rst(tcb, seg, out)
        return
    if allowance and seg.flags & (SYN | ACK) == ACK:
        out.departures.add("zero window")
        if not check_ack(tcb, seg, out):
            return
    if tcb.state == st.TIME_WAIT and seg.flags & FIN and (seg.seq + seg.len) % MOD == tcb.rcv_nxt:
        out.departures.add("FIN in TIME-WAIT")
        out.restarts = True
    acknowledge(tcb, out)


def check_rst(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """Second check, with RFC 5961's three cases."""
    if not within(tcb.rcv_nxt, seg.seq, max(tcb.rcv_wnd, 1)):
        return
    if seg.seq != tcb.rcv_nxt:
        acknowledge(tcb, out)
        return
    out.state = st.CLOSED
    out.told = 0 if tcb.state == st.TIME_WAIT else CLOSED  # whoever is in TIME-WAIT has been told
    if tcb.state == st.SYN_RECEIVED and tcb.passive:
        out.state, out.told = st.LISTEN, 0
    elif tcb.state == st.SYN_RECEIVED:
        out.error = ConnectionRefusedError
    elif tcb.state in (st.ESTABLISHED, st.FIN_WAIT_1, st.FIN_WAIT_2, st.CLOSE_WAIT):
        out.error = ConnectionResetError
    if out.error is not None:
        out.told |= RESET


def check_ack(tcb: Tcb, seg: Arrival, out: Outcome) -> bool:
    """Fifth check. Whether processing goes on."""
    new = 0 < (seg.ack - tcb.una) % MOD <= (tcb.nxt - tcb.una) % MOD
    if tcb.state == st.SYN_RECEIVED:
        if not new:
            out.departures.add("ACK in SYN-RECEIVED")
            out.answers.append((RST, seg.ack, 0))
            return False
        tcb.una, out.state, out.told = seg.ack, st.ESTABLISHED, out.told | CONNECTED
        return True
    oldest = (tcb.una - PEER_WND) % MOD
    if not within(oldest, seg.ack, (tcb.nxt - oldest) % MOD + 1):
        if tcb.state == st.TIME_WAIT:
            out.departures.add("ACK in TIME-WAIT")
        else:
            acknowledge(tcb, out)
        return False
    if new:
        tcb.una = seg.ack
    if tcb.fin_sent and tcb.una == tcb.nxt:
        if tcb.state == st.FIN_WAIT_1:
            out.state = st.FIN_WAIT_2
        elif tcb.state == st.CLOSING:
            out.state, out.told = st.TIME_WAIT, out.told | CLOSED
        elif tcb.state == st.LAST_ACK:
            out.state, out.told = st.CLOSED, out.told | CLOSED
            return False
    return True


def text_and_fin(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """Seventh and eighth check."""
    if out.state not in (st.ESTABLISHED, st.FIN_WAIT_1, st.FIN_WAIT_2):
        if seg.flags & FIN:
            out.departures.add("second FIN")
        return
    start = (seg.seq - tcb.rcv_nxt + MOD // 2) % MOD - MOD // 2
    if start <= 0:
        out.text = seg.text[-start:][: tcb.rcv_wnd]
        tcb.rcv_nxt = (tcb.rcv_nxt + len(out.text)) % MOD
        tcb.rcv_wnd -= len(out.text)
    if out.text:
        out.told |= READABLE
    if seg.flags & FIN and start <= 0 and tcb.rcv_wnd > 0:
        tcb.rcv_nxt = (tcb.rcv_nxt + 1) % MOD
        out.told |= EOF
        if out.state == st.ESTABLISHED:
            out.state = st.CLOSE_WAIT
        elif out.state == st.FIN_WAIT_1:
            out.state = st.CLOSING
        else:
            out.state, out.told = st.TIME_WAIT, out.told | CLOSED
    if seg.text or seg.flags & FIN:
        acknowledge(tcb, out)


def acknowledge(tcb: Tcb, out: Outcome) -> None:
    """<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, once."""
    answer = (ACK, tcb.nxt, tcb.rcv_nxt)
    if answer not in out.answers:
        out.answers.append(answer)


# ---------------------------------------------------------------------------------------- the engine, in each state


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
        self.stack._isn = KnownIsn(iss)
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
        payload = (text,) if text else ()
        segment = Segment(
            PEER[self.version], self.sport, OURS[self.version], self.lport,
            seq % MOD, ack % MOD, flags, PEER_WND, payload, len(text), up=7,
        )  # fmt: skip
        self.stack.on_packets((Packet((encode(segment).data(),)),), START_NS)
        deadline_ns = self.stack.deadline_ns
        if deadline_ns is not None and deadline_ns <= START_NS:
            self.stack.on_timer(START_NS)

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

VARIANTS = {
    "v4": (4, 1_000_000, 3_000_000),
    "v6": (6, 1_000_000, 3_000_000),
    "v4-wrap": (4, MOD - 6, MOD - 4),  # both spaces wrap within what is outstanding, or within the window
    "v6-wrap": (6, MOD - 1, MOD - 1),
}


# ---------------------------------------------------------------------------------------- the matrix


def arrivals(tcb: Tcb) -> Iterator[Arrival]:
    """All the cases for a state. PSH and URG, which change nothing, come along in turns."""
    edge = tcb.rcv_nxt + tcb.rcv_wnd
    seqs = dict.fromkeys(
        s % MOD
        for s in (
            tcb.rcv_nxt - 1000, tcb.rcv_nxt - 1, tcb.rcv_nxt, tcb.rcv_nxt + 100,
            edge - 1, edge, edge + 1000, tcb.rcv_nxt + MOD // 2,
        )
    )  # fmt: skip
    acks = dict.fromkeys(
        a % MOD
        for a in (
            tcb.una - 2 * PEER_WND, tcb.una - PEER_WND // 2, tcb.una - 1, tcb.una, (tcb.una + tcb.nxt) // 2,
            tcb.nxt, tcb.nxt + 1, tcb.nxt + 2 * PEER_WND, tcb.una + MOD // 2,
        )
    )  # fmt: skip
    count = 0
    for bits in range(16):
        flags = sum(flag for index, flag in enumerate((SYN, RST, FIN, ACK)) if bits >> index & 1)
        for text in (b"", TEXT):
            for seq in seqs:
                for ack in acks if flags & ACK else (tcb.una % MOD,):
                    noise = (0, PSH, URG, PSH | URG)[count % 4]
                    count += 1
                    yield Arrival(seq, ack, flags | noise, text)


def fresh(bench: Bench, make: Callable[[Bench], Tcb]) -> Tcb:
    """A connection of its own in the wanted state, nothing left to say."""
    bench.sport += 1
    bench.connection = None
    tcb = make(bench)
    assert bench.state == tcb.state
    bench.sent.clear()
    bench.told = 0
    bench.traced.clear()
    for name in ("iss", "una", "nxt", "irs", "rcv_nxt"):
        setattr(tcb, name, getattr(tcb, name) % MOD)
    return tcb


def observe(bench: Bench, seg: Arrival, tcb: Tcb) -> Outcome:
    """What the engine makes of it."""
    stack, flow = bench.stack, bench.flow
    before = bench.state
    entry = stack._time_waits.get(flow)
    held = 0 if bench.connection is None else bench.connection.readable_bytes
    if entry is not None:
        entry.expires_ns -= SECOND  # so that a restart shows
    bench.hear(seg.seq, seg.ack, seg.flags, seg.text)
    out = Outcome(bench.state, [(s.flags, s.seq, s.ack) for s in bench.sent])
    connection = bench.connection
    if connection is None and before == st.SYN_RECEIVED and bench.listener.queue:
        connection = bench.listener.accept()
        assert connection is not None
        # It was told of nothing, having had no user: what it would have been told can be read off.
        bench.told = CONNECTED | (READABLE if connection.readable_bytes else 0) | (EOF if connection.eof_received else 0)
    if connection is not None:
        out.text = b"".join(connection.receive(1 << 30))[held:]
        out.error = type(connection.error) if connection.error else None
    out.told = bench.told
    found = stack._time_waits.get(flow)
    out.restarts = entry is not None and found is entry and entry.expires_ns == START_NS + 60 * SECOND
    check_events(bench, before)
    return out


def check_events(bench: Bench, before: int) -> None:
    """The trace tells the same story: each move is in the table, and together they lead from SegmentIn to SegmentIn."""
    moves = [e for e in bench.traced if isinstance(e, events.StateChange)]
    [seen] = [e for e in bench.traced if isinstance(e, events.SegmentIn)]
    # From TIME-WAIT a newer SYN leads to CLOSED, and is then the listener's.
    newer = bool(moves) and moves[0].cause == st.RCV_NEWER_SYN
    assert seen.before == (st.LISTEN if newer else before)
    path = [(m.before, m.after) for m in moves if m.cause != st.RCV_NEWER_SYN]
    for move in moves:
        assert st.TRANSITIONS[move.before, move.cause] == move.after
    for (_, after), (then, _) in zip(path, path[1:], strict=False):
        assert after == then
    if path:
        assert path[-1][1] == seen.after
    # An active open that ends in CLOSED and a record that is gone look alike to `Bench.state` on a listening port.
    assert seen.after in (bench.state, st.CLOSED)


def differences(expected: Outcome, found: Outcome) -> list[str]:
    names = ("state", "answers", "text", "told", "error", "restarts")
    return [
        f"{name}: the letter says {getattr(expected, name)!r}, the engine {getattr(found, name)!r}"
        for name in names
        if getattr(expected, name) != getattr(found, name)
    ]


@pytest.mark.rfc9293("MUST-66", "MAY-12")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("state", MAKERS)
def test_each_state_each_segment_does_what_the_letter_says(state: str, variant: str) -> None:
    make, (version, iss, irs) = MAKERS[state], VARIANTS[variant]
    bench = Bench(version, iss, irs)
    wrong: list[str] = []
    count = 0
    for seg in arrivals(fresh(bench, make)):
        tcb = fresh(bench, make)
        found = observe(bench, seg, tcb)
        expected = letter(tcb, seg)
        if found.state == st.LISTEN and expected.state == st.CLOSED and bench.lport == LISTENING:
            found.state = st.CLOSED  # the port is the listener's again
        if different := differences(expected, found):
            wrong.append(f"{state}: {seg} (RCV.NXT={tcb.rcv_nxt} SND.UNA={tcb.una}): {'; '.join(different)}")
        count += 1
    assert not wrong, f"{len(wrong)} of {count} cases:\n" + "\n".join(wrong[:20])
    assert count > 900


def test_each_departure_from_the_letter_comes_up_and_is_explained() -> None:
    met: set[str] = set()
    for make in MAKERS.values():
        bench = Bench(4, 1_000_000, 3_000_000)
        template = fresh(bench, make)
        for seg in arrivals(template):
            met |= letter(Tcb(**vars(template)), seg).departures
    assert met == set(DEPARTURES)
