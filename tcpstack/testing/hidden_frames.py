"""What pytest leaves out of the traceback of a failed program: the frames that run it, which are nobody's news."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

_HIDES = "__tracebackhide__"  # pytest looks for it in a frame's globals as well
_ENTRANCES = {"tcpstack.aio.virtual", "tcpstack.sim.network"}
_RUNNERS = ("asyncio.runners", "asyncio.base_events", "asyncio.streams")
_MEANT = (OSError, ValueError, RuntimeError)
"""What tcpstack raises on purpose. Another error that comes from inside it is its own fault, and is shown whole."""


@contextmanager
def machinery_hidden(error: BaseException) -> Iterator[None]:
    """While it lasts, pytest leaves out frames of tcpstack, and of asyncio's that run a loop or call it, from what it
    shows of an error that came out of a simulation."""
    origins = [frame.tb_frame.f_globals.get("__name__", "") for frame in _frames(error.__traceback__)]
    simulated = not _ENTRANCES.isdisjoint(origins)
    if not simulated or (_is_ours(origins[-1]) and not isinstance(error, _MEANT)):
        yield
        return
    modules = [module for name, module in sys.modules.items() if _is_ours(name) or name in _RUNNERS]
    hidden = [module for module in modules if module is not None and _HIDES not in vars(module)]
    for module in hidden:
        setattr(module, _HIDES, True)
    try:
        yield
    finally:
        for module in hidden:
            delattr(module, _HIDES)


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "tcpstack"
