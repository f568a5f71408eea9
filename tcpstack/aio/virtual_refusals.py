"""The ways out of a simulation that an event loop offers: each is refused, with what to do instead."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, NoReturn


class NotVirtual(NotImplementedError):
    """A program tried to leave the simulation: by a thread, a real socket, the operating system's randomness, ..."""


def refusal(what: str, remedy: str) -> NotVirtual:
    """The error for a program that tried `what`."""
    return NotVirtual(f"{what} is not part of the simulation: {remedy}")


class RefusingLoop(asyncio.BaseEventLoop):
    """An event loop without descriptors, processes and signals: their methods raise NotVirtual."""

    def __init__(self) -> None:
        super().__init__()
        self._failure: BaseException | None = None  # what ends the run in its next turn

    def _refuse(self, what: str, remedy: str) -> NoReturn:
        """Raise NotVirtual. It also ends the run where the task dies of it, even if nobody looks at the task."""
        error = refusal(what, remedy)
        self._watch(asyncio.current_task(self), error)
        raise error

    def _watch(self, task: asyncio.Task[Any] | None, refused: NotVirtual) -> None:
        """See whether the task dies of it."""
        if task is not None:
            task.add_done_callback(functools.partial(self._check_death, refused))

    def _check_death(self, refused: NotVirtual, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and stems_from(error, refused):
            self._failure = error


def stems_from(error: BaseException | None, origin: BaseException, seen: frozenset[int] = frozenset()) -> bool:
    """Whether `origin` is the error, or among its causes, or in its group."""
    if error is None or id(error) in seen:
        return False
    seen |= {id(error)}
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    others = (error.__cause__, error.__context__, *parts)
    return error is origin or any(stems_from(other, origin, seen) for other in others)


_REFUSED = {
    ("a descriptor", "nothing real can become readable here; use connections and streams"): (
        "add_reader", "add_writer", "connect_read_pipe", "connect_write_pipe",
    ),
    ("UDP", "the simulated hosts speak TCP"): (
        "create_datagram_endpoint", "sock_recvfrom", "sock_recvfrom_into", "sock_sendto",
    ),
    ("a Unix socket", "use a connection between simulated hosts"): ("create_unix_connection", "create_unix_server"),
    ("TLS", "its keys are the operating system's randomness; use plain connections"): ("start_tls",),
    ("a process", "make it a program on a simulated host"): ("subprocess_shell", "subprocess_exec"),
    ("a signal", "signals come when they like; let a task do what the handler would"): ("add_signal_handler",),
}  # fmt: skip


def _refused(name: str, what: str, remedy: str) -> Callable[..., NoReturn]:
    def refused(self: RefusingLoop, *args: object, **kwargs: object) -> NoReturn:
        self._refuse(f"loop.{name}(), {what},", remedy)

    refused.__name__ = name
    return refused


for (_what, _remedy), _names in _REFUSED.items():
    for _name in _names:
        setattr(RefusingLoop, _name, _refused(_name, _what, _remedy))
for _name in ("remove_reader", "remove_writer", "remove_signal_handler"):
    setattr(RefusingLoop, _name, lambda self, key: False)  # as asyncio says where there was none
