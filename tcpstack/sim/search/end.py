"""One end of a conversation: a program that follows its plan, and checks what it hears and is told."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...core import state as st
from ...core.config import MILLISECOND_NS
from ...core.connection import ABORT_RESETS, Connection
from ...core.readiness import CONNECTED, EOF, READABLE, RESET, URGENT, WRITABLE
from ...core.timers import NEVER
from ..host import SimHost
from .case import Plan
from .flow import SPEAKS
from .known import Program, Violation

if TYPE_CHECKING:
    from .play import Player


DELAYED_NS = 500 * MILLISECOND_NS
"""No acknowledgement waits for longer (MUST-40)."""


class End:
    """One end of a conversation: follows its Plan, checks what it hears."""

    def __init__(self, player: Player, host: SimHost, plan: Plan, says: bytes, hears: bytes) -> None:
        self._player = player
        self._host = host
        self._plan = plan
        self._says = says
        self._hears = hears
        self.program = Program()
        self.program.urgent = plan.urgent
        self.heard = 0
        self.connected = False
        self.urgent = False  # has been told of urgent text
        self.eof = False
        self.over = False
        self.nobody = False  # it never begins
        self.cut = False  # aborted, by its plan
        self.error: OSError | None = None
        self.connection: Connection | None = None
        self._reading = False  # a slow read is to come
        self._read_ns: int | None = None  # when one was: they keep to regular intervals
        self._waiting: list[int] = []  # writes, of a program that waits for each to leave
        self._ends = self._awaits = False  # it is to end when all has left, when it is open

    @property
    def _number(self) -> int:
        return self._player.hosts.index(self._host)

    @property
    def _buffer_bytes(self) -> int:
        return self._player.case.configs[self._number].send_buffer_bytes

    @property
    def said(self) -> int:
        return self.program.said

    @property
    def reads_at_once(self) -> bool:
        return not self._plan.read_every_ns

    def begin(self, connection: Connection) -> None:
        """The connection is there, established or opening: the plan starts."""
        self.connection = connection
        connection.user = self
        self._player.wire_of(self._host).flows[connection.flow].program = self.program
        told = (URGENT if connection.urgent_bytes else 0) | (RESET if connection.error is not None else 0)
        if told & RESET:
            self.on_readiness(told)
            return
        if self._player.healed:
            self.urgent = told & URGENT != 0
            self.finish()
            return
        clock = self._player.network.clock
        for at_ns, size in self._plan.writes:
            clock.call_after(at_ns, partial(self._write, size))
        last_ns = self._plan.writes[-1][0] if self._plan.writes else 0
        if self._plan.ending != "wait":
            clock.call_after(last_ns, self._end)
        self.on_readiness(READABLE | told)

    def on_readiness(self, mask: int) -> None:
        connection = self.connection
        assert connection is not None
        self.connected = self.connected or mask & CONNECTED != 0
        self.urgent = self.urgent or mask & URGENT != 0
        if mask & RESET:
            self.error = connection.error
            self._player.check_reset(self._host, connection)
            self._hear()
            self.over = True
            return
        if mask & CONNECTED:
            if self._player.healed:
                self._host.shutdown(connection)
            elif self._awaits:
                self._awaits = False
                self._end()
                if self.over:
                    return
        if mask & WRITABLE and self._waiting:
            self._push()
        if self._plan.read_every_ns and not self._player.healed:
            if not self._reading:
                self._read_later()
        elif mask & (READABLE | EOF | CONNECTED):
            self._hear()
        if self._player.healed and self.eof:
            self._host.close(connection)

    def finish(self) -> None:
        """The network is healed: read all there is, say no more."""
        connection = self.connection
        if connection is not None and not self.over:
            self._hear()
            if connection.state != st.SYN_SENT:  # where CLOSE ends the attempt
                self._host.shutdown(connection)

    def leave(self) -> None:
        """The program is gone."""
        if self.connection is not None and not self.over:
            self._host.close(self.connection)
            self.over = True

    def _write(self, size: int) -> None:
        connection = self.connection
        if self.over or connection is None or self._player.healed:
            return
        if self._plan.paced:
            self._waiting.append(size)
            self._push()
        else:
            self._say(connection, size)

    def _push(self) -> None:
        connection = self.connection
        assert connection is not None
        while self._waiting and not connection.unsent_bytes and not (self.over or self._player.healed):
            self._say(connection, self._waiting.pop(0))
        if self._ends and not self._waiting:
            self._ends = False
            self._end()

    def _say(self, connection: Connection, size: int) -> None:
        said = self.said
        text = self._says[said : said + size]
        self.program.said += size  # before it leaves
        try:
            if self._plan.urgent:
                connection.send_urgent(text)
                text = b""
            self._host.send(connection, text)
        except OSError:
            self.program.said = said
        else:
            self._player.network.clock.call_after(0, self._check_leaves)

    def _check_leaves(self) -> None:
        """Nagle's algorithm, where it is on, is all that holds text back for which there is room (MUST-17)."""
        connection = self.connection
        assert connection is not None
        if not connection.unsent_bytes or connection.retransmitted or connection.state not in SPEAKS:
            return
        status = connection.status()
        would_be_out = connection.unsent_bytes + int(str(status["unacknowledged_bytes"]))
        nagle = not connection.nodelay and status["unacknowledged_bytes"]
        room = min(int(str(status["snd_wnd"])), int(str(status["cwnd_bytes"])), self._buffer_bytes)
        if not nagle and would_be_out <= room:
            raise Violation(f"{self._host.name}: nothing holds back what waits: {status}")

    def _end(self) -> None:
        connection = self.connection
        if self.over or connection is None:
            return
        if self._waiting and not self._player.healed:
            self._ends = True
            return
        opening = connection.state == st.SYN_SENT  # where CLOSE ends the attempt
        if opening and not self._plan.hasty:
            self._awaits = True
            return
        if self._plan.ending == "shutdown":
            self._host.shutdown(connection)
            self.cut = self.over = opening
            return
        self.cut = True  # what was on its way, or unread, is lost by right
        self.over = True
        if self._plan.ending == "abort":
            aloud = connection.state in ABORT_RESETS
            self._host.abort(connection)
        else:
            aloud = connection.readable_bytes > 0 and connection.state in (*ABORT_RESETS, st.CLOSING, st.LAST_ACK)
            self._host.close(connection)
        if aloud:
            self._player.network.clock.call_after(0, self._check_aloud)

    def _check_aloud(self) -> None:
        connection = self.connection
        assert connection is not None
        if not self._player.wire_of(self._host).flows[connection.flow].reset:
            raise Violation(f"{self._host.name}: the peer hears of no RST: {connection.status()}")

    def _read_later(self) -> None:
        clock, every_ns = self._player.network.clock, self._plan.read_every_ns
        if self._read_ns is None:
            self._read_ns = clock.now_ns
        self._reading = True
        clock.call_after(every_ns - (clock.now_ns - self._read_ns) % every_ns, self._read_slowly)

    def _read_slowly(self) -> None:
        self._reading = False
        if self.over or self._player.healed:
            return
        connection = self.connection
        assert connection is not None
        self._read_ns = self._player.network.clock.now_ns
        waited = connection.readable_bytes > 0 or connection.eof_received
        self._hear(self._plan.read_bytes)
        if waited and not self.eof:  # so once for nothing: that, too, must do no harm
            self._read_later()

    def _hear(self, max_bytes: int = 0) -> None:
        connection = self.connection
        assert connection is not None
        if self.cut:
            return
        while waiting := connection.readable_bytes:
            self.program.heard += min(waiting, max_bytes or waiting)  # before the window is offered that this opens
            chunks = self._host.receive(connection, max_bytes or 1 << 30)
            for chunk in chunks:
                if self.eof:
                    raise Violation(f"{self._host.name}: text after the FIN")
                if self._hears[self.heard : self.heard + len(chunk)] != chunk:
                    raise Violation(
                        f"{self._host.name}: what was heard at octet {self.heard} is not what was said there"
                    )
                self.heard += len(chunk)
            if max_bytes:
                break
        self.program.heard = self.heard  # urgent text never comes in one piece with what follows
        if connection.eof_received and not connection.readable_bytes:
            self.eof = True

    def check_told(self) -> None:
        """At rest: nothing waits of which the program was not told, and nothing that nothing holds back."""
        connection = self.connection
        if connection is None or self.over or self.cut or connection.state == st.CLOSED:
            return
        name, status = self._host.name, connection.status()
        synchronized = connection.state not in (st.SYN_SENT, st.SYN_RECEIVED)
        if self.reads_at_once and connection.readable_bytes:
            raise Violation(f"{name}: nobody was told that there is text: {status}")
        if self.reads_at_once and connection.eof_received and not self.eof:
            raise Violation(f"{name}: nobody was told of the end: {status}")
        if self._waiting and not connection.unsent_bytes and synchronized:
            raise Violation(f"{name}: nobody was told that text has left: {status}")
        self._check_timers(connection, status)
        unsent, wnd, mss = connection.unsent_bytes, int(str(status["snd_wnd"])), int(str(status["snd_mss"]))
        if synchronized and unsent and not status["unacknowledged_bytes"] and wnd >= min(unsent, mss):
            raise Violation(f"{name}: nothing holds back what waits: {status}")


    def _check_timers(self, connection: Connection, status: dict[str, object]) -> None:
        """A timer runs where there is something to say, and only there; the RTO is what RFC 6298 makes it."""
        latest_ns, config = self._player.network.clock.now_ns + DELAYED_NS, self._player.case.configs[self._number]
        if connection.unsent_bytes or status["unacknowledged_bytes"]:
            if connection.deadline_ns == NEVER:
                raise Violation(f"{self._host.name}: something is to be said, and no timer runs: {status}")
        elif connection.state in SPEAKS and not config.keepalive and NEVER > connection.deadline_ns > latest_ns:
            raise Violation(f"{self._host.name}: a timer runs with nothing to be said: {status}")
        srtt_ns, rttvar_ns, rto_ns = (int(str(status[name])) for name in ("srtt_ns", "rttvar_ns", "rto_ns"))
        least_ns = self._player.round_trip_ns - MILLISECOND_NS  # of which timestamps tell no parts
        if srtt_ns and (srtt_ns < least_ns or rto_ns < min(srtt_ns + 4 * rttvar_ns, config.rto_max_ns)):
            raise Violation(f"{self._host.name}: no round trip takes less than {least_ns} ns: {status}")
