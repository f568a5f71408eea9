"""Linux's epoll on our stack, as far as it is what poll() says: level-triggered, EPOLLONESHOT, and one descriptor in
each. Which of several comes first, and what an edge is, are matters of Linux's wake-ups, which there are none of here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from .script import Unsupported
from .symbols import SYMBOLS, flag_names

_ADD, _DEL, _MOD = (SYMBOLS[f"EPOLL_CTL_{name}"] for name in ("ADD", "DEL", "MOD"))
_EDGE, _ONESHOT, _EXCLUSIVE = (SYMBOLS[name] for name in ("EPOLLET", "EPOLLONESHOT", "EPOLLEXCLUSIVE"))
_PRIVATE = _EDGE | _ONESHOT | _EXCLUSIVE | SYMBOLS["EPOLLWAKEUP"]
_ALWAYS = SYMBOLS["EPOLLERR"] | SYMBOLS["EPOLLHUP"]


class Epoll:
    """fd      the descriptor that is watched; None where there is none
    events  which of its events count;  data: what is said with them
    """

    __slots__ = ("data", "events", "fd")

    def __init__(self) -> None:
        self.fd: int | None = None
        self.events = self.data = 0

    def control(self, operation: int, fd: int, events: int, data: int) -> int:
        """epoll_ctl() for a descriptor that is open; 0 or an errno."""
        if operation not in (_ADD, _DEL, _MOD) or (operation == _MOD and events & _EXCLUSIVE):
            return errno.EINVAL
        if operation == _ADD:
            if self.fd == fd:
                return errno.EEXIST
        elif self.fd != fd:
            return errno.ENOENT
        self.fd = None if operation == _DEL else fd
        self.events, self.data = events | _ALWAYS, data
        return 0

    def take(self, ready: int) -> int:
        """The events to be told where the descriptor has those of `ready`; 0 where there is nothing to be told."""
        found = ready & self.events & ~_PRIVATE
        if found and self.events & _ONESHOT:
            self.events &= _PRIVATE
        return found


class Epolls:
    """The epolls by descriptor.

    is_socket  whether there is a socket of this descriptor
    ready      what poll() would say of it
    """

    def __init__(self, is_socket: Callable[[int], bool], ready: Callable[[int], int]) -> None:
        self._is_socket = is_socket
        self._ready = ready
        self._epolls: dict[int, Epoll] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._epolls

    def create(self, fd: int) -> None:
        """A new one of this descriptor."""
        self._epolls[fd] = Epoll()

    def close(self, fd: int) -> bool:
        """A descriptor is closed; True where it was that of an epoll."""
        for each in self._epolls.values():
            if each.fd == fd:
                each.fd = None
        return self._epolls.pop(fd, None) is not None

    def control(self, epoll: int, operation: int, fd: int, events: int, data: int) -> int:
        """epoll_ctl(): 0 or an errno."""
        found = self._epolls.get(epoll)
        if not self._is_socket(fd) or (found is None and not self._is_socket(epoll)):
            return errno.EBADF
        return errno.EINVAL if found is None else found.control(operation, fd, events, data)

    def wait(self, epoll: int, most: int) -> Callable[[], tuple[int, int] | None] | int:
        """epoll_wait(): what gives the events and the data, as soon as there are any; or an errno."""
        found = self._epolls.get(epoll)
        if found is None:
            return errno.EINVAL if self._is_socket(epoll) else errno.EBADF

        def look() -> tuple[int, int] | None:
            events = found.take(self._ready(found.fd)) if found.fd is not None else 0
            return (events, found.data) if events else None

        return look if most > 0 else errno.EINVAL


def check(watched: set[int], operation: int, fd: int, events: int) -> None:
    """See that an epoll with these descriptors can do this, and take it in. Raises Unsupported."""
    if operation == _DEL:
        watched.discard(fd)
        return
    if events & _EDGE:
        raise Unsupported(f"epoll with {flag_names('EPOLL', events & _EDGE)} is not there on the engine")
    watched.add(fd)
    if len(watched) > 1:
        raise Unsupported("an epoll of several descriptors is not there on the engine")
