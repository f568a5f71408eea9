"""What the engine lacks of what a script asks for, told before the script runs: a rehearsal without packets or time."""

from __future__ import annotations

from pathlib import Path

from ..core.config import Config
from . import epoll
from .script import Unsupported
from .side import Request
from .socket_options import Options, check_readable
from .sockets import CALLS, check_flags
from .sysctls import Sysctls
from .tcp_info import ENGINE_NAMES

_KERNEL_CALLS = {
    "open": "open()", "sendfile": "sendfile()", "sendto": "TCP Fast Open",
    "without_buffer": "a null pointer for the text",
}  # fmt: skip


class EngineChecks:
    """Checks (preflight.py) of the engine. `directory` is where the script lies."""

    info_names = ENGINE_NAMES

    def __init__(self, directory: Path, config: Config | None = None) -> None:
        self._sysctls = Sysctls(config or Config(), directory)
        self._options: dict[int, Options] = {}
        self._watched: dict[int, set[int]] = {}  # by epoll: what is in it
        self._opened: set[int] = set()  # those that listen or have a connection
        self._connected: set[int] = set()
        self._latest: int | None = None

    def command(self, text: str) -> None:
        self._sysctls.run(text)

    def snippet(self) -> None:
        if self._latest is not None and self._latest not in self._connected:
            raise Unsupported("a snippet about a socket that has no connection yet is not there on the engine")

    def call(self, request: Request, made: int | None) -> None:
        if request.name == "socket":
            if made is not None:
                self._make(made, Options(self._sysctls.config))
            return
        if request.name == "poll":
            return
        if request.name not in CALLS:
            raise Unsupported(f"{_KERNEL_CALLS[request.name]} is not there on the engine")
        if request.name.startswith("epoll"):
            if request.name == "epoll_ctl":
                epoll_fd, *control, _ = request.arguments
                epoll.check(self._watched.setdefault(epoll_fd, set()), *control)
            elif made is not None:
                self._watched[made] = set()
            return
        fd, *arguments = request.arguments
        if request.name == "close":
            for watched in self._watched.values():
                watched.discard(fd)
        elif request.name in ("recv", "recvmsg", "send", "sendmsg"):
            check_flags(request.name, arguments[-1])
        elif request.name in ("listen", "connect"):
            self._opened.add(fd)
            if request.name == "connect":
                self._connected.add(fd)
                self._latest = fd
        elif request.name == "accept" and made is not None:
            self._accept(fd, made)
        elif request.name == "getsockopt":
            check_readable(*arguments[:2])
        elif request.name == "setsockopt" and fd in self._options:
            level, name, octets = arguments
            self._options[fd].set(level, name, bytes.fromhex(octets), opened=fd in self._opened)

    def _make(self, fd: int, options: Options) -> None:
        self._options[fd] = options
        self._opened.discard(fd)
        self._connected.discard(fd)
        self._latest = fd

    def _accept(self, listening: int, made: int) -> None:
        listener = self._options.get(listening)
        options = Options(listener.config if listener is not None else self._sysctls.config)
        if listener is not None:
            options.inherit(listener)
        self._make(made, options)
        self._opened.add(made)
        self._connected.add(made)
