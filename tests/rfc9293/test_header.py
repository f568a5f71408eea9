"""RFC 9293 3.1 and 3.2: checksums, windows and options, on the wire."""

from __future__ import annotations

import itertools
import struct

import pytest

from tcpstack.core import state as st
from tcpstack.core.segment import ACK, FIN, PSH, RST, SYN, Options, Segment
from tcpstack.wire import dpkt_codec, fast_codec
from tcpstack.wire.dpkt_codec import decode_options, encode_options
from tcpstack.wire.dropped import Dropped
from tcpstack.wire.packet import Packet
from tests.network import MS, Network
from tests.rfc9293.states import in_state, is_ack
from tests.scripted import IRS, ISS, OURS, PEER, Scripted

CODECS = {"dpkt": dpkt_codec, "fast": fast_codec}


def summed(octets: bytes) -> int:
    """RFC 1071, word by word."""
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def tcp_of(packet: bytes) -> tuple[bytes, bytes]:
    """(pseudo-header, TCP header and text) of a packet without IP options."""
    if packet[0] >> 4 == 4:
        tcp = packet[20:]
        return packet[12:20] + struct.pack("!HH", 6, len(tcp)), tcp
    tcp = packet[40:]
    return packet[8:40] + struct.pack("!IHH", len(tcp), 0, 6), tcp


def a_segment(version: int, flags: int = ACK, text: bytes = b"", options: Options | None = None) -> Segment:
    return Segment(
        PEER[version], 4000, OURS[version], 80, IRS, ISS, flags, 1000, (text,) if text else (), len(text), options
    )


# ------------------------------------------------------------------ checksum


@pytest.mark.rfc9293("MUST-2")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("text", [b"", b"odd", b"even", bytes(1400)])
def test_each_segment_leaves_with_its_checksum(codec: str, version: int, text: bytes) -> None:
    for options in (None, Options(mss=1460)):
        pseudo, tcp = tcp_of(CODECS[codec].encode(a_segment(version, text=text, options=options)).data())
        assert summed(pseudo + tcp) == 0xFFFF


@pytest.mark.rfc9293("MUST-2")
@pytest.mark.parametrize("version", [4, 6])
def test_all_that_a_connection_sends_has_a_checksum(version: int) -> None:
    host = Scripted(version=version)
    packets: list[bytes] = []
    host.stack.send_packet = lambda packet, now_ns: packets.append(packet.data())
    connection = host.connect()
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    host.stack.send(connection, b"text", host.now_ns)
    host.stack.shutdown(connection, host.now_ns)
    host.stack.abort(connection, host.now_ns)
    assert len(packets) == 5
    assert {summed(b"".join(tcp_of(packet))) for packet in packets} == {0xFFFF}


@pytest.mark.rfc9293("MUST-3")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("text", [b"", b"text"])
def test_segment_with_a_flipped_bit_is_dropped(codec: str, version: int, text: bytes) -> None:
    good = dpkt_codec.encode(a_segment(version, text=text)).data()
    first = len(good) - len(tcp_of(good)[1])
    for place in range(first, len(good)):
        if place - first in (12, 13):  # data offset and flags: the length, too, would then be wrong
            continue
        bad = bytearray(good)
        bad[place] ^= 0x10
        assert CODECS[codec].decode(Packet((bytes(bad),))) == Dropped("tcp_bad_checksum")
    assert isinstance(CODECS[codec].decode(Packet((good,))), Segment)


@pytest.mark.rfc9293("MUST-3")
def test_established_text_with_a_wrong_checksum_is_neither_taken_nor_acknowledged() -> None:
    case = in_state("ESTABLISHED")
    bad = bytearray(dpkt_codec.encode(case.host.segment(ACK, case.nxt, case.una, text=b"text")).data())
    bad[-1] ^= 1
    assert case.host.hear_packets(Packet((bytes(bad),))) == []
    assert (case.told, case.live.readable_bytes) == (0, 0)
    assert case.host.stack.counters["tcp_bad_checksum"] == 1


@pytest.mark.rfc9293("MAY-4")
def test_retransmission_has_the_ip_identification_of_the_original() -> None:
    host = Scripted()
    packets: list[bytes] = []
    host.stack.send_packet = lambda packet, now_ns: packets.append(packet.data())
    host.connect()
    host.wait(10 * 1000 * MS)
    assert len(packets) == 4
    assert len({packet[4:6] for packet in packets}) == 1
    assert {packet[6:8] for packet in packets} == {b"\x40\x00"}  # Don't Fragment


IP_OPTIONS = {
    "no operations": bytes((1, 1, 1, 0)),
    "record route": bytes((7, 7, 4, 0, 0, 0, 0, 0)),
    "timestamp": bytes((68, 8, 5, 0, 0, 0, 0, 0)),
    "loose source route, completed": bytes((131, 7, 8, 192, 0, 2, 9, 0)),
    "unknown": bytes((30, 4, 9, 9)),
}


