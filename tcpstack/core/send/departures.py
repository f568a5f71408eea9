"""What leaves, and why: one segment a call of `next_chunk`; nothing leaves for any other reason.

RFC 9293 3.8.6.1 (zero-window probes), 3.8.6.2.1 (silly windows), 3.7.4 (Nagle); RFC 5681 4.1 (after a pause). What
may be in flight is recovery's and the congestion controller's to say.
"""

from __future__ import annotations

from ..timers import NEVER
from .chunk import (
    REASON_DATA,
    REASON_DATA_FIN,
    REASON_FIN,
    REASON_LAST_DATA,
    REASON_OVERRIDE,
    REASON_PROBE,
    REASON_TAIL_PROBE,
    REASON_TAIL_PROBE_RESENT,
    Chunk,
)
from .sack_recovery import OPEN
from .sender import Sender


def next_chunk(sender: Sender, now_ns: int) -> Chunk | None:
    """The next segment that may leave now, or None. A chunk that is returned counts as sent."""
    if sender.forced_octets:  # first: a closed window holds retransmissions back, and must be probed all the same
        return _forced_chunk(sender, now_ns)
    if sender.probe_due:
        return _tail_probe(sender, now_ns)
    lost = sender.recovery.next_lost()
    if lost is None:
        chunk = _new_chunk(sender, now_ns)
        if chunk is not None or sender.sack is None or not sender.sack.give_up_doubt():
            return chunk
        lost = sender.recovery.next_lost()
    return None if lost is None else _retransmission(sender, *lost, now_ns)


def _forced_chunk(sender: Sender, now_ns: int) -> Chunk | None:
    """A zero-window probe (RFC 9293 3.8.6.1) or what the override timeout forces (3.8.6.2.1 rule 4)."""
    size = sender.forced_octets
    sender.forced_octets = 0
    if now_ns - sender.sent_ns > sender.rtt.rto_ns:
        _restart(sender)
    if sender.wnd:
        size = min(size, sender.mss, sender.buffer.end - sender.nxt)
        return sender.take(sender.nxt, size, False, now_ns, REASON_OVERRIDE) if size > 0 else None
    if sender.una < sender.nxt:  # the probe before is unanswered or found no room: the same octet again
        sender.retransmitted += 1
        fin = sender.una == sender.fin_seq
        sender.recovery.on_probe_resent(sender.una, now_ns)
        return Chunk(sender.una, 0 if fin else 1, fin, not fin and sender.una + 1 == sender.buffer.end, REASON_PROBE)
    fin = sender.nxt == sender.fin_seq
    return sender.take(sender.nxt, 0 if fin else 1, fin, now_ns, REASON_PROBE)


def _tail_probe(sender: Sender, now_ns: int) -> Chunk | None:
    """New text if there is some, else the last segment again (RFC 8985 7.3)."""
    sender.probe_due = False
    sack = sender.sack
    if sack is None or sack.state != OPEN or sack.board.sacked_bytes or not 0 < sender.nxt - sender.una <= sender.wnd:
        return None
    sender.timer_ns = NEVER
    size = min(sender.mss, sender.buffer.end - sender.nxt, sender.una + sender.wnd - sender.nxt)
    if size > 0:
        chunk = sender.take(sender.nxt, size, False, now_ns, REASON_TAIL_PROBE)
        sack.on_probe(sender.nxt, resent=False)
        return chunk
    fin = sender.fin_seq is not None and sender.nxt > sender.fin_seq
    seq = max(sender.nxt - fin - sender.mss, sender.una)
    sender.on_resent(seq, sender.nxt, 1, now_ns)
    sack.on_probe(sender.nxt, resent=True)
    size = sender.nxt - seq - fin
    return Chunk(seq, size, fin, size > 0 and seq + size == sender.buffer.end, REASON_TAIL_PROBE_RESENT)


