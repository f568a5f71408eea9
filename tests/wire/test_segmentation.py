"""Superpackets divided and partial checksums completed, held against dpkt and against the codec."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcpstack.core import segment as tcp
from tcpstack.core.segment import Options, Segment
from tcpstack.wire.checksum import ones_complement_sum, pseudo_header
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.objects import ObjectPacket
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, LARGEST_PACKET, Packet
from tcpstack.wire.segmentation import completed, divided, renew_checksums, tcp_start, wire_packets
from tests.device.faulty_wire import SYN_OPTIONS, a_segment, an_echo, as_octets, parsed

FIN_PSH = tcp.FIN | tcp.PSH
SACKED = Options(timestamps=(5, 6), sack=((1, 2), (3, 2**32 - 1)))


@dataclass(frozen=True)
class Superpacket:
    segment: Segment
    ident: int
    hop_limit: int

    def packet(self) -> Packet:
        """As a codec makes it for a device that does the rest."""
        return encode(self.segment, True, ident=self.ident, hop_limit=self.hop_limit)


@st.composite
def superpackets(draw: st.DrawFn) -> Superpacket:
    """Of either version, any flags but SYN and RST, with text in chunks of any size."""
    word, short = st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)
    length, gso_size = draw(st.integers(1, 40_000)), draw(st.integers(1, 9000))
    gso_size = max(gso_size, length // 200)  # so many pieces are enough
    text = draw(st.randoms(use_true_random=False)).randbytes(length)
    cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=6))})
    payload = tuple(memoryview(text)[left:right] for left, right in itertools.pairwise(cuts))
    flags = draw(st.integers(0, 255)) & ~(tcp.SYN | tcp.RST)
    options = draw(st.sampled_from([None, Options(timestamps=(5, 6)), SACKED]))
    segment = a_segment(flags, options=options, seq=draw(word), wnd=draw(short), v6=draw(st.booleans()), packet_id=77)
    segment.payload, segment.payload_len, segment.gso_size = payload, length, gso_size
    segment.up = draw(short)
    return Superpacket(segment, draw(short), draw(st.integers(1, 255)))


def check_pieces(whole: Segment, pieces: list[Segment]) -> None:
    """What a superpacket must come to, whatever it is made of."""
    size = whole.gso_size
    assert b"".join(each.text() for each in pieces) == whole.text()
    assert [each.payload_len for each in pieces[:-1]] == [size] * (len(pieces) - 1)
    assert 1 <= pieces[-1].payload_len <= size
    assert [each.seq for each in pieces] == [(whole.seq + n * size) % 2**32 for n in range(len(pieces))]
    assert [each.flags & FIN_PSH for each in pieces] == [0] * (len(pieces) - 1) + [whole.flags & FIN_PSH]
    assert [each.flags & tcp.CWR for each in pieces] == [whole.flags & tcp.CWR] + [0] * (len(pieces) - 1)
    others = ~(FIN_PSH | tcp.CWR)
    fields = {(each.sport, each.dport, each.ack, each.flags & others, each.wnd, each.up) for each in pieces}
    assert fields == {(whole.sport, whole.dport, whole.ack, whole.flags & others, whole.wnd, whole.up)}
    assert all(each.options == whole.options and each.packet_id == whole.packet_id for each in pieces)
    assert all(each.gso_size == 0 for each in pieces)
    assert len(pieces) == whole.segments


@given(superpackets())
def test_superpacket_becomes_segments_that_decode_verifies(superpacket: Superpacket) -> None:
    pieces = wire_packets(superpacket.packet())
    assert {(piece.id, piece.gso_size, piece.checksum) for piece in pieces} == {(77, 0, CHECKSUM_UNVERIFIED)}
    segments = [decode(piece) for piece in pieces]
    assert all(isinstance(segment, Segment) for segment in segments), segments
    check_pieces(superpacket.segment, [segment for segment in segments if isinstance(segment, Segment)])


@given(superpackets())
def test_superpacket_becomes_packets_whose_headers_dpkt_agrees_with(superpacket: Superpacket) -> None:
    segment = superpacket.segment
    ips = [parsed(piece) for piece in wire_packets(superpacket.packet())]
    assert {(ip.src, ip.dst) for ip in ips} == {(segment.src, segment.dst)}
    assert b"".join(ip.data.data for ip in ips) == segment.text()
    assert [ip.data.seq for ip in ips] == [(segment.seq + n * segment.gso_size) % 2**32 for n in range(len(ips))]
    if len(segment.src) == 4:
        assert [ip.id for ip in ips] == [(superpacket.ident + n) % 2**16 for n in range(len(ips))]
        assert all(ip.df and not ip.mf and ip.offset == 0 for ip in ips)
        assert {ip.ttl for ip in ips} == {superpacket.hop_limit}
    else:
        assert {ip.hlim for ip in ips} == {superpacket.hop_limit}
    last = segment.payload_len % segment.gso_size or segment.gso_size
    headers = 20 * (1 if len(segment.src) == 4 else 2) + ips[0].data.off * 4
    assert [len(bytes(ip)) - headers for ip in ips] == [segment.gso_size] * (len(ips) - 1) + [last]


@given(superpackets())
def test_pieces_are_to_the_octet_what_the_codec_makes_of_the_divided_segment(superpacket: Superpacket) -> None:
    made = [
        encode(piece, ident=(superpacket.ident + n) % 2**16, hop_limit=superpacket.hop_limit).data()
        for n, piece in enumerate(divided(superpacket.segment))
    ]
    assert [piece.data() for piece in wire_packets(superpacket.packet())] == made


@given(superpackets())
def test_completed_superpacket_is_to_the_octet_what_the_codec_makes_of_the_whole(superpacket: Superpacket) -> None:
    partial = superpacket.packet()
    whole = completed(partial)
    expected = encode(superpacket.segment, ident=superpacket.ident, hop_limit=superpacket.hop_limit)
    assert whole.data() == expected.data()
    assert (whole.checksum, whole.gso_size, whole.id) == (CHECKSUM_UNVERIFIED, superpacket.segment.gso_size, 77)
    assert partial.checksum == CHECKSUM_PARTIAL


@given(superpackets(), st.integers(1, 255), st.integers(0, 3))
def test_superpacket_of_an_object_becomes_objects(superpacket: Superpacket, hop_limit: int, congestion: int) -> None:
    packet = ObjectPacket(superpacket.segment, hop_limit, congestion)
    packet.id = 78  # a copy that a rule has made
    pieces = wire_packets(packet)
    contents = []
    for piece in pieces:
        assert isinstance(piece, ObjectPacket)
        assert isinstance(piece.content, Segment)
        assert (piece.hop_limit, piece.congestion, piece.id, piece.gso_size) == (hop_limit, congestion, 78, 0)
        assert len(piece) == len(piece.data())
        contents.append(piece.content)
    check_pieces(superpacket.segment, contents)


def test_largest_superpackets_are_divided() -> None:
    for v6, headers in ((False, 40), (True, 60)):
        room = LARGEST_PACKET - headers + (40 if v6 else 0)  # IPv6 counts what is behind its header
        segment = a_segment(tcp.ACK, bytes(room), v6=v6)
        segment.gso_size = 1440
        pieces = [parsed(piece) for piece in wire_packets(encode(segment, True))]
        assert sum(len(piece.data.data) for piece in pieces) == room


def test_divided_segment_keeps_its_reason_and_gives_views_of_its_text() -> None:
    text = bytes(range(10))
    segment = a_segment(tcp.ACK | tcp.PSH, text)
    segment.gso_size, segment.reason = 4, "data"
    pieces = divided(segment)
    assert [piece.text() for piece in pieces] == [text[:4], text[4:8], text[8:]]
    assert {piece.reason for piece in pieces} == {"data"}
    assert all(isinstance(chunk, memoryview) and chunk.obj is text for piece in pieces for chunk in piece.payload)


def test_segment_that_is_no_superpacket_is_not_divided() -> None:
    segment = a_segment(tcp.ACK | tcp.FIN, b"text")
    assert divided(segment) == [segment]


@pytest.mark.parametrize("text", [b"", b"text", b"just so!"])
def test_superpacket_of_no_more_text_than_one_segment_s_becomes_one(text: bytes) -> None:
    flags = tcp.ACK | FIN_PSH | tcp.CWR
    segment = a_segment(flags, text)
    segment.gso_size = 8
    (piece,) = divided(segment)
    assert (piece.text(), piece.flags, piece.gso_size) == (text, flags, 0)
    (packet,) = wire_packets(encode(segment, True))
    assert packet.data() == encode(segment).data()
    assert packet.gso_size == 0


# --- a partial checksum ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("text", [b"", b"odd", b"x" * 1460])
def test_partial_checksum_is_completed_to_what_the_codec_would_have_made(v6: bool, text: bytes) -> None:
    segment = a_segment(tcp.ACK | tcp.FIN, text, v6=v6, options=SYN_OPTIONS)
    packet = encode(segment, True)
    assert packet.data() != encode(segment).data()
    (whole,) = wire_packets(packet)
    assert whole.data() == completed(packet).data() == encode(segment).data()
    assert (whole.checksum, whole.id) == (CHECKSUM_UNVERIFIED, segment.packet_id)


def datagram(text: bytes, v6: bool) -> bytes:
    """An IP packet with a UDP datagram, whose checksum field holds the pseudo-header's sum only."""
    src, dst = (b"\xfd" + bytes(15), b"\xfd" + bytes(14) + b"\1") if v6 else (b"\x0a\0\0\1", b"\x0a\0\0\2")
    length = 8 + len(text)
    partial = ones_complement_sum((pseudo_header(src, dst, length, 17),))
    udp = struct.pack("!HHHH", 5000, 9, length, partial) + text
    if v6:
        return struct.pack("!IHBB", 6 << 28, length, 17, 64) + src + dst + udp
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0, 64, 17)
    total = 0xFFFF ^ ones_complement_sum((start, b"\0\0", src, dst))
    return start + struct.pack("!H", total) + src + dst + udp


