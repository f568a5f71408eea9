"""Plain asyncio programs for simulated hosts. Nothing here knows that the network is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

OnClient = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def in_order(*answers: bytes) -> OnClient:
    """A handler that says these, in order, and closes."""

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(answers)
        writer.close()
        await writer.wait_closed()

    return on_client


async def serve(on_client: OnClient, port: int = 80) -> None:
    server = await asyncio.start_server(on_client, port=port)
    async with server:
        await server.serve_forever()


async def echo_server() -> None:
    await serve(echo)


async def echo_client(host: str, text: bytes, port: int = 80) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)

    async def send() -> None:
        writer.write(text)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    try:
        answer = await reader.read()
        await sending
    finally:
        writer.close()
    await writer.wait_closed()
    return answer
