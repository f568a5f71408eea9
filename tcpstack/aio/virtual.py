"""Programs of asyncio on simulated hosts, in virtual time, from one seed.

    with Simulation(seed=7) as sim:
        a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24", faults=["loss 2%"])
        sim.link(a, b, delay="20ms", rate="10mbit", queue="64kB")
        b.spawn(server())                   # asyncio.start_server(on_client, port=80) and so on
        answer = a.run(client())            # asyncio.open_connection("b", 80) and so on

The programs are ordinary ones: what they ask of asyncio goes over the stack of the host they run on, with names that
are the hosts'. Waiting costs no time, and the same seed gives the same run, event for event, in any process.
docs/simulation.md says what that takes of a program, and what is reported instead of being let through.
"""

from __future__ import annotations

import asyncio
import errno
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from os import PathLike
from typing import Any, BinaryIO, Literal, Self, TypeVar

from ..core.config import SECOND_NS, Config
from ..core.events import Tracer
from ..device.fault_lists import rules_of
from ..device.faults import Rule
from ..device.pipe import Line
from ..sim.clock import Clock
from ..sim.host import LOOPBACK_DELAY_NS
from ..sim.network import Interface, Link, Network, Router
from ..wire.codec import Codec
from ..wire.objects import OBJECTS
from .guarded_tracer import GuardedTracer
from .host import Host
from .virtual_line import line, line_of
from .virtual_loop import VirtualLoop
from .virtual_names import CURRENT_HOST
from .virtual_refusals import NotVirtual, stems_from
from .virtual_resolver import check_name
from .virtual_waiting import DeadlockError, Waiting

__all__ = ["DeadlockError", "NotVirtual", "SimulatedHost", "Simulation", "VirtualLoop", "Waiting", "line"]

GRACE_S = 60.0
"""At the end of a simulation connections have so much virtual time to close in order."""
T = TypeVar("T")


