"""The codec case by case: what it builds as dpkt reads it, what dpkt builds, and what it drops and why."""

from __future__ import annotations

import struct

import dpkt
import pytest

from tcpstack.core.segment import ACK, FIN, PSH, SYN, Options, Segment
from tcpstack.wire.checksum import checksum, ones_complement_sum, pseudo_header
from tcpstack.wire.dpkt_codec import Dropped, decode, decode_options, encode, encode_options
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_VERIFIED, Packet

V4 = (bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]))
V6 = (bytes.fromhex("fd09" + "00" * 13 + "01"), bytes.fromhex("fd09" + "00" * 13 + "02"))
both_families = pytest.mark.parametrize("addresses", [V4, V6], ids=["v4", "v6"])


def a_segment(addresses: tuple[bytes, bytes] = V4, text: bytes = b"", **fields: object) -> Segment:
    values: dict[str, object] = {"seq": 0xFFFF_FFF0, "ack": 7, "flags": ACK | PSH, "wnd": 512}
    values.update(fields)
    if text:
        values.update(payload=(text,), payload_len=len(text))
    return Segment(addresses[0], 40000, addresses[1], 80, **values)  # type: ignore[arg-type]


def with_ip_checksum(raw: bytes) -> bytes:
    """The IPv4 packet with its header checksum made right again."""
    header = bytearray(raw[: (raw[0] & 15) * 4])
    header[10:12] = b"\0\0"
    header[10:12] = checksum([bytes(header)]).to_bytes(2, "big")
    return bytes(header) + raw[len(header) :]


def patched(raw: bytes, at: int, octets: bytes) -> bytes:
    return raw[:at] + octets + raw[at + len(octets) :]


def v6_with_extensions(first: int, extensions: bytes, segment: Segment) -> bytes:
    """The IPv6 packet of `segment` with extension headers put in; `first` is the protocol of the first."""
    raw = encode(segment).data()
    length = len(raw) - 40 + len(extensions)
    return raw[:4] + struct.pack("!HB", length, first) + raw[7:40] + extensions + raw[40:]


# --- what we build, as dpkt reads it --------------------------------------------------------------------


def test_encode_v4_is_what_dpkt_would_have_built() -> None:
    options = Options(mss=1460, wscale=7)
    segment = a_segment(text=b"hello", flags=SYN, up=3, options=options)
    tcp = dpkt.tcp.TCP(
        sport=40000, dport=80, seq=0xFFFF_FFF0, ack=7, off=7, flags=SYN, win=512, urp=3,
        opts=encode_options(options), data=b"hello",
    )  # fmt: skip
    ip = dpkt.ip.IP(src=V4[0], dst=V4[1], p=6, id=99, df=1, ttl=33, data=tcp)
    assert encode(segment, hop_limit=33, ident=99).data() == bytes(ip)


def test_encode_v6_is_what_dpkt_would_have_built() -> None:
    segment = a_segment(V6, text=b"hello")
    tcp = dpkt.tcp.TCP(
        sport=40000, dport=80, seq=0xFFFF_FFF0, ack=7, off=5, flags=ACK | PSH, win=512, data=b"hello"
    )
    ip = dpkt.ip6.IP6(src=V6[0], dst=V6[1], nxt=6, hlim=64, plen=25, data=tcp)
    ip.extension_hdrs = {}
    assert encode(segment).data() == bytes(ip)


def test_encode_puts_headers_in_one_bytes_object_and_leaves_the_chunks_uncopied() -> None:
    first, second = memoryview(b"odd"), b"even"
    segment = a_segment(options=Options(timestamps=(1, 2)))
    segment.payload, segment.payload_len, segment.packet_id = (first, second), 7, 12
    packet = encode(segment)
    assert len(packet.buffers[0]) == 20 + 20 + 12
    assert isinstance(packet.buffers[0], bytes)
    assert packet.buffers[1] is first
    assert packet.buffers[2] is second
    assert packet.id == 12


@both_families
def test_encode_sum_that_wraps_sends_zero_as_other_stacks_do(addresses: tuple[bytes, bytes]) -> None:
    # Choose the window so that the words add up to a multiple of 0xFFFF: the complement is 0, not 0xFFFF.
    segment = a_segment(addresses, wnd=0)
    field = 36 if addresses is V4 else 56
    segment.wnd = struct.unpack_from("!H", encode(segment).data(), field)[0]
    raw = encode(segment).data()
    assert raw[field : field + 2] == b"\0\0"
    assert isinstance(decode(Packet((raw,))), Segment)


