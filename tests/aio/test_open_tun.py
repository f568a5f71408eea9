"""open_tun by name, in a network namespace of its own; the peer is the kernel's TCP there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tcpstack.device.namespace import Namespace

pytestmark = [pytest.mark.kernel, pytest.mark.tun]

PREAMBLE = """
    import asyncio, json, socket, subprocess, sys, uvloop
    import tcpstack
    from tcpstack.device import netlink

    async def answer(reader, writer):
        writer.write(b"hello " + await reader.readline())
        writer.close()

    async def ask(connection):
        reader, writer = await connection
        writer.write(b"world\\n")
        got = await reader.read()
        writer.close()
        return got.decode()

    def ip(*arguments):
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout

    def kernel_side(name):
        [link] = json.loads(ip("-json", "address", "show", "dev", name))
        addresses = [f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"]]
        return sorted(each for each in addresses if not each.startswith("fe80:")) + [link["mtu"]]

    def run(main):
        loop_factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else None
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            print(json.dumps(runner.run(main())))
"""


@pytest.fixture
def inside() -> Iterator[Namespace]:
    with Namespace.open(tun_name="unused0", addresses=("10.99.0.1/24",)) as namespace:
        yield namespace


async def run_inside(namespace: Namespace, program: str, loop: asyncio.AbstractEventLoop) -> Any:
    """What `program`, whose main() is run on a loop of the same kind, returns."""
    source = textwrap.dedent(PREAMBLE) + textwrap.dedent(program) + "\nrun(main)\n"
    kind = "uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio"
    process = await asyncio.create_subprocess_exec(
        *namespace.exec_prefix, sys.executable, "-W", "error", "-c", source, kind,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, errors = await asyncio.wait_for(process.communicate(), 30)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


async def test_missing_device_is_created_with_the_kernel_at_the_first_free_address(inside: Namespace) -> None:
    shown = await run_inside(
        inside,
        """
        async def main():
            async with tcpstack.open_tun("tun0", "10.9.0.2/24", "fd09::2/64") as stack:
                server = await stack.start_server(answer, port=80)
                kernel_server = await asyncio.start_server(answer, "10.9.0.1", 8000)
                shown = [
                    kernel_side("tun0"),
                    await ask(asyncio.open_connection("10.9.0.2", 80)),
                    await ask(asyncio.open_connection("fd09::2", 80)),
                    await ask(stack.open_connection("10.9.0.1", 8000)),
                ]
                kernel_server.close()
            return shown + ["tun0" in ip("link")]
        """,
        asyncio.get_running_loop(),
    )
    assert shown == [["10.9.0.1/24", "fd09::1/64", 1500], *["hello world\n"] * 3, False]


async def test_device_that_is_up_in_the_subnet_is_left_as_it_is(inside: Namespace) -> None:
    shown = await run_inside(
        inside,
        """
        async def main():
            ip("tuntap", "add", "tun7", "mode", "tun")
            ip("address", "add", "10.7.0.254/24", "dev", "tun7")
            ip("link", "set", "tun7", "mtu", "1400", "up")
            before = kernel_side("tun7")
            netlink.configure = None  # whoever calls it fails: a user without privilege would, too
            async with tcpstack.open_tun("tun7", "10.7.0.2/24") as stack:
                server = await stack.start_server(answer, port=80)
                return [before == kernel_side("tun7"), stack.device.mtu,
                        await ask(asyncio.open_connection("10.7.0.2", 80))]
        """,
        asyncio.get_running_loop(),
    )
    assert shown == [True, 1400, "hello world\n"]


async def test_device_that_is_down_or_lacks_a_subnet_is_completed(inside: Namespace) -> None:
    shown = await run_inside(
        inside,
        """
        async def main():
            ip("tuntap", "add", "tun7", "mode", "tun")
            ip("address", "add", "10.7.0.254/24", "dev", "tun7")
            async with tcpstack.open_tun("tun7", "10.7.0.2/24", "fd07::2/64", mtu=1300) as stack:
                server = await stack.start_server(answer, port=80)
                return [kernel_side("tun7"), await ask(asyncio.open_connection("fd07::2", 80)), stack.device.mtu]
        """,
        asyncio.get_running_loop(),
    )
    assert shown == [["10.7.0.254/24", "fd07::1/64", 1300], "hello world\n", 1300]


async def test_device_that_is_down_with_its_address_is_brought_up(inside: Namespace) -> None:
    shown = await run_inside(
        inside,
        """
        async def main():
            ip("tuntap", "add", "tun7", "mode", "tun")
            ip("address", "add", "10.7.0.254/24", "dev", "tun7")
            async with tcpstack.open_tun("tun7", "10.7.0.2/24") as stack:
                server = await stack.start_server(answer, port=80)
                return [kernel_side("tun7"), await ask(asyncio.open_connection("10.7.0.2", 80))]
        """,
        asyncio.get_running_loop(),
    )
    assert shown == [["10.7.0.254/24", 1500], "hello world\n"]


async def test_address_of_the_kernel_itself_is_refused(inside: Namespace) -> None:
    shown = await run_inside(
        inside,
        """
        async def main():
            ip("tuntap", "add", "tun7", "mode", "tun")
            ip("address", "add", "10.7.0.2/24", "dev", "tun7")
            try:
                async with tcpstack.open_tun("tun7", "10.7.0.2/24"):
                    return "opened"
            except ValueError as error:
                return str(error)
        """,
        asyncio.get_running_loop(),
    )
    assert shown == "10.7.0.2 is the kernel's own address there: the stack needs another one"


async def test_device_that_is_deleted_ends_connections_and_wait_closed_with_device_error(inside: Namespace) -> None:
    shown = await run_inside(
        inside,
        """
        async def main():
            async with tcpstack.open_tun("tun0", "10.9.0.2/24") as stack:
                kernel_server = socket.create_server(("10.9.0.1", 8000))
                reader, writer = await stack.open_connection("10.9.0.1", 8000)
                ip("link", "delete", "tun0")
                errors = []
                for waiting in (stack.wait_closed(), reader.read()):
                    try:
                        await asyncio.wait_for(waiting, 5)
                    except tcpstack.DeviceError as error:
                        errors.append(str(error))
                kernel_server.close()
                return errors
        """,
        asyncio.get_running_loop(),
    )
    assert len(shown) == 2
    assert all("tun0 was deleted" in error for error in shown)


async def test_descriptor_that_is_handed_in_is_used_as_it_is(inside: Namespace) -> None:
    shown = await run_inside(
        inside,
        """
        async def main():
            import os, pytun
            tun = pytun.TunTapDevice("tun5", pytun.IFF_TUN | pytun.IFF_NO_PI)
            ip("address", "add", "10.5.0.1/24", "dev", "tun5")
            ip("link", "set", "tun5", "up")
            fd = os.dup(tun.fileno())
            tun.close()
            async with tcpstack.open_tun(None, "10.5.0.2/24", fd=fd) as stack:
                server = await stack.start_server(answer, port=80)
                return [stack.device.name, await ask(asyncio.open_connection("10.5.0.2", 80))]
        """,
        asyncio.get_running_loop(),
    )
    assert shown == ["tun5", "hello world\n"]
