"""Simulation: hosts, links and names; programs, their results and their ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import math
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import tcpstack
from tcpstack.aio.virtual import DeadlockError, SimulatedHost, Simulation, line
from tcpstack.core.events import Event, FaultHit, SegmentIn, SegmentOut, StateChange
from tcpstack.core.state import STATE_NAMES
from tcpstack.device.fault_grammar import FaultRuleError
from tcpstack.device.faults import SYN, Drop
from tcpstack.device.pipe import Line
from tcpstack.wire.codec import DPKT
from tests.aio_virtual.programs import echo_client, echo_server, in_order

# The world


def test_the_package_has_it_by_name():
    assert tcpstack.Simulation is Simulation
    assert tcpstack.DeadlockError is DeadlockError


def test_first_example_works_without_with():
    sim = Simulation(seed=7)
    a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
    sim.link(a, b, delay="20ms", rate="10mbit", queue="64kB")
    server = b.spawn(echo_server())
    assert sim.run(a.spawn(echo_client("b", b"hello"))) == [b"hello"]
    assert server.cancelled()
    with pytest.raises(RuntimeError, match="has come to its end"):
        sim.run(echo_client("b", b"again"))


def test_delay_of_the_link_is_what_a_connection_takes(sim, a, b):
    async def client() -> tuple[float, float]:
        began = time.monotonic()
        _, writer = await asyncio.open_connection("b", 80)
        connected = time.monotonic()
        writer.close()
        return began, connected

    b.spawn(echo_server())
    began, connected = a.run(client())
    assert connected - began == pytest.approx(0.020)


@pytest.mark.parametrize("codec", [None, DPKT], ids=["segments", "octets"])
def test_links_carry_segments_or_octets(codec):
    with Simulation(codec=codec) if codec else Simulation() as sim:
        a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
        sim.link(a, b)
        b.spawn(echo_server())
        assert a.run(echo_client("b", bytes(300_000))) == bytes(300_000)


def test_router_and_lines_that_differ_by_direction():
    with Simulation() as sim:
        a, b, c = (sim.host(name, f"10.0.{number}.1/24") for number, name in enumerate("abc"))
        router = sim.router("r")
        sim.link(a, router, line(delay="5ms"), line(delay="100ms"))
        sim.link(router, b, Line(delay_ns=1_000_000))
        sim.link(c, router, jitter="1ms", rate="1mbit", queue="10p")

        async def client() -> float:
            began = time.monotonic()
            _, writer = await asyncio.open_connection("b", 80)
            writer.close()
            return time.monotonic() - began

        b.spawn(echo_server())
        assert a.run(client()) == pytest.approx(0.107)
        assert c.run(echo_client("b", b"x" * 10_000)) == b"x" * 10_000
        assert router.counters["forwarded"] > 0


def test_words_of_a_line():
    assert line() == Line()
    assert line(delay="1.5ms", jitter="20us", rate="3gbit", queue="64kB", mark="30kB") == Line(
        delay_ns=1_500_000, jitter_ns=20_000, rate_bps=3_000_000_000, queue_bytes=64_000, mark_bytes=30_000
    )
    assert line(rate="1kbit", queue="100p") == Line(rate_bps=1_000, queue_packets=100)


@pytest.mark.parametrize("words", [{"delay": "20 ms"}, {"rate": "10"}, {"queue": "64"}, {"queue": "p"}, {"jitter": ""}])
def test_word_that_makes_no_sense_is_told_with_an_example(words):
    (name, word) = next(iter(words.items()))
    with pytest.raises(ValueError, match=f"{name}='{word}' is none: write it as in "):
        line(**words)


def test_world_that_makes_no_sense_is_told():
    sim = Simulation()
    a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
    with pytest.raises(ValueError, match="a host 'A' already"):
        sim.host("A", "10.0.0.3/24")
    with pytest.raises(ValueError, match=r"10\.0\.0\.1 is the address of a already"):
        sim.host("c", "10.0.0.1/24")
    with pytest.raises(FaultRuleError):
        sim.host("d", "10.0.0.4/24", faults=["lose 2%"])
    with pytest.raises(ValueError, match="a Line says it all: no delay, rate besides"):
        sim.link(a, b, Line(), delay="1ms", rate="1mbit")
    sim.link(a, b)
    with pytest.raises(ValueError, match="has a link already"):
        sim.link(a, b)
    with pytest.raises(ValueError, match="a link joins two nodes, and r is one"):
        sim.link(router := sim.router("r"), router)
    sim.close()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"delay": 20}, "delay=20 is none: write it as in 40ms"),
        ({"queue": 20}, "queue=20 is none: write it as in 64kB, or 100p for packets"),
        ({"queue": "1B"}, "queue='1B' without a rate: nothing ever waits there; say rate='10mbit'"),
        ({"mark": "30kB", "delay": "1ms"}, "mark='30kB' without a rate: nothing ever waits there"),
        ({"loss": "2%"}, "a line has delay, jitter, rate, queue and mark, not loss; what is lost .* faults of a host"),
    ],
)
def test_link_that_makes_no_sense_is_told(sim, words, complaint):
    c, d = sim.host("c", "10.0.1.1/24"), sim.host("d", "10.0.1.2/24")
    with pytest.raises(ValueError, match=complaint):
        sim.link(c, d, **words)
    sim.link(c, d)


@pytest.mark.parametrize("seed", ["abc", -4, 1.5, True, None])
def test_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match=f"a seed is a whole number from 0 on, not {seed!r}"):
        Simulation(seed)


def test_one_fault_needs_no_list_and_what_is_none_is_told(sim):
    sim.host("c", "10.0.1.1/24", faults="loss 2%")
    sim.host("d", "10.0.1.2/24", faults=Drop(SYN))
    for wrong in ([3], [None], [["loss 2%"]]):
        with pytest.raises(FaultRuleError, match="a fault is a rule or its text"):
            sim.host("e", "10.0.1.3/24", faults=wrong)
    sim.host("e", "10.0.1.3/24")


def test_tracers_see_the_events_of_all_hosts_or_of_one_and_what_links_lose():
    everything: list[Event] = []
    of_a: list[Event] = []
    with Simulation(tracer=everything.append) as sim:
        a, b = sim.host("a", "10.0.0.1/24", tracer=of_a.append), sim.host("b", "10.0.0.2/24")
        sim.link(a, b, line(), line(rate="1mbit", queue="3kB"))

        async def client() -> int:
            reader, writer = await asyncio.open_connection("b", 80)
            size = len(await reader.read())
            writer.close()
            return size

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(20_000))
            writer.close()

        async def server() -> None:
            await asyncio.start_server(flood, port=80)

        b.run(server())
        assert a.run(client()) == 20_000
    for kind in (SegmentIn, SegmentOut, StateChange):
        assert {event.flow[0] for event in everything if type(event) is kind} == {bytes((10, 0, 0, 2))}
        assert {event.flow[0] for event in of_a if type(event) is kind} == {bytes((10, 0, 0, 1))}
    for events, direction in ((everything, "out"), (of_a, "in")):
        lost = {(event.rule, event.direction) for event in events if isinstance(event, FaultHit)}
        assert lost == {("link a to b: queue full", direction)}


def hits(seed: int, rule: str) -> list[tuple[int, str]]:
    """When a rule of the client's hit, and how it calls itself."""
    events: list[Event] = []
    with Simulation(seed) as sim:
        a, b = sim.host("a", "10.0.0.1/24", faults=[rule], tracer=events.append), sim.host("b", "10.0.0.2/24")
        sim.link(a, b, delay="1ms")
        b.spawn(echo_server())
        a.run(echo_client("b", bytes(100_000)))
    return [(event.time_ns, event.rule) for event in events if isinstance(event, FaultHit)]


