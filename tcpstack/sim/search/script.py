"""A case as a script: what it says that is not so by default, laid out to be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from textwrap import fill
from typing import Any

from .case import Case

_WIDTH = 120
_SCRIPT = '''\
{failure}

Found by `tcpstack fuzz --seed {seed} --cases 1`.
"""

{imports}

CASE = {case}

if __name__ == "__main__":
    raise SystemExit(show(CASE))
'''
_MODULES = (
    ("tcpstack.core.config", ("Config",)),
    ("tcpstack.device.pipe", ("Line",)),
    ("tcpstack.sim.search", ("Attack", "Case", "Plan", "Talk", "show")),
)


def script_of(case: Case, seed: int, failure: str) -> str:
    """The script that has this as its `CASE` and shows what comes of it, found from this seed, which failed so."""
    plain = failure.replace("\\", "/").replace('"', "'")
    source = source_of(case)
    said = {"show", *re.findall(r"\b([A-Z]\w+)\(", source)}
    used = [(module, [name for name in names if name in said]) for module, names in _MODULES]
    imports = "\n".join(f"from {module} import {', '.join(names)}" for module, names in used if names)
    return _SCRIPT.format(seed=seed, failure=fill(f'"""{plain}', _WIDTH), imports=imports, case=source)


def source_of(value: object, indent: int = 0, taken: int = len("CASE = ")) -> str:
    """Python that makes this value again, of dataclasses, tuples and plain values.

    `indent` is that of the line which it begins on, of which `taken` columns are used.
    """
    flat = _flat(value)
    if taken + len(flat) < _WIDTH or not (isinstance(value, tuple) or is_dataclass(value)):
        return flat
    inner = indent + 4
    if isinstance(value, tuple):
        opening, items = "(", [("", item) for item in value]
    else:
        opening, items = f"{type(value).__name__}(", [(f"{name}=", item) for name, item in _said(value)]
    lines = [f"{' ' * inner}{name}{source_of(item, inner, inner + len(name) + 1)}," for name, item in items]
    return "\n".join((opening, *lines, " " * indent + ")"))


def _flat(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' * (len(value) == 1)})"
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(f'{name}={_flat(item)}' for name, item in _said(value))})"
    if type(value) is int:
        return f"{value:_}"
    return f'"{value}"' if isinstance(value, str) and repr(value) == f"'{value}'" else repr(value)


def _said(value: Any) -> Iterator[tuple[str, object]]:
    """The fields that are not what they are by default."""
    for field in fields(value):
        item = getattr(value, field.name)
        if field.init and item != _default(field):
            yield field.name, item


def _default(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default
