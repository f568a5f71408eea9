"""What rules do to octets: headers edited; marks; a router's answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core import segment as tcp
from tcpstack.core.segment import Options, Segment
from tcpstack.device.fault_octets import (
    too_big,
    with_a_flipped_bit,
    with_congestion_marked,
    with_fields,
    without_options,
)
from tcpstack.wire import icmp
from tcpstack.wire.dpkt_codec import Dropped, decode, encode
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.objects import ObjectPacket
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, Packet
from tcpstack.wire.segmentation import wire_packets
from tests.device.faulty_pair import OURS, OURS_V6, PEER, PEER_V6
from tests.device.faulty_wire import a_segment, an_echo, as_octets, parsed, with_ecn

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
    (packet,) = wire_packets(Packet((bytes(data),), CHECKSUM_PARTIAL))
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
