"""One segment's worth of what we send, and the reasons for which it leaves."""

from __future__ import annotations

REASON_DATA = "data"
REASON_LAST_DATA = "data, all that was queued"
REASON_DATA_FIN = "data and FIN: we have no more to send"
REASON_FIN = "FIN: we have no more to send"
REASON_PROBE = "zero-window probe"
REASON_OVERRIDE = "data, silly-window override timeout"
REASON_TAIL_PROBE = "data, as a tail loss probe: no acknowledgement for two round trips"
REASON_TAIL_PROBE_RESENT = "retransmission: tail loss probe, no acknowledgement for two round trips"


class Chunk:
    """One segment's worth: sequence number, octets of text, whether FIN and PSH go with it, and why."""

    __slots__ = ("fin", "psh", "reason", "seq", "size")

    def __init__(self, seq: int, size: int, fin: bool, psh: bool, reason: str) -> None:
        self.seq = seq
        self.size = size
        self.fin = fin
        self.psh = psh
        self.reason = reason
