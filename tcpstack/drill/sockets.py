"""Linux's socket calls on our stack: descriptors, blocking, errors that are told once, flags. No I/O, no threads.

A call is begun and then tried until it has an outcome: the clock is virtual, so "blocks" means "not yet". What Linux
does with an error (told once, by whichever call comes first) or with a half-closed connection happens here and not in
the engine, whose interface is asyncio's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeAlias

from ..core import state as st
from ..core.config import Config
from ..core.connection import Connection
from ..stack.listener import Listener
from ..stack.stack import Stack
from . import tcp_info
from .epoll import Epolls
from .script import Unsupported
from .side import Outcome, Request
from .socket_options import Options
from .symbols import SYMBOLS, flag_names

Attempt: TypeAlias = Callable[[], "Outcome | None"]

_FIRST_FD = 3
_NONBLOCK = SYMBOLS["O_NONBLOCK"]
_DONTWAIT, _PEEK = SYMBOLS["MSG_DONTWAIT"], SYMBOLS["MSG_PEEK"]
_MORE = SYMBOLS["MSG_MORE"]
_RECEIVE_FLAGS = SYMBOLS["MSG_NOSIGNAL"] | _DONTWAIT
_SEND_FLAGS = _RECEIVE_FLAGS | _MORE
_IN = SYMBOLS["POLLIN"] | SYMBOLS["POLLRDNORM"]
_OUT = SYMBOLS["POLLOUT"] | SYMBOLS["POLLWRNORM"]
_ERR, _HUP, _RDHUP = SYMBOLS["POLLERR"], SYMBOLS["POLLHUP"], SYMBOLS["POLLRDHUP"]
_READING, _WRITING = 1, 2
CALLS = frozenset({
    "accept", "bind", "close", "connect", "epoll_create", "epoll_ctl", "epoll_wait", "fcntl", "getsockopt", "ioctl",
    "listen", "poll", "readv", "recv", "recvmsg", "send", "sendmsg", "setsockopt", "shutdown", "socket",
})  # fmt: skip
"""The requests that there are."""
_OF_NO_SOCKET = frozenset({"socket", "poll", "epoll_create", "epoll_ctl", "epoll_wait"})
_NODELAY = (SYMBOLS["SOL_TCP"], SYMBOLS["TCP_NODELAY"])
_OPENING = frozenset({st.SYN_SENT, st.SYN_RECEIVED})


class Socket:
    """A descriptor. `shut` has the bits of the directions that shutdown() closed; `told` is whether the connection's
    error was told."""

    __slots__ = ("address", "connected", "connection", "flags", "listener", "options", "port", "shut", "told")

    def __init__(self, config: Config, flags: int = 0) -> None:
        self.address: bytes | None = None
        self.port = 0
        self.flags = flags
        self.options = Options(config)
        self.listener: Listener | None = None
        self.connection: Connection | None = None
        self.connected = False  # connect() has said so
        self.shut = 0
        self.told = False

    def take_error(self) -> int:
        """The errno that the connection died of, once; 0 where there is none to tell."""
        connection = self.connection
        if self.told or connection is None or connection.error is None:
            return 0
        self.told = True
        if connection.eof_received and connection.error.errno == errno.ECONNRESET:
            return errno.EPIPE  # a RST behind the peer's FIN: only writing has come to an end
        return connection.error.errno or errno.EIO

    @property
    def has_error(self) -> bool:
        return not self.told and self.connection is not None and self.connection.error is not None


class Sockets:
    """now_ns       the stack's time, to be kept up to date by who owns this
    deadline_ns  when a call that blocks gives up by itself (poll's timeout); None where it does not
    """

    def __init__(self, stack: Stack, config: Config) -> None:
        self.stack = stack
        self.config = config
        self.now_ns = 0
        self.deadline_ns: int | None = None
        self._sockets: dict[int, Socket] = {}
        self._epolls = Epolls(self._sockets.__contains__, self._ready)

    def begin(self, request: Request) -> Attempt:
        """Start a call. What it returns is to be called until it gives an outcome. Raises Unsupported."""
        self.deadline_ns = None
        arguments = request.arguments
        assert request.name in CALLS, request
        call: Callable[..., Attempt] = getattr(self, f"_{request.name}")
        if request.name == "close":
            return self._close(arguments[0])
        if request.name not in _OF_NO_SOCKET:
            found = self._sockets.get(arguments[0])
            if found is None:
                return _done(_failure(errno.ENOTSOCK if arguments[0] in self._epolls else errno.EBADF))
            return call(found, *arguments[1:])
        return call(*arguments)

    def connection(self, fd: int) -> Connection | None:
        """The connection behind a descriptor."""
        found = self._sockets.get(fd)
        return found.connection if found is not None else None

    # ------------------------------------------------------------------ opening

    def _socket(self, family: int, kind: int, protocol: int) -> Attempt:
        flags = _NONBLOCK if kind & SYMBOLS["SOCK_NONBLOCK"] else 0
        return _done(Outcome(self._add(Socket(self.config, flags))))

    def _bind(self, socket: Socket, address: str, port: int) -> Attempt:
        local = self.stack.addresses[0].ip
        if address not in (str(local), "0.0.0.0", "::"):
            return _done(_failure(errno.EADDRNOTAVAIL))
        socket.address, socket.port = local.packed, port
        return _done(Outcome(0))

    def _listen(self, socket: Socket, backlog: int) -> Attempt:
        if socket.connection is not None:
            return _done(_failure(errno.EINVAL))
        if socket.listener is None:
            config = socket.options.config
            try:
                socket.listener = self.stack.listen(socket.port, backlog=max(backlog, 1), config=config)
            except OSError as error:
                return _done(_failure(error.errno))
        socket.listener.backlog = max(backlog, 1)
        return _done(Outcome(0))

    def _accept(self, socket: Socket, flags: int) -> Attempt:
        def attempt() -> Outcome | None:
            listener = socket.listener
            if listener is None or listener.closed:
                return _failure(errno.EINVAL)
            connection = listener.accept()
            if connection is None:
                return _would_block(socket.flags)
            accepted = Socket(socket.options.config, flags & _NONBLOCK)
            accepted.options.inherit(socket.options)
            accepted.options.apply(connection, self.now_ns)
            accepted.connection, accepted.connected = connection, True
            return Outcome(self._add(accepted))

        return attempt

    def _connect(self, socket: Socket, address: str, port: int) -> Attempt:
        first = socket.connection is None
        if socket.listener is not None:
            return _done(_failure(errno.EISCONN))
        if first:
            try:
                self._open(socket, address, port)
            except OSError as error:
                return _done(_failure(error.errno))

        def attempt() -> Outcome | None:
            connection = socket.connection
            assert connection is not None
            if connection.state in _OPENING:
                if not socket.flags & _NONBLOCK:
                    return None
                return _failure(errno.EINPROGRESS if first else errno.EALREADY)
            number = socket.take_error()
            if number:
                return _failure(number)
            if connection.state == st.CLOSED and not socket.connected:
                return _failure(errno.ECONNABORTED)
            if socket.connected:
                return _failure(errno.EISCONN)
            socket.connected = True
            return Outcome(0)

        return attempt

    def _open(self, socket: Socket, address: str, port: int) -> None:
        socket.connection = self.stack.connect(
            ip_address(address).packed, port, self.now_ns, local=socket.address, lport=socket.port,
            config=socket.options.config,
        )  # fmt: skip
        socket.options.apply(socket.connection, self.now_ns)

    # ------------------------------------------------------------------ text

    def _recv(self, socket: Socket, size: int, flags: int) -> Attempt:
        check_flags("recv", flags)

        def attempt() -> Outcome | None:
            connection = socket.connection
            if connection is None:
                return _failure(errno.ENOTCONN)
            if connection.readable_bytes and size:
                chunks = self.stack.receive(connection, size, self.now_ns)
                text = b"".join(chunks)
                return Outcome(len(text), text=text)
            if connection.eof_received or socket.shut & _READING or not size:
                return Outcome(0)
            number = socket.take_error()
            if number:
                return _failure(number)
            if connection.state == st.CLOSED:
                return Outcome(0)
            return _would_block(socket.flags | (_NONBLOCK if flags & _DONTWAIT else 0))

        return attempt

    def _send(self, socket: Socket, octets: str, flags: int) -> Attempt:
        check_flags("send", flags)
        text = memoryview(bytes.fromhex(octets))
        nonblocking = socket.flags | (_NONBLOCK if flags & _DONTWAIT else 0)
        at = 0

        def attempt() -> Outcome | None:
            nonlocal at
            connection = socket.connection
            if connection is None:
                return _failure(errno.EPIPE)
            if connection.state in _OPENING:
                return _would_block(nonblocking)
            if socket.shut & _WRITING or connection.state not in (st.ESTABLISHED, st.CLOSE_WAIT):
                return Outcome(at) if at else _failure(socket.take_error() or errno.EPIPE)
            room = socket.options.send_room(connection)
            taken = len(text) - at if room is None else min(room, len(text) - at)
            if taken:
                connection.corked = socket.options.corked or bool(flags & _MORE)
                self.stack.send(connection, bytes(text[at : at + taken]), self.now_ns)
                at += taken
            if at == len(text) or (at and nonblocking & _NONBLOCK):
                return Outcome(at)
            return _would_block(nonblocking)

        return attempt

    def _readv(self, socket: Socket, size: int) -> Attempt:
        return self._recv(socket, size, 0)

    def _sendmsg(self, socket: Socket, parts: tuple[str, ...], flags: int) -> Attempt:
        return self._send(socket, "".join(parts), flags)

    def _recvmsg(self, socket: Socket, size: int, room: int, flags: int) -> Attempt:
        return self._recv(socket, size, flags)  # no option that is there has control messages come

    # ------------------------------------------------------------------ closing

    def _close(self, fd: int) -> Attempt:
        if self._epolls.close(fd):
            return _done(Outcome(0))
        socket = self._sockets.pop(fd, None)
        if socket is None:
            return _done(_failure(errno.EBADF))
        if socket.listener is not None:
            socket.listener.close(self.now_ns)
        elif socket.connection is not None:
            if socket.options.linger_s == 0:
                self.stack.abort(socket.connection, self.now_ns)
            else:
                self.stack.close(socket.connection, self.now_ns)
        return _done(Outcome(0))

    def _shutdown(self, socket: Socket, how: int) -> Attempt:
        connection = socket.connection
        if how not in (0, 1, 2):
            return _done(_failure(errno.EINVAL))
        if connection is None or connection.state == st.CLOSED:
            return _done(_failure(errno.ENOTCONN))
        socket.shut |= how + 1
        if socket.shut & _WRITING:
            self.stack.shutdown(connection, self.now_ns)
        return _done(Outcome(0))

    # ------------------------------------------------------------------ the rest

    def _fcntl(self, socket: Socket, command: int, value: int) -> Attempt:
        if command == SYMBOLS["F_GETFL"]:
            return _done(Outcome(socket.flags | SYMBOLS["O_RDWR"]))
        socket.flags = value & _NONBLOCK
        return _done(Outcome(0))

    def _setsockopt(self, socket: Socket, level: int, name: int, octets: str) -> Attempt:
        opened = socket.connection is not None or socket.listener is not None
        value = bytes.fromhex(octets)
        number = socket.options.set(level, name, value, opened=opened)
        config = socket.options.config
        if socket.connection is not None:
            socket.options.apply(socket.connection, self.now_ns)
            # TCP_NODELAY pushes what is there, as on Linux, a cork or not.
            pushes = (level, name) == _NODELAY and any(value)
            self.stack.set_corked(socket.connection, socket.options.corked and not pushes, self.now_ns)
            socket.connection.corked = socket.options.corked
            if config.keepalive_settings != socket.connection.keepalive:
                self.stack.set_keepalive(socket.connection, config.keepalive_settings, self.now_ns)
        elif socket.listener is not None:
            socket.listener.keepalive = config.keepalive_settings
        return _done(_failure(number) if number else Outcome(0))

    def _getsockopt(self, socket: Socket, level: int, name: int, size: int) -> Attempt:
        if (level, name) == (SYMBOLS["SOL_SOCKET"], SYMBOLS["SO_ERROR"]):
            value = socket.take_error().to_bytes(4, "little")
        else:
            value = socket.options.get(level, name, socket.connection)
        return _done(Outcome(0, text=value[:size]))

    def _ioctl(self, socket: Socket, command: int) -> Attempt:
        connection = socket.connection
        if connection is None:
            return _done(_failure(errno.EINVAL) if socket.listener is not None else Outcome(0, values=(0,)))
        if command == SYMBOLS["SIOCINQ"]:
            return _done(Outcome(0, values=(connection.readable_bytes,)))
        size = connection.unsent_bytes
        if command == SYMBOLS["SIOCOUTQ"]:
            size += tcp_info.number(connection.status(), "unacknowledged_bytes")
        return _done(Outcome(0, values=(size,)))

    def _poll(self, polled: tuple[tuple[int, int], ...], milliseconds: int) -> Attempt:
        deadline_ns = self.deadline_ns = None if milliseconds < 0 else self.now_ns + milliseconds * 1_000_000

        def attempt() -> Outcome | None:
            found = tuple(self._ready(fd) & (events | _ERR | _HUP) for fd, events in polled)
            if any(found) or (deadline_ns is not None and self.now_ns >= deadline_ns):
                return Outcome(sum(map(bool, found)), values=found)
            return None

        return attempt

    def _ready(self, fd: int) -> int:
        """What poll() says, as Linux's tcp_poll."""
        socket = self._sockets.get(fd)
        if socket is None:
            return SYMBOLS["POLLNVAL"]
        if socket.listener is not None:
            return _IN if socket.listener.queue else 0
        connection = socket.connection
        if connection is None:
            return _HUP | _OUT
        if connection.state in _OPENING:
            return 0
        dead = connection.state == st.CLOSED
        no_more = dead or connection.eof_received or bool(socket.shut & _READING)
        silent = dead or connection.state not in (st.ESTABLISHED, st.CLOSE_WAIT)
        mask = _IN if connection.readable_bytes or no_more else 0
        mask |= _RDHUP if no_more else 0
        room = socket.options.send_room(connection)
        mask |= _OUT if silent or room is None or room > 0 else 0
        mask |= _HUP if dead or (no_more and silent) else 0
        return mask | (_ERR if socket.has_error else 0)

    def _epoll_create(self) -> Attempt:
        fd = self._free_fd()
        self._epolls.create(fd)
        return _done(Outcome(fd))

    def _epoll_ctl(self, epoll: int, operation: int, fd: int, events: int, data: int) -> Attempt:
        number = self._epolls.control(epoll, operation, fd, events, data)
        return _done(_failure(number) if number else Outcome(0))

    def _epoll_wait(self, epoll: int, most: int, milliseconds: int) -> Attempt:
        look = self._epolls.wait(epoll, most)
        if isinstance(look, int):
            return _done(_failure(look))
        deadline_ns = self.deadline_ns = None if milliseconds < 0 else self.now_ns + milliseconds * 1_000_000

        def attempt() -> Outcome | None:
            found = look()
            if found is not None:
                return Outcome(1, values=found)
            return Outcome(0) if deadline_ns is not None and self.now_ns >= deadline_ns else None

        return attempt

    def _add(self, socket: Socket) -> int:
        fd = self._free_fd()
        self._sockets[fd] = socket
        return fd

    def _free_fd(self) -> int:
        fd = _FIRST_FD
        while fd in self._sockets or fd in self._epolls:
            fd += 1
        return fd


def check_flags(call: str, flags: int) -> None:
    """Raises Unsupported for flags of recv() and send() that are not there."""
    unknown = flags & ~(_SEND_FLAGS if call.startswith("send") else _RECEIVE_FLAGS)
    if unknown:
        raise Unsupported(f"{call}() with {flag_names('MSG_', unknown)} is not there on the engine")


def _done(outcome: Outcome) -> Attempt:
    return lambda: outcome


def _failure(number: int | None) -> Outcome:
    return Outcome(-1, number or errno.EIO)


def _would_block(flags: int) -> Outcome | None:
    return _failure(errno.EAGAIN) if flags & _NONBLOCK else None
