"""A script's packets as octets, and octets as a script's packets: headers and options in the very order written.

The project's codec has one order for options, and no way to write a header that is wrong. A drill must write what
its author wrote; arriving packets still go through the codec first, which verifies lengths and checksums.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..core.segment import FIN, PSH, Buffer
from ..core.seq import MASK
from ..wire.checksum import PROTOCOL_TCP, checksum, pseudo_header
from .script import Option

_TCP = struct.Struct("!HHIIHHHH")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_DONT_FRAGMENT = 0x4000
_HOP_LIMIT = 255

_KINDS = {"eol": 0, "nop": 1, "mss": 2, "wscale": 3, "sackOK": 4, "sack": 5, "TS": 8, "md5": 19, "FO": 34, "FOEXP": 254}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_FAST_OPEN_MAGIC = b"\xf9\x89"


def ip_packet(src: bytes, dst: bytes, protocol: int, body: bytes, *, tos: int = 0, ttl: int | None = None) -> bytes:
    """An IPv4 or IPv6 packet, by the length of its addresses."""
    hops = _HOP_LIMIT if ttl is None else ttl
    if len(src) == 16:
        return _IPV6.pack(6 << 28 | tos << 20, len(body), protocol, hops, src, dst) + body
    fields = (0x45, tos, 20 + len(body), 0, _DONT_FRAGMENT, hops, protocol)
    return _IPV4.pack(*fields, checksum((_IPV4.pack(*fields, 0, src, dst),)), src, dst) + body


def tcp_segment(
    src: bytes, sport: int, dst: bytes, dport: int, *,
    seq: int, ack: int, flags: int, win: int, urg: int = 0, options: bytes = b"", text: Buffer = b"",
) -> bytes:  # fmt: skip
    """A TCP segment with its checksum."""
    offset_flags = (5 << 12) + (len(options) << 10) | flags
    fields = (sport, dport, seq, ack, offset_flags, win)
    head = _TCP.pack(*fields, 0, urg) + options
    total = checksum((pseudo_header(src, dst, len(head) + len(text)), head, text))
    return _TCP.pack(*fields, total, urg) + options + bytes(text)


def tcp_packet(packet: bytes) -> tuple[bytes, int, int]:
    """(the option octets, the TOS octet, the TTL) of an IP packet that carries TCP and is known to be sound."""
    if packet[0] >> 4 == 4:
        start = (packet[0] & 0x0F) * 4
        tos, ttl = packet[1], packet[8]
    else:
        start = 40  # neither side sends extension headers with TCP
        assert packet[6] == PROTOCOL_TCP
        tos, ttl = int.from_bytes(packet[:2], "big") >> 4 & 0xFF, packet[7]
    end = start + (packet[start + 12] >> 4) * 4
    return packet[start + 20 : end], tos, ttl


def cut(packet: bytes, size: int) -> tuple[bytes, bytes]:
    """Two packets of one that carries TCP, as hardware divides it: the first `size` octets of its text, and the rest.
    PSH and FIN go with the rest. Their TCP checksums are not made."""
    start = (packet[0] & 0x0F) * 4 if packet[0] >> 4 == 4 else 40
    body = start + (packet[start + 12] >> 4) * 4
    first, rest = bytearray(packet[: body + size]), bytearray(packet[:body] + packet[body + size :])
    first[start + 13] &= ~(PSH | FIN)
    seq = int.from_bytes(packet[start + 4 : start + 8], "big")
    rest[start + 4 : start + 8] = ((seq + size) & MASK).to_bytes(4, "big")
    for part in (first, rest):
        if start == 40:
            part[4:6] = (len(part) - 40).to_bytes(2, "big")
        else:
            part[2:4] = len(part).to_bytes(2, "big")
            part[10:12] = bytes(2)
            part[10:12] = checksum((bytes(part[:start]),)).to_bytes(2, "big")
    return bytes(first), bytes(rest)


def encode_options(options: Sequence[Option]) -> bytes:
    """The options as they stand in a header, in this order; their numbers as on the wire."""
    parts = []
    for option in options:
        kind = _KINDS[option.name]
        if option.name in ("eol", "nop"):
            parts.append(bytes((kind,)))
            continue
        body = option.blob
        if option.name == "mss":
            body = struct.pack("!H", *option.numbers)
        elif option.name == "wscale":
            body = bytes(option.numbers)
        elif option.name in ("TS", "sack"):
            body = struct.pack(f"!{len(option.numbers)}I", *option.numbers)
        elif option.name == "FOEXP":
            body = _FAST_OPEN_MAGIC + body
        parts.append(bytes((kind, 2 + len(body))) + body)
    return b"".join(parts)


def decode_options(octets: bytes) -> tuple[Option, ...]:
    """The options in a header, in order. What is behind an end of options, or malformed, is one option "kind N"."""
    found: list[Option] = []
    at = 0
    while at < len(octets):
        kind = octets[at]
        if kind in (0, 1):
            found.append(Option(_NAMES[kind]))
            at += 1
            continue
        length = octets[at + 1] if at + 1 < len(octets) else 0
        if length < 2 or at + length > len(octets):
            found.append(Option(f"kind {kind}", blob=octets[at + 1 :]))
            break
        found.append(_option(kind, octets[at + 2 : at + length]))
        at += length
    return tuple(found)


def _option(kind: int, body: bytes) -> Option:
    name = _NAMES.get(kind, "")
    if name == "mss" and len(body) == 2:
        return Option(name, (int.from_bytes(body, "big"),))
    if name == "wscale" and len(body) == 1:
        return Option(name, (body[0],))
    if (name == "TS" and len(body) == 8) or (name == "sack" and body and len(body) % 8 == 0):
        return Option(name, struct.unpack(f"!{len(body) // 4}I", body))
    if name == "FOEXP" and body.startswith(_FAST_OPEN_MAGIC):
        return Option(name, blob=body[2:])
    if name == "sackOK" and not body:
        return Option(name)
    if name in ("FO", "md5"):
        return Option(name, blob=body)
    return Option(f"kind {kind}", blob=body)
