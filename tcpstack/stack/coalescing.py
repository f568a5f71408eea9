"""What a network card's receive offload does, in software: segments of a batch that follow each other become one.

Text that continues the segment before it makes a superpacket of the two; a pure acknowledgement that is followed by a
later one says nothing that the later one, if it is acceptable, does not. So a batch costs the engine a segment or two
where the device hands over each by itself. Only plain segments are joined: with options but timestamps, with control
bits but ACK and PSH, out of order, or of another flow, each goes by itself, as do duplicates; and text of another
millisecond, since of that one timestamp is to be echoed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..core.segment import ACK, PSH, Segment, TimestampsAlone
from ..core.seq import HALF, MASK
from ..wire.dropped import Dropped
from ..wire.icmp import IcmpMessage
from ..wire.packet import LARGEST_PACKET

_ACK_PSH = ACK | PSH
_MOST_BYTES = LARGEST_PACKET - 60 - 40

Item = Segment | IcmpMessage | Dropped


def coalesced(items: Iterable[Item]) -> Iterator[Item]:
    """The items of a batch, in order, Segments that can be joined as one; the joined one is the first, changed."""
    held: Segment | None = None
    for item in items:
        if type(item) is Segment:
            if held is not None and _joins(held, item):
                continue
            if held is not None:
                yield held
                held = None
            if item.flags | PSH == _ACK_PSH and (item.options is None or type(item.options) is TimestampsAlone):
                held = item
                continue
        elif held is not None:
            yield held
            held = None
        yield item
    if held is not None:
        yield held


def _joins(held: Segment, item: Segment) -> bool:
    """Whether `item` could be joined to `held`; then it has been."""
    if (
        item.sport != held.sport
        or item.dport != held.dport
        or type(item.options) is not type(held.options)
        or item.flags | PSH != _ACK_PSH
        or item.src != held.src
        or item.dst != held.dst
    ):
        return False
    size, more = held.payload_len, item.payload_len
    if not size:
        # A pure acknowledgement, and behind it one that acknowledges more.
        if more or item.seq != held.seq or not 0 < (item.ack - held.ack) & MASK < HALF:
            return False
        held.ack = item.ack
        held.wnd = item.wnd
        held.options = item.options
        return True
    step = held.gso_size or size
    ours, theirs = held.options, item.options
    if (
        not 0 < more <= step
        or size % step  # something shorter ends a superpacket
        or item.seq != (held.seq + size) & MASK
        or item.ack != held.ack
        or item.wnd != held.wnd
        or (ours is not None and theirs is not None and ours.timestamps != theirs.timestamps)
        or held.flags & PSH
        or item.gso_size
        or size + more > _MOST_BYTES
    ):
        return False
    held.payload += item.payload
    held.payload_len = size + more
    held.gso_size = step
    held.flags |= item.flags
    return True
