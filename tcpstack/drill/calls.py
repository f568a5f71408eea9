"""A script's socket call into a Request with nothing left open, and its Outcome held against what the script expects.

Descriptors in a script are names: `= 3` behind a socket() names whatever descriptor came. "..." for an address is
the one of the settings, for a text the next octets of a pattern (flows.py), for a length what fits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from .script import ANYTHING, Anything, Call, Unsupported, Value
from .settings import Settings
from .side import Outcome, Request
from .symbols import SYMBOLS, errno_name

RETURNS_DESCRIPTOR = frozenset({"socket", "accept", "accept4"})
_F_GETFL, _F_SETFL = SYMBOLS["F_GETFL"], SYMBOLS["F_SETFL"]
_FASTOPEN = SYMBOLS["MSG_FASTOPEN"]
_IOCTLS = frozenset({SYMBOLS["SIOCINQ"], SYMBOLS["SIOCOUTQ"], SYMBOLS["SIOCOUTQNSD"]})
_INT = struct.Struct("=i")
_MAX_TEXT = 1 << 26


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


def request_of(
    call: Call, names: Names, settings: Settings, text: Callable[[int, int], bytes]
) -> Request:
    """The request for `call`; `text(fd, size)` gives what an unnamed write writes.

    Raises CallError, and Unsupported for a call or an option that neither side knows.
    """
    make = _MAKERS.get(call.name)
    if make is None:
        raise Unsupported(f"{call.name}() is not supported; supported are {', '.join(SUPPORTED)}")
    return make(call, names, settings, text)


def check(call: Call, outcome: Outcome) -> str:
    """What is wrong with the outcome, in words; "" where it is as the script expects."""
    wanted, found = call.result, outcome.result
    shown = str(found) if found != -1 else f"-1 {errno_name(outcome.errno)}"
    if isinstance(wanted, int):
        descriptor = call.name in RETURNS_DESCRIPTOR and wanted >= 0
        if descriptor and found < 0:
            return f"{call.name}() returned {shown}, not a descriptor"
        if not descriptor and wanted != found:
            expected = str(wanted) if wanted != -1 or call.errno is None else f"-1 {errno_name(call.errno)}"
            return f"{call.name}() returned {shown}, not {expected}"
        if wanted == -1 and call.errno is not None and call.errno != outcome.errno:
            return f"{call.name}() failed with {errno_name(outcome.errno)}, not {errno_name(call.errno)}"
    return "" if found < 0 else _check_filled_in(call, outcome)


def _check_filled_in(call: Call, outcome: Outcome) -> str:
    """What the call filled in besides its result: an option's value, a number, poll's events, a text."""
    arguments = call.arguments
    if call.name == "getsockopt" and len(arguments) > 3:
        wanted = arguments[3]
        found = outcome.text
        if isinstance(wanted, bytes) and wanted.rstrip(b"\0") != found.rstrip(b"\0"):
            return f"the option is {found!r}, not {wanted!r}"
        number = wanted[0] if isinstance(wanted, tuple) and len(wanted) == 1 else ANYTHING
        if isinstance(number, int) and (len(found) < 4 or _INT.unpack_from(found)[0] != number):
            return f"the option is {_INT.unpack_from(found)[0] if len(found) >= 4 else found!r}, not {number}"
    if call.name == "ioctl" and len(arguments) > 2 and isinstance(arguments[2], tuple) and arguments[2]:
        if outcome.values != arguments[2]:
            return f"it says {outcome.values[0]}, not {arguments[2][0]!r}"
    if call.name == "poll" and isinstance(arguments[0], tuple):
        wanted_events = tuple(_field(each, "revents", 0) for each in arguments[0])
        if wanted_events != outcome.values:
            return f"revents are {outcome.values}, not {wanted_events}"
    if call.name in ("read", "recv") and len(arguments) > 1 and isinstance(arguments[1], bytes):
        if outcome.text != arguments[1][: len(outcome.text)]:
            return f"the text read is {outcome.text[:60]!r}, not {arguments[1][:60]!r}"
    return ""


# -- requests, call by call

_Text = Callable[[int, int], bytes]


def _socket(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    _, kind, protocol = _arity(call, 3)
    family = SYMBOLS["AF_INET" if settings.version == 4 else "AF_INET6"]
    if call.arguments[0] not in (ANYTHING, family):
        raise CallError(f"the family is not that of --ip_version=ipv{settings.version}: write '...'")
    if not isinstance(kind, int) or kind & 0xF != SYMBOLS["SOCK_STREAM"] or protocol not in (0, SYMBOLS["IPPROTO_TCP"]):
        raise Unsupported("only TCP sockets are supported: socket(..., SOCK_STREAM, IPPROTO_TCP)")
    return Request("socket", (family, kind, SYMBOLS["IPPROTO_TCP"]))


def _bind(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, where, _ = _arity(call, 3)
    return Request("bind", (names.of(fd), *_address(where, str(settings.local), settings.bind_port)))


def _connect(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, where, _ = _arity(call, 3)
    return Request("connect", (names.of(fd), *_address(where, str(settings.remote), settings.connect_port)))


def _listen(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, backlog = _arity(call, 2)
    return Request("listen", (names.of(fd), _number(backlog)))


def _accept(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    values = _arity(call, 3 if call.name == "accept" else 4)
    return Request("accept", (names.of(values[0]), _number(values[3]) if call.name == "accept4" else 0))


def _receive(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, _, size, *rest = _arity(call, 3 if call.name == "read" else 4)
    return Request("recv", (names.of(fd), _length(size), _number(rest[0]) if rest else 0))


def _send(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    count = {"write": 3, "send": 4, "sendto": 6}[call.name]
    fd, what, size, *rest = _arity(call, count)
    flags = _number(rest[0]) if rest else 0
    if flags & _FASTOPEN:
        raise Unsupported("MSG_FASTOPEN is not supported")
    real, length = names.of(fd), _length(size)
    octets = what[:length].ljust(length, b"\0") if isinstance(what, bytes) else text(real, length)
    return Request("send", (real, octets.hex(), flags))


def _close(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    (fd,) = _arity(call, 1)
    return Request("close", (names.of(fd),))


def _shutdown(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, how = _arity(call, 2)
    return Request("shutdown", (names.of(fd), _number(how)))


def _fcntl(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    if len(call.arguments) == 2:
        fd, command = call.arguments
        value = 0
    else:
        fd, command, given = _arity(call, 3)
        value = _number(given)
    if command not in (_F_GETFL, _F_SETFL):
        raise Unsupported("fcntl() is supported for F_GETFL and F_SETFL")
    return Request("fcntl", (names.of(fd), _number(command), value))


def _setsockopt(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, level, name, value, _ = _arity(call, 5)
    return Request("setsockopt", (names.of(fd), _number(level), _number(name), _octets(value).hex()))


def _getsockopt(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, level, name, value, _ = _arity(call, 5)
    size = 256 if isinstance(value, (bytes, Anything)) else len(_octets(value))
    return Request("getsockopt", (names.of(fd), _number(level), _number(name), size))


def _ioctl(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    fd, command, _ = _arity(call, 3)
    if command not in _IOCTLS:
        raise Unsupported("ioctl() is supported for SIOCINQ, SIOCOUTQ and SIOCOUTQNSD")
    return Request("ioctl", (names.of(fd), _number(command)))


def _poll(call: Call, names: Names, settings: Settings, text: _Text) -> Request:
    polled, _, timeout = _arity(call, 3)
    if not isinstance(polled, tuple):
        raise CallError("poll() takes a list: poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, 0)")
    pairs = tuple((names.of(_field(each, "fd", -1)), _field(each, "events", 0)) for each in polled)
    for each in polled:
        _field(each, "revents", 0)
    return Request("poll", (pairs, _number(timeout)))


_MAKERS: dict[str, Callable[[Call, Names, Settings, _Text], Request]] = {
    "accept": _accept, "accept4": _accept, "bind": _bind, "close": _close, "connect": _connect, "fcntl": _fcntl,
    "getsockopt": _getsockopt, "ioctl": _ioctl, "listen": _listen, "poll": _poll, "read": _receive,
    "recv": _receive, "send": _send, "sendto": _send, "setsockopt": _setsockopt, "shutdown": _shutdown,
    "socket": _socket, "write": _send,
}  # fmt: skip

SUPPORTED = tuple(sorted(_MAKERS))
"""The calls that there are."""

# -- values


def _arity(call: Call, count: int) -> tuple[Value, ...]:
    if len(call.arguments) != count:
        raise CallError(f"{call.name}() takes {count} arguments, and has {len(call.arguments)}")
    return call.arguments


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise CallError(f"a number is wanted, not {value!r}")
    return value


def _length(value: Value) -> int:
    length = _number(value)
    if not 0 <= length <= _MAX_TEXT:
        raise CallError(f"a text has 0 to {_MAX_TEXT} octets, not {length}")
    return length


def _field(value: Value, name: str, default: int) -> int:
    if not isinstance(value, Mapping):
        raise CallError(f"a structure {{{name}=...}} is wanted, not {value!r}")
    return _number(value.get(name, default))


def _address(value: Value, address: str, port: int) -> tuple[str, int]:
    """An address and port, as given in a {sa_family=..., sin_port=..., sin_addr=...} or as the settings have them."""
    if isinstance(value, Anything):
        return address, port
    if not isinstance(value, Mapping):
        raise CallError(f"an address is '...' or a {{sa_family=...}}, not {value!r}")
    given = value.get("sin_addr", value.get("sin6_addr", ANYTHING))
    if isinstance(given, str):
        try:
            address = str(ip_address(given))
        except ValueError:
            raise CallError(f"{given!r} is no address") from None
    number = _number(value.get("sin_port", value.get("sin6_port", port)))
    if not 0 <= number <= 65535:
        raise CallError(f"a port is 0 to 65535, not {number}")
    return address, number


def _octets(value: Value) -> bytes:
    """An option's value: [n], "text", {onoff=1, linger=0}."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        return b"".join(_INT.pack(_signed(_number(each))) for each in value.values())
    if isinstance(value, tuple):
        return b"".join(_INT.pack(_signed(_number(each))) for each in value)
    if isinstance(value, int):
        return _INT.pack(_signed(value))
    raise CallError(f"an option's value is [n], \"text\" or {{onoff=1, linger=0}}, not {value!r}")


def _signed(number: int) -> int:
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)
