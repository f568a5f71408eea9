"""Captures, read back by programs that are not ours: dpkt, and tshark where it is installed."""

from __future__ import annotations

import io
import json
import logging
import shutil
import struct
import subprocess

import dpkt
import pytest

from tcpstack.core.events import FaultHit, SegmentOut
from tcpstack.core.segment import ACK, SYN, Segment
from tcpstack.core.state import ESTABLISHED
from tcpstack.observe import PacketTap, PcapngWriter
from tcpstack.observe.pcapng import INBOUND, OUTBOUND
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import CHECKSUM_PARTIAL, FULL_OFFLOAD, Packet
from tcpstack.wire.segmentation import wire_packets

WE, PEER = (bytes([10, 9, 0, 2]), 80), (bytes([10, 9, 0, 1]), 41234)
EPOCH_NS = 1_700_000_000_123_456_789


def packet(id: int, text: bytes = b"", flags: int = ACK, reason: str = "") -> tuple[Segment, Packet]:
    segment = Segment(*WE, *PEER, 1000, 2000, flags, 500, (text,) if text else (), len(text), None, 0, reason, id)
    return segment, encode(segment)


def superpacket(id: int, *, ours: bool = True, v6: bool = False, partial: bool = True) -> Packet:
    """Several segments in one packet, in two chunks, an odd number of octets in the first."""
    src, dst = (WE, PEER) if ours else (PEER, WE)
    if v6:
        src, dst = ((bytes([0xFD, *bytes(11), *address]), port) for address, port in (src, dst))
    payload = (b"x" * 2001, memoryview(b"y" * 3000))
    segment = Segment(*src, *dst, 1000, 2000, ACK, 500, payload, 5001, packet_id=id, gso_size=1400)
    return encode(segment, partial)


class Wire:
    """A device in the shape that a tap wraps."""

    name, mtu, on_ready, deadline_ns, offload = "tun7", 1400, None, 42, FULL_OFFLOAD

    def __init__(self) -> None:
        self.waiting: list[Packet] = []
        self.sent: list[Packet] = []
        self.timers: list[int] = []
        self.closed = False

    def fileno(self) -> int:
        return 5

    def receive(self, max_packets, now_ns):
        taken, self.waiting = self.waiting[:max_packets], self.waiting[max_packets:]
        return taken

    def send(self, packet, now_ns):
        self.sent.append(packet)
        return len(self.sent) == 1

    def on_timer(self, now_ns):
        self.timers.append(now_ns)

    def close(self):
        self.closed = True


class FullDisk(io.BytesIO):
    """Takes `room` octets, then fails as a full disk does: a part first, then ENOSPC."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data) -> int:
        taken = min(len(data), self.room - self.tell())
        if taken <= 0:
            raise OSError(28, "No space left on device")
        return super().write(bytes(data[:taken]))


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Split a capture into (type, body); asserts that all blocks are whole."""
    found = []
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        found.append((kind, data[at + 8 : at + length - 4]))
        at += length
    return found


def options(data: bytes) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    at = 0
    while (head := struct.unpack_from("<HH", data, at)) != (0, 0):
        code, length = head
        found.setdefault(code, []).append(data[at + 4 : at + 4 + length])
        at += 4 + length + -length % 4
    assert at + 4 == len(data)
    return found


def packet_options(body: bytes) -> dict[int, list[bytes]]:
    length = struct.unpack_from("<I", body, 12)[0]
    return options(body[20 + length + -length % 4 :])


def recorded_octets(body: bytes) -> bytes:
    return body[20 : 20 + struct.unpack_from("<I", body, 12)[0]]


def test_dpkt_reads_packets_and_nanoseconds():
    stream = io.BytesIO()
    writer = PcapngWriter(stream, epoch_offset_ns=EPOCH_NS)
    interface = writer.interface("tun7")
    _, first = packet(1)
    _, second = packet(2, b"odd length")
    writer.packet(interface, first, INBOUND, 0)
    writer.packet(interface, second, OUTBOUND, 7_000_000_001)
    writer.close()
    stream.seek(0)
    reader = dpkt.pcapng.Reader(stream)
    assert reader.datalink() == 101
    (one_s, one), (two_s, two) = list(reader)
    assert (one, two) == (first.data(), second.data())
    assert float(one_s) == pytest.approx(EPOCH_NS / 1e9)
    assert float(two_s) == pytest.approx(EPOCH_NS / 1e9 + 7.000000001)


def test_packet_carries_direction_id_and_comments():
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    _, made = packet(0x1_0000_0001)
    writer.packet(writer.interface("tun7"), made, OUTBOUND, 5, ["why, in “words”", "and a rule"])
    _, _, (kind, body) = blocks(stream.getvalue())
    assert kind == 6
    assert packet_options(body) == {
        1: ["why, in “words”".encode(), b"and a rule"],
        2: [struct.pack("<I", OUTBOUND)],
        5: [struct.pack("<Q", 0x1_0000_0001)],
    }


