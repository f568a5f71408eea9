"""The half that we hear: RCV variables, the text that waits for the user, the window that we offer.

RFC 9293 3.8.6. The window's right edge does not move left, on the wire either: a scaled field can only name multiples
of 2^shift, so it is rounded up, and the edge we count with is the one the peer reads. Text of odd lengths thus pushes
the edge a few octets beyond the buffer; `_SLACK_DIVISOR` bounds how far that goes. Where a field would name more than
that, it is rounded down: a window that never closed while nothing is taken would look like a dead path.
"""

from __future__ import annotations

from ..segment import Buffer
from .autotune import Autotune
from .reassembly import NOTHING_HELD, Reassembly
from .sack import MOST_BLOCKS, SackBlocks

_SLACK_DIVISOR = 8
_RANGE_BYTES = 512  # one reassembly range for each so many octets of buffer
_MEASURED_DIVISOR = 8  # reads are measured once so much of the buffer has been received: few connections get there
_SMALL_BYTES = 1024  # shorter texts are gathered: a peer that sends octets must not make us keep an object for each


def acceptable(seq: int, seg_len: int, nxt: int, wnd: int) -> bool:
    """The four cases of RFC 9293 Table 6, on unwrapped sequence numbers.

    Deviates in the fourth where a segment reaches beyond the window at both ends, which Table 6 refuses since neither
    its first octet nor its last lies inside. A superpacket may well be like that, and what it brings is wanted.
    """
    if seg_len == 0:
        return nxt <= seq < nxt + wnd if wnd else seq == nxt
    return seq < nxt + wnd and seq + seg_len > nxt and wnd > 0


def window_shift(buffer_bytes: int) -> int:
    """The smallest Rcv.Wind.Shift (at most 14, RFC 7323 2.3) with which a field can name the whole buffer."""
    shift = max(buffer_bytes.bit_length() - 16, 0)
    return min(shift + (buffer_bytes > 0xFFFF << shift), 14)


