"""A script's text into a Script: options, then events, by recursive descent. The whole grammar is in this file,
packet_grammar.py and call_grammar.py; docs/drill.md has it in words.

A line "//engine: ..." or "//kernel: ..." is a line of that side alone, a comment for the other. A line
"//differs: REASON" must stand directly above such lines: no difference without its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from .call_grammar import parse_call
from .packet_grammar import parse_packet
from .script import SIDES, Action, Call, Command, Difference, Event, Packet, Script, Snippet, When
from .tokens import Cursor, error_at

_WORDS = {
    4: {"CMSG_LEVEL_IP": "SOL_IP", "CMSG_TYPE_RECVERR": "IP_RECVERR"},
    6: {"CMSG_LEVEL_IP": "SOL_IPV6", "CMSG_TYPE_RECVERR": "IPV6_RECVERR"},
}
"""What the programs that run the known corpora define, by the version of IP."""
_MAX_SECONDS = 1_000_000_000
_SIDE_LINE = re.compile(r"([ \t]*//)(engine|kernel):(.*)", re.DOTALL)
_DIFFERS_LINE = re.compile(r"[ \t]*//differs:(.*)", re.DOTALL)


def parse(
    text: str, path: str, side: str, *, version: int = 4, defines: Mapping[str, str] | None = None
) -> Script:
    """The script as `side` (ENGINE or KERNEL) is to run it; `version` of IP is the default for ICMP's names.

    Raises ScriptError for what is not of the language.
    """
    assert side in SIDES
    own, closed, differences = _lines_of(text, path, side)
    cursor = Cursor(own, path, defines, closed)
    options = []
    while (token := cursor.accept_kind("option")) is not None:
        name, _, value = token.text[2:].partition("=")
        options.append((name, value.strip('"'), cursor.line_of(token.start)))
        if name == "ip_version":
            version = 6 if value == "ipv6" else 4
    cursor.define(_WORDS[version])
    events: list[Event] = []
    last_ns = 0
    while (start := cursor.token).kind != "end":
        event = _event(cursor, version)
        if not event.when.relative:
            if event.when.start_ns < last_ns:
                message = f"time goes backwards, from {last_ns / 1e9:g} s to {event.when.start_ns / 1e9:g} s"
                raise cursor.error(message, start)
            last_ns = event.when.start_ns
        events.append(event)
    if not events:
        raise cursor.error("there is no event in this script", cursor.token)
    return Script(path, side, tuple(options), tuple(events), differences)


def _lines_of(text: str, path: str, side: str) -> tuple[str, frozenset[int], tuple[Difference, ...]]:
    """The text with the lines of `side` uncovered, every octet in its place; the numbers of these lines; and the
    differences it lists."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    uncovered: list[int] = []
    differences: list[Difference] = []
    covered = False  # a reason stands above, with nothing but lines of one side or more reason between
    offset = 0
    for index, line in enumerate(lines):
        found = _SIDE_LINE.fullmatch(line)
        reason = _DIFFERS_LINE.fullmatch(line)
        if reason:
            words = reason[1].strip()
            if not words:
                raise error_at(text, path, offset, "say why the sides differ: //differs: REASON")
            differences.append(Difference(index + 1, words))
            covered = True
        elif found:
            if not covered:
                message = f"a line of the {found[2]} alone needs a line //differs: REASON above it"
                raise error_at(text, path, offset + len(found[1]), message)
            if found[2] == side:
                uncovered.append(index + 1)
                lines[index] = " " * (len(found[1]) + len(found[2]) + 1) + found[3]
        else:
            covered = False
        offset += len(line)
    return "".join(lines), frozenset(uncovered), tuple(differences)


def _event(cursor: Cursor, version: int) -> Event:
    start = cursor.token
    cursor.note("a `command`")
    when = When(relative=True, untimed=True) if start.kind == "command" else _when(cursor)
    until_ns = None
    if cursor.accept("..."):
        until_ns = _time(cursor)
    action = _action(cursor, version, until_ns)
    if until_ns is not None:
        if not isinstance(action, Call):
            raise cursor.error("'START...END' is for socket calls that block", start)
        if until_ns < when.start_ns:
            raise cursor.error("this call is to return before it starts", start)
    expects = isinstance(action, Packet) and not action.inbound
    if when.any and not expects:
        raise cursor.error("'*' is for packets that are expected ('>')", start)
    if when.until_ns is not None and not expects:
        raise cursor.error("'START~END' is for packets that are expected ('>')", start)
    source = " ".join(cursor.text[start.start : cursor.before.end].split())
    return Event(when, action, cursor.line_of(start.start), source)


def _when(cursor: Cursor) -> When:
    if cursor.accept("*"):
        return When(any=True, relative=True)
    relative = cursor.accept("+") is not None
    first = cursor.token
    start_ns = _time(cursor)
    if not cursor.accept("~"):
        return When(start_ns, relative)
    if relative:
        cursor.expect("+")
    until_ns = _time(cursor)
    if until_ns < start_ns:
        raise cursor.error("this range of time is backwards", first)
    return When(start_ns, relative, until_ns=until_ns)


def _time(cursor: Cursor) -> int:
    token = cursor.expect_kind("float", "integer", name="a time in seconds")
    value = Decimal(token.text)
    if value < 0:
        raise cursor.error("a time cannot be negative", token)
    if value > _MAX_SECONDS:
        raise cursor.error(f"a time is at most {_MAX_SECONDS:,} s", token)
    return int(value * 1_000_000_000)


def _action(cursor: Cursor, version: int, until_ns: int | None) -> Action:
    token = cursor.token
    if token.kind == "sign" and token.text in "<>":
        return parse_packet(cursor, version)
    if cursor.accept_kind("command"):
        return Command(token.text[1:-1])
    if cursor.accept_kind("code"):
        return Snippet(token.text[2:-2])
    cursor.note("< packet to inject", "> packet to expect")
    return parse_call(cursor, until_ns)
