"""Two hosts on one event loop, joined in memory: 10.9.0.1 (a, the server's) and 10.9.0.2 (b, the client's)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import tcpstack
from tests.aio.recorder import Recorder

Pair = tuple[tcpstack.Host, tcpstack.Host]
Join = Callable[[Recorder, Recorder], Awaitable[None]]


@pytest.fixture
async def loop_errors() -> AsyncIterator[list[dict[str, Any]]]:
    """What reached the loop's exception handler. A test that provokes it clears the list; else it fails."""
    errors: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    yield errors
    loop.set_exception_handler(None)
    assert not errors


@pytest.fixture
async def pair(loop_errors: list[dict[str, Any]]) -> AsyncIterator[Pair]:
    async with tcpstack.open_memory_pair(grace_s=0.2) as hosts:
        yield hosts


@pytest.fixture
def join(pair: Pair) -> Join:
    """Connects the protocol `client` on b with the protocol `server` on a."""

    async def do(client: Recorder, server: Recorder) -> None:
        a, b = pair
        listening = await a.create_server(lambda: server)
        port = listening.sockets[0].getsockname()[1]
        await b.create_connection(lambda: client, "10.9.0.1", port)
        await server.until_call("made")
        listening.close()

    return do
