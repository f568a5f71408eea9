"""The process in the namespace that makes a script's socket calls; kernel.py started it and is its descriptor 0.

Each message is a length of 4 octets and JSON. In: {"name", "arguments"}; out: {"result", "errno", "text" (hex),
"values", "control", "flags", "ended_ns"}. Calls run in a thread of their own, one at a time, so that TCP_INFO can be
asked for while one blocks; that and commands are answered with {"info": true, ...}. The first such message comes with
a packet socket that hears what leaves by the interface. It needs nothing but the standard library, and is run by its
path: a tenth of a second less to wait for.

    _kernel_calls.py INTERFACE [COVER]

COVER is there where the host keeps congestion controls from namespaces: a file of ours, which commands find in the
place of net.ipv4.tcp_congestion_control. What they write there is given to each socket, which Linux allows.
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
_TCP_INFO, _SO_MEMINFO = 11, 55
_TCP_INFO_BYTES = 512
_TCP_CONGESTION = 13
_TOLD_BYTES = 2000
_CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"
_EPOLL_CTL_DEL, _EPOLL_CTL_MOD = 2, 3
_MSG_CMSG_CLOEXEC = 0x40000000
_SOL_PACKET, _PACKET_VNET_HDR, _ETH_P_ALL = 263, 15, 3
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_HEARD_BYTES = 1 << 23


class Calls:
    """The sockets by descriptor, and each call by its name."""

    def __init__(self) -> None:
        self.congestion = b""  # what new sockets are given; none: the namespace's
        self._sockets: dict[int, socket.socket] = {}
        self._files: dict[int, select.epoll | None] = {}  # what is no socket
        self._data: dict[tuple[int, int], int] = {}  # what an epoll says of a descriptor besides its events

    def run(self, name: str, arguments: list[Any]) -> dict[str, Any]:
        """A call's outcome; an OSError becomes a result of -1."""
        try:
            done = getattr(self, f"call_{name}")(*arguments)
        except OSError as error:
            done = {"result": -1, "errno": error.errno}
        except (OverflowError, ValueError):  # Python's own: a number that the call has no room for
            done = {"result": -1, "errno": errno.EINVAL}
        empty = {"result": 0, "errno": 0, "text": "", "values": [], "control": [], "flags": 0}
        return {**empty, **done, "ended_ns": time.monotonic_ns()}

    def tcp_info(self, fd: int) -> dict[str, Any]:
        """TCP_INFO and SO_MEMINFO."""
        told = self._of(fd)
        info = told.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)
        memory = told.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _TCP_INFO_BYTES)
        return {"text": info.hex(), "memory": memory.hex(), "errno": 0}

    def call_socket(self, family: int, kind: int, protocol: int) -> dict[str, Any]:
        made = socket.socket(family, kind, protocol)
        if self.congestion:
            made.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, self.congestion)
        return self._add(made)

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

    def call_sendto(self, fd: int, octets: str, flags: int, address: str, port: int) -> dict[str, Any]:
        return {"result": self._of(fd).sendto(bytes.fromhex(octets), flags, (address, port))}

    def call_sendmsg(self, fd: int, parts: list[str], flags: int) -> dict[str, Any]:
        return {"result": self._of(fd).sendmsg([bytes.fromhex(part) for part in parts], (), flags)}

    def call_readv(self, fd: int, size: int) -> dict[str, Any]:
        room = bytearray(size)
        read = os.readv(self._of(fd).fileno(), [room])
        return {"result": read, "text": room[:read].hex()}

    def call_recvmsg(self, fd: int, size: int, room: int, flags: int) -> dict[str, Any]:
        text, control, found, _ = self._of(fd).recvmsg(size, room, flags)
        told = [(level, kind, data.hex()) for level, kind, data in control]
        return {"result": len(text), "text": text.hex(), "control": told, "flags": found & ~_MSG_CMSG_CLOEXEC}

    def call_without_buffer(self, fd: int, name: str, size: int, flags: int) -> dict[str, Any]:
        """Python has no null pointers to give; the C library takes them."""
        import ctypes

        call = getattr(ctypes.CDLL(None, use_errno=True), name)
        call.restype = ctypes.c_ssize_t
        result = call(self._of(fd).fileno(), None, ctypes.c_size_t(size), flags)
        return {"result": result, "errno": ctypes.get_errno() if result < 0 else 0}

    def call_open(self, path: str, flags: int) -> dict[str, Any]:
        fd = os.open(path, flags)
        self._files[fd] = None
        return {"result": fd}

    def call_sendfile(self, to: int, source: int, offset: int | None, size: int) -> dict[str, Any]:
        if source not in self._files:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return {"result": os.sendfile(self._of(to).fileno(), source, offset, size)}

    def call_epoll_create(self) -> dict[str, Any]:
        made = select.epoll()
        self._files[made.fileno()] = made
        return {"result": made.fileno()}

    def call_epoll_ctl(self, epoll: int, operation: int, fd: int, events: int, data: int) -> dict[str, Any]:
        polling = self._epoll(epoll)
        target = self._of(fd).fileno()
        if operation == _EPOLL_CTL_DEL:
            polling.unregister(target)
        else:
            (polling.modify if operation == _EPOLL_CTL_MOD else polling.register)(target, events)
            self._data[epoll, target] = data
        return {}

    def call_epoll_wait(self, epoll: int, most: int, milliseconds: int) -> dict[str, Any]:
        if most <= 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        found = self._epoll(epoll).poll(None if milliseconds < 0 else milliseconds / 1000, most)
        values = [number for fd, events in found for number in (events, self._data[epoll, fd])]
        return {"result": len(found), "values": values}

    def call_close(self, fd: int) -> dict[str, Any]:
        if fd in self._files:
            file = self._files.pop(fd)
            if file is None:
                os.close(fd)
            else:
                file.close()
            return {}
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

    def _epoll(self, fd: int) -> select.epoll:
        found = self._files.get(fd)
        if found is None:
            code = errno.EINVAL if fd in self._sockets or fd in self._files else errno.EBADF
            raise OSError(code, os.strerror(code))
        return found

    def _of(self, fd: int) -> socket.socket:
        if fd not in self._sockets:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # its own descriptors are not the script's
        return self._sockets[fd]