def _retransmission(sender: Sender, seq: int, end: int, now_ns: int) -> Chunk | None:
    recovery = sender.recovery
    # SHLD-16: what lies within the window, where the peer has shrunk it.
    left = min(end - seq, max(sender.una + sender.wnd - seq, 0))
    size = min(sender.mss, left)
    room = _room_bytes(sender)  # what goes again counts as in flight
    if left > size and room >= 2 * size and seq >= sender.up:
        size = _whole_segments(sender, left, min(sender.chunk_bytes, room))
    elif recovery.forced:
        size = size or 1
    elif size == 0 or size > room:
        return None
    end = seq + size
    fin = sender.fin_seq is not None and end > sender.fin_seq
    if fin:
        size -= 1
    sender.on_resent(seq, end, max(-(-size // sender.mss), 1), now_ns)
    if seq == sender.una and sender.sack is not None:
        # Not in RFC 6298, but as Linux: what ran for the first transmission would go off before the answer to this.
        sender.timer_ns = NEVER
    return Chunk(seq, size, fin, size > 0 and seq + size == sender.buffer.end, recovery.reason)


def _new_chunk(sender: Sender, now_ns: int) -> Chunk | None:
    seq = sender.nxt
    queued = sender.buffer.end - seq
    fin = sender.fin_seq is not None and seq <= sender.fin_seq
    if queued <= 0 and not fin:
        return None
    if seq == sender.una and now_ns - sender.sent_ns > sender.rtt.rto_ns:
        _restart(sender)
    window = sender.una + sender.wnd - seq
    if queued <= 0:
        # A lone FIN takes no room in the network, but it is an octet of the window.
        return sender.take(seq, 0, True, now_ns, REASON_FIN) if window > 0 else None
    mss = sender.mss
    size = queued if queued < sender.chunk_bytes else sender.chunk_bytes
    if size > mss and seq < sender.up:
        size = mss
    if size > window:
        size = window
    room = _room_bytes(sender)
    if size > room:
        size = room
    if size > sender.config.send_buffer_bytes - (seq - sender.una):
        size = min(size, _send_limit_bytes(sender) - (seq - sender.una))
    if size <= 0:
        return None
    if sliver := size % mss:
        if size == queued:
            # Nagle with Minshall's variation (RFC 9293 A.3): at most one small segment unacknowledged; none at all
            # where the user says that more will come. Not for urgent text, as on Linux.
            goes = (sender.nodelay or sender.una >= sender.small_end) and not sender.corked
            if not (goes or fin or seq < sender.up):
                size -= sliver
        elif size > mss or not (sender.una == seq and size == window and 2 * size >= sender.max_wnd):
            size -= sliver  # SWS avoidance, rules (1) to (3): wait for room rather than send a sliver
        if size == 0:
            return None
    fin = fin and size == queued and window > size
    reason = REASON_DATA_FIN if fin else REASON_LAST_DATA if size == queued else REASON_DATA
    return sender.take(seq, size, fin, now_ns, reason)


def _room_bytes(sender: Sender) -> int:
    return sender.recovery.room_bytes(sender.in_flight_bytes, sender.congestion.cwnd_bytes)


def _send_limit_bytes(sender: Sender) -> int:
    """What may be outstanding: it follows the congestion window, up to a bound, and is a segment at the least."""
    config = sender.config
    grown = min(2 * sender.congestion.cwnd_bytes, config.send_limit_bytes)
    return max(config.send_buffer_bytes, sender.mss, grown)


def _whole_segments(sender: Sender, left: int, room: int) -> int:
    """How much of `left` octets goes into `room`: all, or as many whole segments as do."""
    return left if left <= room else room - room % sender.mss


def _restart(sender: Sender) -> None:
    """Nothing has left for longer than an RTO. A window that was closed for so long counts: nobody's
    acknowledgements will pace what it lets go when it opens."""
    if sender.config.slow_start_after_idle:
        sender.congestion.on_idle()