def test_faults_in_words_draw_from_the_simulations_seed_unless_they_name_their_own():
    assert hits(1, "loss 5%") == hits(1, "loss 5%") != hits(2, "loss 5%")
    assert {rule.partition(" seed=")[0] for _, rule in hits(1, "loss 5%")} == {"loss 5%"}
    assert hits(1, "loss 5% seed=3") == hits(2, "loss 5% seed=3")
    assert {rule for _, rule in hits(1, "drop data nth=2")} == {"drop data nth=2"}


def test_tracer_that_raises_is_dropped(sim, caplog):
    def bad(event: Event) -> None:
        raise LookupError("bad tracer")

    c = sim.host("c", "10.0.0.3/24", tracer=bad)
    d = sim.host("d", "10.0.0.4/24")
    sim.link(c, d)
    d.spawn(echo_server())
    assert c.run(echo_client("d", b"fine")) == b"fine"
    assert "the tracer" in caplog.text


# Names


def test_names_are_those_of_the_hosts(sim, a):
    async def program() -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("b", 80)
        assert [entry[4][:2] for entry in found] == [("10.0.0.2", 80), ("fd00::2", 80)]
        assert found == socket.getaddrinfo("B", "80")
        six = socket.getaddrinfo(b"b", None, socket.AF_INET6, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
        assert six == [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "b", ("fd00::2", 0, 0, 0))]
        assert socket.getaddrinfo("192.0.2.7", 1)[0][4] == ("192.0.2.7", 1)
        assert socket.gethostname() == "a"
        for host, port in (("elsewhere", 80), ("b", "http")):
            with pytest.raises(socket.gaierror):
                await loop.getaddrinfo(host, port)
        for host, kind in ((b"\xff", 0), ("b", 99)):
            with pytest.raises(socket.gaierror):
                socket.getaddrinfo(host, 80, type=kind)
        with pytest.raises(socket.gaierror, match="family"):
            socket.getaddrinfo("10.0.0.2", 80, socket.AF_INET6)
        with pytest.raises(socket.gaierror, match=r"no simulated host is called 'c' \(hosts: a, b\)"):
            await asyncio.open_connection("c", 80)

    a.run(program())


