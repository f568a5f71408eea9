"""What a codec says of a packet that is not for TCP or ICMP to see."""

from __future__ import annotations


class Dropped:
    """A packet that the codec refuses. `counter` names the reason, and what to count it under."""

    __slots__ = ("counter",)

    def __init__(self, counter: str) -> None:
        self.counter = counter

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dropped) and other.counter == self.counter

    def __hash__(self) -> int:
        return hash(self.counter)

    def __repr__(self) -> str:
        return f"Dropped({self.counter!r})"
