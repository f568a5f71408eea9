"""The TIME-WAIT table: entries in order of expiry, so that neither adding, finding nor expiring one scans.

A busy server keeps tens of thousands: an entry is one `bytes` under another, about 200 octets in all.
"""

from __future__ import annotations

from collections import OrderedDict

from ..core.segment import FourTuple
from ..core.timers import NEVER
from ..core.timewait import TimeWait
from .flow_key import pack_flow, unpack_flow


class TimeWaitTable:
    """Entries by four-tuple. Those that live equally long stand in one queue: there the order of entry is the order
    of expiry. There are as many queues as there are lifetimes among the configurations, so one as a rule.

    An entry that `get` returns is a copy: `update` keeps what was changed in it.
    """

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        # OrderedDict, because a dict's front gets slow to find as it empties.
        self._queues: dict[int, OrderedDict[bytes, bytes]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __contains__(self, flow: FourTuple) -> bool:
        key = pack_flow(flow)
        return any(key in queue for queue in self._queues.values())

    @property
    def deadline_ns(self) -> int:
        """When the first entry expires, or NEVER."""
        if not self._queues:
            return NEVER
        return min([TimeWait.expires_ns_of(next(iter(queue.values()))) for queue in self._queues.values()])

    def get(self, flow: FourTuple) -> TimeWait | None:
        if self._queues:
            key = pack_flow(flow)
            for lasts_ns, queue in self._queues.items():
                octets = queue.get(key)
                if octets is not None:
                    return TimeWait.unpack(flow, lasts_ns, octets)
        return None

    def add(self, entry: TimeWait) -> None:
        """Put the entry last; one of the same name is replaced."""
        self.remove(entry.flow)
        queue = self._queues.get(entry.lasts_ns)
        if queue is None:
            queue = self._queues[entry.lasts_ns] = OrderedDict()
        queue[pack_flow(entry.flow)] = entry.pack()

    def update(self, entry: TimeWait) -> None:
        """Keep the entry, which is there, as it is now; its time stays."""
        self._queues[entry.lasts_ns][pack_flow(entry.flow)] = entry.pack()

    def restart(self, entry: TimeWait, now_ns: int) -> None:
        """The 2 MSL begin again; an entry that was taken out returns."""
        entry.expires_ns = now_ns + entry.lasts_ns
        self.add(entry)

    def remove(self, flow: FourTuple) -> None:
        """Take out the entry of this name, if there is one."""
        key = pack_flow(flow)
        for lasts_ns, queue in self._queues.items():
            if queue.pop(key, None) is not None:
                if not queue:
                    del self._queues[lasts_ns]
                return

    def expire(self, now_ns: int) -> list[FourTuple]:
        """Take out the entries whose time has come. Returns their names, first the one that was due first."""
        gone: list[tuple[int, FourTuple]] = []
        for queue in self._queues.values():
            for key, octets in queue.items():
                expires_ns = TimeWait.expires_ns_of(octets)
                if expires_ns > now_ns:
                    break
                gone.append((expires_ns, unpack_flow(key)))
        for _, flow in gone:
            self.remove(flow)
        gone.sort(key=lambda entry: entry[0])
        return [flow for _, flow in gone]
