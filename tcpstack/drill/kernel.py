"""A script against Linux: a namespace of its own, packets through its TUN, calls made by a process in it, real time.

Our end of the TUN is the script's host; nobody answers there but the script. Commands run in the namespace, which
ends with the script: what they set, they set there.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

from ..device.namespace import Namespace
from ..observe.ladder import Ladder
from ..wire.packet import Packet
from . import tcp_info
from .kernel_view import KernelView
from .script import Unsupported
from .settings import SettingError, Settings
from .side import Arrived, CommandFailed, Outcome, Request

_HELPER = Path(__file__).with_name("_kernel_calls.py")
_LENGTH = struct.Struct("!I")
_PATIENCE_S = 30.0
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
        self._packets: deque[Arrived] = deque()
        self._answers: deque[dict[str, Any]] = deque()
        self._outcome: Outcome | None = None
        self._heard = bytearray()
        self._ladder = Ladder(us=self.name, peer="script")
        self._view = KernelView(self._ladder)
        prefix = _common_prefix(settings.local, settings.remote)
        # A script has the packets of the wire: no larger ones, and with their checksums.
        self._namespace = Namespace.open([f"{settings.local}/{prefix}"], mtu=settings.mtu, offload=False)
        self._start_ns = time.monotonic_ns()
        try:
            self._link = self._start_helper()
            self._answer()
            self._namespace.device.receive(_BATCH, 0)  # whatever the interface said when it came up
        except BaseException:
            self._namespace.close()
            raise
        self._start_ns = time.monotonic_ns()

    @property
    def now_ns(self) -> int:
        return time.monotonic_ns() - self._start_ns

    def start_clock(self) -> None:
        self._start_ns = time.monotonic_ns()

    def wait_until(self, at_ns: int) -> None:
        self._wait(at_ns)

    def inject(self, octets: bytes) -> None:
        self._hear()  # what left before this came: the ladder keeps the order
        self._view.received(octets, self.now_ns)
        if not self._namespace.device.send(Packet((octets,)), self.now_ns):
            raise Unsupported("the kernel did not take a packet of the script")

    def next_packet(self, until_ns: int) -> Arrived | None:
        while not self._packets and self._wait(until_ns, any_packet=True):
            pass
        return self._packets.popleft() if self._packets else None

    def start_call(self, request: Request) -> None:
        self._outcome = None
        self._write({"name": request.name, "arguments": request.arguments})

    def finish_call(self, until_ns: int) -> Outcome | None:
        while self._outcome is None and self._wait(until_ns, any_packet=True):
            pass
        return self._outcome

    def run_command(self, text: str) -> None:
        self._write({"name": "command", "arguments": (text, self._directory)})
        answer = self._answer()
        if answer["result"]:
            said = bytes.fromhex(answer["text"]).decode(errors="replace").strip()
            raise CommandFailed(f"`{text.strip()}` ended with status {answer['result']}{': ' if said else ''}{said}")

    def tcp_info(self, fd: int) -> Mapping[str, int]:
        self._write({"name": "tcp_info", "arguments": (fd,)})
        answer = self._answer()
        if answer["errno"]:
            raise Unsupported(f"TCP_INFO: {os.strerror(answer['errno'])}")
        return tcp_info.of_linux(bytes.fromhex(answer["text"]))

    def ladder(self) -> str:
        return self._ladder.render()

    def close(self) -> None:
        self._link.close()
        self._namespace.close()

    # -- inside

    def _start_helper(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "w", encoding="utf-8") as null:
            environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}", "LC_ALL": "C"}
            argv = (sys.executable, "-I", "-S", str(_HELPER))
            self._namespace.start(argv, env=environment, stdio=(theirs.fileno(), null.fileno(), 2))
            if _default_qdisc() == "fq":
                self._without_pacing(environment)
        return ours

    def _without_pacing(self, environment: dict[str, str]) -> None:
        """A queue that paces would move packets in time."""
        tc = ("tc", "qdisc", "replace", "dev", self._namespace.device.name, "root", "pfifo")
        subprocess.run((*self._namespace.exec_prefix, *tc), env=environment, check=False, capture_output=True)

    def _write(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        self._link.sendall(_LENGTH.pack(len(text)) + text)

    def _answer(self) -> dict[str, Any]:
        """The answer to what is no call."""
        until_ns = self.now_ns + int(_PATIENCE_S * 1e9)
        while not self._answers:
            if not self._wait(until_ns, any_packet=True):
                raise Unsupported(f"the process in the namespace did not answer within {_PATIENCE_S:.0f} s")
        return self._answers.popleft()

    def _wait(self, until_ns: int, *, any_packet: bool = False) -> bool:
        """Hear packets and answers up to `until_ns`, or just until something is heard; True where that was."""
        while True:
            left_ns = until_ns - self.now_ns
            device, link = self._namespace.device, self._link
            ready, _, _ = select.select([device, link], [], [], max(left_ns, 0) / 1e9)
            if link in ready:
                self._hear_answers()
            if device in ready:
                self._hear()
            if ready and any_packet:
                return True
            if left_ns <= 0 and not ready:
                return False

    def _hear(self) -> None:
        for packet in self._namespace.device.receive(_BATCH, 0):
            now_ns = self.now_ns
            octets = packet.data()
            self._packets.append(Arrived(now_ns, octets))
            self._view.sent(octets, now_ns)

    def _hear_answers(self) -> None:
        chunk = self._link.recv(_LINK_BYTES)
        if not chunk:
            raise Unsupported("the process in the namespace that makes the calls has died")
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
                ended_ns = message["ended_ns"] - self._start_ns
                values = tuple(message["values"])
                text = bytes.fromhex(message["text"])
                self._outcome = Outcome(message["result"], message["errno"], text, values, ended_ns)


def _common_prefix(one: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> int:
    """The length of the longest prefix under which both addresses are hosts of one network: so no route is needed."""
    for length in range(one.max_prefixlen - 2, 0, -1):
        network = ip_network((one, length), strict=False)
        ends = (network.network_address, network.broadcast_address)
        if other in network and one not in ends and other not in ends:
            return length
    raise SettingError(f"{one} and {other} are on no network together: choose others (--local_ip, --remote_ip)")


def _default_qdisc() -> str:
    try:
        return Path("/proc/sys/net/core/default_qdisc").read_text().strip()
    except OSError:
        return ""