def test_encode_more_than_an_ip_packet_holds_raises_value_error() -> None:
    segment = a_segment()
    segment.payload, segment.payload_len = (bytes(65496),), 65496
    with pytest.raises(ValueError, match="does not fit"):
        encode(segment)


# --- options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            Options(mss=1460, sack_permitted=True, timestamps=(0x01020304, 0), wscale=7),
            "020405b4 0402 080a01020304 00000000 01 030307",
        ),
        (Options(mss=1460, sack_permitted=True, wscale=0), "020405b4 01010402 01030300"),
        (Options(timestamps=(1, 2)), "0101080a0000000100000002"),
        (Options(sack=((1, 2), (3, 4))), "01010512 0000000100000002 0000000300000004"),
    ],
)
def test_encode_options_has_the_order_and_padding_of_linux(options: Options, expected: str) -> None:
    assert encode_options(options) == bytes.fromhex(expected)
    assert decode_options(bytes.fromhex(expected)) == options


def test_encode_options_beyond_forty_octets_raises_value_error() -> None:
    edges = ((1, 2), (3, 4), (5, 6), (7, 8))
    assert len(encode_options(Options(sack=edges))) == 36
    with pytest.raises(ValueError, match="room for 40"):
        encode_options(Options(sack=edges, timestamps=(1, 2)))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("", None),
        ("01010101", None),
        ("00000000", None),
        ("00 020405b4 000000", None),  # what follows End of Option List does not count
        ("020405b4", Options(mss=1460)),
        ("010101 020405b4 00", Options(mss=1460)),
        ("02040000", Options(mss=0)),
        ("020405b4 020401f4", Options(mss=500)),
        ("030300 00", Options(wscale=0)),
        ("0303ff 00", Options(wscale=255)),
        ("fe04abcd 020405b4", Options(mss=1460, unknown=(254,))),
        ("2202 1302", Options(unknown=(34, 19))),
        ("02", Options(malformed=True)),
        ("0200 020405b4", Options(malformed=True)),
        ("0201 020405b4", Options(malformed=True)),
        ("020405b4 fe00 030307", Options(mss=1460, malformed=True)),
        ("020405b4 fe09 030307", Options(mss=1460, malformed=True)),
        ("0203ff 00", Options(malformed=True)),
        ("0205ffffff", Options(malformed=True)),
        ("03040707", Options(malformed=True)),
        ("040300 00", Options(malformed=True)),
        ("08080000000100000002", Options(malformed=True)),
        ("0502 0000", Options(malformed=True)),
        ("0509 00000000000000", Options(malformed=True)),
    ],
)
def test_decode_options(octets: str, expected: Options | None) -> None:
    assert decode_options(bytes.fromhex(octets)) == expected


def test_decode_segment_with_malformed_options_keeps_the_segment_and_says_so() -> None:
    raw = encode(a_segment(options=Options(mss=1460), text=b"abc")).data()
    raw = patched(raw, 40, b"\x02\x00\x05\xb4")
    raw = patched(raw, 36, b"\0\0")
    raw = patched(raw, 36, checksum([pseudo_header(*V4, len(raw) - 20), raw[20:]]).to_bytes(2, "big"))
    segment = decode(Packet((raw,)))
    assert isinstance(segment, Segment)
    assert segment.options == Options(malformed=True)
    assert segment.text() == b"abc"


# --- what arrives ---------------------------------------------------------------------------------------


def test_decode_dpkts_v4_packet_with_ip_options_gives_its_fields() -> None:
    tcp = dpkt.tcp.TCP(sport=1, dport=65535, seq=5, ack=6, flags=FIN | ACK, win=7, urp=9, data=b"text!")
    ip = dpkt.ip.IP(src=V4[0], dst=V4[1], p=6, opts=b"\x01\x01\x01\x00", hl=6, data=tcp)
    segment = decode(Packet((bytes(ip),), id=77))
    assert isinstance(segment, Segment)
    assert (segment.src, segment.sport, segment.dst, segment.dport) == (V4[0], 1, V4[1], 65535)
    assert (segment.seq, segment.ack, segment.flags, segment.wnd, segment.up) == (5, 6, FIN | ACK, 7, 9)
    assert (segment.text(), segment.payload_len, segment.packet_id) == (b"text!", 5, 77)
    assert segment.options is None


