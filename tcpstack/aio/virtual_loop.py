"""An asyncio event loop in virtual time: its clock is a simulation's, and what it would wait for happens at once.

Timers are happenings of the clock, as packets on links are, so there is one order of all things: what is due at the
same instant happens in the order in which it was asked for. A turn of the loop lets happen what is due, then calls
what is ready; time comes to the next happening when nothing is ready. There is no selector, no descriptor, no thread.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from ..core.config import SECOND_NS
from ..sim.clock import Clock, Happening
from .driver import Driver
from .host import Host
from .server import ProtocolFactory, Server
from .transport import TcpTransport
from .virtual_names import CURRENT_HOST, Entry, getaddrinfo, port_number
from .virtual_outside import Outside
from .virtual_refusals import NotVirtual, refusal
from .virtual_socket_loop import SocketLoop
from .virtual_waiting import DeadlockError, InOrder, VirtualFuture, VirtualTask, Waiting, report, who_waits

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")
_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

QUIET_NS = 24 * 3600 * SECOND_NS
"""So long without a program's step, and with none of its timers set: what still happens is TCP probing for ever."""
SPIN_TURNS = 10_000
"""So many turns in which tasks do nothing but yield, and time comes to the next happening all the same: whoever polls
with sleep(0) waits for something."""
LIVELOCK_TURNS = 1_000_000
"""So many turns without a rest, whatever is done in them, and each brings the next happening; where there is none, the
programs are given up."""
_STEP = "TaskStepMethWrapper"
"""asyncio's type for a task's step that nobody but the task asked for: its first, and those behind a bare yield."""
COLLECT_TURNS = 20_000
"""The garbage collector runs every so many turns, so that finalizers run at the same point in every run."""


class _Timer(asyncio.TimerHandle):
    """A timer of the loop, which is a happening of the clock."""

    __slots__ = ("happening", "of_program")

    happening: Happening
    of_program: bool
    _scheduled: bool


