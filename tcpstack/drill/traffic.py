"""How many segments a connection has seen, and when: what TCP_INFO tells and the engine itself has no use for."""

from __future__ import annotations

from ..core import state as st
from ..core.config import MILLISECOND_NS
from ..core.events import SegmentIn, SegmentOut
from ..core.segment import ACK


class Traffic:
    """Of one flow. A superpacket is as many segments as it has."""

    __slots__ = ("_ack_ns", "_data_in", "_data_in_ns", "_data_out", "_data_out_ns", "_segments_in", "_segments_out")

    def __init__(self) -> None:
        self._segments_in = self._segments_out = self._data_in = self._data_out = 0
        self._ack_ns = self._data_in_ns = self._data_out_ns = 0

    def note(self, event: SegmentIn | SegmentOut) -> None:
        """A segment came, or left."""
        segment, now_ns = event.segment, event.time_ns
        count = max(segment.segments, 1)
        if isinstance(event, SegmentOut):
            self._segments_out += count
            if segment.payload_len:
                self._data_out += count
                self._data_out_ns = now_ns
            return
        self._segments_in += count
        if segment.flags & ACK:
            self._ack_ns = now_ns
        if event.before != event.after == st.ESTABLISHED:
            self._data_in_ns = self._data_out_ns = now_ns  # Linux counts from here where there was none
        if segment.payload_len:
            self._data_in += count
            self._data_in_ns = now_ns

    def told(self, now_ns: int) -> dict[str, int]:
        """By the names of struct tcp_info: counts, and how many milliseconds ago."""
        return {
            "segs_in": self._segments_in,
            "segs_out": self._segments_out,
            "data_segs_in": self._data_in,
            "data_segs_out": self._data_out,
            "last_data_recv": (now_ns - self._data_in_ns) // MILLISECOND_NS,
            "last_data_sent": (now_ns - self._data_out_ns) // MILLISECOND_NS,
            "last_ack_recv": (now_ns - self._ack_ns) // MILLISECOND_NS,
        }
