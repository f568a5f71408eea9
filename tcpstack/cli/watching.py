"""What can be seen of a host from the command line: lines on a stream, and a capture in a file."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import TextIO

from ..core.events import Tracer
from ..device.base import Device
from ..observe.fanout import fan_out
from ..observe.ladder import DEFAULT_WIDTH, Ladder
from ..observe.pcapng import PacketTap, PcapngWriter
from ..observe.summary import Summary
from .descriptors import abandon, tell

MAX_WIDTH = 140
"""A ladder gains nothing from more columns."""


class Printer:
    """Writes text to `stream`, whole and at once. When that fails, as when nobody reads it any more, it calls
    `on_gone`, and is silent from then on; `error` says why."""

    def __init__(self, stream: TextIO, on_gone: Callable[[], object] = lambda: None) -> None:
        self.stream = stream
        self.error: OSError | None = None
        self._on_gone = on_gone

    def __call__(self, text: str) -> None:
        if self.error is not None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as error:
            self.error = error
            abandon(self.stream)
            self._on_gone()

    def line(self, text: str) -> None:
        """Write one line, its end added."""
        self(text + "\n")


class Watch:
    """The tracer that the command line asked for, and the capture.

    verbose  draws the ladder on the printer; else `summary` says whether each connection gets a line there
    trace    the file for the capture; it is opened at once. Raises OSError where it cannot be.

    `device` puts the capture's tap around a device and is to be called before `tracer`.
    """

    def __init__(self, printer: Printer, *, verbose: bool, summary: bool, trace: str | None) -> None:
        self._ladder = _ladder(printer) if verbose else None
        self._summary = Summary(printer.line) if summary and not verbose else None
        self._tap: PacketTap | None = None
        self._writer: PcapngWriter | None = None
        if trace is not None:
            offset_ns = time.time_ns() - time.monotonic_ns()
            try:
                on_error = partial(_tell_that_the_capture_ends, trace)
                self._writer = PcapngWriter(trace, epoch_offset_ns=offset_ns, on_error=on_error)
            except OSError as error:
                raise OSError(error.errno, f"the capture {trace} cannot be written: {error.strerror}") from error

    def device(self, device: Device) -> Device:
        """The device to use instead of `device`: one that records its packets, or itself."""
        if self._writer is None:
            return device
        self._tap = PacketTap(device, self._writer)
        return self._tap

    @property
    def tracer(self) -> Tracer | None:
        """To be given to the stack; None where there is nothing to see."""
        return fan_out(self._tap, self._ladder, self._summary)

    def close(self) -> None:
        """Draw what waits to be drawn, and end the capture."""
        if self._ladder is not None:
            self._ladder.flush()
        if self._writer is not None:
            self._writer.close()


def _ladder(printer: Printer) -> Ladder:
    """A ladder drawn as things happen, as wide and colourful as the terminal allows. In a running loop."""
    stream = printer.stream
    terminal = stream.isatty()
    columns = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    encoding = (stream.encoding or "").lower().replace("-", "")
    return Ladder(
        printer,
        peer="kernel",
        width=min(columns, MAX_WIDTH) if terminal else DEFAULT_WIDTH,
        color=terminal and "NO_COLOR" not in os.environ,
        ascii=not encoding.startswith("utf"),
        defer=asyncio.get_running_loop().call_soon,
    )


def _tell_that_the_capture_ends(trace: str, error: OSError) -> None:
    tell(f"the capture {trace} ends here, and all else goes on: {error.strerror or error}")
