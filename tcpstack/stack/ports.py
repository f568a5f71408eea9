"""Ephemeral ports, chosen at random (RFC 6056 3.3.1): a port that cannot be guessed is a second secret."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random

FIRST, LAST = 32768, 60999  # Linux's ip_local_port_range


def choose_port(random: Random, is_free: Callable[[int], bool]) -> int | None:
    """A port for which `is_free` holds, or None where none is left."""
    count = LAST - FIRST + 1
    start = random.randrange(count)
    for step in range(count):
        port = FIRST + (start + step) % count
        if is_free(port):
            return port
    return None


def local_port(
    wanted: int,
    random: Random,
    is_taken: Callable[[int], bool],
    is_listened_on: Callable[[int], bool],
    remote_name: str,
) -> int:
    """The port that a connection to `remote_name` starts from: `wanted`, or for 0 one that is chosen.

    Raises OSError: EADDRINUSE where such a connection is there already, EADDRNOTAVAIL where no port is left.
    """
    if wanted:
        if is_taken(wanted):
            raise OSError(errno.EADDRINUSE, f"port {wanted} already has a connection to {remote_name}")
        return wanted
    chosen = choose_port(random, lambda port: not is_taken(port) and not is_listened_on(port))
    if chosen is None:
        raise OSError(errno.EADDRNOTAVAIL, f"no ephemeral port is free towards {remote_name}")
    return chosen
