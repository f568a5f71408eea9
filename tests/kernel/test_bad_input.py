"""Whatever arrives, the process goes on and the next connection works."""

from __future__ import annotations

import itertools
import json
import random
import sys

import pytest

from tcpstack.cli.services import echo
from tcpstack.core.segment import Options, Segment
from tcpstack.wire.checksum import checksum, pseudo_header
from tcpstack.wire.dpkt_codec import encode

KERNEL, STACK = bytes((10, 9, 0, 1)), bytes((10, 9, 0, 2))
KERNEL6, STACK6 = (bytes.fromhex("fd09" + "00" * 13 + last) for last in ("01", "02"))

# Puts each packet (hex, one a line) on the wire as the kernel's side would: through a raw socket, header and all.
INJECT = """
import socket, sys
s4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
for line in sys.stdin:
    packet = bytes.fromhex(line)
    kind = 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800
    try:
        s.sendto(packet, ("tun0", kind))
    except OSError:
        pass  # too long for the link, or empty: it never gets onto the wire
"""


def segment(flags, seq=1000, ack=0, port=7, payload=b"", v6=False, options=None, sport=4000):
    src, dst = (KERNEL6, STACK6) if v6 else (KERNEL, STACK)
    return encode(
        Segment(src, sport, dst, port, seq, ack, flags, 1000, (payload,) if payload else (), len(payload), options)
    ).data()


def every_flag_combination():
    for v6, port, flags in itertools.product((False, True), (7, 99), range(256)):
        yield segment(flags, port=port, v6=v6, payload=b"text", sport=5000 + flags)


def truncated():
    whole = segment(0x02, options=Options(mss=1460, wscale=7, sack_permitted=True, timestamps=(1, 0)))
    whole6 = segment(0x02, v6=True, options=Options(mss=1460))
    for packet in (whole, whole6):
        for length in range(1, len(packet)):
            yield packet[:length]


def wrong_lengths_and_checksums():
    whole = segment(0x02, options=Options(mss=1460, wscale=7))
    for offset in range(len(whole)):
        for value in (0x00, 0xFF, whole[offset] ^ 0x01):
            yield whole[:offset] + bytes((value,)) + whole[offset + 1 :]


def illegal_options():
    generator = random.Random(4)
    for _ in range(300):
        packet = bytearray(segment(0x02, options=Options(mss=1460, wscale=7, sack_permitted=True, timestamps=(1, 2))))
        packet[40:] = generator.randbytes(len(packet) - 40)
        yield with_checksum(bytes(packet))


def random_octets():
    generator = random.Random(5)
    for _ in range(1000):
        yield bytes((generator.choice((0x45, 0x60, 0x46, 0x4F)),)) + generator.randbytes(generator.randrange(1400))


def with_checksum(packet):
    tcp = packet[20:36] + b"\0\0" + packet[38:]
    total = checksum((pseudo_header(packet[12:16], packet[16:20], len(tcp), 6), tcp))
    return packet[:36] + total.to_bytes(2, "big") + packet[38:]


@pytest.mark.parametrize(
    "packets",
    [every_flag_combination, truncated, wrong_lengths_and_checksums, illegal_options, random_octets],
)
async def test_bad_packets_are_survived_and_the_next_connection_works(open_stack, namespace, packets):
    # Not captured: what is malformed here is so on purpose, and comes from outside.
    stack = await open_stack(capturing=False)
    await stack.start_server(echo, port=7)
    lines = "\n".join(packet.hex() for packet in packets()).encode()
    injected = await namespace.run(sys.executable, "-c", INJECT, input=lines)
    assert injected.returncode == 0, injected.stderr

    for host in ("10.9.0.2", "fd09::2"):
        result = await namespace.run("nc", "-N", host, "7", input=b"still there?")
        assert result.stdout == b"still there?"
    if packets in (truncated, wrong_lengths_and_checksums, random_octets):
        assert sum(count for name, count in stack.counters.items() if name.startswith(("ip_", "tcp_", "icmp_bad"))) > 50


