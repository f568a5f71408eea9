"""Section 3.8: retransmission, congestion, failures, keep-alives, urgent text, windows, acknowledgements."""

from __future__ import annotations

from ..model import Requirement, applications, in_part, met, unmet

NO_KEEPALIVE = "there are no keep-alives (MAY-5), whom alone this binds; they come later"
NO_URGENT = "URG is neither sent nor told the application: urgent text is read in its place in the stream, as RFC 6093 \
would have all applications read it"

DATA: tuple[Requirement, ...] = (
    met("MUST-18", "3.8.1", "The retransmission timeout is RFC 6298's, and Karn's algorithm takes its samples.",
        "core/send/rto.py:RetransmissionTimeout", "Sender.on_timer"),
    met("MAY-4", "3.8.1", "A retransmission may have the IP identification of the original: all of ours have zero, "
        "with Don't Fragment (RFC 6864).", "dpkt_codec.py:encode"),
    met("MUST-19", "3.8.2", "Slow start, congestion avoidance, and exponential backoff of the timeout.",
        "NewReno", "core/send/rto.py:RetransmissionTimeout.on_timeout"),
    unmet("MAY-18", "3.8.2", "Other congestion control algorithms may be had.", "there is NewReno; others come later"),
    unmet("SHLD-8", "3.8.2", "Explicit congestion notification (RFC 3168).", "not yet"),
    met("MUST-20", "3.8.3", "Excessive retransmission: negative advice at R1 (to the tracer: with one link and no "
        "gateways there is no other route to take), the end of the connection at R2.",
        "Sender.on_timer", "Connection._on_retransmission_timeout", "ExcessiveRetransmission"),
    met("MUST-21", "3.8.3", "An application sets R2 for a connection.", "Config.r2_ns"),
    met("SHLD-9", "3.8.3", "The application hears of the trouble before R2: the tracer, at each timeout, and at R1.",
        "core/events.py:RetransmissionTimeout", "Connection._on_retransmission_timeout"),
    met("SHLD-10", "3.8.3", "R1 is at least 3 retransmissions: 3.", "Config.r1_retransmissions"),
    met("SHLD-11", "3.8.3", "R2 is at least 100 seconds: 300.", "Config.r2_ns"),
    met("MUST-22", "3.8.3", "SYNs are repeated, backed off, given up and told of in the same way as text.",
        "Connection._on_retransmission_timeout"),
    in_part("MUST-23", "3.8.3", "R2 of a SYN is at least 3 minutes.", "Config.syn_r2_ns",
            but="that of a SYN,ACK after a passive open is 60 s, as on Linux: its peer is unproven, and will repeat "
            "its SYN"),
    unmet("MAY-5", "3.8.4", "Keep-alives.", "not yet"),
    unmet("MUST-24", "3.8.4", "Keep-alives can be switched on and off for each connection.", NO_KEEPALIVE),
    unmet("MUST-25", "3.8.4", "Keep-alives are off by default.", NO_KEEPALIVE),
    unmet("MUST-26", "3.8.4", "Keep-alives go only where nothing is outstanding and nothing came for an interval.",
          NO_KEEPALIVE),
    unmet("MUST-27", "3.8.4", "That interval can be configured.", NO_KEEPALIVE),
    unmet("MUST-28", "3.8.4", "That interval is two hours or more by default.", NO_KEEPALIVE),
    unmet("MUST-29", "3.8.4", "A keep-alive that goes unanswered does not by itself mean a dead connection.",
          NO_KEEPALIVE),
    unmet("SHLD-12", "3.8.4", "A keep-alive carries no text.", NO_KEEPALIVE),
    unmet("MAY-6", "3.8.4", "A keep-alive can carry one octet of garbage.", NO_KEEPALIVE),
    applications("SHLD-13", "3.8.5", "New applications do not use urgent text."),
    unmet("MUST-30", "3.8.5", "The urgent mechanism is supported.", NO_URGENT),
    in_part("MUST-31", "3.8.5", "Urgent text may be of any length.", "Connection._text_and_fin",
            but="it is received, of any length, as the text it is; none can be sent as urgent"),
    unmet("MUST-62", "3.8.5", "The urgent pointer points behind the last octet of urgent text.", NO_URGENT),
    unmet("MUST-32", "3.8.5", "The application hears at once of urgent text, and of more of it.", NO_URGENT),
    unmet("MUST-33", "3.8.5", "The application can learn whether urgent text is left to read.", NO_URGENT),
    met("SHLD-14", "3.8.6", "The right edge of our window never moves left.", "Receiver.window_field"),
    met("MUST-34", "3.8.6", "A peer that shrinks its window, even below what is in flight, does no harm.",
        "departures.py:_new_chunk"),
    met("SHLD-15", "3.8.6", "No new text is sent where the window shrank.", "departures.py:_new_chunk"),
    met("SHLD-16", "3.8.6", "What is unacknowledged and lies within the shrunk window is sent again as ever.",
        "departures.py:_retransmission"),
    unmet("MAY-7", "3.8.6", "What lies beyond the shrunk window may be sent again.", "it waits for the window"),
    met("SHLD-17", "3.8.6", "A connection does not time out because text beyond the shrunk window is unacknowledged.",
        "Sender.on_probe_answered"),
    met("MUST-35", "3.8.6", "A window that shrank to zero is probed.", "Sender.arm", "departures.py:_forced_chunk"),
    met("MUST-36", "3.8.6.1", "Zero windows are probed.", "Sender.on_timer", "departures.py:_forced_chunk"),
    met("MAY-8", "3.8.6.1", "Our own window may stay closed for as long as the application does not read.",
        "Receiver.window_field"),
    met("MUST-37", "3.8.6.1", "While probes are answered the connection stays open.", "Sender.on_probe_answered"),
    met("SHLD-29", "3.8.6.1", "The first probe goes after one retransmission timeout.",
        "Sender._persist_interval_ns"),
    met("SHLD-30", "3.8.6.1", "Intervals between probes grow exponentially.", "Sender._persist_interval_ns"),
    met("MUST-38", "3.8.6.2.1", "The sender avoids silly windows.", "departures.py:_new_chunk"),
    met("MUST-39", "3.8.6.2.2", "The receiver avoids silly windows.", "Receiver.window_field", "Receiver.update_due"),
    met("SHLD-18", "3.8.6.3", "Acknowledgements are delayed.", "AckPolicy.on_text"),
    met("MUST-40", "3.8.6.3", "By less than 0.5 seconds.", "Config.delayed_ack_ns"),
    met("SHLD-19", "3.8.6.3", "Every second full-sized segment is acknowledged at once.", "AckPolicy.on_text"),
)  # fmt: skip
