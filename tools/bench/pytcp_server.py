"""pmd-pytcp as a server: a TCP in Python, whose sockets are awaited. `python -m tools.bench.pytcp_server PREFIX` runs
in the namespace that the command prefix PREFIX, in JSON, leads to.

Its sockets take all that they are given to send, without a bound, so the program looks for itself how much waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
from typing import Any

import uvloop
from pmd_net_addr import Ip4IfAddr
from pmd_pytcp import socket, stack

from tcpstack.device import netlink

from .serve import ADDRESS, KERNEL_ADDRESS, announce, until_stdin_ends
from .services import ALL_PORTS, CHARGEN_PORT, CHUNK, ECHO_PORT

_DEVICE = "tun1"
_BACKLOG = 128
_READ_BYTES = 256 * 1024
_ENOUGH_BYTES = 1024 * 1024
_LOOK_AGAIN_S = 0.001
_NOTSENT = struct.Struct("<144xI")  # struct tcp_info of <linux/tcp.h>: notsent_bytes


async def serve(prefix: list[str]) -> None:
    """Serve until standard input ends."""
    stack.init()
    interface = stack.initialize_interface__tun(_DEVICE)
    # The device as tcpstack has its own.
    addresses = [f"{KERNEL_ADDRESS}/24"]
    await asyncio.to_thread(netlink.configure, _DEVICE, addresses, mtu=1500, txqueuelen=netlink.TXQUEUELEN)
    stack.add_interface(**interface, ip4_host=Ip4IfAddr(f"{ADDRESS}/24"), ip6_support=False)
    await stack.start()
    # It takes its address when it has made sure that nobody else has it, and tells nobody.
    while not stack.local_ip4_hosts():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_AGAIN_S)
    for port in ALL_PORTS:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((ADDRESS, port))
        listener.listen(backlog=_BACKLOG)
        _in_background(_accept(listener, port))
    announce(ADDRESS, prefix)
    await until_stdin_ends()
    os._exit(0)  # stack.stop() would first say goodbye on every connection


_tasks: set[asyncio.Task[None]] = set()


def _in_background(work: Any) -> None:
    task = asyncio.create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _accept(listener: Any, port: int) -> None:
    while True:
        connection, _ = await listener.accept()
        _in_background(_serve_tcp(connection, port))


async def _serve_tcp(connection: Any, port: int) -> None:
    # The peer ends a bulk measurement with a reset.
    with contextlib.suppress(OSError):
        if port == CHARGEN_PORT:
            await _generate(connection)
        while data := await connection.recv(_READ_BYTES):
            if port == ECHO_PORT:
                await connection.send(data)
    connection.close()


async def _generate(connection: Any) -> None:
    while True:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO)
        if _NOTSENT.unpack_from(info)[0] < _ENOUGH_BYTES:
            await connection.send(CHUNK)
        await asyncio.sleep(_LOOK_AGAIN_S)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(json.loads(sys.argv[1])))
