"""What is kept of a simulated network where that is asked for: a ladder of its connections, a capture of packets."""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike
from typing import BinaryIO

from ..core.events import Tracer
from ..device.base import Device
from ..observe.fanout import fan_out
from ..observe.ladder import Ladder
from ..observe.pcapng import PacketTap, PcapngWriter
from ..observe.peer import KnownPeers
from ..observe.recording import Recording
from .clock import EPOCH_NS, START_NS
from .links import Interface


class Records:
    """The records of one network. Raises OSError where the capture cannot be written.

    names  what the hosts are called, by address
    """

    def __init__(self, *, ladder: bool, pcapng: str | PathLike[str] | BinaryIO | None) -> None:
        self.names: dict[bytes, str] = {}
        self._recording: Recording | None = None
        self._writer: PcapngWriter | None = None
        if ladder:
            peers = KnownPeers()
            self._recording = Recording(Ladder(names=self.names, known=peers), peers)
        if pcapng is not None:
            self._writer = PcapngWriter(pcapng, epoch_offset_ns=EPOCH_NS - START_NS)

    def attach(self, interface: Interface, tracer: Tracer | None) -> tuple[Device, Tracer | None]:
        """The device and the tracer for a stack at this interface, whose events `tracer` is to have."""
        interface.tracers = tuple(each for each in (tracer, self._recording) if each is not None)
        recording = None if self._recording is None else self._recording.of(interface.name)
        if self._writer is None:
            return interface, fan_out(tracer, recording)
        interface.tap = PacketTap(interface, self._writer)
        return interface.tap, fan_out(interface.tap, tracer, recording)

    def ladder(self, hosts: Collection[str], last_lines: int | None) -> str:
        """The ladder of the connections that all of these hosts take part in. Raises RuntimeError where none was asked
        for, ValueError where `last_lines` is less than 1."""
        if self._recording is None:
            raise RuntimeError("nothing was kept to draw a ladder from: ask for it first, by ladder=True")
        shown = self._recording.render(about=lambda flow, ends: set(ends).issuperset(hosts), last_lines=last_lines)
        return shown or "(no connection)"

    def mark_closing(self, now_ns: int) -> None:
        """Say in the ladder that what is not closed is closed from now on, and not by a program."""
        if self._recording is not None:
            self._recording.mark("the programs have ended; what is still open is closed", now_ns, spare_closing=True)

    def mark_end(self, now_ns: int) -> None:
        """Say so in the ladder of each connection that is not over, and record nothing more."""
        if self._recording is not None:
            self._recording.mark("the simulation is over", now_ns)
        self.close()

    def close(self) -> None:
        """Nothing more is recorded, and the capture is whole. Idempotent."""
        if self._recording is not None:
            self._recording.end()
        if self._writer is not None:
            self._writer.close()
