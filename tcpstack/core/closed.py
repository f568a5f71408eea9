"""CLOSED is not a connection but a function that answers a segment (RFC 9293 3.10.7.1), and RSTs are its words."""

from __future__ import annotations

from .segment import ACK, RST, SYN, Segment
from .seq import MASK


def answer_closed(segment: Segment, reason: str) -> Segment | None:
    """The RST that a segment with no connection earns; None for an RST. `reason` goes with it."""
    if segment.flags & RST:
        return None
    if segment.flags & ACK:
        # <SEQ=SEG.ACK><CTL=RST>
        return reset(segment, segment.ack, reason)
    # <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
    answer = reset(segment, 0, reason)
    answer.flags = RST | ACK
    answer.ack = (segment.seq + segment.len) & MASK
    return answer


def reset(segment: Segment, seq: int, reason: str) -> Segment:
    """<SEQ=seq><CTL=RST>, back to where `segment` came from."""
    return Segment(segment.dst, segment.dport, segment.src, segment.sport, seq & MASK, 0, RST, 0, reason=reason)


def is_connection_attempt(flags: int) -> bool:
    """SYN without ACK and RST: somebody opens."""
    return flags & (SYN | ACK | RST) == SYN
