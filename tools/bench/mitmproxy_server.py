"""mitmproxy-rs as a server: smoltcp, with asyncio streams on it. `python -m tools.bench.mitmproxy_server PREFIX` runs
in the namespace that the command prefix PREFIX, in JSON, leads to.

It makes its own TUN device, on which it takes every address for its own. Its Stream is reader and writer in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

import mitmproxy_rs
import uvloop

from tcpstack.device import netlink

from .applications import serve_streams
from .serve import ADDRESS, KERNEL_ADDRESS, announce, until_stdin_ends

_DEVICE = "tun1"


async def serve(prefix: list[str]) -> None:
    """Serve until standard input ends."""
    interface = await mitmproxy_rs.tun.create_tun_interface(_serve_tcp, _refuse_udp, _DEVICE)
    # The device as tcpstack has its own.
    addresses = [f"{KERNEL_ADDRESS}/24"]
    await asyncio.to_thread(netlink.configure, _DEVICE, addresses, mtu=1500, txqueuelen=netlink.TXQUEUELEN)
    announce(ADDRESS, prefix)
    await until_stdin_ends()
    interface.close()


async def _serve_tcp(stream: Any) -> None:
    # It says no more of a reset, or of its own end, than that it is an OSError.
    with contextlib.suppress(OSError):
        await serve_streams(stream, stream)


async def _refuse_udp(stream: Any) -> None:
    stream.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(json.loads(sys.argv[1])))
