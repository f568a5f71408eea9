"""Finds names in the package's source: a requirement says where it is implemented, and that has to exist."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


class SourceError(Exception):
    """A name that is nowhere, or in more than one place."""


class Source:
    """All of the Python files under `package`."""

    def __init__(self, package: Path) -> None:
        self._root = package.parent
        self._places: dict[str, list[str]] = {}
        for file in sorted(package.rglob("*.py")):
            path = file.relative_to(self._root).as_posix()
            for name in _names(ast.parse(file.read_text()), ""):
                places = self._places.setdefault(name, [])
                if path not in places:
                    places.append(path)

    def place(self, where: str) -> tuple[str, str]:
        """(path from the root, name) of "Class.method", "function", "CONSTANT" or "core/closed.py:reset"."""
        ending, _, name = where.rpartition(":")
        found = [path for path in self._places.get(name, ()) if path.endswith(ending)]
        if len(found) != 1:
            where_else = f"in {', '.join(found)}: say which, as path:name" if found else "nowhere in the package"
            raise SourceError(f"{where} is {where_else}")
        return found[0], name


def _names(node: ast.AST, prefix: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + child.name
            if isinstance(child, ast.ClassDef):
                yield from _names(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield prefix + child.target.id
        elif isinstance(child, ast.Assign):
            yield from (prefix + target.id for target in child.targets if isinstance(target, ast.Name))
