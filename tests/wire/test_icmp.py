"""ICMP and ICMPv6: echo, errors about our segments, and quotes that tell nothing or lie."""

from __future__ import annotations

import struct

import dpkt
import pytest

from tcpstack.core.segment import ACK, SYN, Segment
from tcpstack.wire import icmp
from tcpstack.wire.dpkt_codec import Dropped, decode, encode
from tcpstack.wire.icmp import IcmpMessage, decode_icmp, echo_reply, encode_icmp, error
from tcpstack.wire.packet import CHECKSUM_VERIFIED, Packet

OURS_V4, PEER_V4, ROUTER_V4 = (bytes([10, 9, 0, n]) for n in (2, 1, 254))
OURS_V6, PEER_V6, ROUTER_V6 = (bytes.fromhex("fd09" + "00" * 13) + bytes([n]) for n in (2, 1, 254))
V4 = (OURS_V4, PEER_V4, ROUTER_V4)
V6 = (OURS_V6, PEER_V6, ROUTER_V6)
both_families = pytest.mark.parametrize("addresses", [V4, V6], ids=["v4", "v6"])
SEQ = 0xFEDCBA98


def our_packet(addresses: tuple[bytes, bytes, bytes]) -> bytes:
    """A segment of ours to the peer, about which a router may complain."""
    ours, peer, _ = addresses
    return encode(Segment(ours, 49152, peer, 80, SEQ, 0, SYN, 64240, (b"text" * 200,), 800)).data()


def an_error(
    addresses: tuple[bytes, bytes, bytes], type: int, code: int, rest: bytes, quote: bytes
) -> IcmpMessage:
    ours, _, router = addresses
    message = decode(encode_icmp(IcmpMessage(router, ours, type, code, rest + quote)))
    assert isinstance(message, IcmpMessage)
    return message


def test_echo_request_of_dpkt_v4_is_answered_with_what_it_brought() -> None:
    echo = dpkt.icmp.ICMP(type=8, code=0, data=dpkt.icmp.ICMP.Echo(id=0x1234, seq=7, data=b"ping data"))
    request = decode(Packet((bytes(dpkt.ip.IP(src=PEER_V4, dst=OURS_V4, p=1, data=echo)),), id=5))
    assert isinstance(request, IcmpMessage)
    assert (request.version, request.is_echo_request, request.is_error) == (4, True, False)
    assert request.packet_id == 5
    reply = dpkt.ip.IP(encode_icmp(echo_reply(request)).data())
    assert (reply.src, reply.dst, reply.icmp.type, reply.icmp.code) == (OURS_V4, PEER_V4, 0, 0)
    assert (reply.icmp.echo.id, reply.icmp.echo.seq, reply.icmp.echo.data) == (0x1234, 7, b"ping data")


def test_echo_request_of_dpkt_v6_is_answered_with_what_it_brought() -> None:
    echo = dpkt.icmp6.ICMP6(type=128, code=0, data=dpkt.icmp6.ICMP6.Echo(id=0x1234, seq=7, data=b"ping data"))
    ip = dpkt.ip6.IP6(src=PEER_V6, dst=OURS_V6, nxt=58, hlim=64, plen=len(bytes(echo)), data=echo)
    ip.extension_hdrs = {}
    request = decode(Packet((bytes(ip),)))
    assert isinstance(request, IcmpMessage)
    assert (request.version, request.is_echo_request, request.is_error) == (6, True, False)
    reply = dpkt.ip6.IP6(encode_icmp(echo_reply(request)).data())
    assert (reply.src, reply.dst, reply.icmp6.type) == (OURS_V6, PEER_V6, 129)
    assert bytes(reply.icmp6.data) == struct.pack("!HH", 0x1234, 7) + b"ping data"


