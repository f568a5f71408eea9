"""TIME-WAIT as rules over a small entry (RFC 9293 3.10.7.4, RFC 1337).

What TIME-WAIT has to know of a connection is two sequence numbers and its age; the connection itself can go.
"""

from __future__ import annotations

from struct import Struct

from .closed import is_connection_attempt
from .receive.receiver import acceptable
from .segment import ACK, FIN, RST, SYN, FourTuple, Segment
from .seq import MASK, unwrap

# What on_time_wait found.
STAY = 0
RESTART = 1
GONE = 2
NEW_INCARNATION = 3


_PACKED = Struct("!QQIIIH")


class TimeWait:
    """Sequence numbers are as on the wire, `wnd_field` is the last SEG.WND sent; `lasts_ns` are the 2 MSL."""

    __slots__ = ("challenged_ns", "expires_ns", "flow", "lasts_ns", "rcv_nxt", "rcv_wnd", "snd_nxt", "wnd_field")

    def __init__(
        self, flow: FourTuple, snd_nxt: int, rcv_nxt: int, rcv_wnd: int, wnd_field: int, lasts_ns: int, now_ns: int
    ) -> None:
        self.flow = flow
        self.snd_nxt = snd_nxt & MASK
        self.rcv_nxt = rcv_nxt & MASK
        self.rcv_wnd = rcv_wnd
        self.wnd_field = wnd_field
        self.lasts_ns = lasts_ns
        self.expires_ns = now_ns + lasts_ns
        self.challenged_ns = 0

    def pack(self) -> bytes:
        """All but `flow` and `lasts_ns` as octets, for a table of many."""
        return _PACKED.pack(
            self.expires_ns, self.challenged_ns, self.snd_nxt, self.rcv_nxt, self.rcv_wnd, self.wnd_field
        )

    @classmethod
    def unpack(cls, flow: FourTuple, lasts_ns: int, octets: bytes) -> TimeWait:
        """The entry of `flow` that `pack` made these octets of."""
        self = cls.__new__(cls)
        self.flow = flow
        self.lasts_ns = lasts_ns
        (
            self.expires_ns, self.challenged_ns, self.snd_nxt, self.rcv_nxt, self.rcv_wnd, self.wnd_field
        ) = _PACKED.unpack(octets)  # fmt: skip
        return self

    @staticmethod
    def expires_ns_of(octets: bytes) -> int:
        """`expires_ns` of a packed entry."""
        return int.from_bytes(octets[:8], "big")


def on_time_wait(
    entry: TimeWait, segment: Segment, listening: bool, challenge_ack_ns: int, now_ns: int
) -> tuple[int, Segment | None]:
    """(STAY, RESTART the 2 MSL, GONE or NEW_INCARNATION; the answer if any).

    NEW_INCARNATION: the SYN is younger than all that the old connection saw (MAY-2, condition 2 of RFC 1122
    4.2.2.13), and somebody is `listening`: a new connection may take this one's place; its ISS must lie beyond
    `snd_nxt`.
    """
    flags = segment.flags
    seq = unwrap(segment.seq, entry.rcv_nxt)
    if listening and seq is not None and is_connection_attempt(flags) and seq >= entry.rcv_nxt:
        return NEW_INCARNATION, None
    # First, check sequence number.
    if seq is None or not acceptable(seq, segment.len, entry.rcv_nxt, entry.rcv_wnd):
        if flags & RST:
            return STAY, None
        if flags & FIN and seq is not None and seq + segment.len == entry.rcv_nxt:
            # "The only thing that can arrive is a retransmission of the remote FIN. Acknowledge it, and restart."
            return RESTART, _ack(entry, "ACK: the peer repeats its FIN, our last ACK was lost")
        if segment.payload_len and not flags & SYN:
            return STAY, _ack(entry, "ACK: text that we have already")  # no ACK answers that: it needs no limit
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
    return _ack(entry, reason)


def _ack(entry: TimeWait, reason: str) -> Segment:
    local, lport, remote, rport = entry.flow
    return Segment(
        local, lport, remote, rport, entry.snd_nxt, entry.rcv_nxt, ACK, entry.wnd_field, reason=reason
    )