def unasked():
    """What kernels say on a link unasked, and strangers' packets."""
    link_local, all_routers, mld_routers = (bytes.fromhex(a.replace(":", "")) for a in (
        "fe80:0000:0000:0000:0000:0000:0000:0001",
        "ff02:0000:0000:0000:0000:0000:0000:0002",
        "ff02:0000:0000:0000:0000:0000:0000:0016",
    ))  # fmt: skip
    # A router solicitation; a version 2 multicast listener report behind a hop-by-hop header (router alert).
    solicitation = bytes((133, 0)) + bytes(6)
    yield ip6(link_local, all_routers, 58, with_icmp6_checksum(link_local, all_routers, solicitation))
    report = bytes((143, 0)) + bytes(4) + b"\0\1" + bytes((4, 0, 0, 0)) + bytes.fromhex("ff05" + "00" * 13 + "23")
    alert = bytes((58, 0, 5, 2, 0, 0, 1, 0))
    yield ip6(link_local, mld_routers, 0, alert + with_icmp6_checksum(link_local, mld_routers, report))
    # An IGMPv3 report: an IPv4 header of six words.
    yield ip4(KERNEL, bytes((224, 0, 0, 22)), 2, bytes(8), options=bytes((0x94, 4, 0, 0)))
    # UDP to us; TCP to somebody else, to everybody, and from nobody.
    yield ip4(KERNEL, STACK, 17, bytes((0, 53, 0, 53, 0, 8, 0, 0)))
    tcp = segment(0x02)
    for src, dst in (
        (KERNEL, bytes((10, 9, 0, 9))),
        (KERNEL, bytes((255, 255, 255, 255))),
        (KERNEL, bytes((224, 0, 0, 1))),
        (bytes(4), STACK),
        (STACK, STACK),
    ):
        yield with_ip_checksum(with_checksum(tcp[:12] + src + dst + tcp[20:]))


def ip4(src, dst, protocol, payload, options=b""):
    words = 5 + len(options) // 4
    length = words * 4 + len(payload)
    head = bytes((0x40 | words, 0)) + length.to_bytes(2, "big") + bytes((0, 0, 0, 0, 1, protocol, 0, 0)) + src + dst
    return with_ip_checksum(head + options + payload)


def ip6(src, dst, next_header, payload):
    return bytes((0x60, 0, 0, 0)) + len(payload).to_bytes(2, "big") + bytes((next_header, 255)) + src + dst + payload


def with_ip_checksum(packet):
    length = (packet[0] & 15) * 4
    total = checksum((packet[:10] + b"\0\0" + packet[12:length],))
    return packet[:10] + total.to_bytes(2, "big") + packet[12:]


def with_icmp6_checksum(src, dst, message):
    total = checksum((pseudo_header(src, dst, len(message), 58), message[:2] + b"\0\0" + message[4:]))
    return message[:2] + total.to_bytes(2, "big") + message[4:]


async def test_what_is_not_for_us_is_counted_and_never_answered(open_stack, namespace):
    stack = await open_stack(capturing=False)
    await stack.start_server(echo, port=7)
    packets = list(unasked())
    before = await sent_packets(namespace)
    await namespace.run(sys.executable, "-c", INJECT, input="\n".join(map(bytes.hex, packets)).encode())
    await namespace.run("ping", "-c", "1", "10.9.0.2")  # behind the others in the queue: they have been handled

    assert stack.counters.pop("icmp_echo") == 1
    assert sum(stack.counters.values()) == len(packets), stack.counters
    assert await sent_packets(namespace) == before + 1  # the ping's answer


async def sent_packets(namespace):
    shown = await namespace.run("ip", "-s", "-j", "link", "show", "tun0")
    return json.loads(shown.stdout)[0]["stats64"]["rx"]["packets"]
