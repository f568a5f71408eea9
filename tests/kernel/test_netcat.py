"""nc both ways with half-close: the FIN of one side must not end the other's half."""

from __future__ import annotations

import asyncio
import os
import sys

DATA = os.urandom(300_000)


async def test_nc_sends_half_closes_and_then_hears_our_answer(stack, namespace):
    heard = asyncio.get_running_loop().create_future()

    async def answer_after_eof(reader, writer):
        heard.set_result(await reader.read())
        writer.write(DATA[::-1])
        await writer.drain()
        writer.close()

    await stack.start_server(answer_after_eof, port=9000)
    result = await namespace.run("nc", "-N", "10.9.0.2", "9000", input=DATA)

    assert heard.result() == DATA
    assert result.stdout == DATA[::-1]
    assert result.returncode == 0


async def test_we_half_close_first_and_still_receive(stack, namespace):
    async def speak_then_listen(reader, writer):
        writer.write(b"your turn")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    heard = asyncio.get_running_loop().create_future()
    await stack.start_server(speak_then_listen, port=9000)
    program = (
        "import socket\n"
        "s = socket.create_connection(('10.9.0.2', 9000))\n"
        "line = b''.join(iter(lambda: s.recv(100), b''))\n"  # up to our FIN
        "s.sendall(b'heard: ' + line)\n"
    )
    result = await namespace.run(sys.executable, "-c", program)

    assert result.returncode == 0, result.stderr
    assert await asyncio.wait_for(heard, 5) == b"heard: your turn"


async def test_we_connect_to_a_listening_nc_both_ways(stack, namespace):
    server = await namespace.spawn("nc", "-N", "-l", "10.9.0.1", "9001")
    reader, writer = await connect_when_listening(stack, "10.9.0.1", 9001)
    writer.write(DATA)
    server.stdin.write(DATA[::-1])
    server.stdin.close()
    hearing = asyncio.ensure_future(server.stdout.read())
    # First theirs, then our FIN: a listening nc that has heard one ends as soon as it has written what it has read.
    assert await asyncio.wait_for(reader.readexactly(len(DATA)), 30) == DATA[::-1]
    writer.write_eof()
    rest, theirs = await asyncio.gather(reader.read(), hearing)

    assert rest == b""
    assert theirs == DATA
    writer.close()
    await writer.wait_closed()


async def connect_when_listening(stack, host, port):
    """The program needs a moment to listen; until then the kernel refuses, which is answer enough to try again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await stack.open_connection(host, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
