"""The pseudocode of RFC 8985 6.2, written out segment by segment in the RFC's names."""

from __future__ import annotations

from dataclasses import dataclass

MSS = 10


@dataclass
class Segment:
    seq: int
    xmit_ts: int
    retransmitted: bool = False
    lost: bool = False
    acked: bool = False

    @property
    def end_seq(self) -> int:
        return self.seq + MSS


def sent_after(t1: int, seq1: int, t2: int, seq2: int) -> bool:
    """RACK_sent_after."""
    return t1 > t2 or (t1 == t2 and seq1 > seq2)


class Pseudocode:
    """The connection's variables and the five steps, as the RFC has them."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.min_rtt = 0
        self.rtt = 0
        self.xmit_ts = -1
        self.end_seq = 0
        self.fack = 0
        self.reordering_seen = False
        self.dsack_round: int | None = None
        self.reo_wnd_mult = 1
        self.reo_wnd_persist = 16

    def on_ack(self, acked: list[Segment], echo_reply: int | None, now: int) -> None:
        """Steps 1 to 3."""
        for segment in acked:
            segment.acked = True
            if not segment.retransmitted:
                rtt = max(now - segment.xmit_ts, 1)
                self.min_rtt = min(self.min_rtt, rtt) if self.min_rtt else rtt
        for segment in acked:
            rtt = now - segment.xmit_ts
            if segment.retransmitted:
                if echo_reply is not None and echo_reply < segment.xmit_ts:
                    continue
                if rtt < self.min_rtt:
                    continue
            if sent_after(segment.xmit_ts, segment.end_seq, self.xmit_ts, self.end_seq):
                # The pseudocode sets RACK.rtt outside of this; the text calls it that "of the most recently sent
                # segment that has been delivered" (5.2), as here.
                self.rtt = rtt
                self.xmit_ts, self.end_seq = segment.xmit_ts, segment.end_seq
        for segment in sorted(acked, key=lambda each: each.end_seq):
            if segment.end_seq > self.fack:
                self.fack = segment.end_seq
            elif segment.end_seq < self.fack and (
                not segment.retransmitted
                # Not in the RFC, but as Linux: an echo that is older tells that the first transmission has arrived.
                or (echo_reply is not None and echo_reply < segment.xmit_ts)
            ):
                self.reordering_seen = True

    def on_dsack(self, una: int, nxt: int, seen: bool, exiting: bool) -> None:
        """The first half of step 4."""
        if self.dsack_round is not None and una >= self.dsack_round:
            self.dsack_round = None
        if self.dsack_round is None and seen:
            self.dsack_round = nxt
            self.reo_wnd_mult += 1
            self.reo_wnd_persist = 16
        elif exiting:
            self.reo_wnd_persist -= 1
            if self.reo_wnd_persist <= 0:
                self.reo_wnd_mult = 1

    def reo_wnd(self, recovering: bool, segs_sacked: int, srtt: int) -> int:
        """The second half of step 4."""
        if not self.reordering_seen:
            if recovering:
                return 0
            if segs_sacked >= 3:
                return 0
        return min(self.reo_wnd_mult * self.min_rtt // 4, srtt)

    def detect_loss(self, reo_wnd: int, now: int) -> int:
        """Step 5: the timeout, 0 for none."""
        timeout = 0
        for segment in self.segments:
            if segment.acked or segment.lost:
                continue
            if sent_after(self.xmit_ts, self.end_seq, segment.xmit_ts, segment.end_seq):
                remaining = segment.xmit_ts + self.rtt + reo_wnd - now
                if remaining <= 0:
                    segment.lost = True
                else:
                    timeout = max(remaining, timeout)
        return timeout
