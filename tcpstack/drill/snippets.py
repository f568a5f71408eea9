"""%{ assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd }%: assertions about TCP_INFO.

They are Python, but only as much of it as arithmetic, comparisons, names, `assert`, assignments, `if` and `print`
take: a script from anywhere can be run, by root too, and do no more than its packets and its calls do.
"""

from __future__ import annotations

import ast
import difflib
import textwrap
from collections.abc import Iterator, Mapping, Set
from typing import Any

from .script import Unsupported
from .snippet_values import EXPRESSIONS, FUNCTIONS, OPERATORS, bounded, value_of
from .symbols import TCP_INFO_CONSTANTS
from .tcp_info import LINUX_NAMES

_STATEMENTS = (ast.Assert, ast.Assign, ast.Expr, ast.If, ast.Pass)
_CONSTANTS: dict[str, Any] = {**TCP_INFO_CONSTANTS, **FUNCTIONS}
_NO_SUCH = "snippets know assert, assignments to names, if, print, arithmetic and comparisons"
_MAX_CHARACTERS = 10_000
_SHOWN_CHARACTERS = 200
_NESTING = 100


class SnippetError(Exception):
    """An assertion does not hold, or the snippet is none; the message says which line, and what the values are."""


def check(text: str, told: Set[str], assigned: set[str]) -> None:
    """See that the snippet can be run where TCP_INFO tells `told` and snippets before have assigned `assigned`; what
    this one assigns is added. Raises SnippetError, and Unsupported for what Linux alone tells."""
    body = _parse(text)
    nodes = [each for statement in body for each in ast.walk(statement) if isinstance(each, ast.Name)]
    assigned |= {each.id for each in nodes if isinstance(each.ctx, ast.Store)}
    known = {*_CONSTANTS, "print", *told, *assigned}
    for name in [each.id for each in nodes]:
        if name in known:
            continue
        if name in LINUX_NAMES:
            raise Unsupported(f"this side does not tell {name}; it tells {', '.join(sorted(told))}")
        close = difflib.get_close_matches(name, known, n=1)
        raise SnippetError(f"there is no {name} here" + (f": do you mean {close[0]}?" if close else ""))


class Snippets:
    """Runs a script's snippets one after another: what one assigns, later ones know.

    printed  what they printed, line by line
    """

    def __init__(self) -> None:
        self.printed: list[str] = []
        self._names: dict[str, Any] = {}

    def run(self, text: str, info: Mapping[str, int]) -> None:
        """Raises SnippetError; in the script's own words where it gives some for an assertion."""
        for node in _parse(text):
            self._run(node, info)

    def _run(self, node: ast.stmt, info: Mapping[str, int]) -> None:
        if isinstance(node, ast.Assert):
            if not self._value(node.test, info):
                raise SnippetError(self._complaint(node, info))
        elif isinstance(node, ast.Assign):
            value = self._value(node.value, info)
            for target in node.targets:
                assert isinstance(target, ast.Name)
                self._names[target.id] = value
        elif isinstance(node, ast.If):
            for inner in node.body if self._value(node.test, info) else node.orelse:
                self._run(inner, info)
        elif isinstance(node, ast.Expr):
            self._value(node.value, info)

    def _value(self, node: ast.expr, info: Mapping[str, int]) -> Any:
        names = {**_CONSTANTS, "print": self._print, **info, **self._names}
        try:
            return value_of(node, names)
        except NameError as error:
            raise SnippetError(f"there is no {error.name} here yet") from None
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise SnippetError(f"{_shown(node)}: {error}") from None

    def _complaint(self, node: ast.Assert, info: Mapping[str, int]) -> str:
        """The assertion, and the values of the names in it."""
        used = sorted({each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)} & set(info))
        values = ", ".join(f"{name} is {info[name]}" for name in used)
        said = f" ({self._value(node.msg, info)})" if node.msg is not None and not values else ""
        return f"{_shown(node.test)} does not hold{': ' if values else ''}{values}{said}"

    def _print(self, *values: object) -> None:
        self.printed.append(" ".join(map(str, values)))


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _parse(text: str) -> list[ast.stmt]:
    """The statements, all of which are such as snippets know. Raises SnippetError."""
    if len(text) > _MAX_CHARACTERS:
        raise SnippetError(f"a snippet has at most {_MAX_CHARACTERS} characters, and this one {len(text)}")
    try:
        tree = ast.parse(textwrap.dedent(text.strip("\r\n")).strip(" \t\r\n") + "\n\n")
    except SyntaxError as error:
        raise SnippetError(f"this is no Python: {error.msg}: {(error.text or '').strip()[:80]}") from None
    except (MemoryError, RecursionError):
        raise SnippetError("this is nested too deeply") from None
    except ValueError as error:
        raise SnippetError(f"this is no Python: {error}") from None
    for node in _nodes(tree):
        _check(node)
    return tree.body


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes below. Raises SnippetError where they are nested so deeply that recursion would not reach them."""
    level = list(ast.iter_child_nodes(tree))
    for _ in range(_NESTING):
        yield from level
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise SnippetError("this is nested too deeply")


def _check(node: ast.AST) -> None:
    """Raise SnippetError for all that snippets do not know."""
    if isinstance(node, ast.stmt) and not isinstance(node, _STATEMENTS):
        raise SnippetError(f"{type(node).__name__} in line {node.lineno} of the snippet: {_NO_SUCH}")
    if isinstance(node, ast.operator) and not isinstance(node, OPERATORS):
        raise SnippetError(f"the operator {type(node).__name__} is not known: {_NO_SUCH}")
    unknown = isinstance(node, ast.expr) and not isinstance(node, EXPRESSIONS)
    if isinstance(node, ast.Call):
        unknown = not isinstance(node.func, ast.Name) or bool(node.keywords)
    if isinstance(node, ast.Assign):
        unknown = not all(isinstance(target, ast.Name) for target in node.targets)
    if isinstance(node, ast.Constant):
        try:
            bounded(node.value)
        except ValueError as error:
            raise SnippetError(f"line {node.lineno} of the snippet: {error}") from None
    if unknown:
        assert isinstance(node, (ast.expr, ast.stmt))
        raise SnippetError(f"line {node.lineno} of the snippet: {_NO_SUCH}")
