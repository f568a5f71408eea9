"""The kernel's own TCP as a server: two namespaces, a veth pair between them, the program with streams at its
near end. `python -m tools.bench.veth near PREFIX` runs in the near namespace and makes the far one.

PREFIX, in JSON, is what brings a command into the near namespace by the pid of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys

import uvloop
from pyroute2 import IPRoute

from tcpstack.device import netlink

from .applications import serve_streams
from .kernel_peer import choose_congestion_control
from .serve import announce, until_stdin_ends
from .services import ALL_PORTS

_NEAR, _FAR = "near0", "far0"
_NEAR_ADDRESS, _FAR_ADDRESS = "10.9.0.2", "10.9.0.1"


def near(prefix: list[str]) -> None:
    """Serve until standard input ends."""
    command = ("unshare", "-n", "--", sys.executable, "-m", "tools.bench.veth", "far")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()  # it is in its namespace
        with IPRoute() as route:
            peer = {"ifname": _FAR, "net_ns_pid": holder.pid}
            route.link("add", ifname=_NEAR, kind="veth", peer=peer)
        netlink.configure(_NEAR, [f"{_NEAR_ADDRESS}/24"])
        holder.stdin.write(b"configure\n")
        holder.stdin.flush()
        holder.stdout.readline()
        own = str(os.getpid())
        far_prefix = [str(holder.pid) if word == own else word for word in prefix]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(far_prefix))
        # The end of its standard input is the end of the holder.


def far() -> None:
    """Hold the far namespace, and configure its end of the pair when told to."""
    print("here", flush=True)
    sys.stdin.readline()
    netlink.configure(_FAR, [f"{_FAR_ADDRESS}/24"])
    print("ready", flush=True)
    sys.stdin.read()


async def _serve(far_prefix: list[str]) -> None:
    async with contextlib.AsyncExitStack() as servers:
        for port in ALL_PORTS:
            listener = socket.create_server((_NEAR_ADDRESS, port))
            choose_congestion_control(listener)  # for the connections that it accepts
            await servers.enter_async_context(await asyncio.start_server(serve_streams, sock=listener))
        announce(_NEAR_ADDRESS, far_prefix)
        await until_stdin_ends()


if __name__ == "__main__":
    if sys.argv[1] == "near":
        near(json.loads(sys.argv[2]))
    else:
        far()
