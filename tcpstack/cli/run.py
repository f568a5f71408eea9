"""`tcpstack run`: a namespace, the stack with its services behind a device in it, and one command that runs there.

The command is the namespace's; the stack stays in this process, outside, and outlives the command by as long as
its connections take to finish.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from subprocess import Popen
from types import TracebackType
from typing import Self

from ..aio.host import Host
from ..aio.opening import open_tun
from ..device.base import DeviceError
from ..device.namespace import Namespace
from .arguments import ServeOptions
from .descriptors import tell
from .hosting import GRACE_S, Services, first_of, loop_runner
from .inside import command_environment, open_namespace
from .watching import Printer, Watch

PATIENCE_S = 0.25
"""How long conversations that COMMAND left behind may end by themselves: its last FINs may still be on their way."""
NOT_FOUND = 127
NOT_EXECUTABLE = 126


def run(options: ServeOptions, command: Sequence[str]) -> int:
    """Run `command` in a namespace of its own with the stack of `options`. Returns its exit status: 128 + N where
    signal N ended it, 127 where it was not found, 126 where it cannot be executed.

    Raises NamespaceError (no namespace, no device), OSError (the capture's file), ValueError (addresses).
    """
    # The namespace first: the kernel ends its processes with the thread that made it, so that is to be this one.
    with (
        open_namespace(options.addresses, options.tun, verbose=options.verbose) as namespace,
        loop_runner(options.loop) as runner,
    ):
        return runner.run(_run(namespace, options, command))


async def _run(namespace: Namespace, options: ServeOptions, command: Sequence[str]) -> int:
    watch = Watch(Printer(sys.stderr), verbose=options.verbose, summary=False, trace=options.trace)
    try:
        async with open_tun(
            device=watch.device(namespace.device), addresses=options.addresses, tracer=watch.tracer,
            faults=options.faults, grace_s=0,
        ) as host:  # fmt: skip
            services = Services(host, options.ports, options.directory)
            await services.start()
            # Signals may come as soon as the command runs, and are for it: no await before the handlers stand.
            with _Command(namespace.process) as running:
                try:
                    namespace.start(command, env=command_environment(options.addresses, os.environ))
                except OSError as error:
                    return cannot_run(command[0], error)
                loss = asyncio.create_task(_tell_when_lost(host))
                status = await running.exit_status()
                loss.cancel()
                await services.close(PATIENCE_S)
                await first_of(host.aclose(GRACE_S), running.abort.wait())
                return status
    finally:
        watch.close()


class _Command:
    """The command, and while this is entered what signals to us mean for it: none ends us before it has ended.
    `abort` is set by one that comes after."""

    def __init__(self, process: Popen[bytes]) -> None:
        self.abort = asyncio.Event()
        self._process = process
        self._ended = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._on_terminate)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    async def exit_status(self) -> int:
        """Wait for the command to end. 128 + N where signal N ended it."""
        await end_of(self._process)
        self._ended = True
        status = self._process.wait()
        return 128 - status if status < 0 else status

    def _on_interrupt(self) -> None:
        if self._ended:
            self.abort.set()
        elif not _is_foreground():
            self._process.send_signal(signal.SIGINT)

    def _on_terminate(self) -> None:
        if self._ended:
            self.abort.set()
        else:
            self._process.send_signal(signal.SIGTERM)


async def end_of(process: Popen[bytes]) -> None:
    """Return when `process` has ended; it is not waited for, so its status is still to be had."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _is_foreground() -> bool:
    """Whether a terminal's Ctrl-C goes to our process group: then it reached the command, in the same group, too."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(descriptor)


async def _tell_when_lost(host: Host) -> None:
    try:
        await host.wait_closed()
    except DeviceError as error:
        tell(f"{error.strerror}; the command goes on without the stack")


def cannot_run(name: str, error: OSError) -> int:
    """Say on stderr why the command `name` does not run. Returns the exit status for it."""
    if not isinstance(error, FileNotFoundError):
        tell(f"{name!r} cannot be run: {error.strerror}")
        return NOT_EXECUTABLE
    if shutil.which(name) is None:
        tell(f"there is no command {name!r}")
    else:
        tell(f"{name!r} cannot be run: its first line names a missing interpreter")
    return NOT_FOUND
