"""The same transfers with superpackets and without: the same octets arrive, and both ends come to the same end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from tcpstack.core.events import ConnectionClosed, Event, FaultHit, SegmentIn, SegmentOut, StateChange
from tcpstack.core.state import STATE_NAMES
from tests.kernel.doctors import PROJECT

OURS = random.Random(1).randbytes(3_000_000)
THEIRS = random.Random(2).randbytes(3_000_001)  # no whole number of segments
LOSS = ("loss 1% seed=1",)
PORT = 9000

# Speaks and hears over one socket, in the order that its third argument says: "speak" sends the file and then FIN,
# "hear" reads up to the FIN, "both" does both at once. It prints a digest of what it heard, and the state of its end.
PEER = """
import hashlib, socket, sys, threading
host, file, order = sys.argv[1:]
text = open(file, "rb").read()
if host == "listen":
    listening = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
    print("listening", flush=True)
    s, _ = listening.accept()
else:
    s = socket.create_connection((host, 9000), timeout=60)
digest = hashlib.sha256()

def speak():
    s.sendall(text)
    s.shutdown(socket.SHUT_WR)

def hear():
    while chunk := s.recv(1 << 20):
        digest.update(chunk)

if order == "both":
    thread = threading.Thread(target=speak)
    thread.start()
    hear()
    thread.join()
else:
    for each in order.split(","):
        {"speak": speak, "hear": hear}[each]()
print(digest.hexdigest(), flush=True)
s.close()
"""

HEARD_OURS = hashlib.sha256(OURS).hexdigest().encode() + b"\n"

with_and_without_offload = pytest.mark.parametrize(
    "namespace", [{"offload": True}, {"offload": False}], indirect=True, ids=["offload", "no offload"]
)
of_each_version = pytest.mark.parametrize("version", [4, 6])
with_and_without_loss = pytest.mark.parametrize("faults", [(), LOSS], ids=["no loss", "loss"])


class Trace:
    """What happened to the one connection of a test."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.hits: Counter[str] = Counter()
        self.closed: ConnectionClosed | None = None
        self.largest = {SegmentIn: 0, SegmentOut: 0}
        self.superpackets = {SegmentIn: 0, SegmentOut: 0}

    def __call__(self, event: Event) -> None:
        if isinstance(event, SegmentIn | SegmentOut):
            kind = type(event)
            self.largest[kind] = max(self.largest[kind], event.segment.payload_len)
            self.superpackets[kind] += event.segment.gso_size > 0
        elif isinstance(event, StateChange):
            self.states.append(STATE_NAMES[event.after])
        elif isinstance(event, FaultHit):
            self.hits[event.direction] += 1
        elif isinstance(event, ConnectionClosed):
            self.closed = event

    async def until(self, state: str) -> None:
        async with asyncio.timeout(30):
            while not self.states or self.states[-1] != state:
                await asyncio.sleep(0.01)

    def check_packets(self, namespace, faults, *, spoke: bool, heard: bool) -> None:
        """Superpackets crossed in the directions in which much was said, where they could; else none did."""
        offload = namespace.device.offload.checksum
        assert bool(self.superpackets[SegmentOut]) == (offload and spoke)
        # Fault rules divide what arrives before we see it.
        assert bool(self.superpackets[SegmentIn]) == (offload and heard and not faults)
        for kind, count in self.superpackets.items():
            assert (self.largest[kind] > 1460) == (count > 0)
        assert bool(self.hits) == bool(faults)


def host(version: int) -> str:
    return "10.9.0.2" if version == 4 else "fd09::2"


async def kernels_sockets(namespace) -> Counter[str]:
    """How many connections of the kernel's are in which state, by the name that ss has for it."""
    listed = await namespace.run("ss", "-Htan", f"( sport = :{PORT} or dport = :{PORT} )")
    return Counter(line.split()[0] for line in listed.stdout.decode().splitlines())


async def until_kernels_sockets(namespace, expected: dict[str, int]) -> None:
    until = time.monotonic() + 30
    while (found := await kernels_sockets(namespace)) != expected:
        assert time.monotonic() < until, found
        await asyncio.sleep(0.05)


@pytest.fixture
async def lasting_time_wait(namespace):
    """Where the FIN is probed for because the machine is busy, a second ACK finds us CLOSED and earns a RST, which by
    default ends the kernel's TIME-WAIT (RFC 1337)."""
    done = await namespace.run("sysctl", "-qw", "net.ipv4.tcp_rfc1337=1")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def theirs(tmp_path):
    """The file that the kernel's program is to send."""
    path = tmp_path / "theirs"
    path.write_bytes(THEIRS)
    return path