def test_decode_gives_the_text_as_a_view_of_the_arriving_buffer() -> None:
    raw = encode(a_segment(text=b"payload")).data()
    segment = decode(Packet((raw,)))
    assert isinstance(segment, Segment)
    (view,) = segment.payload
    assert isinstance(view, memoryview)
    assert view.obj is raw


def test_decode_no_text_gives_no_chunks() -> None:
    segment = decode(encode(a_segment()))
    assert isinstance(segment, Segment)
    assert segment.payload == ()


def test_decode_reserved_bits_beside_the_flags_are_ignored() -> None:
    raw = bytearray(encode(a_segment(flags=ACK | FIN)).data())
    raw[32] |= 0x0F
    segment = decode(Packet((bytes(raw),), CHECKSUM_VERIFIED))
    assert isinstance(segment, Segment)
    assert segment.flags == ACK | FIN


@both_families
def test_decode_octets_behind_the_ip_length_are_cut_off(addresses: tuple[bytes, bytes]) -> None:
    raw = encode(a_segment(addresses, text=b"abc")).data() + b"padding"
    segment = decode(Packet((raw,)))
    assert isinstance(segment, Segment)
    assert segment.text() == b"abc"


@both_families
@pytest.mark.parametrize("state", [CHECKSUM_VERIFIED, CHECKSUM_PARTIAL])
def test_decode_checksum_vouched_for_by_the_device_is_not_verified(
    addresses: tuple[bytes, bytes], state: int
) -> None:
    raw = bytearray(encode(a_segment(addresses, text=b"abc")).data())
    raw[-1] ^= 1
    assert decode(Packet((bytes(raw),))) == Dropped("tcp_bad_checksum")
    assert isinstance(decode(Packet((bytes(raw),), state)), Segment)


PAD_N = bytes.fromhex("0104 00000000")
ROUTER_ALERT = bytes.fromhex("05020000 0100")


@pytest.mark.parametrize(
    ("first", "extensions"),
    [
        (0, b"\x06\x00" + ROUTER_ALERT),
        (60, b"\x06\x00" + PAD_N),
        (60, b"\x06\x01" + bytes(14)),
        (0, b"\x3c\x00" + PAD_N + b"\x06\x00" + PAD_N),
    ],
    ids=["hop-by-hop", "destination", "sixteen-octets", "both"],
)
def test_decode_v6_options_headers_are_skipped(first: int, extensions: bytes) -> None:
    segment = decode(Packet((v6_with_extensions(first, extensions, a_segment(V6, text=b"abc")),)))
    assert isinstance(segment, Segment)
    assert segment.text() == b"abc"


@pytest.mark.parametrize(
    ("first", "extensions", "counter"),
    [
        (44, b"\x06\0" + bytes(6), "ip_fragment"),
        (43, b"\x06\0" + bytes(6), "ip6_routing_header"),
        (60, b"\x00\0" + PAD_N + b"\x06\0" + PAD_N, "ip6_bad_extension"),  # hop-by-hop not first
        (0, b"\x06\0" + bytes.fromhex("c20400000000"), "ip6_bad_extension"),  # jumbo payload: discard
        (0, b"\x06\0" + bytes.fromhex("010500000000"), "ip6_bad_extension"),  # past its header's end
        (0, b"\x06\0" + bytes.fromhex("010300000001"), "ip6_bad_extension"),  # an option without length
        (0, b"\x06\xff" + PAD_N, "ip_truncated"),
        (51, b"\x06\0" + bytes(6), "ip_other_protocol"),
    ],
)
def test_decode_v6_other_extension_headers_are_dropped(first: int, extensions: bytes, counter: str) -> None:
    raw = v6_with_extensions(first, extensions, a_segment(V6))
    assert decode(Packet((raw,))) == Dropped(counter)


