"""Section 3.7: how large segments are."""

from __future__ import annotations

from ..model import Requirement, met

SEGMENTATION: tuple[Requirement, ...] = (
    met("MUST-14", "3.7.1", "The MSS option is sent, and heeded when received.", "syn_options", "Negotiated"),
    met("SHLD-5", "3.7.1", "Our SYNs carry the MSS option where our MSS is not the default.", "syn_options"),
    met("MAY-3", "3.7.1", "Our SYNs always carry it.", "syn_options"),
    met("MUST-15", "3.7.1", "Without the option the peer's MSS is 536 (IPv4) or 1220 (IPv6).",
        "Config.mss_default_v4", "Negotiated"),
    met("MUST-16", "3.7.1", "No segment is larger than the peer's MSS, or than our link allows.", "Negotiated"),
    met("MUST-67", "3.7.1", "The MSS that we offer is at most what we can receive less the fixed TCP header.",
        "mss_for"),
    met("SHLD-6", "3.7.3", "Where an interface's MTU varies, the smallest gives the MSS that we offer: ours does not "
        "vary while a stack lives.", "mss_for"),
    met("SHLD-7", "3.7.4", "The Nagle algorithm gathers small writes.", "departures.py:_new_chunk"),
    met("MUST-17", "3.7.4", "An application can switch it off, connection by connection.",
        "TransmissionControlBlock.nodelay"),
)  # fmt: skip
