"""The half that we speak: SND variables, what may leave now, the retransmission and persist timer.

RFC 9293 3.8.1 (retransmission), 3.8.6.1 (zero-window probes), 3.8.6.2.1 (silly windows), 3.7.4 (Nagle).
Sequence numbers are unbounded. The FIN is the octet behind the last one queued. What leaves is decided in
`next_chunk`, one segment a call; nothing leaves for any other reason.
"""

from __future__ import annotations

from ..config import SECOND_NS, Config
from ..congestion import CONTROLLERS, AckSample, CongestionControl
from ..timers import NEVER
from .buffer import SendBuffer
from .recovery import NOTHING, RECOVERED, Recovery
from .rto import RetransmissionTimeout

# What on_timer found.
IDLE = 0
RETRANSMIT = 1
PROBE = 2
GIVE_UP = 3

SYN_LOST_RTO_NS = 3 * SECOND_NS  # RFC 6298 5.7

REASON_DATA = "data"
REASON_LAST_DATA = "data, all that was queued"
REASON_DATA_FIN = "data and FIN: we have no more to send"
REASON_FIN = "FIN: we have no more to send"
REASON_PROBE = "zero-window probe"
REASON_OVERRIDE = "data, silly-window override timeout"


class Chunk:
    """One segment's worth: sequence number, octets of text, whether FIN and PSH go with it, and why."""

    __slots__ = ("fin", "psh", "reason", "seq", "size")

    def __init__(self, seq: int, size: int, fin: bool, psh: bool, reason: str) -> None:
        self.seq = seq
        self.size = size
        self.fin = fin
        self.psh = psh
        self.reason = reason


