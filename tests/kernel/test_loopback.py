"""The stack's loopback is the stack's alone, and leads where Linux's does."""

from __future__ import annotations

import asyncio
import errno
import json
from ipaddress import ip_address
from random import Random

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import SECOND_NS
from tcpstack.stack.stack import Stack

OWN = ("10.9.0.1/24", "fd09::1/64")
"""The kernel's addresses in the namespace, and those of the stack that is compared with it."""
PORT = 7_000

# Remote address, and the local one that is asked for.
CASES: tuple[tuple[str, str | None], ...] = (
    ("127.0.0.1", None), ("127.8.9.10", None), ("::1", None), ("10.9.0.1", None), ("fd09::1", None),
    ("0.0.0.0", None), ("::", None),
    ("127.0.0.1", "10.9.0.1"), ("10.9.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.2"), ("fd09::1", "::1"),
    ("127.255.255.255", None), ("10.9.0.255", None), ("224.0.0.1", None),
    ("10.9.0.77", "127.0.0.1"),
)  # fmt: skip

PROGRAM = """
import errno, json, socket, sys

def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET

listening = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
found = []
for remote, local in CASES:
    client = socket.socket(family(remote))
    try:
        if local is not None:
            client.bind((local, 0))
        client.connect((remote, PORT))
        found.append([client.getsockname()[0], client.getpeername()[0]])
    except OSError as error:
        found.append([errno.errorcode[error.errno]])
itself = socket.socket()
itself.bind(("127.0.0.1", 999))
itself.connect(("127.0.0.1", 999))
itself.sendall(b"myself")
itself.shutdown(socket.SHUT_WR)
found.append([itself.makefile().read()])
print(json.dumps(found))
"""


def ours() -> list[list[str]]:
    """What PROGRAM finds out, of a Stack."""
    stack = Stack(OWN, random=Random(1))
    now_ns = 1_000 * SECOND_NS

    def settle() -> None:
        while stack.deadline_ns == 0:
            stack.on_timer(now_ns)

    stack.listen(PORT)
    found: list[list[str]] = []
    for remote, local in CASES:
        try:
            connection = stack.connect(remote, PORT, now_ns, local=local)
        except OSError as error:
            found.append([errno.errorcode[error.errno or 0]])
            continue
        settle()
        assert connection.state == st.ESTABLISHED
        found.append([str(ip_address(packed)) for packed in connection.flow[::2]])
    itself = stack.connect("127.0.0.1", 999, now_ns, lport=999)
    settle()
    stack.send(itself, b"myself", now_ns)
    stack.shutdown(itself, now_ns)
    settle()
    assert itself.eof_received
    found.append([b"".join(stack.receive(itself, 100, now_ns)).decode()])
    return found


@pytest.mark.any_loop
async def test_connections_to_itself_lead_where_they_do_on_linux(namespace):
    done = await namespace.run("python3", "-c", f"PORT, CASES = {PORT}, {CASES!r}\n{PROGRAM}")
    assert done.returncode == 0, done.stderr
    assert dict(zip((*CASES, "itself"), ours(), strict=True)) == dict(
        zip((*CASES, "itself"), json.loads(done.stdout), strict=True)
    )


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def test_loopback_of_the_stack_is_not_the_kernels(stack, namespace):
    async with await stack.start_server(echo, "127.0.0.1", PORT):
        for address in ("127.0.0.1", "10.9.0.2"):  # the kernel's own, and the stack's
            done = await namespace.run("nc", "-z", "-w", "5", address, str(PORT))
            assert done.returncode == 1
        reader, writer = await stack.open_connection("127.0.0.1", PORT)
        text = bytes(range(256)) * 2_000
        writer.write(text)
        writer.write_eof()
        async with asyncio.timeout(20):
            assert await reader.read() == text
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await stack.open_connection("10.9.0.2", PORT)


async def test_server_on_all_addresses_has_the_stack_itself_and_the_kernel_as_clients(stack, namespace):
    async with await stack.start_server(echo, port=PORT):
        for address in ("127.0.0.1", "::1", "10.9.0.2", "fd09::2"):
            reader, writer = await stack.open_connection(address, PORT)
            assert writer.get_extra_info("sockname")[0] == address
            writer.write(b"hello")
            async with asyncio.timeout(20):
                assert await reader.readexactly(5) == b"hello"
            writer.close()
        done = await namespace.run("nc", "-N", "10.9.0.2", str(PORT), input=b"from the kernel")
        assert done.stdout == b"from the kernel"
    assert not stack.counters
