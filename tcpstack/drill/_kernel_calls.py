"""The process in the namespace that makes a script's socket calls; kernel.py started it and is its descriptor 0.

Each message is a length of 4 octets and JSON. In: {"name", "arguments"}; out: {"result", "errno", "text" (hex),
"values", "ended_ns"}. Calls run in a thread of their own, one at a time, so that TCP_INFO can be asked for while one
blocks; that and commands are answered with {"info": true, ...}. It needs nothing but the standard library, and is run
by its path: a tenth of a second less to wait for.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import queue
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

_LENGTH = struct.Struct("!I")
_F_SETFL = 4
_NONBLOCK = os.O_NONBLOCK
_TCP_INFO = 11
_TCP_INFO_BYTES = 512
_TOLD_BYTES = 2000


class Calls:
    """The sockets by descriptor, and each call by its name."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}

    def run(self, name: str, arguments: list[Any]) -> dict[str, Any]:
        """A call's outcome; an OSError becomes a result of -1."""
        try:
            done = getattr(self, f"call_{name}")(*arguments)
        except OSError as error:
            done = {"result": -1, "errno": error.errno}
        except (OverflowError, ValueError):  # Python's own: a number that the call has no room for
            done = {"result": -1, "errno": errno.EINVAL}
        return {"result": 0, "errno": 0, "text": "", "values": [], **done, "ended_ns": time.monotonic_ns()}

    def tcp_info(self, fd: int) -> bytes:
        return self._of(fd).getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)

    def call_socket(self, family: int, kind: int, protocol: int) -> dict[str, Any]:
        return self._add(socket.socket(family, kind, protocol))

    def call_bind(self, fd: int, address: str, port: int) -> dict[str, Any]:
        self._of(fd).bind((address, port))
        return {}

    def call_listen(self, fd: int, backlog: int) -> dict[str, Any]:
        self._of(fd).listen(backlog)
        return {}

    def call_accept(self, fd: int, flags: int) -> dict[str, Any]:
        accepted, _ = self._of(fd).accept()
        accepted.setblocking(True)
        if flags & _NONBLOCK:
            fcntl.fcntl(accepted, _F_SETFL, _NONBLOCK)
        return self._add(accepted)

    def call_connect(self, fd: int, address: str, port: int) -> dict[str, Any]:
        self._of(fd).connect((address, port))
        return {}

    def call_recv(self, fd: int, size: int, flags: int) -> dict[str, Any]:
        text = self._of(fd).recv(size, flags)
        return {"result": len(text), "text": text.hex()}

    def call_send(self, fd: int, octets: str, flags: int) -> dict[str, Any]:
        return {"result": self._of(fd).send(bytes.fromhex(octets), flags)}

    def call_close(self, fd: int) -> dict[str, Any]:
        closing = self._of(fd)
        del self._sockets[fd]
        closing.close()
        return {}

    def call_shutdown(self, fd: int, how: int) -> dict[str, Any]:
        self._of(fd).shutdown(how)
        return {}

    def call_fcntl(self, fd: int, command: int, value: int) -> dict[str, Any]:
        return {"result": fcntl.fcntl(self._of(fd), command, value)}

    def call_setsockopt(self, fd: int, level: int, name: int, octets: str) -> dict[str, Any]:
        self._of(fd).setsockopt(level, name, bytes.fromhex(octets))
        return {}

    def call_getsockopt(self, fd: int, level: int, name: int, size: int) -> dict[str, Any]:
        return {"text": self._of(fd).getsockopt(level, name, size).hex()}

    def call_ioctl(self, fd: int, command: int) -> dict[str, Any]:
        number = fcntl.ioctl(self._of(fd), command, bytes(4))
        return {"values": [int.from_bytes(number, sys.byteorder)]}

    def call_poll(self, polled: list[tuple[int, int]], milliseconds: int) -> dict[str, Any]:
        poll = select.poll()
        for fd, events in polled:
            poll.register(self._of(fd), events)
        found = dict(poll.poll(None if milliseconds < 0 else milliseconds))
        return {"result": len(found), "values": [found.get(fd, 0) for fd, _ in polled]}

    def _add(self, made: socket.socket) -> dict[str, Any]:
        self._sockets[made.fileno()] = made
        return {"result": made.fileno()}

    def _of(self, fd: int) -> socket.socket:
        if fd not in self._sockets:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # its own descriptors are not the script's
        return self._sockets[fd]


def command(text: str, directory: str) -> dict[str, Any]:
    """Run a shell command; what it wrote is told where it fails."""
    # Not its descriptors: a command that stays in the background would hold the link open.
    done = subprocess.run(
        ["sh", "-c", text], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return {"result": done.returncode, "text": (done.stdout + done.stderr)[-_TOLD_BYTES:].hex()}


def read(link: socket.socket) -> dict[str, Any] | None:
    """The next message, None where the other end is gone."""
    try:
        head = link.recv(_LENGTH.size, socket.MSG_WAITALL)
        if len(head) < _LENGTH.size:
            return None
        body = link.recv(_LENGTH.unpack(head)[0], socket.MSG_WAITALL)
    except ConnectionResetError:  # it went with something of ours unread
        return None
    message: dict[str, Any] = json.loads(body)
    return message


def write(link: socket.socket, message: dict[str, Any]) -> None:
    text = json.dumps(message).encode()
    try:
        link.sendall(_LENGTH.pack(len(text)) + text)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # nobody wants to know any more


def main() -> None:
    # A terminal's Ctrl-C comes here too; the end of the link is what ends us. What we run hears it as usual.
    signal.signal(signal.SIGINT, lambda *_: None)
    link = socket.socket(fileno=os.dup(0))
    link.set_inheritable(False)
    calls = Calls()
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    writing = threading.Lock()

    def work() -> None:
        while True:
            request = waiting.get()
            outcome = calls.run(request["name"], request["arguments"])
            with writing:
                write(link, outcome)

    threading.Thread(target=work, daemon=True).start()
    with writing:
        write(link, {"info": True})
    while (request := read(link)) is not None:
        if request["name"] == "tcp_info":
            try:
                answer = {"info": True, "text": calls.tcp_info(*request["arguments"]).hex(), "errno": 0}
            except OSError as error:
                answer = {"info": True, "text": "", "errno": error.errno}
        elif request["name"] == "command":
            answer = {"info": True, **command(*request["arguments"])}
        else:
            waiting.put(request)
            continue
        with writing:
            write(link, answer)
    os._exit(0)  # a call may still block in the other thread


if __name__ == "__main__":
    main()
