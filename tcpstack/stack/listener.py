"""Listening sockets: each has the queue of connections that are established and not yet accepted.

The SYN queue is the stack's (one table of records for all listeners, so that a segment is looked up once); a
listener counts its share of it. Both are bounded: the accept queue by the backlog, as the user asked; the SYN
queue by SYN_QUEUE, since a record is small and a burst of honest clients is larger than most backlogs.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random

from ..core.config import Config
from ..core.connection import Connection
from ..core.keepalive import KeepAliveSettings
from .addresses import UNSPECIFIED
from .ports import choose_port

SYN_QUEUE = 1024


class Listener:
    """address   packed; the unspecified one for all of its family, None for all that the stack has
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

    def covers(self, address: bytes) -> bool:
        """Whether segments for that address of ours are its."""
        return self.address in (None, address, UNSPECIFIED[len(address)])

    @property
    def full(self) -> bool:
        """Whether the accept queue is full: handshakes then wait, and the peer repeats itself."""
        return len(self.queue) >= self.backlog

    @property
    def keepalive(self) -> KeepAliveSettings:
        """What its connections start with (Config.keepalive). Setting it is for those to come; raises ValueError."""
        return self.config.keepalive_settings

    @keepalive.setter
    def keepalive(self, settings: KeepAliveSettings) -> None:
        self.config = replace(
            self.config, keepalive=settings.on, keepalive_idle_ns=settings.idle_ns,
            keepalive_interval_ns=settings.interval_ns, keepalive_probes=settings.probes,
        )  # fmt: skip

    def accept(self) -> Connection | None:
        """The connection that has waited longest, or None. It may have text, an EOF or even an error already."""
        return self.queue.popleft() if self.queue else None

    def close(self, now_ns: int) -> None:
        """Stop listening. Connections that nobody accepted are reset. Idempotent."""
        if not self.closed:
            self.closed = True
            self._close(self, now_ns)


class Listeners(dict[tuple[bytes | None, int], Listener]):
    """Listeners by local address (Listener.address) and port. No two can claim the same segment."""

    def find(self, address: bytes, port: int) -> Listener | None:
        """Who listens at that address of ours."""
        return self.get((address, port)) or self.get((None, port)) or self.get((UNSPECIFIED[len(address)], port))

    def free_port(self, address: bytes | None, port: int, random: Random) -> int:
        """`port` where nobody listens there, or for 0 one that is chosen. Raises OSError (EADDRINUSE)."""
        if port == 0:
            chosen = choose_port(random, lambda each: not self.overlaps(address, each))
            if chosen is None:
                raise OSError(errno.EADDRINUSE, "no port is free to listen on")
            return chosen
        if self.overlaps(address, port):
            raise OSError(errno.EADDRINUSE, f"port {port} is listened on already")
        return port

    def overlaps(self, address: bytes | None, port: int) -> bool:
        """Whether a listener there would claim what another claims already."""
        if address is None:
            return any(other == port for _, other in self)
        if address == UNSPECIFIED[len(address)]:
            return any(each == port and (other is None or len(other) == len(address)) for other, each in self)
        return self.find(address, port) is not None
