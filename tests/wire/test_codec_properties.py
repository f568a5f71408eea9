"""The codec under generated input: round trips, dpkt as the oracle, and octets that no sane peer sends."""

from __future__ import annotations

import struct

import dpkt
from hypothesis import example, given
from hypothesis import strategies as st

from tcpstack.core.segment import Options, Segment
from tcpstack.wire.checksum import checksum
from tcpstack.wire.dpkt_codec import Dropped, decode, decode_options, encode, encode_options
from tcpstack.wire.icmp import IcmpMessage, decode_icmp, encode_icmp
from tcpstack.wire.packet import Packet

words16 = st.integers(0, 0xFFFF)
words32 = st.integers(0, 0xFFFF_FFFF)
# Unicast, as decode asks of TCP: not 0.0.0.0/8, not above 223.
addresses_v4 = st.tuples(*[st.integers(1, 223)] * 4).map(bytes)
addresses_v6 = st.tuples(*[st.integers(1, 0xFE)] * 16).map(bytes)
chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=4).map(tuple)

# Small enough together to fit into 40 octets: MSS 4, timestamps 12, window scale 4, two SACK blocks 20.
offered_options = st.builds(
    Options,
    mss=st.none() | words16,
    wscale=st.none() | st.integers(0, 255),
    sack_permitted=st.booleans(),
    timestamps=st.none() | st.tuples(words32, words32),
    sack=st.just(()) | st.lists(st.tuples(words32, words32), min_size=1, max_size=2).map(tuple),
).filter(lambda options: options != Options())


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    addresses = addresses_v4 if draw(st.booleans()) else addresses_v6
    payload = draw(chunks)
    options = draw(st.none() | offered_options)
    if options is not None and options.sack_permitted and options.timestamps is None and options.sack:
        options.sack = options.sack[:1]
    return Segment(
        draw(addresses), draw(words16), draw(addresses), draw(words16),
        draw(words32), draw(words32), draw(st.integers(0, 0xFF)), draw(words16),
        payload, sum(map(len, payload)), options, draw(words16), packet_id=draw(st.integers(1, 1000)),
    )  # fmt: skip


def fields(segment: Segment) -> tuple[object, ...]:
    return (
        segment.src, segment.sport, segment.dst, segment.dport, segment.seq, segment.ack, segment.flags,
        segment.wnd, segment.up, segment.options, segment.text(), segment.payload_len, segment.packet_id,
    )  # fmt: skip


@given(segments(), st.integers(0, 255), words16)
def test_decode_of_encode_gives_the_segment_back(segment: Segment, hop_limit: int, ident: int) -> None:
    decoded = decode(encode(segment, hop_limit=hop_limit, ident=ident))
    assert isinstance(decoded, Segment)
    assert fields(decoded) == fields(segment)


@given(segments())
def test_dpkt_reads_the_same_from_what_we_build_and_makes_the_same_octets_of_it(segment: Segment) -> None:
    raw = encode(segment).data()
    ip = dpkt.ip.IP(raw) if len(segment.src) == 4 else dpkt.ip6.IP6(raw)
    tcp = ip.data
    assert (ip.src, tcp.sport, ip.dst, tcp.dport) == (segment.src, segment.sport, segment.dst, segment.dport)
    assert (tcp.seq, tcp.ack, tcp.flags, tcp.win) == (segment.seq, segment.ack, segment.flags, segment.wnd)
    assert (tcp.urp, bytes(tcp.data)) == (segment.up, segment.text())
    # With the sums set to zero dpkt computes them itself, which makes it the oracle of ours.
    if len(segment.src) == 4:
        ip.sum = 0
    tcp.sum = 0
    assert bytes(ip) == raw


@given(offered_options)
def test_dpkt_reads_the_same_options_from_what_we_build(options: Options) -> None:
    if options.sack_permitted and options.timestamps is None:
        options.sack = options.sack[:1]
    encoded = encode_options(options)
    kinds = dict(dpkt.tcp.parse_opts(encoded))
    assert len(encoded) % 4 == 0
    assert (2 in kinds) == (options.mss is not None)
    assert kinds.get(3) == (None if options.wscale is None else bytes([options.wscale]))
    assert (4 in kinds) == options.sack_permitted
    assert len(kinds.get(5, b"")) == 8 * len(options.sack)
    assert (8 in kinds) == (options.timestamps is not None)