def test_hostless_program_has_no_name_of_its_own(sim):
    async def program() -> tuple[str, str]:
        return socket.gethostname(), socket.getfqdn()

    assert sim.run(program()) == [("localhost", "localhost")]


@pytest.mark.parametrize(("family", "length"), [(socket.AF_INET, 2), (socket.AF_INET6, 4), (0, 2)])
def test_family_that_the_program_asks_for_is_the_one_it_gets(sim, a, b, family, length):
    async def server() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), port=80, family=family)
        assert {len(each.getsockname()) for each in server.sockets} == ({length} if family else {2, 4})

    async def client() -> None:
        _, writer = await asyncio.open_connection("b", 80, family=family)
        assert len(writer.get_extra_info("peername")) == length
        writer.close()

    b.run(server())
    a.run(client())


def test_ports_in_digits_are_ports_and_services_are_unknown(sim, a, b):
    async def server() -> None:
        await asyncio.start_server(lambda r, w: w.close(), port="80")

    async def client() -> None:
        for port, family in (("80", 0), (b"80", socket.AF_INET)):
            _, writer = await asyncio.open_connection("b", port, family=family)
            assert writer.get_extra_info("peername")[1] == 80
            writer.close()
        with pytest.raises(socket.gaierror, match="'http' is no port number, and a simulation has no list"):
            await asyncio.open_connection("b", "http")

    b.run(server())
    a.run(client())


def test_second_address_of_a_family_is_tried_when_the_first_refuses(sim, a):
    c = sim.host("c", "10.0.1.1/24", "10.0.1.2/24", "fd01::1/64")
    d = sim.host("d", "10.0.1.3/24")
    sim.link(c, d)

    async def server() -> None:
        await asyncio.start_server(lambda r, w: w.close(), "10.0.1.2", 80)

    async def client(port: int) -> str:
        _, writer = await asyncio.open_connection("c", port, family=socket.AF_INET)
        writer.close()
        return writer.get_extra_info("peername")[0]

    c.run(server())
    assert d.run(client(80)) == "10.0.1.2"
    with pytest.raises(ConnectionRefusedError):
        d.run(client(81))


# Programs and what they belong to


