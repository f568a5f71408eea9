"""Calls whose text is in several parts, and control messages: sendmsg, recvmsg, readv, writev.

    writev(4, [{..., 1000}, {"abc", 3}], 2) = 1003
    recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 1000}], msg_flags=0,
                msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=9000}]}, 0) = 1000
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from .call_values import INT, MAX_TEXT, CallError, Names, Text, arity, field_of, fields, length, listed, number
from .script import Anything, Call, Unsupported, Value
from .side import Control, Outcome, Request
from .symbols import SYMBOLS

_PARTS = "[{..., 1000}]"
_MESSAGE = "{msg_name(...)=..., msg_iov(1)=[{..., 1000}], msg_flags=0}"
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err, <linux/errqueue.h>
_EE_FIELDS = ("ee_errno", "ee_origin", "ee_type", "ee_code", "ee_pad", "ee_info", "ee_data")
_CONTROL_ROOM = 4096


def sendmsg(call: Call, names: Names, text: Text) -> Request:
    """A Request("sendmsg", (fd, (octets, ...), flags))."""
    fd, message, flags = arity(call, 3)
    real = names.of(fd)
    given = fields(message, _MESSAGE)
    if given.get("msg_control", ()):
        raise CallError("sendmsg() sends no control messages here")
    if number(flags) & SYMBOLS["MSG_FASTOPEN"]:
        raise Unsupported("sendmsg() with MSG_FASTOPEN is not supported: sendto() is")
    return Request("sendmsg", (real, _texts(given.get("msg_iov", ()), real, text), number(flags)))


def writev(call: Call, names: Names, text: Text) -> Request:
    """As sendmsg() without flags."""
    fd, parts, _ = arity(call, 3)
    real = names.of(fd)
    return Request("sendmsg", (real, _texts(parts, real, text), 0))


def recvmsg(call: Call, names: Names, text: Text) -> Request:
    """A Request("recvmsg", (fd, octets, octets of control messages, flags))."""
    fd, message, flags = arity(call, 3)
    given = fields(message, _MESSAGE)
    room = _CONTROL_ROOM if "msg_control" in given else 0
    return Request("recvmsg", (names.of(fd), _room(given.get("msg_iov", ())), room, number(flags)))


def readv(call: Call, names: Names, text: Text) -> Request:
    """A Request("readv", (fd, octets))."""
    fd, parts, _ = arity(call, 3)
    return Request("readv", (names.of(fd), _room(parts)))


MAKERS: dict[str, Callable[[Call, Names, Text], Request]] = {
    "readv": readv, "recvmsg": recvmsg, "sendmsg": sendmsg, "writev": writev,
}  # fmt: skip


def check(call: Call, outcome: Outcome) -> str:
    """What is wrong with a message that was received; "" where nothing is."""
    given = fields(call.arguments[1], _MESSAGE)
    flags = given.get("msg_flags", 0)
    if isinstance(flags, int) and flags != outcome.flags:
        return f"msg_flags are {outcome.flags:#x}, not {flags:#x}"
    if "msg_control" not in given or isinstance(given["msg_control"], Anything):
        return ""
    wanted = tuple(map(_control, listed(given["msg_control"], "[{cmsg_level=..., cmsg_type=..., cmsg_data=...}]")))
    if len(wanted) != len(outcome.control):
        return f"{len(outcome.control)} control messages came, not {len(wanted)}: {_shown(outcome.control)}"
    for index, (one, found) in enumerate(zip(wanted, outcome.control, strict=True)):
        # What an error on the queue was about (an address) follows it, and is not looked at.
        if (one.level, one.type) != (found.level, found.type) or not found.data.startswith(one.data):
            return f"control message {index + 1} is {_shown([found])}, not {_shown([one])}"
    return ""


def _control(value: Value) -> Control:
    given = fields(value, "{cmsg_level=..., cmsg_type=..., cmsg_data=...}")
    level, kind = (field_of(value, name, -1) for name in ("cmsg_level", "cmsg_type"))
    data = given.get("cmsg_data", b"")
    if isinstance(data, int):
        return Control(level, kind, INT.pack(data))
    if isinstance(data, Mapping):
        numbers = [field_of(data, name, 0) for name in _EE_FIELDS]
        try:
            return Control(level, kind, _EXTENDED_ERROR.pack(*numbers))
        except struct.error:
            raise CallError(f"these are no fields of struct sock_extended_err: {dict(data)}") from None
    if isinstance(data, Anything):
        data = b""
    if not isinstance(data, bytes):
        raise CallError(f"cmsg_data is a number or {{ee_errno=...}}, not {data!r}")
    return Control(level, kind, data)


def _shown(messages: tuple[Control, ...] | list[Control]) -> str:
    words = []
    for each in messages:
        data: object = each.data.hex()
        if len(each.data) == INT.size:
            data = INT.unpack(each.data)[0]
        elif len(each.data) >= _EXTENDED_ERROR.size:
            pairs = zip(_EE_FIELDS, _EXTENDED_ERROR.unpack_from(each.data), strict=True)
            data = "{" + ", ".join(f"{name}={found}" for name, found in pairs if name != "ee_pad") + "}"
        words.append(f"(level {each.level}, type {each.type}, data {data})")
    return ", ".join(words) or "none"


def _texts(parts: Value, real: int, text: Text) -> tuple[str, ...]:
    """The parts in hexadecimal digits; unnamed ones go on where the one before ended."""
    sizes = [_part(each) for each in listed(parts, _PARTS)]
    unnamed = text(real, _total([size for what, size in sizes if not isinstance(what, bytes)]))
    found, at = [], 0
    for what, size in sizes:
        if isinstance(what, bytes):
            found.append(what[:size].ljust(size, b"\0").hex())
        else:
            found.append(unnamed[at : at + size].hex())
            at += size
    return tuple(found)


def _room(parts: Value) -> int:
    return _total([size for _, size in map(_part, listed(parts, _PARTS))])


def _part(value: Value) -> tuple[Value, int]:
    pair = listed(value, "{..., 1000}")
    if len(pair) != 2:
        raise CallError(f"a part of a text is {{..., SIZE}}, not {value!r}")
    return pair[0], length(pair[1])


def _total(sizes: list[int]) -> int:
    if sum(sizes) > MAX_TEXT:
        raise CallError(f"a text has at most {MAX_TEXT} octets, not {sum(sizes)}")
    return sum(sizes)