class Commands:
    """Runs shell commands. `cover`: see above, "" where there is none."""

    def __init__(self, calls: Calls, cover: str) -> None:
        self._calls = calls
        self._cover = cover
        self._environment = {**os.environ, "PACKETDRILL_PID": str(os.getpid())}
        if cover:
            with open(_CONGESTION, "rb") as real, open(cover, "wb") as covering:
                self._given = real.read().strip()
                covering.write(self._given)

    def run(self, text: str, directory: str) -> dict[str, Any]:
        """The status, and the end of what the command wrote: where that is 0, as errors only."""
        argv = ["sh", "-c", text]
        if self._cover:
            # The mount is seen by this command alone. exec: its parent is to be this process, as with packetdrill.
            covered = 'mount --bind "$0" "$1" && exec sh -c "$2"'
            argv = ["unshare", "--mount", "sh", "-c", covered, self._cover, _CONGESTION, text]
        # Not its descriptors: a command that stays in the background would hold the link open.
        done = subprocess.run(
            argv, cwd=directory, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        said = done.stdout + done.stderr if done.returncode else done.stderr
        return self._take_over() or {"result": done.returncode, "text": said[-_TOLD_BYTES:].hex()}

    def _take_over(self) -> dict[str, Any] | None:
        """What a command has set as congestion control; how it failed where there is none of that name."""
        if not self._cover:
            return None
        with open(self._cover, "rb") as covering:
            wanted = covering.read().strip()
        if wanted != self._given:
            try:
                with socket.socket() as trial:
                    trial.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, wanted)
            except OSError as error:
                return {"result": 1, "text": f"tcp_congestion_control: {error.strerror}".encode().hex()}
            self._given = self._calls.congestion = wanted
        return None


def outgoing(interface: str) -> socket.socket:
    """A packet socket that hears what leaves by the interface, each packet with its time and a virtio header."""
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    heard.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    heard.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            heard.setsockopt(socket.SOL_SOCKET, option, _HEARD_BYTES)
            break
        except PermissionError:
            continue
    heard.bind((interface, _ETH_P_ALL))
    return heard


def be_prompt() -> None:
    """Have this thread run before all ordinary ones, where that is allowed; not what it starts."""
    try:
        lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, lowest)
    except OSError:
        pass


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


def framed(message: dict[str, Any]) -> bytes:
    text = json.dumps(message).encode()
    return _LENGTH.pack(len(text)) + text


def write(link: socket.socket, message: dict[str, Any]) -> None:
    try:
        link.sendall(framed(message))
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # nobody wants to know any more


def main() -> None:
    # A terminal's Ctrl-C comes here too; the end of the link is what ends us. What we run hears it as usual.
    signal.signal(signal.SIGINT, lambda *_: None)
    link = socket.socket(fileno=os.dup(0))
    link.set_inheritable(False)
    interface, *cover = sys.argv[1:]
    calls = Calls()
    commands = Commands(calls, cover[0] if cover else "")
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    writing = threading.Lock()

    def work() -> None:
        be_prompt()
        while True:
            request = waiting.get()
            outcome = calls.run(request["name"], request["arguments"])
            with writing:
                write(link, outcome)

    threading.Thread(target=work, daemon=True).start()
    be_prompt()
    with outgoing(interface) as heard:
        socket.send_fds(link, [framed({"info": True})], [heard.fileno()])
    while (request := read(link)) is not None:
        if request["name"] == "tcp_info":
            try:
                answer = {"info": True, **calls.tcp_info(*request["arguments"])}
            except OSError as error:
                answer = {"info": True, "errno": error.errno}
        elif request["name"] == "command":
            answer = {"info": True, **commands.run(*request["arguments"])}
        else:
            waiting.put(request)
            continue
        with writing:
            write(link, answer)
    os._exit(0)  # a call may still block in the other thread


if __name__ == "__main__":
    main()
