"""Pipes for tests, and what is in them."""

from __future__ import annotations

import os

MEGABYTE = bytes(range(256)) * 4096


class Descriptors:
    """Pipes that are closed with the test."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def close(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        os.close(descriptor)

    def close_all(self) -> None:
        for descriptor in list(self._open):
            self.close(descriptor)


def read_now(descriptor: int) -> bytes:
    """What a pipe holds at the moment."""
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""
