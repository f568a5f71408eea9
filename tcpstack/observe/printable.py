"""What is shown of foreign octets: never a character that a terminal would act on."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Sequence

from ..core.segment import Buffer, FourTuple

_ESCAPES = {octet: f"\\x{octet:02x}" for octet in (*range(0x20), *range(0x7F, 0x100))} | {
    0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\",
}  # fmt: skip
_HEX_OCTETS = 12


def printable(text: str) -> str:
    """`text` with each character that is not printable (controls, escapes, direction marks) spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def preview(payload: Sequence[Buffer], limit: int = 48) -> str:
    """The first line of a payload in quotes, at most its first `limit` octets, or its first octets in hex.

    ASCII, but for the ellipsis that says that the payload goes on.
    """
    head = b""
    for chunk in payload:
        head += bytes(chunk[: limit - len(head)])
        if len(head) >= limit:
            break
    total = sum(map(len, payload))
    breaks = [at for at in (head.find(b"\r"), head.find(b"\n")) if at > 0]
    line = head[: min(breaks)] if breaks else head
    ending = head[len(line) : len(line) + 2]
    more = total > len(line) + (2 if ending == b"\r\n" else 1 if breaks else 0)
    unusual = sum(octet in _ESCAPES for octet in line)
    if unusual * 4 > len(line) and unusual > 2:
        return head[:_HEX_OCTETS].hex(" ") + (" …" if total > _HEX_OCTETS else "")
    shown = "".join(_ESCAPES.get(octet) or chr(octet) for octet in line)
    return f'"{shown}"' + (" …" if more else "")


def endpoint(address: bytes, port: int) -> str:
    """A socket as people write it: "10.9.0.2:80", "[fd09::2]:80"."""
    text = str(ipaddress.ip_address(address))
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


def flow_name(flow: FourTuple, *, opened_by_us: bool) -> str:
    """A connection, from who opened it to whom: "10.9.0.1:41234 -> :80". Our own address is left out."""
    _, lport, remote, rport = flow
    if opened_by_us:
        return f":{lport} -> {endpoint(remote, rport)}"
    return f"{endpoint(remote, rport)} -> :{lport}"


def octets(count: int) -> str:
    """A size in decimal units: "78 B", "1.2 kB", "104.9 MB"."""
    if count < 1000:
        return f"{count} B"
    for unit, size in (("kB", 1e3), ("MB", 1e6)):
        if count < 999.95 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"


def duration(time_ns: int) -> str:
    """A length of time: "3.1 ms", "1.24 s", "2 min 5 s"."""
    seconds = time_ns / 1e9
    if seconds < 0.9995:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s"


_ENDINGS = {
    errno.ECONNRESET: "reset by peer",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed out",
    errno.ECONNABORTED: "aborted",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EPIPE: "reset by peer",
}


def ending(error: OSError | None) -> str:
    """How a connection ended: "closed", "reset by peer", "timed out", or the error's own text."""
    if error is None:
        return "closed"
    return _ENDINGS.get(error.errno or 0) or printable(error.strerror or str(error) or type(error).__name__)
