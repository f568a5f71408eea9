"""What the two SYNs' options come to: MSS (RFC 9293 3.7.1) and window scale (RFC 7323 2)."""

from __future__ import annotations

import pytest

from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.handshake import TIMESTAMPS_BYTES
from tcpstack.core.segment import ACK, RST, SYN, Options, Segment
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet
from tests.network import Network, is_data, is_pure_ack
from tests.scripted import IRS, ISS, SECOND, Scripted


def passive(host: Scripted, options: Options | None, wnd: int = 65535) -> tuple[Connection, Segment]:
    """The connection of a SYN with these options, and the SYN,ACK it got."""
    listener = host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=options))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=wnd))
    connection = listener.accept()
    assert connection is not None
    connection.user = host
    return connection, syn_ack


def largest_sent(host: Scripted, connection: Connection) -> int:
    return max(segment.payload_len for segment in host.send(connection, bytes(30_000)))


# ------------------------------------------------------------------ MSS


@pytest.mark.rfc9293("MUST-15", "MUST-16")
@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        (4, None, 536),
        (6, None, 1220),
        (4, Options(wscale=3), 536),
        (4, Options(mss=1000), 1000),
        (6, Options(mss=1000), 1000),
        (4, Options(mss=65535), 1460),
        (6, Options(mss=65535), 1440),
        (4, Options(mss=48), 48),
        (4, Options(mss=1), 48),
        (4, Options(mss=0), 48),
    ],
)
@pytest.mark.parametrize("opens", ["active", "passive"])
def test_established_segments_are_no_larger_than_the_peers_mss_and_our_link_allow(
    version: int, options: Options | None, expected: int, opens: str
) -> None:
    host = Scripted(version=version)
    connection = host.established(options=options) if opens == "active" else passive(host, options)[0]
    assert largest_sent(host, connection) == expected


@pytest.mark.rfc9293("MUST-67")
@pytest.mark.parametrize(
    ("mtu", "version", "expected"), [(1500, 4, 1460), (1500, 6, 1440), (9000, 4, 8960), (576, 4, 536)]
)
def test_syn_offers_the_mss_of_the_link(mtu: int, version: int, expected: int) -> None:
    host = Scripted(mtu=mtu, version=version)
    host.connect()
    options = host.sent[0].segment.options
    assert options is not None
    assert options.mss == expected


@pytest.mark.parametrize("mss", [48, 536, 1460])
def test_network_tiny_mss_transfer_arrives_in_segments_of_that_size(mss: int) -> None:
    net = Network()

    def smaller(segment: Segment) -> None:
        assert segment.options is not None
        segment.options.mss = mss

    net.edit(lambda c: bool(c.segment.flags & SYN), smaller)
    client, server = net.pair()
    data = bytes(range(256)) * 40
    client.send(data)
    server.send(data)
    assert net.run(until=lambda: bytes(server.received) == data == bytes(client.received), for_ns=20 * SECOND)
    assert max(c.segment.payload_len for c in net.crossings) == mss - TIMESTAMPS_BYTES


@pytest.mark.rfc9293("MUST-65")
def test_established_all_options_but_timestamps_go_with_syns_only() -> None:
    net = Network()
    client, server = net.pair()
    client.send(bytes(10_000))
    client.close()
    net.run()
    server.close()
    net.run()
    segments = [c.segment for c in net.crossings]
    assert [bool(s.options and s.options.mss) for s in segments] == [bool(s.flags & SYN) for s in segments]
    later = [s.options for s in segments if not s.flags & (SYN | RST)]
    assert later == [Options(timestamps=each.timestamps) for each in later if each is not None]


def test_established_mss_in_a_later_segment_changes_nothing() -> None:
    host = Scripted()
    connection = host.established(options=Options(mss=1000))
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, options=Options(mss=100)))
    assert largest_sent(host, connection) == 1000


# ------------------------------------------------------------------ window scale


def test_syn_sent_wscale_0_offered_scales_our_windows_and_not_the_peers() -> None:
    host = Scripted()
    connection = host.established(options=Options(mss=1460, wscale=0), wnd=1000)
    assert connection.status()["snd_wscale"] == 0
    assert connection.status()["snd_wnd"] == 1000
    assert connection.status()["rcv_wscale"] == 8
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=2000))
    assert connection.status()["snd_wnd"] == 2000
    [sent] = host.send(connection, b"x")
    assert sent.wnd == 256 * 1024 >> 8


def test_syn_sent_wscale_absent_scales_neither() -> None:
    host = Scripted()
    connection = host.established(options=Options(mss=1460), wnd=1000)
    assert connection.status()["snd_wscale"] == connection.status()["rcv_wscale"] == 0
    [sent] = host.send(connection, b"x")
    assert sent.wnd == 0xFFFF


@pytest.mark.parametrize(("offered", "used"), [(1, 1), (7, 7), (14, 14), (15, 14), (255, 14)])
def test_syn_sent_wscale_of_the_peer_is_used_up_to_14(offered: int, used: int) -> None:
    host = Scripted()
    connection = host.established(options=Options(wscale=offered), wnd=1000)
    assert connection.status()["snd_wnd"] == 1000  # a SYN's window is never scaled
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=1000))
    assert connection.status()["snd_wnd"] == 1000 << used


def test_syn_received_active_window_of_the_syn_ack_is_not_scaled_either() -> None:
    host = Scripted()
    connection = host.connect()
    options = Options(mss=1460, wscale=7)
    host.hear(host.segment(SYN, IRS, wnd=900, options=options))
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1, wnd=1000, options=options))
    assert connection.status()["snd_wnd"] == 1000
    host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=1000))
    assert connection.status()["snd_wnd"] == 1000 << 7


