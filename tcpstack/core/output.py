"""What leaves a connection, in which order: controls, duplicate acknowledgements, text, an acknowledgement alone."""

from __future__ import annotations

from .receive.acks import AckPolicy, Blocks
from .receive.receiver import Receiver
from .segment import ACK, FIN, PSH, RST, FourTuple, Options, Segment
from .send.chunk import Chunk
from .send.departures import next_chunk
from .send.sender import Sender
from .seq import MASK


class Output:
    """Joins what the two halves have to say into segments.

    `syn_flags` (SYN, or SYN | ACK) with `syn_reason` asks for our SYN to leave, once; `syn_options` go with it.
    """

    __slots__ = ("_acks", "_controls", "_flow", "_receiver", "_sender", "syn_flags", "syn_options", "syn_reason")

    def __init__(self, flow: FourTuple, sender: Sender, receiver: Receiver, acks: AckPolicy) -> None:
        self._flow = flow
        self._sender = sender
        self._receiver = receiver
        self._acks = acks
        self._controls: list[Segment] = []
        self.syn_flags = 0
        self.syn_reason = ""
        self.syn_options: Options | None = None

    def control(self, segment: Segment) -> None:
        """Queue a segment that is ready made (a RST)."""
        self._controls.append(segment)

    def reset(self, reason: str) -> None:
        """<SEQ=SND.NXT><CTL=RST>, and nothing else any more (3.10.5)."""
        self._controls = [self._segment(self._ack_seq(), RST, reason)]

    def take_controls(self) -> list[Segment]:
        """What is left to say for a connection that is CLOSED."""
        controls, self._controls = self._controls, []
        return controls

    def transmit(self, now_ns: int, max_bytes: int) -> list[Segment]:
        """All that may leave now, but no new text once `max_bytes` of text have. Arms the sender's timer."""
        sender, acks = self._sender, self._acks
        segments = self.take_controls() if self._controls else []
        if self.syn_flags:
            segments.append(self._syn())
            sender.on_syn_sent(now_ns)
        if acks.duplicates:
            segments += [self._duplicate(*duplicate) for duplicate in acks.duplicates]
            if acks.duplicates[-1][0] == self._receiver.nxt and not acks.reason:
                acks.on_sent()  # it acknowledges what the delayed one would; that would be one duplicate too many
            acks.duplicates.clear()
        if sender.una > sender.iss:  # our SYN is acknowledged
            while max_bytes > 0 and sender.has_work and (chunk := next_chunk(sender, now_ns)) is not None:
                segments.append(self._text(chunk))
                max_bytes -= chunk.size
                acks.on_sent()
        if acks.reason:
            segment = self._segment(self._ack_seq(), ACK, acks.reason)
            if self._receiver.reports:
                segment.options = _sack_options(self._receiver.sack_blocks())
            segments.append(segment)
            acks.on_sent()
        sender.arm(now_ns)
        return segments

    def _syn(self) -> Segment:
        flags, self.syn_flags = self.syn_flags, 0
        local, lport, remote, rport = self._flow
        return Segment(
            local, lport, remote, rport, self._sender.iss & MASK, self._receiver.nxt & MASK if flags & ACK else 0,
            flags, self._receiver.syn_window_field(), options=self.syn_options, reason=self.syn_reason,
        )  # fmt: skip

    def _text(self, chunk: Chunk) -> Segment:
        flags = ACK | (FIN if chunk.fin else 0) | (PSH if chunk.psh else 0)
        segment = self._segment(chunk.seq, flags, chunk.reason)
        if chunk.size:
            segment.payload = self._sender.buffer.view(chunk.seq, chunk.size)
            segment.payload_len = chunk.size
            if chunk.size > self._sender.mss:
                segment.gso_size = self._sender.mss
        return segment

    def _duplicate(self, ack: int, reason: str, blocks: Blocks) -> Segment:
        # The right edge stays where the peer knows it, seen from `ack`: RCV.NXT may have moved on since, and reads may
        # have opened the window, but with another window this would be no duplicate (RFC 5681 2).
        receiver = self._receiver
        field = min((max(receiver.edge - ack, 0) + (1 << receiver.shift) - 1) >> receiver.shift, 0xFFFF)
        receiver.edge = max(receiver.edge, ack + (field << receiver.shift))
        local, lport, remote, rport = self._flow
        options = _sack_options(blocks)
        seq = self._ack_seq() & MASK
        return Segment(local, lport, remote, rport, seq, ack & MASK, ACK, field, options=options, reason=reason)

    def _segment(self, seq: int, flags: int, reason: str) -> Segment:
        local, lport, remote, rport = self._flow
        if flags & RST:
            return Segment(local, lport, remote, rport, seq & MASK, 0, flags, 0, reason=reason)
        receiver = self._receiver
        wnd = receiver.window_field()
        return Segment(local, lport, remote, rport, seq & MASK, receiver.nxt & MASK, flags, wnd, (), 0, None, 0, reason)

    def _ack_seq(self) -> int:
        # Deviates from the RFC's <SEQ=SND.NXT>: never beyond the peer's window, as Linux. A probe octet moves SND.NXT
        # past a closed window, and an ACK or RST that stands there is unacceptable: the peer would not hear it.
        sender = self._sender
        nxt, una = sender.nxt, sender.una
        if nxt - una <= sender.wnd:
            return nxt
        first = max(una, min(sender.iss + 1, nxt))  # the SYN takes no room in the window
        return max(una + sender.wnd, first)


def _sack_options(blocks: Blocks) -> Options | None:
    """The SACK option with these blocks; none where there are none."""
    if not blocks:
        return None
    return Options(sack=tuple((left & MASK, right & MASK) for left, right in blocks))
