"""What is behind the descriptor of a simulated socket: a connection or a listener of the engine, and Linux's socket
calls on it. None of them waits: where a kernel would, they raise BlockingIOError.

The state is the engine's. Kept here is what a kernel keeps of a socket beside TCP: the name that it was bound to, which
ends were shut down, and whether an error was told already (it is told once, by whichever call comes first).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from ..core import state as st
from ..core.connection import Connection
from ..stack.addresses import UNSPECIFIED
from ..stack.listener import Listener
from .driver import ConnectionUser
from .pseudo_socket import SocketAddress, socket_address
from .virtual_socket_options import SocketOptions

if TYPE_CHECKING:
    from .host import Host
    from .server import Server
    from .transport import TcpTransport

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")

_READING, _WRITING = 1, 2
_OPENING = frozenset({st.SYN_SENT, st.SYN_RECEIVED})
_SENDING = frozenset({st.ESTABLISHED, st.CLOSE_WAIT})
_ENDED = frozenset({st.CLOSED, st.TIME_WAIT})
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 2.5.5.2
_PORT_ATTEMPTS = 100


class Descriptors(dict[int, "Endpoint"]):
    """The open endpoints of a simulation by their numbers, which lead nowhere in the process that simulates: they are
    beyond any limit of open files."""

    FIRST = 1 << 30

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    def add(self, endpoint: Endpoint) -> int:
        """Its number, which no other gets."""
        number = self.FIRST + self._made
        self._made += 1
        self[number] = endpoint
        return number


class Endpoint(ConnectionUser):
    """One of `host`'s, of a family. It is open until each of its `holders` has closed it.

    number      among `descriptors`
    connection  once it has one, being opened included
    listener    once it listens
    owner       the transport or server that has taken over what it stands for
    """

    __slots__ = (
        "_bound", "_connected", "_descriptors", "_driver", "_failure", "_shut", "_stack", "_told", "_waiters",
        "connection", "family", "holders", "host", "listener", "number", "options", "owner",
    )  # fmt: skip

    def __init__(self, host: Host, family: int, descriptors: Descriptors, options: SocketOptions | None = None) -> None:
        self.host = host
        self.family = socket.AddressFamily(family)
        self.options = options if options is not None else SocketOptions(host._stack.config)
        self.connection: Connection | None = None
        self.listener: Listener | None = None
        self.owner: TcpTransport | Server | None = None
        self.holders = 1
        self._driver = host._driver
        self._stack = host._stack
        self._bound: tuple[bytes, int] | None = None
        self._connected = False  # connect() has said so
        self._shut = 0
        self._told = False
        self._failure: OSError | None = None  # the host's, not the connection's
        self._waiters: list[asyncio.Future[None]] = []
        self._descriptors = descriptors
        self.number = descriptors.add(self)

    # Waiting

    async def until(self, call: Callable[[*_Ts], T], *args: *_Ts) -> T:
        """What `call` returns when it no longer raises BlockingIOError."""
        while True:
            try:
                return call(*args)
            except BlockingIOError:
                waiter = self._driver.loop.create_future()
                self._waiters.append(waiter)
                try:
                    await waiter
                finally:
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def on_readiness(self, mask: int) -> None:
        self._wake()

    def on_failure(self, error: BaseException) -> None:
        self._driver.detach(self)
        self._failure = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
        self._wake()

    # Opening

    def bind(self, address: bytes, port: int) -> None:
        """Raises OSError: EINVAL where it has a name already, else as Stack.listen. Ports can be used again as with
        SO_REUSEADDR."""
        if self._bound is not None or self.connection is not None or self.listener is not None:
            raise _error(errno.EINVAL)
        for _ in range(_PORT_ATTEMPTS):
            probe = self._stack.listen(port, address=self._listened_on(address))
            probe.close(self._driver.clock())
            if not any(each._is_bound_to(self, address, probe.port) for each in self._descriptors.values()):
                self._bound = (address, probe.port)
                return
            if port:
                break
        raise _error(errno.EADDRINUSE)

    def _listened_on(self, address: bytes) -> bytes | None:
        """None for all addresses of both families."""
        both = address == UNSPECIFIED[16] and not self.options.v6only
        return None if both else address

    def _is_bound_to(self, other: Endpoint, address: bytes, port: int) -> bool:
        """Whether this one, which does not listen yet, keeps that one from an address and port."""
        if self._bound is None or self.host is not other.host or self._bound[1] != port:
            return False
        mine, its = self._listened_on(self._bound[0]), other._listened_on(address)
        if mine is None or its is None:
            return True
        return len(mine) == len(its) and (mine == its or UNSPECIFIED[len(mine)] in (mine, its))

    def listen(self, backlog: int) -> None:
        """Raises OSError: EINVAL where it has a connection, else as Stack.listen."""
        if self.connection is not None or (self.listener is not None and self.listener.closed):
            raise _error(errno.EINVAL)
        if self.listener is None:
            self.host._check_open()
            if self._bound is None:
                self.bind(UNSPECIFIED[4 if self.family == socket.AF_INET else 16], 0)
            assert self._bound is not None
            address, port = self._bound
            self.listener = self._stack.listen(port, address=self._listened_on(address), config=self.options.config)
            self.listener.on_connection = self._wake
        self.listener.backlog = max(backlog, 1)

    def accept(self) -> Endpoint:
        """The connection that has waited longest. Raises OSError: EINVAL where this one does not listen."""
        listener = self.listener
        if listener is None or listener.closed:
            raise _error(errno.EINVAL)
        connection = listener.accept()
        if connection is None:
            raise _error(errno.EAGAIN)
        accepted = Endpoint(self.host, self.family, self._descriptors, self.options.inherited())
        accepted._connected = True
        accepted._adopt(connection)
        return accepted

    def connect(self, remote: bytes, port: int) -> None:
        """Returns where the connection has been established since the last call. Raises OSError: EINPROGRESS, EALREADY,
        EISCONN, what the connection died of, else as Stack.connect."""
        if self.listener is not None:
            raise _error(errno.EISCONN)
        connection = self.connection
        if connection is None:
            self._open(remote, port)
            raise _error(errno.EINPROGRESS)
        if connection.state in _OPENING:
            raise _error(errno.EALREADY)
        number = self.take_error()
        if connection.state in _ENDED and not self._connected:
            self._drop()  # the next call begins anew
            raise _error(number or errno.ECONNABORTED)
        if number or self._connected:
            raise _error(number or errno.EISCONN)
        self._connected = True

    def _open(self, remote: bytes, port: int) -> None:
        self.host._check_open()
        local, lport = self._bound or (None, 0)
        if local is not None and local == UNSPECIFIED[len(local)]:
            local = None
        self._told = False
        driver = self._driver
        self._adopt(
            self._stack.connect(remote, port, driver.clock(), local=local, lport=lport, config=self.options.config)
        )

    def _adopt(self, connection: Connection) -> None:
        self.connection = connection
        self.options.apply(self._driver, connection)
        self._driver.attach(self, connection)
        self._driver.after_activity()

    def _drop(self) -> None:
        """Nothing is left of the connection but what the engine has to do about it."""
        if self.connection is not None and self.connection.user is self:
            self._driver.detach(self)
        self.connection = None

    def check_opened(self) -> None:
        """Raises BlockingIOError while a connection is being opened."""
        if self.connection is not None and self.connection.state in _OPENING:
            raise _error(errno.EAGAIN)

    def take_error(self) -> int:
        """The errno that the connection died of, once; 0 where there is none to tell."""
        connection = self.connection
        error = self._failure or (connection.error if connection is not None else None)
        if error is None or self._told:
            return 0
        self._told = True
        if connection is not None and connection.eof_received and error.errno == errno.ECONNRESET:
            return errno.EPIPE  # a RST behind the peer's FIN: only writing has come to an end
        return error.errno or errno.EIO

    # Text

    def receive(self, max_bytes: int) -> bytes:
        """b"" at the end. Raises OSError: ENOTCONN, what the connection died of."""
        connection = self.connection
        if connection is None:
            raise _error(errno.ENOTCONN)
        if connection.readable_bytes:
            text = b"".join(self._stack.receive(connection, max_bytes, self._driver.clock()))
            self._driver.after_activity()
            return text
        if connection.eof_received or self._shut & _READING or not max_bytes:
            return b""
        number = self.take_error()
        if number:
            raise _error(number)
        if connection.state in _ENDED:
            return b""
        raise _error(errno.EAGAIN)

    def send(self, data: memoryview) -> int:
        """How much of it was taken. Raises OSError: EPIPE, what the connection died of."""
        connection = self.connection
        if connection is None:
            raise _error(errno.EPIPE)
        if connection.state in _OPENING:
            raise _error(errno.EAGAIN)
        if self._shut & _WRITING or connection.state not in _SENDING:
            raise _error(self.take_error() or errno.EPIPE)
        if not data:
            return 0
        taken = min(self.options.send_bytes - connection.unsent_bytes, len(data))
        if taken <= 0:
            raise _error(errno.EAGAIN)
        self._stack.send(connection, data[:taken].tobytes(), self._driver.clock())
        self._driver.after_activity()
        return taken

    # Closing

    @property
    def is_open(self) -> bool:
        return self.number in self._descriptors

    def shutdown(self, how: int) -> None:
        """Raises OSError: EINVAL for no direction, ENOTCONN where there is no connection."""
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise _error(errno.EINVAL)
        if self.listener is not None:
            if (how + 1) & _READING:
                self._stop_listening()
                self._wake()
            return
        connection = self.connection
        if connection is None or connection.state in _ENDED:
            raise _error(errno.ENOTCONN)
        self._shut |= how + 1
        if self._shut & _WRITING:
            self._stack.shutdown(connection, self._driver.clock())
            self._driver.after_activity()
        self._wake()

    def close(self) -> None:
        """One holder less; with the last one it ends. Whoever waits for it goes on waiting, as with a descriptor that
        is closed under epoll."""
        self.holders -= 1
        if self.holders == 0:
            self.end()

    def end(self) -> None:
        """As close(), whoever holds it."""
        if self._descriptors.pop(self.number, None) is None:
            return
        if self.owner is not None:
            return
        if self.listener is not None:
            self._stop_listening()
        connection = self.connection
        if connection is None or connection.user is not self:
            return
        self._driver.detach(self)
        if self.options.resets:
            self._stack.abort(connection, self._driver.clock())
        elif connection.state not in _ENDED:
            self._stack.close(connection, self._driver.clock())
        self._driver.after_activity()

    def _stop_listening(self) -> None:
        assert self.listener is not None
        self.listener.on_connection = None
        self.listener.close(self._driver.clock())
        self._driver.after_activity()

    # Names, options

    @property
    def sockname(self) -> SocketAddress:
        """(address, port), for IPv6 with two more."""
        if self.connection is not None:
            return self.name(*self.connection.flow[:2])
        return self.name(*self._bound) if self._bound is not None else self._unnamed()

    @property
    def peername(self) -> SocketAddress:
        """Raises OSError (ENOTCONN) where there is no connection, or not any more."""
        if self.connection is None or self.connection.state in (st.SYN_SENT, *_ENDED):
            raise _error(errno.ENOTCONN)
        return self.name(*self.connection.flow[2:])

    def _unnamed(self) -> SocketAddress:
        return socket_address(UNSPECIFIED[4 if self.family == socket.AF_INET else 16], 0)

    def name(self, address: bytes, port: int) -> SocketAddress:
        """As this socket's family writes it."""
        return name_of(self.family, address, port)

    def get_option(self, level: int, name: int) -> int | bytes:
        """Raises OSError (ENOPROTOOPT) for an option that is not there."""
        if level == socket.SOL_SOCKET:
            found = {
                socket.SO_TYPE: int(socket.SOCK_STREAM),
                socket.SO_ACCEPTCONN: int(self.listener is not None and not self.listener.closed),
                getattr(socket, "SO_DOMAIN", -1): int(self.family),
                getattr(socket, "SO_PROTOCOL", -2): socket.IPPROTO_TCP,
            }
            if name == socket.SO_ERROR:
                return self.take_error()
            if name in found:
                return found[name]
        return self.options.get(self.family, level, name)

    def set_option(self, level: int, name: int, octets: bytes) -> None:
        """Raises OSError: ENOPROTOOPT for an option that is not there, EINVAL for a value that is none, and where it is
        too late for it."""
        if (level, name) == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) and self._bound is not None:
            raise _error(errno.EINVAL)
        self.options.set(self.family, level, name, octets)
        if self.listener is not None:
            self.listener.config = self.options.config
        elif self.connection is not None and self.connection.state not in _ENDED:
            self.options.apply(self._driver, self.connection)
            self._driver.after_activity()

    # Handing over

    def hand_over(self) -> Connection:
        """The connection, for a transport. Raises OSError (ENOTCONN) where there is none."""
        if self.connection is None or self.connection.user is not self:
            raise _error(errno.ENOTCONN)
        self._driver.detach(self)
        return self.connection


def name_of(family: int, address: bytes, port: int) -> SocketAddress:
    """As sockets of that family write it: an IPv4 address of an IPv6 socket as a mapped one."""
    mapped = family == socket.AF_INET6 and len(address) == 4
    return socket_address(_MAPPED + address if mapped else address, port)


def unmapped(address: bytes) -> bytes:
    """The IPv4 address that a mapped one stands for; others as they are."""
    return address[12:] if len(address) == 16 and address.startswith(_MAPPED) else address


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
