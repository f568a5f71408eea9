"""The interface between loss recovery and congestion control.

A controller owns two numbers, the congestion window and the slow start threshold, both in octets, and is told
what happened; it never reaches back. The vocabulary is FreeBSD's congestion-control hooks: acknowledgement,
congestion signal, end of recovery, timeout. Which octets are in flight, and what to retransmit, is the sender's.
"""

from __future__ import annotations

from typing import Protocol


class AckSample:
    """What one acknowledgement of new data told. One object is reused for all: keep no reference.

    acked_bytes      octets newly acknowledged (one superpacket's worth counts whole)
    flight_bytes     the most octets that were outstanding at once since the window now being acknowledged began
    rtt_ns           the round-trip time that it measured, or 0 where it measured none
    """

    __slots__ = ("acked_bytes", "flight_bytes", "rtt_ns")

    def __init__(self) -> None:
        self.acked_bytes = 0
        self.flight_bytes = 0
        self.rtt_ns = 0


class CongestionControl(Protocol):
    """cwnd_bytes is never under one segment; ssthresh_bytes starts arbitrarily high (RFC 5681 3.1)."""

    name: str
    cwnd_bytes: int
    ssthresh_bytes: int

    def on_ack(self, sample: AckSample, now_ns: int) -> None:
        """New data was acknowledged, outside fast recovery."""

    def on_loss(self, in_flight_bytes: int, now_ns: int) -> None:
        """Fast recovery begins: a congestion signal, with so much outstanding."""

    def on_recovered(self, in_flight_bytes: int, now_ns: int) -> None:
        """Fast recovery is over: all that was outstanding when it began is acknowledged."""

    def on_undone(self) -> None:
        """The last response was for nothing: no loss, the windows are what they were."""

    def on_timeout(self, in_flight_bytes: int, first: bool, now_ns: int) -> None:
        """The retransmission timer went off; `first` is False where the same segment times out again."""

    def on_idle(self) -> None:
        """Text is about to leave, and none did for longer than a retransmission timeout: whatever the path bore, it is
        not known to bear it now (RFC 5681 4.1)."""
