"""A device that does to packets what fault rules say, around any other device.

The rules form a chain that each packet goes through in order, in either direction; what one drops, the later
ones never see. They act on packets as they are on the wire, and see a segment as it was before any corruption.
An outgoing packet that a rule takes counts as sent: it is the network that lost it, not a queue of ours.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from ..core.events import FaultHit, Tracer
from ..core.segment import Segment
from ..wire.dpkt_codec import decode
from ..wire.packet import CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, Packet
from .base import Device
from .fault_grammar import FaultRuleError, parse_rule
from .fault_rules import (
    ACK,
    ANY,
    CORRUPTED,
    DATA,
    DROPPED,
    DUPLICATED,
    FIN,
    HELD_BACK,
    IN,
    OUT,
    RST,
    SYN,
    SYNACK,
    Chance,
    Corrupt,
    Drop,
    Duplicate,
    Loss,
    Match,
    Reorder,
    Rule,
    Trial,
)  # fmt: skip

__all__ = [
    "ACK", "ANY", "DATA", "FIN", "IN", "OUT", "RST", "SYN", "SYNACK",
    "Chance", "Corrupt", "Drop", "Duplicate", "FaultRuleError", "FaultyDevice", "Loss", "Match", "Reorder", "Rule",
    "parse_rule",
]  # fmt: skip

HOLD_LIMIT_NS = 20_000_000
"""The longest that reordering holds a packet back where nothing comes to overtake it."""
MOST_OVERTAKING = 3
"""Three later packets make three duplicate acknowledgements (RFC 5681 3.2): at times taken for a loss."""

_log = logging.getLogger(__name__)


class _Held:
    """A packet that the rule at `position` of the chain holds back until `overtaking` more have passed."""

    __slots__ = ("direction", "due_ns", "overtaking", "packet", "position", "segment")

    def __init__(
        self, packet: Packet, segment: Segment | None, direction: str, position: int, overtaking: int, due_ns: int
    ) -> None:
        self.packet = packet
        self.segment = segment
        self.direction = direction
        self.position = position
        self.overtaking = overtaking
        self.due_ns = due_ns


class FaultyDevice:
    """`device` with `rules` in front of it; has its name, MTU, descriptor and on_ready.

    tracer  gets a core.events.FaultHit for each TCP segment that a rule hits; one that raises is dropped
    hits    how often each rule, by its text, has hit a packet, TCP or not

    Packets that became receivable without `device` having any (held back until due, or copies beyond the
    asked-for number) show as a `deadline_ns`: call `on_timer` then, and `receive` after it.
    """

    __slots__ = ("_device", "_held", "_ready", "_ready_ns", "_trials", "hits", "tracer")

    def __init__(self, device: Device, rules: Iterable[Rule], tracer: Tracer | None = None) -> None:
        self._device = device
        self._trials = tuple(Trial(rule) for rule in rules)
        self._held: list[_Held] = []
        self._ready: deque[Packet] = deque()
        self._ready_ns = 0
        self.tracer = tracer
        self.hits: Counter[str] = Counter()

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
    def on_ready(self) -> Callable[[], None] | None:
        return self._device.on_ready

    @on_ready.setter
    def on_ready(self, on_ready: Callable[[], None] | None) -> None:
        self._device.on_ready = on_ready

    def fileno(self) -> int:
        """The descriptor of the device inside, or -1."""
        return self._device.fileno()

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        """Up to max_packets that got through. May be empty though some had arrived: the rules took them."""
        ready = self._ready
        # Asked even for none: a device without a descriptor then says by on_ready whether some wait.
        for packet in self._device.receive(max(0, max_packets - len(ready)), now_ns):
            self._pass(packet, _segment_of(packet), IN, 0, now_ns)
        packets = [ready.popleft() for _ in range(min(max_packets, len(ready)))]
        self._ready_ns = now_ns
        return packets

    def send(self, packet: Packet, now_ns: int) -> bool:
        """Pass the packet on through the rules; False only where the device inside drops it now."""
        return self._pass(packet, _segment_of(packet), OUT, 0, now_ns)

    @property
    def deadline_ns(self) -> int | None:
        """When the next held packet is due, here or in the device inside."""
        deadlines = [held.due_ns for held in self._held]
        if self._ready:
            deadlines.append(self._ready_ns)
        if (inner_ns := self._device.deadline_ns) is not None:
            deadlines.append(inner_ns)
        return min(deadlines, default=None)

    def on_timer(self, now_ns: int) -> None:
        """Let go of what is due, in the order in which it fell due."""
        inner_ns = self._device.deadline_ns
        if inner_ns is not None and inner_ns <= now_ns:
            self._device.on_timer(now_ns)
        due = sorted((held for held in self._held if held.due_ns <= now_ns), key=lambda held: held.due_ns)
        self._release(due, now_ns)
        self._ready_ns = now_ns
        if self._ready and self.on_ready is not None and self.fileno() < 0:
            self.on_ready()

    def close(self) -> None:
        """Forget what is held and close the device inside. Idempotent."""
        self._held.clear()
        self._ready.clear()
        self._device.close()

    def _pass(self, packet: Packet, segment: Segment | None, direction: str, start: int, now_ns: int) -> bool:
        """Take a packet through the chain from the rule at `start`, and on to where it goes. As `send`."""
        for position in range(start, len(self._trials)):
            trial = self._trials[position]
            if not trial.hits(segment, direction):
                overtaken = self._overtaken(position, direction) if self._held else ()
                if overtaken:
                    taken = self._pass(packet, segment, direction, position + 1, now_ns)
                    self._release(overtaken, now_ns)
                    return taken
                continue
            action = trial.rule.ACTION
            self._tell(trial.rule, packet, segment, direction, now_ns)
            if action == DROPPED:
                return True
            if action == HELD_BACK:
                self._hold(trial, packet, segment, direction, position, now_ns)
                return True
            if action == DUPLICATED:
                self._pass(packet, segment, direction, position + 1, now_ns)
            elif action == CORRUPTED:
                packet = _with_a_flipped_bit(packet, trial.random[direction].randrange)
        if direction == OUT:
            return self._device.send(packet, now_ns)
        self._ready.append(packet)
        return True

    def _hold(
        self, trial: Trial, packet: Packet, segment: Segment | None, direction: str, position: int, now_ns: int
    ) -> None:
        # Joined, since the chunks may be views of a send buffer that has changed when it leaves.
        packet = Packet((packet.data(),), packet.checksum, packet.gso_size, packet.id)
        overtaking = trial.random[direction].randrange(MOST_OVERTAKING) + 1
        self._held.append(_Held(packet, segment, direction, position, overtaking, now_ns + HOLD_LIMIT_NS))

    def _overtaken(self, position: int, direction: str) -> list[_Held]:
        """Count one packet that passes the rule at `position`; what is held there and has waited enough."""
        enough = []
        for held in self._held:
            if held.position == position and held.direction == direction:
                held.overtaking -= 1
                if not held.overtaking:
                    enough.append(held)
        return enough

    def _release(self, released: Iterable[_Held], now_ns: int) -> None:
        for held in released:
            # One let go before it may have overtaken this one, at a later rule, and so released it already.
            if held in self._held:
                self._held.remove(held)
                self._pass(held.packet, held.segment, held.direction, held.position + 1, now_ns)

    def _tell(self, rule: Rule, packet: Packet, segment: Segment | None, direction: str, now_ns: int) -> None:
        self.hits[rule.text] += 1
        if self.tracer is None or segment is None:
            return
        if direction == OUT:
            flow = (segment.src, segment.sport, segment.dst, segment.dport)
        else:
            flow = (segment.dst, segment.dport, segment.src, segment.sport)
        try:
            self.tracer(FaultHit(now_ns, flow, segment, direction, rule.text, rule.ACTION, packet.id))
        except Exception:
            _log.exception("the tracer raised on a fault and is dropped")
            self.tracer = None


def _segment_of(packet: Packet) -> Segment | None:
    """The segment in a packet, right checksum or not; None where it has none."""
    decoded = decode(Packet((packet.data(),), CHECKSUM_VERIFIED, id=packet.id))
    return decoded if isinstance(decoded, Segment) else None


def _with_a_flipped_bit(packet: Packet, randrange: Callable[[int], int]) -> Packet:
    """A copy of the packet with one bit the other way. Nobody vouches for its checksum any more."""
    octets = bytearray(packet.data())
    # Not in the version: a TUN device takes nothing but 4 and 6, so no such packet would reach the wire.
    bit = 4 + randrange(len(octets) * 8 - 4)
    octets[bit // 8] ^= 0x80 >> bit % 8
    return Packet((bytes(octets),), CHECKSUM_UNVERIFIED, packet.gso_size, packet.id)
