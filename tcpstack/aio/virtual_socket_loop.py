"""An event loop's side of simulated sockets: loop.sock_connect() and its kin, and sockets that become transports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .pseudo_socket import SocketAddress
from .server import ProtocolFactory, Server
from .transport import TcpTransport
from .virtual_endpoint import Descriptors, Endpoint, name_of
from .virtual_names import Address
from .virtual_refusals import RefusingLoop
from .virtual_socket import SimulatedSocket

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)


class SocketLoop(RefusingLoop):
    """names        the hosts' addresses by their names, for all who resolve
    descriptors  the open sockets of all hosts
    """

    _debug: bool

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, Sequence[Address]] = {}
        self.descriptors = Descriptors()

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Raises OSError, as asyncio's with what went wrong and the address."""
        endpoint = self._endpoint(sock)
        remote = cast(SimulatedSocket, sock).resolved("connect", address)
        name = endpoint.name(*remote)
        try:
            endpoint.connect(*remote)
        except BlockingIOError:
            await endpoint.until(endpoint.check_opened)
            number = endpoint.take_error()
            if number:
                raise OSError(number, f"Connect call failed {name}") from None

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, SocketAddress]:
        accepted = await (endpoint := self._endpoint(sock)).until(endpoint.accept)
        connection = SimulatedSocket.of(accepted)
        connection.setblocking(False)
        assert accepted.connection is not None
        return connection, accepted.name(*accepted.connection.flow[2:])

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        return await (endpoint := self._endpoint(sock)).until(endpoint.receive, nbytes)

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        endpoint = self._endpoint(sock)
        with memoryview(buf).cast("B") as view:
            text = await endpoint.until(endpoint.receive, len(view))
            view[: len(text)] = text
        return len(text)

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        endpoint = self._endpoint(sock)
        with memoryview(data).cast("B") as view:
            sent = await endpoint.until(endpoint.send, view)
            while sent < len(view):
                sent += await endpoint.until(endpoint.send, view[sent:])

    async def connect_accepted_socket(
        self, protocol_factory: Callable[[], _ProtocolT], sock: socket.socket, *, ssl: object = None, **ignored: object
    ) -> tuple[TcpTransport, _ProtocolT]:
        self._check_plain(ssl)
        return await self._transport_of(protocol_factory, sock)

    async def _transport_of(
        self, protocol_factory: Callable[[], _ProtocolT], sock: socket.socket
    ) -> tuple[TcpTransport, _ProtocolT]:
        """A transport over the socket's connection, which is the transport's from now on."""
        endpoint = self._endpoint(sock)
        sock.setblocking(False)
        await endpoint.until(endpoint.check_opened)
        protocol = protocol_factory()
        kind = _MappedTransport if endpoint.family == socket.AF_INET6 else TcpTransport
        connection = endpoint.hand_over()
        transport = endpoint.owner = kind(endpoint.host._driver, connection, protocol)
        transport.start()
        return transport, protocol

    def _server_of(
        self, protocol_factory: ProtocolFactory, sock: socket.socket, backlog: int, start_serving: bool
    ) -> Server:
        """A server that accepts what the socket listens for."""
        endpoint = self._endpoint(sock)
        sock.setblocking(False)
        if endpoint.listener is None:
            endpoint.listen(backlog)
        assert endpoint.listener is not None
        server = endpoint.owner = endpoint.host.serve([endpoint.listener], protocol_factory, backlog, start_serving)
        return server

    def _endpoint(self, sock: object) -> Endpoint:
        """What a socket stands for. Raises what asyncio raises for one that is not to be used."""
        if not isinstance(sock, SimulatedSocket):
            if isinstance(sock, socket.socket):
                self._refuse("a socket that was made outside", "make it in the program, where it is the host's")
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        endpoint = sock.endpoint
        if isinstance(endpoint.owner, TcpTransport) and not endpoint.owner.is_closing():
            raise RuntimeError(f"File descriptor {sock.fileno()!r} is used by transport {endpoint.owner!r}")
        return endpoint

    def _check_plain(self, ssl: object) -> None:
        if ssl:
            self._refuse("TLS", "its keys are the operating system's randomness; use plain connections")


class _MappedTransport(TcpTransport):
    """Of an IPv6 socket, whose peer may be an IPv4 host."""

    __slots__ = ()

    def _peername(self) -> SocketAddress:
        return name_of(socket.AF_INET6, *self._conn.flow[2:])

    def _sockname(self) -> SocketAddress:
        return name_of(socket.AF_INET6, *self._conn.flow[:2])