def test_listen_wscale_offered_is_offered_back_and_holds_from_the_ack_on() -> None:
    host = Scripted()
    connection, syn_ack = passive(host, Options(mss=1460, wscale=2), wnd=1000)
    assert syn_ack.options == Options(mss=1460, wscale=8)
    assert syn_ack.wnd == 0xFFFF
    assert connection.status()["snd_wnd"] == 4000


@pytest.mark.parametrize("shift", [None, 0, 2])
def test_syn_received_passive_window_of_an_ack_is_scaled_as_the_syn_acks_is_not(shift: int | None) -> None:
    """Unscaled, the field of the SYN,ACK would claim 256 times the window."""
    host = Scripted()
    host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS, options=Options(wscale=shift)))
    [challenge] = host.hear(host.segment(ACK, IRS - 9, ISS + 1))
    assert (challenge.flags, syn_ack.wnd) == (ACK, 0xFFFF)
    assert challenge.wnd == (0xFFFF if shift is None else 0x100)


def test_listen_wscale_not_offered_is_not_offered_back() -> None:
    host = Scripted()
    connection, syn_ack = passive(host, Options(mss=1460), wnd=1000)
    assert syn_ack.options == Options(mss=1460)
    assert connection.status()["snd_wnd"] == 1000
    [sent] = host.send(connection, b"x")
    assert sent.wnd == 0xFFFF


def test_listen_scaling_switched_off_is_not_offered_back() -> None:
    host = Scripted(config=Config(window_scaling=False))
    connection, syn_ack = passive(host, Options(mss=1460, wscale=2), wnd=1000)
    assert syn_ack.options == Options(mss=1460)
    assert connection.status()["snd_wnd"] == 1000


def test_syn_sent_scaling_switched_off_is_not_offered() -> None:
    host = Scripted(config=Config(window_scaling=False, timestamps=False))
    connection = host.connect()
    assert host.sent[0].segment.options == Options(mss=1460, sack_permitted=True)
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1, options=Options(wscale=5)))
    assert connection.status()["snd_wscale"] == connection.status()["rcv_wscale"] == 0


@pytest.mark.parametrize("buffer_bytes", [1, 1000, 65535, 65536, 1 << 20, 1 << 30])
def test_syn_window_field_never_claims_more_than_the_buffer(buffer_bytes: int) -> None:
    host = Scripted(config=Config(receive_buffer_bytes=buffer_bytes))
    host.connect()
    syn = host.sent[0].segment
    assert syn.wnd == min(buffer_bytes, 0xFFFF)
    assert syn.options is not None
    assert syn.options.wscale is not None
    assert 0xFFFF << syn.options.wscale >= buffer_bytes or syn.options.wscale == 14


# ------------------------------------------------------------------ what is unknown or broken


@pytest.mark.rfc9293("MUST-4", "MUST-5", "MUST-6", "MUST-7")
@pytest.mark.parametrize(
    ("octets", "mss"),
    [
        (bytes((254, 4, 1, 2)) + bytes((2, 4, 4, 0)), 1024),  # unknown, then MSS
        (bytes((1, 1, 1, 1)) + bytes((2, 4, 4, 0)), 1024),  # NOPs
        (bytes((2, 4, 4, 0)) + bytes((0, 3, 200, 9)), 1024),  # after the end of the list nothing counts
        (bytes((2, 4, 4, 0)) + bytes((3, 0, 9, 9)), 1024),  # length 0
        (bytes((2, 4, 4, 0)) + bytes((3, 40, 9, 9)), 1024),  # beyond the header
        (bytes((2, 5, 4, 0)) + bytes((1, 1, 1, 1)), 536),  # an MSS of the wrong length is none
    ],
)
def test_listen_odd_options_are_skipped_and_the_handshake_goes_on(octets: bytes, mss: int) -> None:
    host = Scripted()
    listener = host.listen()
    syn = host.segment(SYN, IRS, options=Options(mss=1, timestamps=(0, 0)))
    packet = bytearray(encode(syn).data())
    packet = packet[:40] + octets
    packet[32] = (20 + len(octets)) // 4 << 4
    packet[2:4] = len(packet).to_bytes(2, "big")
    packet[10:12] = packet[36:38] = b"\0\0"
    host.stack.on_packets([resummed(packet)], host.now_ns)
    assert host.sent[-1].segment.flags == SYN | ACK
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    connection = listener.accept()
    assert connection is not None
    assert connection.status()["snd_mss"] == mss


def resummed(packet: bytearray) -> Packet:
    """The IPv4 packet with its checksums made anew, octet by octet as RFC 1071 says."""

    def total(data: bytes) -> bytes:
        value = sum(data[i] << 8 | data[i + 1] for i in range(0, len(data), 2))
        while value >> 16:
            value = (value & 0xFFFF) + (value >> 16)
        return (value ^ 0xFFFF).to_bytes(2, "big")

    packet[10:12] = total(packet[:20])
    tcp = bytes(packet[20:])
    packet[36:38] = total(bytes(packet[12:20]) + bytes((0, 6)) + len(tcp).to_bytes(2, "big") + tcp)
    return Packet((bytes(packet),))


def test_two_hosts_of_ours_offer_and_use_scaling() -> None:
    net = Network()
    client, server = net.pair()
    assert client.connection.status()["snd_wscale"] == server.connection.status()["snd_wscale"] == 8
    client.send(bytes(1_000_000))
    net.run(until=lambda: len(server.received) == 1_000_000)
    assert max(c.segment.wnd << 8 for c in net.sent(net.b, is_pure_ack)) >= 256 * 1024
    assert not net.sent(net.b, is_data)
