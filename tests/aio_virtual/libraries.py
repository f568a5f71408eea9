"""Programs of libraries that make their own sockets. Nothing here knows that the network is none.

    python -m tests.aio_virtual.libraries SEED

prints a digest of the trace of an HTTP conversation over a link that loses.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import aiohttp
import anyio
from aiohttp import web
from anyio.abc import SocketStream

from tcpstack.aio.virtual import Simulation
from tests.aio_virtual.chatter import Digest


async def http_server() -> None:
    async def answer(request: web.Request) -> web.Response:
        text = await request.read()
        return web.json_response({"path": request.path, "size": len(text)})

    application = web.Application()
    application.router.add_post("/{name}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, port=80).start()
    await asyncio.Event().wait()


async def http_client(host: str) -> list[object]:
    """Two connections at once, then one that is kept alive."""

    async def post(session: aiohttp.ClientSession, name: str) -> object:
        async with session.post(f"http://{host}/{name}", data=bytes(50_000)) as response:
            return await response.json()

    timeout = aiohttp.ClientTimeout(total=600, sock_connect=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        answers = list(await asyncio.gather(post(session, "one"), post(session, "two")))
        return [*answers, *[await post(session, name) for name in ("three", "four")]]


async def upper_server(address: str | None, port: int = 80) -> None:
    async def upper(stream: SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.BrokenResourceError):  # the client closes, which is an abort in anyio
                async for text in stream:
                    await stream.send(text.upper())

    listener = await anyio.create_tcp_listener(local_host=address, local_port=port)
    await listener.serve(upper)


async def upper_client(host: str, port: int = 80) -> bytes:
    async with await anyio.connect_tcp(host, port) as stream:
        await stream.send(b"hello")
        return await stream.receive()


def http_over_a_link_that_loses(seed: int) -> tuple[list[object], Digest]:
    digest = Digest()
    with Simulation(seed, tracer=digest, within_s=3600) as sim:
        a = sim.host("a", "10.0.0.1/24", "fd00::1/64", faults=["loss 5%", "reorder 5%"])
        b = sim.host("b", "10.0.0.2/24", "fd00::2/64")
        sim.link(a, b, delay="10ms", jitter="2ms", rate="10mbit", queue="30p")
        b.spawn(http_server())
        return a.run(http_client("b")), digest


if __name__ == "__main__":
    _, trace = http_over_a_link_that_loses(int(sys.argv[1]))
    print(trace.events, trace.hexdigest())
