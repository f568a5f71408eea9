"""TIME-WAIT as rules over a small entry (RFC 9293 3.10.7.4, RFC 1337).

What TIME-WAIT has to know of a connection is two sequence numbers and its age; the connection itself can go.
"""

from __future__ import annotations

from struct import Struct

from .closed import is_connection_attempt
from .receive.receiver import acceptable
from .receive.timestamps import OLD, Timestamps
from .segment import ACK, FIN, RST, SYN, FourTuple, Segment
from .seq import MASK, unwrap

# What on_time_wait found.
STAY = 0
RESTART = 1
GONE = 2
NEW_INCARNATION = 3


_PACKED = Struct("!QQIIIIIH?")


class TimeWait:
    """Sequence numbers are as on the wire, `wnd_field` is the last SEG.WND sent; `lasts_ns` are the 2 MSL.
    `timestamps` are the connection's, None where it had none."""

    __slots__ = (
        "challenged_ns", "expires_ns", "flow", "lasts_ns", "rcv_nxt", "rcv_wnd", "snd_nxt", "timestamps", "wnd_field"
    )  # fmt: skip

    def __init__(
        self, flow: FourTuple, snd_nxt: int, rcv_nxt: int, rcv_wnd: int, wnd_field: int, lasts_ns: int, now_ns: int,
        timestamps: Timestamps | None = None,
    ) -> None:  # fmt: skip
        self.flow = flow
        self.snd_nxt = snd_nxt & MASK
        self.rcv_nxt = rcv_nxt & MASK
        self.rcv_wnd = rcv_wnd
        self.wnd_field = wnd_field
        self.lasts_ns = lasts_ns
        self.expires_ns = now_ns + lasts_ns
        self.challenged_ns = 0
        self.timestamps = timestamps

    def pack(self) -> bytes:
        """All but `flow` and `lasts_ns` as octets, for a table of many."""
        stamps = self.timestamps
        return _PACKED.pack(
            self.expires_ns, self.challenged_ns, self.snd_nxt, self.rcv_nxt, self.rcv_wnd,
            stamps.offset if stamps else 0, stamps.recent if stamps else 0, self.wnd_field, stamps is not None,
        )  # fmt: skip

    @classmethod
    def unpack(cls, flow: FourTuple, lasts_ns: int, octets: bytes) -> TimeWait:
        """The entry of `flow` that `pack` made these octets of."""
        self = cls.__new__(cls)
        self.flow = flow
        self.lasts_ns = lasts_ns
        (
            self.expires_ns, self.challenged_ns, self.snd_nxt, self.rcv_nxt, self.rcv_wnd, offset, recent,
            self.wnd_field, has_timestamps,
        ) = _PACKED.unpack(octets)  # fmt: skip
        self.timestamps = None
        if has_timestamps:
            self.timestamps = Timestamps(offset)
            self.timestamps.synchronize(recent, self.expires_ns - lasts_ns)
        return self

    @staticmethod
    def expires_ns_of(octets: bytes) -> int:
        """`expires_ns` of a packed entry."""
        return int.from_bytes(octets[:8], "big")


def on_time_wait(
    entry: TimeWait, segment: Segment, listening: bool, challenge_ack_ns: int, now_ns: int
) -> tuple[int, Segment | None]:
    """(STAY, RESTART the 2 MSL, GONE or NEW_INCARNATION; the answer if any).

    NEW_INCARNATION: the SYN is younger than all that the old connection saw, by its timestamp (RFC 6191, SHLD-4) or
    its sequence number (MAY-2), and somebody is `listening`: a new connection may take this one's place; its ISS must
    lie beyond `snd_nxt`.
    """
    flags = segment.flags
    seq = unwrap(segment.seq, entry.rcv_nxt)
    stamps = entry.timestamps
    tsval = segment.options.timestamps[0] if segment.options is not None and segment.options.timestamps else None
    old = stamps is not None and tsval is not None and stamps.is_old(tsval, now_ns)
    if listening and is_connection_attempt(flags) and not old:
        newer = stamps is not None and tsval is not None and tsval != stamps.recent
        if newer or (seq is not None and seq >= entry.rcv_nxt):
            return NEW_INCARNATION, None
    if old and not flags & RST:  # RFC 7323 5.3 R1
        return STAY, _limited_ack(entry, OLD, challenge_ack_ns, now_ns)
    # First, check sequence number.
    if seq is None or not acceptable(seq, segment.len, entry.rcv_nxt, entry.rcv_wnd):
        if flags & RST:
            return STAY, None
        if flags & FIN and seq is not None and seq + segment.len == entry.rcv_nxt:
            # "The only thing that can arrive is a retransmission of the remote FIN. Acknowledge it, and restart."
            if stamps is not None and tsval is not None:
                stamps.synchronize(tsval, now_ns)
            return RESTART, _ack(entry, "ACK: the peer repeats its FIN, our last ACK was lost", now_ns)
        if segment.payload_len and not flags & SYN:
            return STAY, _ack(entry, "ACK: text that we have already", now_ns)  # no ACK answers that: it needs no limit
        return STAY, _limited_ack(entry, "ACK: segment outside the window (TIME-WAIT)", challenge_ack_ns, now_ns)
    # Second, check the RST bit (RFC 5961 3).
    if flags & RST:
        if seq < entry.rcv_nxt:
            return STAY, None  # outside the window, though its text may reach into it
        if seq == entry.rcv_nxt:
            return GONE, None
        reason = "challenge ACK: RST in the window, not at RCV.NXT"
        return STAY, _limited_ack(entry, reason, challenge_ack_ns, now_ns)
    # Fourth, check the SYN bit (RFC 5961 4).
    if flags & SYN:
        reason = "challenge ACK: SYN in a synchronized state"
        return STAY, _limited_ack(entry, reason, challenge_ack_ns, now_ns)
    # Fifth to eighth: the ACK field tells nothing new, text and a second FIN cannot be.
    return STAY, None


def _limited_ack(entry: TimeWait, reason: str, challenge_ack_ns: int, now_ns: int) -> Segment | None:
    if entry.challenged_ns and now_ns - entry.challenged_ns < challenge_ack_ns:
        return None
    entry.challenged_ns = now_ns
    return _ack(entry, reason, now_ns)


def _ack(entry: TimeWait, reason: str, now_ns: int) -> Segment:
    local, lport, remote, rport = entry.flow
    options = None if entry.timestamps is None else entry.timestamps.options(now_ns)
    return Segment(
        local, lport, remote, rport, entry.snd_nxt, entry.rcv_nxt, ACK, entry.wnd_field, options=options, reason=reason
    )