@pytest.mark.rfc9293("MUST-50")
@pytest.mark.parametrize("octets", IP_OPTIONS.values(), ids=IP_OPTIONS)
@pytest.mark.parametrize("codec", CODECS)
def test_ip_options_are_ignored_and_the_segment_is_taken(octets: bytes, codec: str) -> None:
    case = in_state("ESTABLISHED")
    packet = bytearray(dpkt_codec.encode(case.host.segment(ACK, case.nxt, case.una, text=b"text")).data())
    packet[20:20] = octets
    packet[0] = 0x45 + len(octets) // 4
    packet[2:4] = len(packet).to_bytes(2, "big")
    packet[10:12] = b"\0\0"
    packet[10:12] = (summed(bytes(packet[: 20 + len(octets)])) ^ 0xFFFF).to_bytes(2, "big")
    assert isinstance(CODECS[codec].decode(Packet((bytes(packet),))), Segment)
    case.host.hear_packets(Packet((bytes(packet),)))
    [answer] = case.host.wait(0)
    assert (answer.ack, answer.dst) == (case.nxt + 4, PEER[4])
    assert case.read() == b"text"


@pytest.mark.rfc9293("MUST-50")
def test_ipv6_destination_options_are_skipped() -> None:
    case = in_state("ESTABLISHED", version=6)
    packet = bytearray(dpkt_codec.encode(case.host.segment(ACK, case.nxt, case.una, text=b"text")).data())
    packet[40:40] = bytes((6, 0, 0x1E, 4, 9, 9, 9, 9))  # an option that may be skipped
    packet[6] = 60
    packet[4:6] = (len(packet) - 40).to_bytes(2, "big")
    case.host.hear_packets(Packet((bytes(packet),)))
    assert case.read() == b"text"


# ------------------------------------------------------------------ windows


