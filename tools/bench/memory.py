"""What one connection takes, in octets: `python -m tools.bench.memory COUNT` prints it as JSON.

    protocol   idle connections with an asyncio.Protocol each, after a request and its answer
    streams    the same with a StreamReader, a StreamWriter and the task that serves them
    syn_record a connection attempt that has been answered, and not yet acknowledged
    time_wait  what is remembered of a connection that we closed first

Counted with tracemalloc, as what COUNT of them add, shared among them. The peers are packets that this program makes,
and nothing is kept of them, so that all that is counted is ours. What uvloop keeps for a connection of the kernel's,
and a StreamReader for its text, is not in it: there is none of either.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence

import uvloop

import tcpstack
from tcpstack.core.connection import Connection
from tcpstack.core.segment import ACK, FIN, PSH, SYN, Options, Segment
from tcpstack.device.memory import MemoryDevice, pair
from tcpstack.stack.listener import SYN_QUEUE
from tcpstack.stack.stack import Stack
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import Packet

from .applications import ServiceProtocol, serve_streams
from .services import ECHO_PORT, REQUEST_BYTES

_ADDRESS = "10.9.0.2"
_OURS, _PEER = bytes((10, 9, 0, 2)), bytes((10, 9, 0, 1))
_FIRST_PORT = 10_000
_BATCH = 100  # handshakes at once
_BACKLOG = 1024
_WARM_UP = 100  # connections that fill caches and pools first
_PATIENCE_S = 10.0
_OVERDUE_NS = 5_000_000_000
_QUIET_S = 0.3  # delayed acknowledgements are over by then


def main(count: int) -> dict[str, float]:
    """Octets for each of `count`, by kind."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        protocol = runner.run(_idle_connections(count, with_streams=False))
        streams = runner.run(_idle_connections(count, with_streams=True))
    records = {"syn_record": _syn_records(count), "time_wait": _time_waits(count)}
    return {"protocol": protocol, "streams": streams, **records}


async def _idle_connections(count: int, with_streams: bool) -> float:
    device, link = pair(queue_packets=10 * _BATCH)
    async with tcpstack.open_tun(device=device, addresses=[f"{_ADDRESS}/24"], grace_s=0) as host:
        if with_streams:
            await host.start_server(serve_streams, port=ECHO_PORT, backlog=_BACKLOG)
        else:
            await host.create_server(ServiceProtocol, port=ECHO_PORT, backlog=_BACKLOG)
        ports = itertools.count(_FIRST_PORT)
        await _connect(link, itertools.islice(ports, _WARM_UP))
        before = await _settled()
        await _connect(link, itertools.islice(ports, count))
        octets = await _settled() - before
        assert len(list(host.connections)) == _WARM_UP + count
    return octets / count


async def _connect(link: MemoryDevice, ports: Iterable[int]) -> None:
    """Connections from these ports; each has had its request answered."""
    for batch in iter(lambda: list(itertools.islice(ports, _BATCH)), []):
        syn_acks = await _exchange(link, [_syn(port, ECHO_PORT) for port in batch])
        request = bytes(REQUEST_BYTES)
        answers = await _exchange(link, [_reply(syn_ack, PSH | ACK, request) for syn_ack in syn_acks])
        for answer in answers:
            link.send(_reply(answer, ACK), 0)
        await asyncio.sleep(0)


async def _exchange(link: MemoryDevice, packets: Sequence[Packet]) -> list[Segment]:
    """What is said to these packets, but for what only acknowledges."""
    for packet in packets:
        link.send(packet, 0)
    answers: list[Segment] = []
    async with asyncio.timeout(_PATIENCE_S):
        while len(answers) < len(packets):
            await asyncio.sleep(0)
            answers += _segments(link.receive(len(packets), 0))
    return answers


async def _settled() -> int:
    await asyncio.sleep(_QUIET_S)
    return _traced_bytes()


def _syn_records(count: int) -> float:
    stack = Stack([f"{_ADDRESS}/24"])
    now_ns = time.monotonic_ns()
    # One listener has so many records at most.
    for port in range(-(-(count + _WARM_UP) // SYN_QUEUE)):
        stack.listen(ECHO_PORT + port)

    def syns(numbers: Iterable[int]) -> None:
        for number in numbers:
            stack.on_packets([_syn(_FIRST_PORT + number, ECHO_PORT + number // SYN_QUEUE)], now_ns)

    added = _added(syns, count)
    assert stack.syn_records == _WARM_UP + count
    return added


def _time_waits(count: int) -> float:
    stack = Stack([f"{_ADDRESS}/24"])
    now_ns = time.monotonic_ns()
    listener = stack.listen(ECHO_PORT)
    sent: list[Packet] = []
    stack.send_packet = lambda packet, now_ns: sent.append(packet)

    def exchange(packet: Packet) -> list[Segment]:
        sent.clear()
        stack.on_packets([packet], now_ns)
        return _segments(sent)

    def connections(numbers: Iterable[int]) -> None:
        for number in numbers:
            [syn_ack] = exchange(_syn(_FIRST_PORT + number, ECHO_PORT))
            exchange(_reply(syn_ack, ACK))
            connection = listener.accept()
            assert isinstance(connection, Connection)
            stack.close(connection, now_ns)
            [fin] = _segments(sent)
            exchange(_reply(fin, FIN | ACK))
        sent.clear()
        stack.on_timer(now_ns + _OVERDUE_NS)  # timers that were stopped are only forgotten when they would be due

    added = _added(connections, count)
    assert stack.time_waits == _WARM_UP + count
    return added


def _added(make: Callable[[Iterable[int]], None], count: int) -> float:
    """Octets that each of `count` adds, after the first few."""
    make(range(_WARM_UP))
    before = _traced_bytes()
    make(range(_WARM_UP, _WARM_UP + count))
    return (_traced_bytes() - before) / count


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _syn(sport: int, dport: int) -> Packet:
    """As Linux opens a connection."""
    options = Options(mss=1460, wscale=7, sack_permitted=True, timestamps=(1, 0))
    return encode(Segment(_PEER, sport, _OURS, dport, 0, 0, SYN, 64_240, options=options))


def _reply(to: Segment, flags: int, text: bytes = b"") -> Packet:
    """What goes on where `to` left off, and acknowledges it."""
    timestamps = to.options.timestamps if to.options is not None else None
    options = None if timestamps is None else Options(timestamps=(1, timestamps[0]))
    ack = (to.seq + to.len) & 0xFFFFFFFF
    payload = (text,) if text else ()
    return encode(
        Segment(_PEER, to.dport, _OURS, to.sport, to.ack, ack, flags, 502, payload, len(text), options=options)
    )


def _segments(packets: Iterable[Packet]) -> list[Segment]:
    decoded = (decode(packet) for packet in packets)
    return [segment for segment in decoded if isinstance(segment, Segment) and segment.len]


if __name__ == "__main__":
    tracemalloc.start()
    print(json.dumps(main(int(sys.argv[1]))))
