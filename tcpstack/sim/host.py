"""A simulated host: what aio/driver.py does on an event loop, SimHost does on the virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.config import Config
from ..core.connection import Connection
from ..core.events import Tracer
from ..core.segment import Buffer
from ..device.base import Device
from ..device.faults import FaultyDevice, Rule
from ..stack.listener import Listener
from ..stack.stack import Stack
from ..wire.packet import Packet
from .clock import Happening
from .links import Interface

if TYPE_CHECKING:
    from .network import Network

BATCH_PACKETS = 64
LOOPBACK_DELAY_NS = 10_000
"""What a host sends to itself takes so long, as it does on a machine: who asks himself again and again would otherwise
do so for ever at one instant."""


class SimHost:
    """A host of the simulation: the real Stack, driven by the virtual clock. User calls as Stack's, without the time.

    name     what to call it           interface  its end of the link
    stack    the engine                notify     set by the user: gets (connection, readiness mask)
    """

    def __init__(
        self,
        network: Network,
        interface: Interface,
        config: Config | None,
        faults: Sequence[Rule],
        tracer: Tracer | None,
    ) -> None:
        self.name = interface.name
        self.interface = interface
        self._network = network
        self._clock = network.clock
        self._end, tracer = network.records.attach(interface, tracer)
        self._device: Device = self._end
        if faults:
            self._device = FaultyDevice(self._end, faults, tracer, network.next_packet_id)
        self.stack = Stack(
            interface.addresses,
            mtu=interface.mtu,
            config=config,
            random=random.Random(network.random.getrandbits(64)),
            tracer=tracer,
            name=interface.name,
            codec=network.codec,
            packet_ids=network.next_packet_id,
        )
        self.stack.loopback_delay_ns = LOOPBACK_DELAY_NS
        self.stack.offload = self._device.offload
        self.stack.send_packet = self._device.send
        self._device.on_ready = self._schedule_turn
        self._turn_scheduled = False
        self._in_turn = False
        self._timer: Happening | None = None

    @property
    def notify(self) -> Callable[[Connection, int], None]:
        return self.stack.notify

    @notify.setter
    def notify(self, notify: Callable[[Connection, int], None]) -> None:
        self.stack.notify = notify

    def connect(self, remote: bytes, port: int, *, local: bytes | None = None, lport: int = 0) -> Connection:
        connection = self.stack.connect(remote, port, self._clock.now_ns, local=local, lport=lport)
        self._look_ahead()
        return connection

    def listen(self, port: int, *, address: bytes | None = None, backlog: int = 100) -> Listener:
        return self.stack.listen(port, address=address, backlog=backlog)

    def send(self, connection: Connection, data: bytes) -> None:
        self.stack.send(connection, data, self._clock.now_ns)
        self._look_ahead()

    def receive(self, connection: Connection, max_bytes: int) -> list[Buffer]:
        chunks = self.stack.receive(connection, max_bytes, self._clock.now_ns)
        self._look_ahead()
        return chunks

    def shutdown(self, connection: Connection) -> None:
        self.stack.shutdown(connection, self._clock.now_ns)
        self._look_ahead()

    def close(self, connection: Connection) -> None:
        self.stack.close(connection, self._clock.now_ns)
        self._look_ahead()

    def abort(self, connection: Connection) -> None:
        self.stack.abort(connection, self._clock.now_ns)
        self._look_ahead()

    def heal(self) -> None:
        """The fault rules act no more; what they hold back is lost."""
        self._device = self._end
        self.stack.send_packet = self._end.send
        self._end.on_ready = self._schedule_turn

    def _schedule_turn(self) -> None:
        """Packets have arrived: what arrives at one instant is one batch."""
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._clock.call_at(self._clock.now_ns, self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        now_ns = self._clock.now_ns
        packets = self._device.receive(BATCH_PACKETS, now_ns)
        if packets:
            self.take(packets)
        else:
            self._look_ahead()

    def take(self, packets: Sequence[Packet]) -> None:
        """The stack gets these packets now, past link and faults: what the link has brought, or somebody has forged."""
        self._in_turn = True
        try:
            self.stack.on_packets(packets, self._clock.now_ns)
        finally:
            self._in_turn = False
        self._look_ahead()

    def _on_timer(self) -> None:
        self._timer = None
        now_ns = self._clock.now_ns
        if (due_ns := self._device.deadline_ns) is not None and due_ns <= now_ns:
            self._device.on_timer(now_ns)
        if (due_ns := self.stack.deadline_ns) is not None and due_ns <= now_ns:
            self._in_turn = True
            try:
                self.stack.on_timer(now_ns)
            finally:
                self._in_turn = False
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Be called when the earliest deadline has come, unless that is arranged for then or before, or a turn is under
        way: it looks ahead when it is over."""
        if self._in_turn:
            return
        due_ns, held_ns = self.stack.deadline_ns, self._device.deadline_ns
        if held_ns is not None and (due_ns is None or held_ns < due_ns):
            due_ns = held_ns
        if due_ns is None:
            return
        if self._timer is not None:
            if self._timer.when_ns <= max(due_ns, self._clock.now_ns):
                return
            self._timer.cancel()
        self._timer = self._clock.call_at(due_ns, self._on_timer)
