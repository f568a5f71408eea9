"""Programs of plain asyncio on simulated hosts: long waits in no time, and the semantics they rely on."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from pathlib import Path

import h11
import pytest

from tcpstack.aio.virtual import SimulatedHost, Simulation
from tcpstack.core.config import SECOND_NS
from tcpstack.core.events import Event, SegmentOut
from tcpstack.device.fault_rules import ANY, DATA, IN, OUT, SYN, Drop
from tests.aio_virtual.programs import echo_client, echo_server, in_order, serve


def two_hosts(*faults: Drop, tracer: object = None) -> tuple[Simulation, SimulatedHost, SimulatedHost]:
    """a, with these faults, and b."""
    sim = Simulation()
    a = sim.host("a", "10.0.0.1/24", faults=faults, tracer=tracer)  # type: ignore[arg-type]
    b = sim.host("b", "10.0.0.2/24")
    sim.link(a, b, delay="50ms")
    return sim, a, b


# Waits


def test_retransmissions_back_off_for_five_minutes_in_no_time():
    sent: list[int] = []

    def tracer(event: Event) -> None:
        if isinstance(event, SegmentOut) and event.segment.payload_len:
            sent.append(event.time_ns)

    async def client() -> float:
        _, writer = await asyncio.open_connection("b", 80)
        began = time.monotonic()
        writer.write(b"into the void")
        with pytest.raises(TimeoutError):
            await writer.wait_closed()
        return time.monotonic() - began

    began = time.monotonic()
    _, a, b = two_hosts(Drop(DATA, direction=OUT), tracer=tracer)
    b.spawn(echo_server())
    assert a.run(client()) == pytest.approx(300, abs=1)
    assert time.monotonic() - began < 5
    waits = [(after - before) / SECOND_NS for before, after in itertools.pairwise(sent)]
    assert waits[:2] == pytest.approx([0.3, 0.3], abs=0.02)  # a tail loss probe, and the timeout after it
    for before, after in itertools.pairwise(waits[1:]):
        assert after == pytest.approx(min(2 * before, 120), abs=0.01)


def test_opening_a_connection_to_nobody_takes_three_virtual_minutes():
    async def client() -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.open_connection("b", 80)
        return time.monotonic() - began

    _, a, _ = two_hosts(Drop(SYN))
    assert a.run(client()) == pytest.approx(180, abs=1)


def test_timeout_cancels_an_opening():
    async def client() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.open_connection("b", 80)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("b", 80), 5)
        return time.monotonic()

    _, a, _ = two_hosts(Drop(SYN))
    assert a.run(client()) == 11.0


def test_connection_idle_for_a_week_goes_on():
    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("b", 80)
        await asyncio.sleep(7 * 24 * 3600)
        writer.write(b"still there?")
        answer = await reader.readexactly(12)
        writer.close()
        return answer

    _, a, b = two_hosts()
    b.spawn(echo_server())
    assert a.run(client()) == b"still there?"


def test_host_that_falls_silent_is_noticed_by_the_programs_own_heartbeat():
    async def client() -> float:
        reader, writer = await asyncio.open_connection("b", 80)
        beats = 0
        try:
            while True:
                writer.write(b"beat")
                async with asyncio.timeout(30):
                    await reader.readexactly(4)
                beats += 1
                await asyncio.sleep(60)
        except TimeoutError:
            writer.transport.abort()
            return beats

    _, a, b = two_hosts(Drop(ANY, nth=(20, None), direction=IN))
    b.spawn(echo_server())
    assert a.run(client()) > 5


# What they rely on


def test_refused_connection_is_the_errno_that_asyncio_has(a: SimulatedHost):
    async def client() -> None:
        with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('10\.0\.0\.2', 81\)"):
            await asyncio.open_connection("10.0.0.2", 81)

    a.run(client())


def test_server_on_a_port_that_is_taken_or_an_address_that_is_not_its_own_is_refused(a: SimulatedHost):
    async def program() -> None:
        server = await asyncio.start_server(in_order(), "a", 80)
        with pytest.raises(OSError, match="error while attempting to bind"):
            await asyncio.start_server(in_order(), "a", 80)
        with pytest.raises(OSError, match="not an address of this stack"):
            await asyncio.start_server(in_order(), "10.0.0.2", 80)
        server.close()
        await server.wait_closed()

    a.run(program())


def test_megabytes_cross_a_line_with_losses_whole():
    text = bytes(range(256)) * 8_000
    with Simulation(seed=5) as sim:
        a = sim.host("a", "10.0.0.1/24", faults=["loss 2%", "reorder 2%", "duplicate 1%"])
        b = sim.host("b", "10.0.0.2/24")
        sim.link(a, b, delay="10ms", rate="100mbit", queue="100kB")
        b.spawn(echo_server())
        assert a.run(echo_client("b", text)) == text


def test_half_close_lets_the_answer_come(a: SimulatedHost, b: SimulatedHost):
    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read()
        await asyncio.sleep(10)
        writer.write(b"you said " + question)
        writer.close()

    b.spawn(serve(on_client))
    assert a.run(echo_client("b", b"hello")) == b"you said hello"


def test_slow_reader_holds_the_writer_back(a: SimulatedHost, b: SimulatedHost):
    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 0
        while data := await reader.read(100_000):
            size += len(data)
            await asyncio.sleep(1)
        writer.write(str(size).encode())
        writer.close()

    async def client() -> tuple[bytes, bool]:
        reader, writer = await asyncio.open_connection("b", 80)
        began = time.monotonic()
        for _ in range(100):
            writer.write(bytes(100_000))
            await writer.drain()
        slow = time.monotonic() - began > 50
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer, slow

    b.spawn(serve(on_client))
    assert a.run(client()) == (b"10000000", True)


class Http(asyncio.Protocol):
    """A small HTTP server as protocols are: everything in callbacks, a task for each request."""

    def __init__(self) -> None:
        self.connection = h11.Connection(h11.SERVER)
        self.tasks: list[asyncio.Task[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.idle = asyncio.get_running_loop().call_later(30, transport.close)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.connection.receive_data(data)
        while type(event := self.connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED, h11.ConnectionClosed):
            if isinstance(event, h11.Request):
                self.idle.cancel()
                self.tasks.append(asyncio.create_task(self.answer(event.target)))
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break

    async def answer(self, target: bytes) -> None:
        await asyncio.sleep(0.5)
        body = b"you asked for " + target
        length = str(len(body)).encode()
        send = self.connection.send
        head = send(h11.Response(status_code=200, headers=[("content-length", length)]))
        self.transport.write((head or b"") + (send(h11.Data(data=body)) or b"") + (send(h11.EndOfMessage()) or b""))
        self.connection.start_next_cycle()
        self.idle = asyncio.get_running_loop().call_later(30, self.transport.close)


def test_http_server_made_of_protocols_serves_and_closes_what_is_idle(a: SimulatedHost, b: SimulatedHost):
    async def server() -> None:
        await asyncio.get_running_loop().create_server(Http, "b", 80, reuse_address=True, backlog=2048)

    async def client() -> tuple[bytes, float]:
        reader, writer = await asyncio.open_connection("b", 80)
        text = b""
        for path in (b"/one", b"/two"):
            writer.write(b"GET %s HTTP/1.1\r\nhost: b\r\n\r\n" % path)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200" in head
            text += await reader.readexactly(len(b"you asked for ") + len(path)) + b"; "
        answered = time.monotonic()
        assert await reader.read() == b""
        writer.close()
        return text, time.monotonic() - answered

    b.run(server())
    text, idle = a.run(client())
    assert text == b"you asked for /one; you asked for /two; "
    assert idle == pytest.approx(30, abs=0.1)


def test_sendfile_sends_the_file(a: SimulatedHost, b: SimulatedHost, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with path.open("rb") as file:
            await asyncio.get_running_loop().sendfile(writer.transport, file)
        writer.close()

    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("b", 80)
        text = await reader.read()
        writer.close()
        return text

    b.spawn(serve(on_client))
    assert a.run(client()) == path.read_bytes()


def test_servers_wait_for_their_clients_when_they_close(sim: Simulation, a: SimulatedHost, b: SimulatedHost):
    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(20)
        writer.close()

    async def server() -> float:
        async with await asyncio.start_server(on_client, port=80, start_serving=False) as server:
            assert not server.is_serving()
            await server.start_serving()
            await asyncio.sleep(5)
        return time.monotonic()

    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("b", 80)
        text = await reader.read()
        writer.close()
        return text

    serving = b.spawn(server())
    assert a.run(client()) == b""
    assert sim.run(serving) == [pytest.approx(21, abs=0.1)]


def test_chat_room_reaches_all(sim: Simulation, b: SimulatedHost):
    """Many hosts behind a router, broadcasts, queues, and tasks that come and go."""
    router = sim.router("router")
    hub = sim.host("hub", "10.1.0.1/24")
    sim.link(hub, router, delay="1ms")
    members: dict[asyncio.StreamWriter, str] = {}

    async def on_member(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        members[writer] = name
        while line := await reader.readline():
            for member in members:
                member.write(f"{name}: ".encode() + line)
        del members[writer]
        writer.close()

    async def member(number: int) -> list[str]:
        reader, writer = await asyncio.open_connection("hub", 80)
        writer.write(f"m{number}\n".encode())
        await asyncio.sleep(10 + number)
        writer.write(b"hello\n")
        heard = [(await reader.readline()).decode().strip() for _ in range(5)]
        writer.close()
        return heard

    hub.spawn(serve(on_member))
    tasks = []
    for number in range(5):
        host = sim.host(f"m{number}", f"10.1.{number + 1}.1/24")
        sim.link(host, router, delay=f"{10 * number + 1}ms")
        tasks.append(host.spawn(member(number)))
    expected = [f"m{number}: hello" for number in range(5)]
    assert sim.run(*tasks) == [expected] * 5


@pytest.mark.rfc9293("MAY-5")
def test_keepalives_switched_on_as_programs_do_end_a_connection_whose_peer_is_gone() -> None:
    sim = Simulation()
    a = sim.host("a", "10.0.0.1/24", faults="blackhole after=3600s")
    b = sim.host("b", "10.0.0.2/24")
    sim.link(a, b)

    async def server() -> None:
        await (await asyncio.start_server(lambda reader, writer: None, port=80)).serve_forever()

    async def client() -> float:
        reader, writer = await asyncio.open_connection("b", 80)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        with pytest.raises(TimeoutError, match="keep-alives went unanswered"):
            await reader.read()
        return asyncio.get_running_loop().time()

    b.spawn(server())
    assert a.run(client(), within_s=7200) == pytest.approx(1 + 3600 + 3 * 10, abs=1)
