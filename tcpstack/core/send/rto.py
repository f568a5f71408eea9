"""The retransmission timeout, computed as RFC 6298 says."""

from __future__ import annotations


class RetransmissionTimeout:
    """SRTT, RTTVAR and RTO, in nanoseconds. `rto_ns` is what to arm the timer with now, backoff included.

    Karn's algorithm is the caller's part: no sample of a segment that was sent twice.
    """

    __slots__ = ("_base_ns", "_doublings", "_max_ns", "_min_ns", "backoff", "rto_ns", "rttvar_ns", "srtt_ns")

    def __init__(self, initial_ns: int, min_ns: int, max_ns: int) -> None:
        self._base_ns = initial_ns
        self._min_ns = min_ns
        self._max_ns = max_ns
        self.rto_ns = initial_ns
        self.srtt_ns = 0  # 0: nothing measured yet
        self.rttvar_ns = 0
        self.backoff = 0  # timeouts since the last acknowledgement of new data
        self._doublings = 0  # timeouts since the last sample

    def on_sample(self, rtt_ns: int) -> None:
        """A round trip was measured."""
        if rtt_ns < 1:
            rtt_ns = 1
        srtt_ns, rttvar_ns = self.srtt_ns, self.rttvar_ns
        if srtt_ns:
            # RFC 6298 2.3: alpha 1/8, beta 1/4, RTTVAR first.
            deviation_ns = srtt_ns - rtt_ns if srtt_ns > rtt_ns else rtt_ns - srtt_ns
            self.rttvar_ns = rttvar_ns + (deviation_ns - rttvar_ns) // 4
            self.srtt_ns = srtt_ns + (rtt_ns - srtt_ns) // 8
        else:
            self.srtt_ns = rtt_ns  # 2.2
            self.rttvar_ns = rtt_ns // 2
        # Deviates from RFC 6298 2.4: the floor is on the variance term and 200 ms by default, as Linux does,
        # so that a peer's delayed acknowledgement does not trip it.
        self._base_ns = self.rto_ns = min(self.srtt_ns + max(4 * self.rttvar_ns, self._min_ns), self._max_ns)
        self._doublings = 0

    def on_timeout(self) -> None:
        """RFC 6298 5.5: back off, doubling up to the maximum."""
        self.backoff += 1
        self._doublings += 1
        self._apply()

    def on_progress(self) -> None:
        """New data was acknowledged: the count of timeouts starts anew, but the timeout stays as it is.

        RFC 9293 3.8.2 keeps "the backed-off value until a subsequent segment with new data has been sent and
        acknowledged without retransmission", which is a sample. Without that a path whose round trip has grown beyond
        the timeout would never be measured again (Karn): each segment on it would be sent twice for ever.
        """
        self.backoff = 0

    def on_handshake_retransmitted(self, fallback_ns: int) -> None:
        """RFC 6298 5.7: the SYN timed out, so data starts with three seconds unless a sample came."""
        self._doublings = 0
        if not self.srtt_ns:
            self._base_ns = max(self._base_ns, fallback_ns)
        self._apply()

    def _apply(self) -> None:
        self.rto_ns = min(self._base_ns << min(self._doublings, 32), self._max_ns)
