"""What an expression of a snippet comes to. No value grows beyond what an assertion can need: a script from anywhere
can use up neither memory nor time."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_LENGTH = 10_000
"""Of texts and lists, with all that is in them."""
MAX_BITS = 4096
"""Of numbers."""
_MAX_FORMAT_DIGITS = 3
_WIDE = rf"[0-9]{{{_MAX_FORMAT_DIGITS + 1},}}"
_WIDE_SPEC = re.compile(_WIDE)
_WIDE_PERCENT = re.compile(rf"%(?:\([^)]*\))?[-+ #0]*(?:\*|{_WIDE}|[0-9]*\.(?:\*|{_WIDE}))")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
    ast.BitXor: operator.xor, ast.RShift: operator.rshift,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert,
}  # fmt: skip
_COMPARING: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda item, within: item in within, ast.NotIn: lambda item, within: item not in within,
}  # fmt: skip
OPERATORS = tuple(_BINARY)
EXPRESSIONS = (
    ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.FormattedValue, ast.IfExp, ast.JoinedStr,
    ast.List, ast.Name, ast.Tuple, ast.UnaryOp,
)  # fmt: skip
"""The expressions and operators that there are."""


def value_of(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value, where names stand for these. `node` has nothing but EXPRESSIONS and OPERATORS.

    Raises NameError, ArithmeticError, TypeError, and ValueError also for a value that is too large.
    """
    found: Any
    match node:
        case ast.Constant(value):
            found = value
        case ast.Name(name):
            if name not in names:
                raise NameError(name, name=name)
            found = names[name]
        case ast.BinOp(left, op, right):
            found = _joined(type(op), value_of(left, names), value_of(right, names))
        case ast.UnaryOp(op, operand):
            found = _UNARY[type(op)](value_of(operand, names))
        case ast.BoolOp(op, operands):
            found = _first(operands, names, wanted=isinstance(op, ast.Or))
        case ast.Compare(left, ops, others):
            found = _compared(value_of(left, names), ops, others, names)
        case ast.IfExp(test, chosen, other):
            found = value_of(chosen if value_of(test, names) else other, names)
        case ast.Call(function, arguments):
            found = value_of(function, names)(*(value_of(each, names) for each in arguments))
        case ast.List(elements):
            found = [value_of(each, names) for each in elements]
        case ast.Tuple(elements):
            found = tuple(value_of(each, names) for each in elements)
        case ast.JoinedStr(parts):
            found = "".join(str(value_of(each, names)) for each in parts)
        case ast.FormattedValue(value, conversion, spec):
            found = _formatted(value_of(value, names), conversion, "" if spec is None else value_of(spec, names))
        case _:
            raise AssertionError(node)
    return bounded(found)


def bounded(value: Any) -> Any:
    """The value itself. Raises ValueError where it is too large."""
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError("this number is too large")
    _weight(value)
    return value


def _weight(value: Any) -> int:
    """How long the value is with all that is in it. Raises ValueError where that is too long."""
    total = len(value) if isinstance(value, (str, bytes, list, tuple)) else 0
    for each in value if isinstance(value, (list, tuple)) and total <= MAX_LENGTH else ():
        total += _weight(each)
        if total > MAX_LENGTH:
            break
    if total > MAX_LENGTH:
        raise ValueError(f"this is longer than {MAX_LENGTH}")
    return total


def _joined(kind: type[ast.operator], left: Any, right: Any) -> Any:
    if kind is ast.Mult:
        for one, other in ((left, right), (right, left)):
            if isinstance(other, int) and _weight(one) * other > MAX_LENGTH:
                raise ValueError(f"this is longer than {MAX_LENGTH}")
    if kind is ast.Mod and isinstance(left, (str, bytes)):
        _check_format(_WIDE_PERCENT, left.decode("latin-1") if isinstance(left, bytes) else left)
    return _BINARY[kind](left, right)


def _check_format(wide: re.Pattern[str], text: str) -> None:
    if wide.search(text):
        raise ValueError(f"widths in formats have at most {_MAX_FORMAT_DIGITS} digits")


def _formatted(value: Any, conversion: int, spec: str) -> str:
    _check_format(_WIDE_SPEC, spec)
    shown: dict[int, Callable[[Any], str]] = {ord("s"): str, ord("r"): repr, ord("a"): ascii}
    return format(shown[conversion](value) if conversion in shown else value, spec)


def _first(operands: list[ast.expr], names: Mapping[str, Any], *, wanted: bool) -> Any:
    """The first that is true (`or`), or false (`and`); else the last."""
    for operand in operands[:-1]:
        value = value_of(operand, names)
        if bool(value) is wanted:
            return value
    return value_of(operands[-1], names)


def _compared(left: Any, ops: list[ast.cmpop], others: list[ast.expr], names: Mapping[str, Any]) -> Any:
    """a < b < c: each beside the next, up to the first that does not hold."""
    found: Any = True
    for op, other in zip(ops, others, strict=True):
        right = value_of(other, names)
        found = _COMPARING[type(op)](left, right)
        if not found:
            break
        left = right
    return found


def _round(number: Any, digits: int = 0) -> Any:
    if abs(digits) > 100:
        raise ValueError("round() takes at most 100 digits")
    return round(number, digits) if digits else round(number)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "int": int, "len": len, "round": _round, "bool": bool, "str": str,
}  # fmt: skip
