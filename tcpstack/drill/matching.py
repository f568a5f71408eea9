"""Is this the packet that the script expects? Field by field, in the words of a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..core.segment import ACK
from .packet_grammar import FLAG_LETTERS
from .script import Option, Packet
from .settings import Settings

_HALF = 1 << 31


class Field(NamedTuple):
    """One field as expected and as seen, in words; `agrees` is False where that is why the drill fails."""

    name: str
    expected: str
    seen: str
    agrees: bool


def compare(expected: Packet, seen: Packet, settings: Settings) -> list[Field]:
    """Every field that the script speaks of, and what was seen of the rest."""
    fields = [
        Field("flags", flags_text(expected.flags), flags_text(seen.flags), expected.flags == seen.flags),
        Field("seq", _extent(expected), _extent(seen), (expected.seq, expected.size) == (seen.seq, seen.size)),
    ]
    if expected.flags & ACK or expected.ack is not None or seen.flags & ACK:
        agrees = (expected.ack or 0) == (seen.ack or 0)
        fields.append(Field("ack", str(expected.ack or 0), str(seen.ack or 0), agrees))
    agrees = expected.win in (None, seen.win)
    fields.append(Field("win", _any(expected.win), str(seen.win), agrees))
    if expected.urg or seen.urg:
        fields.append(Field("urg", str(expected.urg), str(seen.urg), expected.urg == seen.urg))
    agrees = _options_agree(expected.options, seen.options or (), settings)
    fields.append(Field("options", options_text(expected.options), options_text(seen.options), agrees))
    if expected.ports is not None and seen.ports is not None:
        fields.append(Field("ports", _ports(expected.ports), _ports(seen.ports), expected.ports == seen.ports))
    return fields + _ip_fields(expected, seen)


def flags_text(flags: int) -> str:
    """The control bits as letters: "S.", "FP.", "-" where there are none."""
    order = ("F", "S", "R", "P", "U", "E", "W", ".")
    bits = dict(FLAG_LETTERS)
    return "".join(letter for letter in order if flags & bits[letter]) or "-"


def options_text(options: Sequence[Option] | None) -> str:
    """Options as a script has them: "<mss 1460,nop,wscale 4>", "" for none."""
    if options is None:
        return "<...>"
    return f"<{','.join(map(_option_text, options))}>" if options else "none"


def _option_text(option: Option) -> str:
    numbers = option.numbers
    if option.name == "TS":
        return f"TS val {numbers[0]} ecr {numbers[1]}"
    if option.name == "sack":
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return "sack " + " ".join(f"{left}:{right}" for left, right in pairs)
    words = [option.name, *map(str, numbers)]
    if option.blob:
        words.append(option.blob.hex())
    return " ".join(words)


def _options_agree(expected: Sequence[Option] | None, seen: Sequence[Option], settings: Settings) -> bool:
    if expected is None:
        return True
    if len(expected) != len(seen):
        return False
    return all(map(lambda one, other: _option_agrees(one, other, settings), expected, seen))


def _option_agrees(expected: Option, seen: Option, settings: Settings) -> bool:
    if expected.name == seen.name == "TS":
        if not settings.ts_tick_ns:  # as packetdrill: existing scripts are careless with these numbers
            return True
        ticks = (seen.numbers[0] - expected.numbers[0] + _HALF) % (2 * _HALF) - _HALF
        exact = abs(ticks) * settings.ts_tick_ns <= settings.tolerance_ns
        return exact and expected.numbers[1] == seen.numbers[1]
    return expected == seen


def _ip_fields(expected: Packet, seen: Packet) -> list[Field]:
    wanted, found = expected.ip, seen.ip
    fields = []
    if wanted.ttl is not None:
        fields.append(Field("ttl", str(wanted.ttl), str(found.ttl), wanted.ttl == found.ttl))
    if wanted.tos_mask:
        agrees = (wanted.tos ^ found.tos) & wanted.tos_mask == 0
        fields.append(Field("tos", f"{wanted.tos:#04x}", f"{found.tos & wanted.tos_mask:#04x}", agrees))
    if wanted.ect01:
        fields.append(Field("ecn", "ect0 or ect1", f"{found.tos & 3:#04x}", found.tos & 3 in (1, 2)))
    return fields


def _extent(packet: Packet) -> str:
    return f"{packet.seq}:{(packet.seq + packet.size) & 0xFFFF_FFFF}({packet.size})"


def _ports(ports: tuple[int, int]) -> str:
    return f"{ports[0]}>{ports[1]}"


def _any(number: int | None) -> str:
    return "any" if number is None else str(number)
