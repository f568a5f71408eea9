"""Section 3.9: the user's side and the network's."""

from __future__ import annotations

from ..model import Requirement, applications, in_part, met, unmet

NO_SOURCE_ROUTES = "deliberately: a source route lets its sender choose whom our answers pass, hosts refuse them by \
default and routers drop them (RFC 7126 4.3, RFC 5095). On IPv4 the option is ignored (MUST-50) and answers go \
straight back; a packet with an IPv6 routing header is dropped"

INTERFACES: tuple[Requirement, ...] = (
    met("MUST-41", "3.9.1.1", "A passive OPEN makes a new record or fails; it changes no other.",
        "Listeners.free_port"),
    met("MUST-42", "3.9.1.1", "One can listen on a port from which a connection is being opened.",
        "Listeners.overlaps"),
    met("MUST-43", "3.9.1.1", "OPEN takes a local IP address.", "Addresses.source_for", "Stack.listen"),
    met("MUST-44", "3.9.1.1", "Where none is given, the IP layer chooses it before the SYN.", "Addresses.source_for"),
    met("MUST-45", "3.9.1.1", "All later segments come from the address of the first.", "Output._segment"),
    met("MUST-46", "3.9.1.1", "OPEN to a broadcast or multicast address fails.", "Addresses.target_of"),
    unmet("MAY-15", "3.9.1.2", "SEND can have a PUSH flag.", "a stream has none; MUST-60 and MUST-61 hold instead"),
    met("MUST-60", "3.9.1.2", "Without a PUSH flag, text is not kept back for ever.",
        "departures.py:_new_chunk", "departures.py:_forced_chunk"),
    met("MUST-61", "3.9.1.2", "Without a PUSH flag, the last segment of what is queued has PSH.", "Sender.take"),
    met("SHLD-27", "3.9.1.2", "Pushes collapse: several writes become one segment with one PSH, as large as possible.",
        "departures.py:_new_chunk"),
    met("MAY-16", "3.9.1.2", "Text of several SENDs may be gathered before it is sent.", "departures.py:_new_chunk"),
    met("SHLD-28", "3.9.1.2", "Segments are of the maximum size whenever possible.", "departures.py:_new_chunk"),
    unmet("MAY-17", "3.9.1.3", "A received PSH is passed on.", "a stream of octets has no place for it"),
    unmet("MAY-14", "3.9.1.7", "A FLUSH call.", "nobody asks for it"),
    met("MUST-47", "3.9.1.8", "Soft errors are reported to the application: to its tracer.",
        "Connection.on_unreachable", "SoftError", "core/events.py:RetransmissionTimeout"),
    met("3.9.1.8-reports", "3.9.1.8", "The reports include ICMP errors, excessive retransmissions, and the advance "
        "of the urgent pointer.", "SoftError", "core/events.py:RetransmissionTimeout", "ExcessiveRetransmission",
        "Connection._check_urg"),
    met("SHLD-20", "3.9.1.8", "Who wants no such reports sets no tracer.", "core/events.py:Tracer"),
    met("MUST-48", "3.9.1.9", "The application sets the Differentiated Services field.",
        "Config.traffic_class", "PseudoSocket.setsockopt"),
    met("SHLD-21", "3.9.1.9", "It can change that during the connection.", "TransmissionControlBlock.traffic_class"),
    met("SHLD-22", "3.9.1.9", "It is passed to IP unchanged.", "Turns._emit"),
    applications("SHLD-23", "3.9.2", "Applications do not change it during a connection."),
    unmet("MAY-9", "3.9.1.9", "The received one is passed up.", "nobody asks for it"),
    met("MUST-49", "3.9.2", "The TTL can be configured.", "Config.hop_limit", "PseudoSocket.setsockopt"),
    met("MUST-50", "3.9.2", "IP options that TCP does not understand are ignored.",
        "_decode_ipv4", "_options_can_be_skipped"),
    unmet("MAY-10", "3.9.2", "The IP Timestamp option.", "ignored like any other (MUST-50)"),
    unmet("MAY-11", "3.9.2", "The IP Record Route option.", "ignored like any other (MUST-50)"),
    unmet("MUST-51", "3.9.2.1", "The application can give a source route for an active OPEN.", NO_SOURCE_ROUTES),
    unmet("MUST-52", "3.9.2.1", "It goes before one that was received.", NO_SOURCE_ROUTES),
    unmet("MUST-53", "3.9.2.1", "A source route that came with a connection is turned round and used.",
          NO_SOURCE_ROUTES),
    unmet("SHLD-24", "3.9.2.1", "A later source route replaces the one before.", NO_SOURCE_ROUTES),
    met("MUST-54", "3.9.2.2", "An ICMP error finds the connection whose segment it quotes, and is acted on.",
        "Turns._on_icmp", "Connection.on_unreachable"),
    met("MUST-55", "3.9.2.2", "Source quench is ignored.", "error_of"),
    in_part("MUST-56", "3.9.2.2", "A soft ICMP error ends no connection.", "Connection.on_unreachable",
            but="in SYN-SENT it does, as on Linux: the user need not wait out the timer (RFC 5461 4.2)"),
    met("SHLD-25", "3.9.2.2", "The application can learn of a soft error: a timeout then gives it as the reason.",
        "Connection.on_unreachable"),
    in_part("SHLD-26", "3.9.2.2", "A hard ICMP error ends the connection.", "Connection.on_unreachable",
            but="while opening; later it counts as a soft one, since anyone can forge it (RFC 5927 5.2, as Linux)"),
    met("MUST-63", "3.9.2.3", "A SYN from what cannot be a source is ignored.", "Addresses.refusal"),
    met("MUST-57", "3.9.2.3", "A SYN to a broadcast or multicast address is dropped silently.",
        "Addresses.refusal"),
)  # fmt: skip
