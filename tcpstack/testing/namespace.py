"""A stack behind a TUN device in a network namespace of its own, and the programs in there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from ..aio.host import Host
from ..aio.opening import open_tun
from ..core.events import Tracer
from ..device.fault_lists import rules_of
from ..device.faults import Rule
from ..device.namespace import KERNEL_ADDRESSES, Namespace

STACK_ADDRESSES = ("10.9.0.2/24", "fd09::2/64")


class StackNamespace:
    """An open namespace. The kernel in there has 10.9.0.1 and fd09::1, the stack 10.9.0.2 and fd09::2.

    namespace  the namespace itself (device.namespace.Namespace)

    Raises NamespaceError where none can be had; the message says why, and what to do.
    """

    stack_address = STACK_ADDRESSES[0].partition("/")[0]
    kernel_address = KERNEL_ADDRESSES[0].partition("/")[0]

    def __init__(self, seed: int, faults: Sequence[str | Rule] = (), tracer: Tracer | None = None) -> None:
        self._faults = rules_of(faults, seed, "tcpstack")
        self.namespace = Namespace.open()
        self._random = Random(seed)
        self._tracer = tracer

    @contextlib.asynccontextmanager
    async def open_stack(self, **options: Any) -> AsyncIterator[Host]:
        """The stack, on the running loop, while `async with` lasts; once only, since the device ends with it. Takes
        what tcpstack.open_tun takes; faults and tracer are the test's, and the seed's the random numbers."""
        given = {"faults": self._faults, "tracer": self._tracer, "random": self._random, **options}
        async with open_tun(device=self.namespace.device, addresses=STACK_ADDRESSES, **given) as host:
            yield host

    async def run(
        self, *argv: str | Path, input: bytes = b"", timeout: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program in there to its end, whatever its status; its output is in bytes, and it sees no proxies.
        After `timeout` seconds it is killed with its children, and a TimeoutError says what it had written."""
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        process = await asyncio.create_subprocess_exec(
            *self.namespace.exec_prefix,
            *map(str, argv),
            stdin=subprocess.PIPE if input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        ending = asyncio.ensure_future(process.communicate(input or None))
        try:
            done, _ = await asyncio.wait((ending,), timeout=timeout)
        finally:
            if not ending.done():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # it leads its session, so the group has its pid
        stdout, stderr = await ending
        if not done:
            wrote = f"{stdout[-500:]!r} and {stderr[-500:]!r}"
            raise TimeoutError(f"{' '.join(map(str, argv))} took more than {timeout} s; it wrote {wrote}")
        assert process.returncode is not None
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def close(self) -> None:
        """The end of the device and the namespace. Idempotent."""
        self.namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
