"""A listening server with asyncio.Server's semantics (those of Python 3.12.1 and later, on every version)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence

from ..core.connection import Connection
from ..stack.listener import Listener
from .driver import Driver
from .pseudo_socket import PseudoSocket, socket_address
from .transport import TcpTransport

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Server(asyncio.AbstractServer):
    """Accepts what `listeners` complete, each connection in the loop turn in which its handshake did."""

    def __init__(
        self,
        driver: Driver,
        listeners: Sequence[Listener],
        backlog: int,
        protocol_factory: ProtocolFactory,
        on_closed: Callable[[Server], object],
    ) -> None:
        """`on_closed` is called once, by close(). The listeners are the server's from here on: up to `begin()`
        they answer no SYN, so that clients try again."""
        self._driver = driver
        self._loop = driver.loop
        self._listeners: Sequence[Listener] | None = listeners
        self._backlog = backlog
        for listener in listeners:
            listener.backlog = 0
        self._protocol_factory = protocol_factory
        self._on_closed = on_closed
        self._serving = False
        self._transports: dict[TcpTransport, None] = {}  # insertion-ordered: the order must replay
        self._waiters: list[asyncio.Future[None]] = []
        self._forever: asyncio.Future[None] | None = None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    @property
    def sockets(self) -> tuple[PseudoSocket, ...]:
        """One for each address listened on; for all addresses, one for each family. Empty once closed."""
        versions = {interface.version for interface in self._driver.stack.addresses}
        wildcards = [address for version, address in ((4, bytes(4)), (6, bytes(16))) if version in versions]
        return tuple(
            PseudoSocket(listener, socket_address(address, listener.port), None)
            for listener in self._listeners or ()
            for address in (wildcards if listener.address is None else [listener.address])
        )

    async def start_serving(self) -> None:
        """Begin to accept. Idempotent."""
        self.begin()

    def begin(self) -> None:
        """start_serving() for callers that are not coroutines. Raises RuntimeError where closed."""
        if self._listeners is None:
            raise RuntimeError(f"server {self!r} is closed")
        if self._serving:
            return
        self._serving = True
        for listener in self._listeners:
            listener.backlog = self._backlog
            listener.on_connection = functools.partial(self._accept, listener)
            self._accept(listener)

    async def serve_forever(self) -> None:
        """Accept until cancelled or closed; on cancellation close the server and wait for its connections."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self.begin()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            try:
                self.close()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Stop listening; what was not accepted yet is reset. Accepted connections go on. Idempotent."""
        listeners, self._listeners = self._listeners, None
        if listeners is None:
            return
        self._serving = False
        for listener in listeners:
            listener.on_connection = None
            listener.close(self._driver.clock())
        self._driver.after_activity()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._on_closed(self)
        self._wake_if_done()

    def close_clients(self) -> None:
        """close() every accepted connection's transport."""
        for transport in list(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        """abort() every accepted connection's transport."""
        for transport in list(self._transports):
            transport.abort()

    async def wait_closed(self) -> None:
        """Return when the server is closed and the last of its connections has had its connection_lost."""
        if self._listeners is None and not self._transports:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _accept(self, listener: Listener) -> None:
        while (conn := listener.accept()) is not None:
            try:
                self._start_transport(conn)
            except (SystemExit, KeyboardInterrupt) as interrupt:
                self._driver.abort(conn)
                self._driver.interrupt(interrupt)

    def _start_transport(self, conn: Connection) -> None:
        try:
            protocol = self._protocol_factory()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._driver.abort(conn)
            self._loop.call_exception_handler(
                {"message": "Error on accepting a connection: protocol factory failed", "exception": error}
            )
            return
        transport = TcpTransport(self._driver, conn, protocol, self._detach)
        self._transports[transport] = None
        transport.start()

    def _detach(self, transport: TcpTransport) -> None:
        self._transports.pop(transport, None)
        self._wake_if_done()

    def _wake_if_done(self) -> None:
        if self._listeners is None and not self._transports:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def __repr__(self) -> str:
        return f"<Server sockets={self.sockets!r}>"
