"""A host with its services: what `serve` and `run` have in common."""

from __future__ import annotations

import asyncio
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from ..aio.host import Host
from ..aio.server import Server
from .http_files import Site
from .http_server import HttpServer
from .services import chargen, discard, echo

Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]

GRACE_S = 5.0
"""How long connections have to finish once all were sent their FIN; then they are reset."""


class Services:
    """The services on `host`, from `start` to `close`: `ports` has the port of each, `directory` is http's."""

    def __init__(self, host: Host, ports: dict[str, int], directory: str | None) -> None:
        self._host = host
        self._ports = ports
        self._handlers: dict[str, Handler] = {
            "http": HttpServer(Site(directory), sendfile=host.sendfile),
            "echo": echo,
            "discard": discard,
            "chargen": chargen,
        }
        self._servers: list[Server] = []
        self._conversations: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen on every port, on all of the host's addresses. Raises OSError."""
        for name, port in self._ports.items():
            handler = self._tracked(self._handlers[name])
            self._servers.append(await self._host.start_server(handler, port=port))

    async def close(self, patience_s: float = 0.0) -> None:
        """Take no more connections, and end the conversations: each closes its connection, which the host then
        finishes. Those that are about to end by themselves have `patience_s` seconds for it."""
        for server in self._servers:
            server.close()
        if self._conversations and patience_s:
            await asyncio.wait(self._conversations, timeout=patience_s)
        for task in self._conversations:
            task.cancel()
        if self._conversations:
            await asyncio.wait(self._conversations)

    def _tracked(self, handler: Handler) -> Handler:
        async def conversation(reader: StreamReader, writer: StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._conversations.add(task)
            try:
                await handler(reader, writer)
            except asyncio.CancelledError:
                pass  # by `close`; Python 3.11's streams would report a cancelled handler as a failed one
            finally:
                self._conversations.discard(task)

        return conversation


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them has ended, with the others cancelled. Raises what it raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


@contextmanager
def loop_runner(name: str) -> Iterator[asyncio.Runner]:
    """asyncio.Runner on a loop of this kind ("uvloop" or "asyncio").

    Ctrl-C waits until the loop is in the hands of the one who closes it: between the two nobody would.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with asyncio.Runner(loop_factory=lambda: event_loop(name)) as runner:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield runner
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def event_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new loop: "uvloop", or "asyncio" for Python's own."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()
