"""What `get_extra_info("socket")` gives: the look of a socket, for programs that set options and ask names.

There is no kernel socket behind it, so `fileno()` is -1 and there is nothing to read from or write to.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from ..core.config import MILLISECOND_NS, SECOND_NS
from ..core.connection import Connection
from ..core.keepalive import KeepAliveSettings
from ..stack.listener import Listener

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""As Python's sockets have it: (address, port), for IPv6 with flow label and scope, both 0 here."""

_SO_LINGER = (socket.SOL_SOCKET, socket.SO_LINGER)
_LINGER = struct.Struct("ii")
_IPPROTO_TCP = socket.IPPROTO_TCP

# Accepted and remembered, without effect on the engine: programs set them unasked and do not expect to fail.
REMEMBERED = frozenset(
    (level, getattr(socket, name))
    for level, name in (
        (socket.SOL_SOCKET, "SO_REUSEADDR"),
        (socket.SOL_SOCKET, "SO_REUSEPORT"),
        (socket.SOL_SOCKET, "SO_RCVBUF"),
        (socket.SOL_SOCKET, "SO_SNDBUF"),
        (_IPPROTO_TCP, "TCP_QUICKACK"),
    )
    if hasattr(socket, name)
)

# Attributes of the connection, which go into each packet's IP header.
IP_FIELDS = {
    (socket.AF_INET, socket.IPPROTO_IP, socket.IP_TOS): "traffic_class",
    (socket.AF_INET, socket.IPPROTO_IP, socket.IP_TTL): "hop_limit",
    (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_TCLASS): "traffic_class",
    (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): "hop_limit",
}
_ECN_BITS = 3
CORK = (_IPPROTO_TCP, getattr(socket, "TCP_CORK", 3))
USER_TIMEOUT = (_IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", 18))

# Of KeepAliveSettings.
KEEPALIVE = {(socket.SOL_SOCKET, socket.SO_KEEPALIVE): "on"} | {
    (_IPPROTO_TCP, getattr(socket, name)): field
    for name, field in (("TCP_KEEPIDLE", "idle_ns"), ("TCP_KEEPINTVL", "interval_ns"), ("TCP_KEEPCNT", "probes"))
    if hasattr(socket, name)
}
MAX_KEEPALIVE_S, MAX_KEEPALIVE_PROBES = 32767, 127  # as Linux


def socket_address(address: bytes, port: int) -> SocketAddress:
    """The address tuple of a packed address (4 or 16 octets) and a port."""
    if len(address) == 4:
        return (socket.inet_ntop(socket.AF_INET, address), port)
    return (socket.inet_ntop(socket.AF_INET6, address), port, 0, 0)


class PseudoSocket:
    """A connection's or a listener's socket as far as names and options go.

    SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT act on the connection, through `set_keepalive`, or on the
    connections that the listener is still to accept. TCP_NODELAY, TCP_CORK and TCP_USER_TIMEOUT act on the connection,
    through `set_nodelay`, `set_corked` and `set_user_timeout`; so do IP_TOS and IP_TTL, for IPv6 IPV6_TCLASS and
    IPV6_UNICAST_HOPS, but not on a listener, whose Config has what of them there is. SO_LINGER with a time of 0 makes a
    reset of the end of the connection. Buffer sizes and address reuse are accepted and remembered only. Any other
    option raises OSError(ENOPROTOOPT), as a kernel without it would.
    """

    __slots__ = (
        "_conn", "_linger", "_owner", "_peername", "_remembered", "_set_corked", "_set_keepalive", "_set_nodelay",
        "_set_user_timeout", "_sockname",
    )  # fmt: skip

    def __init__(
        self,
        owner: Connection | Listener,
        sockname: SocketAddress,
        peername: SocketAddress | None,
        set_nodelay: Callable[[bool], None] | None = None,
        set_keepalive: Callable[[KeepAliveSettings], None] | None = None,
        set_corked: Callable[[bool], None] | None = None,
        set_user_timeout: Callable[[int | None], None] | None = None,
    ) -> None:
        self._owner = owner
        self._conn = owner if isinstance(owner, Connection) else None
        self._set_keepalive = set_keepalive
        self._set_nodelay = set_nodelay
        self._set_corked = set_corked
        self._set_user_timeout = set_user_timeout
        self._sockname = sockname
        self._peername = peername
        self._linger = _LINGER.pack(0, 0)
        self._remembered: dict[tuple[int, int], int] = {}

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET if len(self._sockname) == 2 else socket.AF_INET6

    @property
    def type(self) -> socket.SocketKind:
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return _IPPROTO_TCP

    @property
    def resets(self) -> bool:
        """Whether SO_LINGER has the connection end with a RST."""
        on, seconds = _LINGER.unpack(self._linger)
        return bool(on) and seconds == 0

    def fileno(self) -> int:
        """-1, as a closed socket's: there is no descriptor."""
        return -1

    def getsockname(self) -> SocketAddress:
        return self._sockname

    def getpeername(self) -> SocketAddress:
        """Raises OSError(ENOTCONN) for a listener's socket."""
        if self._peername is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._peername

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> int | bytes:
        """The option's value; as bytes where `buflen` is given. OSError(ENOPROTOOPT) for an unknown one."""
        if (level, optname) == _SO_LINGER:
            return self._linger[:buflen] if buflen else _LINGER.unpack(self._linger)[0]
        value = self._option(level, optname)
        return value.to_bytes(4, "little")[:buflen] if buflen else value

    def _option(self, level: int, optname: int) -> int:
        conn = self._conn
        if (level, optname) == (_IPPROTO_TCP, socket.TCP_NODELAY):
            return int(conn is not None and conn.nodelay)
        if conn is not None and (level, optname) == CORK:
            return int(conn.corked)
        if conn is not None and (level, optname) == USER_TIMEOUT:
            return conn.user_timeout_ns // MILLISECOND_NS
        if conn is not None and (name := IP_FIELDS.get((self.family, level, optname))) is not None:
            return int(getattr(conn, name))
        if (field := KEEPALIVE.get((level, optname))) is not None:
            value = int(getattr(self._owner.keepalive, field))
            return -(-value // SECOND_NS) if field.endswith("_ns") else value
        if level == socket.SOL_SOCKET:
            if optname == socket.SO_ERROR:
                return (conn.error.errno or 0) if conn is not None and conn.error is not None else 0
            if optname == socket.SO_TYPE:
                return int(socket.SOCK_STREAM)
            if optname == socket.SO_ACCEPTCONN:
                return int(conn is None)
        if (level, optname) in REMEMBERED:
            return self._remembered.get((level, optname), 0)
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def setsockopt(self, level: int, optname: int, value: int | bytes | bytearray) -> None:
        """Set an option (see the class). Raises OSError(ENOPROTOOPT) for an unknown one, EINVAL for a hop limit,
        traffic class, number of milliseconds (0: the Config's), of seconds (1 to 32767) or of probes (1 to 127) that is
        none. In a traffic class the two bits of ECN are not the user's, and ignored as on Linux."""
        if (level, optname) == _SO_LINGER:
            if isinstance(value, int) or len(value) < _LINGER.size:
                raise OSError(errno.EINVAL, "SO_LINGER takes a struct linger: struct.pack('ii', on, seconds)")
            self._linger = bytes(value[: _LINGER.size])
            return
        number = value if isinstance(value, int) else int.from_bytes(value, "little")
        if (level, optname) == (_IPPROTO_TCP, socket.TCP_NODELAY):
            if self._set_nodelay is not None:
                self._set_nodelay(bool(number))
        elif (level, optname) == CORK and self._set_corked is not None:
            self._set_corked(bool(number))
        elif (level, optname) == USER_TIMEOUT and self._set_user_timeout is not None:
            if not 0 <= number < 1 << 31:
                raise OSError(errno.EINVAL, f"must be 0 to 2^31 - 1 ms, not {number}")
            self._set_user_timeout(number * MILLISECOND_NS or None)
        elif self._conn is not None and (name := IP_FIELDS.get((self.family, level, optname))) is not None:
            self._set_ip_field(self._conn, name, number)
        elif (field := KEEPALIVE.get((level, optname))) is not None:
            self._change_keepalive(field, number)
        elif (level, optname) in REMEMBERED:
            self._remembered[level, optname] = number
        else:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def _set_ip_field(self, conn: Connection, name: str, number: int) -> None:
        try:
            setattr(conn, name, number & ~_ECN_BITS if name == "traffic_class" else number)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None

    def _change_keepalive(self, field: str, number: int) -> None:
        value: Any = number * SECOND_NS if field.endswith("_ns") else number
        limit = MAX_KEEPALIVE_PROBES if field == "probes" else MAX_KEEPALIVE_S
        if field == "on":
            value = bool(number)
        elif not 1 <= number <= limit:
            raise OSError(errno.EINVAL, f"must be 1 to {limit}, not {number}")
        settings = self._owner.keepalive._replace(**{field: value})
        if isinstance(self._owner, Listener):
            self._owner.keepalive = settings
        elif self._set_keepalive is not None:
            self._set_keepalive(settings)

    def gettimeout(self) -> float:
        """0.0: non-blocking, as every socket under asyncio."""
        return 0.0

    def settimeout(self, value: float | None) -> None:
        """Only 0 is possible: raises ValueError for anything else."""
        if value != 0:
            raise ValueError("settimeout(): only 0 timeout allowed on transport sockets")

    def setblocking(self, flag: bool) -> None:
        """Only False is possible: raises ValueError for True."""
        if flag:
            raise ValueError("setblocking(): transport sockets cannot be blocking")

    def __repr__(self) -> str:
        peer = f", raddr={self._peername}" if self._peername is not None else ""
        return f"<PseudoSocket laddr={self._sockname}{peer}>"
