"""The quantities in fault rules: 40ms, 10mbit, 64kB, 2.5%. What is read exactly is written exactly, and the reverse.

A number has at most 18 digits before the point and 9 after it (a percentage may have more). A time, rate or size that
is no whole number of nanoseconds, bits a second or octets is not read at all: nothing is rounded behind anyone's back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

LARGEST = 10**18 - 1
"""The largest whole number in a rule; in nanoseconds 31 years."""

_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([A-Za-z]+)")
_PERCENTAGE = re.compile(r"([0-9]{1,18}(?:\.[0-9]+)?)%")
_WHOLE = re.compile(r"[0-9]{1,18}")


class Units:
    """The units of one quantity: each one's name and its size, a power of ten, from the largest to the smallest; and
    the base unit, in words.

    names  the units in words, from the smallest to the largest
    """

    def __init__(self, sizes: Mapping[str, int], base: str) -> None:
        self._sizes = sizes
        self._base = base
        *others, last = reversed(list(sizes))
        self.names = f"{', '.join(others)} or {last}" if others else last

    def read(self, word: str) -> int | None:
        """The quantity in its base unit, 0 to LARGEST; None where the word is none."""
        found = _QUANTITY.fullmatch(word)
        size = self._sizes.get(found[2]) if found else None
        if found is None or size is None:
            return None
        quantity = Decimal(found[1]).scaleb(len(str(size)) - 1)
        return int(quantity) if quantity == int(quantity) <= LARGEST else None

    def why_not(self, word: str) -> str:
        """What is wrong with a word that has the form of a quantity and is none; "" where it has not, or is one."""
        found = _QUANTITY.fullmatch(word)
        if found is None or found[2] not in self._sizes or self.read(word) is not None:
            return ""
        return f", which is no whole number of {self._base} from 0 to {LARGEST}"

    def write(self, quantity: int) -> str:
        """The quantity as a word, in the largest unit that it is a whole number of; else with decimals."""
        for unit, size in self._sizes.items():
            if quantity % size == 0:
                return f"{quantity // size}{unit}"
        unit, size = list(self._sizes.items())[-1]
        decimals = str(quantity % size).zfill(len(str(size)) - 1).rstrip("0")
        return f"{quantity // size}.{decimals}{unit}"


TIME = Units({"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000}, "nanoseconds")
"""In nanoseconds."""
RATE = Units({"gbit": 1_000_000_000, "mbit": 1_000_000, "kbit": 1_000}, "bits a second")
"""In bits a second."""
SIZE = Units({"MB": 1_000_000, "kB": 1_000, "B": 1}, "octets")
"""In octets."""
PACKETS = Units({"p": 1}, "packets")


def read_percentage(word: str) -> float | None:
    """A probability, 0 to 1, from a percentage; None where the word is none."""
    found = _PERCENTAGE.fullmatch(word)
    if found is None:
        return None
    percent = Decimal(found[1])
    return float(percent.scaleb(-2)) if percent <= 100 else None


def write_percentage(probability: float) -> str:
    """A probability as a percentage that reads as the same float."""
    shown = format(Decimal(repr(float(probability))).scaleb(2), "f")
    return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown}%"


def read_whole(word: str) -> int | None:
    """A whole number, 0 to LARGEST; None where the word is none."""
    return int(word) if _WHOLE.fullmatch(word) else None


def check_whole(what: str, value: object, least: int = 0, most: int = LARGEST) -> None:
    """Raise ValueError where the value is no whole number in this range."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is a whole number from {least} to {most}, not {value!r}")


def check_probability(value: object) -> None:
    """Raise ValueError where the value is no probability."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"a probability lies between 0 and 1, {value!r} does not")
