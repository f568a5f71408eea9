"""Fault rules at work: a stage is one rule at its place in one chain, in both directions. It counts and draws.

A stage gets each packet that comes to its place, once and in order, and passes on what is left of it. Draws come from
the rule's seed, its verb, its number among the rules of that verb, and the direction: the same packets in the same
order are hit again, whatever passes in the other direction meanwhile, and two rules of one seed stay independent.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from ..core.segment import Segment
from ..wire.icmp import encode_icmp
from ..wire.objects import ObjectPacket
from ..wire.packet import Packet
from .fault_octets import segment_of, too_big, with_a_flipped_bit, with_fields, without_options
from .fault_rules import (
    CORRUPTED,
    DROPPED,
    DUPLICATED,
    IN,
    OPTION_KINDS,
    OUT,
    REWRITTEN,
    Blackhole,
    BurstLoss,
    Corrupt,
    Drop,
    Duplicate,
    Loss,
    Mtu,
    Rewrite,
    Rule,
    Strip,
)

R = TypeVar("R", bound=Rule)


class Passage:
    """A packet on its way through a chain; its octets are parsed when a rule first asks for the segment."""

    __slots__ = ("_read", "_segment", "direction", "packet")

    def __init__(self, packet: Packet, direction: str) -> None:
        self.packet = packet
        self.direction = direction
        self._read = False
        self._segment: Segment | None = None

    @property
    def segment(self) -> Segment | None:
        """The segment in the packet, as it was before any corruption; None where it is not TCP."""
        if not self._read:
            self._read = True
            self._segment = segment_of(self.packet)
        return self._segment

    def damaged(self, packet: Packet) -> Passage:
        """The same with other octets, while rules go on to see the segment that was."""
        damaged = Passage(packet, self.direction)
        damaged._segment, damaged._read = self.segment, True
        return damaged

    def keep(self) -> None:
        """See to it that the packet can wait: its chunks may be views of a send buffer that is about to change."""
        packet = self.packet
        if not isinstance(packet, ObjectPacket):
            self.packet = Packet((packet.data(),), packet.checksum, packet.gso_size, packet.id)


@dataclass(frozen=True, slots=True)
class Place:
    """What surrounds a stage.

    number          how many rules of the same verb stand before it in the chain
    onward          passes a packet on to the next stage; as Device.send
    tell            notes a hit: the rule, the packet, what became of it, the time
    next_packet_id  numbers a packet that the stage makes itself
    """

    number: int
    onward: Callable[[Passage, int], bool]
    tell: Callable[[Rule, Passage, str, int], None]
    next_packet_id: Callable[[], int]


class Stage(ABC, Generic[R]):
    """A rule at work. Stages that hold packets back (HOLDS) have a deadline, and `release` what is due."""

    HOLDS: ClassVar[bool] = False

    def __init__(self, rule: R, place: Place) -> None:
        self.rule = rule
        self.onward = place.onward
        self.next_packet_id = place.next_packet_id
        # Text seeds by its SHA-512: the same draws on every machine and in every run.
        number = f" {place.number}" if place.number else ""
        self.random = {d: random.Random(f"{rule.VERB} {rule.random_seed} {d}{number}") for d in (IN, OUT)}
        self._tell = place.tell
        self._is_for_some = rule.is_for_some
        self._first, self._last = rule.span
        self._matched = 0

    def take(self, passage: Passage, now_ns: int) -> bool:
        """Do to a packet what the rule says. False only where what is behind the chain drops it now: a packet that
        is lost here counts as sent."""
        return self.act(passage, now_ns) if self.selects(passage) else self.onward(passage, now_ns)

    @abstractmethod
    def act(self, passage: Passage, now_ns: int) -> bool:
        """What to do with a packet that the rule is for; as `take`."""

    def selects(self, passage: Passage) -> bool:
        """Whether the rule is for this packet; to be asked once, since this counts."""
        rule = self.rule
        if rule.direction not in (None, passage.direction):
            return False
        if not self._is_for_some:
            return True
        if not rule.match.accepts(passage.segment):
            return False
        self._matched += 1
        return self._first <= self._matched and (self._last is None or self._matched <= self._last)

    def draws(self, probability: float, passage: Passage) -> bool:
        """True with this probability."""
        return self.random[passage.direction].random() < probability

    def tell(self, passage: Passage, action: str, now_ns: int) -> None:
        """Note that the rule hit this packet."""
        self._tell(self.rule, passage, action, now_ns)

    def lose(self, passage: Passage, now_ns: int) -> bool:
        """Drop the packet."""
        self.tell(passage, DROPPED, now_ns)
        return True

    @property
    def deadline_ns(self) -> int | None:
        """When something that is held back is due, or None."""
        return None

    def release(self, due_ns: int, now_ns: int) -> None:
        """Let go of what was due by `due_ns`; it is `now_ns`."""

    def clear(self) -> None:
        """Forget what is held back."""


class DropStage(Stage[Drop]):
    def act(self, passage: Passage, now_ns: int) -> bool:
        return self.lose(passage, now_ns)


class LossStage(Stage[Loss]):
    def act(self, passage: Passage, now_ns: int) -> bool:
        if self.draws(self.rule.probability, passage):
            return self.lose(passage, now_ns)
        return self.onward(passage, now_ns)


class BurstLossStage(Stage[BurstLoss]):
    def __init__(self, rule: BurstLoss, place: Place) -> None:
        super().__init__(rule, place)
        self._bad = {IN: False, OUT: False}

    def act(self, passage: Passage, now_ns: int) -> bool:
        rule, direction = self.rule, passage.direction
        if self.draws(rule.leave if self._bad[direction] else rule.enter, passage):
            self._bad[direction] = not self._bad[direction]
        if self.draws(rule.loss_in_bad if self._bad[direction] else rule.loss_in_good, passage):
            return self.lose(passage, now_ns)
        return self.onward(passage, now_ns)


class BlackholeStage(Stage[Blackhole]):
    def __init__(self, rule: Blackhole, place: Place) -> None:
        super().__init__(rule, place)
        self._began_ns: int | None = None

    def take(self, passage: Passage, now_ns: int) -> bool:
        # From the first segment on: what a kernel sends unasked when an interface comes up begins no conversation.
        if self._began_ns is None and passage.segment is not None:
            self._began_ns = now_ns
        return super().take(passage, now_ns)

    def act(self, passage: Passage, now_ns: int) -> bool:
        rule = self.rule
        age_ns = 0 if self._began_ns is None else now_ns - self._began_ns
        if age_ns >= rule.after_ns and (rule.for_ns is None or age_ns < rule.after_ns + rule.for_ns):
            return self.lose(passage, now_ns)
        return self.onward(passage, now_ns)


class DuplicateStage(Stage[Duplicate]):
    def act(self, passage: Passage, now_ns: int) -> bool:
        if self.draws(self.rule.probability, passage):
            self.tell(passage, DUPLICATED, now_ns)
            self.onward(passage, now_ns)
        return self.onward(passage, now_ns)


class CorruptStage(Stage[Corrupt]):
    def act(self, passage: Passage, now_ns: int) -> bool:
        if self.draws(self.rule.probability, passage):
            self.tell(passage, CORRUPTED, now_ns)
            bent = with_a_flipped_bit(passage.packet, self.random[passage.direction].randrange)
            passage = passage.damaged(bent)
        return self.onward(passage, now_ns)


class MtuStage(Stage[Mtu]):
    def act(self, passage: Passage, now_ns: int) -> bool:
        if len(passage.packet) <= self.rule.mtu:
            return self.onward(passage, now_ns)
        self.lose(passage, now_ns)
        message = None if self.rule.silent else too_big(passage.packet, self.rule.mtu)
        if message is not None:
            message.packet_id = self.next_packet_id()
            answer = ObjectPacket(message) if isinstance(passage.packet, ObjectPacket) else encode_icmp(message)
            self.onward(Passage(answer, IN if passage.direction == OUT else OUT), now_ns)
        return True


class EditStage(Stage[R]):
    """Passes on what `edit` makes of each packet; None stands for: nothing to do."""

    def act(self, passage: Passage, now_ns: int) -> bool:
        edited = self.edit(passage.packet)
        if edited is not None:
            self.tell(passage, REWRITTEN, now_ns)
            passage = Passage(edited, passage.direction)
        return self.onward(passage, now_ns)

    @abstractmethod
    def edit(self, packet: Packet) -> Packet | None:
        """The packet as it goes on, or None where it goes on as it is."""


class StripStage(EditStage[Strip]):
    def edit(self, packet: Packet) -> Packet | None:
        return without_options(packet, OPTION_KINDS[self.rule.option])


class RewriteStage(EditStage[Rewrite]):
    def edit(self, packet: Packet) -> Packet | None:
        rule = self.rule
        return with_fields(packet, rule.window, rule.mss, rule.wscale)
