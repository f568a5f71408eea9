"""Captures in pcapng, the format that Wireshark and tshark read (draft-ietf-opsawg-pcapng).

Each packet carries, besides its octets and its time in nanoseconds, its direction, the number by which the
ladder's events know it, and as its comment why we sent it or which fault rule hit it.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from io import FileIO
from os import PathLike
from typing import BinaryIO, Protocol

from ..core.events import Event, FaultHit, SegmentOut
from ..core.segment import Segment
from ..core.seq import MASK
from ..wire.dpkt_codec import decode
from ..wire.packet import CHECKSUM_VERIFIED, Offload, Packet
from ..wire.segmentation import completed

_log = logging.getLogger(__name__)

_SECTION_HEADER = 0x0A0D0D0A
_INTERFACE = 1
_ENHANCED_PACKET = 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_UNKNOWN_LENGTH = 0xFFFF_FFFF_FFFF_FFFF
_LINKTYPE_RAW = 101  # packets begin with their IPv4 or IPv6 header
_OPT_COMMENT = 1
_SHB_USERAPPL = 4
_IF_NAME, _IF_TSRESOL = 2, 9
_EPB_FLAGS, _EPB_PACKETID = 2, 5
_NANOSECONDS = b"\x09"

INBOUND = 1
OUTBOUND = 2

_REMEMBERED = 512
"""How many packets' comments a tap keeps: a rule may hold packets back, but no more than a few."""


class PcapngWriter:
    """Writes a capture to `target`: a path, or a binary stream that the caller owns (and closes).

    epoch_offset_ns  what to add to the `now_ns` of a packet to have the time since 1970
    on_error         called once with the OSError that ended the capture (disk full, reader gone); else it is
                     logged. Nothing is written after it, and nothing is ever raised for it.

    Each block goes out whole and at once, so that the file can be read while it grows and after a crash.
    Raises OSError where the path can't be opened or the first block not written.
    """

    __slots__ = ("_epoch_offset_ns", "_failed", "_interfaces", "_on_error", "_owned", "_stream", "_waiting")

    def __init__(
        self,
        target: str | PathLike[str] | BinaryIO,
        *,
        epoch_offset_ns: int = 0,
        on_error: Callable[[OSError], object] | None = None,
    ) -> None:
        self._epoch_offset_ns = epoch_offset_ns
        self._on_error = on_error
        self._failed = False
        self._interfaces = 0
        self._waiting: list[Callable[[], None]] = []
        self._owned = isinstance(target, (str, PathLike))
        # A file without a buffer: a buffer would cut blocks where it happens to be full.
        self._stream: BinaryIO = FileIO(target, "wb") if isinstance(target, (str, PathLike)) else target
        fields = struct.pack("<IHHQ", _BYTE_ORDER_MAGIC, 1, 0, _UNKNOWN_LENGTH)
        try:
            self._write(_block(_SECTION_HEADER, fields + _options((_SHB_USERAPPL, b"tcpstack"))))
        except OSError:
            self.close()
            raise

    def interface(self, name: str) -> int:
        """Announce a device; returns the number that its packets carry."""
        options = _options((_IF_NAME, name.encode()), (_IF_TSRESOL, _NANOSECONDS))
        self._put(_block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_RAW, 0, 0) + options))
        self._interfaces += 1
        return self._interfaces - 1

    def packet(self, interface: int, packet: Packet, direction: int, now_ns: int, comments: Sequence[str] = ()) -> None:
        """Record one packet that passed `interface` in `direction` (INBOUND, OUTBOUND) at `now_ns`."""
        self._call_waiting()
        if self._failed:
            return
        data = packet.data()
        stamp = now_ns + self._epoch_offset_ns
        fields = struct.pack("<IIIII", interface, stamp >> 32, stamp & 0xFFFF_FFFF, len(data), len(data))
        options = [(_OPT_COMMENT, comment.encode("utf-8", "replace")) for comment in comments]
        options.append((_EPB_FLAGS, struct.pack("<I", direction)))
        if packet.id:
            options.append((_EPB_PACKETID, struct.pack("<Q", packet.id)))
        self._put(_block(_ENHANCED_PACKET, fields + _padded(data) + _options(*options)))

    def before_next(self, call: Callable[[], None]) -> None:
        """Have `call` record what it has before the next packet, or before the end."""
        self._waiting.append(call)

    def close(self) -> None:
        """End the capture: flushes, and closes the file where the writer opened it. Idempotent."""
        self._call_waiting()
        failed, self._failed = self._failed, True
        try:
            if self._owned:
                self._stream.close()
            elif not failed:
                self._stream.flush()
        except OSError as error:
            self._report(error)

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _call_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def _put(self, block: bytes) -> None:
        if self._failed:
            return
        try:
            self._write(block)
        except OSError as error:
            self._failed = True
            self._report(error)

    def _write(self, block: bytes) -> None:
        done = 0
        try:
            while done < len(block):
                written = self._stream.write(block[done:])
                if not written:
                    raise BlockingIOError("the capture's reader does not keep up")
                done += written
        except OSError:
            if done:  # a full disk took half a block: without it the file stays readable
                with suppress(OSError):
                    self._stream.truncate(self._stream.tell() - done)
            raise

    def _report(self, error: OSError) -> None:
        if self._on_error is not None:
            self._on_error(error)
        else:
            _log.warning("the capture ends here: %s", error)


