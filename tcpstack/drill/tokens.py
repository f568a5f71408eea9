"""Text into tokens, and a cursor over them that knows what would have been allowed where it fails."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

from ..observe.printable import printable
from .script import ScriptError

_TOKEN = re.compile(
    r"""
    (?P<skip>    [ \t\r\n]+ | //[^\n]* | /\*.*?\*/ )
  | (?P<option>  --[a-zA-Z0-9_]+ (?: = (?: "[^"\n]*" | [^\s"]+ ) )? )
  | (?P<code>    %\{ .*? \}% )
  | (?P<command> `(?: \\. | [^`\\] )*` )
  | (?P<string>  "(?: \\. | [^"\\\n] )*" )
  | (?P<ellipsis> \.\.\. )
  | (?P<hex>     0x[0-9a-fA-F]+ (?![0-9a-zA-Z_]) )
  | (?P<float>   -?[0-9]*\.[0-9]+ )
  | (?P<integer> -?[0-9]+ (?![0-9a-zA-Z_]) )
  | (?P<word>    [a-zA-Z0-9_]+ )
  | (?P<sign>    [-+*~<>.,:;()\[\]{}=|] )
    """,
    re.VERBOSE | re.DOTALL,
)

_NAMES = {
    "option": "an option such as --tolerance_usecs=10000",
    "code": "%{ assertions }%",
    "command": "a `command`",
    "string": 'a "string"',
    "ellipsis": "...",
    "hex": "a hexadecimal number",
    "float": "a number",
    "integer": "a whole number",
    "word": "a word",
    "end": "the end of the script",
}
_MAX_DIGITS = 40
_UNCLOSED = {"`": "a command", '"': "a string", "%": "a snippet", "/": "a comment"}


class Token(NamedTuple):
    """kind  one of the groups above, or "end";  start, end  offsets into the text"""

    kind: str
    text: str
    start: int
    end: int


class Cursor:
    """Reads tokens one by one. What was asked for in vain since the last token was taken is what is allowed there.

    defines  words that stand for others (-D NAME=VALUE)
    closed   the lines, by their numbers, beyond which no event goes on
    """

    def __init__(
        self, text: str, path: str, defines: Mapping[str, str] | None = None, closed: frozenset[int] = frozenset()
    ) -> None:
        self.text = text
        self.path = path
        self._closed = closed
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._tried: list[str] = []
        self._tokens = self._read_all(defines or {})
        self._at = 0

    @property
    def token(self) -> Token:
        """The next token, not taken."""
        return self._tokens[self._at]

    @property
    def before(self) -> Token:
        """The token that was taken last."""
        return self._tokens[self._at - 1]

    def ahead(self, count: int) -> Token:
        """The token `count` after the next one."""
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token, taken."""
        token = self.token
        self._at += token.kind != "end"
        self._tried.clear()
        return token

    def accept(self, *texts: str) -> str | None:
        """Take the next token where it is one of these words or signs, and say which; else None."""
        if self.token.text in texts and self.token.kind in ("word", "sign", "ellipsis"):
            return self.take().text
        self._tried.extend(text for text in texts if text not in self._tried)
        return None

    def accept_kind(self, *kinds: str, name: str = "") -> Token | None:
        """Take the next token where it is of one of these kinds; `name` says what it would be."""
        if self.token.kind in kinds:
            return self.take()
        self._tried.extend(each for each in ([name] if name else map(_NAMES.__getitem__, kinds)))
        return None

    def expect(self, *texts: str) -> str:
        """As `accept`; raises ScriptError where it is none of them."""
        found = self.accept(*texts)
        if found is None:
            raise self.unexpected()
        return found

    def expect_kind(self, *kinds: str, name: str = "") -> Token:
        """As `accept_kind`; raises ScriptError where it is none of them."""
        found = self.accept_kind(*kinds, name=name)
        if found is None:
            raise self.unexpected()
        return found

    def number(self, name: str, largest: int, *, smallest: int = 0) -> int:
        """Take a whole number within bounds. Raises ScriptError."""
        token = self.expect_kind("integer", "hex", name=f"a number ({name})")
        value = self.value(token)
        if not smallest <= value <= largest:
            raise self.error(f"{name} must be {smallest} to {largest}, not {value}", token)
        return value

    def value(self, token: Token) -> int:
        """The whole number that a token is. Raises ScriptError for one of absurd length."""
        if len(token.text) > _MAX_DIGITS:
            raise self.error(f"a number of {len(token.text)} digits", token)
        return int(token.text, 0 if token.kind == "hex" else 10)

    def note(self, *names: str) -> None:
        """These, too, would be allowed here."""
        self._tried.extend(names)

    def unexpected(self) -> ScriptError:
        """The error for the next token, with what would have been allowed."""
        token = self.token
        allowed = tuple(dict.fromkeys(self._tried))
        if self._at and self.line_of(self.before.start) in self._closed:
            end = self.before.end
            if self.line_of(token.start) != self.line_of(end):
                return self.error("this line lacks something at its end", end, allowed)
        what = "the script ends" if token.kind == "end" else f"{token.text.splitlines()[0]!r} cannot stand"
        return self.error(f"{what} here", token, allowed)

    def error(self, message: str, where: Token | int, allowed: tuple[str, ...] = ()) -> ScriptError:
        """A ScriptError that points at a token or an offset."""
        return error_at(self.text, self.path, where if isinstance(where, int) else where.start, message, allowed)

    def line_of(self, offset: int) -> int:
        """The number of the line in which `offset` lies."""
        return bisect_right(self._line_ends, offset - 1) + 1

    def define(self, words: Mapping[str, str]) -> None:
        """From here on these words stand for others, too."""
        self._tokens[self._at :] = [self._defined(token, words) for token in self._tokens[self._at :]]

    def _read_all(self, defines: Mapping[str, str]) -> list[Token]:
        tokens = []
        at = 0
        while at < len(self.text):
            found = _TOKEN.match(self.text, at)
            if found is None:
                character = self.text[at]
                unclosed = _UNCLOSED.get(character)
                raise self.error(f"{unclosed} that is not closed" if unclosed else f"{character!r} means nothing", at)
            kind = found.lastgroup or ""
            if kind != "skip":
                text = found.group()
                tokens.append(self._defined(Token(kind, text, at, found.end()), defines))
            at = found.end()
        tokens.append(Token("end", "", len(self.text.rstrip()), len(self.text)))
        return tokens

    @staticmethod
    def _defined(token: Token, defines: Mapping[str, str]) -> Token:
        if token.kind != "word" or token.text not in defines:
            return token
        text = defines[token.text]
        found = _TOKEN.fullmatch(text)
        return Token(found.lastgroup or "word" if found else "word", text, token.start, token.end)


def error_at(text: str, path: str, offset: int, message: str, allowed: tuple[str, ...] = ()) -> ScriptError:
    """A ScriptError that points at an offset into the text."""
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", start)
    line = printable(text[start : end if end >= 0 else len(text)].expandtabs(1).rstrip("\r"))
    number = text.count("\n", 0, offset) + 1
    column = offset - start
    indent = len(printable(text[start:offset].expandtabs(1)))
    shown = [f"{path}:{number}:{column + 1}: {message}", f"    {line}", "    " + " " * indent + "^"]
    if allowed:
        listed = ", ".join(allowed[:-1]) + (" or " if len(allowed) > 1 else "") + allowed[-1]
        shown.append(f"    allowed here: {listed}")
    return ScriptError("\n".join(shown))
