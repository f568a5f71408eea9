"""The sockets of simulated hosts: socket.socket, as programs and libraries make it, over an Endpoint.

While a simulation runs `socket.socket(...)` makes a SimulatedSocket of the host whose program calls it. It is a
socket.socket without a descriptor, so that whoever checks its class is content, and what is not defined here fails as
on a closed one. It never waits: a call on a blocking socket that would is refused.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple, cast

from .pseudo_socket import SocketAddress
from .virtual_endpoint import Descriptors, Endpoint, unmapped
from .virtual_names import CURRENT_HOST, getaddrinfo
from .virtual_refusals import refusal

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from .virtual_socket_loop import SocketLoop

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")

REAL_SOCKET = socket.socket
REAL_NEW = REAL_SOCKET.__new__
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_NOT_OF_TYPE = getattr(socket, "SOCK_NONBLOCK", 0) | getattr(socket, "SOCK_CLOEXEC", 0)
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)
_SILENT_FLAGS = _DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
_SOMAXCONN = min(socket.SOMAXCONN, 128)  # as Python's own default


def new_socket(cls: type[socket.socket], *args: object, **kwargs: object) -> socket.socket:
    """socket.socket.__new__ while a simulation runs."""
    if cls is not REAL_SOCKET and not issubclass(cls, SimulatedSocket):
        _refuse(f"a socket of the class {cls.__name__}", "use socket.socket itself, or asyncio's connections")
    return REAL_NEW(SimulatedSocket if cls is REAL_SOCKET else cls)


class SimulatedSocket(socket.socket):
    """A TCP socket of a simulated host, for IPv4 or IPv6. Its calls raise what those of a kernel's socket raise, and
    NotVirtual where they would block, or have no meaning here."""

    __slots__ = ("_endpoint", "_family", "_number", "_timeout_s")

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        self._closed = True
        self._io_refs = 0
        self._endpoint: Endpoint | None = None
        self._family, self._number = socket.AF_INET, -1
        self._timeout_s = socket.getdefaulttimeout()
        if fileno is not None:
            self._endpoint = _found(fileno)
        else:
            self._endpoint = _made(family, type, proto)
            if type != -1 and type & _NONBLOCK:
                self._timeout_s = 0.0
        self._family, self._number = self._endpoint.family, self._endpoint.number
        self._closed = False

    @classmethod
    def of(cls, endpoint: Endpoint) -> SimulatedSocket:
        """A socket that is the endpoint's holder."""
        self = REAL_NEW(cls)
        self._closed = False
        self._io_refs = 0
        self._endpoint, self._family, self._number = endpoint, endpoint.family, endpoint.number
        self._timeout_s = socket.getdefaulttimeout()
        return self

    @property
    def endpoint(self) -> Endpoint:
        """What it stands for. Raises OSError (EBADF) where it is closed."""
        if self._endpoint is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._endpoint

    # Names and kinds

    @property
    def family(self) -> socket.AddressFamily:
        return self._family

    @property
    def type(self) -> socket.SocketKind:
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return socket.IPPROTO_TCP

    def fileno(self) -> int:
        """A number that leads nowhere; -1 where it is closed."""
        return self._endpoint.number if self._endpoint is not None else -1

    def getsockname(self) -> SocketAddress:
        return self.endpoint.sockname

    def getpeername(self) -> SocketAddress:
        return self.endpoint.peername

    # Waiting

    @property
    def timeout(self) -> float | None:
        return self._timeout_s

    def gettimeout(self) -> float | None:
        return self._timeout_s

    def settimeout(self, value: float | None, /) -> None:
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout_s = None if value is None else float(value)

    def getblocking(self) -> bool:
        return self._timeout_s != 0

    def setblocking(self, flag: bool, /) -> None:
        self._timeout_s = None if flag else 0.0

    def _call(self, name: str, flags: int, call: Callable[[*_Ts], T], *args: *_Ts) -> T:
        """What `call` returns, or BlockingIOError; a refusal where the socket blocks."""
        if flags & ~_SILENT_FLAGS:
            _refuse(f"socket.{name}() with flags", "only MSG_DONTWAIT and MSG_NOSIGNAL have a meaning here")
        try:
            return call(*args)
        except BlockingIOError:
            if self._timeout_s == 0 or flags & _DONTWAIT:
                raise
            _refuse_to_block(name)

    # Opening

    def bind(self, address: Any, /) -> None:
        self.endpoint.bind(*self.resolved("bind", address))

    def listen(self, backlog: int = _SOMAXCONN, /) -> None:
        self.endpoint.listen(backlog)

    def accept(self) -> tuple[socket.socket, SocketAddress]:
        accepted = self._call("accept", 0, self.endpoint.accept)
        return SimulatedSocket.of(accepted), accepted.name(*_flow(accepted)[2:])

    def connect(self, address: Any, /) -> None:
        remote = self.resolved("connect", address)
        if self._timeout_s != 0:
            _refuse_to_block("connect")
        self.endpoint.connect(*remote)

    def connect_ex(self, address: Any, /) -> int:
        try:
            self.connect(address)
        except socket.gaierror:
            raise
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def resolved(self, call: str, address: Any) -> tuple[bytes, int]:
        """The packed address and the port that `address` means. Raises TypeError, OverflowError, socket.gaierror."""
        family = self.endpoint.family
        sizes = (2,) if family == socket.AF_INET else (2, 3, 4)
        if not isinstance(address, tuple) or len(address) not in sizes:
            raise TypeError(f"{call}(): {family.name} address must be a tuple (host, port), not {address!r}")
        host, port = address[:2]
        if not isinstance(port, int):
            raise TypeError(f"{call}(): a port must be an int, not {port!r}")
        if not 0 <= port <= 65535:
            raise OverflowError(f"{call}(): port must be 0-65535.")
        if host in ("", b""):
            return bytes(4 if family == socket.AF_INET else 16), port
        found = getaddrinfo(_loop_of(self.endpoint).names, host, port, family)
        return unmapped(socket.inet_pton(family, found[0][4][0])), port

    # Text

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        return self._call("recv", flags, self.endpoint.receive, bufsize)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        with memoryview(buffer).cast("B") as view:
            if view.readonly:
                raise TypeError("recv_into() argument 1 must be a read-write bytes-like object")
            if nbytes < 0:
                raise ValueError("negative buffersize in recv_into")
            if nbytes > len(view):
                raise ValueError("buffer too small for requested bytes")
            text = self._call("recv_into", flags, self.endpoint.receive, nbytes or len(view))
            view[: len(text)] = text
        return len(text)

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        with memoryview(data).cast("B") as view:
            return self._call("send", flags, self.endpoint.send, view)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        with memoryview(data).cast("B") as view:
            sent = 0
            while sent < len(view):
                sent += self._call("sendall", flags, self.endpoint.send, view[sent:])

    def sendmsg(
        self, buffers: Iterable[ReadableBuffer], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        if ancdata or address is not None:
            _refuse("socket.sendmsg() with ancillary data or an address", "a TCP connection carries text alone")
        return self.send(b"".join(bytes(memoryview(each)) for each in buffers), flags)

    # Options

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        value = self.endpoint.get_option(level, optname)
        if isinstance(value, int):
            return value.to_bytes(4, "little", signed=True)[:buflen] if buflen else value
        return value[:buflen] if buflen else int.from_bytes(value[:4], "little")

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None, /) -> None:
        if value is None:
            octets = bytes(optlen or 0)
        elif isinstance(value, int):
            octets = value.to_bytes(4, "little", signed=True)
        else:
            octets = bytes(value)
        self.endpoint.set_option(level, optname, octets)

    def get_inheritable(self) -> bool:
        return False

    def set_inheritable(self, inheritable: bool) -> None:
        """Without effect: there is no process that could inherit it."""

    # The end

    def shutdown(self, how: int, /) -> None:
        self.endpoint.shutdown(how)

    def _real_close(self) -> None:  # called by close() when the last of its files is closed
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.close()

    def detach(self) -> int:
        """Its number: socket.socket(fileno=number) has it again."""
        number = self.fileno()
        self._closed = True
        self._endpoint = None
        return number

    def dup(self) -> SimulatedSocket:
        self.endpoint.holders += 1
        twin = SimulatedSocket.of(self.endpoint)
        twin.settimeout(self._timeout_s)
        return twin

    def __del__(self) -> None:
        endpoint = getattr(self, "_endpoint", None)
        if endpoint is not None and endpoint.is_open and endpoint.owner is None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._real_close()

    def __hash__(self) -> int:
        """By its number: sets of sockets have one order in every run."""
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _refused(name: str, remedy: str) -> Callable[..., NoReturn]:
    def refused(self: SimulatedSocket, *args: object, **kwargs: object) -> NoReturn:
        _refuse(f"socket.{name}()", remedy)

    refused.__name__ = name
    return refused


