"""Joins one device to one stack on an asyncio event loop: packets, one timer, and readiness for the users.

The engine is sans-IO; this is its shell. Arriving packets go into the stack a batch at a time, with the
monotonic clock read once a batch. What the stack and the device want done later is one deadline, for which
one loop timer stands. The timer is lazy: it is moved only when something becomes due earlier, and where it
goes off too early (the loop's clock is coarser than ours) it looks again. Protocol time is never the loop's
time.
"""

from __future__ import annotations

import asyncio
import contextvars
import select
import time
from collections.abc import Callable

from ..core.connection import Connection
from ..device.base import Device, DeviceError
from ..stack.stack import Stack
from ..wire.packet import Packet
from ..wire.segmentation import wire_packets

BATCH_PACKETS = 64
"""Packets that the stack takes at once: their acknowledgements coalesce, each connection is flushed once."""
BATCHES_PER_TURN = 4
"""After so many the loop gets its turn, so that timers and tasks run under a flood of packets."""

MOST_UNLOOKED = 7
"""Where all that a turn found was one packet, the next turns read one and do not look for more, which saves a read that
finds nothing; if there are more, the descriptor stays readable. One turn goes by like that, then three, then so many,
until a turn that looks finds more."""

_NEVER = float("inf")


class ConnectionUser:
    """Whoever a connection serves: told what became possible, or that all is over."""

    __slots__ = ()

    def on_readiness(self, mask: int) -> None:
        """`mask` is of core.readiness. Called in the stack's batch, whose end transmits what is said here."""
        raise NotImplementedError

    def on_failure(self, error: BaseException) -> None:
        """Detach: the connection is about to be aborted, since the device is gone (`error` is a DeviceError), the
        host closes, or `on_readiness` raised `error`."""
        raise NotImplementedError


