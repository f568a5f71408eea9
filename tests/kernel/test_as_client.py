"""The stack as the client of the kernel's listeners, of closed ports and of nobody at all."""

from __future__ import annotations

import asyncio
import errno
import sys

import pytest

import tcpstack
from tcpstack.core.config import SECOND_NS


@pytest.mark.parametrize("host", ["10.9.0.1", "fd09::1"])
async def test_page_from_the_kernels_http_server(stack, namespace, host, tmp_path):
    (tmp_path / "page.txt").write_text("from the kernel\n" * 1000)
    server = await namespace.spawn(
        sys.executable, "-m", "http.server", "--bind", host, "--directory", tmp_path, "8000"
    )
    assert b"Serving HTTP" in await server.stdout.readline()
    reader, writer = await stack.open_connection(host, 8000)
    writer.write(b"GET /page.txt HTTP/1.0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.0 200 OK")
    assert answer.endswith(b"\r\n\r\n" + b"from the kernel\n" * 1000)


@pytest.mark.parametrize("host", ["10.9.0.1", "fd09::1"])
async def test_closed_port_raises_connection_refused(stack, host):
    with pytest.raises(ConnectionRefusedError) as caught:
        await asyncio.wait_for(stack.open_connection(host, 9), 5)
    assert caught.value.errno == errno.ECONNREFUSED
    assert not stack.connections


@pytest.mark.parametrize("stack", [tcpstack.Config(syn_r2_ns=SECOND_NS // 2)], indirect=True)
async def test_address_that_never_answers_raises_timeout(stack, namespace):
    # The kernel's side drops what is for 10.9.0.77: nobody has that address, and forwarding is off.
    with pytest.raises(TimeoutError) as caught:
        await asyncio.wait_for(stack.open_connection("10.9.0.77", 80), 5)
    assert caught.value.errno == errno.ETIMEDOUT
    assert not stack.connections


@pytest.mark.parametrize(
    ("reject", "number"),
    [
        ("icmp type net-unreachable", errno.ENETUNREACH),
        ("icmp type host-unreachable", errno.EHOSTUNREACH),
        ("icmp type port-unreachable", errno.ECONNREFUSED),
        ("icmp type admin-prohibited", errno.EHOSTUNREACH),
    ],
)
async def test_icmp_unreachable_while_opening_becomes_linuxs_errno(stack, namespace, reject, number):
    if (await namespace.run("sh", "-c", "command -v nft")).returncode:
        pytest.skip("nft is missing: install the package nftables")
    rules = f"""
        table ip t {{
            chain c {{
                type filter hook input priority 0
                tcp dport 7777 reject with {reject}
            }}
        }}
    """
    loaded = await namespace.run("nft", "-f", "-", input=rules.encode())
    assert loaded.returncode == 0, loaded.stderr
    with pytest.raises(OSError) as caught:
        await asyncio.wait_for(stack.open_connection("10.9.0.1", 7777), 5)
    assert caught.value.errno == number
