"""The HTTP file server with clients that ask for what is not there, break the rules, stop, or go away."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time

import pytest

from tcpstack.cli.http_server import HEAD_BYTES
from tests.cli.http_client import Served


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../secret.txt", 400),
        ("/site/../../secret.txt", 400),
        ("/%2e%2e/secret.txt", 400),
        ("/..%2fsecret.txt", 404),
        ("/site%2findex.html", 404),
        ("/small.txt/", 404),
        ("/small.txt/x", 404),
        ("/%00", 404),
        ("/" + "a" * 300, 404),
        ("small.txt", 400),
        ("*", 400),
        ("ftp://stack/small.txt", 400),
        ("http://[/small.txt", 400),
    ],
)
async def test_target_outside_or_absent_is_refused(served: Served, target: str, status: int) -> None:
    client = await served.client()
    answer = await client.ask(target)
    assert answer.status == status
    assert b"secret" not in answer.body
    assert (await client.ask("/small.txt")).status == 200  # the connection goes on


async def test_fifo_is_no_document_and_does_not_block(served: Served) -> None:
    os.mkfifo(served.root / "fifo")
    assert (await served.ask("/fifo")).status == 404


async def test_unreadable_file_is_403(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert (await served.ask("/small.txt")).status == 403


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_other_method_is_405_and_body_is_skipped(served: Served, method: str) -> None:
    client = await served.client()
    answer = await client.ask("/small.txt", method, "Content-Length: 0\r\n")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    body = b"GET /none HTTP/1.1\r\n"
    head = f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    client.writer.write(head.encode() + body)
    assert (await client.response()).status == 405
    client.writer.write(f"{method} / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.writer.write(b"3\r\nabc\r\n0\r\n\r\n")
    assert (await client.response()).status == 405
    assert (await client.ask("/small.txt")).body == b"hello\n"


async def test_unknown_method_is_501(served: Served) -> None:
    assert (await served.ask("/", "BREW")).status == 501


async def test_large_upload_gets_its_answer_before_the_close(served: Served) -> None:
    """The response is not overtaken by an RST, though the body was not read."""
    client = await served.client()
    client.writer.write(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n" + bytes(5_000_000))
    answer = await client.response()
    assert (answer.status, answer.headers["connection"]) == (405, "close")
    assert await client.at_end()


async def test_expect_continue_upload_is_refused_at_once(served: Served) -> None:
    answer = await served.ask("/x", "POST", "Content-Length: 5\r\nExpect: 100-continue\r\n")
    assert (answer.status, answer.headers["connection"]) == (405, "close")


async def test_get_with_large_body_is_413(served: Served) -> None:
    client = await served.client()
    answer = await client.ask("/small.txt", extra="Content-Length: 2000000\r\n")
    assert answer.status == 413
    assert await client.at_end()


async def test_get_with_endless_chunked_body_is_413(served: Served) -> None:
    client = await served.client()
    client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        client.writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
    assert (await client.response()).status == 413


@pytest.mark.parametrize(
    ("request_octets", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 400),  # then end of file
    ],
)
async def test_bad_request_is_answered_and_closed(served: Served, request_octets: bytes, status: int) -> None:
    client = await served.client()
    client.writer.write(request_octets)
    if status == 400:
        client.writer.write_eof()
    assert (await client.response()).status == status
    assert await client.at_end()


async def test_client_resets_amid_download_ends_quietly(served: Served) -> None:
    sock = socket.create_connection(("127.0.0.1", served.port))
    sock.sendall(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    await loop.sock_recv(sock, 100)
    sock.close()
    assert await asyncio.wait_for(served.handlers.get(), 5) is None


async def test_client_that_stops_reading_holds_the_server_back(served: Served) -> None:
    """Memory stays bounded: the file is read no faster than the client takes it."""
    sparse = served.root / "sparse.bin"
    with open(sparse, "wb") as file:
        file.truncate(1 << 30)
    client = await served.client()
    client.writer.write(b"GET /sparse.bin HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.3)  # time in which an unbounded server would have read on
    assert served.lines == []
    client.writer.transport.abort()
    await asyncio.wait_for(served.handlers.get(), 5)
    sent = int(served.lines[0].rsplit(" ", 1)[1])
    assert sent < 64 << 20


async def test_file_shrinks_while_sent_connection_is_aborted(served: Served) -> None:
    """The client gets less than was announced and sees the end (on this project's own TCP: a reset)."""
    path = served.root / "shrinking.bin"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    client = await served.client()
    client.writer.write(b"GET /shrinking.bin HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.reader.readexactly(100)
    os.truncate(path, 1 << 20)
    assert len(await asyncio.wait_for(client.reader.read(-1), 5)) < 64 << 20
    assert client.reader.at_eof()
    assert await asyncio.wait_for(served.handlers.get(), 5) is None


async def test_idle_connection_is_closed_without_a_word(served: Served) -> None:
    served.server.keep_alive_s = 0.1
    client = await served.client()
    await client.ask("/small.txt")
    started = time.monotonic()
    assert await client.at_end()
    assert 0.05 < time.monotonic() - started < 3
    assert len(served.lines) == 1


async def test_request_that_stops_half_way_is_408(served: Served) -> None:
    served.server.request_s = 0.1
    for octets in (b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"):
        client = await served.client()
        client.writer.write(octets)
        assert (await client.response()).status == 408
        assert await client.at_end()


async def test_client_that_does_not_close_after_us_is_closed_in_the_end(served: Served) -> None:
    served.server.linger_s = 0.1
    client = await served.client()
    await client.ask("/small.txt", extra="Connection: close\r\n")
    assert await asyncio.wait_for(served.handlers.get(), 5) is None


async def test_cancelled_handler_ends_the_connection(served: Served) -> None:
    client = await served.client()
    await client.ask("/small.txt")
    served.tasks[0].cancel()
    assert isinstance(await asyncio.wait_for(served.handlers.get(), 5), asyncio.CancelledError)
    assert await client.at_end()


async def test_no_descriptor_is_left_open(served: Served) -> None:
    client = await served.client()
    await client.ask("/small.txt")
    before = len(os.listdir("/proc/self/fd"))
    etag = (await client.ask("/small.txt")).headers["etag"]
    for extra in (f"If-None-Match: {etag}\r\n", "Range: bytes=99-\r\n", ""):
        for method in ("GET", "HEAD"):
            await client.ask("/small.txt", method, extra)
    assert len(os.listdir("/proc/self/fd")) == before
