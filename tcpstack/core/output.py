"""What leaves a connection, in which order: controls, duplicate acknowledgements, text, an acknowledgement alone."""

from __future__ import annotations

from .receive.acks import AckPolicy, Blocks
from .receive.receiver import Receiver
from .receive.sack import MOST_BLOCKS_WITH_TIMESTAMPS
from .receive.timestamps import Timestamps
from .segment import ACK, FIN, PSH, RST, URG, FourTuple, Options, Segment, SegmentOptions
from .send.chunk import Chunk
from .send.departures import next_chunk
from .send.sender import Sender
from .seq import MASK


class Output:
    """Joins what the two halves have to say into segments.

    `syn_flags` (SYN, or SYN | ACK) with `syn_reason` asks for our SYN to leave, once; `syn_options` go with it.
    `timestamps` go with all that leaves later, where they have been negotiated. `taken` is what the last unacceptable
    segment acknowledged, as far as that is known: 0 before there was one.
    """

    __slots__ = (
        "_acks", "_controls", "_flow", "_receiver", "_sender", "syn_flags", "syn_options", "syn_reason", "taken",
        "timestamps",
    )  # fmt: skip

    def __init__(self, flow: FourTuple, sender: Sender, receiver: Receiver, acks: AckPolicy) -> None:
        self._flow = flow
        self._sender = sender
        self._receiver = receiver
        self._acks = acks
        self._controls: tuple[Segment, ...] = ()
        self.syn_flags = 0
        self.syn_reason = ""
        self.syn_options: SegmentOptions | None = None
        self.taken = 0
        self.timestamps: Timestamps | None = None

    def control(self, segment: Segment) -> None:
        """Queue a segment that is ready made (a RST)."""
        self._controls += (segment,)

    def reset(self, reason: str, now_ns: int) -> None:
        """<SEQ=SND.NXT><CTL=RST>, and nothing else any more (3.10.5)."""
        local, lport, remote, rport = self._flow
        options = None if self.timestamps is None else self.timestamps.options(now_ns)
        seq = self._ack_seq() & MASK
        self._controls = (Segment(local, lport, remote, rport, seq, 0, RST, 0, options=options, reason=reason),)

    def keepalive(self, reason: str, now_ns: int) -> None:
        """<SEQ=SND.NXT-1><ACK=RCV.NXT><CTL=ACK> (3.8.4)."""
        self._controls += (self._segment(self._sender.nxt - 1, ACK, reason, now_ns),)

    def take_controls(self) -> list[Segment]:
        """What is left to say for a connection that is CLOSED."""
        controls, self._controls = self._controls, ()
        return list(controls)

    def transmit(self, now_ns: int, max_bytes: int) -> list[Segment]:
        """All that may leave now, but no new text once `max_bytes` of text have. Arms the sender's timer."""
        sender, acks = self._sender, self._acks
        segments = self.take_controls() if self._controls else []
        if self.syn_flags:
            segments.append(self._syn())
            sender.on_syn_sent(now_ns)
        if acks.duplicates:
            segments += [self._duplicate(*duplicate, now_ns) for duplicate in acks.duplicates]
            if acks.duplicates[-1][0] == self._receiver.nxt and not acks.reason:
                acks.on_sent()  # it acknowledges what the delayed one would; that would be one duplicate too many
            acks.duplicates = ()
        if sender.una > sender.iss:  # our SYN is acknowledged
            while max_bytes > 0 and sender.has_work and (chunk := next_chunk(sender, now_ns)) is not None:
                segments.append(self._text(chunk, now_ns))
                max_bytes -= chunk.size
                acks.on_sent()
        if acks.reason:
            segment = self._segment(self._ack_seq(), ACK, acks.reason, now_ns)
            if self._receiver.reports and (blocks := self._receiver.sack_blocks()):
                segment.options = self._sack_options(blocks, now_ns)
            segments.append(segment)
            acks.on_sent()
        sender.arm(now_ns)
        return segments

    def _syn(self) -> Segment:
        flags, self.syn_flags = self.syn_flags, 0
        if self.timestamps is not None:
            self.timestamps.last_ack_sent = self._receiver.nxt
        local, lport, remote, rport = self._flow
        return Segment(
            local, lport, remote, rport, self._sender.iss & MASK, self._receiver.nxt & MASK if flags & ACK else 0,
            flags, self._receiver.syn_window_field(), options=self.syn_options, reason=self.syn_reason,
        )  # fmt: skip

    def _text(self, chunk: Chunk, now_ns: int) -> Segment:
        flags = ACK | (FIN if chunk.fin else 0) | (PSH if chunk.psh else 0)
        segment = self._segment(chunk.seq, flags, chunk.reason, now_ns)
        if chunk.size:
            segment.payload = self._sender.buffer.view(chunk.seq, chunk.size)
            segment.payload_len = chunk.size
            if chunk.size > self._sender.mss:
                segment.gso_size = self._sender.mss
        return segment

    def _duplicate(self, ack: int, reason: str, blocks: Blocks, now_ns: int) -> Segment:
        # Seen from `ack`: RCV.NXT may have moved on since, and reads may have opened the window, but with another
        # window this would be no duplicate (RFC 5681 2).
        field = self._receiver.field_again(ack)
        local, lport, remote, rport = self._flow
        options = self._sack_options(blocks, now_ns)
        if self.timestamps is not None:
            self.timestamps.last_ack_sent = ack
        seq = self._ack_seq()
        flags, up = (ACK | URG, self._up(seq)) if self._sender.up > seq and self._is_urgent else (ACK, 0)
        return Segment(local, lport, remote, rport, seq & MASK, ack & MASK, flags, field, (), 0, options, up, reason)

    def _segment(self, seq: int, flags: int, reason: str, now_ns: int) -> Segment:
        local, lport, remote, rport = self._flow
        nxt, wnd = self._receiver.nxt, self._receiver.window_field()
        options, timestamps = None, self.timestamps
        if timestamps is not None:
            timestamps.last_ack_sent = nxt
            options = timestamps.options(now_ns)
        up = 0
        # 3.8.5: "carried in all segments transmitted", for as long as there is urgent text
        if self._sender.up > seq and self._is_urgent:
            flags |= URG
            up = self._up(seq)
        return Segment(local, lport, remote, rport, seq & MASK, nxt & MASK, flags, wnd, (), 0, options, up, reason)

    @property
    def _is_urgent(self) -> bool:
        """Not any more once all of it is acknowledged: a keep-alive's number lies below what is."""
        return self._sender.up > self._sender.una

    def _up(self, seq: int) -> int:
        """SEG.UP: SND.UP from SEG.SEQ on, or as far as the field reaches; a later segment's reaches further."""
        return min(self._sender.up - seq, 0xFFFF)

    @property
    def points_its_furthest(self) -> bool:
        """Whether an acknowledgement that leaves now tells of urgent text as far on as the field reaches."""
        return self._sender.up - self._ack_seq() >= 0xFFFF

    def _ack_seq(self) -> int:
        # Deviates from the RFC's <SEQ=SND.NXT>: never beyond the peer's window, as Linux. A probe octet moves SND.NXT
        # past a closed window, and an ACK or RST that stands there is unacceptable: the peer would not hear it. Unless
        # it has taken that octet, and we refuse to hear so: two such ends would refuse each other's ACKs for ever.
        sender = self._sender
        nxt, una = sender.nxt, sender.una
        if nxt - una <= sender.wnd or nxt == self.taken:
            return nxt
        first = max(una, min(sender.iss + 1, nxt))  # the SYN takes no room in the window
        return max(una + sender.wnd, first)

    def _sack_options(self, blocks: Blocks, now_ns: int) -> SegmentOptions | None:
        """The options of an acknowledgement that reports these blocks: as many as there is room for."""
        if self.timestamps is None:
            return Options(sack=_as_on_the_wire(blocks)) if blocks else None
        stamps = self.timestamps.options(now_ns)
        if not blocks:
            return stamps
        return Options(timestamps=stamps.timestamps, sack=_as_on_the_wire(blocks[:MOST_BLOCKS_WITH_TIMESTAMPS]))


def _as_on_the_wire(blocks: Blocks) -> Blocks:
    return tuple((left & MASK, right & MASK) for left, right in blocks)
