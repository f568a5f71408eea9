"""A script's packets as octets, and back: what is written is what is sent, in the order written."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.segment import ACK, PSH, SYN, Segment
from tcpstack.drill.flows import REMOTE_ISN, Flow, pattern
from tcpstack.drill.matching import compare, options_text
from tcpstack.drill.octets import decode_options, encode_options
from tcpstack.drill.script import Icmp, IpInfo, Option, Packet
from tcpstack.drill.settings import SettingError, Settings, settings
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.icmp import IcmpMessage
from tcpstack.wire.packet import Packet as WirePacket

V4 = (bytes((192, 168, 0, 1)), 8080, bytes((192, 0, 2, 1)), 40_001)
V6 = (bytes.fromhex("fd" + "00" * 14 + "01"), 8080, bytes.fromhex("fd" + "00" * 14 + "02"), 40_001)
MASK = 0xFFFF_FFFF
u32 = st.integers(0, MASK)

OPTIONS = st.one_of(
    st.just(Option("nop")),
    st.builds(Option, st.just("mss"), st.tuples(st.integers(0, 65535))),
    st.builds(Option, st.just("wscale"), st.tuples(st.integers(0, 255))),
    st.just(Option("sackOK")),
    st.builds(Option, st.just("TS"), st.tuples(u32, u32)),
    st.builds(Option, st.just("sack"), st.one_of(st.tuples(u32, u32), st.tuples(u32, u32, u32, u32))),
    st.builds(Option, st.sampled_from(["FO", "FOEXP", "md5"]), blob=st.binary(max_size=16)),
)


@given(st.lists(OPTIONS, max_size=8))
def test_options_come_back_in_the_order_in_which_they_were_written(options: list[Option]) -> None:
    assert decode_options(encode_options(options)) == tuple(options)


@given(st.binary(max_size=40))
def test_no_option_octets_raise(octets: bytes) -> None:
    options_text(decode_options(octets))


def segment_of(octets: bytes) -> Segment:
    item = decode(WirePacket((octets,)))
    assert isinstance(item, Segment), item
    return item


def packet(flags: int, seq: int, size: int = 0, ack: int | None = None, **more: object) -> Packet:
    return Packet(True, flags, seq, size, ack, 1000, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [V4, V6])
def test_an_injected_packet_is_sound_and_says_what_was_written(name: tuple[bytes, int, bytes, int]) -> None:
    flow = Flow(name)
    flow.octets_of(packet(SYN, 0))

    octets = flow.octets_of(packet(PSH | ACK, 1, 10, 0, ip=IpInfo(tos=3, tos_mask=3, ttl=9)))

    segment = segment_of(octets)
    assert (segment.src, segment.sport, segment.dst, segment.dport) == (*name[2:], *name[:2])
    assert segment.seq == (REMOTE_ISN + 1) & MASK
    assert segment.text() == pattern(0, 10)
    assert segment.wnd == 1000
    ip = dpkt.ip.IP(octets) if len(name[0]) == 4 else dpkt.ip6.IP6(octets)
    assert (ip.tos, ip.ttl) == (3, 9) if len(name[0]) == 4 else (ip.fc, ip.hlim) == (3, 9)


def test_the_numbers_of_a_syn_are_as_written_and_the_others_count_from_it() -> None:
    flow = Flow(V4)

    syn = segment_of(flow.octets_of(packet(SYN, 123)))
    text = segment_of(flow.octets_of(packet(ACK, 1, 5, 1)))

    assert syn.seq == REMOTE_ISN
    assert text.seq == (REMOTE_ISN + 1) & MASK
    later = segment_of(flow.octets_of(packet(SYN, 500)))
    assert later.seq == (REMOTE_ISN + 500 - 123) & MASK


def test_outgoing_numbers_count_from_the_isn_that_came() -> None:
    flow = Flow(V4)
    flow.octets_of(packet(SYN, 0))
    answer = Segment(*V4, 5000, (REMOTE_ISN + 1) & MASK, SYN | ACK, 65535)
    expected = Packet(False, SYN | ACK, 0, 0, 1)
    flow.learn(answer, expected)

    written = flow.written(answer, encode(answer).data())

    assert (written.seq, written.ack) == (0, 1)
    data = Segment(*V4, 5001, (REMOTE_ISN + 1) & MASK, ACK, 65535, (b"abc",), 3)
    written = flow.written(data, encode(data).data())
    assert (written.inbound, written.flags, written.seq, written.size) == (False, ACK, 1, 3)
    assert (written.ack, written.win) == (1, 65535)
    acknowledging = segment_of(flow.octets_of(packet(ACK, 1, 0, 4)))
    assert acknowledging.ack == 5004


def test_sack_edges_are_counted_like_what_they_are_about() -> None:
    flow = Flow(V4)
    flow.octets_of(packet(SYN, 0))
    answer = Segment(*V4, 5000, (REMOTE_ISN + 1) & MASK, SYN | ACK, 65535)
    flow.learn(answer, Packet(False, SYN | ACK, 0, 0, 1))

    octets = flow.octets_of(packet(ACK, 1, 0, 1, options=(Option("sack", (1001, 2001)), Option("nop"), Option("nop"))))

    options = segment_of(octets).options
    assert options is not None
    assert options.sack == ((6001, 7001),)


def test_timestamps_are_echoed_as_the_script_names_them() -> None:
    flow = Flow(V4)
    ts = (Option("nop"), Option("nop"), Option("TS", (900_000, 7)))
    sent = Segment(*V4, 5000, 0, SYN, 65535)
    octets = encode(sent).data()
    head = octets[:20] + octets[20:32] + bytes((8 << 4, SYN)) + octets[34:40] + encode_options(ts)
    expected = Packet(False, SYN, 0, 0, options=(Option("nop"), Option("nop"), Option("TS", (100, 0))))

    written = flow.written(sent, head, expected)
    echoed = segment_of(flow.octets_of(packet(ACK, 1, 0, 1, options=(*ts[:2], Option("TS", (5, 100))))))
    between = segment_of(flow.octets_of(packet(ACK, 1, 0, 1, options=(*ts[:2], Option("TS", (5, 110))))))

    assert written.options == (Option("nop"), Option("nop"), Option("TS", (100, 7)))
    assert echoed.options is not None
    assert echoed.options.timestamps == (5, 900_000)
    assert between.options is not None
    assert between.options.timestamps == (5, 900_010)


def test_timestamps_are_compared_where_the_script_says_how_they_tick() -> None:
    def packets(value: int) -> Packet:
        return Packet(False, ACK, 1, 0, 1, options=(Option("nop"), Option("nop"), Option("TS", (value, 3))))

    def agrees(chosen: Settings, value: int) -> bool:
        return all(field.agrees for field in compare(packets(100), packets(value), chosen) if field.name == "options")

    ticking = settings([("tcp_ts_tick_usecs", "1000"), ("tolerance_usecs", "4000")])
    assert agrees(Settings(), 999)
    assert agrees(ticking, 104)
    assert not agrees(ticking, 105)


@pytest.mark.parametrize("name", [V4, V6])
def test_an_icmp_error_quotes_a_segment_of_the_tested_side(name: tuple[bytes, int, bytes, int]) -> None:
    flow = Flow(name)
    answer = Segment(*name, 5000, 1, SYN | ACK, 65535)
    flow.learn(answer, Packet(False, SYN | ACK, 0, 0, 1))

    item = decode(WirePacket((flow.octets_of_icmp(Icmp(3 if name is V4 else 1, 1, 0, 1001, 1000)),)))

    assert isinstance(item, IcmpMessage)
    assert item.quoted == name
    assert item.quoted_seq == 6001
    too_big = Icmp(3, 4, 1200, 1, 100) if name is V4 else Icmp(2, 0, 1300, 1, 100)
    item = decode(WirePacket((flow.octets_of_icmp(too_big),)))
    assert isinstance(item, IcmpMessage)
    assert item.mtu == too_big.mtu


@given(st.integers(0, 1 << 20), st.integers(0, 400), st.integers(0, 400))
def test_the_pattern_is_one_stream(start: int, first: int, second: int) -> None:
    assert pattern(start, first + second) == pattern(start, first) + pattern(start + first, second)


def test_a_long_pattern_is_no_different() -> None:
    assert pattern(3, 300_000)[200_000:200_010] == pattern(200_003, 10)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("nosuch", "1"), "there is no option --nosuch; there are --bind_port"),
        (("tolerance_usecs", "x"), "--tolerance_usecs is a number from 0 to"),
        (("tolerance_percent", "101"), "--tolerance_percent is a number from 0 to 100"),
        (("mtu", "10"), "--mtu is a number from 68 to 65535"),
        (("ip_version", "ipv4-mapped-ipv6"), "--ip_version is ipv4 or ipv6"),
        (("local_ip", "fd00::1"), "no IPv4 address"),
        (("local_ip", "x"), "is no address"),
        (("remote_ip", "192.168.0.1"), "are both 192.168.0.1"),
        (("bind_port", "0"), "--bind_port is a number from 1 to 65535"),
    ],
)
def test_settings_that_cannot_be_are_told_of(option: tuple[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words.replace("(", r"\(")):
        settings([option])


def test_settings_of_ipv6_and_options_without_a_meaning_here() -> None:
    chosen = settings([("ip_version", "ipv6"), ("netmask_ip", "255.255.0.0"), ("remote_ip", "fd00::9/64")])

    assert chosen.version == 6
    assert str(chosen.remote) == "fd00::9"
