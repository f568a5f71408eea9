"""%{ assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd }%: assertions about TCP_INFO.

They are Python, but only as much of it as arithmetic, comparisons, names, `assert`, assignments, `if` and `print`
take: a script from anywhere can be run, by root too, and do no more than its packets and its calls do.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from typing import Any

from .symbols import TCP_INFO_CONSTANTS

_FUNCTIONS = {"abs": abs, "min": min, "max": max, "int": int, "len": len, "round": round, "bool": bool, "str": str}
_STATEMENTS = (ast.Assert, ast.Assign, ast.Expr, ast.If, ast.Pass)
_EXPRESSIONS = (
    ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.FormattedValue, ast.IfExp, ast.JoinedStr,
    ast.List, ast.Name, ast.Tuple, ast.UnaryOp,
    ast.expr_context, ast.boolop, ast.unaryop, ast.cmpop,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.BitXor, ast.RShift,
)  # fmt: skip
_NO_SUCH = "snippets know assert, assignments to names, if, print, arithmetic and comparisons"


class SnippetError(Exception):
    """An assertion does not hold, or the snippet is none; the message says which line, and what the values are."""


class Snippets:
    """Runs a script's snippets one after another: what one assigns, later ones know.

    printed  what they printed, line by line
    """

    def __init__(self) -> None:
        self.printed: list[str] = []
        self._names: dict[str, Any] = {}

    def run(self, text: str, info: Mapping[str, int]) -> None:
        """Raises SnippetError; in the script's own words where it gives some for an assertion."""
        source = textwrap.dedent(text.strip("\r\n")).strip(" \t\r\n")
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            raise SnippetError(f"this is no Python: {error.msg}: {(error.text or '').strip()}") from None
        for node in tree.body:
            _check(node)
        for node in tree.body:
            self._run(node, info, source)

    def _run(self, node: ast.stmt, info: Mapping[str, int], source: str) -> None:
        if isinstance(node, ast.Assert):
            if not self._value(node.test, info):
                raise SnippetError(self._complaint(node, info, source))
        elif isinstance(node, ast.Assign):
            value = self._value(node.value, info)
            for target in node.targets:
                assert isinstance(target, ast.Name)
                self._names[target.id] = value
        elif isinstance(node, ast.If):
            for inner in node.body if self._value(node.test, info) else node.orelse:
                self._run(inner, info, source)
        elif isinstance(node, ast.Expr):
            self._value(node.value, info)

    def _value(self, node: ast.expr, info: Mapping[str, int]) -> Any:
        names = {**TCP_INFO_CONSTANTS, **_FUNCTIONS, "print": self._print, **info, **self._names}
        code = compile(ast.Expression(node), "<snippet>", "eval")
        try:
            return eval(code, {"__builtins__": {}}, names)
        except NameError as error:
            missing = f"there is no {error.name} here"
            if str(error.name).startswith("tcpi_"):
                missing = f"this side does not tell {error.name}; it tells {', '.join(sorted(info))}"
            raise SnippetError(missing) from None
        except (ArithmeticError, TypeError, ValueError) as error:
            raise SnippetError(f"{ast.unparse(node)}: {error}") from None

    def _complaint(self, node: ast.Assert, info: Mapping[str, int], source: str) -> str:
        """The assertion, and the values of the names in it."""
        used = sorted({each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)} & set(info))
        values = ", ".join(f"{name} is {info[name]}" for name in used)
        said = f" ({self._value(node.msg, info)})" if node.msg is not None and not values else ""
        return f"{ast.unparse(node.test)} does not hold{': ' if values else ''}{values}{said}"

    def _print(self, *values: object) -> None:
        self.printed.append(" ".join(map(str, values)))


def _check(node: ast.AST) -> None:
    """Raise SnippetError for all that snippets do not know."""
    if isinstance(node, ast.stmt) and not isinstance(node, _STATEMENTS):
        raise SnippetError(f"{type(node).__name__} in line {node.lineno} of the snippet: {_NO_SUCH}")
    if isinstance(node, ast.expr) and not isinstance(node, _EXPRESSIONS):
        raise SnippetError(f"`{ast.unparse(node)}`: {_NO_SUCH}")
    if isinstance(node, ast.operator) and not isinstance(node, _EXPRESSIONS):
        raise SnippetError(f"the operator {type(node).__name__} is not known: {_NO_SUCH}")
    if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
        raise SnippetError(f"`{ast.unparse(node)}`: {_NO_SUCH}")
    if isinstance(node, ast.Assign) and not all(isinstance(target, ast.Name) for target in node.targets):
        raise SnippetError(f"`{ast.unparse(node)}`: {_NO_SUCH}")
    for child in ast.iter_child_nodes(node):
        _check(child)
