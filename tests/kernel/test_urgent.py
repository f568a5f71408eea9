"""Urgent text with the kernel: where each end thinks that it is, and that it stays in the stream."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tcpstack.core.config import Config
from tcpstack.core.events import SegmentIn, SegmentOut
from tcpstack.core.segment import URG

# Says "abc", then "urgent" with MSG_OOB, of which Linux takes the last octet for the urgent one, then "def".
SEND_OUT_OF_BAND = """
import socket, sys
s = socket.create_connection((sys.argv[1], 9000))
s.sendall(b"abc")
assert s.recv(1) == b"1"
s.send(b"urgent", socket.MSG_OOB)
assert s.recv(1) == b"2"
s.sendall(b"def")
s.shutdown(socket.SHUT_WR)
s.recv(1)
"""

# Says more than our window takes, and then that it was urgent.
SEND_INTO_A_CLOSED_WINDOW = """
import socket
s = socket.create_connection(("10.9.0.2", 9000))
s.sendall(bytes(40_000))
s.send(b"!", socket.MSG_OOB)
s.shutdown(socket.SHUT_WR)
s.recv(1)
"""

# Prints the octets as they are read, with a star before the one at the mark.
READ_IN_LINE = """
import fcntl, select, socket, struct, sys
SIOCATMARK = 0x8905
s = socket.create_connection((sys.argv[1], 9000))
s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
s.sendall(b"go")
poll = select.poll()
poll.register(s, select.POLLPRI)
assert poll.poll(10_000), "no POLLPRI"
while True:
    [at_mark] = struct.unpack("i", fcntl.ioctl(s, SIOCATMARK, bytes(4)))
    if not (octet := s.recv(1)):
        break
    print("*" * at_mark + octet.decode(), end="", flush=True)
"""

# Takes the urgent octet out of the stream, as Linux does by default.
READ_OUT_OF_BAND = """
import select, socket, sys
s = socket.create_connection((sys.argv[1], 9000))
s.sendall(b"go")
poll = select.poll()
poll.register(s, select.POLLPRI)
assert poll.poll(10_000), "no POLLPRI"
print(s.recv(1, socket.MSG_OOB).decode(), flush=True)
print("".join(iter(lambda: s.recv(100).decode(), "")), flush=True)
"""

# Does not read before it has heard of urgent text, which is behind more than its buffer takes. Linux sends SIGURG for a
# pointer, and says POLLPRI only once the urgent octet is there.
READ_ONCE_IT_IS_URGENT = """
import fcntl, os, signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
fcntl.fcntl(s, fcntl.F_SETOWN, os.getpid())
s.connect(("10.9.0.2", 9000))
print(signal.sigtimedwait({signal.SIGURG}, 10) is not None, flush=True)
count = 0
while text := s.recv(1 << 16):
    count += len(text)
print(count, flush=True)
"""

BOTH = pytest.mark.parametrize("host", ["10.9.0.2", "fd09::2"])


class Listener(asyncio.Protocol):
    """Answers each text with the count of what came until then; `calls` has what was called, with what."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def urgent_received(self, octets_left):
        self.calls.append(octets_left)

    def data_received(self, data):
        self.calls.append(data)
        texts = [call for call in self.calls if isinstance(call, bytes)]
        if b"".join(texts) in (b"abc", b"abcurgent"):
            self.transport.write(b"1" if len(texts) == 1 else b"2")

    def connection_lost(self, error):
        self.done.set_result(error)


async def say_something_urgent(reader, writer):
    await reader.readexactly(2)
    writer.write(b"abc")
    writer.transport.write_urgent(b"urgent")
    writer.write(b"def")
    writer.close()


@BOTH
@pytest.mark.any_loop
async def test_urgent_octet_of_the_kernels_is_told_and_read_in_its_place(stack, namespace, host):
    protocol = Listener()
    await stack.create_server(lambda: protocol, port=9000)
    result = await namespace.run(sys.executable, "-c", SEND_OUT_OF_BAND, host)
    assert result.returncode == 0, result.stderr
    assert await asyncio.wait_for(protocol.done, 10) is None
    assert protocol.calls == [b"abc", 6, b"urgent", b"def"]


@pytest.mark.parametrize("stack", [Config(receive_buffer_bytes=16384)], indirect=True)
async def test_urgent_text_of_the_kernels_is_told_while_our_window_is_closed(stack, namespace):
    class Paused(Listener):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

        def urgent_received(self, octets_left):
            super().urgent_received(octets_left)
            self.transport.resume_reading()

    protocol = Paused()
    await stack.create_server(lambda: protocol, port=9000)
    result = await namespace.run(sys.executable, "-c", SEND_INTO_A_CLOSED_WINDOW)
    assert result.returncode == 0, result.stderr
    assert await asyncio.wait_for(protocol.done, 10) is None
    assert protocol.calls[0] == 40_001
    assert b"".join(protocol.calls[1:]) == bytes(40_000) + b"!"


@BOTH
async def test_kernel_has_the_mark_at_the_last_octet_of_our_urgent_text(stack, namespace, host):
    await stack.start_server(say_something_urgent, port=9000)
    result = await namespace.run(sys.executable, "-c", READ_IN_LINE, host)
    assert result.returncode == 0, result.stderr
    assert result.stdout == b"abcurgen*tdef"


async def test_kernel_that_takes_the_urgent_octet_out_takes_the_last_of_our_urgent_text(stack, namespace):
    await stack.start_server(say_something_urgent, port=9000)
    result = await namespace.run(sys.executable, "-c", READ_OUT_OF_BAND, "10.9.0.2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().split() == ["t", "abcurgendef"]


async def test_kernel_hears_of_our_urgent_text_while_its_window_is_closed(open_stack, namespace):
    events = []
    stack = await open_stack(tracer=events.append)

    async def on_client(reader, writer):
        writer.write(bytes(40_000))
        async with asyncio.timeout(10):
            while not any(isinstance(e, SegmentIn) and e.segment.wnd == 0 for e in events):
                await asyncio.sleep(0.01)
        writer.transport.write_urgent(b"urgent")
        writer.close()

    await stack.start_server(on_client, port=9000)
    result = await namespace.run(sys.executable, "-c", READ_ONCE_IT_IS_URGENT)
    assert result.stdout.decode().split() == ["True", "40006"]
    told = next(e.segment for e in events if isinstance(e, SegmentOut) and e.segment.flags & URG)
    assert told.payload_len == 0
