"""A TCP host on an event loop: asyncio's connections, servers and streams over one stack and one device."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from ..core.config import Config
from ..core.connection import Connection
from ..core.events import Tracer
from ..device.base import Device, next_packet_id
from ..device.faults import FaultyDevice, Rule, parse_rule
from ..stack.listener import Listener
from ..stack.stack import Stack
from ..wire.codec import FAST, Codec
from .connecting import connect, resolve
from .driver import Driver
from .guarded_tracer import GuardedTracer
from .sending_files import send_file
from .server import ProtocolFactory, Server
from .streams import StreamReader, StreamReaderProtocol
from .transport import TcpTransport

STREAM_LIMIT = 2**16
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]
_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)


class Host:
    """Owns `addresses` ("10.9.0.2/24") behind `device`, from construction to `close()` or `aclose()`.

    The calls have the shape and the semantics of their namesakes in asyncio. `host` is an address or a name.
    A tracer that raises is dropped with one warning in the log. `faults` are rules, or their texts, that act
    on the packets of `device`. The device belongs to the host and is closed with it. As an asynchronous
    context manager a Host does `aclose()` at the end.

    Must be made where an event loop runs, or be given the `loop`; callbacks and what they start run in the context
    (contextvars) in which it was made. `clock`, `codec` and `packet_ids` are for simulations.

    Raises FaultRuleError, and ValueError for addresses that make no sense.
    """

    def __init__(
        self,
        device: Device,
        addresses: Sequence[str | IPv4Interface | IPv6Interface],
        *,
        config: Config | None = None,
        tracer: Tracer | None = None,
        faults: Sequence[str | Rule] = (),
        random: random.Random | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        loop: asyncio.AbstractEventLoop | None = None,
        codec: Codec = FAST,
        packet_ids: Callable[[], int] = next_packet_id,
    ) -> None:
        self.loop = loop if loop is not None else asyncio.get_running_loop()
        guarded = GuardedTracer(tracer) if tracer is not None else None
        if faults:
            rules = [parse_rule(rule) if isinstance(rule, str) else rule for rule in faults]
            device = FaultyDevice(device, rules, guarded, packet_ids)
        self.device: Device = device
        self._stack = Stack(
            addresses,
            mtu=device.mtu,
            config=config if config is not None else Config(),
            random=random,
            tracer=guarded,
            name=device.name,
            codec=codec,
            packet_ids=packet_ids,
        )
        self._servers: dict[Server, None] = {}  # insertion-ordered: the order must replay
        self._closing = False  # aclose() began
        self._closed = False
        self._driver = Driver(self._stack, device, self.loop, clock)
        self._driver.start()

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The host's own addresses, each with its subnet."""
        return self._stack.addresses

    @property
    def connections(self) -> Iterable[Connection]:
        """The engine's live connections: those of transports, and those that finish after their transport."""
        return self._stack.connections

    @property
    def counters(self) -> Counter[str]:
        """What was counted: packets, drops by cause, resets, retransmissions, ..."""
        return self._stack.counters

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        limit: int = STREAM_LIMIT,
        local_addr: tuple[str, int] | None = None,
        config: Config | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """asyncio.open_connection. Raises what `create_connection` raises."""
        reader = StreamReader(limit=limit, loop=self.loop)
        protocol = StreamReaderProtocol(reader, loop=self.loop)
        transport, _ = await self.create_connection(
            lambda: protocol, host, port, local_addr=local_addr, config=config
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, self.loop)

    async def start_server(
        self,
        client_connected_cb: ClientConnected,
        host: str | Sequence[str] | None = None,
        port: int = 0,
        *,
        limit: int = STREAM_LIMIT,
        backlog: int = 100,
        config: Config | None = None,
        start_serving: bool = True,
    ) -> Server:
        """asyncio.start_server. Raises what `create_server` raises."""

        def factory() -> StreamReaderProtocol:
            reader = StreamReader(limit=limit, loop=self.loop)
            return StreamReaderProtocol(reader, client_connected_cb, loop=self.loop)

        return await self.create_server(
            factory, host, port, backlog=backlog, config=config, start_serving=start_serving
        )

    async def create_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        host: str,
        port: int,
        *,
        local_addr: tuple[str, int] | None = None,
        config: Config | None = None,
    ) -> tuple[TcpTransport, _ProtocolT]:
        """loop.create_connection: the addresses of `host` are tried in turn.

        Raises ConnectionRefusedError, TimeoutError (after config.syn_r2_ns, three minutes by default),
        OSError(EHOSTUNREACH) and its kin, socket.gaierror, DeviceError; RuntimeError where the host is
        closed.
        """
        self._check_open()
        conn = await connect(self._driver, host, port, local_addr=local_addr, config=config)
        try:
            protocol = protocol_factory()
        except BaseException:
            self._driver.abort(conn)
            raise
        transport = TcpTransport(self._driver, conn, protocol)
        transport.start()
        return transport, protocol

    async def create_server(
        self,
        protocol_factory: ProtocolFactory,
        host: str | Sequence[str] | None = None,
        port: int = 0,
        *,
        backlog: int = 100,
        config: Config | None = None,
        start_serving: bool = True,
    ) -> Server:
        """loop.create_server. No `host` means every address of the stack, and loopback; "0.0.0.0" and "::" all of
        their family; port 0 picks a free one.

        Raises OSError(EADDRINUSE) and OSError(EADDRNOTAVAIL); RuntimeError where the host is closed.
        """
        self._check_open()
        hosts = [host] if host is None or isinstance(host, str) else host
        families = {interface.version for interface in self._stack.addresses}
        addresses: dict[bytes | None, str | None] = {}
        for each in hosts:
            if not each:
                addresses[None] = each
            else:
                addresses.update(dict.fromkeys(await resolve(self.loop, each, families), each))
        if not addresses:
            raise OSError(errno.EADDRNOTAVAIL, f"no address of {host!r} has a family that the stack has")
        return self.serve(self._listen(addresses, port, config), protocol_factory, backlog, start_serving)

    def serve(
        self, listeners: Sequence[Listener], protocol_factory: ProtocolFactory, backlog: int, start_serving: bool
    ) -> Server:
        """A server that accepts what these listeners, its own from now on, complete."""
        server = Server(self._driver, listeners, max(backlog, 1), protocol_factory, self._servers.pop)
        self._servers[server] = None
        if start_serving:
            server.begin()
        return server

    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: BinaryIO,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """loop.sendfile, on every loop: send `count` octets of `file` from `offset` on, or all up to its end.

        Returns how many were sent; the file's position is then behind them, also after an error. What was written
        before goes first; nothing is read meanwhile, and nothing should be written. Octets of a large file go to the
        kernel unread where the device allows it and nobody watches (no fault rules, capture or tracer); then the file
        must not be overwritten before the peer has acknowledged them. With `fallback` False nothing is sent otherwise.

        Raises RuntimeError where the transport is closing or not one of a TCP stack, SendfileNotAvailableError,
        ValueError and TypeError for arguments that make no sense, what reading raises, the error that the connection
        died of, and OSError(EIO), with the connection reset, where the file is cut short under way.
        """
        if not isinstance(transport, TcpTransport):
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        return await send_file(transport, file, offset, count, fallback)

    def close(self) -> None:
        """At once: reset every connection, close the servers and the device. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for server in list(self._servers):
            server.close()
        self._driver.abort_all(ConnectionAbortedError(errno.ECONNABORTED, "The TCP stack was closed"))
        if self._driver.in_turn:
            self.loop.call_soon(self._close_device)  # from a callback: the resets leave at the end of its turn
        else:
            self._close_device()

    async def aclose(self, grace_s: float = 5.0) -> None:
        """Close the servers, send FIN to every peer, give them at most `grace_s` seconds to finish, then
        reset what is left, and close the device. TIME-WAIT is not waited for. Cancelled, it resets at once.
        Idempotent."""
        if self._closed:
            return
        try:
            await self._drain(grace_s)
        finally:
            self.close()
        # The connection_lost calls of what was reset are due in the next turn: the caller need not know.
        await asyncio.sleep(0)

    async def _drain(self, grace_s: float) -> None:
        """All of `aclose` but its end: what is not done after `grace_s` seconds is left as it is."""
        self._closing = True
        for server in list(self._servers):
            server.close()
        for user in self._driver.users:
            if isinstance(user, TcpTransport):
                user.close()
            else:
                self._driver.fail(user, ConnectionAbortedError(errno.ECONNABORTED, "The TCP stack was closed"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._driver.wait_idle()

    async def wait_closed(self) -> None:
        """Return when the host is closed. Raises the DeviceError where it was the device that went away."""
        error = await asyncio.shield(self._driver.closed)
        if error is not None:
            raise error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _listen(
        self, addresses: dict[bytes | None, str | None], port: int, config: Config | None
    ) -> list[Listener]:
        """A listener on each address (None: on all of them), or none at all where one of them fails."""
        listeners: list[Listener] = []
        try:
            for address in addresses:
                listeners.append(self._stack.listen(port, address=address, config=config))
        except OSError as error:
            for listener in listeners:
                listener.close(self._driver.clock())
            name = (addresses[address] or "*", port)
            reason = f"error while attempting to bind on address {name}: {error.strerror}"
            raise OSError(error.errno, reason) from None
        return listeners

    def _close_device(self) -> None:
        self._driver.stop()
        self.device.close()

    def _check_open(self) -> None:
        if self._closing or self._closed:
            raise RuntimeError("the TCP stack is closed")
        if self._driver.closed.done():
            error = self._driver.closed.result()
            assert error is not None
            raise error

    def __repr__(self) -> str:
        return f"<Host {', '.join(map(str, self.addresses))} on {self.device.name}>"
