"""A file by Host.sendfile to the kernel's programs: with offload its octets go from the mapped pages into the device,
and nothing in this process may touch them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import mmap
import os
import sys

import pytest

from tcpstack.aio.transport import TcpTransport
from tcpstack.cli.http_files import Site
from tcpstack.cli.http_server import HttpServer
from tcpstack.core.segment import ACK, Segment
from tcpstack.wire.codec import FAST
from tests.aio.recorder import eventually

FILE_BYTES = 20_000_003
PORT = 9100
CURL = ("curl", "--silent", "--show-error", "--fail", "--max-time", "60")

# Reads what the stack sends: a little, then nothing until a line comes on its input, then the rest. It prints the
# octets and their digest, or how it ended.
READER = """
import hashlib, socket, sys
s = socket.create_connection(("10.9.0.2", int(sys.argv[1])), timeout=60)
digest, count = hashlib.sha256(), 0
try:
    while chunk := s.recv(1 << 20 if count else 1000):
        if not count:
            print("reading", flush=True)
            sys.stdin.readline()
        digest.update(chunk)
        count += len(chunk)
    print(count, digest.hexdigest(), flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""

with_and_without_offload = pytest.mark.parametrize(
    "namespace", [{"offload": True}, {"offload": False}], indirect=True, ids=["offload", "no offload"]
)
on_either_device = pytest.mark.parametrize(
    "namespace", [{"device": "tun", "offload": True}, {"device": "veth", "offload": True}], indirect=True
)


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(FILE_BYTES))
    return path


@pytest.fixture
def mapped(monkeypatch):
    sizes = []
    write = TcpTransport.write_shared
    monkeypatch.setattr(TcpTransport, "write_shared", lambda self, view: (sizes.append(len(view)), write(self, view)))
    return sizes


def sha256(path, offset=0, count=None):
    with path.open("rb") as file:
        file.seek(offset)
        return hashlib.sha256(file.read(-1 if count is None else count)).hexdigest()


async def file_server(stack, path, *arguments):
    """Serves one connection; the future is what sendfile came to."""
    result = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        try:
            with path.open("rb") as file:
                result.set_result(await stack.sendfile(writer.transport, file, *arguments))
        except Exception as error:
            result.set_exception(error)
        writer.close()

    await stack.start_server(serve, port=PORT)
    return result


@with_and_without_offload
@pytest.mark.parametrize("version", [4, 6])
async def test_curl_gets_a_large_file_and_parts_of_it(namespace, open_stack, big, mapped, version):
    stack = await open_stack(capturing=False)
    await stack.start_server(HttpServer(Site(str(big.parent)), sendfile=stack.sendfile), port=80)
    url = f"http://{'10.9.0.2' if version == 4 else '[fd09::2]'}/big.bin"
    got = big.parent / "got"

    result = await namespace.run(*CURL, "--output", got, url, timeout=60)
    assert result.returncode == 0, result.stderr
    assert sha256(got) == sha256(big)
    assert sum(mapped) == (FILE_BYTES if namespace.device.offload.unread else 0)

    result = await namespace.run(*CURL, "--range", "5000001-17000000", "--output", got, url, timeout=60)
    assert result.returncode == 0, result.stderr
    assert sha256(got) == sha256(big, 5_000_001, 12_000_000)


@on_either_device
async def test_socket_reads_a_mapped_file(namespace, open_stack, big, mapped):
    stack = await open_stack(capturing=False)
    sent = await file_server(stack, big, 1234)
    result = await namespace.run(sys.executable, "-c", READER, str(PORT), input=b"go\n", timeout=60)
    assert result.stdout.decode().split() == ["reading", str(FILE_BYTES - 1234), sha256(big, 1234)], result.stderr
    assert await sent == sum(mapped) == FILE_BYTES - 1234


async def test_fault_rules_and_captures_have_the_file_read(namespace, open_stack, big, mapped):
    stack = await open_stack(faults=["loss 0.5% seed=4"])
    sent = await file_server(stack, big, 0, 3_000_000)
    result = await namespace.run(sys.executable, "-c", READER, str(PORT), input=b"go\n", timeout=60)
    assert result.stdout.decode().split() == ["reading", "3000000", sha256(big, 0, 3_000_000)], result.stderr
    assert (await sent, mapped) == (3_000_000, [])


@on_either_device
async def test_file_cut_meanwhile_resets_the_connection_and_nothing_else(namespace, open_stack, big, mapped):
    stack = await open_stack(capturing=False)
    await stack.start_server(HttpServer(Site(str(big.parent))), port=80)
    (big.parent / "rest.txt").write_text("still there")
    sent = await file_server(stack, big)
    peer = await namespace.spawn(sys.executable, "-c", READER, str(PORT))
    assert await peer.stdout.readline() == b"reading\n"
    [transport] = stack._driver.users
    await eventually(lambda: transport.get_extra_info("tcpstack")["snd_wnd"] < 1460)  # the peer's window is full
    os.truncate(big, 1000)
    output, errors = await asyncio.wait_for(peer.communicate(b"go\n"), 30)
    assert output == b"reset\n", errors
    with pytest.raises(OSError, match="the file was cut") as raised:
        await sent
    assert raised.value.errno == errno.EIO
    assert mapped

    page = await namespace.run(*CURL, "http://10.9.0.2/rest.txt")
    assert page.stdout == b"still there", page.stderr


@on_either_device
def test_packet_with_the_text_of_a_cut_file_is_refused_and_the_device_goes_on(namespace, big):
    with big.open("rb") as file:
        text = memoryview(mmap.mmap(file.fileno(), 65536, access=mmap.ACCESS_READ))[32768:62768]
    os.truncate(big, 1000)
    addresses = (bytes((10, 9, 0, 2)), 9, bytes((10, 9, 0, 1)), 9)
    segment = Segment(*addresses, 1, 1, ACK, 1000, (text,), len(text), gso_size=1460)
    assert namespace.device.send(FAST.encode(segment, True), 0) is False
    segment = Segment(*addresses, 1, 1, ACK, 1000, (bytes(text.nbytes),), len(text), gso_size=1460)
    assert namespace.device.send(FAST.encode(segment, True), 0) is True
