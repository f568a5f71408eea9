"""`tcpstack nc`: one connection between stdin and stdout here and a peer, on a TUN device of this host or in a
namespace of its own, in which a command of the kernel's side runs.

The rules of the conversation are in netcat_session.py; here is what stands around it: the host, the connection's
making and its orderly end, signals, and the command.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import signal
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from ..aio.host import Host
from ..aio.opening import open_tun, tun_device
from ..aio.server import Server
from ..device.base import DeviceError
from ..device.namespace import Namespace
from .hosting import first_of, loop_runner
from .inside import command_environment, open_namespace
from .netcat_arguments import NetcatOptions
from .netcat_session import Session
from .run import cannot_run, end_of
from .watching import Printer, Watch

LINGER_S = 600.0
"""How long the peer may acknowledge nothing more of the last that it was sent, without -w. Linux gives up on such an
orphan after about as long where the window stays closed."""
GRACE_S = 0.5
"""How long the peer has to answer our FIN before it is reset, where it was idle, or we are interrupted."""
_FOR_EVER_S = 1e6
COMMAND_PATIENCE_S = 1.0
"""How long COMMAND has to end by itself once the connection has."""
HANDSHAKE_S = 0.25
"""How long after the end of COMMAND its connection may still be on its way."""
LISTEN_S = 10.0
"""How long COMMAND has, without -w, to begin to listen."""
LOOK_S = 0.01
"""How often to look whether it does."""


def netcat(options: NetcatOptions) -> int:
    """Have the conversation. Returns the exit status.

    Raises OSError where there was no connection, or a descriptor or the capture's file failed (BrokenPipeError where
    the reader of stdout has gone), DeviceError, NamespaceError; ValueError for addresses that do not fit.
    """
    hosts = _resolve(options)
    with contextlib.ExitStack() as resources:
        namespace: Namespace | None = None
        if options.command:
            # The namespace first: the kernel ends its processes with the thread that made it.
            namespace = resources.enter_context(
                open_namespace(options.addresses, options.tun, verbose=options.verbosity > 0)
            )
        runner = resources.enter_context(loop_runner(options.loop))
        return runner.run(_Netcat(options, hosts, namespace).run())


class _Signals:
    """The first SIGINT or SIGTERM sets `first` and is `number`; another sets `second`."""

    def __init__(self) -> None:
        self.number = 0
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if self.number:
            self.second.set()
        self.number = self.number or number
        self.first.set()


class _Netcat:
    def __init__(self, options: NetcatOptions, hosts: list[str], namespace: Namespace | None) -> None:
        self._options = options
        self._hosts = hosts
        self._command = _Command(namespace, options) if namespace is not None else None
        self._device = namespace.device if namespace is not None else None
        self._printer = Printer(sys.stderr)
        self._connected = asyncio.Event()
        self._server: Server | None = None
        self._peer = ""  # as a message names it

    async def run(self) -> int:
        options = self._options
        with _Signals() as signals:
            watch = Watch(self._printer, verbose=options.verbosity > 1, summary=False, trace=options.trace)
            try:
                device = self._device or await tun_device(options.tun, options.addresses)
                async with open_tun(
                    device=watch.device(device), addresses=options.addresses, tracer=watch.tracer,
                    faults=options.faults, grace_s=0,
                ) as host:  # fmt: skip
                    await self._converse(host, signals)
            finally:
                watch.close()
            if self._command is not None and not signals.number:
                await first_of(self._command.end(), signals.first.wait())
                if self._command.failure:
                    return self._command.failure
        return 128 + signals.number if signals.number else 0

    async def _converse(self, host: Host, signals: _Signals) -> None:
        """The conversation, and its orderly end."""
        session = Session(
            shut_down=self._options.shut_down,
            listening=self._options.listen,
            idle_s=self._options.wait_s,
            on_connected=self._on_connected,
        )
        try:
            await first_of(self._talk(host, session), signals.first.wait(), host.wait_closed())
            session.close()
            if signals.number or session.idle:
                await first_of(host.aclose(GRACE_S), signals.second.wait())
            else:
                limit_s = self._options.wait_s or LINGER_S
                await first_of(host.aclose(_FOR_EVER_S), _stalled(session, limit_s), signals.first.wait())
                self._tell_of_loss(session)
        finally:
            session.close()

    async def _talk(self, host: Host, session: Session) -> None:
        """Connect or be connected to, and have the conversation."""
        if self._options.listen:
            await self._accept(host, session)
        elif self._command is None:
            await self._connect(host, session)
        elif self._command.start():
            await self._command.listens(self._options.port, self._options.wait_s or LISTEN_S)
            await self._connect(host, session)
        if self._connected.is_set():
            error = await session.over
            if error is not None:
                raise error

    async def _accept(self, host: Host, session: Session) -> None:
        self._server = await host.create_server(
            lambda: session, self._hosts, self._options.port, backlog=1, start_serving=False
        )
        await self._server.start_serving()
        for address in self._hosts if self._options.verbosity else ():
            self._printer.line(f"Listening on {address} {self._options.port}")
        if self._command is None:
            await self._connected.wait()
        elif self._command.start():
            await first_of(self._connected.wait(), self._command.gone())
            if not self._connected.is_set():
                what = f"{self._command.name!r} ended without connecting to port {self._options.port}"
                raise OSError(errno.ECONNABORTED, what)

    async def _connect(self, host: Host, session: Session) -> None:
        """To the first of the addresses that takes it. Raises OSError where none does."""
        options = self._options
        for address in self._hosts:
            self._peer = f"{_host_name(address, options.host)} port {options.port}"
            try:
                async with asyncio.timeout(options.wait_s):
                    await host.create_connection(lambda: session, address, options.port)
                return
            except DeviceError:
                raise
            except OSError as error:
                target = ip_address(address)
                itself = target.is_loopback or target in [own.ip for own in host.addresses]
                failure = self._failure(error, itself)
                if address == self._hosts[-1]:
                    raise failure from None
                if options.verbosity:
                    self._printer.line(f"tcpstack: {failure.strerror}")

    def _on_connected(self, transport: asyncio.Transport) -> None:
        self._connected.set()
        host, port = transport.get_extra_info("peername")[:2]
        if self._server is not None:
            self._server.close()
            self._peer = f"{host} port {port}"
        if not self._options.verbosity:
            return
        if self._server is not None:
            self._printer.line(f"Connection received on {host} {port}")
        else:
            named = _host_name(host, self._options.host)
            self._printer.line(f"Connection to {named} {port} port [tcp/{_service(port)}] succeeded!")

    def _failure(self, error: OSError, itself: bool) -> OSError:
        """What `create_connection` raised, as a sentence; `itself` says whether it led back to the stack."""
        if itself and isinstance(error, ConnectionRefusedError):
            why = "refused the connection: that is this stack itself, where nothing listens, not the kernel behind it"
        elif isinstance(error, ConnectionRefusedError):
            why = "refused the connection: nothing listens there, so start that first, or check the port"
        elif isinstance(error, TimeoutError):
            waited = f" within {self._options.wait_s:g} s" if self._options.wait_s else ""
            why = f"did not answer{waited}: check that the kernel behind the device has this address, or a route to it"
        else:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            why = f"cannot be reached: {cause.strerror}"
        return OSError(error.errno or errno.ETIMEDOUT, f"{self._peer} {why}")

    def _tell_of_loss(self, session: Session) -> None:
        lost = session.lost
        if isinstance(lost, ConnectionResetError):
            self._printer.line(f"tcpstack: {self._peer} reset the connection")
        elif lost is not None:
            self._printer.line(f"tcpstack: the connection to {self._peer} was lost: {lost.strerror or lost}")
        elif session.undelivered:
            octets = f"{session.undelivered} octets"
            self._printer.line(f"tcpstack: {self._peer} never acknowledged the last {octets} that were sent")


class _Command:
    """The command of the kernel's side. `failure` is the exit status where it can't be run."""

    def __init__(self, namespace: Namespace, options: NetcatOptions) -> None:
        self._namespace = namespace
        self._options = options
        self._started = False
        self.name = options.command[0]
        self.failure = 0

    def start(self) -> bool:
        """Whether it runs. It gets no stdin, and stderr for its stdout."""
        environment = command_environment(self._options.addresses, os.environ)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self._namespace.start(self._options.command, env=environment, stdio=(nothing, 2, 2))
            self._started = True
        except OSError as error:
            self.failure = cannot_run(self.name, error)
        finally:
            os.close(nothing)
        return self._started

    @property
    def running(self) -> bool:
        return self._started and self._namespace.process.poll() is None

    async def listens(self, port: int, limit_s: float) -> None:
        """Return when somebody in the namespace listens on `port`, or COMMAND has ended, or `limit_s` have passed."""
        sockets = [Path(f"/proc/{self._namespace.pid}/net/{name}") for name in ("tcp", "tcp6")]
        for _ in range(math.ceil(limit_s / LOOK_S)):
            if not self.running or any(_has_listener(table, port) for table in sockets):
                return
            await asyncio.sleep(LOOK_S)

    async def gone(self) -> None:
        """Return when it has ended, and what it may have sent has arrived."""
        await end_of(self._namespace.process)
        await asyncio.sleep(HANDSHAKE_S)

    async def end(self) -> None:
        """Give it a moment to end by itself; the namespace ends it otherwise."""
        if self.running:
            await first_of(end_of(self._namespace.process), asyncio.sleep(COMMAND_PATIENCE_S))


def _has_listener(table: Path, port: int) -> bool:
    """Whether a table of /proc/PID/net has a socket in LISTEN (0A) on `port`. No table, no listener."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows)


