"""What a script runs against: our engine in virtual time, or Linux in real time. The runner sees no more than this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..wire.packet import CHECKSUM_UNVERIFIED


@dataclass(frozen=True, slots=True)
class Request:
    """A socket call with nothing left open: descriptors are real ones, addresses and texts are there. It can be said
    in JSON, so octets are strings of hexadecimal digits.

    Names and arguments: socket(family, type, protocol); bind(fd, address, port); listen(fd, backlog);
    accept(fd, flags); connect(fd, address, port); recv(fd, size, flags); send(fd, octets, flags); close(fd);
    shutdown(fd, how); fcntl(fd, command, value); getsockopt(fd, level, name, size);
    setsockopt(fd, level, name, octets); ioctl(fd, request); poll(((fd, events), ...), milliseconds);
    sendmsg(fd, (octets, ...), flags); recvmsg(fd, size, size of control messages, flags); readv(fd, size);
    epoll_create(); epoll_ctl(fd, operation, other fd, events, data); epoll_wait(fd, most, milliseconds);
    sendto(fd, octets, flags, address, port); open(path, flags); sendfile(fd, fd read from, offset or None, size);
    without_buffer(fd, "send" or "recv", size, flags): one with a null pointer for the text.
    """

    name: str
    arguments: tuple[Any, ...]


class Control(NamedTuple):
    """A control message that recvmsg() got."""

    level: int
    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to.

    result  as the call returns it, -1 with `errno` where it failed (else 0)
    text    what was read: a recv's text, an option's octets
    values  what else was filled in: poll's revents, ioctl's number, epoll_wait's events and data in turn
    control, flags  recvmsg's control messages and msg_flags
    """

    result: int
    errno: int = 0
    text: bytes = b""
    values: tuple[int, ...] = ()
    ended_ns: int = 0
    control: tuple[Control, ...] = ()
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Arrived:
    """An IP packet that the tested side sent, and when.

    checksum  one of the CHECKSUM_ constants: how far its transport checksum is made
    gso_size  octets of text in each segment of the wire, where it stands for several; else 0
    """

    time_ns: int
    octets: bytes
    checksum: int = CHECKSUM_UNVERIFIED
    gso_size: int = 0


class CommandFailed(Exception):
    """A shell command that was run came to nothing; the message says how."""


class Side(Protocol):
    """Times are nanoseconds since the script's start.

    name  what messages call it
    """

    name: str

    @property
    def now_ns(self) -> int:
        """The time."""

    def start_clock(self) -> None:
        """The script begins: the time is 0."""

    def wait_until(self, at_ns: int) -> None:
        """Let time pass up to `at_ns`; packets that leave meanwhile are kept."""

    def inject(self, octets: bytes) -> None:
        """An IP packet arrives at the tested side now."""

    def next_packet(self, until_ns: int) -> Arrived | None:
        """The next packet that it sent or sends, at `until_ns` at the latest; None where there is none."""

    def start_call(self, request: Request) -> None:
        """Begin a call. One at a time. Raises Unsupported."""

    def finish_call(self, until_ns: int) -> Outcome | None:
        """What the call that was begun last came to; None where it still blocks at `until_ns`."""

    def run_command(self, text: str) -> str:
        """Run a shell command, or what it stands for; what it complained of although it came to an end, "" where it
        did not. Raises Unsupported and CommandFailed."""

    def tcp_info(self, fd: int) -> Mapping[str, int]:
        """TCP_INFO of a descriptor, by the names of struct tcp_info. Raises Unsupported."""

    def ladder(self) -> str:
        """The conversation so far."""

    def close(self) -> None:
        """End it all."""
