"""What a program meets of the outside world while it runs in virtual time: clocks and chance of the simulation, and a
refusal wherever it would leave it.

Functions are replaced wherever a module holds them by name (`from time import monotonic` too), methods in their class;
what somebody else put in their place before is left there (virtual_originals.py).
A replacement acts in the thread that runs the simulation and nowhere else, and while a simulation runs: one that
somebody keeps (as a default argument, say) is the real function afterwards, and the next simulation's in its run.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Self

from ..sim.clock import EPOCH_NS, START_NS, Clock
from .virtual_names import Address
from .virtual_originals import exchange, original, original_method
from .virtual_resolver import Resolver
from .virtual_socket import REAL_NEW, REAL_SOCKET, new_socket

MOST_READINGS = 1_000_000
"""A program that reads the clock so often without awaiting anything waits for time to pass, and it does not."""

Refuse = Callable[[str, str], NoReturn]
"""Called with what was tried and what to do instead."""

_MONOTONIC = ("monotonic", "perf_counter", "process_time", "thread_time")

_AWAIT = "it would block every host at once; await its asyncio counterpart"
_SEEDED = (
    "the operating system's randomness has no seed; the module random has the simulation's, and"
    ' Simulation(urandom="seeded") draws this from it as well'
)
_THREADS = "threads interleave as they like; use tasks, or loop.run_in_executor(), which runs the function in line"
_PROCESSES = "another process knows nothing of virtual time; make it a program on a simulated host"
_SOCKETS = "a real socket leads out of the simulation; use asyncio's connections, servers and streams"
_TLS = "its keys are the operating system's randomness; use plain connections"

_ENTROPY = (("os", "urandom"), ("os", "getrandom"), ("ssl", "RAND_bytes"))
"""What draws octets from the operating system. The module random asks os.urandom where it asks at all, and so do
`secrets` and uuid.uuid4."""

_REFUSED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("time", ("sleep",), _AWAIT),
    ("select", ("select", "poll", "epoll", "devpoll", "kqueue"), _AWAIT),
    ("signal", ("alarm", "setitimer", "pause", "sigwait", "sigwaitinfo", "sigtimedwait"), _AWAIT),
    ("builtins", ("input",), "nobody types in virtual time; give the program its text"),
    ("uuid", ("uuid1",), "it tells the machine and the time of day; use uuid.UUID(int=random.getrandbits(128))"),
    ("uuid", ("getnode",), "it tells the machine; give the program a number"),
    ("os", ("times",), "it tells what the machine is doing; time.monotonic() is the simulation's"),
    ("resource", ("getrusage",), "it tells what the machine is doing; time.monotonic() is the simulation's"),
    ("_thread", ("start_new", "start_new_thread"), _THREADS),
    ("os", ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"), _PROCESSES),
    ("_posixsubprocess", ("fork_exec",), _PROCESSES),
    ("socket", ("socketpair", "fromfd", "create_connection"), _SOCKETS),
    ("asyncio", ("new_event_loop",), "all programs are on the one loop whose time is virtual; use tasks"),
)

_REFUSED_METHODS: tuple[tuple[str, str, str, str, str], ...] = (
    ("threading", "Thread", "start", "threading.Thread.start", _THREADS),
    ("threading", "Thread", "join", "threading.Thread.join", _AWAIT),
    ("concurrent.futures.thread", "ThreadPoolExecutor", "submit", "ThreadPoolExecutor.submit", _THREADS),
    ("subprocess", "Popen", "__init__", "subprocess.Popen", _PROCESSES),
    ("concurrent.futures.process", "ProcessPoolExecutor", "__init__", "ProcessPoolExecutor", _PROCESSES),
    ("concurrent.futures.process", "ProcessPoolExecutor", "submit", "ProcessPoolExecutor.submit", _PROCESSES),
    ("ssl", "SSLContext", "wrap_socket", "ssl.SSLContext.wrap_socket", _TLS),
    ("ssl", "SSLContext", "wrap_bio", "ssl.SSLContext.wrap_bio", _TLS),
    ("selectors", "SelectSelector", "select", "selectors.SelectSelector.select", _AWAIT),
    ("selectors", "_PollLikeSelector", "select", "selectors.PollSelector.select", _AWAIT),
    ("selectors", "EpollSelector", "select", "selectors.EpollSelector.select", _AWAIT),
    ("selectors", "KqueueSelector", "select", "selectors.KqueueSelector.select", _AWAIT),
)
"""Module, class, method, what to call it, and what to do instead."""


class _Replacement:
    """Stands for a function. Not itself one: a class that keeps it as an attribute must not make a method of it."""

    __slots__ = ("__name__", "_original")

    def __init__(self, original: Callable[..., Any]) -> None:
        self.__name__ = getattr(original, "__name__", "?")
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _present(self._original)(*args, **kwargs)

    def __or__(self, other: Any) -> Any:
        """In an annotation, where what is replaced is a class."""
        return self._original | other


class Outside:
    """The world outside as the simulation has it, while `with` lasts. It can be entered again inside itself.

    clock, names  the simulation's time, and its hosts' addresses by their names
    urandom       "refused", or "seeded": the operating system's randomness is drawn from the seed
    readings      how often the program has read a clock since somebody set this to 0

    Only one at a time: RuntimeError where another simulation runs in this process. ValueError for another `urandom`.
    """

    _running: Outside | None = None

    def __init__(
        self,
        clock: Clock,
        names: Mapping[str, Sequence[Address]],
        seed: int,
        refuse: Refuse,
        urandom: str = "refused",
    ) -> None:
        if urandom not in ("refused", "seeded"):
            raise ValueError(f'urandom is "refused" or "seeded", not {urandom!r}')
        self.readings = 0
        self._refuse = refuse
        self._clock = clock
        self._names = names
        self._depth = 0
        self._seeds = random.Random(f"{seed} of generators without a seed")
        self._chance = random.Random(f"{seed} of the module random").getstate()
        self._entropy = random.Random(f"{seed} of os.urandom") if urandom == "seeded" else None
        self._thread = 0
        self._instead: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._replaced: list[tuple[object, object]] = []
        self._methods: list[tuple[type, Callable[..., Any]]] = []
        self._chance_outside: Any = None
        self._collects_garbage = False
        self._froze = False

    @classmethod
    def here(cls) -> Outside | None:
        """That of the simulation that runs in this thread, or None."""
        running = cls._running
        return running if running is not None and running._thread == threading.get_ident() else None

    def __enter__(self) -> Self:
        if Outside._running not in (None, self):
            raise RuntimeError("another simulation runs in this process: one at a time")
        self._depth += 1
        if self._depth == 1:
            self._thread = threading.get_ident()
            Outside._running = self
            try:
                self._shut_out()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        interrupt: KeyboardInterrupt | None = None
        while self._depth == 0 and Outside._running is self:
            try:
                self._let_in()
            except KeyboardInterrupt as again:  # whatever the user is in a hurry for, the world must be whole
                interrupt = again
        if interrupt is not None:
            raise interrupt

    def refuse_to_wait(self) -> NoReturn:
        """There is no other thread that could end it."""
        self._refuse("waiting for another thread", _AWAIT)

    def _shut_out(self) -> None:
        functions, members = list(self._functions()), list(self._class_members())
        self._chance_outside = random.getstate()
        # When the garbage collector runs hangs on all that the process did before: the loop collects instead. What is
        # garbage already waits until the simulation is over, or is collected here: its finalizers may draw numbers.
        self._collects_garbage = gc.isenabled()
        gc.disable()
        if gc.get_freeze_count():
            gc.collect()
        else:
            gc.freeze()
            self._froze = True
        random.setstate(self._chance)
        self._instead = dict(functions)  # in which aliases of one C function are one
        self._replaced = [(real, _Replacement(real)) for real, _ in functions]
        exchange(self._replaced)
        for owner, method, instead in members:
            self._instead[method] = instead
            self._methods.append((owner, method))
            setattr(owner, method.__name__, _guarded(method))

    def _let_in(self) -> None:
        """Can be interrupted and done again; another error does not keep the next simulation from running."""
        try:
            for owner, method in self._methods:
                setattr(owner, method.__name__, method)
            exchange([(replacement, real) for real, replacement in self._replaced])
        except Exception:
            Outside._running = None
            raise
        finally:
            if self._froze:
                gc.unfreeze()
                self._froze = False
            if self._collects_garbage:
                gc.enable()
                self._collects_garbage = False
            if self._chance_outside is not None:
                self._chance = random.getstate()
                random.setstate(self._chance_outside)
                self._chance_outside = None
        self._methods.clear()
        self._replaced.clear()
        Outside._running = None

    def _functions(self) -> Iterable[tuple[Callable[..., Any], Callable[..., Any]]]:
        """Python's own functions, and what takes their place."""
        for module_name, name, instead in self._by_name():
            real = original(module_name, name)
            if real is not None:
                yield real, instead

    def _by_name(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        yield from self._clocks()
        for module_name, names, remedy in _REFUSED:
            for name in names:
                yield module_name, name, self._refusal(f"{module_name}.{name}()", remedy)
        for module_name, name in _ENTROPY:
            refusal = self._refusal(f"{module_name}.{name}()", _SEEDED)
            yield module_name, name, refusal if self._entropy is None else self._octets
        for name, instead in Resolver(self._names).functions().items():
            yield "socket", name, instead
        yield "random", "seed", lambda a=None, version=2: random.Random.seed(random._inst, a, version)
        as_completed = original("asyncio", "as_completed")
        if as_completed is not None:
            yield "asyncio", "as_completed", _as_completed(as_completed)
        # Theirs are written in C, and wait where nobody sees it.
        yield "queue", "SimpleQueue", queue._PySimpleQueue  # type: ignore[attr-defined]
        allocate_lock = original("_thread", "allocate_lock")
        if allocate_lock is not None:
            for module_name, name in (("_thread", "allocate_lock"), ("threading", "Lock")):
                yield module_name, name, lambda: _Lock(allocate_lock())

    def _octets(self, size: int, flags: int = 0) -> bytes:
        assert self._entropy is not None
        return self._entropy.randbytes(size)

    def _clocks(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        def wall_s() -> float:
            return self._wall_ns() / 1e9

        for name in _MONOTONIC:
            yield "time", name, lambda: self._now_ns() / 1e9
            yield "time", f"{name}_ns", self._now_ns
        yield "time", "time", wall_s
        yield "time", "time_ns", self._wall_ns
        yield "time", "clock_gettime", lambda clock: self._clock_ns(clock) / 1e9
        yield "time", "clock_gettime_ns", self._clock_ns
        for name in ("gmtime", "localtime", "ctime"):
            yield "time", name, _of_now(original("time", name), wall_s)
        for name, before in (("asctime", 0), ("strftime", 1)):
            yield "time", name, _of_now(original("time", name), lambda: time.localtime(), before)

    def _class_members(self) -> Iterable[tuple[type, Callable[..., Any], Callable[..., Any]]]:
        """Python's own methods, each with its class, and what takes their place."""
        for module_name, class_name, name, what, remedy in _REFUSED_METHODS:
            found = original_method(module_name, class_name, name)
            if found is not None:
                yield *found, self._refusal(what, remedy)
        yield REAL_SOCKET, REAL_NEW, new_socket
        seed, wait = original_method("random", "Random", "seed"), original_method("threading", "Condition", "wait")
        if seed is not None:
            yield *seed, self._seeding(seed[1])
        if wait is not None:
            yield *wait, self._waiting(wait[1])

    def _seeding(self, seed: Callable[..., None]) -> Callable[..., None]:
        def seed_from_ours(generator: random.Random, a: Any = None, version: int = 2) -> None:
            seed(generator, self._seeds.getrandbits(64) if a is None else a, version)

        return seed_from_ours

    def _waiting(self, wait: Callable[..., bool]) -> Callable[..., bool]:
        def wait_for_nobody(condition: threading.Condition, timeout: float | None = None) -> bool:
            if timeout is None or timeout > 0:
                self.refuse_to_wait()
            return wait(condition, timeout)

        return wait_for_nobody

    def _refusal(self, what: str, remedy: str) -> Callable[..., NoReturn]:
        def refuse(*args: object, **kwargs: object) -> NoReturn:
            self._refuse(what, remedy)

        return refuse

    def _now_ns(self) -> int:
        self.readings += 1
        if self.readings > MOST_READINGS:
            self.readings = 0
            self._refuse("waiting by asking the clock again and again", "time passes while a program awaits, only then")
        return self._clock.now_ns

    def _wall_ns(self) -> int:
        return EPOCH_NS + self._now_ns() - START_NS

    def _clock_ns(self, clock: int) -> int:
        return self._wall_ns() if clock == time.CLOCK_REALTIME else self._now_ns()


class _Lock:
    """A threading.Lock that was made in a simulation: where it would block the simulation it refuses to."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        here = Outside.here()
        if here is None or not blocking or timeout == 0:
            return self._lock.acquire(blocking, timeout)
        return self._lock.acquire(False) or here.refuse_to_wait()

    __enter__ = acquire

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def _present(original: Callable[..., Any]) -> Callable[..., Any]:
    """What acts for a function at this moment, in this thread."""
    here = Outside.here()
    return original if here is None else here._instead.get(original, original)


def _guarded(original: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is itself but where a simulation runs."""

    def method(*args: Any, **kwargs: Any) -> Any:
        return _present(original)(*args, **kwargs)

    return method


def _of_now(
    real: Callable[..., Any] | None, now: Callable[[], Any], arguments_before: int = 0
) -> Callable[..., Any]:
    """A function whose last argument is a moment: the present one where its caller gives none."""

    def of_now(*args: Any) -> Any:
        assert real is not None  # or nobody calls this in its place
        given = len(args) > arguments_before and args[-1] is not None
        return real(*args) if given else real(*args[:arguments_before], now())

    return of_now


def _as_completed(original: Callable[..., Any]) -> Callable[..., Any]:
    """asyncio.as_completed puts coroutines into a set, whose order nobody knows, and starts them in it."""

    def as_completed(fs: Iterable[Awaitable[Any]], *, timeout: float | None = None) -> Any:
        return original([asyncio.ensure_future(each) for each in fs], timeout=timeout)

    return as_completed


def _nobody_refuses(what: str, remedy: str) -> NoReturn:
    raise AssertionError(what, remedy)


# Python's own functions are learnt before a test replaces one.
for _ in Outside(Clock(), {}, 0, _nobody_refuses)._functions():
    pass
