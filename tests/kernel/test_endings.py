"""How connections end when somebody dies: the kernel's program is killed, resets, or leaves text unread."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Sequence
from typing import Any

import pytest

import tcpstack
from tcpstack.wire.packet import Packet

RESETTER = """
import socket, struct, sys
s = socket.create_connection(("10.9.0.2", 9000))
s.sendall(b"hello")
s.recv(1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
"""


async def test_kernel_program_killed_in_mid_transfer_resets_our_writer(stack, namespace):
    ended = asyncio.get_running_loop().create_future()

    async def pour(reader, writer):
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except OSError as error:
            ended.set_result(error)

    await stack.start_server(pour, port=9000)
    client = await namespace.spawn("nc", "10.9.0.2", "9000")
    assert await client.stdout.readexactly(1_000_000)
    client.kill()
    error = await asyncio.wait_for(ended, 10)
    assert isinstance(error, (ConnectionResetError, BrokenPipeError))
    async with asyncio.timeout(10):
        while stack.connections:
            await asyncio.sleep(0.01)


async def test_reset_by_the_kernel_raises_connection_reset(stack, namespace):
    ended = asyncio.get_running_loop().create_future()

    async def read_twice(reader, writer):
        try:
            assert await reader.readexactly(5) == b"hello"
            writer.write(b"!")
            ended.set_result(await reader.read())
        except OSError as error:
            ended.set_result(error)

    await stack.start_server(read_twice, port=9000)
    await namespace.run(sys.executable, "-c", RESETTER)
    assert isinstance(await asyncio.wait_for(ended, 10), ConnectionResetError)


@pytest.mark.rfc9293("SHLD-3")
async def test_our_close_with_text_unread_resets_the_kernels_program(stack, namespace):
    class NeverReads(asyncio.Protocol):
        def connection_made(self, transport):
            transport.pause_reading()
            opened.set_result(transport)

    opened = asyncio.get_running_loop().create_future()
    await stack.create_server(NeverReads, port=9000)
    program = (
        "import socket\n"
        "s = socket.create_connection(('10.9.0.2', 9000))\n"
        "s.sendall(b'nobody will read this'); print('sent', flush=True)\n"
        "try:\n    print(s.recv(1))\n"
        "except ConnectionResetError:\n    print('reset')\n"
    )
    client = await namespace.spawn(sys.executable, "-c", program)
    assert await client.stdout.readline() == b"sent\n"
    async with asyncio.timeout(10):
        transport = await opened
        while not any(connection.readable_bytes for connection in stack.connections):
            await asyncio.sleep(0.01)
        transport.close()
        assert await client.stdout.readline() == b"reset\n"


async def test_stack_closing_under_transfers_ends_every_connection(stack, namespace):
    async def pour(reader, writer):
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass

    await stack.start_server(pour, port=9000)
    clients = [await namespace.spawn("nc", "10.9.0.2", "9000") for _ in range(5)]
    for client in clients:
        assert await client.stdout.readexactly(100_000)
    await asyncio.wait_for(stack.aclose(0.2), 5)
    for client in clients:
        await asyncio.wait_for(client.communicate(), 5)  # it hears a FIN or a RST, and ends


class ReadLate:
    """A device that is not read before its interface is on the way out: the kernel tells of an error, and yet a read
    finds the packets that wait."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._poll = select.poll()
        self._poll.register(device.fileno(), select.POLLIN)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        if any(event & select.POLLERR for _, event in self._poll.poll(0)):
            return self._device.receive(max_packets, now_ns)
        return ()


@pytest.mark.tun
async def test_deletion_is_noticed_where_the_error_comes_before_the_last_packet_was_read(namespace):
    async with tcpstack.open_tun(device=ReadLate(namespace.device), addresses=["10.9.0.2/24"]) as stack:
        await namespace.run("bash", "-c", "echo hello >/dev/udp/10.9.0.77/9")  # which nobody answers
        await namespace.run("ip", "link", "delete", namespace.device.name)
        with pytest.raises(tcpstack.DeviceError, match="was deleted"):
            await asyncio.wait_for(stack.wait_closed(), 10)
