"""The socket options that scripts set, as far as the engine has what they stand for. The others are refused, so that
no drill passes because an option did nothing."""

from __future__ import annotations

import errno
from dataclasses import replace

from ..core.config import MILLISECOND_NS, SECOND_NS, Config
from ..core.congestion import CONTROLLERS
from ..core.connection import Connection
from . import tcp_info
from .script import Unsupported
from .symbols import SOCKET_OPTIONS, SYMBOLS, TCP_OPTIONS

_SOL_IP, _SOL_SOCKET, _SOL_TCP = SYMBOLS["SOL_IP"], SYMBOLS["SOL_SOCKET"], SYMBOLS["SOL_TCP"]
_DEFAULT_SEND_BUFFER = 2_626_560  # what getsockopt(SO_SNDBUF) says where nobody set it: nothing holds a write back
_UNCONNECTED_MSS = 536  # what Linux says of a socket without a connection, of IPv6 too
_MAX_KEEPALIVE_S, _MAX_KEEPALIVE_PROBES = 32767, 127  # Linux's
_READABLE_OF_SOCKETS = ("SO_SNDBUF", "SO_RCVBUF", "SO_LINGER", "SO_ERROR", "SO_KEEPALIVE")
_READABLE_OF_TCP = (
    "TCP_NODELAY", "TCP_CORK", "TCP_MAXSEG", "TCP_CONGESTION", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT",
)  # fmt: skip
_CONGESTION = {"reno": "newreno", "newreno": "newreno"}
_HARMLESS = frozenset({SYMBOLS["SO_REUSEADDR"], SYMBOLS["SO_REUSEPORT"], SYMBOLS["SO_PRIORITY"], SYMBOLS["SO_MARK"]})
"""Of SOL_SOCKET: they change nothing that a script could see."""


