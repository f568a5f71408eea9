"""What rules do to octets: superpackets divided, held against dpkt; headers edited; marks; a router's answer."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core import segment as tcp
from tcpstack.core.segment import Options, Segment
from tcpstack.device.fault_octets import (
    as_on_the_wire,
    too_big,
    with_a_flipped_bit,
    with_congestion_marked,
    with_fields,
    without_options,
)
from tcpstack.wire import icmp
from tcpstack.wire.checksum import ones_complement_sum, pseudo_header
from tcpstack.wire.dpkt_codec import Dropped, decode, encode
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.objects import ObjectPacket
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, Packet
from tests.device.faulty_pair import OURS, OURS_V6, PEER, PEER_V6
from tests.device.faulty_wire import SYN_OPTIONS, a_segment, an_echo, as_octets, with_ecn

EVERY_FLAG = tcp.ACK | tcp.PSH | tcp.FIN | tcp.CWR | tcp.ECE


def partial(segment: Segment, gso_size: int = 0, ident: int = 0) -> Packet:
    """The segment's packet as a kernel gives it to a card: the checksum field holds the pseudo-header's sum only."""
    octets = bytearray(encode(segment, ident=ident).data())
    start = 20 if len(segment.src) == 4 else 40
    summed = ones_complement_sum((pseudo_header(segment.src, segment.dst, len(octets) - start),))
    octets[start + 16 : start + 18] = summed.to_bytes(2, "big")
    return Packet((bytes(octets),), CHECKSUM_PARTIAL, gso_size, segment.packet_id)


def parsed(packet: Packet) -> dpkt.ip.IP | dpkt.ip6.IP6:
    """The packet as dpkt sees it, which also agrees with its lengths and checksums."""
    octets = packet.data()
    ip = dpkt.ip.IP(octets) if octets[0] >> 4 == 4 else dpkt.ip6.IP6(octets)
    again = dpkt.ip.IP(octets) if octets[0] >> 4 == 4 else dpkt.ip6.IP6(octets)
    again.sum = again.data.sum = 0  # dpkt computes on output what is zero
    assert bytes(again) == octets
    assert (ip.len if octets[0] >> 4 == 4 else ip.plen + 40) == len(octets)
    return ip


# --- dividing ---------------------------------------------------------------------------------------------


@given(
    st.binary(min_size=1, max_size=9000),
    st.integers(1, 3000),
    st.booleans(),
    st.sampled_from([None, Options(timestamps=(5, 6)), Options(sack=((1, 2),))]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 65535),
)
def test_superpacket_becomes_segments_that_dpkt_agrees_with(
    text: bytes, gso_size: int, v6: bool, options: Options | None, seq: int, ident: int
) -> None:
    segment = a_segment(EVERY_FLAG, text, options=options, seq=seq, v6=v6, packet_id=77)
    pieces = as_on_the_wire(partial(segment, gso_size, ident))
    ips = [parsed(piece) for piece in pieces]
    tcps = [ip.data for ip in ips]
    assert b"".join(each.data for each in tcps) == text
    assert [len(each.data) for each in tcps[:-1]] == [gso_size] * (len(tcps) - 1)
    assert 1 <= len(tcps[-1].data) <= gso_size
    assert [each.seq for each in tcps] == [(seq + n * gso_size) % 2**32 for n in range(len(tcps))]
    assert [bool(each.flags & tcp.FIN) for each in tcps] == [bool(each.flags & tcp.PSH) for each in tcps]
    assert [bool(each.flags & tcp.FIN) for each in tcps] == [False] * (len(tcps) - 1) + [True]
    assert [bool(each.flags & tcp.CWR) for each in tcps] == [True] + [False] * (len(tcps) - 1)
    assert all(each.flags & tcp.ACK and each.flags & tcp.ECE for each in tcps)
    assert {(each.ack, each.win, each.opts) for each in tcps} == {(7, 5000, tcps[0].opts)}
    if not v6:
        assert [ip.id for ip in ips] == [(ident + n) % 2**16 for n in range(len(ips))]
        assert all(ip.df for ip in ips)
    assert {(piece.id, piece.gso_size, piece.checksum) for piece in pieces} == {(77, 0, CHECKSUM_UNVERIFIED)}
    first = decode(pieces[0])
    assert isinstance(first, Segment)
    assert first.options == options


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("text", [b"", b"odd", b"x" * 1460])
def test_partial_checksum_is_completed_to_what_the_codec_would_have_made(v6: bool, text: bytes) -> None:
    segment = a_segment(tcp.ACK | tcp.FIN, text, v6=v6, options=SYN_OPTIONS)
    packet = partial(segment)
    assert packet.data() != encode(segment).data()
    (completed,) = as_on_the_wire(packet)
    assert completed.data() == encode(segment).data()
    assert completed.checksum == CHECKSUM_UNVERIFIED


@pytest.mark.parametrize("checksum", [CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED])
def test_packet_without_offload_stays_the_very_same(checksum: int) -> None:
    packet = encode(a_segment(text=b"text"))
    packet.checksum = checksum
    (same,) = as_on_the_wire(packet)
    assert same is packet
    carried = ObjectPacket(a_segment())
    assert as_on_the_wire(carried) == (carried,)


def test_vouched_superpacket_gets_checksums_too() -> None:
    packet = encode(a_segment(text=bytes(3000)))
    packet.checksum, packet.gso_size = CHECKSUM_VERIFIED, 1000
    assert [len(parsed(piece).data.data) for piece in as_on_the_wire(packet)] == [1000, 1000, 1000]


def test_superpacket_of_chunks_keeps_what_the_chunks_held() -> None:
    segment = a_segment(text=b"abcdef")
    segment.payload = (b"ab", memoryview(b"xcdx")[1:3], b"ef")
    packet = encode(segment)
    packet.gso_size = 4
    assert [parsed(piece).data.data for piece in as_on_the_wire(packet)] == [b"abcd", b"ef"]


def test_extension_header_stays_in_front_of_each_piece() -> None:
    plain = encode(a_segment(text=b"abcdef", v6=True)).data()
    hop_by_hop = bytes((6, 0, 1, 4, 0, 0, 0, 0))
    octets = plain[:4] + (len(plain) - 40 + 8).to_bytes(2, "big") + b"\0" + plain[7:40] + hop_by_hop + plain[40:]
    pieces = as_on_the_wire(Packet((octets,), CHECKSUM_PARTIAL, 4))
    segments = [decode(piece) for piece in pieces]
    assert [segment.text() for segment in segments if isinstance(segment, Segment)] == [b"abcd", b"ef"]
    assert all(piece.data()[40:48] == hop_by_hop for piece in pieces)


@pytest.mark.parametrize("octets", [b"", b"\x45", b"\xff" * 60, bytes(100), encode(a_segment()).data()[:-1]])
def test_superpacket_that_is_no_segment_stays_as_it_is(octets: bytes) -> None:
    packet = Packet((octets,), CHECKSUM_PARTIAL, 100)
    assert as_on_the_wire(packet) == (packet,)


def test_octets_behind_the_ip_length_belong_to_no_piece() -> None:
    octets = encode(a_segment(text=b"abcdef")).data() + b"padding"
    pieces = as_on_the_wire(Packet((octets,), CHECKSUM_PARTIAL, 4))
    assert [parsed(piece).data.data for piece in pieces] == [b"abcd", b"ef"]


# --- editing ----------------------------------------------------------------------------------------------

OPTIONS = Options(mss=1460, wscale=7, sack_permitted=True, timestamps=(1, 2))
KINDS = {"mss": (2,), "wscale": (3,), "sack": (4, 5), "timestamps": (8,)}


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(
    ("option", "options", "left"),
    [
        ("mss", OPTIONS, Options(wscale=7, sack_permitted=True, timestamps=(1, 2))),
        ("wscale", OPTIONS, Options(mss=1460, sack_permitted=True, timestamps=(1, 2))),
        ("sack", OPTIONS, Options(mss=1460, wscale=7, timestamps=(1, 2))),
        ("timestamps", OPTIONS, Options(mss=1460, wscale=7, sack_permitted=True)),
        ("sack", Options(timestamps=(1, 2), sack=((5, 9), (20, 30))), Options(timestamps=(1, 2))),
        ("sack", Options(sack=((5, 9),)), None),
    ],
)
def test_option_is_stripped_and_everything_else_stays(
    v6: bool, option: str, options: Options, left: Options | None
) -> None:
    segment = a_segment(tcp.SYN | tcp.ACK, b"text", options=options, v6=v6, seq=99, packet_id=5)
    packet = encode(segment, hop_limit=17, ident=0x1234)
    before = packet.data()
    stripped = without_options(packet, KINDS[option])
    assert stripped is not None
    ip = parsed(stripped)
    assert (ip.ttl if not v6 else ip.hlim) == 17
    got = decode(stripped)
    assert isinstance(got, Segment)
    assert (got.options, got.text(), got.seq, got.flags, got.packet_id) == (
        left, b"text", 99, tcp.SYN | tcp.ACK, 5,
    )  # fmt: skip
    assert len(stripped) == len(packet)
    assert packet.data() == before
    assert without_options(stripped, KINDS[option]) is None


def test_option_that_is_absent_leaves_nothing_to_do() -> None:
    for options in (None, Options(mss=1460)):
        assert without_options(encode(a_segment(options=options)), KINDS["sack"]) is None


def raw_options(octets: bytes, text: bytes = b"") -> Packet:
    """A segment with just these option octets."""
    padded = octets + bytes(-len(octets) % 4)
    segment = a_segment(text=padded + text, options=None)
    data = bytearray(encode(segment).data())
    data[32] = (5 + len(padded) // 4) << 4
    (packet,) = as_on_the_wire(Packet((bytes(data),), CHECKSUM_PARTIAL))
    return packet


def test_unknown_options_survive_beside_a_stripped_one() -> None:
    packet = raw_options(bytes((34, 4, 1, 2, 1, 3, 3, 7, 253, 5, 1, 2, 3)), b"text")
    stripped = without_options(packet, KINDS["wscale"])
    assert stripped is not None
    got = decode(stripped)
    assert isinstance(got, Segment)
    assert (got.options, got.text()) == (Options(unknown=(34, 253)), b"text")


@given(st.binary(max_size=40), st.sampled_from(list(KINDS)))
def test_option_octets_of_any_kind_are_edited_without_a_hitch(octets: bytes, option: str) -> None:
    packet = raw_options(octets, b"text")
    for edited in (without_options(packet, KINDS[option]), with_fields(packet, 1, 2, 3)):
        if edited is not None:
            parsed(edited)
            got = decode(edited)
            assert isinstance(got, Segment)
            assert got.text() == b"text"


@pytest.mark.parametrize("v6", [False, True])
def test_fields_are_rewritten_and_everything_else_stays(v6: bool) -> None:
    segment = a_segment(tcp.SYN, b"text", options=OPTIONS, v6=v6, wnd=100, packet_id=5)
    edited = with_fields(encode(segment), 0, 536, 2)
    assert edited is not None
    parsed(edited)
    got = decode(edited)
    assert isinstance(got, Segment)
    expected = Options(mss=536, wscale=2, sack_permitted=True, timestamps=(1, 2))
    assert (got.wnd, got.options, got.text(), got.packet_id) == (0, expected, b"text", 5)
    assert with_fields(edited, 0, 536, 2) is None


def test_options_that_a_segment_lacks_are_not_given_to_it() -> None:
    assert with_fields(encode(a_segment(options=Options(timestamps=(1, 2)))), None, 536, 2) is None


@pytest.mark.parametrize("edit", [lambda p: without_options(p, (2,)), lambda p: with_fields(p, 0, 1, 1)])
def test_wrong_checksum_is_not_mended(edit: object) -> None:
    assert callable(edit)
    octets = bytearray(encode(a_segment(tcp.SYN, b"text", options=OPTIONS)).data())
    octets[-1] ^= 1
    assert edit(Packet((bytes(octets),))) is None
    assert edit(Packet((bytes(octets),), CHECKSUM_VERIFIED)) is not None


def test_shared_segment_object_is_never_changed() -> None:
    segment = a_segment(tcp.SYN, options=Options(mss=1460, wscale=7))
    carried = ObjectPacket(segment)
    before = encode(segment).data()
    flipped = with_a_flipped_bit(carried, lambda below: below - 1)
    for changed in (without_options(carried, (2,)), with_fields(carried, 1, 2, 3), flipped):
        assert changed is not None
        assert changed.data() != before
    assert carried.content is segment
    assert encode(segment).data() == before


@given(st.binary(max_size=80) | st.just(encode(a_segment()).data()), st.integers(0, 10**6))
def test_one_bit_of_any_octets_is_flipped_but_not_in_the_version(octets: bytes, drawn: int) -> None:
    after = with_a_flipped_bit(Packet((octets,), CHECKSUM_VERIFIED, id=3), lambda below: drawn % below)
    difference = int.from_bytes(octets, "big") ^ int.from_bytes(after.data(), "big")
    assert difference.bit_count() == min(len(octets), 1)
    assert difference < 1 << max(len(octets) * 8 - 4, 0)
    assert (after.checksum, after.id) == (CHECKSUM_UNVERIFIED, 3)


# --- marks and answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("bits", [1, 2])
def test_congestion_is_marked_on_what_is_ecn_capable(v6: bool, bits: int) -> None:
    segment = a_segment(text=b"text", v6=v6, packet_id=4)
    marked = with_congestion_marked(with_ecn(encode(segment), bits))
    assert marked is not None
    ip = parsed(marked)
    assert (ip.tos if not v6 else ip.fc) & 3 == 3
    assert marked.data() == with_ecn(encode(segment), 3).data()
    assert marked.id == 4
    carried = with_congestion_marked(ObjectPacket(segment, 9, bits))
    assert isinstance(carried, ObjectPacket)
    assert (carried.content, carried.hop_limit, carried.congestion, carried.id) == (segment, 9, 3, 4)


@pytest.mark.parametrize("bits", [0, 3])
def test_congestion_is_not_marked_on_what_is_not_capable_or_marked_already(bits: int) -> None:
    for v6 in (False, True):
        assert with_congestion_marked(with_ecn(encode(a_segment(v6=v6)), bits)) is None
    assert with_congestion_marked(ObjectPacket(a_segment(), 64, bits)) is None


@pytest.mark.parametrize("octets", [b"", b"\x45\x01", b"\xff" * 40])
def test_congestion_is_not_marked_on_garbage(octets: bytes) -> None:
    assert with_congestion_marked(Packet((octets,))) is None


@pytest.mark.parametrize(("v6", "src", "dst"), [(False, OURS, PEER), (True, OURS_V6, PEER_V6)])
def test_router_tells_the_sender_of_a_packet_that_is_too_big(v6: bool, src: bytes, dst: bytes) -> None:
    segment = a_segment(text=bytes(1400), seq=1234, v6=v6)
    for packet in (encode(segment), ObjectPacket(segment)):
        message = too_big(packet, 1280)
        assert message is not None
        assert (message.src, message.dst, message.mtu) == (dst, src, 1280)
        assert (message.type, message.code) == ((2, 0) if v6 else (3, 4))
        assert (message.quoted, message.quoted_seq) == ((src, 40000, dst, 80), 1234)
        assert decode(icmp.encode_icmp(message)).__class__ is IcmpMessage


def test_router_is_silent_about_icmp_errors_and_what_it_cannot_read() -> None:
    echo = as_octets(an_echo(length=1300))
    assert too_big(echo, 1280) is not None
    about = too_big(echo, 1280)
    assert about is not None
    assert too_big(icmp.encode_icmp(about), 68) is None
    assert too_big(Packet((b"\xff" * 1500,)), 1280) is None
    assert isinstance(decode(Packet((b"\xff" * 1500,))), Dropped)
