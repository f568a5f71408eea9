"""What one end of a connection may say and do, by what it knows: the rules of RFC 9293 and its companions, as far as
they can be seen on the wire, whatever the network does.
"""

from __future__ import annotations

from ...core import state as st
from ...core.config import MILLISECOND_NS
from ...core.handshake import mss_for
from ...core.segment import ACK, FIN, PSH, RST, SYN, URG, Options, Segment
from ...core.send.chunk import REASON_OVERRIDE, REASON_PROBE, REASON_TAIL_PROBE_RESENT
from ...core.seq import MASK, unwrap
from .known import NOBODY, Known, Violation

SPEAKS = frozenset({st.ESTABLISHED, st.CLOSE_WAIT})
LEAST_R2_NS = 100_000 * MILLISECOND_NS
"""SHLD-11; MUST-23 has three minutes for a SYN."""
SYN_R2_NS = 180_000 * MILLISECOND_NS


class Flow(Known):
    """One end of a connection, whose segments and events are held to the rules. All of these raise Violation."""

    # -- what leaves

    def on_out(self, segment: Segment, state: int, now_ns: int) -> None:
        """This end sends it. Raises Violation."""
        flags = segment.flags
        self._now_ns = now_ns
        self.check_time(now_ns)
        if flags & RST:
            self.reset = True
            self._check_rst(segment, now_ns)
            return
        if self.closed_ns is not None:
            raise self.violation("it speaks, though the connection is closed", segment)
        if flags & SYN:
            self._check_syn(segment, now_ns)
        else:
            if not flags & ACK:
                raise self.violation("no ACK after the handshake (RFC 9293 3.1)", segment)
            if self.iss is None or self.irs is None:
                raise self.violation("it speaks before there was a handshake", segment)
            if not segment.len:
                self._check_earned(segment)
            self._check_ack(segment)
            self._check_options(segment)
            self._check_window(segment)
            self._check_seq(segment, state, now_ns)
            if flags & URG or self.program.urgent:
                self._check_urgent(segment)
            self._owed_ns, self._full_ns, self._owed_bytes = None, None, 0
        self.spoken_ns = now_ns

    def _check_rst(self, segment: Segment, now_ns: int) -> None:
        heard = self.heard
        lives = self.iss is not None and self.irs is not None and self.closed_ns in (None, now_ns)
        if heard is not None and heard.flags & RST and not lives:
            raise self.violation("a RST answers a RST", segment)
        if segment.flags & ACK:
            if heard is None or segment.seq or segment.ack != (heard.seq + heard.len) & MASK or heard.flags & ACK:
                raise self.violation("no answer to anything (RFC 9293 3.10.7.1)", segment)
            return
        if heard is not None and heard.flags & ACK and segment.seq == heard.ack:
            return
        seq = unwrap(segment.seq, self.nxt)
        if self.iss is None or seq is None or not self.una <= seq <= self.nxt:
            raise self.violation(f"SND.UNA is {self.una & MASK}, SND.NXT {self.nxt & MASK}", segment)

    def _check_syn(self, segment: Segment, now_ns: int) -> None:
        options = segment.options or Options()
        mss = mss_for(self.mtu, self.flow[2])
        if options.mss != mss:
            raise self.violation(f"its MSS option should say {mss} (MUST-14, SHLD-6)", segment)
        if segment.flags & ACK:
            if self.irs is None or segment.ack != (self.irs + 1) & MASK:
                raise self.violation("it does not acknowledge the peer's SYN", segment)
            theirs = self._theirs
            for name, absent in (("wscale", None), ("sack_permitted", False), ("timestamps", None)):
                if getattr(options, name) != absent and getattr(theirs, name) == absent:
                    raise self.violation(f"the peer has not offered {name}", segment)
        if segment.wnd > self.config.receive_limit_bytes:
            raise self.violation("the window is larger than the buffer", segment)
        if self.iss is None:
            self.iss = self.una = segment.seq
            self.nxt = self._small_end = self.iss + 1
            self.edge = segment.wnd + (self.rcv if self.irs is not None else 0)
            if self.heard is not None and self.irs is not None:
                self.peer_edge = self.nxt + self.heard.wnd
        elif segment.seq != self.iss:
            raise self.violation(f"its ISS was {self.iss}", segment)
        elif segment.reason.startswith(("retransmission", "SYN,ACK again: no ACK")):
            self._check_syn_again(segment, now_ns)
            self.again = self.again or f"{self.name}: {segment} ({segment.reason})"
        self._ours = options
        if options.timestamps is not None:
            self._tsval = options.timestamps[0]

    def _check_syn_again(self, segment: Segment, now_ns: int) -> None:
        config = self.config
        wait_ns = min(config.rto_initial_ns << self._syns, config.rto_max_ns)
        waited_ns = now_ns - self._syn_ns
        if waited_ns != wait_ns:
            raise self.violation(f"a SYN again after {waited_ns} ns, not {wait_ns} (MUST-22)", segment)
        self._syns += 1
        self._syn_ns = now_ns

    def _check_ack(self, segment: Segment) -> None:
        ack = unwrap(segment.ack, self.rcv)
        if ack is None or ack > self.rcv:
            raise self.violation(f"it acknowledges what has not come: {self.rcv & MASK} is next", segment)
        if ack < self.ack:
            raise self.violation(f"its ACK goes back by {self.ack - ack}", segment)
        self.ack = ack

    def _check_earned(self, segment: Segment) -> None:
        """It answers something, or opens the window, or is a probe or urgent: else two ends could go on for ever."""
        assert self.edge is not None
        opens = self.ack + (segment.wnd << self.our_shift) > self.edge
        if opens or segment.flags & URG or segment.reason.startswith(("keep-alive probe", "window update")):
            return  # of each at most one for what a program does, or for the time that passes
        self._earned -= 1
        if self._earned < 0:
            raise self.violation("an ACK that answers nothing", segment)

    def _check_options(self, segment: Segment) -> None:
        options = segment.options or Options()
        if options.mss is not None or options.wscale is not None or options.sack_permitted:
            raise self.violation("options of a SYN", segment)
        stamps = options.timestamps
        if (stamps is not None) != self._stamped:
            raise self.violation(f"timestamps, where that is agreed, and else not: {self._stamped}", segment)
        if stamps is not None:
            self._check_timestamps(stamps, segment)
        if options.sack:
            if not (self._ours.sack_permitted and self._theirs.sack_permitted):
                raise self.violation("SACK was not agreed upon", segment)
            for left, right in options.sack:
                self._check_block(unwrap(left, self.rcv), unwrap(right, self.rcv), segment)

    def _check_timestamps(self, stamps: tuple[int, int], segment: Segment) -> None:
        tsval, tsecr = stamps
        if self._tsval is not None and (tsval - self._tsval) & MASK >= 1 << 31:
            raise self.violation("its clock goes back", segment)
        if self._latest is None or (self._latest - tsecr) & MASK >= 1 << 31:
            raise self.violation("it echoes a timestamp that has not come", segment)
        if self._tsecr is not None and (tsecr - self._tsecr) & MASK >= 1 << 31:
            raise self.violation("it echoes an older timestamp than before", segment)
        self._tsval, self._tsecr = tsval, tsecr

    def _check_block(self, left: int | None, right: int | None, segment: Segment) -> None:
        if left is None or right is None or left >= right:
            raise self.violation("an empty SACK block", segment)
        if right > self.rcv and not any(first <= left and right <= last for first, last in self._held):
            raise self.violation("it reports what has not come (RFC 2018)", segment)

    def _check_window(self, segment: Segment) -> None:
        config, shift = self.config, self.our_shift
        assert self.edge is not None
        assert self.irs is not None
        edge = self.ack + (segment.wnd << shift)
        moves = edge - self.edge
        read = self.irs + 2 + self.program.heard  # with the SYN, and the FIN
        if moves <= -1 << shift or (moves < 0 and self.edge <= read + config.receive_buffer_bytes):
            raise self.violation(f"the window's right edge moves left by {-moves}", segment)
        if edge > read + config.receive_limit_bytes + (config.receive_limit_bytes // 8 if shift else 0) + (1 << shift):
            raise self.violation(f"it offers {edge - read} octets, more than the buffer has", segment)
        buffer_bytes = min(config.receive_buffer_bytes, 0xFFFF << shift)
        worthwhile = min(mss_for(self.mtu, self.flow[2]), buffer_bytes // 2)
        if 1 << shift <= moves < worthwhile:
            raise self.violation(f"the window opens by {moves} octets: silly (MUST-39)", segment)
        self.edge = max(self.edge, edge)

    def _check_seq(self, segment: Segment, state: int, now_ns: int) -> None:
        seq = unwrap(segment.seq, self.nxt)
        if seq is None or seq > self.nxt:
            raise self.violation(f"a gap: SND.NXT is {self.nxt & MASK}", segment)
        reason = segment.reason
        if reason.startswith("keep-alive probe"):
            settings = self.config.keepalive_settings
            if not settings.on or seq != self.nxt - 1 or now_ns - self.heard_ns < settings.idle_ns:
                raise self.violation(f"heard {now_ns - self.heard_ns} ns ago", segment)
            return
        end = seq + segment.len
        if end > self.peer_edge and end - seq > 1:
            raise self.violation(f"beyond the peer's window, by {end - self.peer_edge}", segment)
        if seq > max(self.peer_edge, self.una, self.claimed):
            raise self.violation(f"SEG.SEQ is beyond the peer's window, by {seq - self.peer_edge}", segment)
        if reason in (REASON_PROBE, REASON_OVERRIDE):
            self.forced = self.forced or f"{self.name}: {segment} ({reason})"
        if reason == REASON_PROBE:
            self._check_probe(seq, now_ns)
        if end > seq:
            self._check_text(seq, end, state, segment)

    def _check_probe(self, seq: int, now_ns: int) -> None:
        """RFC 9293 3.8.6.1: at intervals that grow, up to a limit."""
        before, when_ns, interval_ns = self._probed
        waited_ns = now_ns - when_ns if before == seq else 0
        impatient = self.config.r2_ns < LEAST_R2_NS  # R2 cuts a wait short, and may be off again by its end
        if before == seq and waited_ns < min(2 * interval_ns, self.config.persist_max_ns) and not impatient:
            raise Violation(f"{self.name}: {waited_ns} ns between zero-window probes, {interval_ns} before")
        self._probed = (seq, now_ns, waited_ns)

    def _check_text(self, seq: int, end: int, state: int, segment: Segment) -> None:
        assert self.iss is not None
        size, mss, reason = segment.payload_len, self.mss, segment.reason
        if (segment.gso_size or size) > mss:
            raise self.violation(f"Eff.snd.MSS is {mss}", segment)
        if self._allowed_bytes is not None and "probe" not in reason:
            self._allowed_bytes -= size
            if self._allowed_bytes < 0:
                raise self.violation("more than a segment after a timeout (RFC 5681 3.1)", segment)
        last = self.iss + 1 + self.program.said
        if self.program is not NOBODY:
            if seq + size > last:
                raise self.violation(f"nobody has written the last {seq + size - last} octets", segment)
            if size and seq + size == last and not segment.flags & PSH:
                raise self.violation("no PSH with the last octet (MUST-61)", segment)
        if self.fin_end is not None and end > self.fin_end:
            raise self.violation("it lies behind the FIN", segment)
        if segment.flags & FIN:
            if self.fin_end not in (None, end) or (self.program is not NOBODY and end != last + 1):
                raise self.violation("the FIN stands elsewhere", segment)
            self.fin_end = end
        if reason in (REASON_PROBE, REASON_OVERRIDE):
            self._refused = seq
        if seq < self.nxt and seq != self._refused and reason == REASON_TAIL_PROBE_RESENT:
            self.again_probe = self.again_probe or f"{self.name}: {segment} ({reason})"
        if "probe" not in reason:
            if seq < self.nxt:
                if seq != self._refused:
                    self.again = self.again or f"{self.name}: {segment} ({reason})"
            elif reason != REASON_OVERRIDE:
                self._check_small(seq, size, last, state, segment)
        if end > self.nxt:
            self.nxt, self._said_ns = end, self._now_ns

    def _check_small(self, seq: int, size: int, last: int, state: int, segment: Segment) -> None:
        """Nagle's algorithm with Minshall's variation, and the sender's side of avoiding silly windows."""
        if not size % self.mss or self.program is NOBODY:
            return
        urgent = segment.flags & URG
        if seq + size < last and not segment.gso_size and seq > self.una:
            raise self.violation("a silly segment, with more to come (MUST-38)", segment)
        if self.config.nagle and not urgent and state in SPEAKS and self._small_end > self.una:
            raise self.violation("two small segments at once (Nagle)", segment)
        self._small_end = max(self._small_end, seq + size)

    def _check_urgent(self, segment: Segment) -> None:
        assert self.iss is not None
        seq = unwrap(segment.seq, self.nxt)
        assert seq is not None
        last = self.iss + 1 + self.program.said
        if not segment.flags & URG:
            if seq < last and self.una < last and segment.payload_len:
                raise self.violation("urgent text without URG", segment)
            return
        if self.program is not NOBODY and segment.up != min(last - seq, 0xFFFF):
            raise self.violation(f"the urgent text ends at {last & MASK}", segment)

    # -- what happens

    def on_congestion(self, cwnd_bytes: int, ssthresh_bytes: int, why: str) -> None:
        """The congestion window was set anew. Raises Violation."""
        if self.iss is None or self.una <= self.iss or (why == "timeout" and self._allowed_bytes is None):
            return  # nothing is agreed yet
        # RFC 5681 3.1: never under one segment, that after a timeout; ssthresh never under two (equation 4).
        mss = self.mss
        if cwnd_bytes < mss or (why == "timeout" and cwnd_bytes > mss) or ssthresh_bytes < 2 * mss:
            raise Violation(
                f"{self.name}: cwnd is {cwnd_bytes}, ssthresh {ssthresh_bytes} octets, a segment {mss} ({why})"
            )

    def on_timeout(self, una: int, rto_ns: int, attempt: int, now_ns: int) -> None:
        """The retransmission timer went off (RFC 6298). Raises Violation."""
        config = self.config
        before, before_ns, when_ns = self._timeout
        if not config.rto_min_ns <= rto_ns <= config.rto_max_ns:
            raise Violation(f"{self.name}: the RTO is {rto_ns} ns")
        if una == 0 and attempt == 1 and rto_ns != config.rto_initial_ns:
            raise Violation(f"{self.name}: the first RTO is {rto_ns} ns")
        if attempt > 1 and before == attempt - 1:
            if rto_ns != min(2 * before_ns, config.rto_max_ns):
                raise Violation(f"{self.name}: the RTO was {before_ns} ns and is {rto_ns} now, not twice that")
            if now_ns - when_ns < rto_ns:
                raise Violation(f"{self.name}: a timeout after {now_ns - when_ns} ns, though the RTO is {rto_ns}")
        self._timeout = (attempt, rto_ns, now_ns)
        if una:
            self._allowed_bytes = self.mss

    def on_closed(self, error: OSError | None, now_ns: int) -> None:
        """The connection is gone. Raises Violation."""
        if isinstance(error, TimeoutError) and "keep-alive" in str(error):
            settings = self.config.keepalive_settings
            if now_ns - self.heard_ns < settings.idle_ns + settings.probes * settings.interval_ns:
                raise Violation(f"{self.name}: given up {now_ns - self.heard_ns} ns after something came (MUST-29)")
        elif isinstance(error, TimeoutError):
            synchronized = self.irs is not None
            waited_ns = now_ns - (self._answered_ns if synchronized else self.opened_ns)
            most_ns = max(self.config.r2_ns + self.config.persist_max_ns, SYN_R2_NS)
            waiting_ns = now_ns - max(self.heard_ns, self._said_ns) if synchronized else waited_ns
            least_ns = min(self.config.r2_ns, LEAST_R2_NS) if synchronized else SYN_R2_NS
            if (waited_ns < least_ns and self.config.r2_ns >= LEAST_R2_NS) or waiting_ns > most_ns:
                raise Violation(f"{self.name}: given up after {waited_ns} ns (RFC 9293 3.8.3)")
