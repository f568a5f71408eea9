"""epoll in scripts:

    epoll_create(1) = 5
    epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN, fd=4}) = 0
    epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1       or a list of such, one for each that is found
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .call_values import CallError, Names, Text, arity, field_of, fields, number
from .script import Anything, Call, Value
from .side import Outcome, Request
from .symbols import flag_names

_EVENT = "{events=EPOLLIN, fd=4}"
_DATA = ("fd", "ptr", "u32", "u64")
_MASK = 0xFFFF_FFFF


def epoll_create(call: Call, names: Names, text: Text) -> Request:
    """A Request("epoll_create", ())."""
    arity(call, 1)
    return Request("epoll_create", ())


def epoll_ctl(call: Call, names: Names, text: Text) -> Request:
    """A Request("epoll_ctl", (epoll's fd, operation, fd, events, data))."""
    epoll, operation, fd, event = arity(call, 4)
    events, data = (0, 0) if event in (0, ()) or isinstance(event, Anything) else _event(event)
    return Request("epoll_ctl", (names.of(epoll), number(operation), names.of(fd), events, data))


def epoll_wait(call: Call, names: Names, text: Text) -> Request:
    """A Request("epoll_wait", (epoll's fd, most events, milliseconds))."""
    epoll, wanted, most, timeout = arity(call, 4)
    if not isinstance(wanted, Anything):
        for each in _events(wanted):
            _event(each)
    return Request("epoll_wait", (names.of(epoll), number(most), number(timeout)))


MAKERS: dict[str, Callable[[Call, Names, Text], Request]] = {
    "epoll_create": epoll_create, "epoll_ctl": epoll_ctl, "epoll_wait": epoll_wait,
}  # fmt: skip


def check(call: Call, outcome: Outcome) -> str:
    """What is wrong with what epoll_wait() found; "" where nothing is."""
    if isinstance(call.arguments[1], Anything):
        return ""
    wanted = [_event(each) for each in _events(call.arguments[1])]
    found = list(zip(outcome.values[::2], outcome.values[1::2], strict=True))
    for (events, data), (events_found, data_found) in zip(wanted, found, strict=False):
        if events != events_found:
            shown = flag_names("EPOLL", events_found), flag_names("EPOLL", events)
            return f"events are {shown[0] or 0}, not {shown[1] or 0}"
        if data != data_found:
            return f"the event's data is {data_found}, not {data}"
    return ""


def _events(value: Value) -> tuple[Value, ...]:
    return (value,) if isinstance(value, Mapping) else value if isinstance(value, tuple) else (fields(value, _EVENT),)


def _event(value: Value) -> tuple[int, int]:
    """(events, data)."""
    given = fields(value, _EVENT)
    unknown = set(given) - {"events", *_DATA}
    if unknown:
        raise CallError(f"an event is {_EVENT}: it has no {', '.join(sorted(unknown))}")
    data = next((field_of(value, name, 0) for name in _DATA if name in given), 0)
    return field_of(value, "events", 0) & _MASK, data