def v4_cases() -> list[tuple[str, bytes, str]]:
    raw = encode(a_segment(text=b"0123456789")).data()
    fix = with_ip_checksum
    return [
        ("empty", b"", "ip_truncated"),
        ("19 octets", raw[:19], "ip_truncated"),
        ("cut", raw[:-1], "ip_truncated"),
        ("version 5", b"\x55" + raw[1:], "ip_unknown_version"),
        ("version 0", b"\x05" + raw[1:], "ip_unknown_version"),
        ("header of 4 words", fix(b"\x44" + raw[1:]), "ip_bad_length"),
        ("total below header", fix(patched(raw, 2, b"\0\x13")), "ip_bad_length"),
        ("total zero, as with TSO", fix(patched(raw, 2, b"\0\0")), "ip_bad_length"),
        ("header past total", fix(b"\x4f" + patched(raw, 2, b"\0\x32")[1:]), "ip_bad_length"),
        ("header checksum", patched(raw, 10, b"\0\0"), "ip_bad_checksum"),
        ("first fragment", fix(patched(raw, 6, b"\x20\0")), "ip_fragment"),
        ("later fragment", fix(patched(raw, 6, b"\0\x01")), "ip_fragment"),
        ("udp", fix(patched(raw, 9, b"\x11")), "ip_other_protocol"),
        ("igmp", fix(patched(raw, 9, b"\x02")), "ip_other_protocol"),
        ("ip in ip", fix(patched(raw, 9, b"\x04")), "ip_other_protocol"),
        ("tcp of 19 octets", fix(patched(raw, 2, b"\0\x27")), "tcp_truncated"),
        ("no tcp at all", fix(patched(raw, 2, b"\0\x14")), "tcp_truncated"),
        ("offset 4", patched(raw, 32, b"\x40"), "tcp_bad_offset"),
        ("offset past the end", patched(raw, 32, b"\xf0"), "tcp_bad_offset"),
        ("tcp checksum", patched(raw, 36, b"\xde\xad"), "tcp_bad_checksum"),
        ("from multicast", fix(patched(raw, 12, b"\xe0")), "tcp_bad_address"),
        ("from broadcast", fix(patched(raw, 12, b"\xff" * 4)), "tcp_bad_address"),
        ("from nowhere", fix(patched(raw, 12, bytes(4))), "tcp_bad_address"),
        ("to multicast", fix(patched(raw, 16, b"\xe0")), "tcp_bad_address"),
        ("to broadcast", fix(patched(raw, 16, b"\xff" * 4)), "tcp_bad_address"),
    ]


def v6_cases() -> list[tuple[str, bytes, str]]:
    raw = encode(a_segment(V6, text=b"0123456789")).data()
    return [
        ("39 octets", raw[:39], "ip_truncated"),
        ("cut", raw[:-1], "ip_truncated"),
        ("no next header", patched(raw, 6, b"\x3b"), "ip_other_protocol"),
        ("udp", patched(raw, 6, b"\x11"), "ip_other_protocol"),
        ("tcp of 19 octets", patched(raw, 4, b"\0\x13"), "tcp_truncated"),
        ("payload length zero", patched(raw, 4, b"\0\0"), "tcp_truncated"),
        ("hop-by-hop in nothing", patched(patched(raw, 4, b"\0\x07"), 6, b"\0"), "ip_truncated"),
        ("offset 4", patched(raw, 52, b"\x40"), "tcp_bad_offset"),
        ("tcp checksum", patched(raw, 56, b"\xde\xad"), "tcp_bad_checksum"),
        ("from multicast", patched(raw, 8, b"\xff"), "tcp_bad_address"),
        ("from nowhere", patched(raw, 8, bytes(16)), "tcp_bad_address"),
        ("to multicast", patched(raw, 24, b"\xff"), "tcp_bad_address"),
    ]


@pytest.mark.parametrize(
    ("raw", "counter"),
    [pytest.param(raw, counter, id=f"v4-{name}") for name, raw, counter in v4_cases()]
    + [pytest.param(raw, counter, id=f"v6-{name}") for name, raw, counter in v6_cases()],
)
def test_decode_what_is_not_right_is_dropped_under_its_counter(raw: bytes, counter: str) -> None:
    assert decode(Packet((raw,))) == Dropped(counter)


def test_decode_deeply_nested_packets_are_dropped_without_recursion() -> None:
    # dpkt would recurse once for each of these headers, and die of it.
    raw = b""
    for _ in range(3000):
        total = 20 + len(raw)
        raw = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0, 64, 4, 0, *V4) + raw
    assert decode(Packet((with_ip_checksum(raw),))) == Dropped("ip_other_protocol")
    icmp = b"\x03\x03\0\0" + bytes(4) + raw[:60000]
    icmp = patched(icmp, 2, checksum([icmp]).to_bytes(2, "big"))
    outer = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, *V4)
    message = decode(Packet((with_ip_checksum(outer + icmp),)))
    assert isinstance(message, IcmpMessage)
    assert message.quoted is None


def test_encode_header_checksums_cover_what_they_must() -> None:
    raw = encode(a_segment(text=b"odd")).data()
    assert ones_complement_sum([raw[:20]]) == 0xFFFF
    assert ones_complement_sum([pseudo_header(*V4, len(raw) - 20), raw[20:]]) == 0xFFFF
