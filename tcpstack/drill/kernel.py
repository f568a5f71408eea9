"""A script against Linux: a namespace of its own, packets through its TUN, calls made by a process in it, real time.

Our end of the TUN is the script's host; nobody answers there but the script. Commands run in the namespace, which
ends with the script: what they set, they set there.

Time is real, so this is quick about it: it runs before other programs where it may, does no more than it must between
one event and the next (the ladder is drawn afterwards), and takes the times of packets from the kernel.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device import virtio
from ..device.namespace import Namespace
from ..device.tun import TunDevice
from ..observe.ladder import Ladder
from ..wire.checksum import PROTOCOL_TCP
from ..wire.packet import Packet
from . import tcp_info
from .kernel_packets import KernelPackets
from .kernel_view import KernelView
from .promptness import Preferred, after_tick, readable
from .script import Unsupported
from .settings import SettingError, Settings
from .side import Arrived, CommandFailed, Control, Outcome, Request

if TYPE_CHECKING:
    from tempfile import _TemporaryFileWrapper

_HELPER = Path(__file__).with_name("_kernel_calls.py")
_LENGTH = struct.Struct("!I")
_PATIENCE_NS = 30_000_000_000
_BATCH = 64
_LINK_BYTES = 1 << 16
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class Kernel:
    """A Side. `directory` is where the script lies: its commands run there.

    Raises NamespaceError where no namespace with a TUN can be had, SettingError for addresses that cannot be.
    """

    name = "Linux"

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._directory = str(directory.resolve())
        self._mss = settings.mss
        self._packets: deque[Arrived] = deque()
        self._answers: deque[dict[str, Any]] = deque()
        self._outcome: Outcome | None = None
        self._heard = bytearray()
        self._conversation: list[Arrived | tuple[bytes, int]] = []  # what Linux sent; what it was sent, and when
        self._preferred: Preferred | None = None
        prefix = _common_prefix(settings.local, settings.remote)
        self._start_ns = time.monotonic_ns()
        with ExitStack() as opened:
            self._cover = opened.enter_context(_cover()) if _congestion_is_restricted() else None
            self._namespace = Namespace.open([f"{settings.local}/{prefix}"], mtu=settings.mtu, offload=True)
            opened.callback(self._namespace.close)
            self._link = opened.enter_context(self._start_helper())
            self._sent = self._greet()
            opened.callback(self._sent.close)
            self._opened = opened.pop_all()

    @property
    def now_ns(self) -> int:
        return time.monotonic_ns() - self._start_ns

    def start_clock(self) -> None:
        self._preferred = Preferred()
        self._start_ns = after_tick()

    def wait_until(self, at_ns: int) -> None:
        while self._wait(at_ns):
            pass

    def inject(self, octets: bytes) -> None:
        self._hear()  # what left before this came: the ladder keeps the order
        self._conversation.append((octets, self.now_ns))
        device = self._namespace.device
        if self._mss and isinstance(device, TunDevice) and octets[9 if octets[0] >> 4 == 4 else 6] == PROTOCOL_TCP:
            os.writev(device.fileno(), (virtio.train_header(octets[0] >> 4, self._mss), octets))
        elif not device.send(Packet((octets,)), 0):
            raise Unsupported("the kernel did not take a packet of the script")

    def next_packet(self, until_ns: int) -> Arrived | None:
        while not self._packets and self._wait(until_ns):
            pass
        return self._packets.popleft() if self._packets else None

    def start_call(self, request: Request) -> None:
        self._outcome = None
        self._write({"name": request.name, "arguments": request.arguments})

    def finish_call(self, until_ns: int) -> Outcome | None:
        while self._outcome is None and self._wait(until_ns):
            pass
        return self._outcome

    def run_command(self, text: str) -> str:
        self._write({"name": "command", "arguments": (text, self._directory)})
        answer = self._answer()
        said = bytes.fromhex(answer["text"]).decode(errors="replace").strip()
        if answer["result"]:
            raise CommandFailed(f"`{text.strip()}` ended with status {answer['result']}{': ' if said else ''}{said}")
        return said

    def tcp_info(self, fd: int) -> Mapping[str, int]:
        self._write({"name": "tcp_info", "arguments": (fd,)})
        answer = self._answer()
        if answer["errno"]:
            raise Unsupported(f"TCP_INFO: {os.strerror(answer['errno'])}")
        return tcp_info.of_linux(bytes.fromhex(answer["text"]), bytes.fromhex(answer["memory"]))

    def ladder(self) -> str:
        self._hear()
        ladder = Ladder(us=self.name, peer="script")
        view = KernelView(ladder)
        for each in self._conversation:
            if isinstance(each, Arrived):
                view.expect(each)
        for each in self._conversation:
            if isinstance(each, Arrived):
                view.sent(each)
            else:
                view.received(*each)
        return ladder.render()

    def close(self) -> None:
        if self._preferred is not None:
            self._preferred.end()
        self._opened.close()

    # -- inside

    def _start_helper(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "w", encoding="utf-8") as null:
            environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}", "LC_ALL": "C"}
            cover = () if self._cover is None else (self._cover.name,)
            argv = (sys.executable, "-I", "-S", str(_HELPER), self._namespace.device.name, *cover)
            self._namespace.start(argv, env=environment, stdio=(theirs.fileno(), null.fileno(), 2))
            if _setting("net/core/default_qdisc") == "fq":
                self._without_pacing(environment)
        return ours

    def _without_pacing(self, environment: dict[str, str]) -> None:
        """A queue that paces would move packets in time."""
        tc = ("tc", "qdisc", "replace", "dev", self._namespace.device.name, "root", "pfifo")
        subprocess.run((*self._namespace.exec_prefix, *tc), env=environment, check=False, capture_output=True)

    def _greet(self) -> KernelPackets:
        """Wait for the helper's first word; the packet socket that comes with it."""
        if not readable([self._link], time.monotonic_ns() + _PATIENCE_NS):
            raise self._silent()
        chunk, fds, _, _ = socket.recv_fds(self._link, _LINK_BYTES, 1)
        if not fds:
            raise Unsupported("the process in the namespace that makes the calls has died")
        sent = KernelPackets(fds[0])
        self._take_in(chunk)
        self._answers.clear()
        return sent

    def _write(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        self._link.sendall(_LENGTH.pack(len(text)) + text)

    def _answer(self) -> dict[str, Any]:
        """The answer to what is no call."""
        until_ns = self.now_ns + _PATIENCE_NS
        while not self._answers:
            if not self._wait(until_ns):
                raise self._silent()
        return self._answers.popleft()

    def _silent(self) -> Unsupported:
        return Unsupported(f"the process in the namespace did not answer within {_PATIENCE_NS // 1_000_000_000} s")

    def _wait(self, until_ns: int) -> bool:
        """Hear packets and answers up to `until_ns`, or just until something is heard; True where that was."""
        ready = readable((self._sent, self._link), self._start_ns + until_ns)
        if self._link in ready:
            chunk = self._link.recv(_LINK_BYTES)
            if not chunk:
                raise Unsupported("the process in the namespace that makes the calls has died")
            self._take_in(chunk)
        if self._sent in ready:
            self._hear()
        return bool(ready)

    def _hear(self) -> None:
        for arrived in self._sent.receive(self._start_ns):
            self._packets.append(arrived)
            self._conversation.append(arrived)
        while self._namespace.device.receive(_BATCH, 0):
            pass  # the very same packets, which are to be taken from their queue

    def _take_in(self, chunk: bytes) -> None:
        """Octets from the link."""
        heard = self._heard
        heard += chunk
        while len(heard) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(heard)
            if len(heard) < _LENGTH.size + length:
                break
            message = json.loads(bytes(heard[_LENGTH.size : _LENGTH.size + length]))
            del heard[: _LENGTH.size + length]
            if "info" in message:
                self._answers.append(message)
            else:
                self._outcome = Outcome(
                    message["result"],
                    message["errno"],
                    bytes.fromhex(message["text"]),
                    tuple(message["values"]),
                    message["ended_ns"] - self._start_ns,
                    tuple(Control(level, kind, bytes.fromhex(data)) for level, kind, data in message["control"]),
                    message["flags"],
                )


def _congestion_is_restricted() -> bool:
    """Whether this host keeps some of its congestion controls from namespaces (but not from their sockets)."""
    available, allowed = (
        set(_setting(f"net/ipv4/tcp_{which}_congestion_control").split()) for which in ("available", "allowed")
    )
    return not available <= allowed


def _common_prefix(one: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> int:
    """The length of the longest prefix under which both addresses are hosts of one network: so no route is needed."""
    for length in range(one.max_prefixlen - 2, 0, -1):
        network = ip_network((one, length), strict=False)
        ends = (network.network_address, network.broadcast_address)
        if other in network and one not in ends and other not in ends:
            return length
    raise SettingError(f"{one} and {other} are on no network together: choose others (--local_ip, --remote_ip)")


def _cover() -> _TemporaryFileWrapper[bytes]:
    return tempfile.NamedTemporaryFile(prefix="tcpstack-drill-")


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""