@pytest.mark.rfc9293("MUST-1")
@pytest.mark.parametrize("field", [0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_window_of_0x8000_and_more_is_large_and_not_negative(field: int) -> None:
    host = Scripted()
    connection = host.established(wnd=field)
    sent = host.send(connection, bytes(500_000))
    for _ in range(6):  # slow start, until only the window holds it back
        sent = host.hear(host.segment(ACK, IRS + 1, sent[-1].seq + sent[-1].payload_len, wnd=field))
    status = connection.status()
    assert status["snd_wnd"] == field
    assert field - 536 < int(str(status["unacknowledged_bytes"])) <= field


@pytest.mark.rfc9293("REC-1")
def test_windows_beyond_16_bits_are_used_in_full() -> None:
    net = Network()
    client, server = net.pair()
    client.send(bytes(3_000_000))
    most = 0
    for _ in range(200):
        net.run(for_ns=5 * MS)
        most = max(most, int(str(client.connection.status()["unacknowledged_bytes"])))
    assert len(server.received) == 3_000_000
    assert most > 1 << 17
    assert int(str(client.connection.status()["snd_wnd"])) > 1 << 17


# ------------------------------------------------------------------ options


def with_options(segment: Segment, octets: bytes) -> Packet:
    """The IPv4 packet of the segment with these option octets, whatever they are."""
    segment.options = None
    packet = bytearray(dpkt_codec.encode(segment).data())
    packet[40:40] = octets
    packet[32] = (20 + len(octets)) // 4 << 4
    packet[2:4] = len(packet).to_bytes(2, "big")
    packet[10:12] = packet[36:38] = b"\0\0"
    packet[10:12] = (summed(bytes(packet[:20])) ^ 0xFFFF).to_bytes(2, "big")
    packet[36:38] = (summed(b"".join(tcp_of(bytes(packet)))) ^ 0xFFFF).to_bytes(2, "big")
    return Packet((bytes(packet),))


ODD_OPTIONS = {
    "unknown": bytes((254, 6, 1, 2, 3, 4, 1, 0)),
    "mss": bytes((2, 4, 0, 100)),
    "no operations": b"\1\1\1\1",
    "end of list": b"\0\0\0\0",
    "illegal length": bytes((3, 0, 9, 9)),
    "beyond the header": bytes((254, 40, 9, 9)),
}


@pytest.mark.rfc9293("MUST-5", "MUST-6", "MUST-7")
@pytest.mark.parametrize("octets", ODD_OPTIONS.values(), ids=ODD_OPTIONS)
def test_options_may_come_with_any_segment(octets: bytes) -> None:
    case = in_state("ESTABLISHED")
    host = case.host

    def hear(flags: int, seq: int, text: bytes = b"") -> list[Segment]:
        answers = host.hear_packets(with_options(host.segment(flags, seq, case.una, text=text, wnd=9999), octets))
        return answers + host.wait(0)

    assert is_ack(case, hear(ACK | PSH, case.nxt, b"text"), case.nxt + 4)
    assert case.read() == b"text"
    assert hear(ACK, case.nxt + 4) == []
    assert case.live.status()["snd_wnd"] == 9999
    assert is_ack(case, hear(FIN | ACK, case.nxt + 4), case.nxt + 5)
    assert case.state == st.CLOSE_WAIT
    hear(RST, case.nxt + 5)
    assert isinstance(case.live.error, ConnectionResetError)


@pytest.mark.rfc9293("MUST-5")
def test_options_of_a_text_segment_are_read_and_its_text_begins_behind_them() -> None:
    host = Scripted()
    packet = with_options(host.segment(ACK, IRS, ISS, text=b"text"), bytes((254, 4, 1, 2, 2, 4, 5, 180)))
    segment = dpkt_codec.decode(packet)
    assert isinstance(segment, Segment)
    assert segment.options == Options(mss=1460, unknown=(254,))
    assert segment.text() == b"text"
    assert fast_codec.decode(packet).options == segment.options  # type: ignore[union-attr]


@pytest.mark.rfc9293("MUST-4")
def test_the_three_mandatory_options_are_understood() -> None:
    assert decode_options(bytes((1, 1, 1, 1))) is None
    assert decode_options(bytes((0, 2, 4, 9))) is None
    assert decode_options(bytes((2, 4, 5, 180))) == Options(mss=1460)
    assert decode_options(bytes((1, 1, 2, 4, 5, 180, 0, 9))) == Options(mss=1460)


@pytest.mark.rfc9293("MUST-64")
@pytest.mark.parametrize("before", range(8))
def test_option_may_begin_at_any_octet(before: int) -> None:
    octets = b"\1" * before + bytes((2, 4, 5, 180))
    assert decode_options(octets + b"\0" * (-len(octets) % 4)) == Options(mss=1460)
    host = Scripted()
    host.listen()
    host.hear_packets(with_options(host.segment(SYN, IRS), octets + b"\0" * (-len(octets) % 4)))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    [connection] = host.stack.connections
    assert connection.status()["snd_mss"] == 1460


def all_options() -> list[Options]:
    """Each combination that fits into a header."""
    found = []
    for mss, wscale, permitted, stamps, blocks in itertools.product(
        (None, 0, 1460), (None, 0, 14), (False, True), (None, (0, 0), (1, 2)), range(5)
    ):
        options = Options(mss, wscale, permitted, stamps, tuple((n, n + 1) for n in range(blocks)))
        try:
            encode_options(options)
        except ValueError:  # more than 40 octets
            continue
        found.append(options)
    assert len(found) > 100
    return found


@pytest.mark.rfc9293("MUST-68")
def test_each_option_that_we_send_has_its_length() -> None:
    for options in all_options():
        octets, kinds, position = encode_options(options), [], 0
        while position < len(octets):
            kind = octets[position]
            if kind in (0, 1):
                position += 1
                continue
            kinds.append(kind)
            assert octets[position + 1] >= 2
            position += octets[position + 1]
        assert position == len(octets)
        offered = (
            (2, options.mss), (3, options.wscale), (4, options.sack_permitted or None), (8, options.timestamps),
            (5, options.sack or None),
        )  # fmt: skip
        assert sorted(kinds) == sorted(kind for kind, value in offered if value is not None)


@pytest.mark.rfc9293("MUST-69")
def test_behind_the_end_of_an_option_list_there_are_only_zeros() -> None:
    for options in all_options():
        octets = encode_options(options)
        assert len(octets) % 4 == 0
        position = 0
        while position < len(octets) and octets[position] != 0:
            position += 1 if octets[position] == 1 else octets[position + 1]
        assert octets[position:].strip(b"\0") == b""


@pytest.mark.rfc9293("MUST-65")
@pytest.mark.parametrize("version", [4, 6])
def test_no_segment_but_a_syn_has_an_mss_option(version: int) -> None:
    net = Network()
    client, server = net.pair(version=version)
    client.send(bytes(10_000))
    net.run(for_ns=1000 * MS)
    server.send(b"answer")
    client.shutdown()
    net.run(for_ns=1000 * MS)
    server.abort()
    net.run(for_ns=1000 * MS)
    net.connect(net.a, net.b, 9, version=version)  # refused
    net.run(for_ns=1000 * MS)
    assert any(c.segment.flags & RST for c in net.crossings)
    for crossing in net.crossings:
        options = crossing.segment.options
        has_mss = options is not None and options.mss is not None
        assert has_mss is bool(crossing.segment.flags & SYN), crossing


@pytest.mark.rfc9293("MUST-16")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mtu", [576, 1500])
def test_options_take_their_room_from_the_text(version: int, mtu: int) -> None:
    net = Network(mtu=mtu, seed=mtu)
    client, server = net.pair(version=version)
    net.drop(net.chance(0.03))  # so that either end has something to report beside its text
    data = bytes(n % 251 for n in range(150_000))
    client.send(data)
    server.send(data)
    assert net.run(until=lambda: len(client.received) == len(server.received) == len(data), for_ns=600_000 * MS)
    sizes = [len(dpkt_codec.encode(crossing.segment).data()) for crossing in net.crossings]
    assert max(sizes) == mtu
