"""Memory to read packets into, the same again and again, so that it stays in the processor's cache.

What was read is handed on as a view, and whoever wants the text for longer just keeps the view. A bytearray that has
views can't change its size; so trying that tells whether anybody still looks at it (BufferError says so), and nothing
has to be given back.
"""

from __future__ import annotations

from ..core.segment import Buffer

_LENT_FROM_BYTES = 16 * 1024
"""Less than this is copied: a kept view holds the whole buffer."""
_MOST = 16


class ReadBuffers:
    """Buffers of `size` octets. Read into `current`, then say by `take` how much it was."""

    __slots__ = ("_buffers", "_size", "current")

    def __init__(self, size: int) -> None:
        self._size = size
        self.current = bytearray(size)
        self._buffers = [self.current]

    def take(self, start: int, stop: int) -> Buffer:
        """Octets `start` to `stop` of what was read, good for as long as they are kept."""
        current = self.current
        view = memoryview(current)[start:stop]
        if stop - start < _LENT_FROM_BYTES:
            return bytes(view)
        self.current = self._unused()
        return view

    def _unused(self) -> bytearray:
        buffers = self._buffers
        for buffer in buffers:  # the first ones first: the fewer are used, the better they stay in the cache
            try:
                buffer.pop()
            except BufferError:
                continue
            buffer.append(0)
            return buffer
        if len(buffers) == _MOST:
            del buffers[0]  # somebody keeps it: it is theirs
        buffers.append(bytearray(self._size))
        return buffers[-1]