@pytest.mark.parametrize("v6", [False, True])
@given(text=st.binary(max_size=99))
@example(text=b"x" * 1000)
def test_partial_checksum_of_a_datagram_is_completed(v6: bool, text: bytes) -> None:
    (packet,) = wire_packets(Packet((datagram(text, v6),), CHECKSUM_PARTIAL, id=3))
    parsed(packet)
    assert packet.checksum == CHECKSUM_UNVERIFIED
    assert packet.data()[-len(text) or len(packet) :] == text


def test_datagram_whose_checksum_comes_to_zero_says_ffff() -> None:
    """RFC 768: zero means that there is no checksum."""
    octets = datagram(b"\0\0", False)
    (packet,) = wire_packets(Packet((octets,), CHECKSUM_PARTIAL))
    (total,) = struct.unpack_from("!H", packet.data(), 26)
    (zero,) = wire_packets(Packet((datagram(total.to_bytes(2, "big"), False),), CHECKSUM_PARTIAL))
    assert zero.data()[26:28] == b"\xff\xff"


@pytest.mark.parametrize("checksum", [CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED])
def test_packet_without_offload_stays_the_very_same(checksum: int) -> None:
    packet = encode(a_segment(text=b"text"))
    packet.checksum = checksum
    assert wire_packets(packet) == (packet,)
    assert completed(packet) is packet


