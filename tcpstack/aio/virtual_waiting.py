"""Who waits for what: tasks that know their host, and the report of a program that would wait for ever."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Coroutine, Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from .virtual_names import CURRENT_HOST

T = TypeVar("T")
_LIBRARIES = tuple(f"{Path(file).parent}/" for file in (asyncio.__file__, Path(__file__).parent))
"""Code below these waits on behalf of somebody else's."""
_MEMORY_ADDRESS = re.compile(r"( object)? at 0x[0-9a-fA-F]+")
_AWAITED = {CoroutineType: "cr_await", GeneratorType: "gi_yieldfrom", AsyncGeneratorType: "ag_await"}


class VirtualTask(asyncio.Task[T]):
    """A task that replays: it hashes by its `number`, so that sets of tasks (asyncio.TaskGroup has one, asyncio.wait
    returns them) have one order in every process. `host` is the name of the host it belongs to, or None; a `hidden`
    task is in no report."""

    hidden = False

    def __init__(
        self, coro: Coroutine[Any, Any, T], *, number: int, context: Context | None = None, **more: Any
    ) -> None:
        self.number = number
        host = CURRENT_HOST.get() if context is None else context.get(CURRENT_HOST)
        self.host = host.device.name if host is not None else None
        super().__init__(coro, context=context, **more)

    def __hash__(self) -> int:
        return self.number


class VirtualFuture(asyncio.Future[T]):
    """A future that replays: it hashes by its `number` (asyncio.wait puts futures into sets)."""

    __slots__ = ("number",)

    def __init__(self, *, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class InOrder(WeakKeyDictionary[Any, None]):
    """A weak set that keeps the order in which things were added: asyncio ends asynchronous generators in its order."""

    def add(self, thing: object) -> None:
        self[thing] = None

    def discard(self, thing: object) -> None:
        self.pop(thing, None)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits.

    task    its name
    host    its host's name, or None
    where   file:line and function of the innermost code of its own; "" where there is none
    awaits  what that code awaits ("StreamReader.read")
    detail  the thing waited on, as it shows itself; "" where there is nothing to show
    """

    task: str
    host: str | None
    where: str
    awaits: str
    detail: str

    def __str__(self) -> str:
        place = f" on {self.host}" if self.host is not None else ""
        where = f" in {self.where}" if self.where else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.task}{place} waits{where} for {self.awaits}{detail}"


class DeadlockError(RuntimeError):
    """The programs would wait for ever. `waiting` says who waits for what, in the order in which they were started;
    `time_s` is the virtual time at which nothing could happen any more."""

    def __init__(self, headline: str, time_s: float, waiting: tuple[Waiting, ...]) -> None:
        super().__init__(headline, time_s, waiting)
        self.headline = headline
        self.time_s = time_s
        self.waiting = waiting

    def __str__(self) -> str:
        return report(f"{self.headline} (it is {self.time_s:.9g} s)", self.waiting)


def report(headline: str, waiting: Iterable[Waiting]) -> str:
    """The headline and a line for each task."""
    return "\n  ".join([headline, *map(str, waiting)])


def who_waits(tasks: Iterable[asyncio.Task[Any]]) -> tuple[Waiting, ...]:
    """What each of the tasks waits for, in the order in which they were made; hidden ones left out."""
    shown = [task for task in tasks if not (isinstance(task, VirtualTask) and task.hidden)]
    shown.sort(key=lambda task: task.number if isinstance(task, VirtualTask) else 0)
    return tuple(map(_waiting, shown))


def _waiting(task: asyncio.Task[Any]) -> Waiting:
    chain = list(_suspended(task.get_coro()))
    own = [position for position, link in enumerate(chain) if not link.code.co_filename.startswith(_LIBRARIES)]
    innermost = own[-1] if own else -1
    where = chain[innermost].where if own else ""
    library = chain[innermost + 1 :]
    # `async with lock` goes through private ways to Lock.acquire: the first public name is what was meant.
    public = [link for link in library if not any(part.startswith("_") for part in link.name.split("."))]
    if library:
        link = (public or library)[0]
        awaits, detail = link.name, _shown(link.frame.f_locals.get("sock", link.frame.f_locals.get("self")))
    else:
        awaits, detail = _future(getattr(task, "_fut_waiter", None))
    return Waiting(task.get_name(), task.host if isinstance(task, VirtualTask) else None, where, awaits, detail)


@dataclass(frozen=True, slots=True)
class _Link:
    """One suspended coroutine or generator of the chain that a task is."""

    name: str
    code: CodeType
    frame: FrameType

    @property
    def where(self) -> str:
        return f"{self.code.co_filename}:{self.frame.f_lineno} in {self.name}"


def _suspended(thing: object) -> Iterator[_Link]:
    """From the outermost coroutine to the innermost."""
    while thing is not None:
        attribute = _AWAITED.get(type(thing))
        if attribute is None:
            # What stands between, such as the anext() of an asynchronous generator, only shows whom it holds.
            thing = next((held for held in gc.get_referents(thing) if type(held) in _AWAITED), None)
            continue
        prefix = attribute[:3]
        frame = getattr(thing, f"{prefix}frame")
        if frame is None:
            return
        name = getattr(thing, "__qualname__", "?").rpartition("<locals>.")[2]
        yield _Link(name, getattr(thing, f"{prefix}code"), frame)
        thing = getattr(thing, attribute)


def _future(waiter: object) -> tuple[str, str]:
    if isinstance(waiter, asyncio.Task):
        return f"task {waiter.get_name()}", ""
    if waiter is None:
        return "its turn", ""
    return type(waiter).__name__.lstrip("_").replace("VirtualFuture", "Future"), ""


def _shown(thing: object) -> str:
    """How a thing shows itself, without memory addresses: the same text in every run."""
    if thing is None:
        return ""
    if isinstance(thing, asyncio.StreamReader | asyncio.StreamWriter):
        thing = getattr(thing, "_transport", thing)
    return _MEMORY_ADDRESS.sub("", repr(thing))