class Receiver:
    """RCV.NXT and IRS by their names; `edge` is the window's right edge as the peer knows it.

    `shift` is Rcv.Wind.Shift, `mss` the step by which the window is worth opening, `fin_seq` where a FIN that
    arrived stands (None before), `queued_bytes` the text in order that the user has not taken. The buffer begins with
    `buffer_bytes` and grows with what the user reads (autotune.py), up to `limit_bytes`; it never shrinks. Where
    `reports` is set, the peer understands selective acknowledgements. `up` is RCV.UP: 0 where no URG has come.
    """

    __slots__ = (
        "_autotune",
        "_largest_offer_bytes",
        "_queue",
        "_sack",
        "_tail",
        "buffer_bytes",
        "edge",
        "fin_seq",
        "irs",
        "limit_bytes",
        "mss",
        "nxt",
        "queued_bytes",
        "reassembly",
        "reports",
        "shift",
        "up",
    )  # fmt: skip

    def __init__(self, buffer_bytes: int, mss: int, limit_bytes: int = 0) -> None:
        self.buffer_bytes = buffer_bytes
        self._autotune: Autotune | None = None
        self.limit_bytes = limit_bytes
        self.reports = False
        self._sack: SackBlocks | None = None  # made when there first is something to report
        self._largest_offer_bytes = 0
        self._queue: list[Buffer] | None = None  # None where nothing waits
        self._tail = b""  # small texts, not yet a chunk
        self.reassembly = NOTHING_HELD
        self.irs = 0
        self.nxt = 0
        self.edge = 0
        self.shift = 0
        self.up = 0
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

    @property
    def urgent_bytes(self) -> int:
        """Octets from the next one that the user reads up to RCV.UP, or the FIN: no text follows that, whatever the
        pointer."""
        fin_seq = self.fin_seq
        end = self.up if fin_seq is None or self.up < fin_seq else fin_seq
        return max(end - (self.nxt - self.fin_received - self.queued_bytes), 0)

    def synchronize(self, irs: int) -> None:
        """The peer's SYN arrived: IRS <- SEG.SEQ, RCV.NXT <- SEG.SEQ + 1."""
        self.irs = irs
        self.nxt = irs + 1
        self.edge = self.nxt

    def syn_window_field(self) -> int:
        """SEG.WND for our SYN or SYN,ACK, which is never scaled (RFC 7323 2.2)."""
        field = min(self.buffer_bytes, 0xFFFF)
        self.offer(field)
        return field

    def window_field(self) -> int:
        """SEG.WND for a segment that leaves now. The edge moves right where that is worth it (MUST-39)."""
        nxt, shift, offered = self.nxt, self.shift, self.edge
        most = 0xFFFF << shift
        room = self.buffer_bytes - self.queued_bytes
        opened = nxt + (room if room < most else most)  # the edge, if each octet of room were offered
        if opened - offered >= self._worthwhile_bytes:
            offered = opened
        wnd = offered - nxt
        field = min((wnd + (1 << shift) - 1) >> shift, 0xFFFF) if wnd > 0 else 0
        if shift and field << shift > room + self._slack_bytes:
            field = (room + self._slack_bytes) >> shift
        self.offer(field << shift)
        return field

    def field_again(self, ack: int) -> int:
        """SEG.WND for a duplicate with SEG.ACK `ack`, at most RCV.NXT: the right edge stays where the peer knows it."""
        shift = self.shift
        field = min((max(self.edge - ack, 0) + (1 << shift) - 1) >> shift, 0xFFFF)
        most = self.nxt + self.buffer_bytes - self.queued_bytes + self._slack_bytes - ack
        if shift and field << shift > most:
            field = most >> shift
        self.edge = max(self.edge, ack + (field << shift))
        return field

    def offer(self, wnd: int) -> None:
        """A segment with RCV.NXT and a window of `wnd` octets leaves, or has left."""
        if self.nxt + wnd > self.edge:
            self.edge = self.nxt + wnd
        if wnd > self._largest_offer_bytes:
            self._largest_offer_bytes = wnd

    def take_text(self, seq: int, payload: tuple[Buffer, ...], size: int) -> int:
        """Process text at `seq`, of which at least part lies in the window. Returns how many octets became
        readable: 0 where it left a gap (the rest is held) or was all old."""
        limit = min(self.edge, self.nxt + self.buffer_bytes + self._slack_bytes - self.queued_bytes)
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
            if self.reassembly is NOTHING_HELD:
                self.reassembly = Reassembly(_most_ranges(self.buffer_bytes))
            self.reassembly.insert(seq, payload)
            return 0
        before = self.nxt
        self.enqueue(payload, keep - skip)
        if self.reassembly:
            for text in self.reassembly.take(self.nxt):
                self.enqueue((text,), len(text))
        return self.nxt - before

    def note_arrival(self, seq: int, end: int) -> bool:
        """Before `take_text`, where `reports` is set: whether any of this text is here already, to be reported so."""
        if seq < self.nxt:
            run: tuple[int, int] | None = (seq, min(end, self.nxt))
        else:
            run = self.reassembly.first_held(seq, end) if self.reassembly else None
        if run is not None:
            self._sacks().on_duplicate(*run)
        return run is not None

    def note_above_gap(self, seq: int, end: int) -> None:
        """After `take_text`, where `reports` is set: this text has left a gap before it."""
        self._sacks().on_text_above_gap(seq, end)

    def sack_blocks(self) -> tuple[tuple[int, int], ...]:
        """What an acknowledgement that leaves now reports (RFC 2018 4). It has to leave."""
        if self._sack is None:
            return ()
        blocks = self._sack.blocks(self.nxt, self.reassembly.blocks, MOST_BLOCKS)
        if not self.reassembly:
            self._sack = None
        return blocks

    def _sacks(self) -> SackBlocks:
        if self._sack is None:
            self._sack = SackBlocks()
        return self._sack

    def takes_in_order(self, size: int) -> bool:
        """Whether text at RCV.NXT would be taken whole, and is all that there is: `enqueue` may then do it."""
        room = self.buffer_bytes + self._slack_bytes - self.queued_bytes
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
            if self._queue is None:
                self._queue = [*payload]
            else:
                self._queue += payload
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
        queue = self._queue
        if queue is None:
            return []
        if self.queued_bytes <= max_bytes:
            self._queue = None
            self.queued_bytes = 0
            return queue
        whole, left = 0, max_bytes
        while len(queue[whole]) <= left:
            left -= len(queue[whole])
            whole += 1
        chunks = queue[:whole]
        del queue[:whole]
        if left:
            view = memoryview(queue[0])
            chunks.append(view[:left])
            queue[0] = view[left:]
        self.queued_bytes -= max_bytes
        return chunks

    def on_read(self, size: int, now_ns: int, srtt_ns: int) -> None:
        """The user has just read `size` octets; the buffer grows where that shows that the sender is held back by it.

        `srtt_ns` is the sender's SRTT, 0 where it has none.
        """
        if self.buffer_bytes >= self.limit_bytes:
            return
        autotune = self._autotune
        if autotune is None:
            if self.nxt - self.irs > self.buffer_bytes // _MEASURED_DIVISOR:
                self._autotune = Autotune(self.buffer_bytes, self.mss, now_ns)
            return
        wanted = autotune.on_read(size, self.queued_bytes, self.buffer_bytes, now_ns, srtt_ns)
        if wanted > self.buffer_bytes:
            # More than a field can name would only let more text wait unread.
            self._grow(min(wanted, self.limit_bytes, 0xFFFF << self.shift))

    def update_due(self) -> bool:
        """Whether reads have opened the window enough for an update of its own (RFC 9293 3.8.6.2.2).

        By min(MSS, half the buffer), and only where less than half of the largest window ever offered is still on
        offer: a peer that may send that much is not waiting (3.8.6.2.1, rule 3), and the next acknowledgement tells
        it in any case.
        """
        opened = self.nxt + self.buffer_bytes - self.queued_bytes - self.edge
        return opened >= self._worthwhile_bytes and 2 * (self.edge - self.nxt) < self._largest_offer_bytes

    def clear(self) -> None:
        """Forget all text."""
        self._queue = None
        self._tail = b""
        self.queued_bytes = 0
        self.reassembly.trim(0)

    @property
    def _worthwhile_bytes(self) -> int:
        buffer_bytes, most = self.buffer_bytes, 0xFFFF << self.shift  # all that can be offered: what a field can name
        half = (buffer_bytes if buffer_bytes < most else most) // 2
        return self.mss if self.mss < half else half

    @property
    def _slack_bytes(self) -> int:
        return (1 << self.shift) + self.buffer_bytes // _SLACK_DIVISOR

    def _grow(self, buffer_bytes: int) -> None:
        if buffer_bytes > self.buffer_bytes:
            self.buffer_bytes = buffer_bytes
            if self.reassembly is not NOTHING_HELD:
                self.reassembly.limit = _most_ranges(buffer_bytes)
            if buffer_bytes == self.limit_bytes:
                self._autotune = None

    def _seal(self) -> None:
        if self._tail:
            if self._queue is None:
                self._queue = [self._tail]
            else:
                self._queue.append(self._tail)
            self._tail = b""


def _most_ranges(buffer_bytes: int) -> int:
    return 1 + buffer_bytes // _RANGE_BYTES


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
