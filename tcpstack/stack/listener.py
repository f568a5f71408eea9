"""A listening socket: the queue of connections that are established and not yet accepted.

The SYN queue is the stack's (one table of records for all listeners, so that a segment is looked up once); a
listener counts its share of it. Both are bounded: the accept queue by the backlog, as the user asked; the SYN
queue by SYN_QUEUE, since a record is small and a burst of honest clients is larger than most backlogs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..core.config import Config
from ..core.connection import Connection

SYN_QUEUE = 1024


class Listener:
    """address   packed, or None for all of the stack's addresses
    port      the port listened on
    backlog   how many established connections may wait to be accepted
    config    what its connections start with
    records   how many SYN records it has now
    on_connection  called, from the end of a batch, when there is something to accept
    """

    __slots__ = ("_close", "address", "backlog", "closed", "config", "on_connection", "port", "queue", "records")

    def __init__(
        self,
        address: bytes | None,
        port: int,
        backlog: int,
        config: Config,
        close: Callable[[Listener, int], None],
    ) -> None:
        self.address = address
        self.port = port
        self.backlog = max(backlog, 1)
        self.config = config
        self.records = 0
        self.queue: deque[Connection] = deque()
        self.on_connection: Callable[[], None] | None = None
        self.closed = False
        self._close = close

    @property
    def full(self) -> bool:
        """Whether the accept queue is full: handshakes then wait, and the peer repeats itself."""
        return len(self.queue) >= self.backlog

    def accept(self) -> Connection | None:
        """The connection that has waited longest, or None. It may have text, an EOF or even an error already."""
        return self.queue.popleft() if self.queue else None

    def close(self, now_ns: int) -> None:
        """Stop listening. Connections that nobody accepted are reset. Idempotent."""
        if not self.closed:
            self.closed = True
            self._close(self, now_ns)
