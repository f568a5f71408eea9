"""One host's TCP: packets and user calls in, packets and notifications out. No clock, no sockets, no event loop.

A batch of packets is processed whole; then users are told, once each; then each connection that has something to
say says it, up to a quantum a turn (MUST-58, MUST-59: acknowledgements of a batch coalesce). A user call outside a
batch transmits at once. What is left over after a quantum makes `deadline_ns` due now: there is no periodic tick.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from random import Random, SystemRandom

from ..core import listen, timewait
from ..core import state as st
from ..core.closed import answer_closed, is_connection_attempt
from ..core.config import Config
from ..core.connection import Connection
from ..core.events import ConnectionClosed, SegmentIn, SegmentOut, StateChange, Tracer
from ..core.listen import SynRecord
from ..core.readiness import WRITABLE
from ..core.segment import Buffer, FourTuple, Segment
from ..core.timewait import TimeWait
from ..device.base import next_packet_id
from ..wire.codec import DPKT, Codec
from ..wire.dropped import Dropped
from ..wire.icmp import IcmpMessage, echo_reply
from ..wire.packet import LARGEST_PACKET, NO_OFFLOAD, Packet
from .deadlines import Deadlines
from .icmp import error_of
from .isn import InitialSequenceNumbers
from .listener import SYN_QUEUE, Listener
from .ports import choose_port
from .timewait import TimeWaitTable

RETIRED = frozenset({st.CLOSED, st.TIME_WAIT})
LIMITED_BROADCAST = b"\xff\xff\xff\xff"
QUANTUM_BYTES = 256 * 1024
"""What one connection may send in one turn, so that it cannot starve the others."""
ROUNDS = 4
"""How often a turn goes round telling users and sending what they answer, before it yields."""


class Stack:
    """A host with `addresses` ("10.9.0.2/24", or interface objects) on a link of `mtu` octets.

    offload      set by the driver: what the device does for us
    send_packet  set by the driver: takes each (packet, now_ns) that leaves
    notify       set by the driver: takes (connection, readiness mask), never from inside a user call
    codec        turns packets into segments and back; packet_ids numbers the packets that leave
    counters     what arrived and was not for a connection, by reason; and refusals
    """

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
        self.addresses = tuple(ip_interface(address) for address in addresses)
        if not self.addresses:
            raise ValueError("a stack needs at least one address, such as 10.9.0.2/24")
        self.mtu = mtu
        self.config = config or Config()
        self.tracer = tracer
        self.counters: Counter[str] = Counter()
        self.offload = NO_OFFLOAD
        self.send_packet: Callable[[Packet, int], object] = lambda packet, now_ns: None
        self.notify: Callable[[Connection, int], None] = lambda connection, mask: None
        self._codec = codec
        self._next_packet_id = packet_ids
        self._random = random or SystemRandom()
        self._isn = InitialSequenceNumbers(self._random.randbytes(16))
        self.local_addresses = frozenset(address.ip.packed for address in self.addresses)
        self._broadcasts = frozenset(
            address.network.broadcast_address.packed
            for address in self.addresses
            if address.version == 4 and address.network.prefixlen < 31
        )
        self._connections: dict[FourTuple, Connection] = {}
        self._records: dict[FourTuple, tuple[SynRecord, Listener]] = {}
        self._time_waits = TimeWaitTable()
        self._listeners: dict[tuple[bytes | None, int], Listener] = {}
        self._deadlines: Deadlines[Connection | SynRecord] = Deadlines()
        self._dirty: dict[Connection, None] = {}  # insertion-ordered: the order must replay
        self._masks: dict[Connection, int] = {}
        self._ready: dict[Listener, None] = {}
        self._busy = False

    # ------------------------------------------------------------------ user calls

    def connect(
        self,
        remote: bytes,
        rport: int,
        now_ns: int,
        *,
        local: bytes | None = None,
        lport: int = 0,
        config: Config | None = None,
    ) -> Connection:
        """Active OPEN; the SYN leaves at once. `notify` says CONNECTED, or RESET with the connection's error.

        Raises OSError: ENETUNREACH where no address of ours is of the remote's family or the remote is no single
        host (MUST-46), EADDRNOTAVAIL for a local address that is not ours or when no port is free, EADDRINUSE where
        this very connection exists. ValueError for a port that is none.
        """
        if not 1 <= rport <= 65535:
            raise ValueError(f"the remote port must be 1 to 65535, not {rport}")
        target = ip_address(remote)
        if target.is_multicast or target.is_unspecified or remote in (LIMITED_BROADCAST, *self._broadcasts):
            raise OSError(errno.ENETUNREACH, f"{target} is not the address of one host")
        if remote in self.local_addresses or target.is_loopback:
            raise OSError(errno.EADDRNOTAVAIL, f"{target} is this stack itself, and it has no loopback interface")
        local = self._source_for(remote, local)
        if lport:
            flow = (local, lport, remote, rport)
            if self._is_taken(flow):
                raise OSError(errno.EADDRINUSE, f"port {lport} already has a connection to {target} port {rport}")
        else:
            port = choose_port(
                self._random,
                lambda port: not self._is_taken((local, port, remote, rport)) and self._listener(local, port) is None,
            )
            if port is None:
                raise OSError(errno.EADDRNOTAVAIL, f"no ephemeral port is free towards {target} port {rport}")
            flow = (local, port, remote, rport)
        iss = self._isn.choose(flow, now_ns)
        superpacket_bytes = self._superpacket_bytes(remote)
        connection = Connection(flow, config or self.config, iss, self.mtu, self.tracer, superpacket_bytes)
        self._connections[flow] = connection
        connection.open(now_ns)
        self._touch(connection, now_ns)
        return connection

    def listen(
        self, port: int, *, address: bytes | None = None, backlog: int = 100, config: Config | None = None
    ) -> Listener:
        """Passive OPEN, on one address or on all; port 0 chooses a free one.

        Raises OSError: EADDRINUSE where somebody listens there, EADDRNOTAVAIL for an address that is not ours;
        ValueError for a port that is none.
        """
        if not 0 <= port <= 65535:
            raise ValueError(f"the port must be 0 to 65535, not {port}")
        if address is not None and address not in self.local_addresses:
            raise OSError(errno.EADDRNOTAVAIL, f"{ip_address(address)} is not an address of this stack")
        if port == 0:
            chosen = choose_port(self._random, lambda port: not self._is_listened_on(address, port))
            if chosen is None:
                raise OSError(errno.EADDRINUSE, "no port is free to listen on")
            port = chosen
        elif self._is_listened_on(address, port):
            raise OSError(errno.EADDRINUSE, f"port {port} is listened on already")
        listener = Listener(address, port, backlog, config or self.config, self._close_listener)
        self._listeners[address, port] = listener
        return listener

    def send(self, connection: Connection, data: bytes | bytearray | memoryview, now_ns: int) -> None:
        """SEND (Connection.send); what may leave leaves at once."""
        connection.send(data)
        self._touch(connection, now_ns)

    def receive(self, connection: Connection, max_bytes: int, now_ns: int) -> list[Buffer]:
        """RECEIVE (Connection.receive); a window update that is due leaves at once."""
        chunks = connection.receive(max_bytes)
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
        if self._connections.get(connection.flow) is connection:
            connection.abort(now_ns)
            self._touch(connection, now_ns)

    def set_nodelay(self, connection: Connection, value: bool, now_ns: int) -> None:
        """Switch the Nagle algorithm off or on (Connection.nodelay); text that it held leaves at once."""
        connection.nodelay = value
        self._touch(connection, now_ns)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The live connections: neither SYN records nor TIME-WAIT entries."""
        return tuple(self._connections.values())

    @property
    def syn_records(self) -> int:
        """How many handshakes wait for their last ACK."""
        return len(self._records)

    @property
    def time_waits(self) -> int:
        """How many connections are in TIME-WAIT."""
        return len(self._time_waits)

    # ------------------------------------------------------------------ packets in

    def on_packets(self, packets: Sequence[Packet], now_ns: int) -> None:
        """One batch: process all, tell the users, send what is due. What the packets hold cannot raise."""
        self._busy = True
        decode = self._codec.decode
        try:
            for packet in packets:
                item = decode(packet)
                if type(item) is Segment:
                    self._on_segment(item, now_ns)
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
        first_ns, second_ns = self._deadlines.next_ns, self._time_waits.next_ns
        if first_ns is None or second_ns is None:
            return second_ns if first_ns is None else first_ns
        return min(first_ns, second_ns)

    def on_timer(self, now_ns: int) -> None:
        """Time has passed: whatever is due happens, and what a full turn left over goes on."""
        self._busy = True
        try:
            for thing in self._deadlines.due(now_ns):
                if isinstance(thing, Connection):
                    self._mark(thing, thing.on_timer(now_ns))
                else:
                    self._on_record_timer(thing, now_ns)
            for entry in self._time_waits.expire(now_ns):
                self._trace_move(entry.flow, st.TIME_WAIT, st.TIME_WAIT_TIMEOUT, now_ns)
        finally:
            self._busy = False
        self._finish(now_ns)

    # ------------------------------------------------------------------ a segment finds its place

    def _on_segment(self, segment: Segment, now_ns: int) -> None:
        flow = (segment.dst, segment.dport, segment.src, segment.sport)
        connection = self._connections.get(flow)
        if connection is not None and connection.state != st.CLOSED:
            before = connection.state
            mask = connection.on_segment(segment, now_ns)
            if self.tracer is not None:
                self.tracer(SegmentIn(now_ns, flow, segment, before, connection.state))
            self._mark(connection, mask)
        elif segment.dst not in self.local_addresses:
            self.counters["not_for_us"] += 1
        elif not self._is_one_other_host(segment.src):
            self.counters["martian_source"] += 1
        elif (found := self._records.get(flow)) is not None:
            self._on_record_segment(*found, segment, now_ns)
        elif (entry := self._time_waits.get(flow)) is not None:
            self._on_time_wait_segment(entry, segment, now_ns)
        else:
            self._on_new_segment(segment, None, now_ns)

    def _on_new_segment(self, segment: Segment, replaced: TimeWait | None, now_ns: int) -> None:
        """3.10.7.1 and 3.10.7.2: nobody has this connection; perhaps somebody listens."""
        flow = (segment.dst, segment.dport, segment.src, segment.sport)
        listener = self._listener(segment.dst, segment.dport)
        if listener is None:
            self._trace_in(segment, flow, st.CLOSED, st.CLOSED, now_ns)
            self._answer(answer_closed(segment, "RST: nobody listens on this port"), st.CLOSED, now_ns)
        elif not is_connection_attempt(segment.flags):
            self._trace_in(segment, flow, st.LISTEN, st.LISTEN, now_ns)
            self._answer(listen.answer_listen(segment), st.LISTEN, now_ns)
        elif listener.full or listener.records >= SYN_QUEUE:
            # Not refused: the peer sends its SYN again, and by then there may be room.
            self.counters["accept_queue_full" if listener.full else "syn_queue_full"] += 1
            state = st.LISTEN if replaced is None else st.TIME_WAIT
            self._trace_in(segment, flow, state, state, now_ns)
        else:
            if replaced is None:
                iss = self._isn.choose(flow, now_ns)
            else:
                iss = self._isn.choose_beyond(flow, replaced.snd_nxt, now_ns)
                self._time_waits.remove(replaced)
                self._trace_move(flow, st.TIME_WAIT, st.RCV_NEWER_SYN, now_ns)
            record = SynRecord(segment, iss, self.mtu, listener.config, now_ns)
            record.restores = replaced
            listener.records += 1
            self._records[flow] = record, listener
            self._deadlines.arm(record)
            self._trace_move(flow, st.LISTEN, st.RCV_SYN, now_ns)
            self._trace_in(segment, flow, st.LISTEN, st.SYN_RECEIVED, now_ns)
            reason = "SYN,ACK: answers the SYN with our ISN"
            self._answer(listen.syn_ack(record, listener.config, reason), st.SYN_RECEIVED, now_ns)

    def _on_record_segment(self, record: SynRecord, listener: Listener, segment: Segment, now_ns: int) -> None:
        """SYN-RECEIVED after a passive open."""
        verdict, answer = listen.on_syn_received(record, segment, listener.config, now_ns)
        if verdict == listen.ESTABLISH and listener.full:
            # As Linux: the handshake is left unfinished, and our SYN,ACK again makes the peer repeat its ACK.
            self.counters["accept_queue_full"] += 1
            verdict = listen.STAY
        if verdict == listen.ESTABLISH:
            self._drop_record(record, listener)
            superpacket_bytes = self._superpacket_bytes(record.flow[2])
            connection = Connection.of_record(record, listener.config, now_ns, self.tracer, superpacket_bytes)
            self._connections[record.flow] = connection
            mask = connection.on_segment(segment, now_ns)
            self._trace_in(segment, record.flow, st.SYN_RECEIVED, connection.state, now_ns)
            listener.queue.append(connection)
            self._ready[listener] = None
            self._mark(connection, mask)
            return
        after = st.SYN_RECEIVED
        if verdict == listen.BACK_TO_LISTEN:
            after = st.LISTEN
            self._drop_record(record, listener)
            self._trace_move(record.flow, st.SYN_RECEIVED, st.RCV_RST_OR_SYN_PASSIVE, now_ns)
            if isinstance(record.restores, TimeWait):
                self._time_waits.restart(record.restores, now_ns)  # MAY-2, condition 2
        self._trace_in(segment, record.flow, st.SYN_RECEIVED, after, now_ns)
        self._answer(answer, after, now_ns)

    def _on_record_timer(self, record: SynRecord, now_ns: int) -> None:
        found = self._records.get(record.flow)
        if found is None:
            return
        answer = listen.on_syn_received_timer(record, found[1].config, now_ns)
        if answer is None:
            self._drop_record(record, found[1])
            self._trace_move(record.flow, st.SYN_RECEIVED, st.USER_TIMEOUT, now_ns)
            return
        self._deadlines.arm(record)
        self._answer(answer, st.SYN_RECEIVED, now_ns)

    def _on_time_wait_segment(self, entry: TimeWait, segment: Segment, now_ns: int) -> None:
        listening = self._listener(segment.dst, segment.dport) is not None
        verdict, answer = timewait.on_time_wait(entry, segment, listening, self.config.challenge_ack_ns, now_ns)
        if verdict == timewait.NEW_INCARNATION:
            self._on_new_segment(segment, entry, now_ns)
            return
        after = st.TIME_WAIT
        if verdict == timewait.RESTART:
            self._time_waits.restart(entry, now_ns)
        elif verdict == timewait.GONE:
            after = st.CLOSED
            self._time_waits.remove(entry)
            self._trace_move(entry.flow, st.TIME_WAIT, st.RCV_RST, now_ns)
        self._trace_in(segment, entry.flow, st.TIME_WAIT, after, now_ns)
        self._answer(answer, after, now_ns)

    def _on_icmp(self, message: IcmpMessage, now_ns: int) -> None:
        if message.dst not in self.local_addresses:
            self.counters["not_for_us"] += 1
        elif not self._is_one_other_host(message.src):
            self.counters["martian_source"] += 1
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

    def _touch(self, connection: Connection, now_ns: int) -> None:
        """A user call changed the connection: flush it now, or leave that to the end of the batch."""
        if self._busy:
            self._dirty[connection] = None
        else:
            self._send_due(connection, now_ns)

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

    def _flush(self, connection: Connection, now_ns: int) -> None:
        """Send what the connection has to say; where queued text left, its user hears in the next round."""
        if not connection.awaits_sent:
            self._send_due(connection, now_ns)
            return
        unsent = connection.unsent_bytes
        self._send_due(connection, now_ns)
        if connection.unsent_bytes < unsent:
            self._masks[connection] = self._masks.get(connection, 0) | WRITABLE

    def _send_due(self, connection: Connection, now_ns: int) -> None:
        """Send what the connection has to say, up to the quantum."""
        sent = 0
        for segment in connection.transmit(now_ns, QUANTUM_BYTES):
            sent += segment.payload_len
            self._emit(segment, connection.state, now_ns)
        if sent >= QUANTUM_BYTES:
            self._dirty[connection] = None
        if connection.state in RETIRED:
            self._retire(connection, now_ns)
        else:
            self._deadlines.arm(connection)

    def _emit(self, segment: Segment, state: int, now_ns: int) -> None:
        segment.packet_id = self._next_packet_id()
        if self.tracer is not None:
            flow = (segment.src, segment.sport, segment.dst, segment.dport)
            self.tracer(SegmentOut(now_ns, flow, segment, state))
        self.send_packet(self._codec.encode(segment, self.offload.checksum), now_ns)

    def _answer(self, segment: Segment | None, state: int, now_ns: int) -> None:
        if segment is not None:
            self._emit(segment, state, now_ns)

    # ------------------------------------------------------------------ tables

    def _retire(self, connection: Connection, now_ns: int) -> None:
        """The engine is done with the connection; its name is free, or TIME-WAIT's."""
        if self._connections.get(connection.flow) is not connection:
            return
        del self._connections[connection.flow]
        self._deadlines.discard(connection)
        if connection.state == st.TIME_WAIT:
            self._time_waits.add(connection.time_wait(now_ns))
        if self.tracer is not None:
            c = connection
            error = c.error
            if error is None and c.aborted:
                error = ConnectionAbortedError(errno.ECONNABORTED, "reset by us")
            totals = (c.bytes_in, c.bytes_out, c.retransmitted)
            self.tracer(ConnectionClosed(now_ns, c.flow, *totals, c.opened_ns, error))

    def _drop_record(self, record: SynRecord, listener: Listener) -> None:
        del self._records[record.flow]
        self._deadlines.discard(record)
        listener.records -= 1

    def _close_listener(self, listener: Listener, now_ns: int) -> None:
        del self._listeners[listener.address, listener.port]
        for record, owner in tuple(self._records.values()):
            if owner is listener:
                self._drop_record(record, listener)
                self._trace_move(record.flow, st.SYN_RECEIVED, st.ABORT, now_ns)
                self._answer(listen.abort(record, "RST: the listener closed"), st.CLOSED, now_ns)
        while (connection := listener.accept()) is not None:
            self.abort(connection, now_ns)

    def _listener(self, address: bytes, port: int) -> Listener | None:
        listeners = self._listeners
        return listeners.get((address, port)) or listeners.get((None, port))

    def _is_listened_on(self, address: bytes | None, port: int) -> bool:
        if address is None:
            return any(other == port for _, other in self._listeners)
        return self._listener(address, port) is not None

    def _is_taken(self, flow: FourTuple) -> bool:
        return flow in self._connections or flow in self._records or flow in self._time_waits

    def _is_one_other_host(self, address: bytes) -> bool:
        """RFC 1122 3.2.1.3 (g), MUST-63: what cannot be a source is never answered, or others would be flooded."""
        if address in self.local_addresses or address in self._broadcasts:
            return False
        source = ip_address(address)
        return not (source.is_multicast or source.is_unspecified or source.is_loopback or address == LIMITED_BROADCAST)

    def _superpacket_bytes(self, remote: bytes) -> int:
        return LARGEST_PACKET if self.offload.takes_superpackets(remote) else 0

    def _source_for(self, remote: bytes, local: bytes | None) -> bytes:
        """MUST-43, MUST-44: the local address as asked for, else one of the remote's family, of its subnet if any."""
        if local is not None:
            if local not in self.local_addresses or len(local) != len(remote):
                name = ip_address(local)
                raise OSError(errno.EADDRNOTAVAIL, f"{name} is not an address of this stack for {ip_address(remote)}")
            return local
        candidates = [address for address in self.addresses if len(address.ip.packed) == len(remote)]
        if not candidates:
            family = "IPv4" if len(remote) == 4 else "IPv6"
            raise OSError(errno.ENETUNREACH, f"the stack has no {family} address to reach {ip_address(remote)} from")
        target = ip_address(remote)
        return next((a for a in candidates if target in a.network), candidates[0]).ip.packed

    # ------------------------------------------------------------------ tracing

    def _trace_in(self, segment: Segment, flow: FourTuple, before: int, after: int, now_ns: int) -> None:
        if self.tracer is not None:
            self.tracer(SegmentIn(now_ns, flow, segment, before, after))

    def _trace_move(self, flow: FourTuple, before: int, cause: str, now_ns: int) -> None:
        if self.tracer is not None:
            self.tracer(StateChange(now_ns, flow, before, st.TRANSITIONS[before, cause], cause))


