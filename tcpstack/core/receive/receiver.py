"""The half that we hear: RCV variables, the text that waits for the user, the window that we offer.

RFC 9293 3.8.6. The window's right edge never moves left, on the wire either: a scaled field can only name
multiples of 2^shift, so it is rounded up, and the edge we count with is the one the peer reads. Text of odd
lengths thus pushes the edge a few octets beyond the buffer; `_SLACK_DIVISOR` bounds how far that goes, and what
lies beyond is not taken, as though it had been lost.
"""

from __future__ import annotations

from collections import deque

from ..segment import Buffer
from .reassembly import Reassembly

_SLACK_DIVISOR = 8
_RANGE_BYTES = 512  # one reassembly range for each so many octets of buffer
_SMALL_BYTES = 1024  # shorter texts are gathered: a peer that sends octets must not make us keep an object for each


def acceptable(seq: int, seg_len: int, nxt: int, wnd: int) -> bool:
    """The four cases of RFC 9293 Table 6, on unwrapped sequence numbers."""
    if seg_len == 0:
        return nxt <= seq < nxt + wnd if wnd else seq == nxt
    if wnd == 0:
        return False
    return nxt <= seq < nxt + wnd or nxt <= seq + seg_len - 1 < nxt + wnd


def window_shift(buffer_bytes: int) -> int:
    """The smallest Rcv.Wind.Shift (at most 14, RFC 7323 2.3) with which a field can name the whole buffer."""
    shift = 0
    while shift < 14 and buffer_bytes > 0xFFFF << shift:
        shift += 1
    return shift


