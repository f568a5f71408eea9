"""RFC 9293 3.9.1.9 and 3.9.2: Differentiated Services and Time to Live, in whatever leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpstack.core.config import Config
from tcpstack.core.segment import ACK, RST, SYN, Segment
from tcpstack.wire.checksum import checksum
from tcpstack.wire.codec import DPKT, FAST, Codec
from tcpstack.wire.objects import OBJECTS, ObjectPacket
from tcpstack.wire.packet import Packet
from tests.rfc9293.states import in_state
from tests.scripted import IRS, ISS, OURS, PEER, SECOND, Scripted

EXPEDITED = 0xB8  # DSCP 46, "expedited forwarding"
CONFIG = Config(hop_limit=33, traffic_class=EXPEDITED)
OTHER = Config(hop_limit=7, traffic_class=8)
both_codecs = pytest.mark.parametrize("codec", [DPKT, FAST, OBJECTS], ids=["dpkt", "fast", "objects"])
both_versions = pytest.mark.parametrize("version", [4, 6])


def ip_fields(packet: Packet) -> tuple[int, int]:
    """Hop limit and traffic class, out of the octets; an IPv4 header's checksum holds."""
    octets = packet.data()
    if octets[0] >> 4 == 4:
        assert checksum((octets[:20],)) == 0
        return octets[8], octets[1]
    return octets[7], (octets[0] << 8 | octets[1]) >> 4 & 0xFF


def listening_in(host: Scripted, codec: Codec = DPKT) -> list[tuple[int, int]]:
    """The IP fields of what leaves from now on."""
    seen: list[tuple[int, int]] = []
    host.stack._codec = codec
    host.stack.send_packet = lambda packet, now_ns: seen.append(ip_fields(packet))
    return seen


@pytest.mark.rfc9293("MUST-48", "SHLD-22", "MUST-49")
@both_codecs
@both_versions
def test_all_that_a_connection_sends_has_the_fields_of_its_config(codec: Codec, version: int) -> None:
    host = Scripted(config=OTHER, version=version)
    seen = listening_in(host, codec)
    connection = host.connect(config=CONFIG)
    host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
    host.stack.send(connection, b"text", host.now_ns)
    host.wait(SECOND)  # it goes again
    host.hear(host.segment(RST, IRS + 9, ISS + 1))  # earns a challenge
    host.stack.shutdown(connection, host.now_ns)
    host.stack.abort(connection, host.now_ns)
    assert len(seen) >= 7
    assert set(seen) == {(33, EXPEDITED)}


@pytest.mark.rfc9293("MUST-48", "SHLD-22", "MUST-49")
@both_codecs
@both_versions
def test_all_that_a_listener_sends_and_its_connections_have_the_fields_of_its_config(
    codec: Codec, version: int
) -> None:
    host = Scripted(config=OTHER, version=version)
    seen = listening_in(host, codec)
    listener = host.listen(config=CONFIG)
    host.hear(host.segment(ACK, IRS, 9))  # LISTEN: a RST
    host.hear(host.segment(SYN, IRS))
    host.hear(host.segment(SYN, IRS))  # SYN,ACK again
    host.hear(host.segment(ACK, IRS + 1, ISS + 77))  # SYN-RECEIVED: a RST
    host.wait(SECOND)  # SYN,ACK again
    host.hear(host.segment(ACK, IRS + 1, ISS + 1))
    connection = listener.accept()
    assert connection is not None
    host.stack.send(connection, b"text", host.now_ns)
    host.hear(host.segment(SYN, IRS, sport=9))
    listener.close(host.now_ns)  # a RST for the handshake that is not done
    assert len(seen) == 8
    assert set(seen) == {(33, EXPEDITED)}


@pytest.mark.rfc9293("MUST-48", "MUST-49")
@both_versions
def test_what_no_connection_sends_has_the_fields_of_the_stack_s_config(version: int) -> None:
    host = Scripted(config=CONFIG, version=version)
    seen = listening_in(host)
    host.hear(host.segment(SYN, IRS))
    assert seen == [(33, EXPEDITED)], "a RST: nobody listens"


@pytest.mark.rfc9293("MUST-48", "MUST-49")
def test_time_wait_answers_with_the_fields_of_the_stack_s_config() -> None:
    case = in_state("TIME-WAIT")
    seen = listening_in(case.host)
    case.host.stack.config = replace(case.host.stack.config, hop_limit=33)  # too late: the stack has begun
    case.hear(ACK, case.nxt - 5, text=b"12345")
    assert seen == [(64, 0)]


@pytest.mark.rfc9293("SHLD-21", "SHLD-22")
@both_codecs
@both_versions
def test_traffic_class_can_change_while_the_connection_lasts_for_what_leaves_then(codec: Codec, version: int) -> None:
    host = Scripted(config=CONFIG, version=version)
    connection = host.established()
    seen = listening_in(host, codec)
    host.stack.send(connection, b"text", host.now_ns)
    connection.traffic_class = 8
    host.wait(SECOND)  # what was sent with the other goes again with this
    host.stack.send(connection, b"more", host.now_ns)
    assert seen[0] == (33, EXPEDITED)
    assert len(seen) >= 3
    assert set(seen[1:]) == {(33, 8)}
    assert connection.traffic_class == 8


@pytest.mark.rfc9293("MUST-48")
@pytest.mark.parametrize("value", [-1, 1, 2, 3, 255, 256])
def test_traffic_class_that_is_none_or_speaks_for_ecn_is_refused_and_changes_nothing(value: int) -> None:
    connection = Scripted(config=CONFIG).established()
    with pytest.raises(ValueError, match="the two bits of ECN"):
        connection.traffic_class = value
    assert connection.ip_fields == (33, EXPEDITED)


@pytest.mark.rfc9293("MUST-49")
def test_hop_limit_can_change_while_the_connection_lasts_within_its_octet() -> None:
    host = Scripted(config=CONFIG)
    connection = host.established()
    seen = listening_in(host)
    connection.hop_limit = 255
    host.stack.send(connection, b"text", host.now_ns)
    assert seen == [(255, EXPEDITED)]
    for value in (0, 256):
        with pytest.raises(ValueError, match="hop_limit must be 1 to 255"):
            connection.hop_limit = value
    assert connection.hop_limit == 255


@pytest.mark.rfc9293("MUST-49")
def test_unless_configured_the_time_to_live_is_64() -> None:
    host = Scripted()
    seen = listening_in(host)
    host.connect()
    assert seen == [(64, 0)]


@pytest.mark.parametrize("version", [4, 6])
def test_packet_of_an_object_has_the_octets_of_the_same_fields(version: int) -> None:
    segment = Segment(OURS[version], 1, PEER[version], 2, 3, 4, ACK, 5)
    packet = OBJECTS.encode(segment, False, 33, EXPEDITED | 3)
    assert isinstance(packet, ObjectPacket)
    assert (packet.hop_limit, packet.traffic_class, packet.congestion) == (33, EXPEDITED | 3, 3)
    assert packet.data() == DPKT.encode(segment, False, 33, EXPEDITED | 3).data()
