"""The turns of a host's TCP: packets and time in, segments and notifications out.

A batch of packets is processed whole; then users are told, once each; then each connection that has something to
say says it, up to a quantum a turn (MUST-58, MUST-59: acknowledgements of a batch coalesce). A user call outside a
batch (stack.py) transmits at once. What is left over after a quantum makes `deadline_ns` due now: there is no
periodic tick.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from random import Random, SystemRandom

from ..core import state as st
from ..core.config import Config
from ..core.connection import Connection
from ..core.events import ConnectionClosed, SegmentIn, SegmentOut, Tracer
from ..core.listen import SynRecord
from ..core.readiness import WRITABLE
from ..core.segment import FourTuple, Segment
from ..core.tcb import Emit
from ..device.base import next_packet_id
from ..wire.codec import DPKT, Codec
from ..wire.dropped import Dropped
from ..wire.icmp import IcmpMessage, echo_reply
from ..wire.packet import LARGEST_PACKET, NO_OFFLOAD, Packet
from .addresses import Addresses
from .coalescing import coalesced
from .deadlines import Deadlines
from .icmp import error_of
from .isn import InitialSequenceNumbers
from .listener import Listener
from .loopback import LOOPBACK_MTU, Loopback
from .unclaimed import Unclaimed

RETIRED = frozenset({st.CLOSED, st.TIME_WAIT})
QUANTUM_BYTES = 256 * 1024
"""What one connection may send in one turn, so that it cannot starve the others."""
ROUNDS = 4
"""How often a turn goes round telling users and sending what they answer, before it yields."""


class Turns:
    """What a stack does with what comes, and its tables. Arguments and attributes are Stack's."""

    def __init__(
        self,
        addresses: Iterable[str | IPv4Interface | IPv6Interface],
        *,
        mtu: int = 1500,
        config: Config | None = None,
        random: Random | None = None,
        tracer: Tracer | None = None,
        name: str = "tcpstack",
        codec: Codec = DPKT,
        packet_ids: Callable[[], int] = next_packet_id,
    ) -> None:
        self.name = name
        self._own = Addresses(addresses)
        self.addresses = self._own.interfaces
        self.mtu = mtu
        self.config = config or Config()
        self.tracer = tracer
        self.counters: Counter[str] = Counter()
        self.offload = NO_OFFLOAD
        self.coalesces = False
        self.divides = False
        self.queue_bytes: int | None = None
        self.send_packet: Callable[[Packet, int], object] = lambda packet, now_ns: None
        self.notify: Callable[[Connection, int], None] = lambda connection, mask: None
        self.check_route: Callable[[bytes], None] = lambda remote: None
        self._codec = codec
        self._next_packet_id = packet_ids
        self._random = random or SystemRandom()
        self.isn = InitialSequenceNumbers(self._random.randbytes(16))
        self._deadlines: Deadlines[Connection | Unclaimed | Loopback] = Deadlines()
        self._connections: dict[FourTuple, Connection] = {}  # but for those to ourselves
        self._loopback = Loopback(tracer, packet_ids, self._deadlines.arm, self._on_looped)
        self._to_device: Emit = self._emit  # one for all connections
        self._unclaimed = Unclaimed(
            self._mtu_towards, self.config, self.counters, tracer, self._choose_iss,
            lambda flow: self.isn.timestamp_offset(flow), self._emit_unclaimed, self._establish,
        )  # fmt: skip
        self._listeners = self._unclaimed.listeners
        self._records = self._unclaimed.records
        self._time_waits = self._unclaimed.time_waits
        self._dirty: dict[Connection, None] = {}  # insertion-ordered: the order must replay
        self._masks: dict[Connection, int] = {}
        self._ready: dict[Listener, None] = {}
        self._busy = False

    # ------------------------------------------------------------------ packets in

    def on_packets(self, packets: Sequence[Packet], now_ns: int) -> None:
        """One batch: process all, tell the users, send what is due. What the packets hold cannot raise."""
        self._busy = True
        connections = self._connections
        items = map(self._codec.decode, packets)
        try:
            for item in coalesced(items) if self.coalesces and len(packets) > 1 else items:
                if type(item) is Segment:
                    self._on_segment(item, connections, now_ns)
                elif type(item) is IcmpMessage:
                    self._on_icmp(item, now_ns)
                elif type(item) is Dropped:
                    self.counters[item.counter] += 1
        finally:
            self._busy = False
        self._finish(now_ns)

    # ------------------------------------------------------------------ time

    @property
    def deadline_ns(self) -> int | None:
        """When `on_timer` is due: 0 for now, None for never. Can be early."""
        if self._dirty or self._masks or self._ready:
            return 0
        return self._deadlines.next_ns

    def on_timer(self, now_ns: int) -> None:
        """Time has passed: whatever is due happens, and what a full turn left over goes on."""
        self._busy = True
        try:
            for thing in self._deadlines.due(now_ns):
                if isinstance(thing, Connection):
                    if self._loopback.connections and self._is_to_hear_of_itself(thing):
                        self._deadlines.arm(thing)
                    else:
                        self._mark(thing, thing.on_timer(now_ns))
                else:
                    thing.on_timer(now_ns)
                    self._deadlines.arm(thing)
        finally:
            self._busy = False
        self._finish(now_ns)

    def _is_to_hear_of_itself(self, connection: Connection) -> bool:
        """Whether the answer to the connection is on its way, or leaves in this turn, delayed no longer. Then only this
        process is late, and no timer goes off."""
        local, lport, remote, rport = connection.flow
        other_end = self._loopback.connections.get((remote, rport, local, lport))
        if other_end is None or other_end is connection:
            return False
        if other_end.acknowledge_now():
            self._dirty[other_end] = None
        return other_end in self._dirty or self._loopback.is_to_hear(connection)

    # ------------------------------------------------------------------ a segment finds its place

    def _on_looped(self, segment: Segment, now_ns: int) -> None:
        self._on_segment(segment, self._loopback.connections, now_ns)

    def _on_segment(self, segment: Segment, connections: dict[FourTuple, Connection], now_ns: int) -> None:
        """A segment for one of `connections`, or for nobody: those by the device are not for those to ourselves."""
        flow = (segment.dst, segment.dport, segment.src, segment.sport)
        connection = connections.get(flow)
        if connection is not None and connection.state != st.CLOSED:
            before = connection.state
            mask = connection.on_segment(segment, now_ns)
            if self.tracer is not None:
                self.tracer(SegmentIn(now_ns, flow, segment, before, connection.state))
            self._mark(connection, mask)
        elif connections is self._connections and (refusal := self._own.refusal(segment.dst, segment.src)):
            self.counters[refusal] += 1
        else:
            self._unclaimed.on_segment(segment, flow, now_ns)
            self._deadlines.arm(self._unclaimed)

    def _establish(self, record: SynRecord, listener: Listener, segment: Segment, now_ns: int) -> None:
        """A handshake is done: the record becomes a connection, which the segment is for."""
        flow = record.flow
        bounds = self._bounds_towards(flow[2])
        connection = Connection.of_record(record, listener.config, now_ns, self.tracer, *bounds)
        self._add(connection)
        mask = connection.on_segment(segment, now_ns)
        if self.tracer is not None:
            self.tracer(SegmentIn(now_ns, flow, segment, st.SYN_RECEIVED, connection.state))
        listener.queue.append(connection)
        self._ready[listener] = None
        self._mark(connection, mask)

    def _on_icmp(self, message: IcmpMessage, now_ns: int) -> None:
        if refusal := self._own.refusal(message.dst, message.src):
            self.counters[refusal] += 1
        elif message.is_echo_request:
            self.counters["icmp_echo"] += 1
            reply = echo_reply(message)
            reply.packet_id = self._next_packet_id()
            self.send_packet(self._codec.encode_icmp(reply), now_ns)
        elif message.quoted is not None and (connection := self._connections.get(message.quoted)) is not None:
            self.counters["icmp_error"] += 1
            error = error_of(message)
            if error is not None:
                self._mark(connection, connection.on_unreachable(message.quoted_seq, error, now_ns))
        else:
            self.counters["icmp_ignored"] += 1

    # ------------------------------------------------------------------ what leaves

    def _touch(self, connection: Connection, now_ns: int, queued_bytes: int = 0) -> None:
        """A user call changed the connection, and queued so much: flush it now, or leave that to the end of the
        batch."""
        if self._busy:
            self._dirty[connection] = None
        else:
            self._flush(connection, now_ns, queued_bytes)

    def _mark(self, connection: Connection, mask: int) -> None:
        self._dirty[connection] = None
        if mask:
            self._masks[connection] = self._masks.get(connection, 0) | mask

    def _finish(self, now_ns: int) -> None:
        """The end of a turn: tell users and send, in turns, until there is nothing or ROUNDS have passed."""
        self._busy = True
        try:
            for _ in range(ROUNDS):
                if self._masks or self._ready:
                    self._tell()
                if not self._dirty:
                    break
                dirty, self._dirty = self._dirty, {}
                for connection in dirty:
                    self._flush(connection, now_ns)
        finally:
            self._busy = False

    def _tell(self) -> None:
        while self._ready:
            ready, self._ready = self._ready, {}
            for listener in ready:
                if listener.on_connection is not None:
                    listener.on_connection()
        masks, self._masks = self._masks, {}
        for connection, mask in masks.items():
            if connection.user is not None:
                self.notify(connection, mask)

    def _flush(self, connection: Connection, now_ns: int, queued_bytes: int = 0) -> None:
        """Send what the connection has to say; where text left that was queued before, its user hears in the next
        round. This call has queued the last `queued_bytes`."""
        if not connection.awaits_sent:
            self._send_due(connection, now_ns)
            return
        unsent = connection.unsent_bytes - queued_bytes
        self._send_due(connection, now_ns)
        if unsent and connection.unsent_bytes < unsent:
            self._masks[connection] = self._masks.get(connection, 0) | WRITABLE

    def _send_due(self, connection: Connection, now_ns: int) -> None:
        """Send what the connection has to say, up to the quantum."""
        sent = 0
        for segment in connection.transmit(now_ns, QUANTUM_BYTES):
            sent += segment.payload_len
            connection.emit(segment, connection.state, now_ns, connection.ip_fields)
        if sent >= QUANTUM_BYTES:
            self._dirty[connection] = None
        if connection.state in RETIRED:
            self._retire(connection, now_ns)
        else:
            self._deadlines.arm(connection)

    def _emit(self, segment: Segment, state: int, now_ns: int, ip_fields: tuple[int, int]) -> None:
        segment.packet_id = self._next_packet_id()
        if self.tracer is not None:
            flow = (segment.src, segment.sport, segment.dst, segment.dport)
            self.tracer(SegmentOut(now_ns, flow, segment, state))
        partial = self.offload.checksum or segment.gso_size > 0
        hop_limit, traffic_class = ip_fields
        self.send_packet(self._codec.encode(segment, partial, hop_limit, traffic_class), now_ns)

    def _emit_unclaimed(self, segment: Segment, state: int, now_ns: int, ip_fields: tuple[int, int]) -> None:
        emit = self._loopback.emit if self._own.is_here(segment.dst) else self._emit
        emit(segment, state, now_ns, ip_fields)

    # ------------------------------------------------------------------ tables

    def _add(self, connection: Connection) -> None:
        """Whether it is one to ourselves is decided here, not with each segment."""
        connection.emit = self._loopback.emit if self.is_to_itself(connection) else self._to_device
        self._table_of(connection)[connection.flow] = connection

    def _table_of(self, connection: Connection) -> dict[FourTuple, Connection]:
        return self._loopback.connections if self.is_to_itself(connection) else self._connections

    def is_to_itself(self, connection: Connection) -> bool:
        """Whether the connection's other end is here, too."""
        return self._own.is_here(connection.flow[2])

    def _retire(self, connection: Connection, now_ns: int) -> None:
        """The engine is done with the connection; its name is free, or TIME-WAIT's."""
        connections = self._table_of(connection)
        if connections.get(connection.flow) is not connection:
            return
        del connections[connection.flow]
        self._deadlines.discard(connection)
        if connection.state == st.TIME_WAIT:
            self._time_waits.add(connection.time_wait(now_ns))
            self._deadlines.arm(self._unclaimed)
        if self.tracer is not None:
            c = connection
            error = c.error
            if error is None and c.aborted:
                error = ConnectionAbortedError(errno.ECONNABORTED, "reset by us")
            totals = (c.bytes_in, c.bytes_out, c.retransmitted)
            self.tracer(ConnectionClosed(now_ns, c.flow, *totals, c.opened_ns, error))

    def _choose_iss(self, flow: FourTuple, floor: int | None, now_ns: int) -> int:
        return self.isn.choose(flow, now_ns) if floor is None else self.isn.choose_beyond(flow, floor, now_ns)

    def _mtu_towards(self, remote: bytes) -> int:
        return LOOPBACK_MTU if self._own.is_here(remote) else self.mtu

    def _bounds_towards(self, remote: bytes) -> tuple[int, int | None]:
        """Octets in the largest superpacket to there, 0 for none; and how large a window the device's queue bears:
        superpackets fill it with few."""
        if self._own.is_here(remote):
            return 0, None
        if self.offload.takes_superpackets(remote):
            return LARGEST_PACKET, None
        return LARGEST_PACKET if self.divides else 0, self.queue_bytes
