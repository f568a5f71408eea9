"""The kernel's TCP as the peer that measures: `python -m tools.bench.kernel_peer TASK`, a Task in JSON.

Runs in the server's namespace (or at the far end of its veth pair), works with plain blocking sockets, and prints
what it found as JSON. Octets and packets are counted by the kernel's tcp_info: a superpacket counts as the
segments in it, and what only filled a buffer does not count.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from .services import CHARGEN_PORT, CONNECT_PORTS, DISCARD_PORT, ECHO_PORT

_CHUNK_BYTES = 256 * 1024
_PATIENCE_S = 10.0
_CONGESTION_CONTROL = b"cubic"
# struct tcp_info of <linux/tcp.h>: total_retrans, bytes_acked, bytes_received, data_segs_in, data_segs_out.
_TCP_INFO = struct.Struct("=100xI16xQQ16xII")

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
    """The meters at one moment."""

    time_s: float
    server_cpu_s: float
    retransmissions: int
    bytes_acked: int
    bytes_received: int
    segments_in: int
    segments_out: int

    @classmethod
    def take(cls, task: Task, connection: socket.socket) -> Reading:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        # What clock_getcpuclockid(3) answers for a process: the CPU time of all its threads.
        cpu_s = time.clock_gettime(~task.pid << 3 | 2)
        return cls(time.perf_counter(), cpu_s, *_TCP_INFO.unpack(info))


def measure_bulk_in(task: Task) -> Results:
    """Text towards the server."""
    chunk = bytes(_CHUNK_BYTES)
    with _connected(task, DISCARD_PORT) as connection:
        before, after = _read_around(task, connection, lambda: connection.send(chunk))
        segments = after.segments_out - before.segments_out
        octets = after.bytes_acked - before.bytes_acked
        lost = after.retransmissions - before.retransmissions
        return {**_bulk_results(before, after, octets, segments), "retransmissions": lost, **_conditions(connection)}


def measure_bulk_out(task: Task) -> Results:
    """Text from the server."""
    buffer = bytearray(_CHUNK_BYTES)

    def receive() -> None:
        if not connection.recv_into(buffer):
            raise EOFError("the server ended the connection")

    with _connected(task, CHARGEN_PORT) as connection:
        before, after = _read_around(task, connection, receive)
        segments = after.segments_in - before.segments_in
        octets = after.bytes_received - before.bytes_received
        return {**_bulk_results(before, after, octets, segments), **_conditions(connection)}


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

    with _connected(task, ECHO_PORT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _repeat(ping, task.warm_up_s)
        times_ns.clear()
        _repeat(ping, task.seconds)
    times_ns.sort()
    median_ns, p99_ns = (times_ns[int(len(times_ns) * part)] for part in (0.5, 0.99))
    return {"median_us": median_ns / 1000, "p99_us": p99_ns / 1000}


MEASUREMENTS: dict[str, Callable[[Task], Results]] = {
    "bulk-in": measure_bulk_in,
    "bulk-out": measure_bulk_out,
    "connects": measure_connects,
    "ping": measure_ping,
}


def choose_congestion_control(sock: socket.socket) -> None:
    """The same for all runs, where this user may choose it; the results say what it was."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION_CONTROL)


def _connected(task: Task, port: int) -> socket.socket:
    """A connection whose closing resets it: nobody waits for what is under way then."""
    connection = socket.socket(socket.AF_INET)
    choose_congestion_control(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.settimeout(_PATIENCE_S)
    connection.connect((task.address, port))
    return connection


def _read_around(task: Task, connection: socket.socket, step: Callable[[], object]) -> tuple[Reading, Reading]:
    """The meters before and after `task.seconds` of steps, when it has warmed up."""
    _repeat(step, task.warm_up_s)
    before = Reading.take(task, connection)
    _repeat(step, task.seconds)
    return before, Reading.take(task, connection)


def _repeat(step: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Do steps for so long, at least one. Returns how many, and how long they took in seconds."""
    start_s = time.perf_counter()
    times, elapsed_s = 0, 0.0
    while times == 0 or elapsed_s < seconds:
        step()
        times += 1
        elapsed_s = time.perf_counter() - start_s
    return times, elapsed_s


def _bulk_results(before: Reading, after: Reading, octets: int, segments: int) -> Results:
    elapsed_s = after.time_s - before.time_s
    return {
        "gbit_per_s": octets * 8 / elapsed_s / 1e9,
        "packets_per_s": segments / elapsed_s,
        "cpu_s_per_gb": (after.server_cpu_s - before.server_cpu_s) / (octets / 1e9),
    }


def _conditions(connection: socket.socket) -> Results:
    name = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return {"congestion_control": name.rstrip(b"\0").decode()}


if __name__ == "__main__":
    task = Task(**json.loads(sys.argv[1]))
    os.sched_setaffinity(0, {task.cpu})
    print(json.dumps(MEASUREMENTS[task.name](task)))
