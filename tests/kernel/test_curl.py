"""The kernel's curl against our HTTP server: pages, big files both ways, parallel, keep-alive, ranges."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from tcpstack.cli.http_files import Site
from tcpstack.cli.http_server import HttpServer

BIG_BYTES = 100 * 1024 * 1024
URLS = ("http://10.9.0.2", "http://[fd09::2]")
CURL = ("curl", "--silent", "--show-error", "--fail", "--max-time", "60")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp("www")
    (root / "small.txt").write_text("a small page\n")
    block = os.urandom(1024 * 1024)
    with open(root / "big.bin", "wb") as file:
        for index in range(BIG_BYTES // len(block)):
            file.write(index.to_bytes(4, "big") + block[4:])
    (root / "medium.bin").write_bytes(block)
    return root


@pytest.fixture(scope="module")
def big_sha256(directory):
    with open(directory / "big.bin", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def serve_files(stack, directory, port=80):
    return await stack.start_server(HttpServer(Site(str(directory))), port=port)


async def hash_uploads(reader, writer):
    """One PUT; the answer is the sha256 of the body."""
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
    length = int(headers[b"content-length"])
    digest = hashlib.sha256()
    while length:
        chunk = await reader.read(min(length, 1 << 18))
        assert chunk, "the upload ended early"
        digest.update(chunk)
        length -= len(chunk)
    answer = digest.hexdigest().encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("url", URLS)
async def test_small_page_arrives(stack, namespace, directory, url):
    await serve_files(stack, directory)
    result = await namespace.run(*CURL, "-g", f"{url}/small.txt")
    assert result.stdout == b"a small page\n", result.stderr


async def test_100_megabyte_download_is_intact(stack, namespace, directory, big_sha256):
    await serve_files(stack, directory)
    result = await namespace.run("sh", "-c", f"{' '.join(CURL)} http://10.9.0.2/big.bin | sha256sum", timeout=60)
    assert result.stdout.split()[0].decode() == big_sha256, result.stderr


async def test_100_megabyte_upload_is_intact(stack, namespace, directory, big_sha256):
    await stack.start_server(hash_uploads, port=81)
    result = await namespace.run(
        *CURL, "-H", "Expect:", "-T", directory / "big.bin", "http://10.9.0.2:81/", timeout=60
    )
    assert result.stdout.decode() == big_sha256, result.stderr


async def test_megabyte_each_way_over_ipv6_is_intact(stack, namespace, directory):
    await serve_files(stack, directory)
    await stack.start_server(hash_uploads, port=81)
    expected = hashlib.sha256((directory / "medium.bin").read_bytes()).hexdigest()
    down = await namespace.run("sh", "-c", f"{' '.join(CURL)} -g 'http://[fd09::2]/medium.bin' | sha256sum")
    up = await namespace.run(*CURL, "-g", "-H", "Expect:", "-T", directory / "medium.bin", "http://[fd09::2]:81/")
    assert down.stdout.split()[0].decode() == expected, down.stderr
    assert up.stdout.decode() == expected, up.stderr


async def test_50_parallel_downloads_are_intact(stack, namespace, directory):
    await serve_files(stack, directory)
    expected = hashlib.sha256((directory / "medium.bin").read_bytes()).hexdigest()
    results = await asyncio.gather(
        *(
            namespace.run("sh", "-c", f"{' '.join(CURL)} http://10.9.0.2/medium.bin | sha256sum", timeout=60)
            for _ in range(50)
        )
    )
    assert {result.stdout.split()[0].decode() for result in results} == {expected}


async def test_keep_alive_fetches_three_pages_over_one_connection(stack, namespace, directory):
    await serve_files(stack, directory)
    page = "http://10.9.0.2/small.txt"
    result = await namespace.run(*CURL, "-w", "%{num_connects} ", page, page, page)
    assert result.stdout == b"a small page\n1 a small page\n0 a small page\n0 "


@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("100-199", 100, 200), ("1000000-", 1000000, None), ("-7", -7, None)]
)
async def test_range_gives_the_part_asked_for(stack, namespace, directory, asked, start, stop):
    await serve_files(stack, directory)
    result = await namespace.run(*CURL, "-r", asked, "-w", "%{stderr}%{http_code}", "http://10.9.0.2/medium.bin")
    assert result.stderr == b"206"
    assert result.stdout == (directory / "medium.bin").read_bytes()[start:stop]


async def test_page_that_is_not_there_is_404(stack, namespace, directory):
    await serve_files(stack, directory)
    result = await namespace.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://10.9.0.2/nothing")
    assert result.stdout == b"404"


async def test_port_nobody_listens_on_refuses(stack, namespace):
    result = await namespace.run("curl", "-s", "--max-time", "5", "http://10.9.0.2:99/")
    assert result.returncode == 7  # "Failed to connect to host": refused at once, not after a timeout
    assert not stack.connections


@pytest.mark.parametrize("command", [("ping", "-4", "10.9.0.2"), ("ping", "-6", "fd09::2")])
async def test_ping_is_answered(stack, namespace, command):
    result = await namespace.run(*command, "-c", "3", "-i", "0.02", "-W", "2", "-s", "1000")
    assert b"3 received" in result.stdout, (result.stdout, stack.counters)
    assert stack.counters["icmp_echo"] == 3