class PacketDevice(Protocol):
    """What a tap wraps: the verbs and attributes of a device (any object that has them)."""

    name: str
    mtu: int
    on_ready: Callable[[], None] | None

    def fileno(self) -> int: ...
    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]: ...
    def send(self, packet: Packet, now_ns: int) -> bool: ...
    @property
    def offload(self) -> Offload: ...
    @property
    def queue_packets(self) -> int | None: ...
    @property
    def deadline_ns(self) -> int | None: ...
    def on_timer(self, now_ns: int) -> None: ...
    def close(self) -> None: ...


class PacketTap:
    """A device that records what passes through the device it wraps, in both directions, and changes nothing.

    What offload leaves undone shows as in a capture of the kernel's: a superpacket is one packet, above the MTU; but a
    partial checksum is recorded as it will be once it is complete.

    It is a tracer too: fed with the events, it puts the reason of each segment and the rule of each fault that
    hit it into the packet's comment. What became of a packet that arrived is known when the stack has had it, so it is
    recorded with the next event, or before the next packet. Several taps may share a writer; closing a tap leaves the
    writer open.
    """

    __slots__ = ("_arrived", "_comments", "_device", "_interface", "_writer")

    def __init__(self, device: PacketDevice, writer: PcapngWriter) -> None:
        self._device = device
        self._writer = writer
        self._interface = writer.interface(device.name)
        self._comments: dict[int, list[str | FaultHit]] = {}  # by packet id, the latest last
        self._arrived: list[tuple[Packet, int]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, FaultHit):
            self._comment(event.packet_id, event)
            return
        self._flush()
        if isinstance(event, SegmentOut) and event.segment.reason:
            self._comment(event.segment.packet_id, event.segment.reason)

    def _flush(self) -> None:
        """Record what has arrived."""
        arrived, self._arrived = self._arrived, []
        for packet, now_ns in arrived:
            self._record(packet, INBOUND, now_ns)

    @property
    def name(self) -> str:
        return self._device.name

    @name.setter
    def name(self, name: str) -> None:
        self._device.name = name

    @property
    def mtu(self) -> int:
        return self._device.mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._device.mtu = mtu

    @property
    def offload(self) -> Offload:
        return replace(self._device.offload, unread=False)

    @property
    def queue_packets(self) -> int | None:
        return self._device.queue_packets

    @property
    def on_ready(self) -> Callable[[], None] | None:
        return self._device.on_ready

    @on_ready.setter
    def on_ready(self, callback: Callable[[], None] | None) -> None:
        self._device.on_ready = callback

    @property
    def deadline_ns(self) -> int | None:
        return self._device.deadline_ns

    def fileno(self) -> int:
        return self._device.fileno()

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        self._flush()
        packets = self._device.receive(max_packets, now_ns)
        if packets:
            self._arrived = [(packet, now_ns) for packet in packets]
            self._writer.before_next(self._flush)
        return packets

    def send(self, packet: Packet, now_ns: int) -> bool:
        self._flush()
        whole = completed(packet)
        taken = self._device.send(packet, now_ns)
        self._record(whole, OUTBOUND, now_ns)  # a simulated link has told by now whether it lost it
        return taken

    def on_timer(self, now_ns: int) -> None:
        self._device.on_timer(now_ns)

    def close(self) -> None:
        self._flush()
        self._device.close()

    def _record(self, packet: Packet, direction: int, now_ns: int) -> None:
        whole = completed(packet)
        noted = self._comments.get(packet.id, ())
        if any(isinstance(note, FaultHit) for note in noted):
            comments = _comments_on(whole, noted)
        else:
            comments = [note for note in noted if isinstance(note, str)]
        self._writer.packet(self._interface, whole, direction, now_ns, comments)

    def _comment(self, packet_id: int, note: str | FaultHit) -> None:
        self._comments.setdefault(packet_id, []).append(note)
        if len(self._comments) > _REMEMBERED:
            del self._comments[next(iter(self._comments))]


def _comments_on(packet: Packet, noted: Sequence[str | FaultHit]) -> list[str]:
    """What was noted of a packet, in words. The segments of one superpacket share its id: of a segment only its own
    hits, of a superpacket those of each."""
    segment = decode(Packet((packet.data(),), CHECKSUM_VERIFIED, packet.gso_size, packet.id))
    comments = []
    for note in noted:
        if isinstance(note, str):
            comments.append(note)
            continue
        text = f"{note.action} by the fault rule “{note.rule}”"
        if not isinstance(segment, Segment):
            comments.append(text)
        elif packet.gso_size and note.segment.payload_len < segment.payload_len:
            first = note.segment.seq - segment.seq & MASK
            comments.append(f"octets {first} to {first + note.segment.payload_len - 1}: {text}")
        elif note.segment.seq == segment.seq:
            comments.append(text)
    return comments


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _options(*options: tuple[int, bytes]) -> bytes:
    """Options with the end-of-options mark. A value is cut at 65,535 octets, the most that its length can say."""
    made = [struct.pack("<HH", code, min(len(value), 0xFFFF)) + _padded(value[:0xFFFF]) for code, value in options]
    return b"".join((*made, b"\0\0\0\0"))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
