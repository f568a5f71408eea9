"""Proportional rate reduction (RFC 9937): how much may leave on each acknowledgement while losses are mended.

At the end of recovery as much is in flight as the congestion controller wants (ssthresh), and on the way there the
octets that leave are in proportion to those that arrive: neither a silence of half a round trip, nor a burst.
"""

from __future__ import annotations


class Prr:
    """One recovery's account. `cwnd_bytes` is what may be in flight now: what was when the last acknowledgement came,
    and what that one allowed to leave, of which `sndcnt_bytes` have not left yet."""

    __slots__ = ("_delivered_bytes", "_out_bytes", "_recover_fs_bytes", "cwnd_bytes", "sndcnt_bytes")

    def __init__(self, recover_fs_bytes: int) -> None:
        """`recover_fs_bytes` (RecoverFS): what was in flight when recovery began, and what its first acknowledgement
        reports as arrived."""
        self._recover_fs_bytes = max(recover_fs_bytes, 1)
        self._delivered_bytes = 0
        self._out_bytes = 0
        self.sndcnt_bytes = 0
        self.cwnd_bytes = 0

    def on_ack(
        self, delivered_bytes: int, in_flight_bytes: int, ssthresh_bytes: int, mss_bytes: int, safe: bool
    ) -> None:
        """An acknowledgement: so much of the text has arrived by it. `safe` (SafeACK): SND.UNA advances, and it
        tells of no further loss."""
        self._delivered_bytes += delivered_bytes
        if in_flight_bytes > ssthresh_bytes:
            sndcnt = -(-self._delivered_bytes * ssthresh_bytes // self._recover_fs_bytes) - self._out_bytes
        else:
            sndcnt = max(self._delivered_bytes - self._out_bytes, delivered_bytes)
            if safe:
                sndcnt += mss_bytes
            sndcnt = min(ssthresh_bytes - in_flight_bytes, sndcnt)
        if self._out_bytes == 0:
            # A fast retransmission, whatever happens. Deviates, as Linux: the RFC forces it only where sndcnt is 0.
            sndcnt = max(sndcnt, mss_bytes)
        self.sndcnt_bytes = max(sndcnt, 0)
        self.cwnd_bytes = in_flight_bytes + self.sndcnt_bytes

    def on_sent(self, size_bytes: int) -> None:
        """So much has left, again or for the first time."""
        self._out_bytes += size_bytes
        self.sndcnt_bytes = max(self.sndcnt_bytes - size_bytes, 0)