def test_time_beyond_32_bits_is_split_high_word_first():
    stream = io.BytesIO()
    writer = PcapngWriter(stream, epoch_offset_ns=EPOCH_NS)
    writer.packet(writer.interface("tun7"), packet(1)[1], INBOUND, 11)
    _, body = blocks(stream.getvalue())[-1]
    high, low = struct.unpack_from("<II", body, 4)
    assert (high << 32 | low) == EPOCH_NS + 11


def test_very_long_comment_is_cut_not_broken():
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.packet(writer.interface("tun7"), packet(1)[1], OUTBOUND, 0, ["x" * 100_000])
    _, body = blocks(stream.getvalue())[-1]
    assert packet_options(body)[1] == [b"x" * 0xFFFF]


def test_file_is_readable_while_it_grows(tmp_path):
    path = tmp_path / "growing.pcapng"
    writer = PcapngWriter(path)
    interface = writer.interface("tun7")
    for count in range(1, 4):
        writer.packet(interface, packet(count)[1], INBOUND, count)
        assert len(blocks(path.read_bytes())) == 2 + count
    writer.close()
    writer.close()
    writer.packet(interface, packet(9)[1], INBOUND, 9)
    assert len(blocks(path.read_bytes())) == 5


def test_callers_stream_is_flushed_and_left_open(tmp_path):
    with open(tmp_path / "capture", "wb") as stream:
        with PcapngWriter(stream) as writer:
            writer.interface("tun7")
        assert not stream.closed
        assert len(blocks((tmp_path / "capture").read_bytes())) == 2


def test_unwritable_path_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        PcapngWriter(tmp_path / "none" / "x.pcapng")


def test_disk_full_at_the_header_raises():
    with pytest.raises(OSError, match="No space"):
        PcapngWriter(FullDisk(10))


@pytest.mark.parametrize("room", [150, 151, 160, 200, 250])
def test_disk_full_ends_the_capture_once_with_whole_blocks(room):
    errors: list[OSError] = []
    stream = FullDisk(room)
    writer = PcapngWriter(stream, on_error=errors.append)
    device = Wire()
    tap = PacketTap(device, writer)
    for count in range(10):
        tap.send(packet(count)[1], count)
    writer.close()
    assert len(device.sent) == 10
    assert [error.errno for error in errors] == [28]
    found = blocks(stream.getvalue())
    assert 2 <= len(found) < 12


def test_disk_full_without_callback_is_logged(caplog):
    writer = PcapngWriter(FullDisk(60))
    with caplog.at_level(logging.WARNING):
        writer.interface("tun7")
        writer.interface("tun8")
    assert caplog.text.count("the capture ends here") == 1


