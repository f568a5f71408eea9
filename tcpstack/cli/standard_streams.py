"""Standard input and output on an event loop, at the pace of what is at their other ends, and without blocking it.

A pipe or a terminal is opened a second time, through /proc, so that not blocking is a property of ours alone: the
flag belongs to the open file, which stdin, stdout and stderr often share with one another and with the shell. Where
that can't be (a socket, another user's pipe) the flag is set on the open file itself, and put back by `close`. What
cannot be polled, such as a file, is read and written as it is: there the loop waits for the disk, no longer.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

READ_BYTES = 256 * 1024
READS_PER_TURN = 4
"""After so many the loop gets its turn: the connection's packets and timers are due."""


class Input:
    """What can be read from `descriptor`: `on_data` gets it a chunk at a time, `on_end` comes once, at the end of
    file with None, or with the error that reading met. Nothing is read before `resume()`."""

    def __init__(
        self, descriptor: int, on_data: Callable[[bytes], object], on_end: Callable[[OSError | None], object]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = _File(descriptor, os.O_RDONLY)
        self._on_data = on_data
        self._on_end = on_end
        self._reading = False
        self._polling = False
        self._ended = False
        self._next_turn: asyncio.Handle | None = None

    @property
    def reading(self) -> bool:
        """Whether what arrives is taken: neither paused nor at the end."""
        return self._reading

    def resume(self) -> None:
        """Read on, from the loop's next turn."""
        if not self._reading and not self._ended:
            self._reading = True
            # Not only when the poll says so: it does not tell of the end of a FIFO that had no writer when opened.
            self._next_turn = self._loop.call_soon(self._read)

    def pause(self) -> None:
        """No `on_data` until `resume()`, also when called from one."""
        self._reading = False
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if self._polling:
            self._polling = False
            self._loop.remove_reader(self._file.descriptor)

    def close(self) -> None:
        """Read no more, and leave the descriptor as it was. Idempotent."""
        self._stop()
        self._file.close()

    def _read(self) -> None:
        self._next_turn = None
        for _ in range(READS_PER_TURN):
            try:
                data = os.read(self._file.descriptor, READ_BYTES)
            except BlockingIOError:
                if not self._polling:
                    self._polling = True
                    self._loop.add_reader(self._file.descriptor, self._read)
                return
            except OSError as error:
                self._stop()
                self._on_end(error)
                return
            if not data:
                self._stop()
                self._on_end(None)
                return
            self._on_data(data)
            if not self._reading:
                return
        if not self._polling:
            self._next_turn = self._loop.call_soon(self._read)

    def _stop(self) -> None:
        """Not yet as `close`: a socket that is stdin may be stdout too, which is still to be written."""
        self._ended = True
        self.pause()


class Output:
    """Takes what is to be written to `descriptor`; `pending_bytes` are those that do not fit yet, for whose sake the
    writer should pause. `on_drained` is called when none are left, `on_error` once, with the error (BrokenPipeError
    and its kin) after which everything is thrown away."""

    def __init__(
        self, descriptor: int, on_drained: Callable[[], object], on_error: Callable[[OSError], object]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = _File(descriptor, os.O_WRONLY)
        self._on_drained = on_drained
        self._on_error = on_error
        self._waiting: list[bytes | memoryview] = []
        self.pending_bytes = 0
        self._failed = False

    def write(self, data: bytes) -> None:
        """Write at once what fits. May call `on_error`, never `on_drained`."""
        if self._failed:
            return
        self._waiting.append(data)
        self.pending_bytes += len(data)
        if self.pending_bytes == len(data) and not self._flush() and not self._failed:
            self._loop.add_writer(self._file.descriptor, self._on_room)

    def close(self) -> None:
        """Write no more, and leave the descriptor as it was. Idempotent."""
        if self.pending_bytes and not self._failed:
            self._loop.remove_writer(self._file.descriptor)
        self._failed = True
        self._file.close()

    def _on_room(self) -> None:
        if self._flush():
            self._loop.remove_writer(self._file.descriptor)
            self._on_drained()

    def _flush(self) -> bool:
        """Whether all is written."""
        waiting = self._waiting
        try:
            while waiting:
                written = os.write(self._file.descriptor, waiting[0])
                self.pending_bytes -= written
                if written == len(waiting[0]):
                    del waiting[0]
                else:
                    waiting[0] = memoryview(waiting[0])[written:]
        except BlockingIOError:
            return False
        except OSError as error:
            self.close()
            self._on_error(error)
            return False
        return True


class _File:
    """A descriptor that does not block where it can be polled. `close` undoes what was done."""

    __slots__ = ("_opened", "_was_blocking", "closed", "descriptor")

    def __init__(self, descriptor: int, access: int) -> None:
        self.closed = False
        self.descriptor = descriptor
        self._opened = False
        self._was_blocking = False
        if not _can_be_polled(descriptor):
            return
        try:
            self.descriptor = os.open(f"/proc/self/fd/{descriptor}", access | os.O_NONBLOCK | os.O_NOCTTY)
            self._opened = True
        except OSError:
            self._was_blocking = os.get_blocking(descriptor)
            os.set_blocking(descriptor, False)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._opened:
            os.close(self.descriptor)
        elif self._was_blocking:
            os.set_blocking(self.descriptor, True)


def _can_be_polled(descriptor: int) -> bool:
    with select.epoll() as poll:
        try:
            poll.register(descriptor, 0)
        except PermissionError:
            return False
    return True
