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
from .recovery import ENTERED, NOTHING, RECOVERED, Recovery
from .rto import RetransmissionTimeout
from .sack_recovery import LOSS, OPEN, PROBE_REPAIRED, RECOVERY, UNDONE, Acknowledgement, SackRecovery

# What on_timer found.
IDLE = 0
RETRANSMIT = 1
PROBE = 2
GIVE_UP = 3
TAIL_PROBE = 4
LATE = 5

SYN_LOST_RTO_NS = 3 * SECOND_NS  # RFC 6298 5.7

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


class Sender:
    """SND.UNA, SND.NXT, SND.WND, SND.WL1, SND.WL2 and ISS by their names in lower case; `wnd` is scaled.

    `mss` is Eff.snd.MSS, `chunk_bytes` the most text that leaves as one chunk: as many whole segments as a superpacket
    has room for, or one. `max_wnd` is the largest window the peer ever offered, `timer_ns` the deadline of the
    retransmission or persist timer (NEVER where off), `probe_ns` that of the tail loss probe. `sack` is the recovery
    where the peer reports what has arrived, else None.
    """

    __slots__ = (
        "_config", "_forced_octets", "_persist_backoff", "_probe_due", "_r2_ns", "_sample", "_sent_ns", "_small_end",
        "_timed_end", "_timed_ns", "_una_since_ns", "buffer", "chunk_bytes", "congestion", "fin_seq", "iss", "max_wnd",
        "mss", "nodelay", "nxt", "probe_ns", "recovery", "retransmitted", "rtt", "sack", "shift", "timer_ns", "una",
        "wl1", "wl2", "wnd",
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
        self.recovery: Recovery | SackRecovery = Recovery(iss)
        self.sack: SackRecovery | None = None
        self.rtt = RetransmissionTimeout(config.rto_initial_ns, config.rto_min_ns, config.rto_max_ns)
        self.congestion: CongestionControl = CONTROLLERS[config.congestion](self.mss, None)
        self.timer_ns = NEVER
        self.probe_ns = NEVER
        self._probe_due = False
        self.retransmitted = 0
        self._r2_ns = config.syn_r2_ns
        self._sample = AckSample()
        self._sent_ns = 0  # when text last left, or the handshake ended
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
            or self.recovery.lost_bytes > 0
            or self.fin_seq is not None
            or self._forced_octets > 0
            or self._probe_due
        )

    @property
    def in_flight_bytes(self) -> int:
        """Octets outstanding, less what is known to have left the network."""
        return self.recovery.in_flight_bytes(self.una, self.nxt)

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

    def recover_by_sack(self) -> None:
        """Both ends have said that they understand selective acknowledgements (RFC 2018)."""
        self.recovery = self.sack = SackRecovery(self.iss)

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
        self._sent_ns = now_ns
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
        if isinstance(recovery, SackRecovery):
            if not recovery.quiet:
                return self.on_report(Acknowledgement(ack), now_ns)
            self.on_quiet_ack(ack, now_ns)
            return NOTHING
        self._sample.in_flight_bytes = self.in_flight_bytes
        acked = ack - self.una
        self._advance(ack, None, now_ns)
        found = recovery.on_new_ack(ack, self.nxt, acked, self.mss)
        if found == RECOVERED:
            self.congestion.on_recovered(self.nxt - ack, now_ns)
        elif found == NOTHING:
            self.congestion.on_ack(self._sample, now_ns)
        return found

    def on_quiet_ack(self, ack: int, now_ns: int) -> None:
        """As `on_ack`, where recovery is `quiet`."""
        self._sample.in_flight_bytes = self.in_flight_bytes
        self.recovery.on_quiet_ack(ack, now_ns)
        self._advance(ack, None, now_ns)
        self.congestion.on_ack(self._sample, now_ns)

    def on_report(self, said: Acknowledgement, now_ns: int) -> int:
        """As `on_ack`, where the peer reports what has arrived: SND.UNA =< SEG.ACK. Returns its recovery's finding."""
        sack, control = self.sack, self.congestion
        assert sack is not None
        una, nxt = self.una, self.nxt
        was = sack.state
        self._sample.in_flight_bytes = self.in_flight_bytes
        found = sack.on_ack(said, una, nxt, control.ssthresh_bytes, self.mss, self.rtt.srtt_ns, now_ns)
        if said.ack > una:
            self._advance(said.ack, said.echoed_ns, now_ns)
        if found == ENTERED:
            self._enter_recovery(nxt - una, now_ns)
        elif found == RECOVERED and was == RECOVERY:
            control.on_recovered(control.ssthresh_bytes, now_ns)  # RFC 9937: as much is in flight by now
        elif found == UNDONE:
            control.on_undone()
        elif found == PROBE_REPAIRED:
            control.on_loss(nxt - una, now_ns)  # RFC 8985 7.4.2: the loss that the probe mended was one
            control.on_recovered(control.ssthresh_bytes, now_ns)
        elif said.ack > una and sack.state != RECOVERY:
            if was == LOSS:
                # As Linux: what was reported before has left the network long ago, and is no licence for a burst now
                # that a hole below it is filled. RFC 5681 3.1 has a cap of SMSS per acknowledgement instead.
                self._sample.acked_bytes = sack.delivered_bytes
            control.on_ack(self._sample, now_ns)
        return found

    def on_recovered(self, now_ns: int) -> int:
        """After RECOVERED: ENTERED where something else is lost by now, whose recovery begins at once; else NOTHING."""
        if self.sack is None or not self.sack.lost_bytes:
            return NOTHING
        self._enter_recovery(self.nxt - self.una, now_ns)
        return ENTERED

    def _enter_recovery(self, flight_bytes: int, now_ns: int) -> None:
        sack, control = self.sack, self.congestion
        assert sack is not None
        control.on_loss(self._flight_size(flight_bytes), now_ns)
        sack.begin(self.una, self.nxt, control.ssthresh_bytes, self.mss)
        self.probe_ns = NEVER

    def _flight_size(self, outstanding_bytes: int) -> int:
        """RFC 5681 3.2: FlightSize, whatever of it was reported, but for what limited transmit has added to the whole
        segments that cwnd had let go."""
        cwnd_bytes = self.congestion.cwnd_bytes
        return min(outstanding_bytes, cwnd_bytes - cwnd_bytes % self.mss)

    def _advance(self, ack: int, echoed_ns: int | None, now_ns: int) -> None:
        """SND.UNA <- `ack`, and what hangs on that but for recovery and congestion control."""
        sample = self._sample
        sample.acked_bytes = ack - self.una
        self.una = ack
        self.buffer.release(ack)
        self._una_since_ns = now_ns if ack < self.nxt else NEVER
        sample.rtt_ns = 0
        if self._timed_end:
            if ack >= self._timed_end:
                self._timed_end = 0
                sample.rtt_ns = now_ns - self._timed_ns
                self.rtt.on_sample(sample.rtt_ns)
        elif echoed_ns is not None and echoed_ns < now_ns:
            # Something was sent twice, but the timestamp tells which is acknowledged (RFC 7323 4).
            sample.rtt_ns = now_ns - echoed_ns
            self.rtt.on_sample(sample.rtt_ns)
        self.rtt.on_progress()
        self.timer_ns = self.probe_ns = NEVER  # RFC 6298 5.2, 5.3: off when all is acknowledged, else `arm` starts anew

    def on_duplicate_ack(self, now_ns: int) -> int:
        """A duplicate acknowledgement by RFC 5681 2. Returns recovery's finding.

        One that answers a zero-window probe looks alike, but tells of a full buffer and not of a loss.
        """
        if self._persist_backoff or isinstance(self.recovery, SackRecovery):
            return NOTHING
        found = self.recovery.on_duplicate(self.una, self.nxt, self.mss)
        if found != NOTHING:
            self.congestion.on_loss(self._flight_size(self.nxt - self.una), now_ns)
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
        if self._probe_due:
            return self._tail_probe(now_ns)
        lost = self.recovery.next_lost()
        if lost is None:
            chunk = self._new_chunk(now_ns)
            if chunk is not None or self.sack is None or not self.sack.give_up_doubt():
                return chunk
            lost = self.recovery.next_lost()
        return None if lost is None else self._retransmission(*lost, now_ns)

    def arm(self, now_ns: int) -> None:
        """After all that may leave has left: see that the right timer runs, if any has to."""
        if self.una < self.nxt and (self.wnd > 0 or self.una == self.iss):
            if self._una_since_ns > now_ns:
                self._una_since_ns = now_ns
            if self.timer_ns == NEVER:
                self._arm(now_ns, self.rtt.rto_ns)
            if self.probe_ns == NEVER and self.sack is not None:
                self._arm_probe(self.sack, now_ns)
        elif self.una < self.nxt or self.buffer.end > self.nxt or self._fin_pending:
            # Nothing in flight that could bring an ACK, yet something to say: zero or silly window.
            if self.timer_ns == NEVER:
                self._arm(now_ns, self._persist_interval_ns())
        else:
            self.timer_ns = NEVER

    def on_timer(self, now_ns: int) -> int:
        """A timer went off. GIVE_UP when R2 has passed, else what transmit is now to do."""
        # RFC 8985 7.2: a probe that is due when the timer is goes first.
        if self.sack is not None and (self.timer_ns > now_ns or self.probe_ns <= self.timer_ns):
            return self._on_sack_timer(self.sack, now_ns)
        self.timer_ns = self.probe_ns = NEVER
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
        self.recovery.on_timeout(self.una, self.nxt, self.rtt.srtt_ns, now_ns)
        return RETRANSMIT

    @property
    def deadline_ns(self) -> int:
        """When `on_timer` is due."""
        deadline_ns, sack = self.timer_ns, self.sack
        if sack is None:
            return deadline_ns
        if self.probe_ns < deadline_ns:
            deadline_ns = self.probe_ns
        return deadline_ns if deadline_ns < sack.rack.deadline_ns else sack.rack.deadline_ns

    def stop_timers(self) -> None:
        """Nothing will be sent any more."""
        self.timer_ns = self.probe_ns = NEVER
        if self.sack is not None:
            self.sack.rack.deadline_ns = NEVER

    # -- inside

    def _on_sack_timer(self, sack: SackRecovery, now_ns: int) -> int:
        """RACK's reordering timer, or the tail loss probe's."""
        if self.probe_ns <= now_ns:
            self.probe_ns = NEVER
            self._probe_due = True
            return TAIL_PROBE
        if sack.rack.deadline_ns > now_ns:
            return IDLE
        if not sack.detect_losses(self.mss, self.rtt.srtt_ns, now_ns) or sack.state != OPEN:
            return IDLE
        sack.delivered_bytes = 0
        self._enter_recovery(self.nxt - self.una, now_ns)
        return LATE

    def _arm_probe(self, sack: SackRecovery, now_ns: int) -> None:
        """RFC 8985 7.2: when the tail of what is outstanding is to be probed."""
        if sack.state == OPEN and not (sack.board.sacked_bytes or sack.probing) and self.rtt.srtt_ns:
            pto_ns = sack.probe_timeout_ns(self.rtt.srtt_ns, self.nxt - self.una <= self.mss)
            self.probe_ns = min(now_ns + pto_ns, self.timer_ns)

    def _tail_probe(self, now_ns: int) -> Chunk | None:
        """New text if there is some, else the last segment again (RFC 8985 7.3)."""
        self._probe_due = False
        sack = self.sack
        if sack is None or sack.state != OPEN or sack.board.sacked_bytes or not 0 < self.nxt - self.una <= self.wnd:
            return None
        self.timer_ns = NEVER
        size = min(self.mss, self.buffer.end - self.nxt, self.una + self.wnd - self.nxt)
        if size > 0:
            chunk = self._take(self.nxt, size, False, now_ns, REASON_TAIL_PROBE)
            sack.on_probe(self.nxt, resent=False)
            return chunk
        fin = self.fin_seq is not None and self.nxt > self.fin_seq
        seq = max(self.nxt - fin - self.mss, self.una)
        sack.on_resent(seq, self.nxt, now_ns)
        self._sent_ns = now_ns
        sack.on_probe(self.nxt, resent=True)
        self.retransmitted += 1
        self._timed_end = 0
        size = self.nxt - seq - fin
        return Chunk(seq, size, fin, size > 0 and seq + size == self.buffer.end, REASON_TAIL_PROBE_RESENT)

    @property
    def _fin_pending(self) -> bool:
        return self.fin_seq is not None and self.nxt <= self.fin_seq

    def _send_limit_bytes(self) -> int:
        """What may be outstanding: it follows the congestion window, up to a bound, and is a segment at the least."""
        config = self._config
        grown = min(2 * self.congestion.cwnd_bytes, config.send_limit_bytes)
        return max(config.send_buffer_bytes, self.mss, grown)

    def _room_bytes(self) -> int:
        return self.recovery.room_bytes(self.in_flight_bytes, self.congestion.cwnd_bytes)

    def _retransmission(self, seq: int, end: int, now_ns: int) -> Chunk | None:
        recovery = self.recovery
        # SHLD-16: what lies within the window, where the peer has shrunk it.
        left = min(end - seq, max(self.una + self.wnd - seq, 0))
        size = min(self.mss, left)
        room = self._room_bytes()  # what goes again counts as in flight
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
        recovery.on_resent(seq, end, now_ns)
        self._sent_ns = now_ns
        self.retransmitted += max(-(-size // self.mss), 1)
        self._timed_end = 0
        if seq == self.una and self.sack is not None:
            # Not in RFC 6298, but as Linux: what ran for the first transmission would go off before the answer to this.
            self.timer_ns = NEVER
        return Chunk(seq, size, fin, size > 0 and seq + size == self.buffer.end, recovery.reason)

    def _new_chunk(self, now_ns: int) -> Chunk | None:
        seq = self.nxt
        queued = self.buffer.end - seq
        fin = self.fin_seq is not None and seq <= self.fin_seq
        if queued <= 0 and not fin:
            return None
        if seq == self.una and now_ns - self._sent_ns > self.rtt.rto_ns:
            self._restart()
        window = self.una + self.wnd - seq
        if queued <= 0:
            # A lone FIN takes no room in the network, but it is an octet of the window.
            return self._take(seq, 0, True, now_ns, REASON_FIN) if window > 0 else None
        mss = self.mss
        size = queued if queued < self.chunk_bytes else self.chunk_bytes
        if size > window:
            size = window
        room = self._room_bytes()
        if size > room:
            size = room
        if size > self._config.send_buffer_bytes - (seq - self.una):
            size = min(size, self._send_limit_bytes() - (seq - self.una))
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
        if now_ns - self._sent_ns > self.rtt.rto_ns:
            self._restart()
        if self.wnd:
            size = min(size, self.mss, self.buffer.end - self.nxt)
            return self._take(self.nxt, size, False, now_ns, REASON_OVERRIDE) if size > 0 else None
        if self.una < self.nxt:  # the probe before is unanswered or found no room: the same octet again
            self.retransmitted += 1
            fin = self.una == self.fin_seq
            self.recovery.on_probe_resent(self.una, now_ns)
            return Chunk(self.una, 0 if fin else 1, fin, not fin and self.una + 1 == self.buffer.end, REASON_PROBE)
        fin = self.nxt == self.fin_seq
        return self._take(self.nxt, 0 if fin else 1, fin, now_ns, REASON_PROBE)

    def _take(self, seq: int, size: int, fin: bool, now_ns: int, reason: str) -> Chunk:
        end = seq + size + fin
        if self.una == seq:
            # RFC 6298 5.1: nothing was outstanding, so the timer that runs, if any, is not the retransmission timer.
            self.timer_ns = NEVER
        self.nxt = end
        self._sent_ns = now_ns
        self.recovery.on_sent(seq, end, now_ns)
        self.probe_ns = NEVER
        if size % self.mss:
            self._small_end = seq + size
        if not self._timed_end and reason is not REASON_PROBE:
            self._timed_end = end
            self._timed_ns = now_ns
        return Chunk(seq, size, fin, seq + size == self.buffer.end and size > 0, reason)

    def _restart(self) -> None:
        """Nothing has left for longer than an RTO. A window that was closed for so long counts: nobody's
        acknowledgements will pace what it lets go when it opens."""
        if self._config.slow_start_after_idle:
            self.congestion.on_idle()

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
