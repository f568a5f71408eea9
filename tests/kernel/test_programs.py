"""The kernel tests' own tools: what they rely on, held to it."""

from __future__ import annotations

import asyncio
import os

import pytest


async def test_run_gives_status_output_and_errors_of_a_program_inside(namespace):
    result = await namespace.run("sh", "-c", "cat; ip -br addr show dev tun0; echo no >&2; exit 3", input=b"in ")

    assert result.returncode == 3
    assert result.stdout.startswith(b"in tun0")
    assert b"10.9.0.1/24" in result.stdout
    assert result.stderr == b"no\n"


async def test_run_past_its_timeout_kills_the_program_and_its_children(namespace):
    with pytest.raises(TimeoutError, match=r"took more than 0\.2 s; it wrote b'started"):
        await namespace.run("sh", "-c", "echo started; sleep 1000 & wait", timeout=0.2)


async def test_spawned_program_ends_with_the_namespace(namespace):
    process = await namespace.spawn("cat")
    process.stdin.write(b"x")
    assert await process.stdout.read(1) == b"x"

    await namespace.close()

    assert process.returncode == -9
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_program_inside_sees_no_proxy(namespace, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    result = await namespace.run("env")
    assert b"_proxy=" not in result.stdout.lower()


@pytest.mark.parametrize("namespace", [{"mtu": 1280, "txqueuelen": 7}], indirect=True)
async def test_indirect_parameter_reaches_namespace_open(namespace):
    result = await namespace.run("ip", "link", "show", "dev", "tun0")
    assert b"mtu 1280" in result.stdout
    assert b"qlen 7" in result.stdout
    assert namespace.device.mtu == 1280


async def test_packet_from_the_kernel_wakes_a_reader_on_the_tun(namespace):
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()
    loop.add_reader(namespace.device.fileno(), lambda: arrived.done() or arrived.set_result(None))
    try:
        await namespace.run("bash", "-c", "echo hello > /dev/udp/10.9.0.2/9")
        await asyncio.wait_for(arrived, 5)
    finally:
        loop.remove_reader(namespace.device.fileno())

    packets = namespace.device.receive(10, 0)
    assert any(packet.data().endswith(b"hello\n") for packet in packets)
