"""The HTTP file server as a plain stream program over the machine's loopback: what it serves, and how."""

from __future__ import annotations

import asyncio
import os
from email.utils import formatdate

from tcpstack.cli.http_files import Site
from tcpstack.cli.welcome import WELCOME_PAGE
from tests.cli.http_client import BIG, MODIFIED_S, Served


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


async def test_no_directory_shows_the_welcome_page(served: Served) -> None:
    served.server.site = Site()
    client = await served.client()
    page = await client.ask("/")
    assert (page.status, page.body) == (200, WELCOME_PAGE)
    assert (await client.ask("/index.html")).body == WELCOME_PAGE
    assert (await client.ask("/small.txt")).status == 404
    assert (await client.ask("/", extra=f"If-None-Match: {page.headers['etag']}\r\n")).status == 304
    assert (await client.ask("/", extra="Range: bytes=0-14\r\n")).body == b"<!doctype html>"
