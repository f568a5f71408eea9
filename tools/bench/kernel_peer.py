"""The kernel's TCP as the peer that measures: `python -m tools.bench.kernel_peer TASK`, a Task in JSON.

Runs in the server's namespace (or at the far end of its veth pair), works with plain sockets, and prints what it
found as JSON. Octets are counted by the kernel's tcp_info: what only filled a buffer does not count.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from .services import CHARGEN_PORT, CONNECT_PORTS, DISCARD_PORT, ECHO_PORT, REQUEST_BYTES

MANY_FLOWS = 10
KEPT_ALIVE = 100

_CHUNK_BYTES = 256 * 1024
_PATIENCE_S = 10.0
_CONGESTION_CONTROL = b"cubic"
_TCP_INFO = struct.Struct("=100xI16xQQ")  # struct tcp_info of <linux/tcp.h>: total_retrans, bytes_acked, bytes_received

Results = dict[str, float | str]


@dataclass(frozen=True)
class Task:
    """On CPU `cpu`, measure `name` (of MEASUREMENTS) for `seconds` after `warm_up_s`, against the server at `address`,
    which is process `pid`."""

    name: str
    address: str
    pid: int
    cpu: int
    seconds: float
    warm_up_s: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Reading:
    """The meters at one moment; those of the connections are sums."""

    time_s: float
    server_cpu_s: float
    retransmissions: int
    bytes_acked: int
    bytes_received: int

    @classmethod
    def take(cls, task: Task, connections: Sequence[socket.socket]) -> Reading:
        infos = [each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size) for each in connections]
        # What clock_getcpuclockid(3) answers for a process: the CPU time of all its threads.
        cpu_s = time.clock_gettime(~task.pid << 3 | 2)
        return cls(time.perf_counter(), cpu_s, *map(sum, zip(*map(_TCP_INFO.unpack, infos), strict=True)))


def measure_bulk_in(task: Task, flows: int = 1) -> Results:
    """Text towards the server."""
    chunk = bytes(_CHUNK_BYTES)
    with _connected(task, DISCARD_PORT, flows) as connections:
        ready = _Ready(connections, select.EPOLLOUT)

        def send() -> None:
            for connection in ready():
                connection.send(chunk)

        before, after = _read_around(task, connections, send)
        lost = after.retransmissions - before.retransmissions
        results = _bulk_results(before, after, after.bytes_acked - before.bytes_acked)
        return {**results, "retransmissions": lost, **_conditions(connections[0])}


def measure_bulk_out(task: Task, flows: int = 1) -> Results:
    """Text from the server."""
    buffer = bytearray(_CHUNK_BYTES)
    with _connected(task, CHARGEN_PORT, flows) as connections:
        ready = _Ready(connections, select.EPOLLIN)

        def receive() -> None:
            for connection in ready():
                if not connection.recv_into(buffer):
                    raise EOFError("the server ended the connection")

        before, after = _read_around(task, connections, receive)
        results = _bulk_results(before, after, after.bytes_received - before.bytes_received)
        return {**results, **_conditions(connections[0])}


def measure_connects(task: Task) -> Results:
    """Connections, one after another: connect, close. From time to time the server's FIN is waited for, so that
    no backlog of connections grows, of which the server has seen only the handshake, or nothing at all."""
    ports = itertools.cycle(CONNECT_PORTS)

    def connect() -> None:
        port = next(ports)
        with socket.create_connection((task.address, port), _PATIENCE_S) as connection:
            if port == CONNECT_PORTS[-1]:
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)

    _repeat(connect, task.warm_up_s)
    times, elapsed_s = _repeat(connect, task.seconds)
    return {"per_s": times / elapsed_s}


def measure_ping(task: Task) -> Results:
    """An octet there and back, one at a time."""
    times_ns: list[int] = []

    def ping() -> None:
        start_ns = time.perf_counter_ns()
        connection.send(b"x")
        if not connection.recv(1):
            raise EOFError("the server ended the connection")
        times_ns.append(time.perf_counter_ns() - start_ns)

    with _connected(task, ECHO_PORT) as (connection,):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _repeat(ping, task.warm_up_s)
        times_ns.clear()
        _repeat(ping, task.seconds)
    times_ns.sort()
    median_ns, p99_ns = (times_ns[int(len(times_ns) * part)] for part in (0.5, 0.99))
    return {"median_us": median_ns / 1000, "p99_us": p99_ns / 1000}


def measure_requests(task: Task) -> Results:
    """Requests on connections that stay: on each, a request and its answer in turn, so that there are as many requests
    under way as there are connections."""
    request = bytes(REQUEST_BYTES)
    answered = 0
    with _connected(task, ECHO_PORT, KEPT_ALIVE) as connections:
        ready = _Ready(connections, select.EPOLLIN)
        missing = dict.fromkeys(connections, REQUEST_BYTES)

        def answers() -> None:
            nonlocal answered
            for connection in ready():
                octets = len(connection.recv(missing[connection]))
                if not octets:
                    raise EOFError("the server ended the connection")
                missing[connection] -= octets
                if not missing[connection]:
                    answered += 1
                    missing[connection] = REQUEST_BYTES
                    connection.send(request)

        for connection in connections:
            connection.send(request)
        _repeat(answers, task.warm_up_s)
        answered = 0
        before = Reading.take(task, connections)
        _repeat(answers, task.seconds)
        after = Reading.take(task, connections)
    cpu_s = after.server_cpu_s - before.server_cpu_s
    return {"per_s": answered / (after.time_s - before.time_s), "cpu_us_each": cpu_s / answered * 1e6}


MEASUREMENTS: dict[str, Callable[[Task], Results]] = {
    "bulk-in": measure_bulk_in,
    "bulk-out": measure_bulk_out,
    f"bulk-in-{MANY_FLOWS}": partial(measure_bulk_in, flows=MANY_FLOWS),
    f"bulk-out-{MANY_FLOWS}": partial(measure_bulk_out, flows=MANY_FLOWS),
    "connects": measure_connects,
    "requests": measure_requests,
    "ping": measure_ping,
}


def choose_congestion_control(sock: socket.socket) -> None:
    """The same for all runs, where this user may choose it; the results say what it was."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION_CONTROL)


