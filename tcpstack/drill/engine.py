"""A script against our engine: one Stack, its packets and its timers in virtual time. No root, no waiting.

Nothing here knows TCP: packets go in as octets and come out as octets, as they would through a device.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

from ..core.config import Config
from ..core.connection import Connection
from ..core.events import CongestionChange, Event, SegmentIn, SegmentOut
from ..core.segment import FourTuple
from ..device.base import next_packet_id
from ..observe.ladder import Ladder
from ..stack.stack import Stack
from ..wire.packet import Packet
from . import tcp_info
from .script import Unsupported
from .settings import Settings
from .side import Arrived, Outcome, Request
from .sockets import Attempt, Sockets
from .symbols import TCP_INFO_CONSTANTS
from .sysctls import Sysctls
from .traffic import Traffic

_START_NS = 1_000_000_000_000
"""The stack's clock when the script begins: not 0, which is nobody's monotonic time."""
_SEED = 1
_SPINS = 1000
_CA_STATES = {"recovery": "TCP_CA_Recovery", "timeout": "TCP_CA_Loss"}


class Engine:
    """A Side. `directory` is where the script lies, for the files that its commands name."""

    name = "tcpstack"

    def __init__(self, settings: Settings, directory: Path, config: Config | None = None) -> None:
        self._settings = settings
        self._now_ns = _START_NS
        self._sent: deque[Arrived] = deque()
        self._pending: Attempt | None = None
        self._outcome: Outcome | None = None
        self._ladder = Ladder(us=self.name, peer="script")
        self._losses: dict[FourTuple, tuple[str, int]] = {}  # by flow: how it lost, and up to where it had sent
        self._traffic: defaultdict[FourTuple, Traffic] = defaultdict(Traffic)
        self._sysctls = Sysctls(config or Config(), directory)
        address = f"{settings.local}/{settings.local.max_prefixlen}"
        self._stack = Stack(
            [address], mtu=settings.mtu, config=config, random=Random(_SEED), tracer=self._trace, name=self.name
        )
        self._stack.send_packet = self._took
        self._sockets = Sockets(self._stack, self._sysctls.config)

    @property
    def now_ns(self) -> int:
        return self._now_ns - _START_NS

    def start_clock(self) -> None:
        pass  # commands take no time here

    def wait_until(self, at_ns: int) -> None:
        until_ns = at_ns + _START_NS
        while (deadline_ns := self._deadline_ns) is not None and deadline_ns <= until_ns:
            self._serve(deadline_ns)
        self._pass_to(until_ns)

    def inject(self, octets: bytes) -> None:
        self._stack.on_packets([Packet((octets,), id=next_packet_id())], self._now_ns)
        self._progress()

    def next_packet(self, until_ns: int) -> Arrived | None:
        end_ns = until_ns + _START_NS
        while not self._sent:
            deadline_ns = self._deadline_ns
            if deadline_ns is None or deadline_ns > end_ns:
                self._pass_to(max(end_ns, self._now_ns))
                return None
            self._serve(deadline_ns)
        return self._sent.popleft()

    def start_call(self, request: Request) -> None:
        self._sockets.config = self._sysctls.config
        self._sockets.now_ns = self._now_ns
        self._outcome = None
        self._pending = self._sockets.begin(request)
        self._progress()

    def finish_call(self, until_ns: int) -> Outcome | None:
        end_ns = until_ns + _START_NS
        while self._outcome is None:
            deadline_ns = self._deadline_ns
            if deadline_ns is None or deadline_ns > end_ns:
                self._pass_to(max(end_ns, self._now_ns))
                break
            self._serve(deadline_ns)
        return self._outcome

    def run_command(self, text: str) -> str:
        self._sysctls.run(text)
        return ""

    def tcp_info(self, fd: int) -> Mapping[str, int]:
        connection = self._sockets.connection(fd)
        if connection is None:
            raise Unsupported("a snippet about a socket that has no connection yet is not there on the engine")
        traffic = self._traffic[connection.flow].told(self._now_ns)
        return tcp_info.of_engine(connection.status(), self._ca_state(connection), traffic)

    def ladder(self) -> str:
        return self._ladder.render()

    def close(self) -> None:
        pass

    # -- inside

    @property
    def _deadline_ns(self) -> int | None:
        """When something happens next by itself."""
        waiting = self._sockets.deadline_ns if self._pending is not None else None
        due = [at_ns for at_ns in (self._stack.deadline_ns, waiting) if at_ns is not None]
        return min(due) if due else None

    def _serve(self, deadline_ns: int) -> None:
        """Go to the next deadline, and let the stack act."""
        spins = 0
        self._pass_to(max(deadline_ns, self._now_ns))
        while (due_ns := self._stack.deadline_ns) is not None and due_ns <= self._now_ns:
            spins += 1
            assert spins < _SPINS, "the engine asks for its timer again and again without letting time pass"
            self._stack.on_timer(self._now_ns)
        self._progress()

    def _pass_to(self, at_ns: int) -> None:
        self._now_ns = max(at_ns, self._now_ns)
        self._progress()

    def _progress(self) -> None:
        """Something may have changed: the call that blocks, if one does, tries again."""
        if self._pending is None:
            return
        self._sockets.now_ns = self._now_ns
        outcome = self._pending()
        if outcome is not None:
            self._pending = None
            self._outcome = replace(outcome, ended_ns=self.now_ns)

    def _took(self, packet: Packet, now_ns: int) -> None:
        self._sent.append(Arrived(now_ns - _START_NS, packet.data()))

    def _trace(self, event: Event) -> None:
        self._ladder(event)
        if isinstance(event, SegmentIn | SegmentOut):
            self._traffic[event.flow].note(event)
        if isinstance(event, CongestionChange):
            self._losses[event.flow] = (event.why, self._sent_up_to(event.flow))

    def _sent_up_to(self, flow: FourTuple) -> int:
        found = next(each for each in self._stack.connections if each.flow == flow)
        return tcp_info.number(found.status(), "snd_nxt")

    def _ca_state(self, connection: Connection) -> int:
        """Linux's names for it: Recovery from the third duplicate, Loss from a timeout, until all that was sent
        before is acknowledged; Disorder where something arrived above a hole that does not count as a loss yet."""
        why, high = self._losses.get(connection.flow, ("", 0))
        if why == "timeout" and tcp_info.number(connection.status(), "snd_una") >= high:
            why = ""
        if why not in _CA_STATES and tcp_info.number(connection.status(), "sacked_bytes"):
            return TCP_INFO_CONSTANTS["TCP_CA_Disorder"]
        return TCP_INFO_CONSTANTS[_CA_STATES.get(why, "TCP_CA_Open")]
