"""What is outstanding, range by range: when it was last sent, and whether it has arrived, or is taken as lost.

A range is what left at one instant, not a segment: a flush of a hundred segments, or a superpacket, is one range until
an acknowledgement or a loss has something to say of a part of it. Then it is split there, wherever "there" is. So the
board is as long as there are instants and holes, SACK and RACK (RFC 2018, RFC 8985) see parts of superpackets, and a
transfer without loss keeps one range a turn.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter


class Sent:
    """Octets `seq` up to `end`, last sent at `sent_ns`. `resent`: that was not the first time. `sacked`: they have
    arrived. `lost`: they are taken as lost, and have not been sent again since."""

    __slots__ = ("end", "lost", "resent", "sacked", "sent_ns", "seq")

    def __init__(self, seq: int, end: int, sent_ns: int) -> None:
        self.seq = seq
        self.end = end
        self.sent_ns = sent_ns
        self.resent = False
        self.sacked = False
        self.lost = False

    def copy(self) -> Sent:
        """The same once more."""
        other = Sent(self.seq, self.end, self.sent_ns)
        other.resent, other.sacked, other.lost = self.resent, self.sacked, self.lost
        return other

    def __repr__(self) -> str:
        marks = "".join(name[0].upper() for name in ("sacked", "lost", "resent") if getattr(self, name))
        return f"<{self.seq}..{self.end} at {self.sent_ns} {marks}>"


class Scoreboard:
    """The ranges from SND.UNA to SND.NXT, in order and without gaps between them.

    sacked_bytes  octets that have arrived above SND.UNA
    lost_bytes    octets taken as lost and not sent again since
    """

    __slots__ = ("_by_time", "_ranges", "_resent_end", "lost_bytes", "sacked_bytes")

    def __init__(self) -> None:
        self._ranges: list[Sent] = []
        # Each with the time of a transmission, in the order of these (then of sequence numbers). Lazy: entries stay
        # when they are no longer true, and are skipped.
        self._by_time: list[tuple[int, int, Sent]] = []
        self._resent_end = 0  # nothing from here on was ever sent again
        self.sacked_bytes = 0
        self.lost_bytes = 0

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def in_order(self) -> bool:
        """Whether all that is outstanding was sent once, and neither has arrived nor is taken as lost."""
        ranges = self._ranges
        resent = ranges and ranges[0].seq < self._resent_end
        return not (self.sacked_bytes or self.lost_bytes or resent)

    # -- sending

    def on_sent(self, seq: int, end: int, now_ns: int) -> None:
        """New octets leave: `seq` is where the last range ends."""
        if self._ranges:
            last = self._ranges[-1]
            if last.sent_ns == now_ns and not (last.resent or last.sacked or last.lost):
                last.end = end
                return
        new = Sent(seq, end, now_ns)
        self._ranges.append(new)
        self._by_time.append((now_ns, seq, new))

    def next_lost(self) -> Sent | None:
        """The first range that is to be sent again, or None."""
        if not self.lost_bytes:
            return None
        return next(each for each in self._ranges if each.lost)

    def on_resent(self, seq: int, end: int, now_ns: int) -> None:
        """These octets leave again: all of them outstanding."""
        self._resent_end = max(self._resent_end, end)
        for each in self._cut(seq, end):
            if each.lost:
                each.lost = False
                self.lost_bytes -= each.end - each.seq
            each.resent = True
            each.sent_ns = now_ns
            if not each.sacked:
                self._note_time(each)

    # -- acknowledgements

    def acknowledge(self, una: int) -> list[Sent]:
        """Everything before `una` has arrived. Returns the ranges (or their parts) of which this is news."""
        ranges = self._ranges
        count = bisect_left(ranges, una, key=_seq)
        if count and ranges[count - 1].end > una:
            self._split(count - 1, una)
        gone = ranges[:count]
        del ranges[:count]
        news: list[Sent] = []
        for each in gone:
            if each.sacked:
                self.sacked_bytes -= each.end - each.seq
            else:
                self._arrive(each)
                news.append(each)
        self._drop_stale()
        return news

    def advance(self, una: int) -> Sent:
        """As `acknowledge`, where all is `in_order`. Returns the last range of which this is news;
        where it has arrived in part, it begins at `una` now."""
        ranges, by_time = self._ranges, self._by_time
        last = ranges[-1]
        if last.end <= una:
            ranges.clear()
            by_time.clear()
            return last
        count = 0
        while (first := ranges[count]).end <= una:
            first.sacked = True
            last = first
            count += 1
        if first.seq < una:
            first.seq = una
            last = first
        del ranges[:count]
        stale = 0
        while by_time[stale][2].sacked:
            stale += 1
        del by_time[:stale]
        return last

    def sack(self, left: int, right: int) -> list[Sent]:
        """The octets from `left` to `right` have arrived; both are within what is outstanding. As `acknowledge`."""
        news: list[Sent] = []
        for each in self._cut(left, right):
            if not each.sacked:
                self._arrive(each)
                self.sacked_bytes += each.end - each.seq
                news.append(each.copy())  # the board's own may be joined with its neighbours, or split again
        if news:
            self._join_sacked(left, right)
        return news

    def reneged(self) -> None:
        """The peer has dropped what it reported (RFC 2018 8): nothing counts as arrived any more."""
        for each in self._ranges:
            each.sacked = False
        self.sacked_bytes = 0
        self._order_by_time()

    # -- losses

    def awaited(self) -> Iterator[Sent]:
        """The ranges that neither have arrived nor are taken as lost, the one sent longest ago first."""
        self._drop_stale()
        last: Sent | None = None
        for entry in self._by_time:
            # What is sent again at the instant of the first time has two entries.
            if entry[2] is not last and _is_awaited(entry):
                last = entry[2]
                yield last

    def mark_lost(self, lost: Sent) -> None:
        """Take this range as lost."""
        if not lost.lost and not lost.sacked:
            lost.lost = True
            self.lost_bytes += lost.end - lost.seq

    def mark_lost_between(self, seq: int, end: int) -> None:
        """Take these octets as lost, as far as they have not arrived."""
        for each in self._cut(seq, end):
            self.mark_lost(each)

    def unmark_lost(self) -> None:
        """Nothing is lost after all: what was taken so is only late."""
        for each in self._ranges:
            each.lost = False
        self.lost_bytes = 0
        self._order_by_time()

    # -- inside

    def _arrive(self, each: Sent) -> None:
        if each.lost:
            each.lost = False
            self.lost_bytes -= each.end - each.seq
        each.sacked = True

    def _cut(self, seq: int, end: int) -> list[Sent]:
        """The ranges that make up exactly these octets, as far as they are outstanding."""
        ranges = self._ranges
        if not ranges or end <= ranges[0].seq or seq >= ranges[-1].end:
            return []
        first = max(bisect_right(ranges, seq, key=_seq) - 1, 0)
        if ranges[first].seq < seq:
            self._split(first, seq)
            first += 1
        last = bisect_left(ranges, end, key=_seq) - 1
        if ranges[last].end > end:
            self._split(last, end)
        return ranges[first : last + 1]

    def _split(self, index: int, at: int) -> None:
        """Make two of a range. Its first part keeps the object, and its place in time goes before that of the new."""
        whole = self._ranges[index]
        rest = Sent(at, whole.end, whole.sent_ns)
        rest.resent, rest.sacked, rest.lost = whole.resent, whole.sacked, whole.lost
        whole.end = at
        self._ranges.insert(index + 1, rest)
        if not rest.sacked and not rest.lost:
            self._note_time(rest)

    def _drop_stale(self) -> None:
        by_time = self._by_time
        stale = 0
        while stale < len(by_time) and not _is_awaited(by_time[stale]):
            stale += 1
        del by_time[:stale]

    def _order_by_time(self) -> None:
        awaited = [(each.sent_ns, each.seq, each) for each in self._ranges if not each.sacked and not each.lost]
        self._by_time = sorted(awaited, key=_order)

    def _note_time(self, each: Sent) -> None:
        entry = (each.sent_ns, each.seq, each)
        if not self._by_time or self._by_time[-1][:2] <= entry[:2]:
            self._by_time.append(entry)
        else:
            insort(self._by_time, entry, key=_order)

    def _join_sacked(self, left: int, right: int) -> None:
        """Neighbours that have arrived need be told apart no longer."""
        ranges = self._ranges
        index = max(bisect_right(ranges, left, key=_seq) - 2, 0)
        while index + 1 < len(ranges) and ranges[index].seq <= right:
            if ranges[index].sacked and ranges[index + 1].sacked:
                whole, rest = ranges[index], ranges[index + 1]
                whole.end = rest.end
                whole.sent_ns = max(whole.sent_ns, rest.sent_ns)
                whole.resent |= rest.resent
                del ranges[index + 1]
            else:
                index += 1


_seq = attrgetter("seq")


def _order(entry: tuple[int, int, Sent]) -> tuple[int, int]:
    return entry[:2]


def _is_awaited(entry: tuple[int, int, Sent]) -> bool:
    sent_ns, _, each = entry
    return not each.sacked and not each.lost and each.sent_ns == sent_ns
