"""A device that does to packets what fault rules say, around any other device."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..core.events import Tracer
from ..wire.packet import Offload, Packet
from .base import Device, next_packet_id
from .fault_chain import FaultChain
from .fault_grammar import FaultRuleError, parse_rule
from .fault_lines import HOLD_LIMIT_NS, MOST_OVERTAKING
from .fault_rules import (
    ACK,
    ANY,
    DATA,
    FIN,
    IN,
    OUT,
    RST,
    SYN,
    SYNACK,
    Blackhole,
    BurstLoss,
    Chance,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Loss,
    Match,
    Mtu,
    Rate,
    Reorder,
    Rewrite,
    Rule,
    Strip,
)

__all__ = [
    "ACK", "ANY", "DATA", "FIN", "HOLD_LIMIT_NS", "IN", "MOST_OVERTAKING", "OUT", "RST", "SYN", "SYNACK",
    "Blackhole", "BurstLoss", "Chance", "Corrupt", "Delay", "Drop", "Duplicate", "FaultChain", "FaultRuleError",
    "FaultyDevice", "Loss", "Match", "Mtu", "Rate", "Reorder", "Rewrite", "Rule", "Strip",
    "parse_rule",
]  # fmt: skip


class FaultyDevice:
    """`device` with `rules` in front of it; has its name, MTU, descriptor and on_ready.

    tracer  gets a core.events.FaultHit for each TCP segment that a rule hits; one that raises is dropped
    hits    how often each rule, by its text, has hit a packet, TCP or not

    Packets that became receivable without `device` having any (held back until due, copies beyond the asked-for
    number, answers to what was sent) show as a `deadline_ns`: call `on_timer` then, and `receive` after it.
    """

    __slots__ = ("_chain", "_device", "_ready", "_ready_ns")

    def __init__(
        self,
        device: Device,
        rules: Iterable[Rule],
        tracer: Tracer | None = None,
        packet_ids: Callable[[], int] = next_packet_id,
    ) -> None:
        self._device = device
        self._chain = FaultChain(rules, self._deliver, tracer, packet_ids)
        self._ready: deque[Packet] = deque()
        self._ready_ns = 0

    @property
    def name(self) -> str:
        return self._device.name

    @name.setter
    def name(self, name: str) -> None:
        self._device.name = name

    @property
    def mtu(self) -> int:
        return self._device.mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._device.mtu = mtu

    @property
    def offload(self) -> Offload:
        return replace(self._device.offload, unread=False)

    @property
    def queue_packets(self) -> int | None:
        return self._device.queue_packets

    @property
    def on_ready(self) -> Callable[[], None] | None:
        return self._device.on_ready

    @on_ready.setter
    def on_ready(self, on_ready: Callable[[], None] | None) -> None:
        self._device.on_ready = on_ready

    @property
    def tracer(self) -> Tracer | None:
        return self._chain.tracer

    @tracer.setter
    def tracer(self, tracer: Tracer | None) -> None:
        self._chain.tracer = tracer

    @property
    def hits(self) -> Counter[str]:
        return self._chain.hits

    def fileno(self) -> int:
        """The descriptor of the device inside, or -1."""
        return self._device.fileno()

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        """Up to max_packets that got through. May be empty though some had arrived: the rules took them."""
        ready = self._ready
        # Asked even for none: a device without a descriptor then says by on_ready whether some wait.
        for packet in self._device.receive(max(0, max_packets - len(ready)), now_ns):
            self._chain.put(packet, IN, now_ns)
        packets = [ready.popleft() for _ in range(min(max_packets, len(ready)))]
        self._ready_ns = now_ns
        return packets

    def send(self, packet: Packet, now_ns: int) -> bool:
        """Pass the packet on through the rules; False only where the device inside drops it now."""
        return self._chain.put(packet, OUT, now_ns)

    @property
    def deadline_ns(self) -> int | None:
        """When the next held packet is due, here or in the device inside."""
        due_ns, held_ns = self._device.deadline_ns, self._chain.deadline_ns
        if held_ns is not None and (due_ns is None or held_ns < due_ns):
            due_ns = held_ns
        if self._ready and (due_ns is None or self._ready_ns < due_ns):
            due_ns = self._ready_ns
        return due_ns

    def on_timer(self, now_ns: int) -> None:
        """Let go of what is due, in the order in which it fell due."""
        inner_ns = self._device.deadline_ns
        if inner_ns is not None and inner_ns <= now_ns:
            self._device.on_timer(now_ns)
        self._chain.on_timer(now_ns)
        self._ready_ns = now_ns
        if self._ready and self.on_ready is not None and self.fileno() < 0:
            self.on_ready()

    def close(self) -> None:
        """Forget what is held and close the device inside. Idempotent."""
        self._chain.clear()
        self._ready.clear()
        self._device.close()

    def _deliver(self, packet: Packet, direction: str, now_ns: int) -> bool:
        if direction == OUT:
            return self._device.send(packet, now_ns)
        self._ready.append(packet)
        self._ready_ns = now_ns
        return True
