"""A raw HTTP client, and the server under test with what a test wants to know of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import h11

from tcpstack.cli.http_files import Site
from tcpstack.cli.http_server import HttpServer

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
