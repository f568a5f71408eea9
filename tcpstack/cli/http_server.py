"""An HTTP/1.1 file server on asyncio streams: h11 does the syntax (RFC 9112), this file the semantics.

`HttpServer` is an `asyncio.start_server` callback and knows nothing of this project's TCP; but where it is given a
`sendfile`, large documents go out by that. A conversation is a loop of exchanges. Each reads one request with its body,
sends one response, and says whether another may follow; pipelined requests wait in h11's buffer meanwhile. When it may
not, the server closes first: it ends its half, and reads on for a moment, since closing over unread data would turn the
FIN into an RST that can overtake the response (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from io import BytesIO
from typing import BinaryIO, NoReturn

import h11

from ..aio.transport import TcpTransport
from .http_conditions import Unsatisfiable, not_modified, selected_range
from .http_files import Document, Refused, Site, error_page

READ_BYTES = 64 * 1024
CHUNK_BYTES = 256 * 1024
"""What is read of a file at a time: short for the loop's other connections, long for throughput. What is no longer than
this is not worth a sendfile."""
HEAD_BYTES = 32 * 1024
"""The longest request head, request line included; a longer one gets 431."""
BODY_BYTES = 1024 * 1024
"""The longest request body that is read and thrown away. The server takes no uploads: a longer one ends the
connection."""
SERVER = "tcpstack"
SendFile = Callable[[asyncio.WriteTransport, BinaryIO, int, int], Awaitable[int]]
"""As Host.sendfile: the transport, the file, where in it to start, how many octets; returns how many it sent."""
ALLOW = "GET, HEAD"


@dataclass(slots=True)
class _Answer:
    """A response: `length` octets of `content` from where it stands; headers besides the usual ones."""

    status: int
    headers: list[tuple[str, str]]
    content: BinaryIO
    length: int


class _Octets:
    """Stands for so many octets that somebody else sends."""

    __slots__ = ("_length",)

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


class HttpServer:
    """Serves the documents of `site`. Times in seconds: `keep_alive_s` a connection may be idle between
    requests, `request_s` a request may take to arrive, `linger_s` a client has to close after we did.
    `on_access` gets one line for each response. `sendfile` sends the large ones."""

    def __init__(
        self,
        site: Site,
        *,
        on_access: Callable[[str], None] | None = None,
        keep_alive_s: float = 60.0,
        request_s: float = 30.0,
        linger_s: float = 2.0,
        sendfile: SendFile | None = None,
    ) -> None:
        self.site = site
        self.on_access = on_access
        self.keep_alive_s = keep_alive_s
        self.request_s = request_s
        self.linger_s = linger_s
        self.sendfile = sendfile

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, from its first request to its close. Raises nothing but CancelledError."""
        try:
            conversation = _Conversation(self, reader, writer)
            while await conversation.exchange():
                pass
            await conversation.close_first()
        except OSError:
            pass  # the peer is gone
        finally:
            writer.close()


class _Conversation:
    """The exchanges of one connection."""

    __slots__ = ("h11", "reader", "server", "writer")

    def __init__(self, server: HttpServer, reader: StreamReader, writer: StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)

    async def exchange(self) -> bool:
        """One request and its response; True when another request may follow on this connection."""
        request: h11.Request | None = None
        complete = False
        try:
            request = await self._request()
            if request is None:
                return False
            complete = await self._body_thrown_away(request)
            answer = _respond(self.server.site, request, complete)
        except h11.RemoteProtocolError as error:
            # h11 says "peer unexpectedly closed connection" with status 400 too: it may still be listening.
            answer = _refusal(Refused(error.error_status_hint or 400, "This is not a request in HTTP/1.1."))
        except Refused as refused:
            answer = _refusal(refused)
        await self._send(request, answer, close=not complete)
        if self.h11.our_state is h11.DONE and self.h11.their_state is h11.DONE:
            self.h11.start_next_cycle()
            return True
        return False

    async def _request(self) -> h11.Request | None:
        """The next request's head; None when the client has closed, or stayed idle for too long."""
        loop = asyncio.get_running_loop()
        begun = bool(self.h11.trailing_data[0])
        deadline = loop.time() + (self.server.request_s if begun else self.server.keep_alive_s)
        while True:
            event = self.h11.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            if not await self._receive(deadline):
                if not begun:
                    return None
                raise Refused(408, "The request took too long to arrive.")
            if not begun:
                begun = True
                deadline = loop.time() + self.server.request_s

    async def _body_thrown_away(self, request: h11.Request) -> bool:
        """Read past the request's body; False where it is too long for that, or waits for our leave."""
        if self.h11.they_are_waiting_for_100_continue:
            return False
        length = next((int(value) for name, value in request.headers if name == b"content-length"), 0)
        if length > BODY_BYTES:
            return False
        deadline = asyncio.get_running_loop().time() + self.server.request_s
        octets = 0
        while octets <= BODY_BYTES:
            event = self.h11.next_event()
            if isinstance(event, h11.EndOfMessage):
                return True
            if isinstance(event, h11.Data):
                octets += len(event.data)
            elif event is h11.NEED_DATA and not await self._receive(deadline):
                raise Refused(408, "The request took too long to arrive.")
        return False

    async def _receive(self, deadline: float) -> bool:
        """Feed h11 with what arrives (end of file included); False when `deadline`, in loop time, passes."""
        try:
            async with asyncio.timeout_at(deadline) as limit:
                data = await self.reader.read(READ_BYTES)
        except TimeoutError:
            if limit.expired():
                return False
            raise  # the connection's own: the peer is not heard of any more
        self.h11.receive_data(data)
        return True

    async def _send(self, request: h11.Request | None, answer: _Answer, *, close: bool) -> None:
        """The whole response. Where the file turns out shorter than announced the connection is aborted:
        an orderly close would pass for the end of the document."""
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Server", SERVER),
            *answer.headers,
            *([("Connection", "close")] if close else []),
        ]
        phrase = HTTPStatus(answer.status).phrase
        length = 0 if request is not None and request.method == b"HEAD" else answer.length
        before = answer.content.tell()
        sent = 0
        try:
            with answer.content as content:
                response = h11.Response(status_code=answer.status, headers=headers, reason=phrase)
                head = self.h11.send(response) or b""
                try:
                    if self.server.sendfile is not None and length > CHUNK_BYTES:
                        await self._send_by(self.server.sendfile, head, content, length)
                    else:
                        await self._send_read(head, content, length)
                finally:
                    sent = content.tell() - before
                self.writer.write(self.h11.send(h11.EndOfMessage()) or b"")
                if self.h11.our_state is h11.MUST_CLOSE:
                    self.writer.write_eof()  # close_first's first half, so that the FIN follows the data at once
                await self.writer.drain()
        finally:
            if self.server.on_access is not None:
                self.server.on_access(_access_line(self.writer, request, answer.status, sent))

    async def _send_read(self, head: bytes, content: BinaryIO, length: int) -> None:
        """`length` octets of `content`, read a chunk at a time. The head goes out with the first chunk, so that a small
        page is one segment."""
        sent = 0
        while sent < length:
            if sent:
                await self.writer.drain()
            chunk = content.read(min(CHUNK_BYTES, length - sent))
            if not chunk:
                self._give_up()
            self.writer.writelines((head, *self._framed(chunk)))
            head = b""
            sent += len(chunk)
        self.writer.write(head)

    async def _send_by(self, sendfile: SendFile, head: bytes, content: BinaryIO, length: int) -> None:
        """The same, unread: h11 needs to know no more of the document than its length."""
        self.writer.write(head)
        self._framed(_Octets(length))
        if await sendfile(self.writer.transport, content, content.tell(), length) < length:
            self._give_up()

    def _framed(self, data: bytes | _Octets) -> list[bytes]:
        """What to write for a piece of the document: itself, since its length was announced."""
        return self.h11.send_with_data_passthrough(h11.Data(data=data)) or []  # type: ignore[arg-type]

    def _give_up(self) -> NoReturn:
        transport = self.writer.transport
        if isinstance(transport, TcpTransport):
            transport.reset()  # what it has must not look like all of it
        else:
            transport.abort()
        raise ConnectionAbortedError("the file became shorter while it was sent")

    async def close_first(self) -> None:
        """End our half, and wait for the client to end its own, for `linger_s` at most."""
        self.writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.server.linger_s):
                while await self.reader.read(READ_BYTES):
                    pass


