"""That the capture of the kernel tests has what crosses, and that what is wrong with a packet is found out."""

from __future__ import annotations

import pytest

from tcpstack.core.events import FaultHit
from tcpstack.core.segment import ACK, RST, SYN, Segment
from tcpstack.observe.pcapng import OUTBOUND, PcapngWriter
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet
from tests.kernel.capture import MTU, Capture, complaints, has_tshark


@pytest.fixture(autouse=True)
def tshark() -> None:
    if not has_tshark():
        pytest.skip("tshark is missing: install the package tshark")


@pytest.mark.any_loop
async def test_what_crosses_the_device_of_a_kernel_test_is_captured(stack, namespace, capture):
    await namespace.run("curl", "-s", "http://10.9.0.2:9973/")

    ours = ("-Y", "tcp.port == 9973", "-T", "fields", "-e", "tcp.flags")
    found = await namespace.run("tshark", "-n", "-r", capture.path, *ours, timeout=300)
    assert [int(flags, 0) for flags in found.stdout.split()] == [SYN, RST | ACK]


def octets_with(fault, segment):
    octets = bytearray(encode(segment).data())
    if fault == "tcp checksum":
        octets[50] ^= 1
    elif fault == "ip checksum":
        octets[8] ^= 1
    elif fault == "header cut short":
        octets[32] = 0x10  # a data offset of one word
    return bytes(octets)


@pytest.mark.parametrize("doctored", ["tcp checksum", "ip checksum", "above the mtu", "header cut short"])
def test_doctored_capture_is_found_out(tmp_path, doctored):
    text = bytes(MTU if doctored == "above the mtu" else 256)
    segment = Segment(bytes((10, 9, 0, 1)), 1, bytes((10, 9, 0, 2)), 2, 3, 4, SYN, 5, (text,), len(text), packet_id=77)
    capture = Capture(tmp_path / "doctored.pcapng")
    with capture.writer as writer:
        interface = writer.interface("tun0")
        good = encode(Segment(segment.src, 1, segment.dst, 2, 3, 0, SYN, 5, packet_id=76))
        writer.packet(interface, good, OUTBOUND, 0)
        writer.packet(interface, Packet((octets_with(doctored, segment),), id=77), OUTBOUND, 0)

    (fault,) = capture.faults()
    assert fault.startswith("packet 77: ")

    capture.note(FaultHit(0, None, segment, "out", "drop syn", "dropped", 77))
    assert capture.faults() == [fault]
    capture.note(FaultHit(0, None, segment, "out", "corrupt syn", "corrupted", 77))
    assert capture.faults() == []


def test_checksum_of_zero_written_as_all_ones_is_accepted(tmp_path):
    # The port makes it so.
    for port in range(65536):
        octets = encode(Segment(bytes((10, 9, 0, 1)), port, bytes((10, 9, 0, 2)), 2, 3, 0, SYN, 5, packet_id=5)).data()
        if octets[36:38] == b"\0\0":
            break
    with PcapngWriter(tmp_path / "zero.pcapng") as writer:
        bent = octets[:36] + b"\xff\xff" + octets[38:]
        writer.packet(writer.interface("tun0"), Packet((bent,), id=5), OUTBOUND, 0)

    assert complaints(tmp_path / "zero.pcapng") == []
