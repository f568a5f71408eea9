"""A TCP segment as the engine sees it: the header's fields by their RFC 9293 names, and the text.

A Segment also carries the two addresses of the pseudo-header, since a connection is named by both
sockets. Sequence numbers in a Segment are as on the wire, 0 to 2^32 - 1; a connection unwraps them
once on arrival and masks them once on the way out (see `seq.py`).
"""

from __future__ import annotations

from typing import TypeAlias

Buffer: TypeAlias = bytes | memoryview
FourTuple: TypeAlias = tuple[bytes, int, bytes, int]
"""A connection's name: (local address, local port, remote address, remote port). Addresses are packed:
4 octets for IPv4, 16 for IPv6."""

# Control bits, RFC 9293 3.1.
FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
ACK = 0x10
URG = 0x20
ECE = 0x40
CWR = 0x80

FLAG_NAMES = (
    (SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"), (URG, "URG"), (ECE, "ECE"), (CWR, "CWR"),
)  # fmt: skip


class SegmentOptions:
    """The options of one segment: Options, or TimestampsAlone. An absent option is None (False for SACK-Permitted, ()
    for lists).

    `wscale` keeps "absent" (None) apart from "offered, with shift 0" (0): the second turns scaling on.
    `timestamps` is (TSval, TSecr). `sack` holds (left edge, right edge) pairs as on the wire.
    `unknown` lists the kinds that were skipped by their length (MUST-6). `malformed` is True where an
    illegal length ended the parse (MUST-7): what stood before it counts, the rest is not believed.
    """

    __slots__ = ()

    mss: int | None
    wscale: int | None
    sack_permitted: bool
    timestamps: tuple[int, int] | None
    sack: tuple[tuple[int, int], ...]
    unknown: tuple[int, ...]
    malformed: bool

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SegmentOptions) and all(
            getattr(self, name) == getattr(other, name) for name in Options.__slots__
        )

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in Options.__slots__))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value!r}"
            for name in ("mss", "wscale", "sack_permitted", "timestamps", "sack", "unknown", "malformed")
            if (value := getattr(self, name)) is not None and value is not False and value != ()
        )
        return f"Options({shown})"


class Options(SegmentOptions):
    """Any of them."""

    __slots__ = ("malformed", "mss", "sack", "sack_permitted", "timestamps", "unknown", "wscale")

    def __init__(
        self,
        mss: int | None = None,
        wscale: int | None = None,
        sack_permitted: bool = False,
        timestamps: tuple[int, int] | None = None,
        sack: tuple[tuple[int, int], ...] = (),
        unknown: tuple[int, ...] = (),
        malformed: bool = False,
    ) -> None:
        self.mss = mss
        self.wscale = wscale
        self.sack_permitted = sack_permitted
        self.timestamps = timestamps
        self.sack = sack
        self.unknown = unknown
        self.malformed = malformed


class TimestampsAlone(SegmentOptions):
    """What nearly every segment has on a connection with timestamps: that option, and no other.

    It equals Options(timestamps=...) and is half as large; the class is what a fast path looks at.
    """

    __slots__ = ("timestamps",)

    timestamps: tuple[int, int]
    mss = None
    wscale = None
    sack_permitted = False
    sack = ()
    unknown = ()
    malformed = False

    def __init__(self, timestamps: tuple[int, int]) -> None:
        self.timestamps = timestamps


class Segment:
    """One TCP segment.

    src, dst      packed addresses of the pseudo-header (4 or 16 octets, both alike)
    sport, dport  ports
    seq, ack      SEG.SEQ, SEG.ACK as on the wire (`ack` means something only with the ACK bit)
    flags         control bits, an int of FIN | SYN | RST | PSH | ACK | URG | ECE | CWR
    wnd           SEG.WND as on the wire: not yet scaled
    up            SEG.UP, the urgent pointer field
    options       SegmentOptions, or None where the header has none
    payload       the segment text, as chunks to be read in order and never joined without need
    payload_len   octets in payload
    reason        why we send it, in words; "" for a segment that arrived
    packet_id     the number the device boundary knows the packet by, shared by events and captures
    gso_size      where this is a superpacket: octets of text in each segment that it stands for (the last may have
                  fewer); else 0
    """

    __slots__ = (
        "ack", "dport", "dst", "flags", "gso_size", "options", "packet_id", "payload", "payload_len",
        "reason", "seq", "sport", "src", "up", "wnd",
    )  # fmt: skip

    def __init__(
        self,
        src: bytes,
        sport: int,
        dst: bytes,
        dport: int,
        seq: int,
        ack: int,
        flags: int,
        wnd: int,
        payload: tuple[Buffer, ...] = (),
        payload_len: int = 0,
        options: SegmentOptions | None = None,
        up: int = 0,
        reason: str = "",
        packet_id: int = 0,
        gso_size: int = 0,
    ) -> None:
        self.src = src
        self.sport = sport
        self.dst = dst
        self.dport = dport
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.wnd = wnd
        self.payload = payload
        self.payload_len = payload_len
        self.options = options
        self.up = up
        self.reason = reason
        self.packet_id = packet_id
        self.gso_size = gso_size

    @property
    def segments(self) -> int:
        """How many segments this is on the wire: one, but for a superpacket."""
        return -(-self.payload_len // self.gso_size) if self.gso_size else 1

    @property
    def len(self) -> int:
        """SEG.LEN: octets of text, plus one for SYN and one for FIN (RFC 9293 3.4)."""
        flags = self.flags
        return self.payload_len + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)

    def text(self) -> bytes:
        """The segment text joined into one bytes object (a copy unless it is one bytes chunk)."""
        payload = self.payload
        return bytes(payload[0]) if len(payload) == 1 else b"".join(payload)

    def __repr__(self) -> str:
        return (
            f"<Segment {self.sport}>{self.dport} {flag_names(self.flags)} seq={self.seq} ack={self.ack} "
            f"wnd={self.wnd} len={self.payload_len}{' ' + repr(self.options) if self.options else ''}>"
        )


def flag_names(flags: int) -> str:
    """The control bits in words, "SYN,ACK"; "none" where no bit is set."""
    return ",".join(name for bit, name in FLAG_NAMES if flags & bit) or "none"