class Options:
    """config    what a connection that is opened with these options starts with
    linger_s  of SO_LINGER, None where it is off
    corked    of TCP_CORK
    """

    __slots__ = ("_ip_fields", "_nodelay", "_send_bytes", "config", "corked", "linger_s")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.linger_s: int | None = None
        self.corked = False
        self._ip_fields: dict[str, int] = {}  # what of Connection's was set
        self._nodelay: bool | None = None
        self._send_bytes: int | None = None

    def inherit(self, other: Options) -> None:
        """Take over what an accepted socket has from its listener."""
        self.linger_s, self._nodelay, self._send_bytes = other.linger_s, other._nodelay, other._send_bytes
        self.corked, self._ip_fields = other.corked, dict(other._ip_fields)

    def apply(self, connection: Connection, now_ns: int) -> None:
        """Set on a connection what is the connection's."""
        connection.set_user_timeout(self.config.r2_ns, now_ns)
        connection.corked = self.corked
        for name, value in self._ip_fields.items():
            setattr(connection, name, value)
        if self._nodelay is not None:
            connection.nodelay = self._nodelay

    def send_room(self, connection: Connection) -> int | None:
        """How many octets a write may queue now; None where SO_SNDBUF was never set."""
        if self._send_bytes is None:
            return None
        outstanding = tcp_info.number(connection.status(), "unacknowledged_bytes")
        return max(self._send_bytes - outstanding - connection.unsent_bytes, 0)

    def set(self, level: int, name: int, octets: bytes, *, opened: bool) -> int:
        """0, or the errno that setsockopt fails with; `opened` sockets listen or have a connection. Raises Unsupported
        for what the engine does not have."""
        value = int.from_bytes(octets[:4], "little", signed=True)
        if level == _SOL_SOCKET and name in _HARMLESS:
            return 0
        match level, name:
            case (1, 7):  # SO_SNDBUF: Linux doubles what it is asked for
                self._send_bytes = 2 * value
            case (1, 8):  # SO_RCVBUF
                return self._receive_buffer(2 * value, opened)
            case (1, 13):  # SO_LINGER
                self.linger_s = int.from_bytes(octets[4:8], "little") if value else None
                if self.linger_s:
                    raise Unsupported("SO_LINGER with a time is not there on the engine: with 0, or off")
            case (1, 9):  # SO_KEEPALIVE
                self.config = replace(self.config, keepalive=bool(value))
            case (0, 1) | (41, 67) if 0 <= value <= 255:  # IP_TOS, IPV6_TCLASS: the bits of ECN are not the user's
                self._ip_fields["traffic_class"] = value & ~3
            case (0, 2) | (41, 16) if 1 <= value <= 255:  # IP_TTL, IPV6_UNICAST_HOPS
                self._ip_fields["hop_limit"] = value
            case (0, 1 | 2) | (41, 16 | 67):
                return errno.EINVAL
            case (6, 1):  # TCP_NODELAY
                self._nodelay = bool(value)
            case (6, 3):  # TCP_CORK
                self.corked = bool(value)
            case (6, 4) if 1 <= value <= _MAX_KEEPALIVE_S:  # TCP_KEEPIDLE
                self.config = replace(self.config, keepalive_idle_ns=value * SECOND_NS)
            case (6, 5) if 1 <= value <= _MAX_KEEPALIVE_S:  # TCP_KEEPINTVL
                self.config = replace(self.config, keepalive_interval_ns=value * SECOND_NS)
            case (6, 6) if 1 <= value <= _MAX_KEEPALIVE_PROBES:  # TCP_KEEPCNT
                self.config = replace(self.config, keepalive_probes=value)
            case (6, 4 | 5 | 6):
                return errno.EINVAL
            case (6, 12) if not value:  # TCP_QUICKACK off: acknowledgements are delayed from the first, as ours are
                pass
            case (6, 13):  # TCP_CONGESTION
                return self._congestion(octets.rstrip(b"\0").decode("ascii", "replace"), opened)
            case (6, 18) if value > 0:  # TCP_USER_TIMEOUT
                self.config = replace(self.config, r2_ns=value * MILLISECOND_NS)
            case _:
                raise Unsupported(f"setsockopt({_name(level, name)}) with this value is not there on the engine")
        return 0

    def get(self, level: int, name: int, connection: Connection | None) -> bytes:
        """The option's octets. Raises Unsupported for what the engine does not have."""
        check_readable(level, name)
        match level, name:
            case (1, 7):
                number = self._send_bytes or _DEFAULT_SEND_BUFFER
            case (1, 8):
                number = self.config.receive_buffer_bytes
            case (1, 13):
                number = 0 if self.linger_s is None else 1
                return number.to_bytes(4, "little") + (self.linger_s or 0).to_bytes(4, "little")
            case (1, 9):
                number = int(self.config.keepalive)
            case (6, 4):
                number = self.config.keepalive_idle_ns // SECOND_NS
            case (6, 5):
                number = self.config.keepalive_interval_ns // SECOND_NS
            case (6, 6):
                number = self.config.keepalive_probes
            case (6, 1):
                number = int(connection.nodelay if connection is not None else bool(self._nodelay))
            case (6, 3):
                number = int(self.corked)
            case (6, 2) if connection is not None:
                number = tcp_info.number(connection.status(), "snd_mss")
            case (6, 2):
                number = _UNCONNECTED_MSS
            case _:
                return b"reno" if self.config.congestion == "newreno" else self.config.congestion.encode()
        return number.to_bytes(4, "little")

    def _receive_buffer(self, size: int, opened: bool) -> int:
        if opened:
            raise Unsupported("setsockopt(SO_RCVBUF) works on the engine before listen() or connect() only")
        self.config = replace(self.config, receive_buffer_bytes=min(max(size, 1), 1 << 30))
        return 0

    def _congestion(self, name: str, opened: bool) -> int:
        chosen = _CONGESTION.get(name, name)
        if chosen not in CONTROLLERS:
            return errno.ENOENT
        if opened and chosen != self.config.congestion:
            raise Unsupported("setsockopt(TCP_CONGESTION) works on the engine before listen() or connect() only")
        self.config = replace(self.config, congestion=chosen)
        return 0


def check_readable(level: int, name: int) -> None:
    """Raises Unsupported for an option that getsockopt() does not tell."""
    known = {1: _READABLE_OF_SOCKETS, 6: _READABLE_OF_TCP}.get(level, ())
    if not any(name == SYMBOLS[each] for each in known):
        raise Unsupported(f"getsockopt({_name(level, name)}) is not there on the engine")


def _name(level: int, name: int) -> str:
    names = TCP_OPTIONS if level == _SOL_TCP else SOCKET_OPTIONS
    prefix = {_SOL_IP: "IP_", _SOL_SOCKET: "SO_", _SOL_TCP: "TCP_"}.get(level, "IPV6_")
    found = (known for known, number in names.items() if number == name and known.startswith(prefix))
    return next(found, f"level {level}, option {name}")
