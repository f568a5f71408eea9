"""Ephemeral ports, chosen at random (RFC 6056 3.3.1): a port that cannot be guessed is a second secret."""

from __future__ import annotations

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
