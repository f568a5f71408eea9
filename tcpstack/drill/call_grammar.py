"""The socket calls of a script: "accept(3, ..., ...) = 4", "connect(3, ..., ...) = -1 EINPROGRESS (...)"."""

from __future__ import annotations

import difflib

from .script import ANYTHING, Call, Value
from .symbols import ERRNOS, SYMBOLS
from .tokens import Cursor, Token

_NESTING = 8


def parse_call(cursor: Cursor, until_ns: int | None) -> Call:
    """The call at the cursor, which stands at its name. Raises ScriptError."""
    name = cursor.expect_kind("word", name="a socket call").text
    cursor.expect("(")
    arguments: list[Value] = []
    if not cursor.accept(")"):
        while True:
            arguments.append(_expression(cursor))
            if cursor.expect(",", ")") == ")":
                break
    cursor.expect("=")
    result = _expression(cursor)
    number = _errno(cursor) if result == -1 else None
    _note(cursor)
    return Call(name, tuple(arguments), result, number, until_ns)


def _errno(cursor: Cursor) -> int | None:
    token = cursor.accept_kind("word", name="an errno such as EAGAIN")
    if token is None:
        return None
    if token.text not in ERRNOS:
        raise cursor.error(f"there is no errno {token.text}{_like(token.text, ERRNOS)}", token)
    return ERRNOS[token.text]


def _note(cursor: Cursor) -> None:
    """Words in parentheses behind a result say in English what stands before."""
    if cursor.accept("("):
        while cursor.token.kind != "end" and cursor.token.text != ")":
            cursor.take()
        cursor.expect(")")


def _expression(cursor: Cursor, depth: int = 0) -> Value:
    if depth > _NESTING:
        raise cursor.error("this is nested too deeply", cursor.token)
    value = _operand(cursor, depth)
    while cursor.accept("|"):
        where = cursor.token
        right = _operand(cursor, depth)
        if not isinstance(value, int) or not isinstance(right, int):
            raise cursor.error("'|' joins numbers", where)
        value |= right
    return value


def _operand(cursor: Cursor, depth: int) -> Value:
    if cursor.accept("..."):
        return ANYTHING
    if cursor.accept("["):
        return _listed(cursor, "]", depth)
    if cursor.accept("{"):
        return _structure(cursor, depth)
    token = cursor.accept_kind("integer", "hex")
    if token is not None:
        return _number(cursor, token)
    token = cursor.accept_kind("string")
    if token is not None:
        return _string(cursor, token)
    return _symbol(cursor, cursor.expect_kind("word", name="a symbol such as SOCK_STREAM"), depth)


def _number(cursor: Cursor, token: Token) -> int:
    """A C int, signed or not: what calls take."""
    value = cursor.value(token)
    if not -(1 << 31) <= value < 1 << 32:
        raise cursor.error("a number in a call is of 32 bits", token)
    return value


def _string(cursor: Cursor, token: Token) -> bytes:
    """Strings that stand side by side are one; "abc"... is one of which more follows."""
    octets = b""
    while True:
        try:
            text = token.text[1:-1].encode("latin-1", "replace").decode("unicode_escape")
        except UnicodeDecodeError as error:
            raise cursor.error(f"in this string there is a {error.reason}", token) from None
        octets += text.encode("latin-1", "replace")
        following = cursor.accept_kind("string")
        if following is None:
            break
        token = following
    cursor.accept("...")
    return octets


def _symbol(cursor: Cursor, token: Token, depth: int) -> Value:
    name = token.text
    if name in ("htons", "htonl") and cursor.accept("("):
        value = _expression(cursor, depth + 1)
        cursor.expect(")")
        return value
    if name in ("inet_addr", "inet6_addr") and cursor.accept("("):
        text = cursor.expect_kind("string").text[1:-1]
        cursor.expect(")")
        return text
    if name not in SYMBOLS:
        raise cursor.error(f"{name!r} stands for nothing here{_like(name, SYMBOLS)}", token)
    return SYMBOLS[name]


def _listed(cursor: Cursor, closing: str, depth: int) -> tuple[Value, ...]:
    values: list[Value] = []
    if cursor.accept(closing):
        return ()
    while True:
        values.append(_expression(cursor, depth + 1))
        if cursor.expect(",", closing) == closing:
            return tuple(values)


def _structure(cursor: Cursor, depth: int) -> Value:
    """{name=value, ...}, or {value, ...}, which is a list. Names are not looked up: fd, events, sa_family."""
    if cursor.token.kind != "word" or cursor.ahead(1).text not in ("=", "("):
        return _listed(cursor, "}", depth)
    fields: dict[str, Value] = {}
    while True:
        name = cursor.expect_kind("word", name="a field").text
        if cursor.accept("("):  # msg_name(...)=..., msg_iov(1)=...
            _expression(cursor, depth + 1)
            cursor.expect(")")
        cursor.expect("=")
        fields[name] = _expression(cursor, depth + 1)
        if cursor.expect(",", "}") == "}":
            return fields


def _like(name: str, known: dict[str, int]) -> str:
    close = difflib.get_close_matches(name.upper(), known, n=1)
    return f": do you mean {close[0]}?" if close else ""