def test_echo_reply_of_zeros_only_carries_the_checksum_that_verifies() -> None:
    # Type 0, code 0, identifier, number and data 0: the sum is +0, whose complement is 0xFFFF and not 0.
    request = IcmpMessage(PEER_V4, OURS_V4, 8, 0, bytes(12))
    raw = encode_icmp(echo_reply(request)).data()
    assert raw[22:24] == b"\xff\xff"
    assert isinstance(decode(Packet((raw,))), IcmpMessage)


def test_echo_request_behind_a_hop_by_hop_header_is_read() -> None:
    raw = encode_icmp(IcmpMessage(PEER_V6, OURS_V6, 128, 0, bytes(8))).data()
    hop_by_hop = bytes.fromhex("3a00 05020000 0100")
    raw = raw[:4] + struct.pack("!HB", len(raw) - 40 + 8, 0) + raw[7:40] + hop_by_hop + raw[40:]
    request = decode(Packet((raw,)))
    assert isinstance(request, IcmpMessage)
    assert request.is_echo_request


@both_families
def test_port_unreachable_about_our_segment_names_the_connection(
    addresses: tuple[bytes, bytes, bytes],
) -> None:
    ours, peer, _ = addresses
    code, type = (3, 3) if addresses is V4 else (4, 1)
    message = an_error(addresses, type, code, bytes(4), our_packet(addresses))
    assert message.quoted == (ours, 49152, peer, 80)
    assert (message.quoted_seq, message.is_error, message.mtu) == (SEQ, True, 0)


@both_families
def test_error_that_quotes_eight_octets_of_tcp_names_the_connection(
    addresses: tuple[bytes, bytes, bytes],
) -> None:
    ours, peer, _ = addresses
    type, header_len = (11, 20) if addresses is V4 else (3, 40)
    quote = our_packet(addresses)[: header_len + 8]
    message = an_error(addresses, type, 0, bytes(4), quote)
    assert (message.quoted, message.quoted_seq) == ((ours, 49152, peer, 80), SEQ)
    shorter = an_error(addresses, type, 0, bytes(4), quote[:-1])
    assert shorter.quoted is None


def test_error_that_quotes_a_header_with_ip_options_finds_the_ports_behind_them() -> None:
    raw = our_packet(V4)
    quote = b"\x46" + raw[1:20] + b"\x01" * 4 + raw[20:28]
    assert an_error(V4, 3, 1, bytes(4), quote).quoted == (OURS_V4, 49152, PEER_V4, 80)


def test_fragmentation_needed_gives_the_next_hop_mtu() -> None:
    message = an_error(V4, 3, 4, b"\0\0\x05\x14", our_packet(V4))
    assert message.mtu == 1300
    # The same octets mean nothing with another code.
    assert an_error(V4, 3, 1, b"\0\0\x05\x14", our_packet(V4)).mtu == 0


def test_packet_too_big_gives_the_next_hop_mtu() -> None:
    message = an_error(V6, 2, 0, b"\0\0\x05\x14", our_packet(V6))
    assert (message.mtu, message.quoted) == (1300, (OURS_V6, 49152, PEER_V6, 80))


@pytest.mark.parametrize("type", [3, 4, 5, 11, 12])
def test_v4_error_types_are_errors_and_read_their_quote(type: int) -> None:
    message = an_error(V4, type, 0, bytes(4), our_packet(V4))
    assert message.is_error
    assert message.quoted is not None


@pytest.mark.parametrize(("addresses", "type"), [(V4, 0), (V4, 13), (V6, 129), (V6, 133), (V6, 143)])
def test_other_types_are_no_errors_and_quote_nothing(
    addresses: tuple[bytes, bytes, bytes], type: int
) -> None:
    message = an_error(addresses, type, 0, bytes(4), our_packet(addresses))
    assert not message.is_error
    assert not message.is_echo_request
    assert message.quoted is None


RAW_V4, RAW_V6 = our_packet(V4), our_packet(V6)