class VirtualLoop(SocketLoop):
    """An event loop whose time is `clock`'s (one of its own where None). Can be given to asyncio.Runner as factory.

    urandom  "refused", or "seeded": os.urandom and what draws from it comes from the seed
    hidden   a coroutine whose task is to be in no report, and made by no task factory

    Connections and servers go over the simulated host that the caller belongs to (CURRENT_HOST). While it runs, the
    process's clocks and the module random are the simulation's (Outside); whatever leads out of it raises NotVirtual.
    Executors run their function in line, as a callback of its own. Where nothing can happen any more while something
    is awaited, `run_until_complete` raises DeadlockError.
    """

    exact = True
    """Timers go off to the nanosecond."""
    _ready: deque[asyncio.Handle]
    _stopping: bool
    _thread_id: int | None
    _check_closed: Callable[[], None]

    def __init__(self, clock: Clock | None = None, *, seed: int = 0, urandom: str = "refused") -> None:
        super().__init__()
        self.clock = clock if clock is not None else Clock()
        self.outside = Outside(self.clock, self.names, seed, self._refuse, urandom)
        self.hidden: Coroutine[Any, Any, Any] | None = None
        self._limit_ns: int | None = None
        self._limited_ns = 0  # when the limit was set
        self._tasks_made = 0
        self._futures_made = 0
        self._timers_of_programs = 0
        self._active_ns = self.clock.now_ns  # when a program last did something
        self._turns = 0
        self._turns_without_rest = 0
        self._turns_without_help = 0  # by anything that could have happened
        self._turns_of_yields = 0
        self._asyncgens = InOrder()

    # Time

    def time(self) -> float:
        """Virtual seconds. They begin at 1."""
        return self.clock.now_ns / SECOND_NS

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if delay == math.inf:
            return self._set_timer(None, callback, args, context)
        # Whatever is later is so by a nanosecond at least, or time would not come to it.
        delay_ns = max(1, round(delay * SECOND_NS)) if delay > 0 else 0
        return self._set_timer(self.clock.now_ns + delay_ns, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if when == math.inf:
            return self._set_timer(None, callback, args, context)
        when_ns = round(max(when, 0) * SECOND_NS)
        if when_ns / SECOND_NS < when:
            when_ns += 1  # or whoever sees that it is not yet time, and asks for the same time again, does so for ever
        return self._set_timer(when_ns, callback, args, context)

    def _set_timer(
        self, when_ns: int | None, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        """A timer that goes off at `when_ns`; None: never, and so no reason to wait for it."""
        self._check_closed()
        if when_ns is None:
            return _Timer(math.inf, callback, args, self, context)
        timer = _Timer(when_ns / SECOND_NS, callback, args, self, context)
        timer._scheduled = True
        timer.of_program = type(getattr(callback, "__self__", None)) is not Driver
        self._timers_of_programs += timer.of_program
        timer.happening = self.clock.call_at(when_ns, functools.partial(self._on_timer, timer))
        return timer

    def _on_timer(self, timer: _Timer) -> None:
        timer._scheduled = False
        self._timers_of_programs -= timer.of_program
        self._ready.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        assert isinstance(handle, _Timer)
        if handle._scheduled:
            handle._scheduled = False
            self._timers_of_programs -= handle.of_program
            handle.happening.cancel()

    def limit(self, within_ns: int | None) -> None:
        """Have a run end with TimeoutError when so much time has passed from now on; None: never."""
        self._limited_ns = self.clock.now_ns
        self._limit_ns = None if within_ns is None else self.clock.now_ns + within_ns

    # Running

    def run_forever(self) -> None:
        with self.outside:
            self._turns_without_rest = self._turns_without_help = 0
            super().run_forever()
            self._raise_failure()

    def _run_once(self) -> None:
        clock, ready = self.clock, self._ready
        self._take_stock()
        if not ready and not self._stopping:
            self._turns_without_rest = self._turns_without_help = 0
            self._let_time_pass()
        elif self._turns_of_yields > SPIN_TURNS or self._turns_without_rest > LIVELOCK_TURNS:
            self._spin()
        while clock.step(clock.now_ns):
            pass
        only_yields = True
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            only_yields = only_yields and type(handle._callback).__name__ == _STEP  # type: ignore[attr-defined]
            if type(getattr(handle._callback, "__self__", None)) is not Driver:  # type: ignore[attr-defined]
                self._active_ns = clock.now_ns
            handle._run()
        self._turns_of_yields = self._turns_of_yields + 1 if only_yields else 0

    def _take_stock(self) -> None:
        """Once a turn."""
        self._raise_failure()
        self.outside.readings = 0
        self._turns_without_rest += 1
        self._turns_without_help += 1
        self._turns += 1
        if self._turns % COLLECT_TURNS == 0:
            gc.collect()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _let_time_pass(self) -> None:
        """To the next happening."""
        next_ns = self.clock.next_ns
        if next_ns is None:
            self.give_up("nothing can happen any more, and programs still wait")
        if not self._timers_of_programs and next_ns - self._active_ns > QUIET_NS:
            self.give_up("for a day nothing has happened but TCP's own timers, and programs still wait")
        if self._limit_ns is not None and next_ns > self._limit_ns:
            self.clock.now_ns = self._limit_ns
            within_s = (self._limit_ns - self._limited_ns) / SECOND_NS
            headline = f"the programs have not finished after {within_s:.9g} s (it is {self.time():.9g} s)"
            raise TimeoutError(report(headline, self._who_waits()))
        self.clock.step()

    def _spin(self) -> None:
        if self.clock.next_ns is not None:
            self._turns_of_yields = self._turns_without_help = 0
            self._let_time_pass()
        elif self._turns_without_help > LIVELOCK_TURNS:
            self.give_up("programs keep the loop busy, and nothing can happen that they could be waiting for")

    def give_up(self, headline: str) -> NoReturn:
        """Raise DeadlockError with who waits for what."""
        raise DeadlockError(headline, self.time(), self._who_waits())

    def _who_waits(self) -> tuple[Waiting, ...]:
        return who_waits(asyncio.all_tasks(self))

    def create_task(self, coro: Coroutine[Any, Any, T], **more: Any) -> asyncio.Task[T]:  # type: ignore[override]
        hidden = coro is self.hidden
        if self.get_task_factory() is not None and not hidden:
            return super().create_task(coro, **more)
        self._check_closed()
        self._tasks_made += 1
        if more.get("name") is None:
            more["name"] = f"Task-{self._tasks_made}"  # asyncio counts all tasks of the process
        task = VirtualTask(coro, loop=self, number=self._tasks_made, **more)
        task.hidden = hidden
        return task

    def create_future(self) -> asyncio.Future[Any]:
        self._futures_made += 1
        return VirtualFuture(loop=self, number=self._futures_made)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if self._thread_id not in (None, threading.get_ident()):
            raise refusal("a call from another thread", "when it comes is chance; use tasks")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Runs `func` in this thread, in the loop's next turn, whatever the executor."""
        self._check_closed()
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(self._run_in_line, asyncio.current_task(self), future, func, args)
        return future

    def _run_in_line(
        self,
        task: asyncio.Task[Any] | None,
        future: asyncio.Future[Any],
        func: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        if future.cancelled():
            return  # as an executor has it that did not come to it yet
        result: object = None
        failure: BaseException | None = None
        try:
            result = func(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except StopIteration as error:
            failure = RuntimeError("the function in the executor raised StopIteration, which a future cannot carry")
            failure.__cause__ = error
        except BaseException as error:
            if isinstance(error, NotVirtual):
                self._watch(task, error)
            failure = error
        if future.cancelled():
            return  # by the function itself
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)

    def set_default_executor(self, executor: object) -> None:
        """Without effect: no executor is ever used."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, NotVirtual):
            self._failure = error  # nobody else would hear of it
        # Python 3.11 does not expect handlers to be cancelled; what ends the process has come out of the run already.
        elif not isinstance(error, asyncio.CancelledError | SystemExit | KeyboardInterrupt):
            super().call_exception_handler(context)

    def __del__(self) -> None:
        """Nothing: a loop that was not closed holds nothing of the system's."""

    # What is simulated

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Entry]:
        """The addresses of a simulated host, at once."""
        return getaddrinfo(self.names, host, port, family, type, proto, flags)

    async def create_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        host: str | None = None,
        port: int | str | bytes | None = None,
        *,
        ssl: object = None,
        family: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        **ignored: object,
    ) -> tuple[TcpTransport, _ProtocolT]:
        """Over the host that the caller belongs to (aio.host.Host.create_connection), one address after another.

        Of asyncio's other arguments those that choose between addresses (happy_eyeballs_delay, interleave, flags,
        proto, all_errors) make no difference here, and those for TLS are of no use without `ssl`.
        """
        self._check_plain(ssl)
        if sock is not None:
            _check_alone(host, port)
            return await self._transport_of(protocol_factory, sock)
        if port is None:
            raise ValueError("host and port was not specified and no sock specified")
        host = host or "localhost"
        current = self._current_host("a connection")
        port = port_number(port)
        if not family:
            return await current.create_connection(protocol_factory, host, port, local_addr=local_addr)
        entries = getaddrinfo(self.names, host, port, family)
        for entry in entries[:-1]:
            try:
                return await current.create_connection(protocol_factory, entry[4][0], port, local_addr=local_addr)
            except OSError:
                continue
        return await current.create_connection(protocol_factory, entries[-1][4][0], port, local_addr=local_addr)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        host: str | Sequence[str] | None = None,
        port: int | str | bytes | None = None,
        *,
        family: int = 0,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: object = None,
        start_serving: bool = True,
        **ignored: object,
    ) -> Server:
        """On the host that the caller belongs to (aio.host.Host.create_server). Of asyncio's other arguments
        reuse_address, reuse_port, keep_alive and flags make no difference here."""
        self._check_plain(ssl)
        if sock is not None:
            _check_alone(host, port)
            return self._server_of(protocol_factory, sock, backlog, start_serving)
        current = self._current_host("a server")
        if family and not host:
            host = "0.0.0.0" if family == socket.AF_INET else "::"
        return await current.create_server(
            protocol_factory, host, port_number(port), backlog=backlog, start_serving=start_serving
        )

    def _current_host(self, what: str) -> Host:
        current = CURRENT_HOST.get()
        if current is None:
            self._refuse(
                f"{what} of a program that is on no host", "start it with spawn() or run() of a simulated host"
            )
        return current


def _check_alone(host: object, port: object) -> None:
    if host is not None or port is not None:
        raise ValueError("host/port and sock can not be specified at the same time")
