"""One TCP connection: RFC 9293 section 3.10 in the RFC's own order. Read them side by side.

    3.10.1 to 3.10.5   user calls          open, send, receive, close, abort (and release, below)
    3.10.7.3           SEGMENT ARRIVES     in SYN-SENT
    3.10.7.4                               in the other states: eight checks, first to eighth
    3.10.8             timeouts            on_timer

The variables, and STATUS that tells them, are in tcb.py. CLOSED (3.10.7.1) is in closed.py, LISTEN (3.10.7.2) and
SYN-RECEIVED after a passive open in listen.py, TIME-WAIT in timewait.py: none of them needs a connection.

The contract with whoever drives it: after `on_segment`, `on_timer` or a user call, call `transmit`; call `on_timer`
when `deadline_ns` has come. Nothing else makes a connection speak. What the peer sends never raises; a user call that
makes no sense does. State changes only through the table in state.py.
"""

from __future__ import annotations

import errno

from . import fastpath
from . import state as st
from .closed import reset
from .config import Config
from .events import (
    ExcessiveRetransmission,
    RetransmissionTimeout,
    SoftError,
    Tracer,
)
from .handshake import Negotiated
from .keepalive import DEAD, PROBE, KeepAlive
from .listen import SynRecord
from .readiness import CLOSED, CONNECTED, EOF, READABLE, URGENT
from .receive.receiver import acceptable
from .receive.timestamps import OLD
from .segment import ACK, FIN, RST, SYN, URG, Buffer, Segment, SegmentOptions
from .send.recovery import ENTERED, RECOVERED
from .send.sack_recovery import Acknowledgement, is_dsack
from .send.sender import GIVE_UP, LATE, RETRANSMIT
from .seq import unwrap
from .tcb import TransmissionControlBlock
from .timers import NEVER
from .timewait import TimeWait

RECEIVES_TEXT = frozenset({st.ESTABLISHED, st.FIN_WAIT_1, st.FIN_WAIT_2})
SENDS_TEXT = frozenset({st.SYN_SENT, st.SYN_RECEIVED, st.ESTABLISHED, st.CLOSE_WAIT})
ABORT_RESETS = frozenset({st.SYN_RECEIVED, st.ESTABLISHED, st.FIN_WAIT_1, st.FIN_WAIT_2, st.CLOSE_WAIT})  # 3.10.5
REPEATED = "ACK: text that we have already, or have no room for"
OUTSIDE = "ACK: segment outside the window"
DROPPED = 128  # beside the readiness bits: the fifth check drops the segment

