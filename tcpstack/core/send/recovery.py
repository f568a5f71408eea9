"""Loss recovery without SACK: limited transmit (RFC 3042), fast retransmit and fast recovery by RFC 6582 (NewReno),
go-back-N after a timeout.

What is lost, and what to send again, is a range [next, end) of sequence numbers that shrinks as it is resent.

RFC 6582 inflates cwnd by a segment for each duplicate acknowledgement: each says that one segment has left the
network. Here cwnd stays the controller's and what left is subtracted from what is in flight (`departed_bytes`):
the same arithmetic, and the same place where a SACK scoreboard knows better. It is an estimate, since a duplicate
does not say which segment left, or whether the network doubled one; so it is held to what can have left. Limited
transmit is the same arithmetic for the duplicates that come before recovery.
"""

from __future__ import annotations

DUP_THRESHOLD = 3  # RFC 5681 3.2

# What on_duplicate and on_new_ack found.
NOTHING = 0
ENTERED = 1
PARTIAL = 2
RECOVERED = 3


class Recovery:
    """active          in fast recovery
    next, end       the range that is to be sent again; empty where equal
    forced          the next retransmission leaves whatever the congestion window says
    departed_bytes  the estimate of outstanding octets that have left the network out of order
    reason          why the range is sent again, for the tracer
    """

    __slots__ = ("_dup_acks", "_recover", "active", "departed_bytes", "end", "forced", "next", "reason")

    def __init__(self, iss: int) -> None:
        self.active = False
        self.next = iss
        self.end = iss
        self.forced = False
        self.departed_bytes = 0
        self.reason = ""
        self._dup_acks = 0
        self._recover = iss

    @property
    def quiet(self) -> bool:
        """Whether an acknowledgement of something new can mean nothing but that."""
        return not self.active

    @property
    def sacked_bytes(self) -> int:
        """Octets that have arrived above SND.UNA, as far as duplicates tell."""
        return self.departed_bytes

    @property
    def lost_bytes(self) -> int:
        """Octets taken as lost and not yet sent again."""
        return self.end - self.next

    def in_flight_bytes(self, una: int, nxt: int) -> int:
        """Octets outstanding, less what is known to have left the network."""
        return nxt - una - (self.end - self.next) - self.departed_bytes

    def room_bytes(self, in_flight_bytes: int, cwnd_bytes: int) -> int:
        """How much may leave now, new or again."""
        return cwnd_bytes - in_flight_bytes

    def next_lost(self) -> tuple[int, int] | None:
        """The octets that are to be sent again next, or None."""
        return (self.next, self.end) if self.next < self.end else None

    def on_sent(self, seq: int, end: int, now_ns: int) -> None:
        """New text left."""

    def on_duplicate(self, una: int, nxt: int, mss_bytes: int) -> int:
        """A duplicate acknowledgement (RFC 5681 2) of `una` came. ENTERED on the third, else NOTHING."""
        self._dup_acks += 1
        # RFC 6582 3.2 step 1: only what was sent after the last recovery can tell of a new loss.
        if self.active or (self._dup_acks < DUP_THRESHOLD and una > self._recover):
            self.departed_bytes += mss_bytes
            self._bound_departed(una, nxt)
            return NOTHING
        if self._dup_acks != DUP_THRESHOLD or una <= self._recover:
            return NOTHING
        self.active = True
        self._recover = nxt
        self._resend(una, min(una + mss_bytes, nxt), "retransmission: third duplicate ACK")
        self.departed_bytes = DUP_THRESHOLD * mss_bytes
        self._bound_departed(una, nxt)
        return ENTERED

    def on_new_ack(self, una: int, nxt: int, acked_bytes: int, mss_bytes: int) -> int:
        """SND.UNA moved up to `una` by `acked_bytes`. PARTIAL or RECOVERED in fast recovery, else NOTHING."""
        self._dup_acks = 0
        self.next = max(self.next, una)
        self.end = max(self.end, self.next)
        if not self.active:
            self.departed_bytes = 0
            return NOTHING
        if una >= self._recover:
            self.active = False
            self.departed_bytes = 0
            return RECOVERED
        # RFC 6582 3.2, partial acknowledgement: the next hole is known. Take back what was acknowledged, less a segment
        # where it is at least one. Deviates where fewer duplicates were counted than segments have left (some got lost,
        # or came before recovery): cwnd deflates to ssthresh, which is what shall be in flight, and not below it.
        taken_back = acked_bytes - mss_bytes if acked_bytes >= mss_bytes else acked_bytes
        self.departed_bytes = max(self.departed_bytes - taken_back, 0)
        self._resend(una, min(una + mss_bytes, self._recover), "retransmission: partial ACK in fast recovery")
        self._bound_departed(una, nxt)
        return PARTIAL

    def on_quiet_ack(self, una: int, now_ns: int) -> None:
        """As `on_new_ack`, where all is `quiet`."""
        self._dup_acks = self.departed_bytes = 0
        if self.next < una:
            self.next = una
        if self.end < self.next:
            self.end = self.next

    def on_timeout(self, una: int, nxt: int, srtt_ns: int, now_ns: int) -> None:
        """The retransmission timer went off: all that is outstanding is taken as lost."""
        self.active = False
        self.departed_bytes = 0
        self._dup_acks = 0
        self._recover = nxt  # RFC 6582 3.2 step 4: no fast retransmit for what was sent before
        self._resend(una, nxt, "retransmission: timeout")

    def resend_probe(self, una: int, nxt: int) -> None:
        """The window reopened after a probe octet that the peer had no room for: it goes again at once."""
        self.departed_bytes = 0
        self._resend(una, nxt, "retransmission: the window reopened after a probe")

    def on_resent(self, seq: int, end: int, now_ns: int) -> None:
        """The range was sent again up to `end`."""
        self.next = end
        self.forced = False

    def on_probe_resent(self, seq: int, now_ns: int) -> None:
        """A zero-window probe's octet left again."""

    def _bound_departed(self, una: int, nxt: int) -> None:
        # RFC 5681 3.2 step 4: no more than is outstanding, or duplicates that the network or an attacker makes up
        # would turn into licence to send.
        self.departed_bytes = min(self.departed_bytes, nxt - una - self.lost_bytes)

    def _resend(self, start: int, end: int, reason: str) -> None:
        self.next = start
        self.end = end
        self.forced = True
        self.reason = reason
