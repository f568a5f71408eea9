"""The fast codec gives what dpkt_codec gives, for every packet and every segment; and it is fast where it should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpstack.core.segment import ACK, PSH, Buffer, Options, Segment
from tcpstack.wire import dpkt_codec, fast_codec
from tcpstack.wire.checksum import checksum, congruent_sum, ones_complement_sum, pseudo_header
from tcpstack.wire.codec import FAST
from tcpstack.wire.dropped import Dropped
from tcpstack.wire.icmp import IcmpMessage, encode_icmp
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, Packet

V4 = (bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]))
V6 = (bytes.fromhex("fd09" + "00" * 13 + "01"), bytes.fromhex("fd09" + "00" * 13 + "02"))
both_families = pytest.mark.parametrize("addresses", [V4, V6], ids=["v4", "v6"])

words16 = st.integers(0, 0xFFFF)
words32 = st.integers(0, 0xFFFF_FFFF)
states = st.sampled_from([CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, CHECKSUM_PARTIAL])
# The first octets that mean something: nowhere, the network of this host, groups, the broadcast.
first_octets = st.sampled_from([0, 1, 10, 127, 192, 223, 224, 239, 240, 0xFD, 0xFE, 0xFF]) | st.integers(0, 255)
addresses_v4 = st.builds(lambda first, rest: bytes([first]) + rest, first_octets, st.binary(min_size=3, max_size=3))
addresses_v6 = st.builds(lambda first, rest: bytes([first]) + rest, first_octets, st.binary(min_size=15, max_size=15))
families = st.sampled_from([V4, V6]) | st.tuples(addresses_v4, addresses_v4) | st.tuples(addresses_v6, addresses_v6)
timestamps = st.tuples(words32, words32)
options = st.one_of(
    st.none(),
    st.builds(Options, timestamps=timestamps),
    st.builds(
        Options,
        mss=st.none() | words16,
        wscale=st.none() | st.integers(0, 255),
        sack_permitted=st.booleans(),
        timestamps=st.none() | timestamps,
        sack=st.lists(st.tuples(words32, words32), max_size=1).map(tuple),
    ),
)
# Long chunks are summed in another way than short ones.
chunk = st.binary(min_size=1, max_size=40) | st.builds(
    lambda part, times: part * times, st.binary(min_size=1, max_size=9), st.integers(1, 400)
)
chunks = st.lists(chunk | chunk.map(memoryview), max_size=3).map(tuple)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    src, dst = draw(families)
    payload = draw(chunks)
    return Segment(
        src, draw(words16), dst, draw(words16), draw(words32), draw(words32), draw(st.integers(0, 0xFF)), draw(words16),
        payload, sum(map(len, payload)), draw(options), draw(words16),
        packet_id=draw(st.integers(0, 1000)), gso_size=draw(st.sampled_from([0, 1, 536, 1460])),
    )  # fmt: skip


def a_segment(addresses: tuple[bytes, bytes] = V4, text: bytes = b"", options: Options | None = None) -> Segment:
    payload = (text,) if text else ()
    return Segment(
        addresses[0], 40000, addresses[1], 80, 0xFFFF_FFF0, 7, ACK | PSH, 512,
        payload, len(text), options, 0x1234, packet_id=3,
    )  # fmt: skip


def repaired(raw: bytes) -> bytes:
    """The octets with checksums that hold, where there is a header that can have one."""
    octets = bytearray(raw)
    if len(octets) >= 20 and octets[0] >> 4 == 4:
        start, end = (octets[0] & 15) * 4, int.from_bytes(octets[2:4], "big")
        octets[10:12] = b"\0\0"
        octets[10:12] = checksum([bytes(octets[:start])]).to_bytes(2, "big")
        src, dst = bytes(octets[12:16]), bytes(octets[16:20])
    elif len(octets) >= 40 and octets[0] >> 4 == 6:
        start, end = 40, 40 + int.from_bytes(octets[4:6], "big")
        src, dst = bytes(octets[8:24]), bytes(octets[24:40])
    else:
        return raw
    if start + 18 <= end <= len(octets):
        octets[start + 16 : start + 18] = b"\0\0"
        covered = bytes(octets[start:end])
        field = checksum([pseudo_header(src, dst, len(covered)), covered])
        octets[start + 16 : start + 18] = field.to_bytes(2, "big")
    return bytes(octets)


# What the fields that decide are likely to be, and anything.
telling_octets = st.sampled_from([0, 1, 2, 4, 6, 8, 10, 17, 20, 32, 40, 44, 58, 60, 64, 69, 70, 80, 96, 128, 224, 255])
edits = st.lists(
    st.tuples(st.integers(0, 75), st.lists(telling_octets, min_size=1, max_size=2).map(bytes) | st.binary(min_size=1)),
    max_size=3,
)


@st.composite
def octets_of_packets(draw: st.DrawFn) -> bytes:
    """Packets that are right, that somebody bent, that somebody bent with care, and noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=120))
    raw = dpkt_codec.encode(draw(segments()), draw(st.booleans())).data()
    octets = bytearray(raw)
    for at, new in draw(edits):
        octets[at : at + len(new)] = new
    raw = bytes(octets)
    if draw(st.booleans()):
        raw = raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw + draw(st.binary(max_size=30))
    return repaired(raw) if draw(st.booleans()) else raw