class Connection(TransmissionControlBlock):
    """One connection; its variables are tcb.py's."""

    __slots__ = ()

    # ------------------------------------------------------------------ 3.10.1 OPEN

    def open(self, now_ns: int) -> None:
        """Active OPEN: the SYN leaves with the next transmit. Raises OSError (EISCONN) where it is open already."""
        if self.state != st.CLOSED or self.opened_ns:
            raise OSError(errno.EISCONN, "connection already exists")
        self.opened_ns = now_ns
        self._move(st.ACTIVE_OPEN, now_ns)
        self._send_syn(SYN, "SYN: active open, our ISN", now_ns)

    @classmethod
    def of_record(
        cls,
        record: SynRecord,
        config: Config,
        now_ns: int,
        tracer: Tracer | None = None,
        superpacket_bytes: int = 0,
        receive_limit_bytes: int | None = None,
    ) -> Connection:
        """What a passive OPEN came to: the connection of a SYN record, in SYN-RECEIVED; give it the ACK next."""
        stamps = record.timestamps(now_ns)
        self = cls(record.flow, config, record.iss, record.mtu, tracer, superpacket_bytes, receive_limit_bytes, stamps)
        self.opened_ns = record.opened_ns
        self.state = st.SYN_RECEIVED
        self._syn_attempts = record.attempts
        self._receiver.synchronize(record.irs)
        self._receiver.offer(record.wnd)
        self._sender.on_syn_sent(record.opened_ns)
        self._negotiate(record.negotiated(config))
        return self

    # ------------------------------------------------------------------ 3.10.2 SEND

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Queue all of `data`: bytes by reference, anything mutable as a copy. The caller watches unsent_bytes.

        Raises the connection's error where it has died, BrokenPipeError after CLOSE, TypeError for what is no bytes.
        """
        if self.error is not None:
            raise self.error
        if self.state not in SENDS_TEXT or self._close_queued:
            raise BrokenPipeError(errno.EPIPE, "connection closing: nothing can be sent after CLOSE")
        self._sender.buffer.append(data)

    def send_shared(self, view: memoryview) -> None:
        """As `send`, for a view of octets that stay as they are until they are acknowledged: kept by reference, and
        never looked at (SendBuffer.append_shared)."""
        self.send(b"")  # for what it raises
        self._sender.buffer.append_shared(view)

    def send_urgent(self, data: bytes | bytearray | memoryview) -> None:
        """As `send`, with the URGENT flag: SND.UP points to the octet behind the last one of `data` (MUST-62).

        The text has its place in the stream like any other. The peer hears of it with the next transmit, even where its
        window is closed. No octets, no urgent text.
        """
        self.send(data)
        sender = self._sender
        if len(data):
            # An acknowledgement that tells of nothing new is a duplicate to the peer (RFC 5681 2).
            news = not self._output.points_its_furthest
            sender.up = sender.buffer.end
            if news and sender.una > sender.iss:
                self._acks.owe("URG: urgent text waits to be sent")  # where it does: else this goes with the text

    def acknowledge_now(self) -> bool:
        """An acknowledgement that was to wait leaves with the next transmit. Whether there was one."""
        waits = self._acks.timer_ns != NEVER
        if waits:
            self._acks.on_timer()
        return waits

    # ------------------------------------------------------------------ 3.10.3 RECEIVE

    def receive(self, max_bytes: int, now_ns: int) -> list[Buffer]:
        """Up to `max_bytes` of the text that has arrived in order, as chunks; [] where none waits.

        Text that arrived before the connection ended can still be received. Opens the window; the update leaves
        with the next transmit where it is due. Urgent text never comes in one call with text that is behind it.
        """
        receiver = self._receiver
        waiting = receiver.queued_bytes
        if receiver.up and (urgent_bytes := receiver.urgent_bytes):
            max_bytes = min(max_bytes, urgent_bytes)
        chunks = receiver.read(max_bytes)
        if chunks and self.state in RECEIVES_TEXT:
            receiver.on_read(waiting - receiver.queued_bytes, now_ns, self._sender.rtt.srtt_ns)
            if receiver.update_due():
                self._acks.owe("window update: the application has read")
        return chunks

    # ------------------------------------------------------------------ 3.10.4 CLOSE

    def close(self, now_ns: int) -> None:
        """We have no more to send: the FIN follows what is queued. Receiving goes on. A second call changes nothing."""
        state = self.state
        if state == st.SYN_SENT:
            self._delete(st.CLOSE, None, now_ns)
        elif state == st.SYN_RECEIVED and self._sender.unsent_bytes:
            self._close_queued = True
        elif (state, st.CLOSE) in st.TRANSITIONS:
            self._move(st.CLOSE, now_ns)
            self._sender.queue_fin()

    def release(self, now_ns: int) -> None:
        """The application is gone: close, and nobody will receive any more.

        With text unread, or when more arrives later, the peer gets a RST, so that it learns that text was lost
        (SHLD-3, RFC 2525 2.17). FIN-WAIT-2 is limited from now on.
        """
        if self.state in (st.CLOSED, st.TIME_WAIT):
            self._receiver.clear()
            return
        if self._receiver.queued_bytes:
            self._reset(True, "RST: closed with text unread", now_ns)
            return
        self._orphaned = True
        self._keepalive = None
        self.close(now_ns)
        if self.state == st.FIN_WAIT_2:
            self._orphan_timer_ns = now_ns + self._config.fin_wait_2_ns

    # ------------------------------------------------------------------ 3.10.5 ABORT

    def abort(self, now_ns: int) -> None:
        """Drop everything; the peer gets a RST in the states that 3.10.5 lists.

        CLOSING and LAST-ACK are not among them, since there the RFC has sent its FIN; ours may still be queued behind
        text, and then the peer has to hear that it will not come.
        """
        state = self.state
        if state == st.CLOSED:
            return
        fin_seq = self._sender.fin_seq
        unsaid = state in (st.CLOSING, st.LAST_ACK) and fin_seq is not None and self._sender.nxt <= fin_seq
        self._reset(unsaid or state in ABORT_RESETS, "RST: aborted by the application", now_ns)

    def _reset(self, aloud: bool, reason: str, now_ns: int) -> None:
        self._delete(st.ABORT, None, now_ns)
        if aloud:
            self.aborted = True
            self._output.reset(reason, now_ns)
    # ------------------------------------------------------------------ 3.10.7 SEGMENT ARRIVES

    def on_segment(self, segment: Segment, now_ns: int) -> int:
        """Process one segment that is for this connection. Returns a readiness mask (readiness.py)."""
        if self._keepalive is not None:
            self._keepalive.heard_ns = now_ns
        if self.state == st.ESTABLISHED and self._soft_error is None:
            mask = fastpath.take(
                segment, self._sender, self._receiver, self._acks, self._timestamps, self._full_segment_bytes, now_ns
            )
            if mask != fastpath.UNPREDICTED:
                return mask
        elif self.state == st.SYN_SENT:
            return self._arrives_in_syn_sent(segment, now_ns)
        return self._arrives(segment, now_ns)

    # ---- 3.10.7.3 SYN-SENT

    def _arrives_in_syn_sent(self, segment: Segment, now_ns: int) -> int:
        sender, flags = self._sender, segment.flags
        # First, check the ACK bit.
        ack = unwrap(segment.ack, sender.una) if flags & ACK else None
        if flags & ACK and (ack is None or not sender.iss < ack <= sender.nxt):
            if not flags & RST:
                self._output.control(reset(segment, segment.ack, "RST: the ACK is not for our SYN"))
            return 0
        # Second, check the RST bit.
        if flags & RST:
            if ack is None:
                return 0
            # The user hears "connection refused", as sockets say it.
            return self._delete(st.RCV_RST, ConnectionRefusedError(errno.ECONNREFUSED, "connection refused"), now_ns)
        # Fourth, check the SYN bit; fifth, drop what has neither.
        if not flags & SYN:
            return 0
        self._receiver.synchronize(segment.seq)
        self._peer_options = segment.options
        if self._timestamps is not None and segment.options is not None and segment.options.timestamps is not None:
            self._timestamps.synchronize(segment.options.timestamps[0], now_ns)
        self._negotiate(Negotiated(self._config, self._our_mss, segment.options, self.flow[2]))
        if ack is None:
            self._move(st.RCV_SYN, now_ns)  # simultaneous open
            sender.set_window(segment.wnd, segment.seq, 0)
            self._send_syn(SYN | ACK, "SYN,ACK: both ends open at once", now_ns)
            return 0
        self._receiver.offer(min(self._config.receive_buffer_bytes, 0xFFFF))  # as our SYN did
        self._establish(st.RCV_SYN_ACK, segment.wnd, segment.seq, ack, now_ns)
        self._acks.owe("ACK: completes the handshake")
        # Any text or FIN is processed from the sixth step on.
        urgent = self._check_urg(segment, segment.seq) if flags & URG else 0
        return CONNECTED | self._text_and_fin(segment, segment.seq + 1, now_ns) | urgent

    # ---- 3.10.7.4 other states

    def _arrives(self, segment: Segment, now_ns: int) -> int:
        receiver, flags = self._receiver, segment.flags
        seq = unwrap(segment.seq, receiver.nxt)
        # RFC 7323 5.3 R1, before all else; an RST is not looked at for its age.
        timestamps = self._timestamps
        stamps = None if timestamps is None or segment.options is None else segment.options.timestamps
        if timestamps is not None and stamps is not None and timestamps.is_old(stamps[0], now_ns) and not flags & RST:
            self._answer_unacceptable(segment, seq, OLD, now_ns)
            return 0
        # First, check sequence number.
        opens_too = self.state == st.SYN_RECEIVED and flags & (SYN | ACK | RST) == SYN | ACK and seq == receiver.irs
        if opens_too:
            # Simultaneous open (Figure 8): the peer's SYN again, now with the ACK of ours. "One could trim off any
            # portions that lie outside the window (including SYN and FIN)."
            seq = receiver.nxt
            flags &= ~SYN
        elif seq is None or not acceptable(seq, segment.len, receiver.nxt, receiver.wnd):
            return self._unacceptable(segment, seq, now_ns)
        # Second, check the RST bit.
        if flags & RST:
            return self._check_rst(seq, now_ns)
        # Third, security and compartment: not supported by anyone any more (RFC 9293 A.1).
        # Fourth, check the SYN bit (RFC 5961 4).
        if flags & SYN:
            self._challenge("challenge ACK: SYN in a synchronized state", now_ns)
            return 0
        # Fifth, check the ACK field.
        if not flags & ACK:
            return 0
        mask = self._check_ack(segment, seq, now_ns)
        if mask & (DROPPED | CLOSED):
            return mask & ~DROPPED
        if timestamps is not None and stamps is not None:
            timestamps.on_segment(seq, stamps[0], now_ns)
        if opens_too:
            self._acks.owe("ACK: completes the simultaneous open")
        # Sixth, check the URG bit.
        if flags & URG:
            mask |= self._check_urg(segment, receiver.irs if opens_too else seq)
        # Seventh and eighth, the segment text and the FIN bit.
        return mask | self._text_and_fin(segment, seq, now_ns)

    def _unacceptable(self, segment: Segment, seq: int | None, now_ns: int) -> int:
        """First check, not passed: "an acknowledgment should be sent in reply (unless the RST bit is set)"."""
        flags = segment.flags
        # "If the RCV.WND is zero, special allowance should be made to accept valid ACKs, URGs, and RSTs" (MUST-66).
        nxt = self._receiver.nxt
        allowance = seq == nxt and self._receiver.wnd <= 0
        if flags & RST:
            return self._check_rst(nxt, now_ns) if allowance else 0
        mask = 0
        if allowance and flags & (ACK | SYN) == ACK:  # a probe carries an ACK
            mask = self._check_ack(segment, nxt, now_ns)
            if mask & (DROPPED | CLOSED):
                return mask & ~DROPPED
            if flags & URG:
                mask |= self._check_urg(segment, nxt)
        self._answer_unacceptable(segment, seq, OUTSIDE, now_ns)
        return mask

    def _answer_unacceptable(self, segment: Segment, seq: int | None, reason: str, now_ns: int) -> None:
        flags = segment.flags
        if flags & ACK and seq is not None and seq < self._receiver.nxt:
            self._output.taken = unwrap(segment.ack, self._sender.una) or 0
        if (segment.payload_len or flags & FIN) and not flags & SYN:
            receiver = self._receiver
            if receiver.reports and segment.payload_len and seq is not None and seq < receiver.nxt:
                receiver.note_arrival(seq, seq + segment.payload_len)
            self._owe_repeated(OLD if reason == OLD else REPEATED)
        else:
            # Two ends that find each other's ACKs unacceptable would answer each other for ever: limit these. So is any
            # challenge, whatever comes with the SYN (RFC 5961 7).
            self._challenge(reason, now_ns)

    def _check_rst(self, seq: int, now_ns: int) -> int:
        """Second check, RFC 5961 3: only a RST at RCV.NXT resets, one elsewhere in the window earns a challenge."""
        if seq < self._receiver.nxt:
            return 0  # outside the window, though its text may reach into it
        if seq != self._receiver.nxt:
            self._challenge("challenge ACK: RST in the window, not at RCV.NXT", now_ns)
            return 0
        if self.state == st.SYN_RECEIVED:
            return self._delete(st.RCV_RST, ConnectionRefusedError(errno.ECONNREFUSED, "connection refused"), now_ns)
        if self.state in (st.CLOSING, st.LAST_ACK, st.TIME_WAIT):
            return self._delete(st.RCV_RST, None, now_ns)
        return self._delete(st.RCV_RST, ConnectionResetError(errno.ECONNRESET, "connection reset by peer"), now_ns)

    def _check_ack(self, segment: Segment, seq: int, now_ns: int) -> int:
        """Fifth check. Returns a readiness mask, with DROPPED where the segment is to be processed no further."""
        sender = self._sender
        ack = unwrap(segment.ack, sender.una)
        wnd = segment.wnd if segment.flags & SYN else segment.wnd << sender.shift
        if sender.una == sender.iss:  # SYN-RECEIVED, or FIN-WAIT-1 where CLOSE came before our SYN was acknowledged
            if ack is None or not sender.una < ack <= sender.nxt:
                self._output.control(reset(segment, segment.ack, "RST: the ACK is not for our SYN"))
                return DROPPED
            self._establish(st.RCV_ACK_OF_SYN, wnd, seq, ack, now_ns)
            return CONNECTED
        # RFC 5961 5: SND.UNA - MAX.SND.WND =< SEG.ACK =< SND.NXT, or an ACK goes back and the segment is dropped.
        if ack is None or not sender.una - sender.max_wnd <= ack <= sender.nxt:
            self._challenge("challenge ACK: the ACK field is outside what we sent", now_ns)
            return DROPPED
        news = ack > sender.una
        if news:
            self._soft_error = None  # the path works again
        if news and sender.recovery.quiet and (segment.options is None or not segment.options.sack):
            sender.on_quiet_ack(ack, now_ns)
        elif sender.sack is not None:
            # Text that comes with nothing new in the ACK field tells nothing; nor does an ACK that was overtaken, but
            # for its blocks; nor does anything where all is acknowledged, but for what arrived twice.
            said = self._report(segment.options, ack, now_ns)
            outstanding = sender.nxt > sender.una or sender.sack.probing
            tells = news or said.blocks or (ack == sender.una and not segment.len)
            if said.dsack or (outstanding and tells):
                found = sender.on_report(said, now_ns)
                self._trace_recovery(found, now_ns)
                if found == RECOVERED:
                    self._trace_recovery(sender.on_recovered(now_ns), now_ns)
        elif news:
            self._trace_recovery(sender.on_ack(ack, now_ns), now_ns)
        if not news and ack == sender.una:
            if not self._orphaned:  # RFC 6429: with nobody to decide about it, a window closed for R2 is the end
                sender.on_probe_answered(now_ns)
            # RFC 5681 2: a duplicate has text outstanding before it, none in it, and changes nothing.
            more_urgent = segment.flags & URG and seq + segment.up > self._receiver.up
            if sender.nxt > ack and segment.len == 0 and wnd == sender.wnd and not more_urgent:
                self._trace_recovery(sender.on_duplicate_ack(now_ns), now_ns)
        # Deviates from the letter, as Linux: a new SEG.ACK brings a new SEG.WND whatever SEG.SEQ, which is old where
        # the peer retransmits. SND.WND counts from SND.UNA: kept as it was, it would reach beyond what was offered.
        if news or (ack >= sender.una and (sender.wl1 < seq or (sender.wl1 == seq and sender.wl2 <= ack))):
            sender.set_window(wnd, seq, ack)
        return self._fin_acknowledged(now_ns) if sender.fin_acknowledged else 0

    def _report(self, options: SegmentOptions | None, ack: int, now_ns: int) -> Acknowledgement:
        """What an ACK says to a sender that understands selective acknowledgements (RFC 2018, RFC 2883)."""
        if options is None:
            return Acknowledgement(ack)
        echoed_ns = None
        if self._timestamps is not None and options.timestamps is not None:
            echoed_ns = self._timestamps.echoed_ns(options.timestamps[1], now_ns)
        if not options.sack:
            return Acknowledgement(ack, echoed_ns=echoed_ns)
        una, nxt = self._sender.una, self._sender.nxt
        reached = max(ack, una)
        edges = [(unwrap(left, una), unwrap(right, una)) for left, right in options.sack]
        blocks = [(left, right) for left, right in edges if left is not None and right is not None and left < right]
        dsack = None
        if blocks and is_dsack(blocks, ack):
            dsack = blocks.pop(0)
        # What the peer makes up of octets that we never sent is not believed.
        told = tuple((max(left, reached), right) for left, right in blocks if reached < right <= nxt)
        return Acknowledgement(reached, told, dsack if ack == reached else None, echoed_ns)

    def _establish(self, cause: str, wnd: int, seq: int, ack: int, now_ns: int) -> None:
        """Our SYN is acknowledged: ESTABLISHED (or on in FIN-WAIT-1, where CLOSE came first)."""
        self._sender.establish(wnd, seq, ack, self._syn_attempts > 0, now_ns)
        if self._config.keepalive and self._keepalive is None:
            self.set_keepalive(self._config.keepalive_settings, now_ns)
        if self.state in (st.SYN_SENT, st.SYN_RECEIVED):
            self._move(cause, now_ns)
        if self._close_queued:
            self._close_queued = False
            self.close(now_ns)

    def _fin_acknowledged(self, now_ns: int) -> int:
        """Fifth check, where our FIN is acknowledged: FIN-WAIT-1, CLOSING and LAST-ACK move on."""
        state = self.state
        if state == st.FIN_WAIT_1:
            self._move(st.RCV_ACK_OF_FIN, now_ns)
            if self._orphaned:
                self._orphan_timer_ns = now_ns + self._config.fin_wait_2_ns
        elif state == st.CLOSING:
            self._move(st.RCV_ACK_OF_FIN, now_ns)
            return CLOSED
        elif state == st.LAST_ACK:
            return self._delete(st.RCV_ACK_OF_FIN, None, now_ns)
        return 0

    def _check_urg(self, segment: Segment, seq: int) -> int:
        """Sixth check: RCV.UP <- max(RCV.UP,SEG.UP). The user hears where that moves on to text not yet consumed.

        "If the user [...] is still in the "urgent mode" [...] do not signal the user again" is taken for a pointer that
        is known already: of one that advances, MUST-32 has the user hear each time.
        """
        receiver = self._receiver
        if self.state not in RECEIVES_TEXT or seq + segment.up <= receiver.up:
            return 0
        receiver.up = seq + segment.up
        return URGENT if receiver.urgent_bytes else 0

    def _text_and_fin(self, segment: Segment, seq: int, now_ns: int) -> int:
        """Seventh and eighth check: the text and the FIN of an acceptable segment that starts at `seq`."""
        if self.state not in RECEIVES_TEXT:
            return 0  # "This should not occur since a FIN has been received from the remote side. Ignore."
        receiver, acks = self._receiver, self._acks
        size, end = segment.payload_len, seq + segment.payload_len
        mask = 0
        if size:
            if self._orphaned and end > receiver.nxt:
                self._reset(True, "RST: text arrived after the application closed", now_ns)
                return CLOSED
            filled_gap = bool(receiver.reassembly)
            repeated = receiver.reports and receiver.note_arrival(seq, end)
            taken = receiver.take_text(seq, segment.payload, size)
            if taken:
                mask = READABLE
                if filled_gap or repeated:
                    acks.owe("ACK: text that fills a gap" if filled_gap else REPEATED)  # RFC 5681 4.2
                else:
                    acks.on_text(taken, self._full_segment_bytes, now_ns)
            elif seq > receiver.nxt:
                self._owe_above_gap(segment, seq, end)
            else:
                self._owe_repeated()
        if segment.flags & FIN:
            receiver.note_fin(end)
            if not size and end > receiver.nxt:
                acks.owe_duplicate(receiver.nxt, "duplicate ACK: FIN above a gap")
        if receiver.reach_fin():
            acks.owe("ACK of the peer's FIN")
            self._move(st.RCV_FIN, now_ns)
            mask |= EOF
            if self.state == st.TIME_WAIT:
                self._orphan_timer_ns = NEVER
                mask |= CLOSED
        return mask

    def _owe_above_gap(self, segment: Segment, seq: int, end: int) -> None:
        """Each segment above a gap owes an acknowledgement of its own (RFC 5681 4.2)."""
        receiver, acks = self._receiver, self._acks
        reason = "duplicate ACK: text above a gap"
        if receiver.reports:
            receiver.note_above_gap(seq, end)
            acks.owe_duplicate(receiver.nxt, reason, receiver.sack_blocks())
            return
        # Of a superpacket's, three do what all would.
        for _ in range(min(segment.segments, 3)):
            acks.owe_duplicate(receiver.nxt, reason)

    def _owe_repeated(self, reason: str = REPEATED) -> None:
        """Text came that we have already, or have no room for, or do not believe."""
        blocks = self._receiver.sack_blocks() if self._receiver.reports else ()
        if blocks:
            self._acks.owe_duplicate(self._receiver.nxt, reason, blocks)
        else:
            self._acks.owe(reason)

    def on_unreachable(self, seq: int, error: OSError, now_ns: int) -> int:
        """ICMP says that our segment at `seq` (as on the wire) could not be delivered. Returns a readiness mask.

        While opening, the user gets `error` at once (RFC 5461 4.2, as Linux; deviates from MUST-56 for this state
        alone). Later the tracer hears of it, and the user only if the connection times out. A quoted sequence number
        that is not outstanding is not ours (RFC 5927 4.1).
        """
        sender = self._sender
        quoted = unwrap(seq, sender.una)
        if quoted is None or not sender.una <= quoted < sender.nxt:
            return 0
        if self.state == st.SYN_SENT:
            return self._delete(st.RCV_UNREACHABLE, error, now_ns)
        if self._tracer is not None:
            self._tracer(SoftError(now_ns, self.flow, error))
        self._soft_error = error
        return 0

    # ------------------------------------------------------------------ 3.10.8 timeouts

    @property
    def deadline_ns(self) -> int:
        """When `on_timer` is due; NEVER (timers.py) where no timer runs."""
        deadline_ns = self._sender.deadline_ns
        if self._acks.timer_ns < deadline_ns:
            deadline_ns = self._acks.timer_ns
        if self._keepalive is not None and self._keepalive.timer_ns < deadline_ns:
            deadline_ns = self._keepalive.timer_ns
        return deadline_ns if deadline_ns < self._orphan_timer_ns else self._orphan_timer_ns

    def on_timer(self, now_ns: int) -> int:
        """Time has passed. May be called early or late. Returns a readiness mask."""
        if self._acks.timer_ns <= now_ns:
            self._acks.on_timer()
        if self._orphan_timer_ns <= now_ns:
            return self._delete(st.ORPHAN_TIMEOUT, None, now_ns)
        if self._keepalive is not None and self._keepalive.timer_ns <= now_ns:
            mask = self._on_keepalive_timer(self._keepalive, now_ns)
            if mask:
                return mask
        if self._sender.deadline_ns <= now_ns:
            return self._on_retransmission_timeout(now_ns)
        return 0

    def _on_retransmission_timeout(self, now_ns: int) -> int:
        sender = self._sender
        rto_ns = sender.rtt.rto_ns
        found = sender.on_timer(now_ns)
        if found == GIVE_UP:
            error = self._soft_error or TimeoutError(errno.ETIMEDOUT, "connection timed out")
            return self._delete(st.USER_TIMEOUT, error, now_ns)
        if found == LATE:
            self._trace_recovery(ENTERED, now_ns)
        if found == RETRANSMIT:
            if sender.una == sender.iss:
                self._syn_attempts += 1
                flags = SYN if self.state == st.SYN_SENT else SYN | ACK
                self._send_syn(flags, "retransmission: timeout, our SYN is unanswered", now_ns)
            if self._tracer is not None:
                una = sender.una - sender.iss
                attempt = sender.rtt.backoff
                self._tracer(RetransmissionTimeout(now_ns, self.flow, una, rto_ns, attempt))
                if attempt == self._config.r1_retransmissions:
                    self._tracer(ExcessiveRetransmission(now_ns, self.flow, una, attempt))
                self._trace_congestion("timeout", now_ns)
        return 0

    def _on_keepalive_timer(self, keepalive: KeepAlive, now_ns: int) -> int:
        found = keepalive.on_timer(self._sender.idle, now_ns)
        if found == PROBE:
            self._output.keepalive(keepalive.reason, now_ns)
        elif found == DEAD:
            error = TimeoutError(errno.ETIMEDOUT, "connection timed out: keep-alives went unanswered")
            mask = self._delete(st.KEEPALIVE_TIMEOUT, error, now_ns)
            # As Linux: should the peer hear us after all, it learns that we have gone.
            self._output.reset("RST: keep-alives went unanswered", now_ns)
            return mask
        return 0

    # ------------------------------------------------------------------ what leaves

    def transmit(self, now_ns: int, max_bytes: int) -> list[Segment]:
        """The segments that may leave now, with at most about `max_bytes` of text; call again for more."""
        if self.state == st.CLOSED:
            return self._output.take_controls()
        if self._tracer is None:
            return self._output.transmit(now_ns, max_bytes)
        control = self._sender.congestion
        cwnd_bytes = control.cwnd_bytes
        segments = self._output.transmit(now_ns, max_bytes)
        if control.cwnd_bytes != cwnd_bytes:
            self._trace_congestion("idle for longer than the retransmission timeout", now_ns)
        return segments

    def time_wait(self, now_ns: int) -> TimeWait:
        """What is to be kept of a connection in TIME-WAIT. Take it after the last `transmit`."""
        sender, receiver = self._sender, self._receiver
        wnd_field = receiver.window_field()
        wnd, lasts_ns = max(receiver.wnd, 0), self._config.time_wait_ns
        return TimeWait(self.flow, sender.nxt, receiver.nxt, wnd, wnd_field, lasts_ns, now_ns, self._timestamps)
