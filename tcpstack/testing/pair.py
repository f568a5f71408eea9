"""Two simulated hosts and one connection between them, without asyncio."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.config import Config
from ..core.connection import Connection
from ..core.readiness import EOF, READABLE
from ..device.faults import Rule
from ..device.pipe import Line
from ..sim.network import Network, SimHost

CLIENT_ADDRESSES = ("10.0.0.1/24", "fd00::1/64")
SERVER_ADDRESSES = ("10.0.0.2/24", "fd00::2/64")
PORT = 7
CONNECT_S = 600.0
"""Both ends have given up by then."""


class End:
    """One end of the connection. It reads all that comes, unless `pause_reading` was called.

    host        the simulated host
    connection  the engine's connection
    received    what was read so far
    eof         the other end has closed, and all that it sent was read
    error       what the connection died of (an OSError), or None
    """

    def __init__(self, host: SimHost, connection: Connection) -> None:
        self.host = host
        self.connection = connection
        self.received = bytearray()
        self.eof = False
        self._paused = False
        connection.user = self

    @property
    def error(self) -> OSError | None:
        return self.connection.error

    def send(self, data: bytes) -> None:
        """Queue all of it. Raises BrokenPipeError after `shutdown` or `close`, or the connection's error."""
        self.host.send(self.connection, data)

    def pause_reading(self) -> None:
        """Be a slow reader: what comes waits, and the window closes."""
        self._paused = True

    def resume_reading(self) -> None:
        """Read again, at once what waits."""
        self._paused = False
        self.hear(READABLE | EOF)

    def shutdown(self) -> None:
        """Send FIN after what is queued, and go on reading."""
        self.host.shutdown(self.connection)

    def close(self) -> None:
        """Be gone, in order where nothing is left unread."""
        self.host.close(self.connection)

    def abort(self) -> None:
        """Reset the connection."""
        self.host.abort(self.connection)

    def hear(self, mask: int) -> None:
        """The host's notice that something can be done (core.readiness)."""
        if self._paused or not mask & (READABLE | EOF):
            return
        while chunks := self.host.receive(self.connection, 1 << 30):  # urgent text comes by itself
            for chunk in chunks:
                self.received += chunk
        self.eof = self.connection.eof_received and not self.connection.readable_bytes


class ConnectedPair:
    """`client` has connected to `server`, in `network`, whose time passes in `run` and `run_until` alone."""

    def __init__(self, network: Network, client: End, server: End) -> None:
        self.network = network
        self.client = client
        self.server = server

    def run(self, seconds: float | None = None) -> None:
        """Let so much virtual time pass; None: until nothing will ever happen again."""
        self.network.run(seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float = 3600.0) -> bool:
        """Let time pass until the condition holds. False where it does not within so many virtual seconds."""
        return self.network.run_until(condition, seconds)


def connect(
    network: Network, line: Line, faults: Sequence[str | Rule] = (), *, config: Config | None = None
) -> ConnectedPair:
    """Two hosts in `network`, "client" at 10.0.0.1 and "server" at 10.0.0.2, `line` between them, and a connection.
    `faults` act on the client's packets from the first SYN on, "in" being towards it.

    Raises what the connection died of, TimeoutError where the server did not hear of it.
    """
    client = network.host("client", *CLIENT_ADDRESSES, config=config, faults=faults)
    server = network.host("server", *SERVER_ADDRESSES, config=config)
    network.link(client, server, line)
    for host in (client, server):
        host.notify = _hear
    accepted: list[End] = []
    listener = server.listen(PORT)

    def accept() -> None:
        while (connection := listener.accept()) is not None:
            accepted.append(End(server, connection))

    listener.on_connection = accept
    ours = End(client, client.connect(server.stack.addresses[0].ip.packed, PORT))
    if not network.run_until(lambda: bool(accepted) or ours.error is not None, CONNECT_S) or not accepted:
        raise ours.error or TimeoutError(f"no connection came about in {CONNECT_S:.0f} s of virtual time")
    listener.close(network.clock.now_ns)
    accepted[0].hear(READABLE | EOF)
    return ConnectedPair(network, ours, accepted[0])


def _hear(connection: Connection, mask: int) -> None:
    if isinstance(connection.user, End):
        connection.user.hear(mask)