@pytest.mark.parametrize("content", [a_segment(text=b"text"), an_echo()], ids=["segment", "message"])
def test_object_without_offload_stays_the_very_same(content: Segment | IcmpMessage) -> None:
    carried = ObjectPacket(content)
    assert wire_packets(carried) == (carried,)
    assert completed(carried) is carried


# --- unusual packets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED])
def test_superpacket_whose_checksum_is_not_partial_gets_checksums_too(checksum: int) -> None:
    packet = encode(a_segment(text=bytes(3000)))
    packet.checksum, packet.gso_size = checksum, 1000
    assert [len(parsed(piece).data.data) for piece in wire_packets(packet)] == [1000, 1000, 1000]


def with_extension_header(v6_packet: bytes) -> bytes:
    hop_by_hop = bytes((6, 0, 1, 4, 0, 0, 0, 0))
    length = (len(v6_packet) - 40 + 8).to_bytes(2, "big")
    return v6_packet[:4] + length + b"\0" + v6_packet[7:40] + hop_by_hop + v6_packet[40:]


def test_extension_header_stays_in_front_of_each_piece() -> None:
    octets = with_extension_header(encode(a_segment(text=b"abcdef", v6=True)).data())
    pieces = wire_packets(Packet((octets,), CHECKSUM_PARTIAL, 4))
    segments = [decode(piece) for piece in pieces]
    assert [segment.text() for segment in segments if isinstance(segment, Segment)] == [b"abcd", b"ef"]
    assert all(piece.data()[40:48] == octets[40:48] for piece in pieces)
    assert tcp_start(octets) == 48


