"""A script's socket call into a Request with nothing left open, and its Outcome held against what the script expects.

Descriptors in a script are names: `= 3` behind a socket() names whatever descriptor came. "..." for an address is
the one of the settings, for a text the next octets of a pattern (flows.py), for a length what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from . import call_epoll, call_messages
from .call_values import (
    INT,
    CallError,
    Names,
    Text,
    arity,
    field_of,
    length,
    listed,
    number,
    octets,
)
from .script import ANYTHING, Anything, Call, Unsupported, Value
from .settings import Settings
from .side import Outcome, Request
from .symbols import SYMBOLS, errno_name

RETURNS_DESCRIPTOR = frozenset({"socket", "accept", "accept4", "epoll_create", "open"})
_F_GETFL, _F_SETFL = SYMBOLS["F_GETFL"], SYMBOLS["F_SETFL"]
_FASTOPEN = SYMBOLS["MSG_FASTOPEN"]
_IOCTLS = frozenset({SYMBOLS["SIOCINQ"], SYMBOLS["SIOCOUTQ"], SYMBOLS["SIOCOUTQNSD"]})


def request_of(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    """The request for `call`; `text(fd, size)` gives what an unnamed write writes.

    Raises CallError, and Unsupported for a call or an option that neither side knows.
    """
    make = _MAKERS.get(call.name)
    if make is not None:
        return make(call, names, settings, text)
    simple = _SIMPLE.get(call.name)
    if simple is None:
        raise Unsupported(f"{call.name}() is not supported; supported are {', '.join(SUPPORTED)}")
    return simple(call, names, text)


def sent(request: Request) -> tuple[int, bytes] | None:
    """The descriptor that a request writes to, and the text; None for another request."""
    if request.name in ("send", "sendto"):
        return request.arguments[0], bytes.fromhex(request.arguments[1])
    if request.name == "sendmsg":
        return request.arguments[0], bytes.fromhex("".join(request.arguments[1]))
    return None


def received(request: Request) -> tuple[int, int] | None:
    """The descriptor that a request reads from, and the flags; None for another request."""
    if request.name == "readv":
        return request.arguments[0], 0
    return (request.arguments[0], request.arguments[-1]) if request.name in ("recv", "recvmsg") else None


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
        asked = wanted[0] if isinstance(wanted, tuple) and len(wanted) == 1 else ANYTHING
        if isinstance(asked, int) and (len(found) < 4 or INT.unpack_from(found)[0] != asked):
            return f"the option is {INT.unpack_from(found)[0] if len(found) >= 4 else found!r}, not {asked}"
    if call.name == "ioctl" and len(arguments) > 2 and isinstance(arguments[2], tuple) and arguments[2]:
        if outcome.values != arguments[2]:
            return f"it says {outcome.values[0]}, not {arguments[2][0]!r}"
    if call.name == "poll" and isinstance(arguments[0], tuple):
        wanted_events = tuple(field_of(each, "revents", 0) for each in arguments[0])
        if wanted_events != outcome.values:
            return f"revents are {outcome.values}, not {wanted_events}"
    if call.name == "recvmsg":
        return call_messages.check(call, outcome)
    if call.name == "epoll_wait":
        return call_epoll.check(call, outcome)
    if call.name in ("read", "recv", "recvfrom") and len(arguments) > 1 and isinstance(arguments[1], bytes):
        if outcome.text != arguments[1][: len(outcome.text)]:
            return f"the text read is {outcome.text[:60]!r}, not {arguments[1][:60]!r}"
    return ""


# -- requests, call by call

def _socket(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    _, kind, protocol = arity(call, 3)
    family = SYMBOLS["AF_INET" if settings.version == 4 else "AF_INET6"]
    if call.arguments[0] not in (ANYTHING, family):
        raise CallError(f"the family is not that of --ip_version=ipv{settings.version}: write '...'")
    if not isinstance(kind, int) or kind & 0xF != SYMBOLS["SOCK_STREAM"] or protocol not in (0, SYMBOLS["IPPROTO_TCP"]):
        raise Unsupported("only TCP sockets are supported: socket(..., SOCK_STREAM, IPPROTO_TCP)")
    return Request("socket", (family, kind, SYMBOLS["IPPROTO_TCP"]))


def _bind(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, where, _ = arity(call, 3)
    return Request("bind", (names.of(fd), *_address(where, str(settings.local), settings.bind_port)))


def _connect(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, where, _ = arity(call, 3)
    return Request("connect", (names.of(fd), *_address(where, str(settings.remote), settings.connect_port)))


def _listen(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, backlog = arity(call, 2)
    return Request("listen", (names.of(fd), number(backlog)))


def _accept(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    values = arity(call, 3 if call.name == "accept" else 4)
    return Request("accept", (names.of(values[0]), number(values[3]) if call.name == "accept4" else 0))


def _receive(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, where, size, *rest = arity(call, {"read": 3, "recv": 4, "recvfrom": 6}[call.name])
    flags = number(rest[0]) if rest else 0
    if where == 0:
        return Request("without_buffer", (names.of(fd), "recv", length(size), flags))
    if call.name == "read" and size == 0:
        return Request("readv", (names.of(fd), 0))  # unlike recv() it does not wait for something to read
    return Request("recv", (names.of(fd), length(size), flags))


def _send(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    count = {"write": 3, "send": 4, "sendto": 6}[call.name]
    fd, what, size, *rest = arity(call, count)
    flags = number(rest[0]) if rest else 0
    real, octets_asked = names.of(fd), length(size)
    if what == 0:
        return Request("without_buffer", (real, "send", octets_asked, flags))
    named = what[:octets_asked].ljust(octets_asked, b"\0") if isinstance(what, bytes) else text(real, octets_asked)
    if flags & _FASTOPEN and call.name == "sendto":
        where = _address(rest[1], str(settings.remote), settings.connect_port)
        return Request("sendto", (real, named.hex(), flags, *where))
    return Request("send", (real, named.hex(), flags))


def _close(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    (fd,) = arity(call, 1)
    return Request("close", (names.of(fd),))


def _shutdown(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, how = arity(call, 2)
    return Request("shutdown", (names.of(fd), number(how)))


def _fcntl(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    if len(call.arguments) == 2:
        fd, command = call.arguments
        value = 0
    else:
        fd, command, given = arity(call, 3)
        value = number(given)
    if command not in (_F_GETFL, _F_SETFL):
        raise Unsupported("fcntl() is supported for F_GETFL and F_SETFL")
    return Request("fcntl", (names.of(fd), number(command), value))


def _setsockopt(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, level, name, value, _ = arity(call, 5)
    return Request("setsockopt", (names.of(fd), number(level), number(name), octets(value).hex()))


def _getsockopt(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, level, name, value, _ = arity(call, 5)
    size = 256 if isinstance(value, (bytes, Anything)) else len(octets(value))
    return Request("getsockopt", (names.of(fd), number(level), number(name), size))


def _ioctl(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    fd, command, _ = arity(call, 3)
    if command not in _IOCTLS:
        raise Unsupported("ioctl() is supported for SIOCINQ, SIOCOUTQ and SIOCOUTQNSD")
    return Request("ioctl", (names.of(fd), number(command)))


def _poll(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    polled, _, timeout = arity(call, 3)
    each_polled = listed(polled, "[{fd=4, events=POLLIN, revents=POLLIN}]")
    pairs = tuple((names.of(field_of(each, "fd", -1)), field_of(each, "events", 0)) for each in each_polled)
    for each in each_polled:
        field_of(each, "revents", 0)
    return Request("poll", (pairs, number(timeout)))


def _open(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    path, flags, *_ = arity(call, max(len(call.arguments), 2))
    if not isinstance(path, bytes):
        raise CallError(f"a file's name is a text, not {path!r}")
    return Request("open", (path.decode("utf-8", "surrogateescape"), number(flags)))


def _sendfile(call: Call, names: Names, settings: Settings, text: Text) -> Request:
    to, source, offset, size = arity(call, 4)
    start = None if offset == 0 else number(listed(offset, "[0]")[0])
    return Request("sendfile", (names.of(to), names.of(source), start, length(size)))


_MAKERS: dict[str, Callable[[Call, Names, Settings, Text], Request]] = {
    "accept": _accept, "accept4": _accept, "bind": _bind, "close": _close, "connect": _connect, "fcntl": _fcntl,
    "getsockopt": _getsockopt, "ioctl": _ioctl, "listen": _listen, "open": _open, "poll": _poll, "read": _receive,
    "recv": _receive, "recvfrom": _receive, "send": _send, "sendfile": _sendfile, "sendto": _send,
    "setsockopt": _setsockopt, "shutdown": _shutdown, "socket": _socket, "write": _send,
}  # fmt: skip
_SIMPLE = {**call_messages.MAKERS, **call_epoll.MAKERS}

SUPPORTED = tuple(sorted((*_MAKERS, *_SIMPLE)))
"""The calls that there are."""

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
    asked = number(value.get("sin_port", value.get("sin6_port", port)))
    if not 0 <= asked <= 65535:
        raise CallError(f"a port is 0 to 65535, not {asked}")
    return address, asked