def _respond(site: Site, request: h11.Request, complete: bool) -> _Answer:
    """The answer to a request whose body was read to its end (`complete`) or not. Raises Refused."""
    if request.method not in (b"GET", b"HEAD"):
        known = request.method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT")
        raise Refused(405 if known else 501, f"This server answers {ALLOW} only.", (("Allow", ALLOW),))
    if not complete:
        raise Refused(413, "A request to read a document needs no body.")
    document = site.find(request.target.decode("ascii"))
    return _answer_with(document, _joined_headers(request), ranges=request.method == b"GET")


def _answer_with(document: Document, headers: dict[str, str], *, ranges: bool) -> _Answer:
    """The document, a part of it (only where `ranges`: RFC 9110 14.2 defines them for GET), 304 or 416."""
    described: list[tuple[str, str]] = []
    if document.etag is not None:
        described.append(("ETag", document.etag))
    if document.modified_s is not None:
        described.append(("Last-Modified", formatdate(document.modified_s, usegmt=True)))
    if not_modified(headers, document.etag, document.modified_s):
        return _Answer(304, described, document.content, 0)
    described += [("Content-Type", document.content_type), ("Accept-Ranges", "bytes")]
    try:
        part = (
            selected_range(headers, document.size, document.etag, document.modified_s) if ranges else None
        )
    except Unsatisfiable:
        document.content.close()
        raise Refused(
            416, "The document has no such range.", (("Content-Range", f"bytes */{document.size}"),)
        ) from None
    if part is None:
        described.append(("Content-Length", str(document.size)))
        return _Answer(200, described, document.content, document.size)
    offset, length = part
    document.content.seek(offset)
    described.append(("Content-Length", str(length)))
    described.append(("Content-Range", f"bytes {offset}-{offset + length - 1}/{document.size}"))
    return _Answer(206, described, document.content, length)


def _refusal(refused: Refused) -> _Answer:
    page = error_page(refused.status, refused.why)
    headers = [
        *refused.headers,
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(page))),
    ]
    return _Answer(refused.status, headers, BytesIO(page), len(page))


def _joined_headers(request: h11.Request) -> dict[str, str]:
    """Header fields by lower-case name, several of one name joined by commas (RFC 9110 5.3)."""
    joined: dict[str, str] = {}
    for name_octets, value_octets in request.headers:
        name, value = name_octets.decode("ascii"), value_octets.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _access_line(writer: StreamWriter, request: h11.Request | None, status: int, sent: int) -> str:
    peer = writer.get_extra_info("peername")
    who = f"{peer[0]}:{peer[1]}" if peer and ":" not in peer[0] else f"[{peer[0]}]:{peer[1]}" if peer else "-"
    asked = "-"
    if request is not None:
        # h11 has let nothing but visible ASCII pass in these.
        what = b"%b %b HTTP/%b" % (request.method, request.target, request.http_version)
        asked = what.decode("ascii")
    return f'{who} "{asked}" {status} {sent}'
