"""The stages that hold packets back: `delay` and `rate`, which are lines (pipe.py), and `reorder`."""

from __future__ import annotations

from .fault_octets import with_congestion_marked
from .fault_rules import HELD_BACK, IN, MARKED, OUT, Delay, Rate, Reorder
from .fault_stages import Passage, Place, Stage
from .pipe import Pipe

HOLD_LIMIT_NS = 20_000_000
"""The longest that reordering holds a packet back where nothing comes to overtake it."""
MOST_OVERTAKING = 3
"""Three later packets make three duplicate acknowledgements (RFC 5681 3.2): at times taken for a loss."""
MOST_HELD = 3
"""So many of a direction are held back at once: were there no limit, nothing might be left to overtake them."""


class LineStage(Stage[Delay | Rate]):
    """A line for each direction, along which packets go in order. What it only carries is no hit: that all packets
    are late is what the line is for. Where the rule singles packets out, each of them is one."""

    HOLDS = True

    def __init__(self, rule: Delay | Rate, place: Place) -> None:
        super().__init__(rule, place)
        self._pipes: dict[str, Pipe[Passage]] = {d: Pipe(rule.line, self.random[d].randrange) for d in (IN, OUT)}

    def act(self, passage: Passage, now_ns: int) -> bool:
        pipe = self._pipes[passage.direction]
        marked = with_congestion_marked(passage.packet) if pipe.congested(now_ns) else None
        carried = Passage(marked, passage.direction) if marked is not None else passage
        if not pipe.put(carried, len(carried.packet), now_ns):
            return self.lose(passage, now_ns)
        if marked is not None:
            self.tell(passage, MARKED, now_ns)
        if self.rule.is_for_some:
            self.tell(passage, HELD_BACK, now_ns)
        carried.keep()
        self._pass_arrived(pipe, now_ns, now_ns)
        return True

    @property
    def deadline_ns(self) -> int | None:
        in_ns, out_ns = self._pipes[IN].deadline_ns, self._pipes[OUT].deadline_ns
        if in_ns is None or out_ns is None:
            return in_ns if out_ns is None else out_ns
        return min(in_ns, out_ns)

    def release(self, due_ns: int, now_ns: int) -> None:
        for pipe in self._pipes.values():
            self._pass_arrived(pipe, due_ns, now_ns)

    def clear(self) -> None:
        for pipe in self._pipes.values():
            pipe.clear()

    def _pass_arrived(self, pipe: Pipe[Passage], due_ns: int, now_ns: int) -> None:
        for arrived in pipe.take(due_ns):
            self.onward(arrived, now_ns)


class _Held:
    """A packet that is held back until `overtaking` more have passed."""

    __slots__ = ("due_ns", "overtaking", "passage")

    def __init__(self, passage: Passage, overtaking: int, due_ns: int) -> None:
        self.passage = passage
        self.overtaking = overtaking
        self.due_ns = due_ns


class ReorderStage(Stage[Reorder]):
    """Any packet that passes in a held one's direction overtakes it, whether the rule is for it or not; so does a later
    one that was held and is let go first."""

    HOLDS = True

    def __init__(self, rule: Reorder, place: Place) -> None:
        super().__init__(rule, place)
        self._held: list[_Held] = []  # in the order of arrival, in which they fall due, since all wait equally long

    def take(self, passage: Passage, now_ns: int) -> bool:
        if self.selects(passage) and self.draws(self.rule.probability, passage) and self._has_room(passage):
            return self.act(passage, now_ns)
        overtaken = self._overtaken(passage.direction) if self._held else ()
        taken = self.onward(passage, now_ns)
        for held in overtaken:
            self.onward(held.passage, now_ns)
        return taken

    def act(self, passage: Passage, now_ns: int) -> bool:
        self.tell(passage, HELD_BACK, now_ns)
        passage.keep()
        overtaking = self.random[passage.direction].randrange(MOST_OVERTAKING) + 1
        self._held.append(_Held(passage, overtaking, now_ns + HOLD_LIMIT_NS))
        return True

    @property
    def deadline_ns(self) -> int | None:
        return self._held[0].due_ns if self._held else None

    def release(self, due_ns: int, now_ns: int) -> None:
        due = [held for held in self._held if held.due_ns <= due_ns]
        self._held = [held for held in self._held if held.due_ns > due_ns]
        for held in due:
            self.onward(held.passage, now_ns)

    def clear(self) -> None:
        self._held.clear()

    def _has_room(self, passage: Passage) -> bool:
        return sum(held.passage.direction == passage.direction for held in self._held) < MOST_HELD

    def _overtaken(self, direction: str) -> list[_Held]:
        """Count one packet that passes; those that have waited for enough of them, in the order in which they go."""
        waiting = [held for held in self._held if held.passage.direction == direction]
        for held in waiting:
            held.overtaking -= 1
        going: list[_Held] = []
        while (ready := next((held for held in waiting if not held.overtaking), None)) is not None:
            # It overtakes those that came before it. They had some to wait for yet, or they would have gone first.
            for earlier in waiting[: waiting.index(ready)]:
                earlier.overtaking -= 1
            waiting.remove(ready)
            self._held.remove(ready)
            going.append(ready)
        return going
