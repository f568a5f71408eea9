"""Segments that no host has sent: an attacker's, who knows some of the numbers and guesses others, and old ones again.

What is forged here must change nothing, by RFC 5961, RFC 7323 5 (PAWS) or RFC 9293 3.10.7: the checks of the search are
as strict with an attack as without.
"""

from __future__ import annotations

import random

from ...core import state as st
from ...core.segment import ACK, FIN, PSH, RST, SYN, FourTuple, Options, Segment
from ...core.seq import MASK
from ..host import SimHost
from .case import Attack
from .known import Known
from .watch import Wire

HALF = 1 << 31
CHALLENGED = frozenset({
    "reset in the window", "SYN in the window", "text with a wrong ACK", "ACK of what was not sent",
})  # fmt: skip
"""What an ACK goes back for."""
UNSYNCHRONIZED = frozenset({st.CLOSED, st.SYN_SENT, st.SYN_RECEIVED})


def forge(attack: Attack, host: SimHost, wire: Wire) -> Segment | None:
    """The packet of this attack, as things stand at `host`; None where there is nothing to attack."""
    draw = random.Random(attack.seed)
    if attack.kind == "replay":
        return _again(draw.choice(wire.heard)) if wire.heard else None
    if attack.kind.startswith("stray"):
        flow = (host.stack.addresses[0].ip.packed, draw.randrange(2_000, 3_000))
        other = next((segment.src for segment in wire.heard), None)
        return None if other is None else _stray(attack.kind, (*flow, other, draw.randrange(1, 65_536)), draw)
    targets = [each for each in host.stack.connections if each.state not in UNSYNCHRONIZED]
    if not targets:
        return None
    return _at(attack.kind, wire.flows[draw.choice(targets).flow], draw)


def _again(segment: Segment) -> Segment | None:
    """A packet that the network has doubled and kept for a while."""
    if segment.gso_size:
        return None
    return Segment(
        segment.src, segment.sport, segment.dst, segment.dport, segment.seq, segment.ack, segment.flags, segment.wnd,
        segment.payload, segment.payload_len, segment.options, segment.up,
    )  # fmt: skip


def _stray(kind: str, flow: FourTuple, draw: random.Random) -> Segment:
    flags = {"stray ACK": ACK, "stray text": draw.choice((PSH, FIN, SYN, FIN | ACK)), "stray RST": RST}[kind]
    seq, ack = draw.getrandbits(32), draw.getrandbits(32)
    return _segment(flow, seq, ack, flags, b"stray" if kind == "stray text" else b"", None)


def _at(kind: str, flow: Known, draw: random.Random) -> Segment | None:
    """At a connection: RCV.NXT is at most `flow.rcv`, SND.UNA at most `flow.una`, SND.NXT is `flow.nxt`."""
    stamps = flow.stamps()
    options = None if stamps is None else Options(timestamps=stamps)
    rcv, nxt = flow.rcv, flow.nxt
    near = draw.choice((1, 2, 100, draw.randrange(1, 60_000)))
    waits = flow.nxt <= (flow.iss or 0) + flow.program.said  # and may be sent before this comes
    beyond = nxt + near + (1 << 20 if waits else 0)
    text = draw.randbytes(draw.choice((1, 10, 1_000)))
    if kind == "reset in the window":
        offset = min(near, (flow.edge or 0) - rcv - 1)
        return _segment(flow.flow, rcv + offset, nxt, RST | draw.choice((0, ACK)), b"", None) if offset > 0 else None
    if kind == "reset elsewhere":
        return _segment(flow.flow, rcv - near - 1, nxt, RST, draw.choice((b"", text)), None)
    if kind == "SYN in the window":
        seq = draw.choice((rcv, rcv + near, rcv - near, draw.getrandbits(32)))
        return _segment(flow.flow, seq, nxt, SYN | draw.choice((0, ACK)), draw.choice((b"", text)), options)
    if kind == "text with a wrong ACK":
        ack = draw.choice((beyond, nxt + (1 << 30), flow.una - flow.widest - (1 << 30)))
        return _segment(flow.flow, rcv, ack, ACK | draw.choice((0, FIN)), text, options)
    if kind == "ACK of what was not sent":
        return _segment(flow.flow, rcv, beyond, ACK, b"", options)
    if kind == "old ACK":
        return _segment(flow.flow, rcv - draw.choice((0, 1, near)), flow.una - near - flow.widest, ACK, b"", options)
    if kind == "text without ACK":
        return _segment(flow.flow, rcv, 0, draw.choice((0, PSH, FIN)), text, options)
    assert kind == "old text"
    if stamps is None or flow.ack != rcv:  # what is echoed is TS.Recent only where nothing waits to be acknowledged
        return None
    old = Options(timestamps=((stamps[0] - 1 - draw.randrange(HALF - 60_000)) & MASK, stamps[1]))
    return _segment(flow.flow, rcv, flow.una, ACK | draw.choice((0, FIN)), text, old)


def _segment(flow: FourTuple, seq: int, ack: int, flags: int, text: bytes, options: Options | None) -> Segment:
    local, lport, remote, rport = flow
    payload = (text,) if text else ()
    return Segment(
        remote, rport, local, lport, seq & MASK, ack & MASK, flags, 1_000, payload, len(text), options, 0, ""
    )
