"""The cases of the state matrix: every combination of SYN, RST, FIN, ACK and text x edges of the sequence numbers x
edges of the acknowledgement numbers, said by name, so that the same case can be put to any TCP in that state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, URG, flag_names
from tests.core.letter import MOD, PEER_WND, Arrival, Tcb

TEXT = b"text"
FLAGS = tuple(sum(flag for at, flag in enumerate((SYN, RST, FIN, ACK)) if bits >> at & 1) for bits in range(16))

SEQ_EDGES: dict[str, Callable[[Tcb], int]] = {
    "outside left": lambda t: t.rcv_nxt - 1000,
    "the octet before the window": lambda t: t.rcv_nxt - 1,
    "left edge": lambda t: t.rcv_nxt,
    "inside": lambda t: t.rcv_nxt + 100,
    "the last octet of the window": lambda t: t.rcv_nxt + t.rcv_wnd - 1,
    "right edge": lambda t: t.rcv_nxt + t.rcv_wnd,
    "outside right": lambda t: t.rcv_nxt + t.rcv_wnd + 1000,
    "half the space away": lambda t: t.rcv_nxt + MOD // 2,
}
ACK_EDGES: dict[str, Callable[[Tcb], int]] = {
    "older than MAX.SND.WND": lambda t: t.una - PEER_WND - 1,
    "as old as MAX.SND.WND": lambda t: t.una - PEER_WND,
    "before SND.UNA": lambda t: t.una - 1,
    "SND.UNA": lambda t: t.una,
    "between": lambda t: t.una + (t.nxt - t.una) % MOD // 2,
    "SND.NXT": lambda t: t.nxt,
    "beyond SND.NXT": lambda t: t.nxt + 1,
    "far beyond SND.NXT": lambda t: t.nxt + 2 * PEER_WND,
    "half the space away": lambda t: t.una + MOD // 2,
}
NOISE = (0, PSH, URG, PSH | URG)


@dataclass(frozen=True)
class Case:
    """`noise` changes nothing: PSH and URG."""

    seq: str
    ack: str
    flags: int
    text: bytes
    noise: int

    def at(self, tcb: Tcb) -> Arrival:
        """The segment, for a connection with these numbers."""
        seq, ack = SEQ_EDGES[self.seq](tcb) % MOD, ACK_EDGES[self.ack](tcb) % MOD
        return Arrival(seq, ack, self.flags | self.noise, self.text)

    def __str__(self) -> str:
        ack = f", ACK field: {self.ack}" if self.flags & ACK else ""
        return f"{flag_names(self.flags | self.noise)}{' with text' if self.text else ''} at {self.seq}{ack}"


def cases(tcb: Tcb) -> Iterator[Case]:
    """All of them for a state. Edges that are one number there are one case."""
    seqs = {edge(tcb) % MOD: name for name, edge in reversed(SEQ_EDGES.items())}
    acks = {edge(tcb) % MOD: name for name, edge in reversed(ACK_EDGES.items())}
    count = 0
    for flags in FLAGS:
        for text in (b"", TEXT):
            for seq in reversed(seqs.values()):
                for ack in reversed(acks.values()) if flags & ACK else ("SND.UNA",):
                    count += 1
                    # Not in step with anything else.
                    yield Case(seq, ack, flags, text, NOISE[count * 0x9E3779B1 >> 16 & 3])
