"""Mutants that nobody thought of: one small edit each, drawn from all that can be made of the files."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip
_REMOVABLE = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return, ast.Continue, ast.Break)
_UNTOUCHED = (ast.FunctionDef, ast.ClassDef, ast.Assert, ast.Raise, ast.JoinedStr)
_UNJUDGED = {"__init__", "status", "__repr__", "reason", "_in_words"}
"""What only makes names, of which any test would miss one, or tells people something, which no search can judge."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """path  of the file, from the package's parent   name  where it is and what   source  the file with the edit"""

    path: str
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class _Edit:
    """`make` does it to the tree; `node` is what is seen to change."""

    line: int
    node: ast.AST
    make: Callable[[], None]


def draw(root: Path, folders: Sequence[str], count: int, seed: int) -> list[Drawn]:
    """So many mutants of the files in these folders, each edit as likely as any other; the same for the same seed."""
    files = sorted(file for folder in folders for file in (root / folder).rglob("*.py"))
    places = [(file, number) for file in files for number, _ in enumerate(_edits(ast.parse(file.read_text())))]
    chosen = random.Random(seed).sample(places, min(count, len(places)))
    return [_made(root, file, number) for file, number in chosen]


def _made(root: Path, file: Path, number: int) -> Drawn:
    tree = ast.parse(file.read_text())
    edit = list(_edits(tree))[number]
    before = _first_line(edit.node)
    edit.make()
    path = file.relative_to(root).as_posix()
    return Drawn(path, f"{path}:{edit.line}: {before}  =>  {_first_line(edit.node)}", ast.unparse(tree) + "\n")


def _first_line(node: ast.AST) -> str:
    lines = ast.unparse(node).splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} ..."


def _edits(tree: ast.Module) -> Iterator[_Edit]:
    """All that can be made of a file."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name not in _UNJUDGED:
            for statement in function.body:
                yield from _in_statement(statement)
            yield from _removals(function.body)


def _in_statement(node: ast.stmt) -> Iterator[_Edit]:
    if isinstance(node, _UNTOUCHED):
        return
    for name, value in ast.iter_fields(node):
        if name == "annotation":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.stmt):
                yield from _in_statement(child)
            elif isinstance(child, ast.expr):
                yield from _in_expression(child, child)
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt) and not isinstance(node, ast.Try):
            yield from _removals(value)
    if isinstance(node, ast.If | ast.While):
        yield _negation(node, node.test)
    if isinstance(node, ast.AugAssign) and type(node.op) in _SWAPPED:
        yield _Edit(node.lineno, node, partial(setattr, node, "op", _SWAPPED[type(node.op)]()))


def _in_expression(node: ast.AST, whole: ast.expr) -> Iterator[_Edit]:
    line = whole.lineno
    if isinstance(node, _UNTOUCHED):
        return
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            yield _Edit(line, whole, partial(node.ops.__setitem__, index, _SWAPPED[type(op)]()))  # type: ignore[arg-type]
    if isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in _SWAPPED:
        yield _Edit(line, whole, partial(setattr, node, "op", _SWAPPED[type(node.op)]()))
    if isinstance(node, ast.IfExp):
        yield _negation(whole, node.test, node)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for value in (node.value + 1, node.value - 1):
            yield _Edit(line, whole, partial(setattr, node, "value", value))
    for child in ast.iter_child_nodes(node):
        yield from _in_expression(child, whole)


def _negation(shown: ast.stmt | ast.expr, test: ast.expr, holder: ast.AST | None = None) -> _Edit:
    return _Edit(shown.lineno, shown, partial(setattr, holder or shown, "test", ast.UnaryOp(ast.Not(), test)))


def _removals(body: list[ast.stmt]) -> Iterator[_Edit]:
    for index, statement in enumerate(body):
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if isinstance(statement, _REMOVABLE) and not text and not _names(statement):
            shown = ast.Module([statement], [])  # that the body changes is not seen from the statement
            yield _Edit(statement.lineno, shown, partial(_remove, body, index, shown))


def _names(statement: ast.stmt) -> bool:
    """Whether it makes a name: without it the first use of that would raise, which any test finds."""
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name | ast.Tuple) for target in statement.targets
    )


def _remove(body: list[ast.stmt], index: int, shown: ast.Module) -> None:
    body[index] = shown.body[0] = ast.Pass()
