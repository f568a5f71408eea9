"""What kernel tests stand on: a namespace, the kernel's programs in it, and a stack behind its device."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tcpstack
from tcpstack.core.events import Tracer
from tcpstack.device.base import Device
from tcpstack.device.namespace import Namespace
from tcpstack.observe.fanout import fan_out
from tests.kernel.capture import Capture, WireTap, has_tshark

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.kernel)


class KernelSide:
    """An open namespace, and the programs that a test runs in it, which end with it.

    They see no proxies, and messages are in English. Output is bytes.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._running: list[asyncio.subprocess.Process] = []

    @property
    def device(self) -> Device:
        """The stack's end of the device."""
        return self._namespace.device

    async def spawn(self, *argv: str | Path, **kwargs: Any) -> asyncio.subprocess.Process:
        """Start a program; stdin, stdout and stderr are pipes unless told otherwise. It is killed with all its
        children when the test ends."""
        proxyless = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment = {**proxyless, "LC_ALL": "C", "PYTHONUNBUFFERED": "1"}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = await asyncio.create_subprocess_exec(
            *self._namespace.exec_prefix,
            *map(str, argv),
            **{**pipes, "env": environment, "start_new_session": True, **kwargs},
        )
        self._running.append(process)
        return process

    async def run(
        self, *argv: str | Path, input: bytes = b"", timeout: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end, whatever its status. TimeoutError says what it had written by then."""
        # No pipe without need: uvloop raises RuntimeError where a program ends before its stdin was written.
        process = await self.spawn(*argv, stdin=subprocess.PIPE if input else subprocess.DEVNULL)
        ending = asyncio.ensure_future(process.communicate(input or None))
        done, _ = await asyncio.wait((ending,), timeout=timeout)
        if not done:
            self._kill(process)
        stdout, stderr = await ending
        if not done:
            command, wrote = " ".join(map(str, argv)), f"{stdout[-500:]!r} and {stderr[-500:]!r}"
            raise TimeoutError(f"{command} took more than {timeout} s; it wrote {wrote}")
        assert process.returncode is not None
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    async def close(self) -> None:
        """End every program, then the namespace."""
        for process in self._running:
            self._kill(process)
        for process in self._running:
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()
        await asyncio.to_thread(self._namespace.close)

    @staticmethod
    def _kill(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads its session, so the group has its pid


@pytest.fixture
async def namespace(request: pytest.FixtureRequest) -> AsyncIterator[KernelSide]:
    """The kernel's side, at 10.9.0.1 and fd09::1. An indirect parameter gives Namespace.open's arguments."""
    arguments = getattr(request, "param", {})
    side = KernelSide(await asyncio.to_thread(lambda: Namespace.open(**arguments)))
    try:
        yield side
    finally:
        await side.close()


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """The capture of all kernel tests of this process (of this worker, with pytest-xdist), which tshark reads when all
    are over: what it finds is an error of the last one. Where tshark is missing test_capture.py tells."""
    made = Capture(tmp_path_factory.mktemp("capture") / "all.pcapng")
    yield made
    made.writer.close()
    faults = made.faults() if has_tshark() else []
    made.path.unlink()
    assert not faults, "\n".join(["tshark has found, in the packets of all kernel tests of this process:", *faults])


@pytest.fixture
async def open_stack(namespace: KernelSide, capture: Capture) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """`await open_stack(**open_tun's arguments)`: a stack behind the namespace's device, at 10.9.0.2 and fd09::2.
    Its packets are captured but with capturing=False."""
    async with contextlib.AsyncExitStack() as opened:

        async def open_one(*, capturing: bool = True, tracer: Tracer | None = None, **arguments: Any) -> Any:
            device = namespace.device
            if capturing:
                device = WireTap(namespace.device, capture.writer)
                if arguments.get("faults"):  # no tracer without need: where one watches, segments are not joined
                    tracer = fan_out(tracer, capture.note)
            addresses = ["10.9.0.2/24", "fd09::2/64"]
            return await opened.enter_async_context(
                tcpstack.open_tun(device=device, addresses=addresses, tracer=tracer, **arguments)
            )

        yield open_one


@pytest.fixture
async def stack(open_stack: Callable[..., Awaitable[Any]], request: pytest.FixtureRequest) -> Any:
    """A stack as `open_stack` makes it. An indirect parameter is its Config."""
    return await open_stack(config=getattr(request, "param", None))
