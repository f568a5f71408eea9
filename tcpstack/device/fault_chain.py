"""A chain of fault rules, apart from any device: packets with a direction and a time go in, the survivors come out.

Each packet goes through the rules in order, in either direction; what one drops, the later ones never see, and what
one makes (a copy, an ICMP message) goes through those behind it. Rules act on packets as they are on the wire: what
offload left undone is done before the first rule. Packets may carry octets or Segments (wire/objects.py); the same
packets are hit in the same way.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ..core.events import FaultHit, Tracer
from ..wire.packet import Packet
from ..wire.segmentation import wire_packets
from .base import next_packet_id
from .fault_lines import LineStage, ReorderStage
from .fault_rules import (
    OUT,
    Blackhole,
    BurstLoss,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Loss,
    Mtu,
    Rate,
    Reorder,
    Rewrite,
    Rule,
    Strip,
)
from .fault_stages import (
    BlackholeStage,
    BurstLossStage,
    CorruptStage,
    DropStage,
    DuplicateStage,
    LossStage,
    MtuStage,
    Passage,
    Place,
    RewriteStage,
    Stage,
    StripStage,
)

STAGES: dict[type[Rule], Callable[[Any, Place], Stage[Any]]] = {
    Drop: DropStage,
    Loss: LossStage,
    BurstLoss: BurstLossStage,
    Blackhole: BlackholeStage,
    Duplicate: DuplicateStage,
    Reorder: ReorderStage,
    Delay: LineStage,
    Rate: LineStage,
    Mtu: MtuStage,
    Corrupt: CorruptStage,
    Strip: StripStage,
    Rewrite: RewriteStage,
}
"""What each kind of rule does."""

_log = logging.getLogger(__name__)


class FaultChain:
    """`rules` at work between whoever calls `put` and `deliver`, which gets (packet, direction, now_ns) and says, as
    Device.send, whether the packet was taken.

    tracer      gets a core.events.FaultHit for each TCP segment that a rule hits; one that raises is dropped
    hits        how often each rule, by its text, has hit a packet, TCP or not
    packet_ids  numbers the packets that rules make

    What is held back is due at `deadline_ns`: call `on_timer` then. `deliver` may be called from there too, and for a
    packet that goes the other way from inside `put`: the answer to one that was too big.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        deliver: Callable[[Packet, str, int], bool],
        tracer: Tracer | None = None,
        packet_ids: Callable[[], int] = next_packet_id,
    ) -> None:
        self.tracer = tracer
        self.hits: Counter[str] = Counter()
        self._deliver = deliver
        self._stages: list[Stage[Any]] = []
        onward = self._leave
        rules = list(rules)
        verbs = [rule.VERB for rule in rules]
        for position, rule in reversed(list(enumerate(rules))):
            number = verbs[:position].count(rule.VERB)
            stage = STAGES[type(rule)](rule, Place(number, onward, self._tell, packet_ids))
            self._stages.insert(0, stage)
            onward = stage.take
        self._enter = onward
        self._holding = [stage for stage in self._stages if stage.HOLDS]

    def put(self, packet: Packet, direction: str, now_ns: int) -> bool:
        """A packet comes from the end where it was sent: IN means towards the stack. False where `deliver` would not
        have it now; what a rule takes counts as sent, since it is the network that lost it, not a queue of ours."""
        taken = True
        for piece in wire_packets(packet):
            taken = self._enter(Passage(piece, direction), now_ns) and taken
        return taken

    @property
    def deadline_ns(self) -> int | None:
        """When the next packet that is held back is due, or None."""
        earliest_ns = None
        for stage in self._holding:
            due_ns = stage.deadline_ns
            if due_ns is not None and (earliest_ns is None or due_ns < earliest_ns):
                earliest_ns = due_ns
        return earliest_ns

    def on_timer(self, now_ns: int) -> None:
        """Let go of what is due, in the order in which it fell due."""
        while (due_ns := self.deadline_ns) is not None and due_ns <= now_ns:
            for stage in self._holding:
                if stage.deadline_ns == due_ns:
                    stage.release(due_ns, now_ns)
                    break

    def clear(self) -> None:
        """Forget what is held back."""
        for stage in self._stages:
            stage.clear()

    def _leave(self, passage: Passage, now_ns: int) -> bool:
        return self._deliver(passage.packet, passage.direction, now_ns)

    def _tell(self, rule: Rule, passage: Passage, action: str, now_ns: int) -> None:
        self.hits[rule.text] += 1
        if self.tracer is None or (segment := passage.segment) is None:
            return
        if passage.direction == OUT:
            flow = (segment.src, segment.sport, segment.dst, segment.dport)
        else:
            flow = (segment.dst, segment.dport, segment.src, segment.sport)
        hit = FaultHit(now_ns, flow, segment, passage.direction, rule.text, action, passage.packet.id)
        try:
            self.tracer(hit)
        except Exception:
            _log.exception("the tracer raised on a fault and is dropped")
            self.tracer = None
