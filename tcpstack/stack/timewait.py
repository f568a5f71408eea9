"""The TIME-WAIT table: entries in order of expiry, so that neither adding, finding nor expiring one scans."""

from __future__ import annotations

from collections import OrderedDict

from ..core.segment import FourTuple
from ..core.timewait import TimeWait


class TimeWaitTable:
    """Entries by four-tuple. Those that live equally long stand in one queue: there the order of entry is the order
    of expiry. There are as many queues as there are configurations, so one as a rule."""

    __slots__ = ("_entries", "_queues")

    def __init__(self) -> None:
        self._entries: dict[FourTuple, TimeWait] = {}
        self._queues: dict[int, OrderedDict[FourTuple, TimeWait]] = {}  # a dict's front gets slow to find as it empties

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, flow: FourTuple) -> bool:
        return flow in self._entries

    @property
    def next_ns(self) -> int | None:
        """When the first entry expires, or None."""
        return min((next(iter(queue.values())).expires_ns for queue in self._queues.values()), default=None)

    def get(self, flow: FourTuple) -> TimeWait | None:
        return self._entries.get(flow)

    def add(self, entry: TimeWait) -> None:
        """Put the entry last; one of the same name is replaced."""
        self.remove(entry)
        self._entries[entry.flow] = entry
        self._queues.setdefault(entry.lasts_ns, OrderedDict())[entry.flow] = entry

    def restart(self, entry: TimeWait, now_ns: int) -> None:
        """The 2 MSL begin again."""
        self.remove(entry)
        entry.expires_ns = now_ns + entry.lasts_ns
        self.add(entry)

    def remove(self, entry: TimeWait) -> None:
        """Take out the entry of this name, if there is one."""
        found = self._entries.pop(entry.flow, None)
        if found is not None:
            queue = self._queues[found.lasts_ns]
            del queue[found.flow]
            if not queue:
                del self._queues[found.lasts_ns]

    def expire(self, now_ns: int) -> list[TimeWait]:
        """Take out the entries whose time has come, first the one that was due first."""
        gone: list[TimeWait] = []
        for queue in self._queues.values():
            for entry in queue.values():
                if entry.expires_ns > now_ns:
                    break
                gone.append(entry)
        for entry in gone:
            self.remove(entry)
        gone.sort(key=lambda entry: entry.expires_ns)
        return gone