class TestTap:
    @pytest.fixture
    def device(self) -> Wire:
        return Wire()

    @pytest.fixture
    def stream(self) -> io.BytesIO:
        return io.BytesIO()

    @pytest.fixture
    def tap(self, device, stream) -> PacketTap:
        return PacketTap(device, PcapngWriter(stream))

    def test_is_the_device_it_wraps(self, device, tap):
        assert (tap.name, tap.mtu, tap.fileno(), tap.deadline_ns) == ("tun7", 1400, 5, 42)
        assert tap.offload == FULL_OFFLOAD
        ready = len
        tap.on_ready = ready
        assert device.on_ready is ready is tap.on_ready
        tap.on_timer(77)
        assert device.timers == [77]
        tap.close()
        assert device.closed

    def test_passes_packets_on_unchanged_in_both_directions(self, device, tap, stream):
        arriving = [packet(n)[1] for n in (1, 2, 3)]
        device.waiting = list(arriving)
        assert list(tap.receive(2, 5)) == arriving[:2]
        leaving = [packet(n)[1] for n in (4, 5)]
        assert [tap.send(each, 6) for each in leaving] == [True, False]
        assert device.sent == leaving
        ways = [packet_options(body)[2] for kind, body in blocks(stream.getvalue()) if kind == 6]
        assert [struct.unpack("<I", way)[0] for (way,) in ways] == [INBOUND, INBOUND, OUTBOUND, OUTBOUND]

    def test_records_a_partial_checksum_complete_and_passes_it_on_partial(self, device, tap, stream):
        arriving, leaving = superpacket(1, ours=False), superpacket(2)
        device.waiting = [arriving]
        assert list(tap.receive(1, 5)) == [arriving]
        tap.send(leaving, 6)
        assert device.sent == [leaving]
        assert (leaving.checksum, arriving.checksum) == (CHECKSUM_PARTIAL, CHECKSUM_PARTIAL)
        recorded = [recorded_octets(body) for kind, body in blocks(stream.getvalue()) if kind == 6]
        assert recorded == [superpacket(n, ours=n == 2, partial=False).data() for n in (1, 2)]
        assert recorded[1] != leaving.data()

    def test_comment_is_the_reason_and_the_fault(self, device, tap, stream):
        segment, made = packet(8, reason="retransmission: timeout")
        flow = (*WE, *PEER)
        tap(SegmentOut(1, flow, segment, ESTABLISHED))
        tap(FaultHit(1, flow, segment, "out", "corrupt 1%", "corrupted", 8))
        tap.send(made, 1)
        tap.send(packet(9)[1], 2)
        with_comment, without = [packet_options(body) for kind, body in blocks(stream.getvalue()) if kind == 6]
        assert with_comment[1] == [b"retransmission: timeout", "corrupted by the fault rule “corrupt 1%”".encode()]
        assert 1 not in without

    def test_arrival_is_recorded_with_the_rule_that_takes_it_and_in_the_order_of_all_taps(self, device, tap, stream):
        other = Wire()
        beside = PacketTap(other, tap._writer)
        segment, made = packet(3)
        device.waiting = [made]
        tap.receive(1, 1)
        tap(FaultHit(1, (*WE, *PEER), segment, "in", "loss 1%", "dropped", 3))
        beside.send(packet(4)[1], 2)
        first, second = [packet_options(body) for kind, body in blocks(stream.getvalue()) if kind == 6]
        assert first[5] == [struct.pack("<Q", 3)]
        assert first[1] == ["dropped by the fault rule “loss 1%”".encode()]
        assert second[5] == [struct.pack("<Q", 4)]

    def test_last_arrival_is_recorded_at_the_end(self, device, tap, stream):
        device.waiting = [packet(3)[1]]
        tap.receive(1, 1)
        tap._writer.close()
        assert [kind for kind, _ in blocks(stream.getvalue())][2:] == [6]

    def test_hits_on_a_superpacket_are_told_with_their_place_or_their_segment(self, device, tap, stream):
        whole = superpacket(5, ours=False)
        pieces = wire_packets(whole)
        segments = [decode(piece) for piece in pieces]
        device.waiting = [whole]
        tap.receive(1, 1)
        tap(FaultHit(1, (*WE, *PEER), segments[1], "in", "drop data nth=2", "dropped", 5))
        for piece in pieces[:3]:  # as though they left
            tap.send(piece, 2)
        said = [packet_options(body).get(1, []) for kind, body in blocks(stream.getvalue()) if kind == 6]
        text = "dropped by the fault rule “drop data nth=2”"
        assert said == [[f"octets 1400 to 2799: {text}".encode()], [], [text.encode()], []]

    def test_comments_are_bounded(self, tap):
        for number in range(5000):
            tap(SegmentOut(1, (*WE, *PEER), packet(number, reason="data")[0], ESTABLISHED))
        assert len(tap._comments) <= 512


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_time_direction_interface_and_comment(tmp_path):
    path = tmp_path / "capture.pcapng"
    device = Wire()
    with PcapngWriter(path, epoch_offset_ns=EPOCH_NS) as writer:
        tap = PacketTap(device, writer)
        device.waiting = [packet(1, flags=SYN)[1]]
        tap.receive(1, 0)
        segment, made = packet(2, b"GET / HTTP/1.1\r\n\r\n", reason="data, all that was queued")
        tap(SegmentOut(1, (*WE, *PEER), segment, ESTABLISHED))
        tap.send(made, 1_000_000_001)
    command = [
        "tshark", "-r", str(path), "-T", "json", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
        "-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction",
        "-e", "frame.comment", "-e", "tcp.len", "-e", "tcp.checksum.status", "-e", "ip.checksum.status",
        "-e", "_ws.malformed", "-e", "frame.packet_id",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = [each["_source"]["layers"] for each in json.loads(done.stdout)]
    assert first["frame.time_epoch"] == ["1700000000.123456789"]
    assert second["frame.time_epoch"] == ["1700000001.123456790"]
    assert second["frame.interface_name"] == ["tun7"]
    assert int(first["frame.packet_flags_direction"][0], 0) == INBOUND
    assert int(second["frame.packet_flags_direction"][0], 0) == OUTBOUND
    assert "frame.comment" not in first
    assert second["frame.comment"] == ["data, all that was queued"]
    for each in (first, second):
        assert each["tcp.checksum.status"] == each["ip.checksum.status"] == ["1"]
        assert "_ws.malformed" not in each


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_finds_superpackets_whole_and_their_checksums_right(tmp_path):
    path = tmp_path / "superpackets.pcapng"
    device = Wire()
    with PcapngWriter(path) as writer:
        tap = PacketTap(device, writer)
        device.waiting = [superpacket(1, ours=False), superpacket(2, ours=False, v6=True)]
        tap.receive(2, 0)
        tap.send(superpacket(3), 1)
        tap.send(superpacket(4, v6=True), 1)
    command = [
        "tshark", "-n", "-r", str(path), "-T", "fields",
        "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-d", "tcp.port==80,data",
        "-e", "frame.packet_id", "-e", "frame.len", "-e", "tcp.len", "-e", "tcp.checksum.status", "-e", "_ws.malformed",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    sizes = {1: "5041", 2: "5061", 3: "5041", 4: "5061"}
    assert [(int(row[0], 0), *row[1:]) for row in rows] == [(n, sizes[n], "5001", "1", "") for n in (1, 2, 3, 4)]
