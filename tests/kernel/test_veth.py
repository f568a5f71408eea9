"""Where there is no TUN to be had: the kernel behind a veth pair, and `tcpstack run` without /dev/net/tun.

The other kernel tests run on it too, with TCPSTACK_DEVICE=veth in the environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

import tcpstack
from tcpstack.cli.http_files import Site
from tcpstack.cli.http_server import HttpServer
from tcpstack.cli.services import echo
from tcpstack.core.events import FaultHit
from tcpstack.device.packet_socket import PacketSocketDevice
from tcpstack.wire.packet import CHECKSUM_UNVERIFIED
from tests.ordinary_user import ENVIRONMENT, PYTHON, as_ordinary_user, needs_root

CLIENTS = Path(__file__).parent
CURL = ("curl", "--silent", "--show-error", "--fail", "--globoff", "--max-time", "20")
OURS = random.Random(1).randbytes(2_000_000)
THEIRS = random.Random(2).randbytes(2_000_000)

behind_a_veth_pair = pytest.mark.parametrize("namespace", [{"device": "veth"}], indirect=True, ids=["veth"])


async def exchange(stack, namespace, host, directory):
    """2 MB each way at the same time, intact."""
    received = asyncio.get_running_loop().create_future()

    async def answer(reader, writer):
        writer.write(OURS)
        writer.write_eof()
        received.set_result(await reader.read())
        writer.close()

    await stack.start_server(answer, port=9000)
    (directory / "theirs").write_bytes(THEIRS)
    client = (sys.executable, CLIENTS / "exchange_client.py", host, "9000", directory / "theirs")
    result = await namespace.run(*client, timeout=120)
    assert result.stdout.decode().strip() == hashlib.sha256(OURS).hexdigest(), result.stderr
    assert await asyncio.wait_for(received, 60) == THEIRS


class Spy:
    """A device as it is, and what it said of the packets that came."""

    def __init__(self, device):
        self._device = device
        self.lengths, self.checksums, self.gso_sizes = set(), set(), set()

    def __getattr__(self, name):
        return getattr(self._device, name)

    def receive(self, max_packets, now_ns):
        packets = self._device.receive(max_packets, now_ns)
        self.lengths.update(map(len, packets))
        self.checksums.update(packet.checksum for packet in packets)
        self.gso_sizes.update(packet.gso_size for packet in packets)
        return packets


@behind_a_veth_pair
@pytest.mark.parametrize("host", ["10.9.0.2", "[fd09::2]"])
async def test_curl_gets_a_page(stack, namespace, host, tmp_path):
    (tmp_path / "page.txt").write_text("a page\n")
    await stack.start_server(HttpServer(Site(str(tmp_path))), port=80)
    result = await namespace.run(*CURL, f"http://{host}/page.txt")
    assert result.stdout == b"a page\n", result.stderr
    assert isinstance(namespace.device, PacketSocketDevice)


@pytest.mark.any_loop
@behind_a_veth_pair
@pytest.mark.parametrize("rule", ["reorder 5%", "corrupt 1%"])
@pytest.mark.parametrize("host", ["10.9.0.2", "fd09::2"])
async def test_2_megabytes_each_way_arrive_intact_despite(namespace, open_stack, rule, host, tmp_path):
    events = []
    stack = await open_stack(faults=[rule], tracer=events.append)
    await exchange(stack, namespace, host, tmp_path)
    assert any(isinstance(event, FaultHit) for event in events)


@pytest.mark.parametrize("namespace", [{"device": "veth", "offload": False}], indirect=True, ids=["veth"])
async def test_what_the_kernel_sends_are_packets_of_the_wire(namespace, tmp_path):
    """Whole segments of the MTU's size and none above it, with checksums for us to verify: what faults act on."""
    spy = Spy(namespace.device)
    async with tcpstack.open_tun(device=spy, addresses=["10.9.0.2/24"]) as stack:
        await exchange(stack, namespace, "10.9.0.2", tmp_path)
        assert (spy.checksums, spy.gso_sizes) == ({CHECKSUM_UNVERIFIED}, {0})
        assert max(spy.lengths) == 1500
        assert not [name for name in stack.counters if "checksum" in name]


