"""Sections 3.10.7.1 to 3.10.7.3 and 3.10.8: SEGMENT ARRIVES before the eight checks, and timeouts."""

from __future__ import annotations

from ..model import Requirement, in_part, met, unmet

NOT_KEPT = "text and FIN are not kept: a SYN proves nothing. They are not acknowledged, so the peer sends them again"

EVENTS: tuple[Requirement, ...] = (
    met("3.10.7.1-rst", "3.10.7.1", "CLOSED: a RST is dropped.", "answer_closed"),
    met("3.10.7.1-no-ack", "3.10.7.1", "CLOSED: a segment without ACK earns SEQ=0, ACK=SEG.SEQ+SEG.LEN, RST,ACK.",
        "answer_closed"),
    met("3.10.7.1-ack", "3.10.7.1", "CLOSED: a segment with ACK earns SEQ=SEG.ACK, RST.", "answer_closed"),
    met("3.10.7.2-rst", "3.10.7.2", "LISTEN: a RST is ignored.", "answer_listen"),
    met("3.10.7.2-ack", "3.10.7.2", "LISTEN: an ACK earns SEQ=SEG.ACK, RST.", "answer_listen"),
    in_part("3.10.7.2-syn", "3.10.7.2", "LISTEN: a SYN earns SEQ=ISS, ACK=SEG.SEQ+1, SYN,ACK, and leads to "
            "SYN-RECEIVED; its text and FIN are kept for later.", "Unclaimed._open", "syn_ack", but=NOT_KEPT),
    met("3.10.7.2-other", "3.10.7.2", "LISTEN: a segment with neither RST nor ACK nor SYN is dropped.",
        "answer_listen"),
    met("3.10.7.3-ack", "3.10.7.3", "SYN-SENT: an ACK that is not for our SYN earns SEQ=SEG.ACK, RST, unless it comes "
        "with a RST; the segment is dropped.", "Connection._arrives_in_syn_sent"),
    met("3.10.7.3-rst", "3.10.7.3", "SYN-SENT: a RST with an ACK of our SYN ends the open with an error; one without "
        "ACK is dropped.", "Connection._arrives_in_syn_sent"),
    unmet("3.10.7.3-security", "3.10.7.3", "SYN-SENT: another security compartment earns a RST.",
          "there are no compartments here: only multi-level secure systems have them (A.1.2)"),
    met("3.10.7.3-syn-ack", "3.10.7.3", "SYN-SENT: a SYN that acknowledges ours establishes and is acknowledged; its "
        "text and FIN are processed.", "Connection._arrives_in_syn_sent"),
    in_part("3.10.7.3-syn", "3.10.7.3", "SYN-SENT: a SYN without ACK leads to SYN-RECEIVED and earns SEQ=ISS, "
            "ACK=RCV.NXT, SYN,ACK; its window is taken, its text and FIN are kept for later.",
            "Connection._arrives_in_syn_sent", but=NOT_KEPT),
    met("3.10.7.3-neither", "3.10.7.3", "SYN-SENT: a segment with neither SYN nor RST is dropped.",
        "Connection._arrives_in_syn_sent"),
    met("3.10.8-user-timeout", "3.10.8", "When the user timeout passes the queues are flushed, the user hears of it, "
        "and the connection is CLOSED.", "Connection._on_retransmission_timeout"),
    met("3.10.8-retransmission", "3.10.8", "When the retransmission timeout passes the first unacknowledged segment "
        "goes again, and the timer starts anew.", "Sender.on_timer"),
    met("3.10.8-time-wait", "3.10.8", "When the 2 MSL of TIME-WAIT have passed the connection is CLOSED.",
        "TimeWaitTable.expire"),
)  # fmt: skip