class SimulatedHost(Host):
    """A host of a Simulation, made by its `host`. It does all that a Host does, and runs programs.

    name       what the others call it
    interface  its end of the link
    """

    def __init__(
        self,
        simulation: Simulation,
        interface: Interface,
        config: Config | None,
        faults: Sequence[Rule],
        tracer: Tracer | None,
    ) -> None:
        self.name = interface.name
        self.interface = interface
        self._simulation = simulation
        network = simulation.network
        device, tracer = network.records.attach(interface, tracer)
        self._context().run(
            super().__init__,
            device,
            interface.addresses,
            config=config,
            tracer=tracer,
            faults=faults,
            random=random.Random(network.random.getrandbits(64)),
            clock=lambda: network.clock.now_ns,
            loop=simulation.loop,
            codec=network.codec,
            packet_ids=network.next_packet_id,
        )
        self._stack.check_route = self._check_route
        self._stack.loopback_delay_ns = LOOPBACK_DELAY_NS

    def spawn(self, program: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a program here. Whatever it starts in turn belongs to this host as well."""
        return self._simulation._spawn(program, name, self._context())

    def run(self, program: Coroutine[Any, Any, T], *, within_s: float | None = None) -> T:
        """Run a program here to its end, and the others with it; its result. Raises what Simulation.run raises."""
        result: T = self._simulation._run([program], within_s, self.spawn)[0]
        return result

    def _check_route(self, remote: bytes) -> None:
        """As a kernel that has no route: ENETUNREACH at once, instead of a SYN that nobody gets."""
        network, target = self._simulation.network, ip_address(remote)
        if target.is_loopback or target in {own.ip for own in self.interface.addresses}:
            return
        there = network.interface_with(remote)
        if self.interface.link is None:
            raise OSError(errno.ENETUNREACH, f"{self.name} has no link: give it one by Simulation.link()")
        if there is not None and network.link_towards(self.interface, remote) is None:
            remedy = "join them by Simulation.link(), or by routers"
            raise OSError(errno.ENETUNREACH, f"no link leads from {self.name} to {there.name}: {remedy}")

    def _context(self) -> Context:
        """A copy of the caller's context in which this is the current host."""
        context = copy_context()
        context.run(CURRENT_HOST.set, self)
        return context


class Simulation:
    """A network of hosts, their programs, and the virtual time they live in.

    network  routers, links and hosts without asyncio (sim.network)
    clock    virtual time, in nanoseconds; it begins at one second
    loop     the event loop of all programs
    hosts    by their names

    config is every host's unless it is given its own; `tracer` gets the events of all, each as its host sees it.
    With `codec` wire.codec.DPKT links carry octets instead of segments. `within_s` is the limit of runs that are given
    none of their own. With `ladder` the method of that name has something to draw; all packets go into the file
    `pcapng`, a path or a binary stream. `urandom` says what becomes of os.urandom and all that draws from it (secrets,
    uuid4): "refused" it raises NotVirtual, "seeded" it is drawn from the seed. As a context manager a Simulation can
    run several times, its world going on from one to the next; else its first run is its only one.

    Raises ValueError for a seed that is no whole number from 0 on, and for another `urandom`; OSError where `pcapng`
    cannot be written.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        config: Config | None = None,
        tracer: Tracer | None = None,
        codec: Codec = OBJECTS,
        within_s: float | None = None,
        ladder: bool = False,
        pcapng: str | PathLike[str] | BinaryIO | None = None,
        urandom: Literal["refused", "seeded"] = "refused",
    ) -> None:
        if type(seed) is not int or seed < 0:
            raise ValueError(f"a seed is a whole number from 0 on, not {seed!r}")
        self._within_ns = _limit_ns(within_s, None)
        self._tracer = GuardedTracer(tracer) if tracer is not None else None
        self._config = config
        self.clock = Clock()
        self.network = Network(
            seed, codec=codec, clock=self.clock, tracer=self._tracer, ladder=ladder, pcapng=pcapng
        )
        self.loop = VirtualLoop(self.clock, seed=seed, urandom=urandom)
        self.hosts: dict[str, SimulatedHost] = {}
        self._runner = asyncio.Runner(loop_factory=lambda: self.loop)
        self._programs: dict[asyncio.Task[Any], None] = {}
        self._failure: BaseException | None = None  # what a program died of, to be told
        self._told: BaseException | None = None  # what the last run raised
        self._news: asyncio.Future[None] | None = None
        self._goes_on = False
        self._closed = False

    # The world

    def host(
        self,
        name: str,
        *addresses: str | IPv4Interface | IPv6Interface,
        config: Config | None = None,
        faults: str | Rule | Sequence[str | Rule] = (),
        mtu: int = 1500,
        tracer: Tracer | None = None,
    ) -> SimulatedHost:
        """A host with these addresses ("10.0.0.1/24"). `faults` act on its packets, "in" being towards it; those in
        words that name no seed draw from the simulation's.

        Raises ValueError for a name or an address that somebody has, and for a name that is an address, is empty or has
        spaces in it; FaultRuleError for a rule that is none.
        """
        __tracebackhide__ = True  # in reports of pytest: what is wrong is the caller's
        check_name(name)
        if name.lower() in self.loop.names:
            raise ValueError(f"there is a host {name!r} already")
        rules = rules_of(faults, self.network.seed, name)
        interface = self.network.interface(name, *addresses, mtu=mtu)
        seen_by = GuardedTracer(tracer) if tracer is not None else self._tracer
        host = SimulatedHost(self, interface, config or self._config, rules, seen_by)
        self.hosts[name] = host
        self.loop.names[name.lower()] = [address.ip for address in interface.addresses]
        return host

    def router(self, name: str) -> Router:
        """A router: links join it to any number of hosts and routers."""
        return self.network.router(name)

    def link(
        self,
        a: SimulatedHost | Router,
        b: SimulatedHost | Router,
        there: Line | None = None,
        back: Line | None = None,
        *,
        mtu: int = 1500,
        **words: str,
    ) -> Link:
        """Join two nodes by a link that is `there` from a to b and `back` from b to a, or the same both ways.

        Instead of Lines it takes the words of `line` (delay="20ms", ...). Raises ValueError where a host has a link
        already, and for words that make no sense.
        """
        if a is b:
            raise ValueError(f"a link joins two nodes, and {a.name} is one")
        if words:
            if there is not None:
                raise ValueError(f"a Line says it all: no {', '.join(words)} besides")
            there = line_of(words)
        ends = [end.interface if isinstance(end, SimulatedHost) else end for end in (a, b)]
        return self.network.link(ends[0], ends[1], there, back, mtu=mtu)

    # Programs

    def spawn(self, program: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a program that belongs to no host: to watch the others, to change a link, ..."""
        return self._spawn(program, name, copy_context())

    def run(
        self, *programs: Coroutine[Any, Any, Any] | asyncio.Task[Any], within_s: float | None = None
    ) -> list[Any]:
        """Let time pass until these programs have ended (without any: all that were started); their results.

        Other programs go on meanwhile. Without `with` that was all: what still runs is cancelled, and the hosts close.

        Raises what a program died of, be it one of these or another; DeadlockError where they would wait for ever;
        TimeoutError where they have not ended after `within_s` virtual seconds (math.inf: no limit); ValueError where
        that is no number from 0 on.
        """
        return self._run(programs, within_s, self.spawn)

    def ladder(self, *hosts: SimulatedHost | str, last_lines: int | None = None) -> str:
        """The connections so far as ladders, one after the other, each as the end saw it that opened it, and with what
        the other end really was in; with `hosts`, those that all of these take part in.

        Of long ones the beginning and the end are kept; with `last_lines` only the last rows of those, so many lines
        at the most. For `ladder=True`: else RuntimeError. Raises ValueError for a host that there is not, and for
        `last_lines` of less than 1.
        """
        names = [host if isinstance(host, str) else host.name for host in hosts]
        return self.network.ladder(*names, last_lines=last_lines)

    def close(self) -> None:
        """The end: programs that still run are cancelled, connections closed in order. Idempotent.

        Raises what a program dies of at that, DeadlockError where one does not let itself be cancelled.
        """
        self._close(in_order=True)

    def __enter__(self) -> Self:
        self._goes_on = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self.close()
        else:
            self._close_after(error)

    def _spawn(self, program: Coroutine[Any, Any, T], name: str | None, context: Context) -> asyncio.Task[T]:
        called = name or getattr(program, "__name__", None)
        task = self.loop.create_task(program, name=called, context=context)
        self._programs[task] = None
        task.add_done_callback(self._on_end)
        return task

    def _on_end(self, program: asyncio.Task[Any]) -> None:
        del self._programs[program]
        error = None if program.cancelled() else program.exception()
        if self._failure is None and not (self._told is not None and stems_from(error, self._told)):
            self._failure = error
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _run(
        self,
        programs: Sequence[Coroutine[Any, Any, Any] | asyncio.Task[Any]],
        within_s: float | None,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
    ) -> list[Any]:
        try:
            self._check_open()
            within_ns = _limit_ns(within_s, self._within_ns)
        except BaseException:
            for program in programs:
                if not isinstance(program, asyncio.Task):
                    program.close()
            raise
        tasks = [each if isinstance(each, asyncio.Task) else spawn(each) for each in programs]
        with self.loop.outside:
            try:
                self.loop.limit(within_ns)
                results: list[Any] = self._run_hidden(self._until_ended(tasks or list(self._programs)))
            except BaseException as error:
                self._told, self._failure = error, None
                if not self._goes_on:
                    self._close_after(error)
                raise
            finally:
                self.loop.limit(None)
            if not self._goes_on:
                self.close()
        return results

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(
                "this simulation has come to its end: `with Simulation() as sim` lets it run several times"
            )
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("run() cannot be called from a running event loop: a program starts others by spawn()")

    def _run_hidden(self, own: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the simulation's own: reports are about programs."""
        self.loop.hidden = own
        return self._runner.run(own)

    async def _until_ended(self, programs: Sequence[asyncio.Task[Any]]) -> list[Any]:
        while True:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            if all(program.done() for program in programs):
                return [program.result() for program in programs]
            self._news = self.loop.create_future()
            await self._news

    def _close_after(self, error: BaseException) -> None:
        """Close, as `error` makes it necessary; what goes wrong at that is only noted with it."""
        try:
            self._close(in_order=False)
        except Exception as another:
            error.add_note(f"and while the simulation was closed: {type(another).__name__}: {another}")

    def _close(self, *, in_order: bool) -> None:
        if self._closed:
            return
        self._closed = True
        with self.loop.outside:
            try:
                self._run_hidden(self._end(in_order))
            except DeadlockError:
                for task in asyncio.all_tasks(self.loop):
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is told already
                    asyncio.tasks._unregister_task(task)  # or the runner would cancel it, and wait for it, again
                raise
            finally:
                try:
                    self._runner.close()
                finally:
                    self.loop.close()
                    self.network.close()  # where it did not come to that

    async def _end(self, in_order: bool) -> None:
        records = self.network.records
        records.mark_closing(self.clock.now_ns)
        left = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=hash)
        for task in left:
            task.cancel()
        if left:
            # What they do at the end may need the network; what waits for connections to close needs them closed.
            await asyncio.wait(left, timeout=GRACE_S)
        if in_order:
            for endpoint in list(self.loop.descriptors.values()):
                endpoint.end()  # as a kernel closes those of a process that has ended
            # Each stays until all are done: who has acknowledged the last FIN may have to do so again.
            await asyncio.gather(*(host._drain(GRACE_S) for host in self.hosts.values()))
        # What the hosts' own end does to connections is not for the records: no program has asked for it.
        records.mark_end(self.clock.now_ns)
        for host in self.hosts.values():
            host.close()
        await asyncio.sleep(0)  # the connection_lost calls of what was reset are due in the next turn
        if left:
            _, immortal = await asyncio.wait(left, timeout=GRACE_S)
            if immortal:
                self.loop.give_up("programs do not let themselves be cancelled")
        await asyncio.gather(*left, return_exceptions=True)
        if self._failure is not None:
            raise self._failure


def _limit_ns(within_s: float | None, otherwise_ns: int | None) -> int | None:
    """A limit in nanoseconds; None: there is none."""
    if within_s is None:
        return otherwise_ns
    if not isinstance(within_s, int | float) or not within_s >= 0:
        raise ValueError(f"within_s is a number of virtual seconds from 0 on, not {within_s!r}")
    return None if within_s == math.inf else round(within_s * SECOND_NS)