async def _stalled(session: Session, limit_s: float) -> None:
    """Return when the peer has acknowledged nothing for `limit_s`."""
    undelivered = -1
    while session.undelivered != undelivered:
        undelivered = session.undelivered
        await asyncio.sleep(limit_s)


def _resolve(options: NetcatOptions) -> list[str]:
    """The addresses to try, or with -l those to listen on. Raises OSError where there are none."""
    own = {str(address.ip): address.version for address in options.addresses}
    versions = {version for version in own.values() if options.version in (None, version)}
    if not versions:
        raise OSError(errno.EAFNOSUPPORT, f"the stack has no IPv{options.version} address: give it one with --address")
    if options.host is None:
        return [address for address, version in own.items() if version in versions]
    found = [address for address in _look_up(options.host, options.version) if _version(address) in versions]
    if not found:
        raise OSError(errno.EAFNOSUPPORT, f"{options.host} has no IPv{min(versions)} address, and the stack no other")
    if options.listen:
        mine = [address for address in found if address in own]
        if not mine:
            has = " and ".join(own)
            raise OSError(errno.EADDRNOTAVAIL, f"{options.host} is no address of the stack, which has {has}")
        return mine
    return found


def _look_up(host: str, version: int | None) -> list[str]:
    family = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[version]
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        # Nothing is open yet, and the resolver may take its time: Ctrl-C is to end it at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        entries = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    except OSError as error:
        kind = f"IPv{version} " if version else ""
        raise OSError(errno.ENXIO, f"no {kind}address is known for {host!r}: {error.strerror}") from None
    except UnicodeError:
        raise OSError(errno.ENXIO, f"{host!r} cannot be the name of a host") from None
    finally:
        signal.signal(signal.SIGINT, handler)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in entries))


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _host_name(address: str, given: str | None) -> str:
    """As nc writes it: the name, with the address that it stands for."""
    return address if given in (None, address) else f"{given} ({address})"


def _service(port: int) -> str:
    try:
        return socket.getservbyport(port, "tcp")
    except OSError:
        return "*"
