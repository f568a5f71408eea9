"""Section 3.10.7.4: the eight checks, each clause by a name of its own."""

from __future__ import annotations

from ..model import Requirement, in_part, met, unmet

SECTION = "3.10.7.4"
NO_COMPARTMENTS = "there are no compartments here: only multi-level secure systems have them (A.1.2)"


def _met(name: str, text: str, *where: str) -> Requirement:
    return met(f"{SECTION}-{name}", SECTION, text, *where)


def _in_part(name: str, text: str, *where: str, but: str) -> Requirement:
    return in_part(f"{SECTION}-{name}", SECTION, text, *where, but=but)


EIGHT_CHECKS: tuple[Requirement, ...] = (
    met("MUST-58", SECTION, "Acknowledgements are aggregated whenever possible.", "Turns._finish", "AckPolicy"),
    met("MUST-59", SECTION, "All segments that are queued are processed before any of them is acknowledged.",
        "Turns.on_packets"),
    met("SHLD-31", SECTION, "Segments beyond RCV.NXT are held for later.", "Reassembly"),
    # First, check sequence number.
    _met("seq-straddles", "First: of a segment that straddles old and new only the new part counts.",
         "Receiver.take_text"),
    _in_part("seq-table-6", "First: what is acceptable is decided by the four cases of Table 6.", "acceptable",
             but="a segment that reaches beyond the window at both ends is taken too, though neither its first octet "
             "nor its last lies inside: a superpacket may be like that"),
    _met("seq-zero-window", "First: where RCV.WND is zero, valid ACKs, URGs and RSTs are taken all the same.",
         "Connection._unacceptable"),
    _in_part("seq-unacceptable", "First: an unacceptable segment earns SEQ=SND.NXT, ACK=RCV.NXT, ACK, and is dropped.",
             "Connection._unacceptable", "on_syn_received",
             but="at most two a second go for SYNs and for segments without text (RFC 5961 7); in SYN-RECEIVED after a "
             "passive OPEN the peer's SYN again earns our SYN,ACK again, which is the acknowledgement that it lacks"),
    _met("seq-unacceptable-rst", "First: an unacceptable RST is dropped and earns nothing.",
         "Connection._unacceptable"),
    # Second, check the RST bit.
    _met("rst-outside", "Second: a RST outside the window is dropped silently.",
         "Connection._unacceptable", "Connection._check_rst"),
    _met("rst-exact", "Second: a RST at RCV.NXT resets.", "Connection._check_rst", "on_syn_received", "on_time_wait"),
    _met("rst-challenge", "Second: a RST elsewhere in the window earns a challenge ACK.",
         "Connection._check_rst", "on_syn_received", "on_time_wait"),
    _met("rst-challenge-drop", "Second: and is otherwise dropped.", "Connection._check_rst"),
    _met("rst-syn-received-passive", "Second: SYN-RECEIVED after a passive OPEN goes back to LISTEN, and nobody is "
         "told.", "on_syn_received"),
    _met("rst-syn-received-active", "Second: SYN-RECEIVED after an active OPEN is refused: CLOSED, and the user is "
         "told.", "Connection._check_rst"),
    _met("rst-established", "Second: ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT: queues are flushed, the user "
         "hears of a reset, CLOSED.", "Connection._check_rst", "TransmissionControlBlock._delete"),
    _met("rst-closing", "Second: CLOSING, LAST-ACK, TIME-WAIT: CLOSED.", "Connection._check_rst", "on_time_wait"),
    # Third, check security.
    unmet(f"{SECTION}-security", SECTION, "Third: another security compartment earns a RST and ends the connection.",
          NO_COMPARTMENTS),
    # Fourth, check the SYN bit.
    _met("syn-syn-received-passive", "Fourth: a SYN in the window sends SYN-RECEIVED after a passive OPEN back to "
         "LISTEN.", "on_syn_received"),
    _met("syn-challenge", "Fourth: a SYN in a synchronized state earns a challenge ACK, wherever it lies.",
         "Connection._arrives", "Connection._unacceptable"),
    _met("syn-drop", "Fourth: and is otherwise dropped.", "Connection._arrives"),
    # Fifth, check the ACK field.
    _met("ack-off", "Fifth: a segment without ACK is dropped.", "Connection._arrives"),
    _in_part("ack-range", "Fifth: an ACK below SND.UNA - MAX.SND.WND or above SND.NXT is not acceptable (RFC 5961 5).",
             "Connection._check_ack",
             but="in SYN-RECEIVED any ACK but that of our SYN earns a RST, and TIME-WAIT does not look at the ACK "
             "field: MAX.SND.WND means nothing in either"),
    met("MAY-12", SECTION, "That mitigation of blind injection is there.", "Connection._check_ack"),
    _met("ack-range-drop", "Fifth: such a segment is dropped, and an ACK goes back.", "Connection._check_ack"),
    _met("ack-syn-received", "Fifth: in SYN-RECEIVED an ACK of our SYN establishes, and its window is taken.",
         "on_syn_received", "Connection._check_ack"),
    _met("ack-syn-received-rst", "Fifth: in SYN-RECEIVED any other ACK earns SEQ=SEG.ACK, RST.",
         "on_syn_received", "Connection._check_ack"),
    _met("ack-una", "Fifth: a new ACK advances SND.UNA and takes away what it acknowledges.", "Sender.on_ack"),
    _met("ack-duplicate", "Fifth: a duplicate ACK (SEG.ACK =< SND.UNA) acknowledges nothing; its segment is processed.",
         "Connection._check_ack"),
    _met("ack-not-sent", "Fifth: an ACK of what was never sent earns an ACK, and the segment is dropped.",
         "Connection._check_ack"),
    _in_part("ack-window", "Fifth: SND.WND is taken from segments that are not older than the last that gave it.",
             "Connection._check_ack", "Sender.set_window",
             but="a new ACK brings its window however old its sequence number is, as on Linux: SND.WND counts from "
             "SND.UNA, and kept as it was it would reach beyond what was offered"),
    _met("ack-fin-wait-1", "Fifth: FIN-WAIT-1: an ACK of our FIN leads to FIN-WAIT-2.",
         "Connection._fin_acknowledged"),
    _met("ack-fin-wait-2", "Fifth: FIN-WAIT-2: as ESTABLISHED; the connection stays.", "Connection._check_ack"),
    _met("ack-close-wait", "Fifth: CLOSE-WAIT: as ESTABLISHED.", "Connection._check_ack"),
    _met("ack-closing", "Fifth: CLOSING: an ACK of our FIN leads to TIME-WAIT, nothing else does.",
         "Connection._fin_acknowledged"),
    _met("ack-last-ack", "Fifth: LAST-ACK: an ACK of our FIN leads to CLOSED.", "Connection._fin_acknowledged"),
    _met("ack-time-wait", "Fifth: TIME-WAIT: the peer's FIN again is acknowledged, and the 2 MSL start anew.",
         "on_time_wait"),
    # Sixth, check the URG bit.
    _met("urg", "Sixth: RCV.UP advances with SEG.UP, and the user hears of urgent text that it has not read, once for "
         "each advance (MUST-32).", "Connection._check_urg"),
    _met("urg-after-fin", "Sixth: URG is ignored once the peer's FIN has been received.", "Connection._check_urg"),
    # Seventh, process the segment text.
    _met("text-deliver", "Seventh: text goes to the user in ESTABLISHED, FIN-WAIT-1 and FIN-WAIT-2, in order and once.",
         "Receiver.take_text"),
    _in_part("text-acknowledge", "Seventh: text that is taken is acknowledged, with SEQ=SND.NXT, ACK=RCV.NXT.",
             "AckPolicy.on_text", "Output._segment",
             but="while a probe is out, SEQ stays within the peer's window, which SND.NXT has passed, as on Linux: the "
             "peer would take no other"),
    _met("text-window", "Seventh: RCV.NXT advances over it, and RCV.NXT+RCV.WND is not reduced.",
         "Receiver.enqueue", "Receiver.offer"),
    met("MAY-13", SECTION, "Text in the window but beyond RCV.NXT is acknowledged at once.",
        "AckPolicy.owe_duplicate"),
    _met("text-piggyback", "Seventh: the acknowledgement goes with text of ours if there is some.",
         "Output.transmit"),
    _met("text-after-fin", "Seventh: text is ignored once the peer's FIN has been received.",
         "Connection._text_and_fin"),
    # Eighth, check the FIN bit.
    _met("fin-unsynchronized", "Eighth: a FIN is not processed in CLOSED, LISTEN and SYN-SENT.",
         "answer_listen", "Connection._arrives_in_syn_sent"),
    _met("fin-signal", "Eighth: the user hears of the FIN, RCV.NXT advances over it, and it is acknowledged.",
         "Connection._text_and_fin", "Receiver.reach_fin"),
    _met("fin-established", "Eighth: SYN-RECEIVED and ESTABLISHED go to CLOSE-WAIT.", "Connection._text_and_fin"),
    _met("fin-fin-wait-1", "Eighth: FIN-WAIT-1 goes to TIME-WAIT where our FIN is acknowledged, else to CLOSING.",
         "Connection._text_and_fin"),
    _met("fin-fin-wait-2", "Eighth: FIN-WAIT-2 goes to TIME-WAIT, and all timers but its own stop.",
         "Connection._text_and_fin"),
    _met("fin-remain", "Eighth: CLOSE-WAIT, CLOSING and LAST-ACK stay where they are.", "Connection._text_and_fin"),
    _met("fin-time-wait", "Eighth: TIME-WAIT stays, and its 2 MSL start anew.", "on_time_wait"),
)  # fmt: skip
