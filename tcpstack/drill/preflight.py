"""What a script asks for that cannot be, found before anything of it runs: so it is not left half done.

What neither side could do is a mistake of the script (ScriptError); what this side lacks is Unsupported.
"""

from __future__ import annotations

from typing import Protocol

from .call_values import CallError, Names
from .calls import RETURNS_DESCRIPTOR, request_of
from .failure import at
from .script import Anything, Call, Command, Script, ScriptError, Snippet, Unsupported
from .settings import Settings
from .side import Request
from .snippets import SnippetError
from .snippets import check as check_snippet
from .tcp_info import LINUX_NAMES


class Checks(Protocol):
    """What one side has to say, event by event, in the script's order. Each raises Unsupported.

    info_names  what TCP_INFO tells there
    """

    info_names: frozenset[str]

    def call(self, request: Request, made: int | None) -> None:
        """A call; `made` is the descriptor that it is to return, if one."""

    def command(self, text: str) -> None:
        """A shell command."""

    def snippet(self) -> None:
        """A snippet, which is about the latest socket."""


class KernelChecks:
    """Linux has it all."""

    info_names = LINUX_NAMES

    def call(self, request: Request, made: int | None) -> None:
        pass

    def command(self, text: str) -> None:
        pass

    def snippet(self) -> None:
        pass


def check(script: Script, settings: Settings, checks: Checks) -> None:
    """Go through the script. Raises ScriptError, and Unsupported with its event."""
    assigned: set[str] = set()
    descriptors = _Descriptors()
    for event in script.events:
        action = event.action
        try:
            if isinstance(action, Call):
                # Unnamed text matters to nobody here.
                request = request_of(action, descriptors.names, settings, lambda fd, size: b"")
                checks.call(request, descriptors.after(action, request))
            elif isinstance(action, Command):
                checks.command(action.text)
            elif isinstance(action, Snippet):
                check_snippet(action.text, checks.info_names, assigned)
                checks.snippet()
        except Unsupported as lack:
            lack.event = event
            raise
        except (CallError, SnippetError) as error:
            raise ScriptError(at(script.path, event, str(error))) from None


class _Descriptors:
    """The descriptors that the script has open, each by the number that stands for it."""

    def __init__(self) -> None:
        self.names = Names()
        self._open: set[int] = set()

    def after(self, call: Call, request: Request) -> int | None:
        """Take in a call; the descriptor that it is to return, if one. Raises CallError for a number in use."""
        if not isinstance(call.result, (int, Anything)):
            raise CallError(f"{call.name}() returns a number, not {call.result!r}")
        if request.name == "close" and call.result == 0:
            self._open.discard(request.arguments[0])
        if call.name not in RETURNS_DESCRIPTOR or not isinstance(call.result, int) or call.result < 0:
            return None
        made = self.names.of(call.result)
        if made in self._open:
            raise CallError(f"{call.result} is open already: name this descriptor by another number")
        self._open.add(made)
        return made