class Receiver:
    """RCV.NXT and IRS by their names; `edge` is the window's right edge as the peer knows it.

    `shift` is Rcv.Wind.Shift, `mss` the step by which the window is worth opening, `fin_seq` where a FIN that
    arrived stands (None before), `queued_bytes` the text in order that the user has not taken.
    """

    __slots__ = (
        "_buffer_bytes", "_largest_offer_bytes", "_queue", "_tail", "edge", "fin_seq", "irs", "mss", "nxt",
        "queued_bytes", "reassembly", "shift",
    )  # fmt: skip

    def __init__(self, buffer_bytes: int, mss: int) -> None:
        self._buffer_bytes = buffer_bytes
        self._largest_offer_bytes = 0
        self._queue: deque[Buffer] = deque()
        self._tail = bytearray()
        self.reassembly = Reassembly(1 + buffer_bytes // _RANGE_BYTES)
        self.irs = 0
        self.nxt = 0
        self.edge = 0
        self.shift = 0
        self.mss = mss
        self.fin_seq: int | None = None
        self.queued_bytes = 0

    @property
    def wnd(self) -> int:
        """RCV.WND: what the peer may send beyond RCV.NXT."""
        return self.edge - self.nxt

    @property
    def fin_received(self) -> bool:
        """The FIN was reached in order."""
        return self.fin_seq is not None and self.nxt > self.fin_seq

    def synchronize(self, irs: int) -> None:
        """The peer's SYN arrived: IRS <- SEG.SEQ, RCV.NXT <- SEG.SEQ + 1."""
        self.irs = irs
        self.nxt = irs + 1
        self.edge = self.nxt

    def syn_window_field(self) -> int:
        """SEG.WND for our SYN or SYN,ACK, which is never scaled (RFC 7323 2.2)."""
        field = min(self._buffer_bytes, 0xFFFF)
        self.offer(field)
        return field

    def window_field(self) -> int:
        """SEG.WND for a segment that leaves now. The edge moves right where that is worth it (MUST-39)."""
        offered = self.edge
        opened = self._opened_edge
        if opened - offered >= self._worthwhile_bytes:
            offered = opened
        field = min(max(offered - self.nxt + (1 << self.shift) - 1, 0) >> self.shift, 0xFFFF)
        self.offer(field << self.shift)
        return field

    def offer(self, wnd: int) -> None:
        """A segment with RCV.NXT and a window of `wnd` octets leaves, or has left."""
        self.edge = max(self.edge, self.nxt + wnd)
        self._largest_offer_bytes = max(self._largest_offer_bytes, wnd)

    def take_text(self, seq: int, payload: tuple[Buffer, ...], size: int) -> int:
        """Process text at `seq`, of which at least part lies in the window. Returns how many octets became
        readable: 0 where it left a gap (the rest is held) or was all old."""
        limit = min(self.edge, self.nxt + self._buffer_bytes + self._slack_bytes - self.queued_bytes)
        if self.fin_seq is not None:
            limit = min(limit, self.fin_seq)
        skip = max(self.nxt - seq, 0)
        keep = min(size, limit - seq)
        if keep <= skip:
            return 0
        if skip or keep < size:
            payload = _slice(payload, skip, keep)
            seq += skip
        if seq > self.nxt:
            self.reassembly.insert(seq, payload)
            return 0
        before = self.nxt
        self.enqueue(payload, keep - skip)
        if self.reassembly:
            for text in self.reassembly.take(self.nxt):
                self.enqueue((text,), len(text))
        return self.nxt - before

    def takes_in_order(self, size: int) -> bool:
        """Whether text at RCV.NXT would be taken whole, and is all that there is: `enqueue` may then do it."""
        room = self._buffer_bytes + self._slack_bytes - self.queued_bytes
        return size <= self.edge - self.nxt and size <= room and self.fin_seq is None and not self.reassembly

    def enqueue(self, payload: tuple[Buffer, ...], size: int) -> None:
        """`size` octets at RCV.NXT become readable."""
        if size <= _SMALL_BYTES:
            for chunk in payload:
                self._tail += chunk
            if len(self._tail) > _SMALL_BYTES * 4:
                self._seal()
        else:
            self._seal()
            self._queue.extend(payload)
        self.nxt += size
        self.queued_bytes += size

    def note_fin(self, seq: int) -> None:
        """A FIN stands at `seq`. The first one in the window is believed; no text follows it."""
        if self.fin_seq is None and self.nxt <= seq < self.edge:
            self.fin_seq = seq
            self.reassembly.trim(seq)

    def reach_fin(self) -> bool:
        """True once, when all text before the FIN has arrived: RCV.NXT then advances over it."""
        if self.nxt != self.fin_seq:
            return False
        self.nxt += 1
        return True

    def read(self, max_bytes: int) -> list[Buffer]:
        """Up to `max_bytes` of the text in order, as chunks, out of the queue."""
        self._seal()
        chunks: list[Buffer] = []
        queue = self._queue
        left = max_bytes
        while queue and left > 0:
            chunk = queue.popleft()
            if len(chunk) > left:
                view = memoryview(chunk)
                queue.appendleft(view[left:])
                chunk = view[:left]
            chunks.append(chunk)
            left -= len(chunk)
        self.queued_bytes -= max_bytes - left
        return chunks

    def update_due(self) -> bool:
        """Whether reads have opened the window enough for an update of its own (RFC 9293 3.8.6.2.2).

        By min(MSS, half the buffer), and only where less than half of the largest window ever offered is still on
        offer: a peer that may send that much is not waiting (3.8.6.2.1, rule 3), and the next acknowledgement tells
        it in any case.
        """
        opened = self.nxt + self._buffer_bytes - self.queued_bytes - self.edge
        return opened >= self._worthwhile_bytes and 2 * (self.edge - self.nxt) < self._largest_offer_bytes

    def clear(self) -> None:
        """Forget all text."""
        self._queue.clear()
        self._tail.clear()
        self.queued_bytes = 0
        self.reassembly.trim(0)

    @property
    def _offerable_bytes(self) -> int:
        """The largest window: the buffer, as far as a scaled field can name it."""
        return min(self._buffer_bytes, 0xFFFF << self.shift)

    @property
    def _opened_edge(self) -> int:
        """Where the right edge would be if each octet of room were offered."""
        return self.nxt + min(self._buffer_bytes - self.queued_bytes, 0xFFFF << self.shift)

    @property
    def _worthwhile_bytes(self) -> int:
        return min(self.mss, self._offerable_bytes // 2)

    @property
    def _slack_bytes(self) -> int:
        return (1 << self.shift) + self._buffer_bytes // _SLACK_DIVISOR

    def _seal(self) -> None:
        if self._tail:
            self._queue.append(bytes(self._tail))
            self._tail.clear()


def _slice(payload: tuple[Buffer, ...], start: int, stop: int) -> tuple[Buffer, ...]:
    """Octets start to stop of the chunks, as views."""
    views: list[Buffer] = []
    offset = 0
    for chunk in payload:
        view = memoryview(chunk)[max(start - offset, 0) : max(stop - offset, 0)]
        if len(view):
            views.append(view)
        offset += len(chunk)
    return tuple(views)
