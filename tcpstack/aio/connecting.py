"""Active opens: a host's name to the addresses that the stack can reach, then one attempt after the other.

Errors read as asyncio's, "[Errno 111] Connect call failed ('10.9.0.1', 8000)", and have the errno's class.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Collection

from ..core.config import Config
from ..core.connection import Connection
from ..core.readiness import CONNECTED, RESET
from ..device.base import DeviceError
from .driver import ConnectionUser, Driver
from .pseudo_socket import socket_address


async def connect(
    driver: Driver,
    host: str,
    port: int | str | bytes,
    *,
    local_addr: tuple[str, int] | None = None,
    config: Config | None = None,
) -> Connection:
    """A connection to `host` (an address or a name) that has reached ESTABLISHED; its `user` is not yet set. `port` may
    be a number in digits or the name of a service, as for asyncio.

    The addresses of a name are tried in the resolver's order, those of families that the stack has. Raises
    the error of the attempt, or an OSError that lists the errors where several attempts failed differently.
    Cancelled, it aborts the attempt under way.
    """
    number = port if isinstance(port, int) else await _service_port(driver.loop, port)
    local = await _local_socket(driver, local_addr)
    families = {interface.version for interface in driver.stack.addresses}
    candidates = await resolve(driver.loop, host, families)
    if local is not None:
        candidates = [address for address in candidates if len(address) == len(local[0])]
    errors: list[OSError] = []
    for address in candidates:
        try:
            return await _attempt(driver, address, number, local, config)
        except OSError as error:
            errors.append(error)
    if not errors:
        raise OSError(errno.ENETUNREACH, f"No address of {host!r} has a family that the stack can use")
    if len({str(error) for error in errors}) == 1:
        raise errors[0]
    raise OSError(f"Multiple exceptions: {', '.join(map(str, errors))}")


async def resolve(loop: asyncio.AbstractEventLoop, host: str, families: Collection[int]) -> list[bytes]:
    """The packed addresses of `host`: itself where it is an address, else what the resolver knows of
    `families` (IP versions, 4 and 6). Raises socket.gaierror where the name is unknown."""
    try:
        return [ipaddress.ip_address(host).packed]
    except ValueError:
        pass
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    known = [ipaddress.ip_address(entry[4][0]) for entry in found if entry[0] in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys(address.packed for address in known if address.version in families))


async def _service_port(loop: asyncio.AbstractEventLoop, port: str | bytes) -> int:
    try:
        return int(port)
    except ValueError:
        found = await loop.getaddrinfo(None, port, type=socket.SOCK_STREAM)
        return int(found[0][4][1])


async def _local_socket(driver: Driver, local_addr: tuple[str, int] | None) -> tuple[bytes, int] | None:
    if local_addr is None:
        return None
    host, port = local_addr
    return (await resolve(driver.loop, host, {4, 6}))[0], port


async def _attempt(
    driver: Driver, address: bytes, port: int, local: tuple[bytes, int] | None, config: Config | None
) -> Connection:
    local_address, local_port = local if local is not None else (None, 0)
    name = socket_address(address, port)
    stack = driver.stack
    try:
        conn = stack.connect(
            address, port, driver.clock(), local=local_address, lport=local_port, config=config
        )
    except OSError as error:
        raise OSError(error.errno, f"Connect call failed {name}: {error.strerror}") from error
    attempt = _Attempt(driver, conn)
    driver.attach(attempt, conn)
    driver.after_activity()
    try:
        await attempt.done
    except DeviceError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"Connect call failed {name}") from error
    except BaseException:
        driver.abort(conn)
        raise
    finally:
        attempt.detach()
    return conn


class _Attempt(ConnectionUser):
    """Waits for ESTABLISHED. What comes after it stays in the connection until a transport takes over."""

    __slots__ = ("_conn", "_driver", "done")

    def __init__(self, driver: Driver, conn: Connection) -> None:
        self._driver = driver
        self._conn = conn
        self.done: asyncio.Future[None] = driver.loop.create_future()

    def on_readiness(self, mask: int) -> None:
        if self.done.done():
            return
        if mask & CONNECTED:
            self.done.set_result(None)
        elif mask & RESET:
            assert self._conn.error is not None
            self.done.set_exception(self._conn.error)

    def on_failure(self, error: BaseException) -> None:
        self.detach()
        if not self.done.done():
            self.done.set_exception(error)

    def detach(self) -> None:
        if self._conn.user is self:
            self._driver.detach(self)