@given(st.binary(max_size=40))
def test_decode_options_of_any_octets_raises_nothing(data: bytes) -> None:
    options = decode_options(data)
    assert options is None or isinstance(options, Options)


def as_ip(data: bytes, version: int, protocol: int) -> bytes:
    """`data` with an IP header in front that is right in all but what `data` itself breaks."""
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + b"\1" * 32 + data
    addresses = b"\x0a\x09\0\1", b"\x0a\x09\0\2"
    header = bytearray(struct.pack("!BBHIBBH4s4s", 0x45, 0, 20 + len(data), 0, 64, protocol, 0, *addresses))
    header[10:12] = checksum([bytes(header)]).to_bytes(2, "big")
    return bytes(header) + data


random_packets = st.one_of(
    st.binary(max_size=120),
    st.builds(
        as_ip,
        st.binary(max_size=120),
        st.sampled_from([4, 6]),
        st.sampled_from([0, 1, 2, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60]),
    ),
)


@given(random_packets, st.sampled_from([0, 1, 2]))
def test_decode_of_any_octets_raises_nothing(data: bytes, checksum_state: int) -> None:
    assert isinstance(decode(Packet((data,), checksum_state)), Segment | IcmpMessage | Dropped)


edits = st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=4)))


@given(segments(), edits, st.integers(0, 200))
def test_decode_of_a_mutated_packet_raises_nothing(
    segment: Segment, changes: list[tuple[int, bytes]], length: int
) -> None:
    raw = bytearray(encode(segment).data())
    for at, octets in changes:
        raw[at : at + len(octets)] = octets
    for data in (bytes(raw), bytes(raw[:length])):
        for checksum_state in (0, 1):
            assert isinstance(decode(Packet((data,), checksum_state)), Segment | IcmpMessage | Dropped)


ONE_ODD_OCTET = Segment(b"\x0a\x09\0\1", 1, b"\x0a\x09\0\2", 2, 0, 0, 16, 0, (b"\0",), 1)


@given(segments(), st.integers(0))
@example(ONE_ODD_OCTET, 40 * 8 + 7)
@example(ONE_ODD_OCTET, 1)
def test_one_flipped_bit_is_noticed_or_lies_where_nothing_is_covered(segment: Segment, bit: int) -> None:
    raw = bytearray(encode(segment).data())
    bit %= len(raw) * 8
    raw[bit // 8] ^= 0x80 >> bit % 8
    decoded = decode(Packet((bytes(raw),), id=segment.packet_id))
    # RFC 8200 has no header checksum: traffic class, flow label (bits 4 to 31) and hop limit are not covered.
    if len(segment.src) == 16 and (4 <= bit < 32 or 56 <= bit < 64):
        assert isinstance(decoded, Segment)
        assert fields(decoded) == fields(segment)
    else:
        assert isinstance(decoded, Dropped)


octet = st.integers(0, 255)
bodies = st.binary(min_size=4, max_size=80)
icmp_messages = st.one_of(
    st.builds(IcmpMessage, addresses_v4, addresses_v4, octet, octet, bodies),
    st.builds(IcmpMessage, addresses_v6, addresses_v6, octet, octet, bodies),
)


@given(icmp_messages)
def test_icmp_decode_of_encode_gives_the_message_back(message: IcmpMessage) -> None:
    decoded = decode(encode_icmp(message))
    assert isinstance(decoded, IcmpMessage)
    for name in ("src", "dst", "type", "code", "body"):
        assert getattr(decoded, name) == getattr(message, name)


@given(icmp_messages)
def test_dpkt_makes_the_same_octets_of_an_icmp_message(message: IcmpMessage) -> None:
    raw = encode_icmp(message).data()
    if message.version == 4:
        icmp = dpkt.icmp.ICMP(type=message.type, code=message.code, data=message.body)
        ip = dpkt.ip.IP(src=message.src, dst=message.dst, p=1, df=1, data=icmp)
    else:
        icmp = dpkt.icmp6.ICMP6(type=message.type, code=message.code, data=message.body)
        ip = dpkt.ip6.IP6(src=message.src, dst=message.dst, nxt=58, hlim=64, plen=len(raw) - 40, data=icmp)
        ip.extension_hdrs = {}
    assert raw == bytes(ip)


@given(addresses_v4 | addresses_v6, st.binary(max_size=100))
def test_decode_icmp_of_any_octets_raises_nothing(address: bytes, data: bytes) -> None:
    assert isinstance(decode_icmp(address, address, data, verify=False), IcmpMessage | Dropped)
