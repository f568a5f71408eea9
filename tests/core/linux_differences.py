"""Where Linux answers otherwise than the letter (letter.py), and with what: together they say what Linux does.

Each difference has the cases in which it shows, and what Linux does in them: so one that is too broad is found, too.
Measured with the version of MEASURED. The order counts: the first that applies is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tcpstack.core import state as st
from tcpstack.core.segment import ACK, FIN, RST, SYN, URG
from tests.core.letter import MOD, PEER_WND, Arrival, Outcome, Tcb, in_closed, letter, within

MEASURED = "6.18"
CLOSING_DOWN = (st.CLOSE_WAIT, st.CLOSING, st.LAST_ACK)


class At:
    """A segment that arrives at a connection, in the terms in which Linux looks at it."""

    def __init__(self, tcb: Tcb, seg: Arrival) -> None:
        self.tcb, self.seg, self.state = tcb, seg, tcb.state
        flags = seg.flags
        self.syn, self.rst, self.fin, self.ack = flags & SYN, flags & RST, flags & FIN, flags & ACK
        self.start = signed(seg.seq - tcb.rcv_nxt)  # from RCV.NXT
        self.end = self.start + seg.len
        self.beyond = self.end - bool(self.fin) - tcb.rcv_wnd  # how far it reaches out of the window
        self.wnd = tcb.rcv_wnd
        self.record = tcb.state == st.SYN_RECEIVED and tcb.passive  # a "request sock", no socket yet
        self.socket = tcb.state not in (st.CLOSED, st.LISTEN, st.SYN_SENT, st.TIME_WAIT) and not self.record
        self.opens = flags & (SYN | ACK | RST) == SYN

    def acks(self, low: int, high: int) -> bool:
        """low =< SEG.ACK =< high"""
        return bool(self.ack) and within(low % MOD, self.seg.ack, (high - low) % MOD + 1)

    # -- what Linux may do

    def nothing(self) -> Outcome:
        return Outcome(self.state)

    def acknowledges(self) -> Outcome:
        return Outcome(self.state, [(ACK, self.tcb.nxt, self.tcb.rcv_nxt)])

    def challenges(self) -> Outcome:
        out = self.acknowledges()
        out.limited = True
        return out

    def resets(self, state: int) -> Outcome:
        """And is in `state` then."""
        out = Outcome(state)
        in_closed(self.seg, out)
        return out

    def as_if(self, **changes: object) -> Outcome:
        """What Linux makes of another segment."""
        return linux(replace(self.tcb), replace(self.seg, **changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Difference:
    """`reference` is what we go by; `linux` what Linux does in the cases of `where`."""

    reason: str
    reference: str
    where: Callable[[At], object]
    linux: Callable[[At], Outcome]


DIFFERENCES = [
    Difference(
        "Linux drops a SYN,FIN for a listener. We answer the SYN, and its FIN comes again.",
        "RFC 9293 3.10.7.2, third",
        lambda a: a.state == st.LISTEN and a.opens and a.fin,
        lambda a: a.nothing(),
    ),
    Difference(
        "Linux leaves text and FIN of a SYN,ACK to be sent again. We take them.",
        "RFC 9293 3.10.7.3, fourth",
        lambda a: a.state == st.SYN_SENT and a.syn and not a.rst and a.acks(a.tcb.nxt, a.tcb.nxt) and a.seg.len > 1,
        lambda a: a.as_if(text=b"", flags=a.seg.flags & ~FIN),
    ),
    Difference(
        "Before the handshake is done, Linux looks at the ACK field first, and a wrong one earns a RST whatever the "
        "sequence number. We look at that first.",
        "RFC 9293 3.10.7.4, first, fifth",
        lambda a: a.record and not a.rst and a.ack and not a.acks(a.tcb.nxt, a.tcb.nxt),
        lambda a: a.resets(a.state),
    ),
    Difference(
        "Where a SYN in the window sends SYN-RECEIVED back to LISTEN, Linux says so with a RST. The RFC returns "
        "without a word.",
        "RFC 9293 3.10.7.4, fourth",
        lambda a: a.record and a.syn and not a.rst and 0 <= a.start < a.wnd,
        lambda a: a.resets(st.LISTEN),
    ),
    Difference(
        "A SYN,ACK at the number of the SYN that we know, with text: to Linux the SYN counts as trimmed off, and then "
        "as a reason for a challenge. To us it is a SYN of a segment that reaches into the window.",
        "RFC 9293 3.10.7.4, first, fourth",
        lambda a: a.record and a.syn and a.ack and not a.rst and a.start == -1,
        lambda a: a.challenges(),
    ),
    Difference(
        "In a simultaneous open Linux trims off the SYN only of the very SYN,ACK of Figure 8: not of one with text, "
        "FIN, or a wrong ACK field, which it challenges.",
        "RFC 9293 3.5, Figure 8",
        lambda a: a.socket and a.state == st.SYN_RECEIVED and a.syn and a.ack and not a.rst and a.start == -1
        and (a.seg.len > 1 or not a.acks(a.tcb.nxt, a.tcb.nxt)),
        lambda a: a.challenges(),
    ),
    Difference(
        "In a simultaneous open an ACK of SND.UNA, which acknowledges nothing, takes Linux to ESTABLISHED. To us it is "
        "no ACK of our SYN, and earns a RST.",
        "RFC 9293 3.10.7.4, fifth, SYN-RECEIVED",
        lambda a: a.socket and a.state == st.SYN_RECEIVED and not a.syn and not a.rst and a.acks(a.tcb.una, a.tcb.una),
        lambda a: a.as_if(ack=a.tcb.nxt),
    ),
    Difference(
        "A segment with none of SYN, RST and ACK is no segment to Linux: it is dropped wherever it lies. We "
        "acknowledge it where it is unacceptable.",
        "RFC 9293 3.10.7.4, first",
        lambda a: a.socket and not (a.syn or a.rst or a.ack),
        lambda a: a.nothing(),
    ),
    Difference(
        "Having heard a FIN, Linux takes a RST at the FIN's own number too (macOS sends these). We go by RCV.NXT "
        "alone.",
        "RFC 5961 3.2",
        lambda a: a.state in CLOSING_DOWN and a.rst and a.start == -1,
        lambda a: Outcome(st.CLOSED),
    ),
    Difference(
        "A FIN without text is taken by Linux while its window is closed, since some send it regardless. To us it is "
        "unacceptable, and comes again.",
        "RFC 9293 3.10.7.4, first",
        lambda a: a.wnd == 0 and a.fin and not (a.syn or a.rst or a.seg.text) and a.start == 0
        and a.acks(a.tcb.una, a.tcb.nxt),
        lambda a: Outcome(st.CLOSE_WAIT, [(ACK, a.tcb.nxt, (a.tcb.rcv_nxt + 1) % MOD)]),
    ),
    Difference(
        "While its window is closed, Linux takes no RST that has text. We take any at RCV.NXT.",
        "RFC 9293 3.4 (MUST-66)",
        lambda a: a.wnd == 0 and a.rst and a.start == 0 and a.beyond > 0,
        lambda a: a.nothing(),
    ),
    Difference(
        "The edges: Linux takes what begins at RCV.NXT+RCV.WND, and what ends at RCV.NXT, for acceptable.",
        "RFC 9293 3.10.7.4, Table 6",
        lambda a: (a.socket or a.record) and on_edge(a),
        lambda a: in_the_window(a),
    ),
    Difference(
        "Text beyond the peer's FIN, with text before it, makes Linux reset the connection. We ignore it.",
        "RFC 9293 3.10.7.4, seventh",
        lambda a: a.state in CLOSING_DOWN and not a.syn and not a.rst and a.start < 0 < a.end - bool(a.fin)
        and a.acks(a.tcb.una, a.tcb.nxt) and not (a.state != st.CLOSE_WAIT and a.acks(a.tcb.nxt, a.tcb.nxt)),
        lambda a: a.resets(st.CLOSED),
    ),
    Difference(
        "Linux's header prediction takes the next text whatever old ACK field it has. With us the fifth check is for "
        "text, too: it is dropped where RFC 5961's range is missed.",
        "RFC 5961 5.2",
        lambda a: a.state == st.ESTABLISHED and a.wnd and a.start == 0 and a.seg.text and not a.syn and not a.rst
        and not a.fin and not a.seg.flags & URG and a.ack and signed(a.seg.ack - a.tcb.una) < 0
        and signed(a.seg.ack - a.tcb.nxt) < 0,
        lambda a: a.as_if(ack=a.tcb.una),
    ),
    Difference(
        "An ACK below the first octet ever sent is challenged by Linux even where MAX.SND.WND would have it pass. We "
        "follow RFC 5961's range.",
        "RFC 5961 5.2",
        lambda a: a.socket and a.state != st.SYN_RECEIVED and not a.syn and not a.rst
        and acceptable_to_linux(a) and a.acks(a.tcb.una - PEER_WND, a.tcb.iss),
        lambda a: a.challenges(),
    ),
    Difference(
        "Linux answers no RST in TIME-WAIT but that at RCV.NXT. We challenge one in the window.",
        "RFC 5961 3.2",
        lambda a: a.state == st.TIME_WAIT and a.rst and a.start != 0,
        lambda a: a.nothing(),
    ),
    Difference(
        "A SYN at RCV.NXT opens no new connection from TIME-WAIT with Linux. It is beyond all that was used, so "
        "with us it does.",
        "RFC 9293 3.10.7.4 (MAY-2)",
        lambda a: a.state == st.TIME_WAIT and a.tcb.listening and a.opens and a.start == 0,
        lambda a: a.acknowledges(),
    ),
    Difference(
        "A SYN with half the sequence space between is newer to Linux; to us it is neither newer nor older.",
        "RFC 9293 3.4",
        lambda a: a.state == st.TIME_WAIT and a.tcb.listening and a.opens and a.start == -MOD // 2 and not a.fin,
        lambda a: Outcome(st.SYN_RECEIVED, [(SYN | ACK, a.tcb.iss, (a.seg.seq + 1) % MOD)]),
    ),
    Difference(
        "A newer SYN,FIN ends TIME-WAIT with Linux, and is then dropped. We answer the SYN.",
        "RFC 9293 3.10.7.2, third",
        lambda a: a.state == st.TIME_WAIT and a.tcb.listening and a.opens and a.fin
        and (a.start > 0 or a.start == -MOD // 2),
        lambda a: Outcome(st.LISTEN),
    ),
    Difference(
        "In TIME-WAIT Linux acknowledges whatever else is in the window. We only what the RFC has answered there.",
        "RFC 9293 3.10.7.4, fifth to eighth",
        lambda a: a.state == st.TIME_WAIT and not a.rst and not (a.tcb.listening and a.opens and a.start >= 0)
        and not (a.start == 0 and a.seg.len == 0),
        lambda a: a.acknowledges(),
    ),
]  # fmt: skip


def signed(distance: int) -> int:
    return (distance + MOD // 2) % MOD - MOD // 2


def acceptable_to_linux(a: At) -> bool:
    return a.end >= 0 and a.start <= a.wnd and (a.wnd > 0 or a.beyond <= 0)


def on_edge(a: At) -> bool:
    if a.record:
        return (a.start == a.wnd and a.seg.len == 0) or bool(a.rst and a.start < 0 < a.end)
    if a.start == a.wnd > 0:
        return True
    return a.start < 0 <= a.end and a.beyond <= 0 and bool(a.rst or (a.ack and not a.syn and a.end == 0))


def in_the_window(a: At) -> Outcome:
    """All of a segment on the edge counts but text and FIN, which have no place and earn an ACK."""
    if a.rst or a.syn:
        return a.challenges()
    out = a.as_if(seq=a.tcb.rcv_nxt, text=b"", flags=a.seg.flags & ~FIN)
    ignored = out.state in (st.TIME_WAIT, st.CLOSED) or (a.state in CLOSING_DOWN and a.start >= 0)
    if a.seg.len and not out.answers and not ignored:
        out.answers.append((ACK, a.tcb.nxt, a.tcb.rcv_nxt))
    return out


def linux(tcb: Tcb, seg: Arrival, reasons: list[str] | None = None) -> Outcome:
    """What Linux does; `reasons` is told the difference that made it so, where one did."""
    a = At(tcb, seg)
    for difference in DIFFERENCES:
        if difference.where(a):
            if reasons is not None:
                reasons.append(difference.reason)
            return difference.linux(a)
    out = letter(replace(tcb), seg)
    # What is outside the window is acknowledged each time where it has text or a FIN, and no SYN: in SYN-RECEIVED, too,
    # and before the ACK field of what comes into a closed window is looked at. With us both are limited.
    if (a.seg.text or a.fin) and not a.syn and (a.record or a.wnd == 0):
        out.limited = False
    return out