def in_one_view(raw: bytes) -> tuple[Buffer, ...]:
    """As a device with a header of its own in front of the packet delivers it."""
    return (memoryview(bytes(10) + raw)[10:],)


def in_pieces(raw: bytes) -> tuple[Buffer, ...]:
    return raw[:20], memoryview(raw)[20:41], raw[41:]


layouts: st.SearchStrategy[Callable[[bytes], tuple[Buffer, ...]]] = st.sampled_from(
    [lambda raw: (raw,), lambda raw: (raw,), in_one_view, in_pieces]
)


def assert_same(one: Segment | IcmpMessage | Dropped, other: Segment | IcmpMessage | Dropped) -> None:
    """Equal in type and every field, the text in the octets that it has and in the buffer that it lies in; of options
    the fast codec has a kind of its own."""
    assert type(one) is type(other)
    for name in type(one).__slots__:
        mine, its = getattr(one, name), getattr(other, name)
        assert type(mine) is type(its) or name == "options", name
        assert mine == its, name
    if isinstance(one, Segment) and isinstance(other, Segment):
        assert all(isinstance(chunk, memoryview) for chunk in one.payload)
        assert one.text() == other.text()


# --- decode -----------------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(octets_of_packets(), layouts, states, st.sampled_from([0, 1, 1460]), st.integers(0, 1000))
def test_decode_gives_what_dpkt_codec_gives(
    raw: bytes, layout: Callable[[bytes], tuple[Buffer, ...]], state: int, gso_size: int, packet_id: int
) -> None:
    packet = Packet(layout(raw), state, gso_size, packet_id)
    assert_same(fast_codec.decode(packet), dpkt_codec.decode(packet))


@given(segments(), st.booleans(), layouts)
def test_decode_of_right_packets_gives_what_dpkt_codec_gives(
    segment: Segment, partial: bool, layout: Callable[[bytes], tuple[Buffer, ...]]
) -> None:
    packet = dpkt_codec.encode(segment, partial)
    packet.buffers = layout(packet.data())
    assert_same(fast_codec.decode(packet), dpkt_codec.decode(packet))


