"""One host's TCP: packets and user calls in, packets and notifications out. No clock, no sockets, no event loop.

The user's calls are here; what a packet or a deadline sets off is turns.py.
"""

from __future__ import annotations

from ipaddress import ip_address

from ..core import state as st
from ..core.config import Config
from ..core.connection import Connection
from ..core.keepalive import KeepAliveSettings
from ..core.receive.timestamps import Timestamps
from ..core.segment import Buffer, FourTuple
from .addresses import Address, check_port, packed_address
from .listener import Listener
from .ports import local_port
from .turns import Turns


class Stack(Turns):
    """A host with `addresses` ("10.9.0.2/24", or interface objects) on a link of `mtu` octets.

    offload      set by the driver: what the device does for us
    coalesces    set by the driver: segments of a batch may be joined before they are looked at
    divides      set by the driver: it divides superpackets itself, so that they may be sent where the device takes none
    send_packet  set by the driver: takes each (packet, now_ns) that leaves
    notify       set by the driver: takes (connection, readiness mask), never from inside a user call
    check_route  set by a simulation: raises OSError where nothing leads to an address
    loopback_delay_ns  set by a simulation: how long it takes what the stack sends to itself
    queue_bytes  octets that the device's queue bears, where it is what bounds a window
    isn          begins each connection's numbers and timestamps; a simulation may want others
    codec        turns packets into segments and back; packet_ids numbers the packets that leave
    counters     what arrived and was not for a connection, by reason; and refusals
    """

    # ------------------------------------------------------------------ user calls

    def connect(
        self,
        remote: Address,
        rport: int,
        now_ns: int,
        *,
        local: Address | None = None,
        lport: int = 0,
        config: Config | None = None,
    ) -> Connection:
        """Active OPEN; the SYN leaves at once. `notify` says CONNECTED, or RESET with the connection's error.

        The remote may be this stack itself: one of its own addresses, or loopback (loopback.py). From `lport` to the
        same port of the same address that is a connection with itself, and both ends are this one, as on Linux.

        Raises OSError: ENETUNREACH where no address of ours is of the remote's family or the remote is no single
        host (MUST-46), EADDRNOTAVAIL for a local address that is not ours or when no port is free, EADDRINUSE where
        this very connection exists, EINVAL from a loopback address to another host. ValueError for a port that is
        none, and TypeError; likewise for addresses.
        """
        check_port(rport, 1, "remote port")
        check_port(lport, 0, "local port")
        target = self._own.target_of(packed_address(remote))
        source = self._own.source_for(target, None if local is None else packed_address(local))
        self.check_route(target)
        lport = local_port(
            lport,
            self._random,
            lambda port: self._is_taken((source, port, target, rport)),
            lambda port: self._listener(source, port) is not None or (port == rport and source == target),
            f"{ip_address(target)} port {rport}",
        )
        flow = (source, lport, target, rport)
        iss = self.isn.choose(flow, now_ns)
        stamps = Timestamps(self.isn.timestamp_offset(flow))
        mtu, bounds = self._mtu_towards(target), self._bounds_towards(target)
        connection = Connection(flow, config or self.config, iss, mtu, self.tracer, *bounds, stamps)
        self._add(connection)
        connection.open(now_ns)
        self._touch(connection, now_ns)
        return connection

    def listen(
        self, port: int, *, address: Address | None = None, backlog: int = 100, config: Config | None = None
    ) -> Listener:
        """Passive OPEN, on one address, on all of a family (the unspecified one) or on all there are, loopback
        included; port 0 chooses a free one.

        Raises OSError: EADDRINUSE where somebody listens there, EADDRNOTAVAIL for an address that is not ours;
        ValueError for a port that is none, and TypeError; likewise for the address.
        """
        check_port(port, 0, "port")
        own = None if address is None else self._own.check_local(packed_address(address))
        port = self._listeners.free_port(own, port, self._random)
        listener = self._listeners[own, port] = Listener(
            own, port, backlog, config or self.config, self._close_listener
        )
        return listener

    def send(self, connection: Connection, data: bytes | bytearray | memoryview, now_ns: int) -> None:
        """SEND (Connection.send); what may leave leaves at once."""
        connection.send(data)
        self._touch(connection, now_ns, len(data))

    def receive(self, connection: Connection, max_bytes: int, now_ns: int) -> list[Buffer]:
        """RECEIVE (Connection.receive); a window update that is due leaves at once."""
        chunks = connection.receive(max_bytes, now_ns)
        if connection.state != st.CLOSED:
            self._touch(connection, now_ns)
        return chunks

    def shutdown(self, connection: Connection, now_ns: int) -> None:
        """RFC CLOSE (Connection.close): a FIN follows what is queued; receiving goes on."""
        connection.close(now_ns)
        self._touch(connection, now_ns)

    def close(self, connection: Connection, now_ns: int) -> None:
        """The application is gone (Connection.release)."""
        connection.release(now_ns)
        self._touch(connection, now_ns)

    def abort(self, connection: Connection, now_ns: int) -> None:
        """ABORT: a RST, now. A TIME-WAIT entry stays: it keeps old segments from the next connection of its name."""
        if self._table_of(connection).get(connection.flow) is connection:
            connection.abort(now_ns)
            self._touch(connection, now_ns)

    def set_nodelay(self, connection: Connection, value: bool, now_ns: int) -> None:
        """Switch the Nagle algorithm off or on (Connection.nodelay); text that it held leaves at once."""
        connection.nodelay = value
        self._touch(connection, now_ns)

    def set_corked(self, connection: Connection, value: bool, now_ns: int) -> None:
        """Hold text back that fills no segment, or not any more (Connection.corked); what it held leaves at once."""
        connection.corked = value
        self._touch(connection, now_ns)

    def set_user_timeout(self, connection: Connection, timeout_ns: int | None, now_ns: int) -> None:
        """Change the user timeout (Connection.set_user_timeout, with what it raises)."""
        connection.set_user_timeout(timeout_ns, now_ns)
        self._touch(connection, now_ns)

    def set_keepalive(self, connection: Connection, settings: KeepAliveSettings, now_ns: int) -> None:
        """Switch keep-alives on or off, or change their numbers (Connection.set_keepalive, with what it raises)."""
        connection.set_keepalive(settings, now_ns)
        self._touch(connection, now_ns)

    # ------------------------------------------------------------------ what there is

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The live connections: neither SYN records nor TIME-WAIT entries. Of one to ourselves, both ends."""
        return (*self._connections.values(), *self._loopback.connections.values())

    @property
    def has_connections(self) -> bool:
        """Whether there are live connections; costs the same however many."""
        return bool(self._connections or self._loopback.connections)

    @property
    def loopback_delay_ns(self) -> int:
        """How long it takes what the stack sends to itself."""
        return self._loopback.delay_ns

    @loopback_delay_ns.setter
    def loopback_delay_ns(self, delay_ns: int) -> None:
        self._loopback.delay_ns = delay_ns

    @property
    def syn_records(self) -> int:
        """How many handshakes wait for their last ACK."""
        return len(self._records)

    @property
    def time_waits(self) -> int:
        """How many connections are in TIME-WAIT."""
        return len(self._time_waits)

    # ------------------------------------------------------------------ names

    def _is_taken(self, flow: FourTuple) -> bool:
        return flow in self._connections or flow in self._loopback.connections or flow in self._unclaimed

    def _listener(self, address: bytes, port: int) -> Listener | None:
        return self._listeners.find(address, port)

    def _close_listener(self, listener: Listener, now_ns: int) -> None:
        self._unclaimed.close(listener, now_ns)
        while (connection := listener.accept()) is not None:
            self.abort(connection, now_ns)
