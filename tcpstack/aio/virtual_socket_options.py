"""The options of a simulated socket: those that the engine has, and those that change nothing but are remembered."""

from __future__ import annotations

import copy
import errno
import os
import socket
import struct
from dataclasses import replace
from typing import Any, Self

from ..core.config import MILLISECOND_NS, SECOND_NS, Config
from ..core.connection import Connection
from .driver import Driver
from .pseudo_socket import CORK, IP_FIELDS, KEEPALIVE, MAX_KEEPALIVE_PROBES, MAX_KEEPALIVE_S, REMEMBERED, USER_TIMEOUT

SEND_BUFFER_BYTES = 256 * 1024
"""What send() takes in until some of it has left, where SO_SNDBUF says nothing else."""
_MOST_BUFFER_BYTES = 1 << 30
_ECN_BITS = 3
_CONFIG_FIELDS = {"on": "keepalive", "idle_ns": "keepalive_idle_ns", "interval_ns": "keepalive_interval_ns",
                  "probes": "keepalive_probes"}  # fmt: skip
_LINGER = struct.Struct("ii")


class SocketOptions:
    """config      what a connection that is opened with these options starts with
    nodelay     TCP_NODELAY;  corked: TCP_CORK;  user_timeout_ms: TCP_USER_TIMEOUT, 0 for the stack's own
    resets      SO_LINGER with a time of 0: close() is a reset
    send_bytes  SO_SNDBUF, as Linux doubles it: what send() takes in until some of it has left
    v6only      IPV6_V6ONLY

    Buffers of a receiver can be set until the socket is opened, and are remembered afterwards.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.nodelay = False
        self.corked = False
        self.user_timeout_ms = 0
        self.resets = False
        self.send_bytes = SEND_BUFFER_BYTES
        self.v6only = False
        self._linger = _LINGER.pack(0, 0)
        self._remembered: dict[tuple[int, int], int] = {}

    def inherited(self) -> Self:
        """What an accepted socket has of its listener's."""
        return copy.copy(self)

    def apply(self, driver: Driver, connection: Connection) -> None:
        """Have the connection follow."""
        now_ns, config = driver.clock(), self.config
        connection.hop_limit, connection.traffic_class = config.hop_limit, config.traffic_class
        if connection.nodelay != self.nodelay:
            driver.stack.set_nodelay(connection, self.nodelay, now_ns)
        if connection.corked != self.corked:
            driver.stack.set_corked(connection, self.corked, now_ns)
        if connection.user_timeout_ns != (self.user_timeout_ms * MILLISECOND_NS or config.r2_ns):
            driver.stack.set_user_timeout(connection, self.user_timeout_ms * MILLISECOND_NS or None, now_ns)
        if connection.keepalive != config.keepalive_settings:
            driver.stack.set_keepalive(connection, config.keepalive_settings, now_ns)

    def get(self, family: socket.AddressFamily, level: int, name: int) -> int | bytes:
        """The option's value. Raises OSError (ENOPROTOOPT) for one that is not there."""
        config, option = self.config, (level, name)
        if option == (socket.IPPROTO_TCP, socket.TCP_NODELAY):
            return int(self.nodelay)
        if option == CORK:
            return int(self.corked)
        if option == USER_TIMEOUT:
            return self.user_timeout_ms
        if (field := KEEPALIVE.get(option)) is not None:
            value = int(getattr(config.keepalive_settings, field))
            return -(-value // SECOND_NS) if field.endswith("_ns") else value
        if (field := IP_FIELDS.get((family, *option))) is not None:
            return int(getattr(config, field))
        if option == (socket.SOL_SOCKET, socket.SO_LINGER):
            return self._linger
        if option == (socket.SOL_SOCKET, socket.SO_SNDBUF):
            return self.send_bytes
        if option == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            return config.receive_buffer_bytes
        if option == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) and family == socket.AF_INET6:
            return int(self.v6only)
        if option in REMEMBERED:
            return self._remembered.get(option, 0)
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def set(self, family: socket.AddressFamily, level: int, name: int, octets: bytes) -> None:
        """Set an option. Raises OSError: ENOPROTOOPT for one that is not there, EINVAL for a value that is none."""
        option = (level, name)
        value = int.from_bytes(octets[:4], "little", signed=True)
        if option == (socket.IPPROTO_TCP, socket.TCP_NODELAY):
            self.nodelay = bool(value)
        elif option == CORK:
            self.corked = bool(value)
        elif option == USER_TIMEOUT:
            if value < 0:
                raise OSError(errno.EINVAL, f"must be 0 to 2^31 - 1 ms, not {value}")
            self.user_timeout_ms = value
        elif (field := KEEPALIVE.get(option)) is not None:
            self._set_keepalive(field, value)
        elif (field := IP_FIELDS.get((family, *option))) is not None:
            self._set_ip_field(field, value)
        elif option == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._set_linger(octets)
        elif option == (socket.SOL_SOCKET, socket.SO_SNDBUF):
            self.send_bytes = _doubled(value)
        elif option == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            self.config = replace(self.config, receive_buffer_bytes=_doubled(value))
        elif option == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) and family == socket.AF_INET6:
            self.v6only = bool(value)
        elif option in REMEMBERED:
            self._remembered[option] = value
        else:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def _set_keepalive(self, field: str, number: int) -> None:
        limit = MAX_KEEPALIVE_PROBES if field == "probes" else MAX_KEEPALIVE_S
        if field != "on" and not 1 <= number <= limit:
            raise OSError(errno.EINVAL, f"must be 1 to {limit}, not {number}")
        value: Any = bool(number) if field == "on" else number * SECOND_NS if field.endswith("_ns") else number
        self.config = replace(self.config, **{_CONFIG_FIELDS[field]: value})

    def _set_ip_field(self, field: str, number: int) -> None:
        try:
            self.config = replace(self.config, **{field: number & ~_ECN_BITS if field == "traffic_class" else number})  # type: ignore[arg-type]
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None

    def _set_linger(self, octets: bytes) -> None:
        if len(octets) < _LINGER.size:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._linger = octets[: _LINGER.size]
        on, seconds = _LINGER.unpack(self._linger)
        self.resets = bool(on) and seconds == 0


def _doubled(value: int) -> int:
    """As Linux has it, whose own overhead is in the buffer as well."""
    return min(max(2 * value, 1), _MOST_BUFFER_BYTES)
