"""LISTEN and SYN-RECEIVED after a passive open, as rules over a small record (RFC 9293 3.10.7.2 and 3.10.7.4).

A flood of SYNs must not cost a Connection each: until the peer has proved with its ACK that it is where it says,
all there is of a connection is a SynRecord, packed while nothing happens to it. The rules below are RFC 9293's in the
RFC's order, for that record.
"""

from __future__ import annotations

from struct import Struct

from .closed import answer_closed, is_connection_attempt, reset
from .config import Config
from .handshake import Negotiated, mss_for, syn_options
from .receive.receiver import acceptable
from .receive.timestamps import OLD, Timestamps
from .segment import ACK, RST, SYN, FourTuple, Options, Segment, SegmentOptions
from .seq import MASK, unwrap

# What on_syn_received found.
STAY = 0
BACK_TO_LISTEN = 1
ESTABLISH = 2

_PACKED = Struct("!QQQQIIIIIHHBBBB")
_MSS, _WSCALE, _SACK, _TIMESTAMPS = 1, 2, 4, 8  # which options the peer's SYN had


class SynRecord:
    """A SYN that was answered. Sequence numbers are as on the wire; times in ns.

    peer         what the peer's SYN offered: MSS, window shift, SACK-permitted and TSval are remembered
    mtu          of the device that it came by    wnd          what our SYN,ACK offers
    timestamp_offset  of our clock (receive/timestamps.py)
    deadline_ns  when the SYN,ACK goes again      expires_ns   when the record is given up
    timeouts     how often it went again for lack of an ACK; attempts  how often for whatever reason
    """

    __slots__ = (
        "attempts", "challenged_ns", "deadline_ns", "expires_ns", "flow", "irs", "iss", "mtu", "opened_ns", "peer",
        "timeouts", "timestamp_offset", "wnd",
    )  # fmt: skip

    def __init__(
        self, segment: Segment, iss: int, mtu: int, config: Config, now_ns: int, timestamp_offset: int = 0
    ) -> None:
        self.flow: FourTuple = (segment.dst, segment.dport, segment.src, segment.sport)
        self.irs = segment.seq
        self.iss = iss
        self.mtu = mtu
        self.peer: SegmentOptions = segment.options or Options()
        self.wnd = min(config.receive_buffer_bytes, 0xFFFF)
        self.attempts = 0
        self.timeouts = 0
        self.opened_ns = now_ns
        self.deadline_ns = now_ns + config.rto_initial_ns
        self.expires_ns = now_ns + config.syn_received_r2_ns
        self.challenged_ns = 0
        self.timestamp_offset = timestamp_offset

    def pack(self) -> bytes:
        """The record as octets, for a table of many. Counts above 255 are kept as 255: nobody tells them apart."""
        peer = self.peer
        offers = (
            (peer.mss is not None and _MSS)
            | (peer.wscale is not None and _WSCALE)
            | (peer.sack_permitted and _SACK)
            | (peer.timestamps is not None and _TIMESTAMPS)
        )
        return _PACKED.pack(
            self.deadline_ns, self.expires_ns, self.opened_ns, self.challenged_ns, self.irs, self.iss, self.mtu,
            peer.timestamps[0] if peer.timestamps else 0, self.timestamp_offset, self.wnd, peer.mss or 0,
            peer.wscale or 0, offers, min(self.attempts, 255), min(self.timeouts, 255),
        )  # fmt: skip

    @classmethod
    def unpack(cls, flow: FourTuple, octets: bytes) -> SynRecord:
        """The record of `flow` that `pack` made these octets of."""
        self = cls.__new__(cls)
        self.flow = flow
        (
            self.deadline_ns, self.expires_ns, self.opened_ns, self.challenged_ns, self.irs, self.iss, self.mtu,
            tsval, self.timestamp_offset, self.wnd, mss, wscale, offers, self.attempts, self.timeouts,
        ) = _PACKED.unpack(octets)  # fmt: skip
        self.peer = Options(
            mss if offers & _MSS else None,
            wscale if offers & _WSCALE else None,
            bool(offers & _SACK),
            (tsval, 0) if offers & _TIMESTAMPS else None,
        )
        return self

    @staticmethod
    def deadline_ns_of(octets: bytes) -> int:
        """`deadline_ns` of a packed record."""
        return int.from_bytes(octets[:8], "big")

    @property
    def our_mss(self) -> int:
        return mss_for(self.mtu, self.flow[2])

    def timestamps(self, now_ns: int) -> Timestamps:
        """Our clock, and what is known of the peer's."""
        stamps = Timestamps(self.timestamp_offset)
        if self.peer.timestamps is not None:
            stamps.synchronize(self.peer.timestamps[0], now_ns)
        stamps.last_ack_sent = self.irs + 1
        return stamps

    def negotiated(self, config: Config) -> Negotiated:
        """What the handshake comes to, once it is done."""
        return Negotiated(config, self.our_mss, self.peer, self.flow[2])


