"""The half that we speak: SND variables, what acknowledgements mean, the retransmission and persist timer (RFC 9293
3.8.1, 3.8.6.1). What leaves is decided in departures.py.

Sequence numbers are unbounded. The FIN is the octet behind the last one queued.
"""

from __future__ import annotations

from ..config import SECOND_NS, Config
from ..congestion import CONTROLLERS, AckSample, CongestionControl
from ..timers import NEVER
from .buffer import SendBuffer
from .chunk import REASON_PROBE, Chunk
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


class Sender:
    """SND.UNA, SND.NXT, SND.WND, SND.WL1, SND.WL2 and ISS by their names in lower case; `wnd` is scaled.

    `mss` is Eff.snd.MSS, `chunk_bytes` the most text that leaves as one chunk: as many whole segments as a superpacket
    has room for, or one. `max_wnd` is the largest window the peer ever offered, `timer_ns` the deadline of the
    retransmission or persist timer (NEVER where off), `probe_ns` that of the tail loss probe. `sack` is the recovery
    where the peer reports what has arrived, else None. `up` is SND.UP: what is sent from below it is one segment a
    chunk, as the pointer counts from the sequence number of each.

    `forced_octets` leave whatever the window says: a zero-window probe, or what the override timeout forces out;
    `probe_due`: so does a tail loss probe. `corked`: text that fills no segment waits for more, up to the override
    timeout. `r2_ns` is how long text may go unacknowledged. `sent_ns` is when text last left, or the handshake ended;
    `small_end` the end of the last text shorter than a full segment (Minshall's variable).
    """

    __slots__ = (
        "_flight_end", "_limit_ns", "_persist_backoff", "_sample", "_timed_end", "_timed_ns", "_una_since_ns",
        "buffer", "chunk_bytes", "config", "congestion", "corked", "fin_seq", "forced_octets", "iss", "max_wnd",
        "mss", "nodelay", "nxt", "probe_due", "probe_ns", "r2_ns", "recovery", "retransmitted", "rtt", "sack",
        "sent_ns", "shift", "small_end", "timer_ns", "una", "up", "wl1", "wl2", "wnd",
    )  # fmt: skip

    def __init__(self, iss: int, config: Config) -> None:
        self.config = config
        self.iss = iss
        self.una = iss
        self.nxt = iss
        self.up = iss
        self.wnd = 0
        self.wl1 = 0
        self.wl2 = 0
        self.max_wnd = 0
        self.shift = 0  # Snd.Wind.Shift: how far the peer's window fields are scaled
        self.mss = config.mss_default_v4
        self.chunk_bytes = self.mss
        self.nodelay = not config.nagle
        self.corked = False
        self.r2_ns = config.r2_ns
        self.fin_seq: int | None = None
        self.buffer = SendBuffer(iss + 1)
        self.recovery: Recovery | SackRecovery = Recovery(iss)
        self.sack: SackRecovery | None = None
        self.rtt = RetransmissionTimeout(config.rto_initial_ns, config.rto_min_ns, config.rto_max_ns)
        self.congestion: CongestionControl = CONTROLLERS[config.congestion](self.mss, None)
        self.timer_ns = NEVER
        self.probe_ns = NEVER
        self.probe_due = False
        self.retransmitted = 0
        self._limit_ns = config.syn_r2_ns  # how long what is outstanding now may go unacknowledged
        self._sample = AckSample()
        self._flight_end = iss  # SND.NXT when the flight was measured that the sample tells of
        self.sent_ns = 0
        self.small_end = iss
        self._timed_end = 0  # acknowledging this ends the round trip that is being timed; 0: none is
        self._timed_ns = 0
        self._una_since_ns = NEVER  # since when what is at SND.UNA waits for an answer; NEVER where nothing does
        self._persist_backoff = 0
        self.forced_octets = 0

    # -- the user's side

    @property
    def unsent_bytes(self) -> int:
        """Octets queued and not yet sent once."""
        nxt = self.nxt
        unsent = self.buffer.end - (nxt if nxt > self.iss else nxt + 1)  # our SYN is none of them
        return unsent if unsent > 0 else 0

    @property
    def has_work(self) -> bool:
        """Whether there is anything to say, were it allowed: else `next_chunk` need not be asked."""
        return (
            self.nxt < self.buffer.end
            or self.recovery.lost_bytes > 0
            or (self.fin_seq is not None and self.nxt <= self.fin_seq)
            or self.forced_octets > 0
            or self.probe_due
        )

    @property
    def idle(self) -> bool:
        """Whether all that we ever had to say is acknowledged: no timer of ours runs."""
        return self.iss < self.una == self.nxt >= self.buffer.end and not self._fin_pending

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

    def set_r2(self, r2_ns: int, now_ns: int) -> None:
        """How long text may go unacknowledged, what is outstanding included. A SYN has a limit of its own."""
        self.r2_ns = r2_ns
        if self.una > self.iss:
            # A timer that the limit so far had cut short starts anew: what it would have been is forgotten.
            cut = self.timer_ns == self._una_since_ns + self._limit_ns
            self._limit_ns = r2_ns
            if self.timer_ns != NEVER:
                self._arm(now_ns, self.rtt.rto_ns if cut else max(self.timer_ns - now_ns, 0))

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
        config = self.config
        self.congestion = CONTROLLERS[config.congestion](self.mss, self.mss if retransmitted else None)
        self._limit_ns = self.r2_ns
        self.rtt.on_progress()
        if retransmitted:
            self.rtt.on_handshake_retransmitted(SYN_LOST_RTO_NS)
        elif self._timed_end:
            self.rtt.on_sample(now_ns - self._timed_ns)
        self._timed_end = 0
        self.una = ack
        self._una_since_ns = NEVER
        self.sent_ns = now_ns
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
            self.forced_octets = 0
            if self.una < self.nxt:
                # The probe octet found no room and was dropped: a window update alone must get things going.
                self.recovery.resend_probe(self.una, self.nxt)
            self._persist_backoff = 0

    def on_ack(self, ack: int, now_ns: int) -> int:
        """SND.UNA < SEG.ACK =< SND.NXT: `ack` takes away. Returns recovery's finding (recovery.py). For peers without
        SACK; `on_report` is the others'."""
        recovery = self.recovery
        assert isinstance(recovery, Recovery)
        self._measure_flight()
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
        self._measure_flight()
        self.recovery.on_quiet_ack(ack, now_ns)
        self._advance(ack, None, now_ns)
        self.congestion.on_ack(self._sample, now_ns)

    def on_report(self, said: Acknowledgement, now_ns: int) -> int:
        """As `on_ack`, where the peer reports what has arrived: SND.UNA =< SEG.ACK. Returns its recovery's finding."""
        sack, control = self.sack, self.congestion
        assert sack is not None
        una, nxt = self.una, self.nxt
        was = sack.state
        # Where nothing was sent twice, each round trip is timed by our own clock, which is finer.
        echoed_ns = None if sack.quiet else said.echoed_ns
        self._measure_flight()
        found = sack.on_ack(said, una, nxt, control.ssthresh_bytes, self.mss, self.rtt.srtt_ns, now_ns)
        if said.ack > una:
            self._advance(said.ack, echoed_ns, now_ns)
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

    def _measure_flight(self) -> None:
        """Before an acknowledgement is processed: the most that was outstanding at once, of the window that it is of.
        One that comes when most of that has been acknowledged says as much of the path as the first."""
        flight_bytes = self.recovery.in_flight_bytes(self.una, self.nxt)
        if flight_bytes > self._sample.flight_bytes or self.una >= self._flight_end:
            self._sample.flight_bytes = flight_bytes
            self._flight_end = self.nxt

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

    # -- what has left

    def take(self, seq: int, size: int, fin: bool, now_ns: int, reason: str) -> Chunk:
        """The chunk of text that leaves for the first time, from SND.NXT on."""
        end = seq + size + fin
        if self.una == seq:
            # RFC 6298 5.1: nothing was outstanding, so the timer that runs, if any, is not the retransmission timer.
            self.timer_ns = NEVER
        self.nxt = end
        self.sent_ns = now_ns
        self.recovery.on_sent(seq, end, now_ns)
        self.probe_ns = NEVER
        if size % self.mss:
            self.small_end = seq + size
        if not self._timed_end and reason is not REASON_PROBE:
            self._timed_end = end
            self._timed_ns = now_ns
        return Chunk(seq, size, fin, seq + size == self.buffer.end and size > 0, reason)

    def on_resent(self, seq: int, end: int, segments: int, now_ns: int) -> None:
        """What is outstanding from `seq` to `end` leaves again, as so many segments."""
        self.recovery.on_resent(seq, end, now_ns)
        self.sent_ns = now_ns
        self.retransmitted += segments
        self._timed_end = 0  # Karn

    # -- timers

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
        if now_ns - self._una_since_ns >= self._limit_ns:
            return GIVE_UP
        self._timed_end = 0  # Karn: whatever is being timed is about to be ambiguous
        if self.una == self.iss:
            self.rtt.on_timeout()
            return RETRANSMIT
        if self.wnd == 0 or self.una == self.nxt:
            self._una_since_ns = min(self._una_since_ns, now_ns)
            self.forced_octets = 1 if self.wnd == 0 else self.wnd
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
            self.probe_due = True
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
        outstanding = self.nxt - self.una
        unreported = not (sack.board.sacked_bytes or sack.probing)
        # Where the peer has shrunk its window below what is outstanding, a probe may not go.
        if sack.state == OPEN and unreported and outstanding <= self.wnd and self.rtt.srtt_ns:
            pto_ns = sack.probe_timeout_ns(self.rtt.srtt_ns, outstanding <= self.mss)
            self.probe_ns = min(now_ns + pto_ns, self.timer_ns)

    @property
    def _fin_pending(self) -> bool:
        return self.fin_seq is not None and self.nxt <= self.fin_seq

    def _persist_interval_ns(self) -> int:
        if self.wnd:
            return self.config.swnd_override_ns
        return min(self.rtt.rto_ns << min(self._persist_backoff, 32), self.config.persist_max_ns)

    def _arm(self, now_ns: int, after_ns: int) -> None:
        # R2 is kept to the nanosecond: the last wait is cut where the limit lies.
        self.timer_ns = min(now_ns + after_ns, max(self._una_since_ns + self._limit_ns, now_ns))
