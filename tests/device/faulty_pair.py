"""A joined pair with fault rules on one end, and packets to send through it."""

from __future__ import annotations

from tcpstack.core import segment as tcp
from tcpstack.core.events import Event
from tcpstack.core.segment import Segment
from tcpstack.device.base import next_packet_id
from tcpstack.device.faults import FaultyDevice, Rule, parse_rule
from tcpstack.device.memory import MemoryDevice, pair
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.icmp import IcmpMessage, encode_icmp
from tcpstack.wire.packet import Packet

OURS, PEER = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])
OURS_V6, PEER_V6 = bytes.fromhex("fd09" + "00" * 13 + "02"), bytes.fromhex("fd09" + "00" * 13 + "01")


def faulty(*rules: Rule | str, tracer: list[Event] | None = None) -> tuple[FaultyDevice, MemoryDevice]:
    """Our device with the rules on it, and the peer's end."""
    ours, peer = pair(queue_packets=100_000)
    parsed = [parse_rule(rule) if isinstance(rule, str) else rule for rule in rules]
    return FaultyDevice(ours, parsed, tracer.append if tracer is not None else None), peer


def a_packet(
    flags: int = tcp.ACK, text: bytes = b"", *, incoming: bool = False, seq: int = 0, v6: bool = False
) -> Packet:
    ours, peer = (OURS_V6, PEER_V6) if v6 else (OURS, PEER)
    src, dst = (peer, ours) if incoming else (ours, peer)
    sport, dport = (80, 40000) if incoming else (40000, 80)
    payload = (text,) if text else ()
    return encode(Segment(src, sport, dst, dport, seq, 0, flags, 0, payload, len(text), packet_id=next_packet_id()))


def a_ping(incoming: bool = False) -> Packet:
    src, dst = (PEER, OURS) if incoming else (OURS, PEER)
    return encode_icmp(IcmpMessage(src, dst, 8, 0, bytes(8), packet_id=next_packet_id()))


def sent(device: FaultyDevice, peer: MemoryDevice, packets: list[Packet], now_ns: int = 0) -> list[int]:
    """Send the packets; the ids of what came out at the other end."""
    for packet in packets:
        assert device.send(packet, now_ns)
    return [packet.id for packet in peer.receive(100_000, now_ns)]


def received(device: FaultyDevice, peer: MemoryDevice, packets: list[Packet], now_ns: int = 0) -> list[int]:
    for packet in packets:
        assert peer.send(packet, now_ns)
    return [packet.id for packet in device.receive(100_000, now_ns)]
