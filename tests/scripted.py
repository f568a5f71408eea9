"""One host whose peer is the test: it hears what the test says, in explicit time, and what it says is kept.

    host = Scripted()
    host.listen(80)
    [syn_ack] = host.hear(host.segment(SYN, 5000))

The host's ISN is known: ISS, unless `iss` says otherwise. The peer's, by convention, is IRS.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.events import Event, SegmentOut, StateChange
from tcpstack.core.segment import ACK, SYN, FourTuple, Options, Segment
from tcpstack.core.seq import MASK
from tcpstack.stack.isn import InitialSequenceNumbers
from tcpstack.stack.listener import Listener
from tcpstack.stack.stack import Stack
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.packet import Packet

MS = 1_000_000
SECOND = 1_000_000_000
START_NS = 1_000 * SECOND

ISS = 1_000
IRS = 5_000
PORT, PEER_PORT = 80, 4_000
OURS = {4: bytes((10, 0, 0, 1)), 6: bytes.fromhex("fd00" + "00" * 13 + "01")}
PEER = {4: bytes((10, 0, 0, 2)), 6: bytes.fromhex("fd00" + "00" * 13 + "02")}


class KnownIsn(InitialSequenceNumbers):
    """Chooses the number that the test wants."""

    def __init__(self, iss: int) -> None:
        super().__init__(bytes(16))
        self.iss = iss

    def choose(self, flow: FourTuple, now_ns: int) -> int:
        return self.iss & MASK


@dataclass(slots=True)
class Sent:
    """A segment that left, when, and why."""

    time_ns: int
    segment: Segment
    reason: str


class Scripted:
    """version  the IP version that `segment` speaks
    sent     all segments that left;  pings: all ICMP messages that left
    told     (connection, mask) as the users were told;  changes: the state changes traced
    """

    def __init__(
        self, *, config: Config | None = None, iss: int = ISS, version: int = 4, mtu: int = 1500, port: int = PORT
    ) -> None:
        self.now_ns = START_NS
        self.version = version
        self.port = port
        self.sent: list[Sent] = []
        self.pings: list[IcmpMessage] = []
        self.told: list[tuple[Connection, int]] = []
        self.events: list[Event] = []
        self.stack = Stack(
            ("10.0.0.1/24", "fd00::1/64"), mtu=mtu, config=config, random=Random(1), tracer=self.events.append
        )
        self.stack.isn = KnownIsn(iss)
        self.stack.send_packet = self._took
        self.stack.notify = lambda connection, mask: self.told.append((connection, mask))

    # -- the host's side

    def listen(self, port: int | None = None, **options: Any) -> Listener:
        return self.stack.listen(self.port if port is None else port, **options)

    def connect(self, **options: Any) -> Connection:
        """An active open to the peer, from `port`; the SYN has left."""
        connection = self.stack.connect(PEER[self.version], PEER_PORT, self.now_ns, lport=self.port, **options)
        connection.user = self
        return connection

    def established(
        self, *, wnd: int = 65535, options: Options | None = None, irs: int = IRS, config: Config | None = None
    ) -> Connection:
        """An active open that the peer has answered; its ACK has left. `sent` and `told` are empty again."""
        connection = self.connect(config=config)
        iss = self.sent[-1].segment.seq
        self.hear(self.segment(SYN | ACK, irs, iss + 1, wnd=wnd, options=options))
        self.sent.clear()
        self.told.clear()
        return connection

    def send(self, connection: Connection, data: bytes) -> list[Segment]:
        count = len(self.sent)
        self.stack.send(connection, data, self.now_ns)
        return self.since(count)

    def read(self, connection: Connection, max_bytes: int = 1 << 30) -> bytes:
        return b"".join(self.stack.receive(connection, max_bytes, self.now_ns))

    def masks(self, connection: Connection) -> int:
        """All that the connection's user was told, or-ed."""
        total = 0
        for other, mask in self.told:
            if other is connection:
                total |= mask
        return total

    # -- the peer's side

    def segment(
        self,
        flags: int,
        seq: int,
        ack: int = 0,
        *,
        wnd: int = 65535,
        text: bytes = b"",
        options: Options | None = None,
        up: int = 0,
        sport: int = PEER_PORT,
        src: bytes | None = None,
    ) -> Segment:
        return Segment(
            PEER[self.version] if src is None else src, sport, OURS[self.version], self.port, seq & MASK, ack & MASK,
            flags, wnd, (text,) if text else (), len(text), options, up,
        )  # fmt: skip

    def hear(self, *segments: Segment) -> list[Segment]:
        """All of them arrive in one batch. Returns what is sent in that turn."""
        return self.hear_packets(*map(encode, segments))

    def hear_packets(self, *packets: Packet) -> list[Segment]:
        count = len(self.sent)
        self.stack.on_packets([Packet((packet.data(),)) for packet in packets], self.now_ns)
        return self.since(count)

    # -- time

    def wait(self, for_ns: int) -> list[Segment]:
        """Time passes; deadlines are served when they come. Returns what is sent meanwhile."""
        return self.wait_until(self.now_ns + for_ns)

    def wait_until(self, end_ns: int) -> list[Segment]:
        count = len(self.sent)
        spins = 0
        while (deadline_ns := self.stack.deadline_ns) is not None and deadline_ns <= end_ns:
            spins = spins + 1 if deadline_ns <= self.now_ns else 0
            assert spins < 1000, "a deadline is not served"
            self.now_ns = max(deadline_ns, self.now_ns)
            self.stack.on_timer(self.now_ns)
        self.now_ns = end_ns
        return self.since(count)

    # -- what was seen

    def since(self, count: int) -> list[Segment]:
        return [sent.segment for sent in self.sent[count:]]

    @property
    def changes(self) -> list[tuple[int, str, int]]:
        return [(e.before, e.cause, e.after) for e in self.events if isinstance(e, StateChange)]

    def _took(self, packet: Packet, now_ns: int) -> None:
        item = decode(Packet((packet.data(),), id=packet.id))
        if isinstance(item, IcmpMessage):
            self.pings.append(item)
            return
        assert isinstance(item, Segment), item
        out = self.events[-1]
        assert isinstance(out, SegmentOut)
        assert out.segment.packet_id == packet.id
        assert out.segment.reason, f"no reason given for {item}"
        self.sent.append(Sent(now_ns, item, out.segment.reason))


def shape(segment: Segment) -> tuple[int, int, int, int]:
    """(flags, SEG.SEQ, SEG.ACK, octets of text): what most tests compare."""
    return segment.flags, segment.seq, segment.ack, segment.payload_len