def served(stack, talk):
    """Serve one connection by `talk(reader, writer)`; its result, to be awaited."""
    result = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        try:
            result.set_result(await talk(reader, writer))
        except Exception as error:
            result.set_exception(error)

    return stack.start_server(serve, port=PORT), result


@pytest.mark.any_loop
@with_and_without_offload
@of_each_version
@with_and_without_loss
@pytest.mark.usefixtures("lasting_time_wait")
async def test_kernel_sends_and_half_closes_and_we_answer(namespace, open_stack, theirs, version, faults):
    trace = Trace()
    stack = await open_stack(faults=faults, tracer=trace)

    async def talk(reader, writer):
        text = await reader.read()
        writer.write(b"enough")
        writer.close()
        return text

    starting, heard = served(stack, talk)
    await starting
    result = await namespace.run(sys.executable, "-c", PEER, host(version), theirs, "speak,hear", timeout=60)

    assert await asyncio.wait_for(heard, 30) == THEIRS
    assert result.stdout.decode() == hashlib.sha256(b"enough").hexdigest() + "\n", result.stderr
    await trace.until("CLOSED")
    assert trace.states == ["SYN-RECEIVED", "ESTABLISHED", "CLOSE-WAIT", "LAST-ACK", "CLOSED"]
    await until_kernels_sockets(namespace, {"TIME-WAIT": 1})
    assert (trace.closed.bytes_in, trace.closed.bytes_out, trace.closed.error) == (len(THEIRS), 6, None)
    trace.check_packets(namespace, faults, spoke=False, heard=True)
    assert not [name for name in stack.counters if "checksum" in name]


@pytest.mark.any_loop
@with_and_without_offload
@of_each_version
@with_and_without_loss
async def test_we_send_and_half_close_and_the_kernel_answers(namespace, open_stack, theirs, version, faults):
    trace = Trace()
    stack = await open_stack(faults=faults, tracer=trace)

    async def talk(reader, writer):
        writer.write(OURS)
        writer.write_eof()
        text = await reader.read()
        writer.close()
        return text

    theirs.write_bytes(b"thanks")
    starting, heard = served(stack, talk)
    await starting
    result = await namespace.run(sys.executable, "-c", PEER, host(version), theirs, "hear,speak", timeout=60)

    assert result.stdout == HEARD_OURS, result.stderr
    assert await asyncio.wait_for(heard, 30) == b"thanks"
    await trace.until("TIME-WAIT")
    assert trace.states == ["SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"]
    await until_kernels_sockets(namespace, {})
    trace.check_packets(namespace, faults, spoke=True, heard=False)
    assert not [name for name in stack.counters if "checksum" in name]


@pytest.mark.any_loop
@with_and_without_offload
@of_each_version
@with_and_without_loss
@pytest.mark.usefixtures("lasting_time_wait")
async def test_both_send_at_once_over_a_connection_of_ours(namespace, open_stack, theirs, version, faults):
    trace = Trace()
    stack = await open_stack(faults=faults, tracer=trace)
    server = await namespace.spawn(sys.executable, "-c", PEER, "listen", theirs, "both")
    assert await server.stdout.readline() == b"listening\n"

    reader, writer = await stack.open_connection("10.9.0.1" if version == 4 else "fd09::1", PORT)
    writer.write(OURS)
    async with asyncio.timeout(60):
        assert await reader.read() == THEIRS
        assert trace.states == ["SYN-SENT", "ESTABLISHED", "CLOSE-WAIT"]
        writer.write_eof()
        output, errors = await server.communicate()

    assert output == HEARD_OURS, errors
    writer.close()
    await trace.until("CLOSED")
    assert trace.states == ["SYN-SENT", "ESTABLISHED", "CLOSE-WAIT", "LAST-ACK", "CLOSED"]
    await until_kernels_sockets(namespace, {"TIME-WAIT": 1})
    assert (trace.closed.bytes_in, trace.closed.bytes_out, trace.closed.error) == (len(THEIRS), len(OURS), None)
    trace.check_packets(namespace, faults, spoke=True, heard=True)
    assert not [name for name in stack.counters if "checksum" in name]


def test_environment_variable_that_says_something_else_is_one_sentence():
    command = (sys.executable, "-P", "-m", "tcpstack", "run", "--", "true")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TCPSTACK_OFFLOAD": "perhaps"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    said = "tcpstack: TCPSTACK_OFFLOAD can be on or off, not 'perhaps'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
