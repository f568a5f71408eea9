"""tshark reads the capture of every kernel test of this run: what we put on the wire is beyond reproach."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest

from tcpstack.core.segment import SYN, Segment
from tcpstack.observe.pcapng import OUTBOUND, PcapngWriter
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet

MTU = 1500
FAULTS = (
    "tcp.checksum.status == 0",
    "ip.checksum.status == 0",
    "_ws.malformed",
    "_ws.expert.severity == error",
    f"frame.len > {MTU}",
)
# An error that the kernel sends quotes what it got from us, which a rule may have corrupted: an IPv6 destination, say.
KERNELS_ERROR = "frame.packet_flags_direction == 1 && (icmp.type == 3 || icmpv6.type < 128)"


def complaints(path):
    """(packet id, what tshark has against it) for each packet with a bad checksum, a malformed header, or above
    the MTU. With packets that have no complaint tshark says nothing."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing: install the package tshark")
    found = subprocess.run(
        [
            "tshark", "-n", "-r", path,
            "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
            "-o", "tcp.analyze_sequence_numbers:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE",
            "-d", "tcp.port==1-65535,data",  # what applications say is theirs to get right
            "-Y", f"({' || '.join(FAULTS)}) && !({KERNELS_ERROR})",
            "-T", "fields", "-e", "frame.packet_id", "-e", "_ws.expert.message", "-e", "frame.len",
            "-e", "tcp.checksum",
        ],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    rows = [line.split("\t") for line in found.stdout.splitlines()]
    return [
        (int(packet_id, 0), f"{message} ({length} octets)")
        for packet_id, message, length, checksum in rows
        # The kernel completes a checksum that comes to 0 as 0xffff, which UDP asks for and TCP does not: as good.
        if not (checksum == "0xffff" and "0x0000" in message)
    ]


@pytest.mark.any_loop
async def test_capture_of_all_kernel_tests_has_no_fault_but_those_made_on_purpose(stack, namespace, capture):
    # One connection at least, also when this test runs alone.
    await namespace.run("curl", "-s", "http://10.9.0.2:99/")
    found = await asyncio.to_thread(complaints, capture.path)

    assert capture.path.stat().st_size > 250  # a SYN and a RST at least
    assert [complaint for complaint in found if complaint[0] not in capture.corrupted] == []


@pytest.mark.parametrize("doctored", ["tcp checksum", "ip checksum", "above the mtu", "header cut short"])
def test_doctored_capture_is_found_out(tmp_path, doctored):
    text = bytes(range(256)) * (8 if doctored == "above the mtu" else 1)
    segment = Segment(bytes((10, 9, 0, 1)), 1, bytes((10, 9, 0, 2)), 2, 3, 4, SYN, 5, (text,), len(text), packet_id=77)
    octets = bytearray(encode(segment).data())
    if doctored == "tcp checksum":
        octets[50] ^= 1
    elif doctored == "ip checksum":
        octets[8] ^= 1
    elif doctored == "header cut short":
        octets[32] = 0x10  # a data offset of one word
    with PcapngWriter(tmp_path / "doctored.pcapng") as writer:
        interface = writer.interface("tun0")
        good = encode(Segment(segment.src, 1, segment.dst, 2, 3, 0, SYN, 5, packet_id=76))
        writer.packet(interface, good, OUTBOUND, 0)
        writer.packet(interface, Packet((bytes(octets),), id=77), OUTBOUND, 0)

    assert [packet_id for packet_id, _ in complaints(tmp_path / "doctored.pcapng")] == [77]


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
