"""Python's own functions, told from what somebody put in their place, and exchanged wherever modules hold them.

Who replaces `os.urandom` or `time.time` for a test wants that to be used: a simulation takes the place of the real
functions only, wherever they are held by name, and leaves another's alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

_ALSO_CALLED = {"Lock": ("allocate_lock", "lock"), "allocate_lock": ("lock",)}
_HOMES = ("posix", "nt")
"""Modules in which functions of `os` are found where somebody has replaced them there."""
_known: dict[tuple[str, str], Callable[..., Any]] = {}


def original(module_name: str, name: str) -> Callable[..., Any] | None:
    """Python's own function of that name, whatever the module has there now. None where this Python has none, and where
    it has never been seen because somebody had replaced it before."""
    key = (module_name, name)
    if key not in _known:
        for home in (module_name, *_HOMES) if module_name == "os" else (module_name,):
            try:
                found = vars(import_module(home)).get(name)
            except ImportError:
                continue
            if found is not None and _is_pythons(found, (name, *_ALSO_CALLED.get(name, ()))):
                _known[key] = found
                break
    return _known.get(key)


def original_method(module_name: str, class_name: str, name: str) -> tuple[type, Callable[..., Any]] | None:
    """Python's own method, and the class that has it: one from which somebody's own class may be derived. None where
    this Python has none, or somebody has replaced it."""
    try:
        owner = getattr(import_module(module_name), class_name, None)
    except ImportError:
        return None
    for each in owner.__mro__ if isinstance(owner, type) else ():
        if name in vars(each):
            method = vars(each)[name]
            return (each, method) if _is_pythons(method, (name,)) else None
    return None


def exchange(pairs: Iterable[tuple[object, object]]) -> None:
    """Give each module the second of a pair wherever it has the first."""
    wanted = {id(old): new for old, new in pairs}
    of_module = vars(ModuleType)["__dict__"].__get__  # as some modules load themselves when they are looked at
    for module in list(sys.modules.values()):
        # Not isinstance, which believes what an object says of its class: cffi's libraries say they are modules.
        if not issubclass(type(module), ModuleType):
            continue
        names: dict[str, object] = of_module(module)
        for name, value in list(names.items()):
            if id(value) in wanted:
                names[name] = wanted[id(value)]


def _is_pythons(found: Any, names: tuple[str, ...]) -> bool:
    """Whether it is called so, and from Python's library: what wraps or mocks it may only say so."""
    module = getattr(found, "__module__", None)
    if getattr(found, "__name__", None) not in names or not isinstance(module, str):
        return False
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return False
    written_in = getattr(found, "__globals__", None)  # where it is written in Python
    return written_in is None or written_in is getattr(sys.modules.get(module), "__dict__", None)