@contextlib.contextmanager
def _connected(task: Task, port: int, count: int = 1) -> Iterator[list[socket.socket]]:
    """So many connections. Closing resets them: nobody waits for what is under way then."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket(socket.AF_INET))
            choose_congestion_control(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.settimeout(_PATIENCE_S)
            connection.connect((task.address, port))
            connections.append(connection)
        yield connections


class _Ready:
    """Called, it waits for those of the connections that can go on. From now on none of them blocks."""

    def __init__(self, connections: Sequence[socket.socket], event: int) -> None:
        self._connections = {connection.fileno(): connection for connection in connections}
        self._epoll = select.epoll()
        for fd, connection in self._connections.items():
            connection.setblocking(False)
            self._epoll.register(fd, event)

    def __call__(self) -> list[socket.socket]:
        found = self._epoll.poll(_PATIENCE_S)
        if not found:
            raise TimeoutError(f"nothing has happened for {_PATIENCE_S:g} s")
        return [self._connections[fd] for fd, _ in found]


def _read_around(
    task: Task, connections: Sequence[socket.socket], step: Callable[[], object]
) -> tuple[Reading, Reading]:
    """The meters before and after `task.seconds` of steps, when it has warmed up."""
    _repeat(step, task.warm_up_s)
    before = Reading.take(task, connections)
    _repeat(step, task.seconds)
    return before, Reading.take(task, connections)


def _repeat(step: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Do steps for so long, at least one. Returns how many, and how long they took in seconds."""
    start_s = time.perf_counter()
    times, elapsed_s = 0, 0.0
    while times == 0 or elapsed_s < seconds:
        step()
        times += 1
        elapsed_s = time.perf_counter() - start_s
    return times, elapsed_s


def _bulk_results(before: Reading, after: Reading, octets: int) -> Results:
    elapsed_s = after.time_s - before.time_s
    return {
        "gbit_per_s": octets * 8 / elapsed_s / 1e9,
        "cpu_s_per_gb": (after.server_cpu_s - before.server_cpu_s) / (octets / 1e9),
    }


def _conditions(connection: socket.socket) -> Results:
    name = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return {"congestion_control": name.rstrip(b"\0").decode()}


if __name__ == "__main__":
    task = Task(**json.loads(sys.argv[1]))
    os.sched_setaffinity(0, {task.cpu})
    print(json.dumps(MEASUREMENTS[task.name](task)))
