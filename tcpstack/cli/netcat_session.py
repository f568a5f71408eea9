"""What netcat does with a connection: stdin goes to the peer, what the peer sends goes to stdout, and at some point
it is over. The rules of the end are OpenBSD nc's, and those of the pace are the descriptors' and the windows'."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import cast

from ..aio.transport import TcpTransport
from .descriptors import unwritable
from .standard_streams import Input, Output

SILENCE_S = 1.0
"""How long stdin has to be silent before a listener whose peer has closed ends over it."""


class Session(asyncio.Protocol):
    """One conversation between descriptors and a connection: a protocol for an asyncio transport.

    stdin, stdout  the descriptors
    shut_down      whether the end of stdin is the end of what we send (nc's -N); else the peer has to close
    listening      whether it also ends when the peer has closed and stdin is silent; else only stdin's end counts
    idle_s         after so many seconds in which nothing moved it is over; None for never
    on_connected   called in `connection_made`

    `over` gets None where the conversation is, and the OSError where stdin or stdout failed, and the connection was
    reset for that. What the peer said is on stdout by then. `lost` is what the connection died of, if it did; `idle`
    says that it was over because nothing moved.
    """

    def __init__(
        self,
        *,
        stdin: int = 0,
        stdout: int = 1,
        shut_down: bool = False,
        listening: bool = False,
        idle_s: float | None = None,
        on_connected: Callable[[asyncio.Transport], object] = lambda transport: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[OSError | None] = self._loop.create_future()
        self.lost: OSError | None = None
        self.idle = False
        self._shut_down = shut_down
        self._listening = listening
        self._idle_s = idle_s
        self._on_connected = on_connected
        self._transport: TcpTransport | None = None
        self._input = Input(stdin, self._on_input, self._on_input_end)
        self._output = Output(stdout, self._on_output_drained, self._on_output_error)
        self._input_over = False
        self._network_over = False
        self._moved_at = self._heard_at = 0.0
        self._given = 0  # octets from stdin to the transport
        self._acknowledged = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._silence_timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """End it: what stdin gave is still sent, and a FIN; but a reset where text of the peer's went nowhere, as the
        kernel has it for a process that ends. The descriptors are as they were before. Idempotent."""
        self._input.close()
        for timer in (self._idle_timer, self._silence_timer):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            if self._output.pending_bytes:
                self._transport.reset()
            else:
                self._transport.close()
        self._output.close()

    @property
    def undelivered(self) -> int:
        """Octets that stdin gave and the peer has not acknowledged."""
        status = self._transport.get_extra_info("tcpstack") if self._transport is not None else None
        if status is None:
            return 0
        acknowledged: int = status["snd_una"] - 1  # the SYN has a number of its own, and so has the FIN
        return max(self._given - acknowledged, 0)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(TcpTransport, transport)
        self._moved_at = self._heard_at = self._loop.time()
        if self._idle_s is not None:
            self._idle_timer = self._loop.call_later(self._idle_s, self._check_idle, self._idle_s)
        self._on_connected(self._transport)
        self._input.resume()

    def data_received(self, data: bytes) -> None:
        self._move()
        self._output.write(data)
        if self._output.pending_bytes and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._network_over = True
        self._move()
        self._look()
        return True  # our half stays open

    def pause_writing(self) -> None:
        self._input.pause()

    def resume_writing(self) -> None:
        self._move()
        if not self._input_over:
            self._heard_at = self._moved_at
            self._input.resume()
            self._look()

    def connection_lost(self, error: Exception | None) -> None:
        self._input.pause()
        self._input_over = self._network_over = True
        if error is not None:
            self.lost = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
        self._look()

    # What the descriptors call

    def _on_input(self, data: bytes) -> None:
        self._move()
        self._heard_at = self._moved_at
        assert self._transport is not None
        self._given += len(data)
        self._transport.write(data)

    def _on_input_end(self, error: OSError | None) -> None:
        assert self._transport is not None
        if error is not None:
            # A part of a file must not look like all of it.
            self._transport.reset()
            self._end(OSError(error.errno, f"standard input cannot be read: {error.strerror}"))
            return
        self._input_over = True
        self._move()
        if self._shut_down:
            self._transport.write_eof()
        self._look()

    def _on_output_drained(self) -> None:
        self._move()
        assert self._transport is not None
        self._transport.resume_reading()
        self._look()

    def _on_output_error(self, error: OSError) -> None:
        assert self._transport is not None
        self._transport.reset()
        self._end(unwritable(error))

    # When it is over

    def _look(self) -> None:
        if not self._network_over or self._output.pending_bytes:
            return
        if self._input_over:
            self._end(None)
        elif self._listening and self._input.reading and self._silence_timer is None:
            self._await_silence()

    def _await_silence(self) -> None:
        """nc would not read stdin any further here, and truncate what it did not read: a file's rest, say."""
        self._silence_timer = None
        silent_s = self._loop.time() - self._heard_at
        if not self._input.reading:
            return  # the peer is slow: resume_writing looks again
        if silent_s < SILENCE_S:
            self._silence_timer = self._loop.call_later(SILENCE_S - silent_s, self._await_silence)
        else:
            self._end(None)

    def _move(self) -> None:
        self._moved_at = self._loop.time()

    def _check_idle(self, idle_s: float) -> None:
        acknowledged = self._given - self.undelivered  # it may take long over what stdin gave at once
        if acknowledged != self._acknowledged:
            self._acknowledged = acknowledged
            self._move()
        left_s = self._moved_at + idle_s - self._loop.time()
        if left_s > 0:
            self._idle_timer = self._loop.call_later(left_s, self._check_idle, idle_s)
        else:
            self.idle = True
            self._end(None)

    def _end(self, error: OSError | None) -> None:
        if not self.over.done():
            self.over.set_result(error)
