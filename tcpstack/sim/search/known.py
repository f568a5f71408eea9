"""What one end of a connection knows, from the segments that it has sent and heard: at most so much, as it is free to
have ignored what it heard. Sequence numbers are unbounded here.
"""

from __future__ import annotations

from ...core import state as st
from ...core.config import Config
from ...core.connection import RECEIVES_TEXT
from ...core.handshake import TIMESTAMPS_BYTES, mss_for
from ...core.segment import ACK, FIN, RST, SYN, FourTuple, Options, Segment, SegmentOptions
from ...core.seq import MASK, unwrap


class Violation(AssertionError):
    """The engine did what it must not. The message says what, when and to whom."""


class Program:
    """What the program at this end has written (`said`) and read (`heard`) so far, in octets; `urgent`: all that it
    writes is urgent text."""

    __slots__ = ("heard", "said", "urgent")

    def __init__(self) -> None:
        self.said = 0
        self.heard = 0
        self.urgent = False


NOBODY = Program()
"""For a connection whose program is not there yet, or has gone."""


class Known:
    """One end of a connection, from its SYN on.

    Sent:   iss, nxt (behind the last octet sent), fin_end (behind our FIN), ack and edge (the window's right edge)
    Heard:  irs, rcv (behind the last octet that has come in order), una, peer_edge
    """

    def __init__(self, name: str, flow: FourTuple, config: Config, mtu: int, now_ns: int) -> None:
        self.name = name
        self.flow = flow
        self.config = config
        self.mtu = mtu
        self.program = NOBODY
        self.opened_ns = self.heard_ns = self.spoken_ns = self._answered_ns = now_ns
        self.closed_ns: int | None = None
        self.iss: int | None = None
        self.irs: int | None = None
        self.nxt = self.una = self.ack = self.rcv = 0
        self.edge: int | None = None
        self.peer_edge = 0
        self.claimed = 0  # by forged ACKs: where ours may stand, as it changes nothing else
        self.widest = 0  # the widest window that the peer has offered
        self.fin_end: int | None = None
        self.heard: Segment | None = None
        self.reset = False  # it has sent a RST
        self.again = ""  # the first that held text sent before, or the SYN, and why it was sent
        self._refused: int | None = None  # where text began that was forced out: the peer may have had no room for it
        self.again_probe = ""  # likewise of the tail loss probes
        self.forced = ""  # likewise a zero-window probe, or what the override timeout forced out
        self._held: list[tuple[int, int]] = []
        self._ours: SegmentOptions = Options()
        self._theirs: SegmentOptions = Options()
        self._small_end = 0
        self._owed_ns: int | None = None  # since when text waits for its acknowledgement
        self._owed_bytes = 0
        self._earned = 0  # so many more ACKs answer something
        self._now_ns = self._said_ns = now_ns  # new text left
        self._full_ns: int | None = None  # since when that is two full segments
        self._tsval: int | None = None
        self._tsecr: int | None = None
        self._latest: int | None = None  # the latest TSval that has come
        self._syn_ns = now_ns
        self._syns = 0
        self._timeout = (0, 0, 0)  # attempt, RTO, when
        self._allowed_bytes: int | None = None  # since a timeout, until something is heard
        self._probed = (0, 0, 0)  # of the last zero-window probe: SEG.SEQ, when, how long after the one before

    # -- what was agreed

    @property
    def _scaled(self) -> bool:
        return self._ours.wscale is not None and self._theirs.wscale is not None

    @property
    def _stamped(self) -> bool:
        return self._ours.timestamps is not None and self._theirs.timestamps is not None

    @property
    def our_shift(self) -> int:
        return self._ours.wscale or 0 if self._scaled else 0

    @property
    def mss(self) -> int:
        """Eff.snd.MSS (RFC 9293 3.7.1)."""
        default = 536 if len(self.flow[2]) == 4 else 1220
        theirs = default if self._theirs.mss is None else max(self._theirs.mss, 48)
        return min(theirs, mss_for(self.mtu, self.flow[2])) - (TIMESTAMPS_BYTES if self._stamped else 0)

    def stamps(self) -> tuple[int, int] | None:
        """(the TSval that we echo, our own): what a segment of the peer's has, where there are timestamps."""
        if not self._stamped or self._tsecr is None or self._tsval is None:
            return None
        return self._tsecr, self._tsval

    # -- what comes

    def on_in(self, segment: Segment, before: int, after: int, now_ns: int) -> None:
        """The peer's segment was processed."""
        self.check_time(now_ns)
        self.heard_ns = now_ns
        self.heard = segment
        self._allowed_bytes = None
        flags = segment.flags
        if segment.len or flags & RST or not self._is_news(segment):
            # Text that is here already is reported by an ACK of its own, beside that of a FIN which comes with it.
            self._earned += segment.segments + bool(flags & FIN and segment.payload_len)
        if flags & RST:
            exact = self.irs is not None and segment.seq == self.rcv & MASK and self.rcv == self.ack
            if exact and before > st.SYN_SENT and after not in (st.CLOSED, st.LISTEN):
                raise self.violation("a RST at RCV.NXT changes nothing", segment)
            return
        if flags & SYN:
            self._on_syn(segment, before, after)
            return
        if self.irs is None:
            return
        options = segment.options
        if options is not None and options.timestamps is not None:
            self._note_tsval(options.timestamps[0])
        if flags & ACK:
            self._on_ack(segment.ack, segment.wnd << (self._theirs.wscale or 0 if self._scaled else 0))
        if segment.len:
            seq = unwrap(segment.seq, self.rcv)
            if seq is not None:
                self._on_octets(seq, segment, before, after, now_ns)

    def _is_news(self, segment: Segment) -> bool:
        """A plain ACK that is in order, and so is never answered: an answer to it would be answered likewise."""
        stamps = segment.options.timestamps if segment.options is not None else None
        if stamps is not None and self._latest is not None and (stamps[0] - self._latest) & MASK >= 1 << 31:
            return False
        ack = unwrap(segment.ack, self.una)
        in_order = segment.seq == self.rcv & MASK and self.rcv == self.ack
        return in_order and ack is not None and self.una <= ack <= self.nxt

    def on_forged(self, segment: Segment, now_ns: int) -> None:
        """A segment was processed that the peer has not sent: it must have told nothing."""
        self._earned += 1
        ack = unwrap(segment.ack, self.una) if segment.flags & ACK else None
        if ack is not None and ack <= self.nxt:
            self.claimed = max(self.claimed, ack)
        self.check_time(now_ns)
        self.heard_ns = now_ns
        self.heard = segment
        self._allowed_bytes = None

    def _on_syn(self, segment: Segment, before: int, after: int) -> None:
        options = segment.options or Options()
        if self.irs is None:
            if before == st.SYN_SENT and after in (st.SYN_SENT, st.CLOSED):
                return  # not for us
            self.irs = segment.seq
            self.rcv = self.ack = segment.seq + 1
            self._theirs = options
            if before == st.SYN_SENT and self.edge is not None:
                self.edge += self.rcv  # our SYN had offered a window without knowing from where
        if options.timestamps is not None:
            self._note_tsval(options.timestamps[0])
        if self.iss is not None:
            if segment.flags & ACK:
                self._on_ack(segment.ack, segment.wnd)
            else:
                self.peer_edge = max(self.peer_edge, self.iss + 1 + segment.wnd)
        self.widest = max(self.widest, segment.wnd)

    def _on_ack(self, ack: int, wnd: int) -> None:
        una = unwrap(ack, self.una)
        if una is None or una > self.nxt:
            return
        if una > self.una or not wnd:  # RFC 9293 3.8.6.1: whoever says that his window is closed is alive
            self._answered_ns = self.heard_ns
        self.una = max(self.una, una)
        self.peer_edge = max(self.peer_edge, una + wnd)
        self.widest = max(self.widest, wnd)
        if wnd:
            self._probed = (0, 0, 0)

    def _on_octets(self, seq: int, segment: Segment, before: int, after: int, now_ns: int) -> None:
        end, new = seq + segment.len, self.rcv
        if seq <= self.rcv:
            self.rcv = max(self.rcv, end)
            while self._held and self._held[0][0] <= self.rcv:
                self.rcv = max(self.rcv, self._held.pop(0)[1])
        else:
            self._hold(seq, end)
        if before not in RECEIVES_TEXT or after not in RECEIVES_TEXT or not segment.payload_len:
            return
        ack = unwrap(segment.ack, self.una)
        if segment.flags & ACK and ack is not None and self.una - 1 <= ack <= self.nxt:
            within = self.rcv if self.edge is None else min(self.rcv, self.edge)  # beyond that there may be no room
            self._owed_bytes += min(max(within - new, 0), segment.payload_len)  # what was held may have been ignored
            if self._owed_ns is None:
                self._owed_ns = now_ns
            if self._full_ns is None and self._owed_bytes >= 2 * mss_for(self.mtu, self.flow[2]):
                self._full_ns = now_ns

    def _hold(self, seq: int, end: int) -> None:
        ranges = []
        for left, right in self._held:
            if right < seq or end < left:
                ranges.append((left, right))
            else:
                seq, end = min(seq, left), max(end, right)
        self._held = sorted([*ranges, (seq, end)])

    def _note_tsval(self, tsval: int) -> None:
        if self._latest is None or (tsval - self._latest) & MASK < 1 << 31:
            self._latest = tsval

    # -- time

    def check_time(self, now_ns: int) -> None:
        """Nothing is owed for too long (MUST-40, SHLD-19). Raises Violation."""
        if self._owed_ns is None or self.closed_ns is not None:
            return
        late_ns = now_ns - self._owed_ns
        if late_ns > self.config.delayed_ack_ns:
            raise Violation(f"{self.name}: text has waited {late_ns} ns for its acknowledgement: {self.heard}")
        if self._full_ns is not None and now_ns > self._full_ns:
            raise Violation(f"{self.name}: {self._owed_bytes} octets are not acknowledged at once: {self.heard}")

    def violation(self, what: str, segment: Segment) -> Violation:
        return Violation(f"{self.name}: {what}: {segment} ({segment.reason})")
