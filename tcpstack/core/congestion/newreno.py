"""Slow start and congestion avoidance as RFC 5681 has them; the recovery they serve is in send/recovery.py."""

from __future__ import annotations

from .base import AckSample

UNBOUNDED = 1 << 40


def initial_window(mss_bytes: int) -> int:
    """RFC 6928 2: ten segments, at most 14,600 octets but at least two segments."""
    return min(10 * mss_bytes, max(2 * mss_bytes, 14_600))


class NewReno:
    """Sizes in octets. `mss_bytes` is SMSS; `initial_bytes` the initial window (default: RFC 6928's)."""

    __slots__ = ("_acked_bytes", "_before", "_mss_bytes", "cwnd_bytes", "ssthresh_bytes")

    name = "newreno"

    def __init__(self, mss_bytes: int, initial_bytes: int | None = None) -> None:
        self.cwnd_bytes = initial_window(mss_bytes) if initial_bytes is None else initial_bytes
        self.ssthresh_bytes = UNBOUNDED
        self._mss_bytes = mss_bytes
        self._before = (0, 0)  # what on_undone restores
        self._acked_bytes = 0  # octets acknowledged since cwnd last grew in congestion avoidance

    def on_ack(self, sample: AckSample, now_ns: int) -> None:
        cwnd = self.cwnd_bytes
        if cwnd < self.ssthresh_bytes:
            # Only a window that was used tells whether the path bears it (RFC 7661 4.2: half of it): an idle sender's
            # must not grow.
            if cwnd < 2 * sample.flight_bytes:
                # Deviates from RFC 5681 3.1, which caps the step at SMSS per ACK: no cap, as Linux, since one
                # acknowledgement may stand for a superpacket.
                self.cwnd_bytes = min(cwnd + sample.acked_bytes, max(self.ssthresh_bytes, cwnd))
            return
        if sample.flight_bytes + self._mss_bytes <= cwnd:
            return
        # RFC 5681 3.1, appropriate byte counting: one SMSS for each cwnd of octets acknowledged.
        self._acked_bytes += sample.acked_bytes
        if self._acked_bytes >= cwnd:
            self._acked_bytes -= cwnd
            self.cwnd_bytes = cwnd + self._mss_bytes

    def on_loss(self, in_flight_bytes: int, now_ns: int) -> None:
        self._before = self.cwnd_bytes, self.ssthresh_bytes
        self.ssthresh_bytes = self._half(in_flight_bytes)
        self.cwnd_bytes = self.ssthresh_bytes
        self._acked_bytes = 0

    def on_recovered(self, in_flight_bytes: int, now_ns: int) -> None:
        # RFC 6582 3.2, full acknowledgement, option (1): no burst when little is in flight.
        self.cwnd_bytes = min(self.ssthresh_bytes, max(in_flight_bytes, self._mss_bytes) + self._mss_bytes)

    def on_timeout(self, in_flight_bytes: int, first: bool, now_ns: int) -> None:
        if first:  # RFC 5681 3.1: held constant while the same segment times out again
            self._before = self.cwnd_bytes, self.ssthresh_bytes
            self.ssthresh_bytes = self._half(in_flight_bytes)
        self.cwnd_bytes = self._mss_bytes  # the loss window
        self._acked_bytes = 0

    def on_idle(self) -> None:
        # RFC 5681 4.1, RFC 6928 2: the restart window. ssthresh stays, and slow start leads back to it.
        self.cwnd_bytes = min(self.cwnd_bytes, initial_window(self._mss_bytes))
        self._before = self.cwnd_bytes, self._before[1]
        self._acked_bytes = 0

    def on_undone(self) -> None:
        cwnd_bytes, ssthresh_bytes = self._before
        self.cwnd_bytes = max(self.cwnd_bytes, cwnd_bytes)
        self.ssthresh_bytes = max(self.ssthresh_bytes, ssthresh_bytes)

    def _half(self, in_flight_bytes: int) -> int:
        # RFC 5681 equation (4).
        return max(in_flight_bytes // 2, 2 * self._mss_bytes)