def answer_listen(segment: Segment) -> Segment | None:
    """3.10.7.2 for a segment that is no SYN alone: the RST that it earns, or None to drop it."""
    if segment.flags & RST:  # first: an RST cannot be valid here
        return None
    if segment.flags & ACK:  # second: any acknowledgement is bad
        return answer_closed(segment, "RST: an ACK for a connection that does not exist (LISTEN)")
    return None  # fourth: neither SYN nor ACK nor RST


def syn_ack(record: SynRecord, config: Config, reason: str, now_ns: int) -> Segment:
    """<SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>"""
    local, lport, remote, rport = record.flow
    stamps = record.timestamps(now_ns).option(now_ns)
    options = syn_options(config, record.our_mss, record.peer, answering=True, timestamps=stamps)
    return Segment(
        local, lport, remote, rport, record.iss, (record.irs + 1) & MASK, SYN | ACK, record.wnd,
        options=options, reason=reason,
    )  # fmt: skip


def on_syn_received(record: SynRecord, segment: Segment, config: Config, now_ns: int) -> tuple[int, Segment | None]:
    """3.10.7.4 for SYN-RECEIVED after a passive open: (STAY, BACK_TO_LISTEN or ESTABLISH, the answer if any).

    On ESTABLISH the caller makes a Connection of the record and hands it the same segment.
    """
    rcv_nxt = record.irs + 1
    flags = segment.flags
    seq = unwrap(segment.seq, rcv_nxt)
    stamps = segment.options.timestamps if segment.options is not None else None
    # First, check sequence number.
    if is_connection_attempt(flags) and seq == record.irs:
        # The peer's SYN again: our SYN,ACK is lost or late, and is the acknowledgement it needs. Text that comes with
        # the SYN reaches into the window, but the SYN lies left of it and does not count in the fourth check.
        record.attempts += 1
        peer = record.peer
        if peer.timestamps is not None and stamps is not None:
            # Its clock has gone on, and it times this SYN.
            record.peer = Options(peer.mss, peer.wscale, peer.sack_permitted, stamps)
        return STAY, syn_ack(record, config, "SYN,ACK again: the peer repeats its SYN", now_ns)
    # RFC 7323 5.3 R1 comes before all else.
    if stamps and config.timestamps and record.timestamps(now_ns).is_old(stamps[0], now_ns) and not flags & RST:
        return STAY, _challenge(record, OLD, config, now_ns)
    if seq is None or not acceptable(seq, segment.len, rcv_nxt, record.wnd):
        if flags & RST:
            return STAY, None
        return STAY, _challenge(record, "ACK: segment outside the window", config, now_ns)
    # Second, check the RST bit (RFC 5961 3).
    if flags & RST:
        if seq < rcv_nxt:
            return STAY, None  # outside the window, though its text may reach into it
        if seq == rcv_nxt:
            return BACK_TO_LISTEN, None
        return STAY, _challenge(record, "challenge ACK: RST in the window, not at RCV.NXT", config, now_ns)
    # Fourth, check the SYN bit.
    if flags & SYN:
        return BACK_TO_LISTEN, None
    # Fifth, check the ACK field.
    if not flags & ACK:
        return STAY, None
    if segment.ack != (record.iss + 1) & MASK:
        return STAY, reset(segment, segment.ack, "RST: the ACK is not for our SYN")
    return ESTABLISH, None


def on_syn_received_timer(record: SynRecord, config: Config, now_ns: int) -> Segment | None:
    """The record's deadline passed: the SYN,ACK to send again, or None where the record is to be given up."""
    if now_ns >= record.expires_ns:
        return None
    record.attempts += 1
    record.timeouts += 1
    interval_ns = min(config.rto_initial_ns << record.timeouts, config.rto_max_ns)
    record.deadline_ns = min(now_ns + interval_ns, record.expires_ns)
    return syn_ack(record, config, "SYN,ACK again: no ACK came", now_ns)


def abort(record: SynRecord, reason: str) -> Segment:
    """3.10.5 for SYN-RECEIVED: <SEQ=SND.NXT><CTL=RST>"""
    local, lport, remote, rport = record.flow
    return Segment(local, lport, remote, rport, (record.iss + 1) & MASK, 0, RST, 0, reason=reason)


def _challenge(record: SynRecord, reason: str, config: Config, now_ns: int) -> Segment | None:
    # At most one in 500 ms (RFC 5961 7): answering each would let two ends acknowledge each other for ever.
    if record.challenged_ns and now_ns - record.challenged_ns < config.challenge_ack_ns:
        return None
    record.challenged_ns = now_ns
    local, lport, remote, rport = record.flow
    seq, ack = (record.iss + 1) & MASK, (record.irs + 1) & MASK
    negotiated = record.negotiated(config)
    wnd = -(-record.wnd >> negotiated.rcv_shift)  # unlike that of the SYN,ACK, this window field is scaled
    options = record.timestamps(now_ns).options(now_ns) if negotiated.timestamps else None
    return Segment(local, lport, remote, rport, seq, ack, ACK, wnd, options=options, reason=reason)