@given(segments(), st.integers(0))
@example(a_segment(), 10 * 8 + 7)
@example(a_segment(V6, b"x"), 60 * 8)
def test_decode_with_one_flipped_bit_gives_what_dpkt_codec_gives(segment: Segment, bit: int) -> None:
    raw = bytearray(dpkt_codec.encode(segment).data())
    bit %= len(raw) * 8
    raw[bit // 8] ^= 0x80 >> bit % 8
    for state in (CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED):
        packet = Packet((bytes(raw),), state)
        assert_same(fast_codec.decode(packet), dpkt_codec.decode(packet))


@both_families
@pytest.mark.parametrize("text", [b"", b"odd", b"even", bytes(range(250)) * 4, b"\xff\xff"])
@pytest.mark.parametrize("options", [None, Options(timestamps=(1, 2))], ids=["bare", "timestamps"])
def test_decode_of_every_length_and_every_header_octet_gives_what_dpkt_codec_gives(
    addresses: tuple[bytes, bytes], text: bytes, options: Options | None
) -> None:
    raw = dpkt_codec.encode(a_segment(addresses, text, options)).data()
    length_at, overhead = (2, 0) if addresses is V4 else (4, 40)
    variants = []
    for end in range(min(len(raw), 100)):
        said = raw[:length_at] + max(end - overhead, 0).to_bytes(2, "big") + raw[length_at + 2 :]
        variants += [raw[:end], said[:end], said]  # cut, short, and padded
    for at in range(len(raw) - len(text)):
        for change in (1, 2, 4, 8, 16, 32, 64, 128, raw[at], raw[at] ^ 0xFF, 0xF0):
            variants.append(raw[:at] + bytes([raw[at] ^ change]) + raw[at + 1 :])
    for octets in variants:
        for packet in (Packet((repaired(octets),)), Packet((repaired(octets),), CHECKSUM_VERIFIED)):
            assert_same(fast_codec.decode(packet), dpkt_codec.decode(packet))


def test_decode_of_icmp_gives_the_message() -> None:
    message = IcmpMessage(V4[0], V4[1], 8, 0, b"\0\1\0\2ping", packet_id=9)
    assert_same(fast_codec.decode(encode_icmp(message)), message)


@pytest.fixture
def declined(monkeypatch: pytest.MonkeyPatch) -> list[Packet]:
    """The packets that the fast codec leaves to dpkt_codec."""
    packets: list[Packet] = []
    decode = dpkt_codec.decode

    def recording(packet: Packet) -> Segment | IcmpMessage | Dropped:
        packets.append(packet)
        return decode(packet)

    monkeypatch.setattr(dpkt_codec, "decode", recording)
    return packets


@both_families
@pytest.mark.parametrize("text", [b"", b"odd", bytes(1460)], ids=["no-text", "odd", "full"])
@pytest.mark.parametrize(
    "options",
    [
        None,
        Options(timestamps=(0xFFFF_FFFF, 0)),
        Options(mss=1460),
        Options(timestamps=(1, 2), sack=((1, 2),)),
        Options(mss=1460, sack_permitted=True, wscale=7),
        Options(mss=1460, sack_permitted=True, wscale=7, timestamps=(1, 0)),
    ],
    ids=["bare", "timestamps", "mss", "timestamps-and-sack", "twelve-octets-of-others", "syn"],
)
@pytest.mark.parametrize("partial", [False, True])
def test_decode_plain_segment_is_not_left_to_dpkt_codec(
    addresses: tuple[bytes, bytes], text: bytes, options: Options | None, partial: bool, declined: list[Packet]
) -> None:
    segment = a_segment(addresses, text, options)
    packet = dpkt_codec.encode(segment, partial)
    raw = packet.data()
    for buffers in ((raw,), in_one_view(raw), in_pieces(raw), (raw + b"padding",)):
        decoded = fast_codec.decode(Packet(buffers, packet.checksum, id=3))
        assert isinstance(decoded, Segment)
        assert (decoded.text(), decoded.options, decoded.packet_id) == (text, options, 3)
    assert declined == []


@pytest.mark.parametrize(
    "packet",
    [
        Packet(()),
        encode_icmp(IcmpMessage(*V4, 8, 0, b"\0\1\0\2ping")),
    ],
    ids=["empty", "icmp"],
)
def test_decode_what_is_not_plain_is_left_to_dpkt_codec(packet: Packet, declined: list[Packet]) -> None:
    fast_codec.decode(packet)
    assert declined == [packet]


# --- encode -----------------------------------------------------------------------------------------------------------


def assert_same_packet(segment: Segment, partial: bool, hop_limit: int, traffic_class: int = 0) -> None:
    mine = fast_codec.encode(segment, partial, hop_limit, traffic_class)
    its = dpkt_codec.encode(segment, partial, hop_limit, traffic_class)
    assert isinstance(mine.buffers, tuple)
    assert type(mine.buffers[0]) is bytes
    assert mine.buffers == its.buffers
    assert all(chunk is text for chunk, text in zip(mine.buffers[1:], segment.payload, strict=True))
    assert (mine.checksum, mine.gso_size, mine.id) == (its.checksum, its.gso_size, its.id)


@given(segments(), st.booleans(), st.integers(0, 255), st.integers(0, 255))
def test_encode_gives_what_dpkt_codec_gives(
    segment: Segment, partial: bool, hop_limit: int, traffic_class: int
) -> None:
    assert_same_packet(segment, partial, hop_limit, traffic_class)


@both_families
@pytest.mark.parametrize("partial", [False, True])
def test_encode_where_a_sum_wraps_gives_what_dpkt_codec_gives(addresses: tuple[bytes, bytes], partial: bool) -> None:
    # A checksum field says by how much a word of the octets that it covers must grow for their sum to be zero.
    segment = a_segment((addresses[0], addresses[1][:-2] + b"\0\0"))
    octets = fast_codec.encode(segment, partial).data()
    ip_field, tcp_field = int.from_bytes(octets[10:12], "big"), int.from_bytes(octets[-4:-2], "big")
    if partial:
        tcp_field ^= 0xFFFF  # this one is the sum, not its complement
    for field in (ip_field, tcp_field):
        for word in range(max(field - 2, 0), min(field + 3, 0x10000)):
            segment.dst = segment.dst[:-2] + word.to_bytes(2, "big")
            assert_same_packet(segment, partial, 64)


@both_families
@pytest.mark.parametrize("traffic_class", [0xB8, 0xFF])
def test_decode_with_a_traffic_class_is_plain(
    addresses: tuple[bytes, bytes], traffic_class: int, declined: list[Packet]
) -> None:
    packet = fast_codec.encode(a_segment(addresses, b"text"), False, 9, traffic_class)
    segment = fast_codec.decode(Packet((packet.data(),)))
    assert isinstance(segment, Segment)
    assert (segment.text(), declined) == (b"text", [])


@pytest.mark.parametrize(("addresses", "most"), [(V4, 65_495), (V6, 65_515)], ids=["v4", "v6"])
@pytest.mark.parametrize("partial", [False, True])
def test_encode_superpackets_up_to_the_largest_and_no_larger(
    addresses: tuple[bytes, bytes], most: int, partial: bool
) -> None:
    segment = a_segment(addresses, bytes(range(1, 252)) * 300)
    segment.gso_size = 1400
    segment.payload, segment.payload_len = (segment.payload[0][:most],), most
    assert_same_packet(segment, partial, 64)
    segment.payload, segment.payload_len = (*segment.payload, b"x"), most + 1
    for codec in (fast_codec, dpkt_codec):
        with pytest.raises(ValueError, match=f"a segment of {most + 21} octets does not fit"):
            codec.encode(segment, partial)


def test_encode_options_beyond_forty_octets_raises_value_error() -> None:
    segment = a_segment(options=Options(sack=((1, 2), (3, 4), (5, 6), (7, 8)), timestamps=(1, 2)))
    with pytest.raises(ValueError, match="room for 40"):
        fast_codec.encode(segment)


@given(segments())
def test_codec_fast_decodes_what_it_encodes(segment: Segment) -> None:
    segment.gso_size = 0
    for partial in (False, True):
        packet = FAST.encode(segment, partial)
        again = FAST.decode(Packet((packet.data(),), packet.checksum, packet.gso_size, packet.id))
        if again == Dropped("tcp_bad_address"):
            continue
        assert isinstance(again, Segment)
        assert FAST.encode(again, partial).data() == packet.data()


# --- the sum ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=40) | st.builds(lambda part, times: part * times, st.binary(max_size=9), st.integers(1, 400)))
def test_congruent_sum_is_congruent_to_the_sum(octets: bytes) -> None:
    for buffer in (octets, memoryview(octets)):
        assert congruent_sum(buffer) % 0xFFFF == ones_complement_sum((buffer,)) % 0xFFFF
