"""Header prediction (Van Jacobson): the segment that bulk transfer is made of, without the eight checks.

In ESTABLISHED nearly each segment is the next one expected, and acknowledges, or brings text in order, or both. For
such a one each of the checks of RFC 9293 3.10.7.4 is known to pass, so what is left is what the fifth and the seventh
would have done. This file can be deleted: the full processing in connection.py does the same, and a simulation leaves
the same trace without it (tests/sim/test_fastpath.py holds that).
"""

from __future__ import annotations

from .readiness import READABLE
from .receive.acks import AckPolicy
from .receive.receiver import Receiver
from .receive.timestamps import Timestamps
from .segment import ACK, PSH, Segment, TimestampsAlone
from .send.sender import Sender
from .seq import HALF, MASK

UNPREDICTED = -1
_ACK_PSH = ACK | PSH


def take(
    segment: Segment,
    sender: Sender,
    receiver: Receiver,
    acks: AckPolicy,
    timestamps: Timestamps | None,
    full_segment_bytes: int,
    now_ns: int,
) -> int:
    """Process a segment for a connection in ESTABLISHED; returns its readiness mask, or UNPREDICTED where it is not
    of the kind: then nothing has been done.

    Predicted is SEG.SEQ = RCV.NXT, no control bits but ACK and PSH, no options but timestamps where they have been
    negotiated, of which none is old; something new acknowledged while no loss is being mended, or nothing new but text;
    and what text there is fits into the window, with no gap before it.
    """
    nxt = receiver.nxt
    if segment.seq != nxt & MASK or segment.flags | PSH != _ACK_PSH:
        return UNPREDICTED
    options = segment.options
    if options is not None:
        if type(options) is not TimestampsAlone or timestamps is None:
            return UNPREDICTED
        tsval = options.timestamps[0]
        if (tsval - timestamps.recent) & MASK >= HALF:
            return UNPREDICTED
    else:
        timestamps = None
    una = sender.una
    acked = (segment.ack - una) & MASK
    size = segment.payload_len
    if size and not receiver.takes_in_order(size):
        return UNPREDICTED
    if acked:
        if acked > sender.nxt - una or not sender.recovery.quiet:
            return UNPREDICTED
        sender.on_quiet_ack(una + acked, now_ns)
        sender.set_window(segment.wnd << sender.shift, nxt, una + acked)
        if not size:
            if timestamps is not None and nxt <= timestamps.last_ack_sent:
                timestamps.recent = tsval
                timestamps.recent_ns = now_ns
            return 0
    elif size:
        sender.on_probe_answered(now_ns)
        if sender.wl1 < nxt or (sender.wl1 == nxt and sender.wl2 <= una):
            sender.set_window(segment.wnd << sender.shift, nxt, una)
    else:
        return UNPREDICTED
    if timestamps is not None and nxt <= timestamps.last_ack_sent:
        timestamps.recent = tsval
        timestamps.recent_ns = now_ns
    receiver.enqueue(segment.payload, size)
    acks.on_text(size, full_segment_bytes, now_ns)
    return READABLE