class Sender:
    """SND.UNA, SND.NXT, SND.WND, SND.WL1, SND.WL2 and ISS by their names in lower case; `wnd` is scaled.

    `mss` is Eff.snd.MSS, `chunk_bytes` the most text that leaves as one chunk: as many whole segments as a superpacket
    has room for, or one. `max_wnd` is the largest window the peer ever offered, `timer_ns` the deadline of the
    retransmission or persist timer (NEVER where off).
    """

    __slots__ = (
        "_config", "_forced_octets", "_persist_backoff", "_r2_ns", "_sample", "_small_end", "_timed_end",
        "_timed_ns", "_una_since_ns", "buffer", "chunk_bytes", "congestion", "fin_seq", "iss", "max_wnd", "mss",
        "nodelay", "nxt", "recovery", "retransmitted", "rtt", "shift", "timer_ns", "una", "wl1", "wl2", "wnd",
    )  # fmt: skip

    def __init__(self, iss: int, config: Config) -> None:
        self._config = config
        self.iss = iss
        self.una = iss
        self.nxt = iss
        self.wnd = 0
        self.wl1 = 0
        self.wl2 = 0
        self.max_wnd = 0
        self.shift = 0  # Snd.Wind.Shift: how far the peer's window fields are scaled
        self.mss = config.mss_default_v4
        self.chunk_bytes = self.mss
        self.nodelay = not config.nagle
        self.fin_seq: int | None = None
        self.buffer = SendBuffer(iss + 1)
        self.recovery = Recovery(iss)
        self.rtt = RetransmissionTimeout(config.rto_initial_ns, config.rto_min_ns, config.rto_max_ns)
        self.congestion: CongestionControl = CONTROLLERS[config.congestion](self.mss, None)
        self.timer_ns = NEVER
        self.retransmitted = 0
        self._r2_ns = config.syn_r2_ns
        self._sample = AckSample()
        self._small_end = iss  # end of the last text shorter than a full segment (Minshall's variable)
        self._timed_end = 0  # acknowledging this ends the round trip that is being timed; 0: none is
        self._timed_ns = 0
        self._una_since_ns = NEVER  # since when what is at SND.UNA waits for an answer; NEVER where nothing does
        self._persist_backoff = 0
        self._forced_octets = 0  # to be sent whatever the window says: a probe or the override timeout

    # -- the user's side

    @property
    def unsent_bytes(self) -> int:
        """Octets queued and not yet sent once."""
        return max(self.buffer.end - max(self.nxt, self.iss + 1), 0)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to say, were it allowed: else `next_chunk` need not be asked."""
        return (
            self.nxt < self.buffer.end
            or self.fin_seq is not None
            or self._forced_octets > 0
            or self.recovery.next < self.recovery.end
        )

    @property
    def in_flight_bytes(self) -> int:
        """Octets outstanding, less what is known to have left the network."""
        recovery = self.recovery
        return self.nxt - self.una - recovery.lost_bytes - recovery.departed_bytes

    @property
    def fin_acknowledged(self) -> bool:
        return self.fin_seq is not None and self.una > self.fin_seq

    def queue_fin(self) -> None:
        """No text will follow what is queued."""
        self.fin_seq = self.buffer.end

    # -- the handshake

    def on_syn_sent(self, now_ns: int) -> None:
        """Our SYN (or SYN,ACK) leaves; again where SND.NXT has passed it already."""
        if self.nxt == self.iss:
            self.nxt = self.iss + 1
            self._una_since_ns = now_ns
            self._timed_end = self.nxt
            self._timed_ns = now_ns
        else:
            self._timed_end = 0  # Karn
        if self.timer_ns == NEVER:
            self._arm(now_ns, self.rtt.rto_ns)

    def establish(self, wnd: int, seq: int, ack: int, retransmitted: bool, now_ns: int) -> None:
        """Our SYN is acknowledged by `ack`; `mss` and `shift` are negotiated. Take over that segment's window.

        `retransmitted`: the SYN had to be sent again, so the path starts with one segment (RFC 5681 3.1).
        """
        config = self._config
        self.congestion = CONTROLLERS[config.congestion](self.mss, self.mss if retransmitted else None)
        self._r2_ns = config.r2_ns
        self.rtt.on_progress()
        if retransmitted:
            self.rtt.on_handshake_retransmitted(SYN_LOST_RTO_NS)
        elif self._timed_end:
            self.rtt.on_sample(now_ns - self._timed_ns)
        self._timed_end = 0
        self.una = ack
        self._una_since_ns = NEVER
        self.timer_ns = NEVER
        self.set_window(wnd, seq, ack)

    # -- acknowledgements

    def set_window(self, wnd: int, seq: int, ack: int) -> None:
        """SND.WND <- SEG.WND (scaled), SND.WL1 <- SEG.SEQ, SND.WL2 <- SEG.ACK."""
        reopened = wnd > 0 and self.wnd == 0
        self.wnd = wnd
        self.wl1 = seq
        self.wl2 = ack
        if wnd > self.max_wnd:
            self.max_wnd = wnd
        if reopened and (self._persist_backoff or self.una == self.nxt):
            # The timer that runs is the persist timer: up to a minute, where a retransmission timeout is due.
            self.timer_ns = NEVER
            self._forced_octets = 0
            if self.una < self.nxt:
                # The probe octet found no room and was dropped: a window update alone must get things going.
                self.recovery.resend_probe(self.una, self.nxt)
            self._persist_backoff = 0

    def on_ack(self, ack: int, now_ns: int) -> int:
        """SND.UNA < SEG.ACK =< SND.NXT: `ack` takes away. Returns recovery's finding (recovery.py)."""
        recovery = self.recovery
        sample = self._sample
        sample.in_flight_bytes = self.in_flight_bytes
        acked = sample.acked_bytes = ack - self.una
        self.una = ack
        self.buffer.release(ack)
        self._una_since_ns = now_ns if ack < self.nxt else NEVER
        sample.rtt_ns = 0
        if self._timed_end and ack >= self._timed_end:
            self._timed_end = 0
            sample.rtt_ns = now_ns - self._timed_ns
            self.rtt.on_sample(sample.rtt_ns)
        self.rtt.on_progress()
        found = recovery.on_new_ack(ack, self.nxt, acked, self.mss)
        if found == RECOVERED:
            self.congestion.on_recovered(self.nxt - ack, now_ns)
        elif found == NOTHING:
            self.congestion.on_ack(sample, now_ns)
        self.timer_ns = NEVER  # RFC 6298 5.2, 5.3: off when all is acknowledged, else `arm` starts it anew
        return found

    def on_duplicate_ack(self, now_ns: int) -> int:
        """A duplicate acknowledgement by RFC 5681 2. Returns recovery's finding.

        One that answers a zero-window probe looks alike, but tells of a full buffer and not of a loss.
        """
        if self._persist_backoff:
            return NOTHING
        found = self.recovery.on_duplicate(self.una, self.nxt, self.mss)
        if found != NOTHING:
            self.congestion.on_loss(self.nxt - self.una, now_ns)
        return found

    def on_probe_answered(self, now_ns: int) -> None:
        """MUST-37: as long as the peer answers our probes, the connection stays open: R2 counts from the next one."""
        if self._persist_backoff:
            self._una_since_ns = NEVER

    # -- what leaves

    def next_chunk(self, now_ns: int) -> Chunk | None:
        """The next segment that may leave now, or None. A chunk that is returned counts as sent."""
        if self._forced_octets:  # first: a closed window holds retransmissions back, and must be probed all the same
            return self._forced_chunk(now_ns)
        if self.recovery.next < self.recovery.end:
            return self._retransmission()
        return self._new_chunk(now_ns)

    def arm(self, now_ns: int) -> None:
        """After all that may leave has left: see that the right timer runs, if any has to."""
        if self.una < self.nxt and (self.wnd > 0 or self.una == self.iss):
            if self._una_since_ns > now_ns:
                self._una_since_ns = now_ns
            if self.timer_ns == NEVER:
                self._arm(now_ns, self.rtt.rto_ns)
        elif self.una < self.nxt or self.buffer.end > self.nxt or self._fin_pending:
            # Nothing in flight that could bring an ACK, yet something to say: zero or silly window.
            if self.timer_ns == NEVER:
                self._arm(now_ns, self._persist_interval_ns())
        else:
            self.timer_ns = NEVER

    def on_timer(self, now_ns: int) -> int:
        """The timer went off. GIVE_UP when R2 has passed, else what transmit is now to do."""
        self.timer_ns = NEVER
        if now_ns - self._una_since_ns >= self._r2_ns:
            return GIVE_UP
        self._timed_end = 0  # Karn: whatever is being timed is about to be ambiguous
        if self.una == self.iss:
            self.rtt.on_timeout()
            return RETRANSMIT
        if self.wnd == 0 or self.una == self.nxt:
            self._una_since_ns = min(self._una_since_ns, now_ns)
            self._forced_octets = 1 if self.wnd == 0 else self.wnd
            if self.wnd == 0:
                self._persist_backoff += 1
            return PROBE
        self.congestion.on_timeout(self.nxt - self.una, self.rtt.backoff == 0, now_ns)
        self.rtt.on_timeout()
        self.recovery.on_timeout(self.una, self.nxt)
        return RETRANSMIT

    # -- inside

    @property
    def _fin_pending(self) -> bool:
        return self.fin_seq is not None and self.nxt <= self.fin_seq

    def _retransmission(self) -> Chunk | None:
        recovery = self.recovery
        seq = recovery.next
        # SHLD-16: what lies within the window, where the peer has shrunk it.
        left = min(recovery.end - seq, max(self.una + self.wnd - seq, 0))
        size = min(self.mss, left)
        room = self.congestion.cwnd_bytes - self.in_flight_bytes  # what goes again counts as in flight
        if left > size and room >= 2 * size:
            size = self._whole_segments(left, min(self.chunk_bytes, room))
        elif recovery.forced:
            size = size or 1
        elif size == 0 or size > room:
            return None
        end = seq + size
        fin = self.fin_seq is not None and end > self.fin_seq
        if fin:
            size -= 1
        recovery.on_resent(end)
        self.retransmitted += max(-(-size // self.mss), 1)
        self._timed_end = 0
        return Chunk(seq, size, fin, size > 0 and seq + size == self.buffer.end, recovery.reason)

    def _new_chunk(self, now_ns: int) -> Chunk | None:
        seq = self.nxt
        queued = self.buffer.end - seq
        fin = self.fin_seq is not None and seq <= self.fin_seq
        if queued <= 0 and not fin:
            return None
        window = self.una + self.wnd - seq
        if queued <= 0:
            # A lone FIN takes no room in the network, but it is an octet of the window.
            return self._take(seq, 0, True, now_ns, REASON_FIN) if window > 0 else None
        room = min(
            window,
            self.congestion.cwnd_bytes - self.in_flight_bytes,
            max(self._config.send_buffer_bytes, self.mss) - (seq - self.una),
        )
        mss = self.mss
        size = min(queued, self.chunk_bytes, room)
        if size <= 0:
            return None
        if sliver := size % mss:
            if size == queued:
                # Nagle with Minshall's variation (RFC 9293 A.3): at most one small segment unacknowledged.
                if not (self.nodelay or fin or self.una >= self._small_end):
                    size -= sliver
            elif size > mss or not (self.una == seq and size == window and 2 * size >= self.max_wnd):
                size -= sliver  # SWS avoidance, rules (1) to (3): wait for room rather than send a sliver
            if size == 0:
                return None
        fin = fin and size == queued and window > size
        reason = REASON_DATA_FIN if fin else REASON_LAST_DATA if size == queued else REASON_DATA
        return self._take(seq, size, fin, now_ns, reason)

    def _forced_chunk(self, now_ns: int) -> Chunk | None:
        """A zero-window probe (RFC 9293 3.8.6.1) or what the override timeout forces (3.8.6.2.1 rule 4)."""
        size = self._forced_octets
        self._forced_octets = 0
        if self.wnd:
            size = min(size, self.mss, self.buffer.end - self.nxt)
            return self._take(self.nxt, size, False, now_ns, REASON_OVERRIDE) if size > 0 else None
        if self.una < self.nxt:  # the probe before is unanswered or found no room: the same octet again
            self.retransmitted += 1
            fin = self.una == self.fin_seq
            return Chunk(self.una, 0 if fin else 1, fin, not fin and self.una + 1 == self.buffer.end, REASON_PROBE)
        fin = self.nxt == self.fin_seq
        return self._take(self.nxt, 0 if fin else 1, fin, now_ns, REASON_PROBE)

    def _take(self, seq: int, size: int, fin: bool, now_ns: int, reason: str) -> Chunk:
        end = seq + size + fin
        if self.una == seq:
            # RFC 6298 5.1: nothing was outstanding, so the timer that runs, if any, is not the retransmission timer.
            self.timer_ns = NEVER
        self.nxt = end
        if size % self.mss:
            self._small_end = seq + size
        if not self._timed_end and reason is not REASON_PROBE:
            self._timed_end = end
            self._timed_ns = now_ns
        return Chunk(seq, size, fin, seq + size == self.buffer.end and size > 0, reason)

    def _whole_segments(self, left: int, room: int) -> int:
        """How much of `left` octets goes into `room`: all, or as many whole segments as do."""
        return left if left <= room else room - room % self.mss

    def _persist_interval_ns(self) -> int:
        if self.wnd:
            return self._config.swnd_override_ns
        return min(self.rtt.rto_ns << min(self._persist_backoff, 32), self._config.persist_max_ns)

    def _arm(self, now_ns: int, after_ns: int) -> None:
        # R2 is kept to the nanosecond: the last wait is cut where the limit lies.
        self.timer_ns = min(now_ns + after_ns, max(self._una_since_ns + self._r2_ns, now_ns))
