"""The HTTP file server as a plain stream program over the machine's loopback: raw octets in, h11 to read."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple

import h11
import pytest
import pytest_asyncio

from tcpstack.cli.http_files import Site
from tcpstack.cli.http_server import HEAD_BYTES, HttpServer
from tcpstack.cli.welcome import WELCOME_PAGE

BIG = bytes(range(256)) * 4096 * 3  # 3 MB
MODIFIED_S = 1_700_000_000


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A raw connection to the server under test, with h11 to read the responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.leftover = b""

    async def response(self, method: str = "GET") -> Response:
        """The next response on the connection; what follows it stays for the next call."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        if self.leftover:
            parser.receive_data(self.leftover)
        head: h11.Response | None = None
        body = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await asyncio.wait_for(self.reader.read(65536), 5))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        self.leftover = parser.trailing_data[0]
        assert head is not None
        return Response(head.status_code, {n.decode(): v.decode() for n, v in head.headers}, body)

    async def ask(self, target: str = "/", method: str = "GET", extra: str = "") -> Response:
        self.writer.write(f"{method} {target} HTTP/1.1\r\nHost: stack\r\n{extra}\r\n".encode("latin-1"))
        return await self.response(method)

    async def at_end(self) -> bool:
        """The server has ended its half."""
        return self.leftover == b"" and await asyncio.wait_for(self.reader.read(1), 5) == b""