@pytest.mark.parametrize(
    ("addresses", "quote"),
    [
        (V4, b""),
        (V4, RAW_V4[:19]),
        (V4, b"\x44" + RAW_V4[1:]),  # header of four words
        (V4, b"\x4f" + RAW_V4[1:60]),  # header that reaches the end of the quote
        (V4, RAW_V4[:9] + b"\x11" + RAW_V4[10:]),  # UDP
        (V4, RAW_V4[:6] + b"\0\x01" + RAW_V4[8:]),  # not the first fragment
        (V4, RAW_V6),
        (V6, b""),
        (V6, RAW_V6[:6] + b"\x11" + RAW_V6[7:]),  # UDP
        (V6, RAW_V6[:6] + b"\x2c" + RAW_V6[7:]),  # a fragment
        (V6, RAW_V4),
    ],
)
def test_error_that_quotes_no_segment_names_no_connection(
    addresses: tuple[bytes, bytes, bytes], quote: bytes
) -> None:
    message = an_error(addresses, 3 if addresses is V4 else 1, 1, bytes(4), quote)
    assert message.quoted is None


@both_families
def test_icmp_checksum_that_does_not_hold_is_dropped_unless_vouched_for(
    addresses: tuple[bytes, bytes, bytes],
) -> None:
    ours, peer, _ = addresses
    raw = bytearray(encode_icmp(IcmpMessage(peer, ours, 8 if addresses is V4 else 128, 0, bytes(8))).data())
    raw[-1] ^= 1
    assert decode(Packet((bytes(raw),))) == Dropped("icmp_bad_checksum")
    assert isinstance(decode(Packet((bytes(raw),), CHECKSUM_VERIFIED)), IcmpMessage)


def test_icmpv6_checksum_without_the_pseudo_header_is_dropped() -> None:
    raw = encode_icmp(IcmpMessage(PEER_V6, OURS_V6, 128, 0, bytes(8))).data()
    elsewhere = raw[:39] + b"\x77" + raw[40:]
    assert decode(Packet((elsewhere,))) == Dropped("icmp_bad_checksum")


@both_families
def test_icmp_of_seven_octets_is_truncated(addresses: tuple[bytes, bytes, bytes]) -> None:
    ours, peer, _ = addresses
    assert decode_icmp(peer, ours, bytes(7)) == Dropped("icmp_truncated")
    assert decode_icmp(peer, ours, bytes(8)) == Dropped("icmp_bad_checksum")


def test_unreachable_v4_quotes_what_fits_into_576_octets() -> None:
    arrived = encode(Segment(PEER_V4, 1, OURS_V4, 2, 3, 4, ACK, 5, (bytes(1000),), 1000)).data()
    raw = encode_icmp(error(OURS_V4, PEER_V4, icmp.UNREACHABLE, icmp.CODE_PORT, arrived)).data()
    assert len(raw) == 576
    parsed = dpkt.ip.IP(raw)
    assert (parsed.src, parsed.dst, parsed.icmp.type, parsed.icmp.code) == (OURS_V4, PEER_V4, 3, 3)
    assert raw[28:] == arrived[:548]


def test_unreachable_v6_quotes_what_fits_into_the_minimum_mtu() -> None:
    arrived = encode(Segment(PEER_V6, 1, OURS_V6, 2, 3, 4, ACK, 5, (bytes(1400),), 1400)).data()
    raw = encode_icmp(error(OURS_V6, PEER_V6, icmp.V6_UNREACHABLE, icmp.V6_CODE_PORT, arrived)).data()
    assert len(raw) == 1280
    assert (raw[40], raw[41]) == (1, 4)
    assert raw[48:] == arrived[:1232]


@both_families
def test_unreachable_sent_back_names_the_connection_of_who_is_told(
    addresses: tuple[bytes, bytes, bytes],
) -> None:
    ours, peer, _ = addresses
    kind = icmp.UNREACHABLE if len(ours) == 4 else icmp.V6_UNREACHABLE
    told = decode(encode_icmp(error(peer, ours, kind, 3, our_packet(addresses))))
    assert isinstance(told, IcmpMessage)
    assert told.quoted == (ours, 49152, peer, 80)
