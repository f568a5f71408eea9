"""A link's Line in the words of fault rules."""

from __future__ import annotations

from collections.abc import Mapping

from ..device.fault_units import PACKETS, RATE, SIZE, TIME, Units
from ..device.pipe import Line

_SUCH_AS = {
    "delay": "40ms",
    "jitter": "5ms",
    "rate": "10mbit",
    "queue": "64kB, or 100p for packets",
    "mark": "30kB",
}


def line(
    *,
    delay: str | None = None,
    jitter: str | None = None,
    rate: str | None = None,
    queue: str | None = None,
    mark: str | None = None,
) -> Line:
    """One direction of a link, in the words of fault rules: delay="40ms", jitter="5ms", rate="10mbit", queue="64kB"
    or queue="100p" (packets), mark="30kB" (where so much waits, ECN-capable packets are marked). What is not said is:
    none, and no limit.

    Raises ValueError for a word that makes no sense, and for a queue or a mark without a rate, before which nothing
    ever waits.
    """
    of_packets = isinstance(queue, str) and queue.endswith("p")
    read = Line(
        rate_bps=_read("rate", rate, RATE),
        delay_ns=_read("delay", delay, TIME) or 0,
        jitter_ns=_read("jitter", jitter, TIME) or 0,
        queue_bytes=None if of_packets else _read("queue", queue, SIZE),
        queue_packets=_read("queue", queue, PACKETS) if of_packets else None,
        mark_bytes=_read("mark", mark, SIZE),
    )
    for name, word in (("queue", queue), ("mark", mark)):
        if word is not None and rate is None:
            raise ValueError(f"{name}={word!r} without a rate: nothing ever waits there; say rate={_SUCH_AS['rate']!r}")
    return read


def line_of(words: Mapping[str, str]) -> Line:
    """The same from words by their names. Raises ValueError for a name that no word has, too."""
    unknown = [name for name in words if name not in _SUCH_AS]
    if unknown:
        remedy = "; what is lost or changed on the way is said by faults of a host"
        raise ValueError(f"a line has delay, jitter, rate, queue and mark, not {', '.join(unknown)}{remedy}")
    return line(**words)


def _read(name: str, word: str | None, units: Units) -> int | None:
    if word is None:
        return None
    value = units.read(word) if isinstance(word, str) else None
    if value is None:
        raise ValueError(f"{name}={word!r} is none: write it as in {_SUCH_AS[name]}")
    return value