class Served:
    """The server under test: its directory, its access lines, and clients for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.handlers: asyncio.Queue[BaseException | None] = asyncio.Queue()
        self.tasks: list[asyncio.Task[None]] = []
        self.port = 0
        self.clients: list[Client] = []
        self.server = HttpServer(Site(str(root)), on_access=self.lines.append, linger_s=0.5)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            await self.server(reader, writer)
        except BaseException as error:
            self.handlers.put_nowait(error)
        else:
            self.handlers.put_nowait(None)

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, target: str = "/", method: str = "GET", extra: str = "") -> Response:
        return await (await self.client()).ask(target, method, extra)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "small.txt").write_text("hello\n")
    (root / "big.bin").write_bytes(BIG)
    (root / "empty.txt").write_bytes(b"")
    (root / "archive.tar.gz").write_bytes(b"\x1f\x8b")
    (root / "site").mkdir()
    (root / "site" / "index.html").write_text("<p>index")
    (root / "plain").mkdir()
    (root / "plain" / "a <b>&c.txt").write_text("x")
    (root / "plain" / "x:y").write_text("colon")
    (root / "plain" / "sub").mkdir()
    os.utime(root / "small.txt", (MODIFIED_S, MODIFIED_S))
    served = Served(root)
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    yield served
    server.close()
    for client in served.clients:
        client.writer.close()
    await asyncio.wait_for(asyncio.gather(*served.tasks), 5)
    await server.wait_closed()


async def test_get_file_sends_it_with_its_headers(served: Served) -> None:
    answer = await served.ask("/small.txt")
    assert answer.status == 200
    assert answer.body == b"hello\n"
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "6"
    assert answer.headers["last-modified"] == formatdate(MODIFIED_S, usegmt=True)
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["server"] == "tcpstack"
    assert answer.headers["date"].endswith("GMT")
    assert answer.headers["accept-ranges"] == "bytes"
    assert "connection" not in answer.headers


async def test_get_large_file_arrives_whole(served: Served) -> None:
    assert (await served.ask("/big.bin")).body == BIG


async def test_get_empty_file(served: Served) -> None:
    answer = await served.ask("/empty.txt")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


async def test_get_query_and_absolute_form_name_the_same_file(served: Served) -> None:
    for target in (
        "/small.txt?x=1", "http://stack/small.txt", "/%73mall.txt", "/site/../small.txt", "//small.txt",
    ):  # fmt: skip
        assert (await served.ask(target)).body == b"hello\n", target


async def test_get_compressed_archive_is_not_an_encoded_tar(served: Served) -> None:
    answer = await served.ask("/archive.tar.gz")
    assert answer.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in answer.headers


async def test_head_sends_no_body(served: Served) -> None:
    client = await served.client()
    answer = await client.ask("/big.bin", "HEAD", "Range: bytes=0-9\r\n")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(len(BIG)))
    missing = await client.ask("/none", "HEAD")
    assert (missing.status, missing.body) == (404, b"")
    assert (await client.ask("/small.txt")).body == b"hello\n"


async def test_keep_alive_serves_request_after_request(served: Served) -> None:
    client = await served.client()
    for _ in range(3):
        assert (await client.ask("/small.txt")).status == 200
        assert (await client.ask("/none")).status == 404
    assert len(served.lines) == 6
    assert served.lines[0].endswith('"GET /small.txt HTTP/1.1" 200 6')


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    client = await served.client()
    ask = "GET {} HTTP/1.1\r\nHost: stack\r\n\r\n"
    client.writer.write("".join(map(ask.format, ("/small.txt", "/big.bin", "/none", "/empty.txt"))).encode())
    assert (await client.response()).body == b"hello\n"
    assert (await client.response()).body == BIG
    assert (await client.response()).status == 404
    assert (await client.response()).headers["content-length"] == "0"


async def test_request_octet_by_octet_is_answered(served: Served) -> None:
    client = await served.client()
    for octet in b"GET /small.txt HTTP/1.1\r\nHost: stack\r\n\r\n":
        client.writer.write(bytes([octet]))
        await asyncio.sleep(0)
    assert (await client.response()).body == b"hello\n"


async def test_connection_close_server_closes_first(served: Served) -> None:
    client = await served.client()
    answer = await client.ask("/small.txt", extra="Connection: close\r\n")
    assert answer.headers["connection"] == "close"
    assert await client.at_end()
    client.writer.close()
    assert await asyncio.wait_for(served.handlers.get(), 5) is None


async def test_http_1_0_request_is_answered_and_closed(served: Served) -> None:
    client = await served.client()
    client.writer.write(b"GET /small.txt HTTP/1.0\r\n\r\n")
    answer = await client.response()
    assert (answer.status, answer.body) == (200, b"hello\n")
    assert await client.at_end()


async def test_client_half_closes_after_request_still_gets_the_response(served: Served) -> None:
    client = await served.client()
    client.writer.write(b"GET /big.bin HTTP/1.1\r\nHost: stack\r\n\r\n")
    client.writer.write_eof()
    assert (await client.response()).body == BIG
    assert await client.at_end()


async def test_range_sends_part(served: Served) -> None:
    client = await served.client()
    answer = await client.ask("/big.bin", extra="Range: bytes=1000000-1999999\r\n")
    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes 1000000-1999999/{len(BIG)}"
    assert answer.body == BIG[1_000_000:2_000_000]
    assert (await client.ask("/big.bin", extra="Range: bytes=-7\r\n")).body == BIG[-7:]
    assert (await client.ask("/small.txt", extra="Range: bytes=2-\r\n")).body == b"llo\n"


async def test_range_several_sends_whole(served: Served) -> None:
    answer = await served.ask("/small.txt", extra="Range: bytes=0-0,2-2\r\n")
    assert (answer.status, answer.body) == (200, b"hello\n")


async def test_range_behind_the_end_is_416_and_connection_goes_on(served: Served) -> None:
    client = await served.client()
    answer = await client.ask("/small.txt", extra="Range: bytes=6-\r\n")
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */6")
    assert (await client.ask("/small.txt")).status == 200


async def test_if_range_other_version_sends_whole(served: Served) -> None:
    answer = await served.ask("/small.txt", extra='Range: bytes=0-1\r\nIf-Range: "other"\r\n')
    assert (answer.status, answer.body) == (200, b"hello\n")


async def test_unchanged_document_is_304(served: Served) -> None:
    client = await served.client()
    first = await client.ask("/small.txt")
    for extra in (
        f"If-None-Match: {first.headers['etag']}\r\n",
        f"If-Modified-Since: {first.headers['last-modified']}\r\n",
    ):
        again = await client.ask("/small.txt", extra=extra)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    (served.root / "small.txt").write_text("newer\n")
    assert (await client.ask("/small.txt", extra=extra)).body == b"newer\n"


async def test_directory_index_is_sent(served: Served) -> None:
    answer = await served.ask("/site/")
    assert (answer.body, answer.headers["content-type"]) == (b"<p>index", "text/html")


async def test_directory_without_slash_is_redirected_to_this_host(served: Served) -> None:
    for target in ("/site?x=1", "//site?x=1", "http://stack/site?x=1", "/plain/../site?x=1"):
        answer = await served.ask(target)
        assert (answer.status, answer.headers["location"]) == (301, "/site/?x=1")


async def test_directory_listing_escapes_names(served: Served) -> None:
    client = await served.client()
    page = (await client.ask("/plain/")).body.decode()
    assert "a &lt;b&gt;&amp;c.txt" in page
    assert "<b>" not in page
    assert 'href="x%3Ay"' in page
    assert 'href="sub/"' in page
    assert page.index("sub/") < page.index("a%20%3Cb%3E%26c.txt")
    assert (await client.ask("/plain/a%20%3Cb%3E%26c.txt")).body == b"x"
    root = (await client.ask("/")).body.decode()
    assert "../" not in root


async def test_listing_shows_names_that_are_not_utf8(served: Served) -> None:
    with open(os.fsencode(served.root / "plain") + b"/\xff.txt", "wb") as file:
        file.write(b"octets")
    client = await served.client()
    assert b'href="%FF.txt"' in (await client.ask("/plain/")).body
    assert (await client.ask("/plain/%FF.txt")).body == b"octets"


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


async def test_no_directory_shows_the_welcome_page(served: Served) -> None:
    served.server.site = Site()
    client = await served.client()
    page = await client.ask("/")
    assert (page.status, page.body) == (200, WELCOME_PAGE)
    assert (await client.ask("/index.html")).body == WELCOME_PAGE
    assert (await client.ask("/small.txt")).status == 404
    assert (await client.ask("/", extra=f"If-None-Match: {page.headers['etag']}\r\n")).status == 304
    assert (await client.ask("/", extra="Range: bytes=0-14\r\n")).body == b"<!doctype html>"


async def test_no_descriptor_is_left_open(served: Served) -> None:
    client = await served.client()
    await client.ask("/small.txt")
    before = len(os.listdir("/proc/self/fd"))
    etag = (await client.ask("/small.txt")).headers["etag"]
    for extra in (f"If-None-Match: {etag}\r\n", "Range: bytes=99-\r\n", ""):
        for method in ("GET", "HEAD"):
            await client.ask("/small.txt", method, extra)
    assert len(os.listdir("/proc/self/fd")) == before
