"""A script of a conversation: events with segments made by hand, in explicit time."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tcpstack.core.events import ConnectionClosed, Event, FaultHit, SegmentIn, SegmentOut, StateChange
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, URG, Options, Segment
from tcpstack.core.state import CLOSED, ESTABLISHED, LISTEN, SYN_RECEIVED, TIMEOUTS, TRANSITIONS, USER_CALLS

BITS = {"SYN": SYN, "ACK": ACK, "FIN": FIN, "RST": RST, "PSH": PSH, "URG": URG}
OURS = (socket.inet_pton(socket.AF_INET, "10.9.0.2"), 80)
PEERS = (socket.inet_pton(socket.AF_INET, "10.9.0.1"), 41234)
ARRIVALS: dict[tuple[int, int], list[str]] = {}
"""The arrivals that lead from one state to another, by the two states."""
for (state, event), follower in TRANSITIONS.items():
    if event not in USER_CALLS | TIMEOUTS:
        ARRIVALS.setdefault((state, follower), []).append(event)
START_NS = 5_000_000_000


class Script:
    """Plays a conversation into a tracer. Keeps SND.NXT of both ends; everything can be overridden.

    `at` is the time since the start in ms, which each step moves on by a tenth.
    """

    def __init__(
        self,
        tracer: Callable[[Event], object],
        *,
        ours: tuple[bytes, int] = OURS,
        peers: tuple[bytes, int] = PEERS,
        our_isn: int = 991_823_411,
        peer_isn: int = 2_817_361_921,
        start_ns: int = START_NS,
    ) -> None:
        self.tracer = tracer
        self.ours, self.peers = ours, peers
        self.our_next, self.peer_next = our_isn, peer_isn
        self.at = 0.0
        self.start_ns = start_ns
        self.state = LISTEN
        self.last_id = 0

    @property
    def flow(self):
        return (*self.ours, *self.peers)

    @property
    def now_ns(self) -> int:
        return self.start_ns + round(self.at * 1e6)

    def segment(
        self, bits: str, data: bytes = b"", *, out: bool, seq=None, ack=None, wnd=502, options=None, up=0, why=""
    ):
        src, dst = (self.ours, self.peers) if out else (self.peers, self.ours)
        flags = sum(BITS[name] for name in bits.split(","))
        mine, its = (self.our_next, self.peer_next) if out else (self.peer_next, self.our_next)
        seq = mine if seq is None else seq % 2**32
        ack = (its if ack is None else ack % 2**32) if flags & ACK else 0
        self.last_id += 1
        made = Segment(
            *src, *dst, seq, ack, flags, wnd, (data,) if data else (), len(data), options, up, why, self.last_id
        )
        end = (seq + made.len) % 2**32
        if out:
            self.our_next = end
        else:
            self.peer_next = end
        self.at += 0.1
        return made

    def peer(self, bits: str, data: bytes = b"", *, after: int | None = None, before: int | None = None, **fields):
        """The peer's segment arrives and takes us from `before` (by default where we are) to `after` (there too).

        As in the engine, the state change is told just before the segment.
        """
        before = self.state if before is None else before
        self.state = before if after is None else after
        made = self.segment(bits, data, out=False, **fields)
        for cause in ARRIVALS.get((before, self.state), ())[:1]:
            self.tracer(StateChange(self.now_ns, self.flow, before, self.state, cause))
        self.tracer(SegmentIn(self.now_ns, self.flow, made, before, self.state))
        return made

    def we(self, bits: str, data: bytes = b"", **fields) -> Segment:
        """We send a segment."""
        made = self.segment(bits, data, out=True, **fields)
        self.tracer(SegmentOut(self.now_ns, self.flow, made, self.state))
        return made

    def user(self, cause: str) -> None:
        """A user call or a timeout moves us."""
        before, self.state = self.state, TRANSITIONS[self.state, cause]
        self.tracer(StateChange(self.now_ns, self.flow, before, self.state, cause))

    def hit(self, segment: Segment, direction: str, rule: str, action: str = "dropped") -> None:
        self.tracer(FaultHit(self.now_ns, self.flow, segment, direction, rule, action, segment.packet_id))

    def lose_from_peer(self, bits: str, data: bytes = b"", *, rule: str, action: str = "dropped", **fields) -> Segment:
        """The peer sends a segment that a rule kills before it comes to us."""
        made = self.segment(bits, data, out=False, **fields)
        self.hit(made, "in", rule, action)
        return made

    def closed(self, *, received: int = 0, sent: int = 0, retransmitted: int = 0, error: OSError | None = None) -> None:
        self.tracer(
            ConnectionClosed(self.now_ns, self.flow, received, sent, retransmitted, self.start_ns, error)
        )

    def passive_handshake(self, peer_options: Options | None = None, our_options: Options | None = None) -> None:
        """The peer opens, up to ESTABLISHED."""
        self.peer("SYN", before=LISTEN, after=SYN_RECEIVED, wnd=64240, options=peer_options)
        self.we("SYN,ACK", wnd=65535, options=our_options, why="answers the SYN")
        self.peer("ACK", after=ESTABLISHED)

    def active_handshake(self) -> None:
        """We open, up to ESTABLISHED."""
        self.state = CLOSED
        self.user("active OPEN")
        self.we("SYN", why="opens the connection")
        self.peer("SYN,ACK", after=ESTABLISHED)
        self.we("ACK", why="acknowledges the peer's SYN")


@pytest.fixture
def script() -> type[Script]:
    return Script
