"""The values in a script's calls: which descriptor a number stands for, and numbers, lengths, fields and texts out of
what the grammar read. Each raises CallError where the value is another kind of thing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .script import Call, Value

INT = struct.Struct("=i")
MAX_TEXT = 1 << 26
Text: TypeAlias = Callable[[int, int], bytes]
"""`text(fd, size)`: what a write writes that names no text."""


class CallError(Exception):
    """The call is not made as it should be; the message says what is wrong with it."""


@dataclass(slots=True)
class Names:
    """Which descriptor a script's number stands for. One that it never got stands for itself: closed, most likely."""

    real: dict[int, int] = field(default_factory=dict)

    def of(self, number: Value) -> int:
        if not isinstance(number, int):
            raise CallError(f"a descriptor is a number, not {number!r}")
        return self.real.get(number, number if number < 0 else 1_000_000 + number)


def arity(call: Call, count: int) -> tuple[Value, ...]:
    """The arguments, `count` of them."""
    if len(call.arguments) != count:
        raise CallError(f"{call.name}() takes {count} arguments, and has {len(call.arguments)}")
    return call.arguments


def number(value: Value) -> int:
    """A number."""
    if not isinstance(value, int):
        raise CallError(f"a number is wanted, not {value!r}")
    return value


def length(value: Value) -> int:
    """The length of a text."""
    size = number(value)
    if not 0 <= size <= MAX_TEXT:
        raise CallError(f"a text has 0 to {MAX_TEXT} octets, not {size}")
    return size


def fields(value: Value, example: str) -> Mapping[str, Value]:
    """A structure; `example` is one in a script's words."""
    if not isinstance(value, Mapping):
        raise CallError(f"a structure {example} is wanted, not {value!r}")
    return value


def listed(value: Value, example: str) -> tuple[Value, ...]:
    """A list; `example` is one in a script's words."""
    if not isinstance(value, tuple):
        raise CallError(f"a list {example} is wanted, not {value!r}")
    return value


def field_of(value: Value, name: str, default: int) -> int:
    """A field that is a number."""
    return number(fields(value, f"{{{name}=...}}").get(name, default))


def octets(value: Value) -> bytes:
    """An option's value: [n], "text", {onoff=1, linger=0}."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        return b"".join(INT.pack(_signed(number(each))) for each in value.values())
    if isinstance(value, tuple):
        return b"".join(INT.pack(_signed(number(each))) for each in value)
    if isinstance(value, int):
        return INT.pack(_signed(value))
    raise CallError(f"an option's value is [n], \"text\" or {{onoff=1, linger=0}}, not {value!r}")


def _signed(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)