def test_options_of_the_ipv4_header_stay_in_each_piece() -> None:
    plain = bytearray(encode(a_segment(text=b"abcdef")).data())
    options = bytes((148, 4, 0, 0))  # Router Alert, RFC 2113
    octets = bytearray(b"\x46" + plain[1:2] + (len(plain) + 4).to_bytes(2, "big") + plain[4:20] + options + plain[20:])
    renew_checksums(octets, 24)
    pieces = wire_packets(Packet((bytes(octets),), CHECKSUM_PARTIAL, 4))
    assert [parsed(piece).data.data for piece in pieces] == [b"abcd", b"ef"]
    assert all(piece.data()[20:24] == options for piece in pieces)


def test_octets_behind_the_ip_length_belong_to_no_piece_and_to_no_checksum() -> None:
    segment = a_segment(text=b"abcdef")
    octets = encode(segment, True).data() + b"padding"
    pieces = wire_packets(Packet((octets,), CHECKSUM_PARTIAL, 4))
    assert [parsed(piece).data.data for piece in pieces] == [b"abcd", b"ef"]
    assert completed(Packet((octets,), CHECKSUM_PARTIAL)).data() == encode(segment).data() + b"padding"


def no_packets() -> dict[str, bytes]:
    whole = encode(a_segment(text=b"text")).data()
    whole_v6 = encode(a_segment(text=b"text", v6=True)).data()
    return {
        "empty": b"",
        "one octet": b"\x45",
        "noise": b"\xff" * 60,
        "zeros": bytes(100),
        "cut short": whole[:-1],
        "cut short, IPv6": whole_v6[:-1],
        "no header length": b"\x41" + whole[1:],
        "fragment": whole[:6] + b"\x20\0" + whole[8:],
        "wrong header checksum": whole[:10] + b"\0\0" + whole[12:],
        "no room for a TCP header": bytes.fromhex("4500 0022 0000 0000 4006 66c0 0a090001 0a090002") + bytes(14),
        "a message": as_octets(an_echo()).data(),
        "an extension header that is no TCP": whole_v6[:6] + b"\x3b" + whole_v6[7:],
        "fragment, IPv6": whole_v6[:6] + b"\x2c" + whole_v6[7:],
    }


@pytest.mark.parametrize("gso_size", [0, 100])
@pytest.mark.parametrize("octets", no_packets().values(), ids=no_packets())
def test_what_is_no_whole_tcp_packet_stays_as_it_is(octets: bytes, gso_size: int) -> None:
    packet = Packet((octets,), CHECKSUM_PARTIAL, gso_size)
    assert wire_packets(packet) == (packet,)
    assert completed(packet) is packet


@pytest.mark.parametrize("words", [4, 15])
def test_superpacket_with_a_bent_data_offset_stays_as_it_is(words: int) -> None:
    octets = bytearray(encode(a_segment(text=b"text")).data())
    octets[32] = words << 4
    packet = Packet((bytes(octets),), CHECKSUM_PARTIAL, 2)
    assert wire_packets(packet) == (packet,)


def test_superpacket_of_datagrams_stays_as_it_is() -> None:
    packet = Packet((datagram(b"text", False),), CHECKSUM_PARTIAL, 2)
    assert wire_packets(packet) == (packet,)


@given(
    st.binary(max_size=120) | st.sampled_from([encode(a_segment(text=b"text", v6=v6)).data() for v6 in (False, True)]),
    st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)), max_size=3),
    st.integers(0, 3),
)
def test_nothing_raises_whatever_the_octets(octets: bytes, bent: list[tuple[int, int]], gso_size: int) -> None:
    bent_octets = bytearray(octets)
    for position, value in bent:
        bent_octets[position : position + 1] = bytes((value,))
    packet = Packet((bytes(bent_octets),), CHECKSUM_PARTIAL, gso_size)
    assert len(wire_packets(packet)) >= 1
    assert len(completed(packet)) == len(packet)
