"""One server under test, in a process of its own: `python -m tools.bench.serve KIND`, as __init__.py has them.

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

ADDRESS, KERNEL_ADDRESS = "10.9.0.2", "10.9.0.1"
NO_OFFLOAD_SUFFIX = "-no-offload"

# Those that serve from within the namespace, because they make their device themselves.
_WITHIN = {
    "kernel": ("tools.bench.veth", "near"),
    "mitmproxy": ("tools.bench.mitmproxy_server",),
    "pytcp": ("tools.bench.pytcp_server",),
}


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
    program = kind.removesuffix(NO_OFFLOAD_SUFFIX)
    offload = program == kind
    with Namespace.open(device="tun", offload=offload) as namespace:
        if program in _WITHIN:
            namespace.device.close()
            prefix = json.dumps(namespace.exec_prefix)
            namespace.start([sys.executable, "-m", *_WITHIN[program], prefix]).wait()
        elif program == "bare":
            _serve_bare(namespace, offload)
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve_tcpstack(namespace, with_streams=program == "streams"))


def _serve_bare(namespace: Namespace, offload: bool) -> None:
    loop = BareLoop(namespace.device.fileno(), namespace.device.mtu, offload)
    announce(ADDRESS, namespace.exec_prefix)
    loop.run(until_fd=sys.stdin.fileno())


async def _serve_tcpstack(namespace: Namespace, with_streams: bool) -> None:
    async with tcpstack.open_tun(device=namespace.device, addresses=[f"{ADDRESS}/24"], grace_s=0) as stack:
        for port in ALL_PORTS:
            if with_streams:
                await stack.start_server(serve_streams, port=port)
            else:
                await stack.create_server(ServiceProtocol, port=port)
        announce(ADDRESS, namespace.exec_prefix)
        await until_stdin_ends()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except DeviceError as error:
        sys.exit(f"tools.bench: {error.strerror}")
