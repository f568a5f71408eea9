"""The TIME-WAIT table: entries in order of expiry, so that neither adding, finding nor expiring one scans."""

from __future__ import annotations

from ..core.segment import FourTuple
from ..core.timewait import TimeWait


class TimeWaitTable:
    """Entries by four-tuple. All live equally long, so the order of entry is the order of expiry."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[FourTuple, TimeWait] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, flow: FourTuple) -> bool:
        return flow in self._entries

    @property
    def next_ns(self) -> int | None:
        """When the first entry expires, or None."""
        for entry in self._entries.values():
            return entry.expires_ns
        return None

    def get(self, flow: FourTuple) -> TimeWait | None:
        return self._entries.get(flow)

    def add(self, entry: TimeWait) -> None:
        """Put the entry last; one of the same name is replaced."""
        self._entries.pop(entry.flow, None)
        self._entries[entry.flow] = entry

    def restart(self, entry: TimeWait, expires_ns: int) -> None:
        """The 2 MSL begin again."""
        entry.expires_ns = expires_ns
        self.add(entry)

    def remove(self, entry: TimeWait) -> None:
        self._entries.pop(entry.flow, None)

    def expire(self, now_ns: int) -> list[TimeWait]:
        """Take out the entries whose time has come."""
        gone: list[TimeWait] = []
        for entry in self._entries.values():
            if entry.expires_ns > now_ns:
                break
            gone.append(entry)
        for entry in gone:
            del self._entries[entry.flow]
        return gone
