"""How large the receive buffer ought to be: dynamic right-sizing (Fisk and Feng 2001, as Linux's
tcp_rcv_space_adjust).

A sender that only the window holds back sends one window in each round trip. So what the application takes in one
round trip tells how much the sender and the path can do: the buffer has to hold twice that, one half to be under way
while the other waits behind a gap for what was lost, and as much more as the octets have grown since the last time,
because a sender in slow start doubles what it sends.

What waits unread counts for nothing: an application that reads slowly is not helped by a larger buffer. Only when it
has read (almost) all that there was do we look at the clock. From one such moment to another, what it took is what
arrived, however fast it took it from us.
"""

from __future__ import annotations

_REST_DIVISOR = 8  # "almost all": what still waits is less than so much of the buffer
_RESERVE_SEGMENTS = 16


class Autotune:
    """Measures what an application takes in a round trip. `buffer_bytes` is what the buffer begins with, `mss` the
    octets of a full segment; measuring begins `now_ns`."""

    __slots__ = ("_most_bytes", "_mss", "_shortest_ns", "_since_ns", "_taken_bytes")

    def __init__(self, buffer_bytes: int, mss: int, now_ns: int) -> None:
        self._mss = mss
        self._most_bytes = max(buffer_bytes // 2, 1)  # in one round trip so far, or what the buffer bears as it is
        self._taken_bytes = 0
        self._since_ns = now_ns
        self._shortest_ns = 0  # in which more than a window was taken: no round trip is longer. 0: not known

    def on_read(self, size: int, unread_bytes: int, buffer_bytes: int, now_ns: int, srtt_ns: int) -> int:
        """The application has taken `size` octets and left `unread_bytes` in the buffer, which is of `buffer_bytes`.

        `srtt_ns` is the sender's SRTT, 0 where nothing was measured. Returns the octets that the buffer should have,
        which may be fewer than it has; 0 where there is nothing new to say.
        """
        self._taken_bytes += size
        rest_bytes = buffer_bytes // _REST_DIVISOR
        if unread_bytes > rest_bytes:
            return 0
        elapsed_ns = now_ns - self._since_ns
        rtt_ns = self._shortest_ns or srtt_ns
        if self._taken_bytes > buffer_bytes + rest_bytes and (not rtt_ns or elapsed_ns < rtt_ns):
            # More than the window that was on offer: the peer has heard from us in between, and we from it.
            self._shortest_ns = rtt_ns = max(elapsed_ns, 1)
        if not rtt_ns or elapsed_ns < rtt_ns:
            return 0
        taken = self._taken_bytes * rtt_ns // elapsed_ns
        self._taken_bytes = 0
        self._since_ns = now_ns
        most = self._most_bytes
        if taken <= most:
            return 0
        self._most_bytes = taken
        return 2 * taken * min(taken, 2 * most) // most + _RESERVE_SEGMENTS * self._mss
