"""What tshark says of the packets of the kernel tests: what we put on the wire is beyond reproach."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tcpstack.core.events import Event, FaultHit
from tcpstack.observe.pcapng import PacketTap, PcapngWriter
from tcpstack.wire.packet import Packet
from tcpstack.wire.segmentation import wire_packets

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


class WireTap(PacketTap):
    """Records packets as they are on the wire: superpackets divided, which is what the MTU and tshark's checks are
    about."""

    def _record(self, packet: Packet, direction: int, now_ns: int) -> None:
        for piece in wire_packets(packet):
            super()._record(piece, direction, now_ns)


class Capture:
    """The packets of all kernel tests of one process, at the boundary of their devices, and the ones that a rule
    corrupted on purpose."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = PcapngWriter(path)
        self.corrupted: set[int] = set()

    def note(self, event: Event) -> None:
        """To be told of the events of every stack that has fault rules."""
        if isinstance(event, FaultHit) and event.action == "corrupted":
            self.corrupted.add(event.packet_id)

    def faults(self) -> list[str]:
        """A line for each packet with a bad checksum, a malformed header, or above the MTU, but for those that a rule
        corrupted. Raises FileNotFoundError where there is no tshark."""
        return [f"packet {number}: {text}" for number, text in complaints(self.path) if number not in self.corrupted]


def has_tshark() -> bool:
    return shutil.which("tshark") is not None


def complaints(path: Path) -> list[tuple[int, str]]:
    """(packet id, what is wrong with it) for each packet with a fault. With the others tshark has nothing to say."""
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
