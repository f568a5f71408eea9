"""RFC 9293 3.10.7, SEGMENT ARRIVES, transcribed sentence by sentence: the oracle of the state matrix.

The three checks of RFC 5961 are in it as RFC 9293 quotes them; arithmetic is modulo 2^32. It shares no code with the
engine but the names of states, flags and readiness bits. Where the engine departs from the letter, the letter's answer
is replaced under a name of DEPARTURES, which says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tcpstack.core import state as st
from tcpstack.core.readiness import CLOSED, CONNECTED, EOF, READABLE, RESET, URGENT
from tcpstack.core.segment import ACK, FIN, RST, SYN, URG, flag_names

MOD = 1 << 32
PEER_WND, OUR_BUFFER = 10_000, 4_096  # what each end offers in the handshake
UP = 7  # SEG.UP of what arrives with URG

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
    unread: int = 0
    listening: bool = False


@dataclass
class Outcome:
    """state after; answers as (flags, SEQ, ACK); the text the user gets; what the user is told; how it departs.

    limited  the answer is one of those of which a connection sends one in 500 ms (RFC 5961 7)
    """

    state: int
    answers: list[tuple[int, int, int]] = field(default_factory=list)
    text: bytes = b""
    told: int = 0
    error: type[OSError] | None = None
    restarts: bool = False
    limited: bool = False
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
    tcb.irs, tcb.rcv_nxt = seg.seq, (seg.seq + 1) % MOD  # fourth
    if not acked:
        out.state = st.SYN_RECEIVED
        out.answers.append((SYN | ACK, tcb.iss, tcb.rcv_nxt))
        if seg.text or seg.flags & FIN:
            out.departures.add("text with a SYN")
        return
    out.state, tcb.una, out.told = st.ESTABLISHED, seg.ack, CONNECTED
    check_urg(tcb, seg, out)  # "continue processing at the sixth step"
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
            challenge(tcb, out)
        return
    # Fifth, check the ACK field; sixth, the URG bit; seventh, the text; eighth, the FIN bit.
    if flags & ACK and check_ack(tcb, seg, out):
        check_urg(tcb, seg, out)
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
        check_urg(tcb, seg, out)
    if tcb.state == st.TIME_WAIT and seg.flags & FIN and (seg.seq + seg.len) % MOD == tcb.rcv_nxt:
        out.departures.add("FIN in TIME-WAIT")
        out.restarts = True
    # RFC 5961 7: a SYN's is a challenge; and two ends could answer each other's ACKs for ever, but not text.
    speaks = seg.text or (seg.flags & FIN and (tcb.state != st.TIME_WAIT or out.restarts))
    out.limited = bool(seg.flags & SYN) or not speaks or (tcb.state == st.SYN_RECEIVED and tcb.passive)
    acknowledge(tcb, out)


def check_rst(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """Second check, with RFC 5961's three cases."""
    if not within(tcb.rcv_nxt, seg.seq, max(tcb.rcv_wnd, 1)):
        return
    if seg.seq != tcb.rcv_nxt:
        challenge(tcb, out)
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
            challenge(tcb, out)
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


def check_urg(tcb: Tcb, seg: Arrival, out: Outcome) -> None:
    """Sixth check. No URG has come before, so each one advances RCV.UP."""
    consumed = tcb.rcv_nxt - tcb.unread
    ahead = 0 < (seg.seq + UP - consumed) % MOD < MOD // 2
    if seg.flags & URG and ahead and out.state in (st.ESTABLISHED, st.FIN_WAIT_1, st.FIN_WAIT_2):
        out.told |= URGENT


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


def challenge(tcb: Tcb, out: Outcome) -> None:
    """A challenge ACK of RFC 5961."""
    out.limited = True
    acknowledge(tcb, out)


def acknowledge(tcb: Tcb, out: Outcome) -> None:
    """<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, once."""
    answer = (ACK, tcb.nxt, tcb.rcv_nxt)
    if answer not in out.answers:
        out.answers.append(answer)
