"""The SYN queue: what a flood of SYNs fills. A record in it is one `bytes` under another, about 270 octets in all."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from ..core.listen import SynRecord
from ..core.segment import FourTuple
from ..core.timers import NEVER
from ..core.timewait import TimeWait
from .flow_key import pack_flow, unpack_flow

_SLACK = 64


class SynQueue:
    """SYN records by connection, and when the timer of each is due.

    A record that `get` returns is a copy: `update` keeps what was changed in it. Timers are a lazy heap of (deadline,
    key): one whose record is gone, or has another deadline by now, is skipped when it comes up. Timers of one instant
    go in order of the keys.
    """

    __slots__ = ("_heap", "_records", "_replaced")

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}
        self._heap: list[tuple[int, bytes]] = []
        self._replaced: dict[bytes, TimeWait] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, flow: FourTuple) -> bool:
        return pack_flow(flow) in self._records

    def __iter__(self) -> Iterator[FourTuple]:
        """The connections' names, in order of arrival."""
        return map(unpack_flow, self._records)

    @property
    def deadline_ns(self) -> int:
        """When `due` is to be asked next, at the latest; NEVER where nothing waits. Can be early."""
        return self._heap[0][0] if self._heap else NEVER

    def get(self, flow: FourTuple) -> SynRecord | None:
        octets = self._records.get(pack_flow(flow))
        return None if octets is None else SynRecord.unpack(flow, octets)

    def add(self, record: SynRecord, replaced: TimeWait | None) -> None:
        """A new record; it took the place of `replaced`, which returns if the SYN was an old duplicate."""
        key = pack_flow(record.flow)
        if replaced is not None:
            self._replaced[key] = replaced
        self._records[key] = record.pack()
        heapq.heappush(self._heap, (record.deadline_ns, key))

    def update(self, record: SynRecord) -> None:
        """Keep the record as it is now, but for its deadline, which is to be as before."""
        self._records[pack_flow(record.flow)] = record.pack()

    def rearm(self, record: SynRecord) -> None:
        """Keep the record as it is now, with its new deadline."""
        key = pack_flow(record.flow)
        self._records[key] = record.pack()
        heapq.heappush(self._heap, (record.deadline_ns, key))

    def remove(self, flow: FourTuple) -> TimeWait | None:
        """Take out the record of this name, which is there. Returns what it replaced."""
        key = pack_flow(flow)
        del self._records[key]
        if len(self._heap) > 2 * len(self._records) + _SLACK:
            self._sweep()
        return self._replaced.pop(key, None)

    def due(self, now_ns: int) -> list[SynRecord]:
        """The records whose deadline has come, the earliest first; each is to be armed again or removed."""
        heap = self._heap
        found: dict[bytes, SynRecord] = {}
        while heap and heap[0][0] <= now_ns:
            deadline_ns, key = heapq.heappop(heap)
            octets = self._records.get(key)
            if octets is not None and SynRecord.deadline_ns_of(octets) == deadline_ns:
                found[key] = SynRecord.unpack(unpack_flow(key), octets)
        return list(found.values())

    def _sweep(self) -> None:
        """Drop the timers that would be skipped: handshakes that end fast must not pile them up."""
        self._heap = [(SynRecord.deadline_ns_of(octets), key) for key, octets in self._records.items()]
        heapq.heapify(self._heap)