def test_what_a_program_starts_belongs_to_its_host(sim, a, b):
    """The server's handlers open connections back, from tasks, callbacks and protocols."""
    number = contextvars.ContextVar("number", default=0)
    peers: list[str] = []

    async def call_back() -> None:
        _, writer = await asyncio.open_connection("a", 80)
        writer.close()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.gather(asyncio.create_task(call_back()), call_back())
        asyncio.get_running_loop().call_later(1, lambda: tasks.append(asyncio.create_task(call_back())))
        writer.close()

    class Caller(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            tasks.append(asyncio.create_task(call_back()))

    async def server() -> None:
        await asyncio.start_server(on_client, port=80)
        await asyncio.get_running_loop().create_server(Caller, port=81)

    async def client() -> int:
        await asyncio.start_server(on_called, port=80)
        for port in (80, 81):
            reader, writer = await asyncio.open_connection("b", port)
            writer.write(b"call me")
            writer.write_eof()
            await reader.read()
            writer.close()
        await asyncio.sleep(2)
        return number.get()

    def on_called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        writer.close()

    tasks: list[asyncio.Task[None]] = []
    b.run(server())
    number.set(5)
    assert a.run(client()) == 5
    assert peers == ["10.0.0.2"] * 4


def test_program_on_no_host_uses_the_hosts_own_calls(sim, a, b):
    async def program() -> bytes:
        await b.start_server(in_order(b"from b"), port=80)
        reader, writer = await a.open_connection("b", 80)
        answer = await reader.read()
        writer.close()
        return answer

    assert sim.run(program()) == [b"from b"]


def test_results_come_in_the_order_of_the_programs(sim, a, b):
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert sim.run(a.spawn(after(3)), after(1), b.spawn(after(2), name="two")) == [3, 1, 2]
    assert sim.run() == []
    a.spawn(after(5))
    assert sim.run() == [5]


def test_world_goes_on_from_one_run_to_the_next(sim, a, b):
    b.spawn(echo_server())

    async def moment() -> float:
        await asyncio.sleep(60)
        return time.monotonic()

    assert [a.run(moment()), a.run(echo_client("b", b"one")), a.run(moment()) > 121] == [61.0, b"one", True]


def test_exception_of_the_program_comes_out_of_run_with_its_place(sim, a):
    async def bad() -> None:
        await asyncio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        a.run(bad())
    assert caught.traceback[-1].name == "bad"


def test_exception_of_another_program_ends_the_run_at_once(sim, a, b):
    async def bad() -> None:
        await asyncio.sleep(1)
        raise LookupError("the server died")

    async def client() -> None:
        await asyncio.sleep(3600)

    b.spawn(bad())
    with pytest.raises(LookupError, match="the server died"):
        a.run(client())
    assert sim.clock.now_ns == 2_000_000_000


def test_cancelled_program_is_told(sim, a):
    async def sleeper() -> None:
        await asyncio.sleep(10)

    async def canceller(task: asyncio.Task[None]) -> None:
        task.cancel()

    task = a.spawn(sleeper())
    background = a.spawn(sleeper())
    assert sim.run(canceller(background)) == [None]
    with pytest.raises(asyncio.CancelledError):
        sim.run(task, canceller(task))


def test_programs_that_are_not_ready_in_time_are_told(sim, a):
    async def slow() -> None:
        await asyncio.sleep(10)

    report = r"not finished after 5 s \(it is 6 s\)\n  slow on a waits in .*:\d+ in slow for sleep"
    with pytest.raises(TimeoutError, match=report):
        a.run(slow(), within_s=5)
    assert sim.clock.now_ns == 6_000_000_000
    a.run(slow(), within_s=10)


@pytest.mark.parametrize("within_s", [-2, -0.001, math.nan, -math.inf, "5"])
def test_limit_that_is_none_is_told_before_the_program_begins(sim, a, within_s):
    async def program() -> None:
        pytest.fail("ran")

    with pytest.raises(ValueError, match=f"within_s is a number of virtual seconds from 0 on, not {within_s!r}"):
        a.run(program(), within_s=within_s)
    assert sim.clock.now_ns == 1_000_000_000
    assert sim.run() == []


def test_limit_of_the_simulation_is_that_of_runs_without_one_and_infinity_is_none():
    async def slow() -> None:
        await asyncio.sleep(10)

    with Simulation(within_s=5) as sim:
        with pytest.raises(TimeoutError, match="after 5 s"):
            sim.run(slow())
        assert sim.run(slow(), within_s=math.inf) == [None]
        assert sim.run(slow(), within_s=11) == [None]
    with pytest.raises(ValueError, match="within_s"):
        Simulation(within_s=-1)


def test_run_inside_a_program_is_refused(sim, a):
    async def other() -> None:
        pytest.fail("ran")

    async def program() -> None:
        with pytest.raises(RuntimeError, match="spawn"):
            a.run(other())

    a.run(program())


# Ends


def test_end_lets_programs_clean_up_over_the_network(a, sim, b):
    got: list[bytes] = []

    class Listener(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.append(data)

    async def server() -> None:
        await asyncio.get_running_loop().create_server(Listener, port=80)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("b", 80)
        try:
            await asyncio.Event().wait()
        finally:
            writer.write(b"bye")
            writer.write_eof()
            await reader.read()
            writer.close()

    async def main() -> None:
        await asyncio.sleep(1)

    b.run(main())
    a.spawn(client())
    b.spawn(server())
    a.run(main())
    sim.close()
    sim.close()
    assert got == [b"bye"]


def test_end_closes_connections_in_order(a, sim, b):
    events: list[Event] = []
    c = sim.host("c", "10.0.2.1/24", tracer=events.append)
    d = sim.host("d", "10.0.2.2/24")
    sim.link(c, d, delay="1s")
    d.spawn(echo_server())

    async def client() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("d", 80)
        writer.write(b"left open")
        await reader.readexactly(9)
        return writer

    writer = c.run(client())
    sim.close()
    assert writer.is_closing()
    after = {STATE_NAMES[event.after] for event in events if isinstance(event, StateChange)}
    assert after == {"SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "CLOSING", "TIME-WAIT"}
    assert not c.connections
    assert not d.connections


def test_failure_resets_the_connections_and_is_not_hidden_by_the_end():
    sim = Simulation()
    a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
    sim.link(a, b)

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def bad() -> None:
        raise LookupError("first")

    a.spawn(stubborn())
    with pytest.raises(LookupError, match="first") as caught:
        b.run(bad())
    assert "stubborn on a waits" in caught.value.__notes__[0]


def test_program_that_will_not_be_cancelled_is_told_at_the_end():
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        await asyncio.sleep(1)

    sim = Simulation()
    sim.spawn(stubborn())
    with pytest.raises(DeadlockError, match=r"stubborn waits in .* for Event\.wait"):
        sim.run(main())


def deaf(seconds: float) -> Callable[[], Coroutine[Any, Any, None]]:
    """A program that swallows its cancellation and goes on."""

    async def program() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(seconds)

    return program


@pytest.mark.parametrize("seconds", [1, 0, 3600])
def test_program_that_goes_on_when_it_is_cancelled_is_told_at_the_end(seconds):
    async def main() -> None:
        await asyncio.sleep(1)

    sim = Simulation()
    sim.spawn(deaf(seconds)(), name="deaf")
    headline = "programs do not let themselves be cancelled"
    with pytest.raises(DeadlockError, match=rf"(?s){headline}.*\n  deaf waits in .* for sleep$") as caught:
        sim.run(main())
    assert len(caught.value.waiting) == 1
    assert sim.loop.is_closed()


def test_program_that_keeps_the_loop_busy_is_told_once_and_cancelled(monkeypatch):
    monkeypatch.setattr("tcpstack.aio.virtual_loop.LIVELOCK_TURNS", 20_000)

    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    sim = Simulation()
    program = sim.spawn(busy())
    with pytest.raises(DeadlockError, match="keep the loop busy") as caught:
        sim.run()
    assert not hasattr(caught.value, "__notes__")
    assert program.cancelled()


def test_task_factory_of_the_program_does_not_make_the_simulations_own_tasks():
    made = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **more)

    async def program() -> int:
        asyncio.get_running_loop().set_task_factory(factory)
        return await asyncio.create_task(asyncio.sleep(1, 5))

    with Simulation() as sim:
        assert sim.run(program()) == [5]
        assert sim.run(program()) == [5]
    assert [coro.__name__ for coro in made][:3] == ["sleep", "program", "sleep"]
    assert not {"Simulation._end", "Simulation._until_ended"} & {coro.__qualname__ for coro in made}


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_end_of_the_process_in_a_task_is_no_exception_that_nobody_retrieved(end, caplog):
    async def worker() -> None:
        raise end(3)

    async def program() -> None:
        task = asyncio.create_task(worker())
        await asyncio.sleep(1)
        await task

    with pytest.raises(end):
        Simulation().run(program())
    gc.collect()
    assert caplog.text == ""


def test_program_that_fails_while_it_is_cancelled_is_told():
    async def server() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("in the end")

    async def main() -> None:
        await asyncio.sleep(1)

    sim = Simulation()
    sim.spawn(server())
    with pytest.raises(LookupError, match="in the end"):
        sim.run(main())


@pytest.mark.parametrize("how", ["raised", "signal"])
def test_interrupt_leaves_the_world_outside_as_it_was(how):
    monotonic, start = time.monotonic, socket.socket.__init__
    sim = Simulation()
    a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
    sim.link(a, b)
    cleaned = []

    async def program() -> None:
        try:
            await asyncio.sleep(1)
            if how == "raised":
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(3600)
        finally:
            cleaned.append(time.monotonic())

    b.spawn(echo_server())
    with pytest.raises(KeyboardInterrupt):
        a.run(program())
    assert cleaned == [2.0]
    assert time.monotonic is monotonic
    assert socket.socket.__init__ is start
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sim.loop.is_closed()


def test_simulation_that_never_ran_needs_no_closing():
    Simulation().host("a", "10.0.0.1/24")


def test_simulated_host_is_a_host(sim, a):
    assert isinstance(a, tcpstack.Host)
    assert isinstance(a, SimulatedHost)
    assert repr(a) == "<Host 10.0.0.1/24, fd00::1/64 on a>"
