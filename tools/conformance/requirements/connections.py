"""Sections 3.4.1 to 3.6: initial sequence numbers, opening, resets, closing."""

from __future__ import annotations

from ..model import Requirement, met

CONNECTIONS: tuple[Requirement, ...] = (
    met("MUST-8", "3.4.1", "Initial sequence numbers advance with a clock that ticks every 4 microseconds.",
        "InitialSequenceNumbers.choose"),
    met("SHLD-1", "3.4.1", "To the clock is added a pseudorandom function of both sockets and a secret.",
        "InitialSequenceNumbers.choose"),
    met("MUST-9", "3.4.1", "Nobody outside can compute that function.", "InitialSequenceNumbers.choose"),
    met("MUST-10", "3.5", "Two ends that open towards each other at once get one connection.",
        "Connection._arrives_in_syn_sent"),
    met("MUST-11", "3.5", "SYN-RECEIVED knows whether it came from a passive or an active OPEN.",
        "on_syn_received", "Connection._check_rst"),
    met("SHLD-2", "3.5.3", "A RST may carry text.", "Connection._check_rst"),
    met("MUST-12", "3.6", "The application learns whether the peer closed (EOF) or aborted (an error).",
        "TransmissionControlBlock._delete", "Connection._text_and_fin"),
    met("MAY-1", "3.6.1", "Half-duplex close: who has closed for good reads nothing any more.", "Connection.release"),
    met("SHLD-3", "3.6.1", "A half-duplex close that loses received text sends a RST.", "Connection.release"),
    met("MUST-13", "3.6.1", "Who closes actively stays in TIME-WAIT for 2 MSL.", "TimeWait", "TimeWaitTable"),
    met("MAY-2", "3.6.1", "A newer SYN reopens a connection from TIME-WAIT, with a larger ISN; an old one restores it.",
        "on_time_wait", "InitialSequenceNumbers.choose_beyond"),
    met("SHLD-4", "3.6.1", "Timestamps let new connections replace those in TIME-WAIT sooner (RFC 6191).",
        "on_time_wait"),
)  # fmt: skip