for _name, _remedy in (
    ("recvfrom", "use recv(): a TCP connection has one peer"),
    ("recvfrom_into", "use recv_into(): a TCP connection has one peer"),
    ("sendto", "use send(): a TCP connection has one peer"),
    ("recvmsg", "use recv(): there is no ancillary data"),
    ("recvmsg_into", "use recv_into(): there is no ancillary data"),
    ("sendfile", "it blocks; await loop.sock_sendfile()"),
):
    setattr(SimulatedSocket, _name, _refused(_name, _remedy))


def _made(family: int, type: int, proto: int) -> Endpoint:
    kind = socket.SOCK_STREAM if type == -1 else type & ~_NOT_OF_TYPE
    if kind == socket.SOCK_DGRAM:
        _refuse("socket.socket(), for UDP,", "the simulated hosts speak TCP")
    if family not in (-1, *_FAMILIES):
        _refuse("socket.socket(), of another family than AF_INET and AF_INET6,", "the simulated hosts speak TCP/IP")
    if kind != socket.SOCK_STREAM or proto not in (-1, 0, socket.IPPROTO_TCP):
        _refuse("socket.socket(), for another protocol,", "the simulated hosts speak TCP")
    host = CURRENT_HOST.get()
    if host is None:
        _refuse("a socket of a program that is on no host", "start it with spawn() or run() of a simulated host")
    loop = cast("SocketLoop", host.loop)
    return Endpoint(host, socket.AF_INET if family == -1 else family, loop.descriptors)


def _found(number: int) -> Endpoint:
    """What detach() left. Raises OSError (EBADF)."""
    loop = asyncio._get_running_loop()
    endpoint = getattr(loop, "descriptors", {}).get(number)
    if endpoint is None and 0 <= number < Descriptors.FIRST:
        _refuse(f"socket.socket(fileno={number})", "the descriptor is none of a simulated socket")
    if not isinstance(endpoint, Endpoint):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return endpoint


def _loop_of(endpoint: Endpoint) -> SocketLoop:
    return cast("SocketLoop", endpoint.host.loop)


def _flow(endpoint: Endpoint) -> tuple[bytes, int, bytes, int]:
    assert endpoint.connection is not None
    return endpoint.connection.flow


def _refuse_to_block(name: str) -> NoReturn:
    awaited = "sock_sendall" if name.startswith("send") else f"sock_{name}"
    remedy = f"it would block every host at once; setblocking(False), and await loop.{awaited}()"
    _refuse(f"socket.{name}() of a blocking socket", remedy)


def _refuse(what: str, remedy: str) -> NoReturn:
    loop = asyncio._get_running_loop()
    if loop is not None and hasattr(loop, "_refuse"):
        loop._refuse(what, remedy)
    raise refusal(what, remedy)
