"""`tcpstack serve`: the services on a TUN device, until somebody says stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from types import TracebackType
from typing import Self

from ..aio.host import Host
from ..aio.opening import open_tun, tun_device
from .arguments import ServeOptions
from .descriptors import tell, unwritable
from .hosting import GRACE_S, Services, first_of, loop_runner
from .watching import Printer, Watch


def serve(options: ServeOptions) -> int:
    """Serve until Ctrl-C or SIGTERM, or until nobody reads the output. Returns the exit status.

    Raises DeviceError (the device cannot be had, or went away), OSError (the capture's file, or stdout: BrokenPipeError
    where nobody reads it), ValueError (addresses that do not fit).
    """
    with loop_runner(options.loop) as runner:
        return runner.run(_serve(options))


class _Stop:
    """Wishes to stop, by signal or by `ask`: the `first` is for an orderly end, the `second` for one at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def ask(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    def __enter__(self) -> Self:
        for each in self.SIGNALS:
            asyncio.get_running_loop().add_signal_handler(each, self.ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self.SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)


async def _serve(options: ServeOptions) -> int:
    with _Stop() as stop:
        printer = Printer(sys.stdout, on_gone=stop.ask)
        watch = Watch(printer, verbose=options.verbose, summary=True, trace=options.trace)
        try:
            device = watch.device(await tun_device(options.tun, options.addresses))
            # grace_s: the orderly end is ours; on any other way out there is nothing to wait for.
            async with open_tun(
                device=device, addresses=options.addresses, tracer=watch.tracer, faults=options.faults, grace_s=0
            ) as host:
                await _until_stopped(host, options, stop)
        finally:
            watch.close()
        if printer.error is not None:
            raise unwritable(printer.error)
        return 128 + signal.SIGINT if stop.second.is_set() else 0


async def _until_stopped(host: Host, options: ServeOptions, stop: _Stop) -> None:
    services = Services(host, options.ports, options.directory)
    await services.start()
    tell(_announcement(host, options))
    await first_of(stop.first.wait(), host.wait_closed())
    await services.close()
    await first_of(host.aclose(GRACE_S), stop.second.wait())


def _announcement(host: Host, options: ServeOptions) -> str:
    hosts = " and ".join(str(address.ip) for address in host.addresses)
    services = ", ".join(f"{name} on port {port}" for name, port in options.ports.items()) or "no services"
    return f"{hosts} on {host.device.name}: {services} (Ctrl-C ends it)"
