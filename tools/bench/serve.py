"""One server under test, in a process of its own: `python -m tools.bench.serve bare|protocol|streams|kernel`.

When it serves, it prints one line of JSON: `pid` of the process that does, its `address`, and the `exec_prefix`
behind which a peer is to be run. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence

import uvloop

import tcpstack
from tcpstack.device.base import DeviceError
from tcpstack.device.namespace import Namespace

from .applications import ServiceProtocol, serve_streams
from .bare_loop import BareLoop
from .services import ALL_PORTS

_ADDRESS = "10.9.0.2"


def announce(address: str, exec_prefix: Sequence[str]) -> None:
    """Tell whoever started this process that it serves."""
    print(json.dumps({"pid": os.getpid(), "address": address, "exec_prefix": list(exec_prefix)}), flush=True)


async def until_stdin_ends() -> None:
    """Return when standard input has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())


def main(kind: str) -> None:
    with Namespace.open(device="tun", offload=kind != "bare") as namespace:
        if kind == "bare":
            _serve_bare(namespace)
        elif kind == "kernel":
            _serve_kernel(namespace)
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve_tcpstack(namespace, with_streams=kind == "streams"))


def _serve_bare(namespace: Namespace) -> None:
    loop = BareLoop(namespace.device.fileno(), namespace.device.mtu)
    announce(_ADDRESS, namespace.exec_prefix)
    loop.run(until_fd=sys.stdin.fileno())


async def _serve_tcpstack(namespace: Namespace, with_streams: bool) -> None:
    async with tcpstack.open_tun(device=namespace.device, addresses=[f"{_ADDRESS}/24"], grace_s=0) as stack:
        for port in ALL_PORTS:
            if with_streams:
                await stack.start_server(serve_streams, port=port)
            else:
                await stack.create_server(ServiceProtocol, port=port)
        announce(_ADDRESS, namespace.exec_prefix)
        await until_stdin_ends()


def _serve_kernel(namespace: Namespace) -> None:
    """The program with streams on the kernel's TCP must itself be in a namespace: that is veth.py's matter."""
    namespace.device.close()
    prefix = json.dumps(namespace.exec_prefix)
    namespace.start([sys.executable, "-m", "tools.bench.veth", "near", prefix]).wait()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except DeviceError as error:
        sys.exit(f"tools.bench: {error.strerror}")