class Driver:
    """Runs `stack` over `device` on `loop` from `start()` to `stop()`.

    clock    monotonic nanoseconds, for everything in the protocol; a simulation passes its own
    closed   done when the driver has stopped: with None, or with the DeviceError that stopped it
    in_turn  whether a batch or a timer is being processed: what users say now leaves at its end

    Users are called in the context (contextvars) in which the driver was made, whoever caused the turn.
    """

    def __init__(
        self,
        stack: Stack,
        device: Device,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.stack = stack
        self.device = device
        self.loop = loop
        self._exact: bool = getattr(loop, "exact", False)  # in virtual time
        self.clock = clock
        self.closed: asyncio.Future[DeviceError | None] = loop.create_future()
        self._context = contextvars.copy_context()
        self._running = False
        self._divides = False
        self._unlooked = 0  # turns to come that read one packet and don't look for more
        self._patience = 0  # how many they were the last time
        self._fd = -1
        self._poll: select.epoll | None = None
        self.in_turn = False
        self._turn_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns: float = _NEVER
        self._due_scheduled = False
        self._users: dict[ConnectionUser, Connection] = {}
        self._idle = asyncio.Event()  # cleared while somebody waits for it
        self._idle.set()
        self._interrupt: BaseException | None = None

    def start(self) -> None:
        """Begin to read. The stack's and the device's callbacks belong to the driver from here on."""
        self._running = True
        self._fd = self.device.fileno()
        self.stack.offload = offload = self.device.offload
        if self.device.queue_packets is not None:
            self.stack.queue_bytes = self.device.queue_packets * self.device.mtu
        # Where the device takes no superpackets they are made all the same, and divided at the last moment; and what
        # arrives is joined at the first: each crosses the engine at the cost of one segment. But where somebody
        # watches, each packet is to be seen as it crossed.
        self.stack.coalesces = self._fd >= 0 and self.stack.tracer is None
        self.stack.divides = self._divides = self.stack.coalesces and not (offload.tso4 or offload.tso6)
        self.stack.send_packet = self._send
        self.stack.notify = self._notify
        self.device.on_ready = self._schedule_turn
        if self._fd >= 0:
            # The loop watches an epoll that watches the device, which tells of errors as of packets. Of the first error
            # on a descriptor of its own, libuv tells once and never again; but while an interface is being deleted, a
            # read finds packets, or nothing, and only later the error.
            self._poll = select.epoll()
            self._poll.register(self._fd, select.EPOLLIN)
            self.loop.add_reader(self._poll.fileno(), self._turn)
        else:
            self._schedule_turn()

    def stop(self, error: DeviceError | None = None) -> None:
        """Read and send no more. The device stays open: it is its owner's. Idempotent."""
        if not self._running:
            return
        self._running = False
        if self._poll is not None:
            self.loop.remove_reader(self._poll.fileno())
            self._poll.close()
        self.device.on_ready = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.closed.set_result(error)
        self._idle.set()

    def after_activity(self) -> None:
        """To be called after user calls on the stack: they may have set timers. Free inside a turn."""
        if self.in_turn or not self._running:
            return
        self._look_ahead()

    @property
    def users(self) -> tuple[ConnectionUser, ...]:
        """Those attached, in the order in which they were; also where the engine is done with the connection."""
        return tuple(self._users)

    def attach(self, user: ConnectionUser, conn: Connection) -> None:
        """From now on `user` hears of `conn`'s readiness."""
        conn.user = user
        self._users[user] = conn

    def detach(self, user: ConnectionUser) -> None:
        """`user` hears no more of its connection, which goes on by itself."""
        self._users.pop(user).user = None

    def fail(self, user: ConnectionUser, error: BaseException) -> None:
        """Reset the connection of `user`, who hears that it was `error`."""
        conn = self._users[user]
        user.on_failure(error)
        self.abort(conn)

    def abort(self, conn: Connection) -> None:
        """Reset a connection that nobody uses, or not any more."""
        self.stack.abort(conn, self.clock())
        self.after_activity()  # where the peer is this very stack, it is still to hear of it

    def abort_all(self, error: BaseException) -> None:
        """Reset every connection, also those that nobody uses any more; the users hear that it was `error`."""
        for user in self.users:
            self.fail(user, error)
        for conn in self.stack.connections:
            self.abort(conn)

    def interrupt(self, interrupt: BaseException) -> None:
        """A callback raised KeyboardInterrupt or SystemExit: raise it when the turn is over, so that the
        other connections of the batch get what is theirs; at once where no turn is under way."""
        if not self.in_turn:
            raise interrupt
        self._interrupt = interrupt

    async def wait_idle(self) -> None:
        """Return when no connection is left but in TIME-WAIT, or the driver has stopped."""
        if self._running and self.stack.has_connections:
            self._idle.clear()
            await self._idle.wait()

    def _schedule_turn(self) -> None:
        """A device without a descriptor has packets. It may say so from inside the other stack's batch."""
        if not self._turn_scheduled and self._running:
            self._turn_scheduled = True
            self.loop.call_soon(self._turn, context=self._context)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._running:
            self._run(self._take_packets)

    def _on_timer(self) -> None:
        self._timer = None
        self._armed_ns = _NEVER
        if self._running:
            self._run(self._take_time)

    def _on_due(self) -> None:
        self._due_scheduled = False
        if self._running:
            self._run(self._take_time)

    def _run(self, work: Callable[[], None]) -> None:
        """One turn: `work`, then the timer for what it left. A device that fails stops the driver."""
        self.in_turn = True
        try:
            work()
        except DeviceError as error:
            self._lose_device(error)
        finally:
            self.in_turn = False
            self._look_ahead()
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            raise interrupt

    def _take_packets(self) -> None:
        stack, receive, clock = self.stack, self.device.receive, self.clock
        polled = self._fd >= 0
        if polled and self._unlooked:
            self._unlooked -= 1
            now_ns = clock()
            packets = receive(1, now_ns)
            if packets:
                stack.on_packets(packets, now_ns)
            return
        for batch in range(BATCHES_PER_TURN):
            now_ns = clock()
            packets = receive(BATCH_PACKETS, now_ns)
            if not packets:
                return
            stack.on_packets(packets, now_ns)
            if not self._running or (polled and len(packets) < BATCH_PACKETS):
                single = batch == 0 and len(packets) == 1
                self._patience = self._unlooked = min(2 * self._patience + 1, MOST_UNLOOKED) if single else 0
                return
        # What is left shows again by itself: the descriptor stays readable, `receive` has called on_ready.

    def _take_time(self) -> None:
        now_ns = self.clock()
        deadline_ns = self.device.deadline_ns
        if deadline_ns is not None and deadline_ns <= now_ns:
            self.device.on_timer(now_ns)
            # What a fault rule held back on the way in is receivable now, and no descriptor polls for it.
            self._take_packets()
        deadline_ns = self.stack.deadline_ns
        if deadline_ns is not None and deadline_ns <= now_ns:
            self.stack.on_timer(now_ns)

    def _look_ahead(self) -> None:
        """See that the loop calls us for the earliest deadline: in its next turn, or by the timer."""
        if not self._running:
            return
        if not self._idle.is_set() and not self.stack.has_connections:
            self._idle.set()
        deadline_ns = self.stack.deadline_ns
        held_ns = self.device.deadline_ns
        if held_ns is not None and (deadline_ns is None or held_ns < deadline_ns):
            deadline_ns = held_ns
        if deadline_ns is None or self._due_scheduled or deadline_ns >= self._armed_ns:
            return
        wait_ns = deadline_ns - self.clock()
        if wait_ns <= 0:
            # A full turn left something over. The timer stays as it is.
            self._due_scheduled = True
            self.loop.call_soon(self._on_due, context=self._context)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = deadline_ns
        # In whole milliseconds, rounded up: uvloop rounds to them, and down would mean to spin until it is time.
        is_exact = self._exact and wait_ns < 1_000_000
        wait_s = wait_ns / 1e9 if is_exact else -(-wait_ns // 1_000_000) / 1000
        self._timer = self.loop.call_later(wait_s, self._on_timer, context=self._context)

    def _send(self, packet: Packet, now_ns: int) -> bool:
        """The stack's way out. It never raises: the stack must not be torn out of the middle of a batch."""
        if not self._running:
            return False
        try:
            if not (self._divides and packet.gso_size):
                return self.device.send(packet, now_ns)
            taken = [self.device.send(piece, now_ns) for piece in wire_packets(packet)]
            return all(taken)
        except DeviceError as error:
            self._lose_device(error)
            return False

    def _notify(self, conn: Connection, mask: int) -> None:
        user = conn.user
        if not isinstance(user, ConnectionUser):
            return
        try:
            user.on_readiness(mask)
        except (SystemExit, KeyboardInterrupt) as interrupt:
            self.interrupt(interrupt)
        except BaseException as error:
            self.loop.call_exception_handler(
                {"message": "Fatal error: readiness callback failed.", "exception": error, "transport": user}
            )
            self.fail(user, error)

    def _lose_device(self, error: DeviceError) -> None:
        if self._running:
            self.stop(error)
            # Not from inside the batch, which goes on; what the aborts say to the peers goes nowhere.
            self.loop.call_soon(self.abort_all, error)