@behind_a_veth_pair
@pytest.mark.parametrize("command", [("ping", "-4", "10.9.0.2"), ("ping", "-6", "fd09::2")])
async def test_ping_is_answered(stack, namespace, command):
    result = await namespace.run(*command, "-c", "3", "-i", "0.02", "-W", "2", "-s", "1000")
    assert b"3 received" in result.stdout, result.stdout
    assert stack.counters["icmp_echo"] == 3


@behind_a_veth_pair
async def test_closed_port_refuses_in_both_directions(stack, namespace):
    result = await namespace.run("curl", "-s", "--max-time", "5", "http://10.9.0.2:99/")
    assert result.returncode == 7
    with pytest.raises(ConnectionRefusedError):
        await asyncio.wait_for(stack.open_connection("fd09::1", 9), 5)
    assert not stack.connections


@behind_a_veth_pair
async def test_200_connections_at_once_echo(stack, namespace):
    await stack.start_server(echo, port=7, backlog=256)
    client = (sys.executable, CLIENTS / "echo_client.py", "10.9.0.2", "7", "200", "parallel")
    result = await namespace.run(*client, timeout=60)
    assert result.stdout == b"200\n", result.stderr


@behind_a_veth_pair
async def test_pair_that_is_deleted_ends_connections_and_wait_closed_with_device_error(stack, namespace):
    ended = asyncio.get_running_loop().create_future()

    async def wait(reader, writer):
        try:
            await reader.read()
        except OSError as error:
            ended.set_result(error)

    await stack.start_server(wait, port=9000)
    await namespace.spawn("nc", "10.9.0.2", "9000")
    while not stack.connections:
        await asyncio.sleep(0.01)
    await namespace.run("ip", "link", "delete", "dev", "tun0")
    with pytest.raises(tcpstack.DeviceError, match="tun0 was deleted"):
        await asyncio.wait_for(stack.wait_closed(), 5)
    assert isinstance(await asyncio.wait_for(ended, 5), OSError)


# The command line, as an ordinary user who may not open /dev/net/tun

INSTEAD = "tcpstack: using a veth pair instead of a TUN device: this user may not open /dev/net/tun\n"


def run_as_ordinary_user(*words: str) -> subprocess.CompletedProcess[str]:
    needs_root()
    command = as_ordinary_user(PYTHON, "-P", "-m", "tcpstack", "run", *words, node_mode="0600")
    return subprocess.run(command, env=ENVIRONMENT, cwd="/", capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("url", ["http://10.9.0.2/", "http://[fd09::2]/", "http://stack/"])
def test_run_without_the_node_gets_the_page_and_says_how_in_one_line(url):
    done = run_as_ordinary_user("--", *CURL, url)
    assert (done.returncode, done.stderr) == (0, INSTEAD)
    assert "TCP in Python" in done.stdout


def test_run_without_the_node_has_what_run_has_with_it():
    script = (
        "id -u; ip -br address show dev tun0; ping -q -c 1 -W 5 stack >/dev/null && echo pong\n"
        "echo hello | nc -N 10.9.0.2 7; curl -sS http://10.9.0.2:81/"
    )
    done = run_as_ordinary_user("-v", "--fault", "drop syn nth=1", "--", "sh", "-c", script)
    uid, link, *lines = done.stdout.splitlines()
    assert (uid, lines) == ("65534", ["pong", "hello"])
    assert "10.9.0.1/24 fd09::1/64" in link
    assert done.returncode == 7  # the last curl was refused
    assert done.stderr.startswith(INSTEAD)
    assert "killed by the fault rule “drop syn nth=1”" in done.stderr


def test_run_without_the_node_takes_other_addresses_and_device_name():
    script = "ip -br address show dev lab0; curl -sS http://stack/"
    done = run_as_ordinary_user("--tun", "lab0", "--address", "192.0.2.130/28", "--", "sh", "-c", script)
    assert "192.0.2.129/28" in done.stdout
    assert "TCP in Python" in done.stdout
