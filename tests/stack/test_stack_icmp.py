"""ICMP: ping is answered; an error about a segment of ours means what Linux makes of it (RFC 9293 3.9.2.2)."""

from __future__ import annotations

import errno
from ipaddress import ip_address

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.events import SoftError
from tcpstack.core.readiness import CLOSED, RESET
from tcpstack.core.segment import ACK, SYN, Segment
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.icmp import IcmpMessage, encode_icmp
from tcpstack.wire.packet import Packet
from tests.scripted import IRS, ISS, OURS, PEER, SECOND, Scripted

ROUTER = {4: bytes((10, 0, 0, 254)), 6: bytes.fromhex("fd00" + "00" * 13 + "fe")}


def ping(src: bytes, dst: bytes, body: bytes = b"\0\1\0\2ping") -> Packet:
    return encode_icmp(IcmpMessage(src, dst, 8 if len(src) == 4 else 128, 0, body))


def error(version: int, type: int, code: int, about: Segment, rest: bytes = bytes(4)) -> Packet:
    quote = encode(about).data()
    quote = quote[: len(quote) - about.payload_len]
    return encode_icmp(IcmpMessage(ROUTER[version], OURS[version], type, code, rest + quote))


# ------------------------------------------------------------------ echo


@pytest.mark.parametrize("version", [4, 6])
def test_echo_request_is_answered_with_the_same_data(version: int) -> None:
    host = Scripted()
    host.hear_packets(ping(PEER[version], OURS[version], b"\0\7\0\1" + bytes(1000)))
    [reply] = host.pings
    assert (reply.src, reply.dst) == (OURS[version], PEER[version])
    assert (reply.type, reply.code) == ((0, 0) if version == 4 else (129, 0))
    assert reply.body == b"\0\7\0\1" + bytes(1000)


@pytest.mark.parametrize(
    "source",
    [
        "224.0.0.5", "255.255.255.255", "10.0.0.255", "0.0.0.0", "127.0.0.1", "10.0.0.1",
        "ff02::1", "::", "::1", "fd00::1",
    ],
)  # fmt: skip
def test_echo_request_from_what_is_no_single_other_host_is_dropped(source: str) -> None:
    """An answer would go to many, or in circles (RFC 1122 3.2.1.3)."""
    host = Scripted()
    packed = ip_address(source).packed
    host.hear_packets(ping(packed, OURS[4 if len(packed) == 4 else 6]))
    assert host.pings == []
    assert host.stack.counters["martian_source"] == 1


def test_echo_request_to_broadcast_multicast_or_another_host_is_not_answered() -> None:
    host = Scripted()
    for dst in (b"\xff" * 4, bytes((10, 0, 0, 255)), bytes((224, 0, 0, 1)), bytes((10, 0, 0, 77))):
        host.hear_packets(ping(PEER[4], dst))
    host.hear_packets(ping(PEER[6], bytes.fromhex("ff02" + "00" * 13 + "01")))
    assert host.pings == []
    assert host.stack.counters["not_for_us"] == 5


def test_echo_reply_and_other_messages_are_ignored_and_counted() -> None:
    host = Scripted()
    for type in (0, 5, 9, 13, 40):
        host.hear_packets(encode_icmp(IcmpMessage(PEER[4], OURS[4], type, 0, bytes(40))))
    for type in (129, 133, 135, 143):
        host.hear_packets(encode_icmp(IcmpMessage(PEER[6], OURS[6], type, 0, bytes(40))))
    assert (host.sent, host.pings) == ([], [])
    assert host.stack.counters["icmp_ignored"] == 9


# ------------------------------------------------------------------ SYN-SENT

V4_ERRORS = [
    (3, 0, errno.ENETUNREACH),
    (3, 1, errno.EHOSTUNREACH),
    (3, 2, errno.ENOPROTOOPT),
    (3, 3, errno.ECONNREFUSED),
    (3, 9, errno.ENETUNREACH),
    (3, 10, errno.EHOSTUNREACH),
    (3, 13, errno.EHOSTUNREACH),
    (11, 0, errno.EHOSTUNREACH),
    (12, 0, errno.EPROTO),
]
V6_ERRORS = [
    (1, 0, errno.ENETUNREACH),
    (1, 1, errno.EACCES),
    (1, 3, errno.EHOSTUNREACH),
    (1, 4, errno.ECONNREFUSED),
    (3, 0, errno.EHOSTUNREACH),
    (4, 1, errno.EPROTO),
]


@pytest.mark.rfc9293("MUST-54")
@pytest.mark.parametrize(
    ("version", "type", "code", "number"), [(4, *row) for row in V4_ERRORS] + [(6, *row) for row in V6_ERRORS]
)
def test_syn_sent_error_about_our_syn_ends_the_open_with_linuxs_errno(
    version: int, type: int, code: int, number: int
) -> None:
    host = Scripted(version=version)
    connection = host.connect()
    host.hear_packets(error(version, type, code, host.sent[0].segment))
    assert connection.state == st.CLOSED
    assert connection.error is not None
    assert connection.error.errno == number
    assert host.masks(connection) == RESET | CLOSED
    assert host.stack.connections == ()
    assert host.wait(1000 * SECOND) == []


@pytest.mark.rfc9293("MUST-55")
@pytest.mark.parametrize(
    ("version", "type", "code"), [(4, 4, 0), (4, 5, 1), (4, 3, 4), (4, 3, 99), (6, 2, 0), (6, 1, 99)]
)
def test_syn_sent_quench_redirect_too_big_and_the_unknown_end_nothing(version: int, type: int, code: int) -> None:
    host = Scripted(version=version)
    connection = host.connect()
    host.hear_packets(error(version, type, code, host.sent[0].segment, b"\0\0\5\0"))
    assert connection.state == st.SYN_SENT


@pytest.mark.parametrize("offset", [-1, 1, 1000, 1 << 31])
def test_syn_sent_error_that_quotes_a_number_not_in_flight_is_ignored(offset: int) -> None:
    """RFC 5927 4.1: whoever does not know the number has not seen the segment."""
    host = Scripted()
    connection = host.connect()
    forged = host.sent[0].segment
    forged.seq += offset
    host.hear_packets(error(4, 3, 3, forged))
    assert connection.state == st.SYN_SENT
    assert host.stack.counters["icmp_error"] == 1


def test_error_about_a_flow_we_do_not_have_is_ignored() -> None:
    host = Scripted()
    connection = host.connect()
    for change in ("sport", "dport"):
        other = host.sent[0].segment
        setattr(other, change, 9)
        host.hear_packets(error(4, 3, 3, other))
    assert connection.state == st.SYN_SENT
    assert host.stack.counters["icmp_ignored"] == 2


def test_listener_error_about_a_syn_ack_changes_nothing() -> None:
    host = Scripted()
    host.listen()
    host.hear(host.segment(SYN, IRS))
    host.hear_packets(error(4, 3, 1, host.sent[0].segment))
    assert host.stack.syn_records == 1


# ------------------------------------------------------------------ synchronized states


@pytest.mark.rfc9293("MUST-56")
@pytest.mark.parametrize(("type", "code"), [(3, 0), (3, 1), (3, 2), (3, 3), (11, 0), (12, 0)])
def test_established_errors_end_nothing(type: int, code: int) -> None:
    host = Scripted()
    connection = host.established()
    [sent] = host.send(connection, b"text")
    host.hear_packets(error(4, type, code, sent))
    assert connection.state == st.ESTABLISHED
    assert host.told == []
    host.hear(host.segment(ACK, IRS + 1, ISS + 5))
    assert connection.status()["unacknowledged_bytes"] == 0


@pytest.mark.rfc9293("MUST-47", "3.9.1.8-reports")
@pytest.mark.parametrize(
    ("version", "type", "code", "number"),
    [(4, 3, 1, errno.EHOSTUNREACH), (4, 3, 3, errno.ECONNREFUSED), (6, 1, 0, errno.ENETUNREACH)],
)
def test_established_error_is_told_the_tracer_when_it_arrives(version: int, type: int, code: int, number: int) -> None:
    host = Scripted(version=version)
    connection = host.established()
    [sent] = host.send(connection, b"text")
    host.events.clear()
    host.hear_packets(error(version, type, code, sent))
    [told] = host.events
    assert isinstance(told, SoftError)
    assert (told.time_ns, told.flow, told.error.errno) == (host.now_ns, connection.flow, number)
    assert connection.state == st.ESTABLISHED


def test_established_error_about_what_is_not_outstanding_is_not_told() -> None:
    host = Scripted()
    connection = host.established()
    [sent] = host.send(connection, b"text")
    host.hear(host.segment(ACK, IRS + 1, ISS + 5))
    host.events.clear()
    host.hear_packets(error(4, 3, 1, sent), error(4, 4, 0, sent))
    assert host.events == []


def test_syn_sent_error_that_ends_the_open_is_no_soft_one() -> None:
    host = Scripted()
    host.connect()
    host.hear_packets(error(4, 3, 1, host.sent[0].segment))
    assert not any(isinstance(event, SoftError) for event in host.events)


@pytest.mark.rfc9293("SHLD-25")
def test_established_timeout_after_an_error_tells_the_error() -> None:
    host = Scripted()
    connection = host.established(config=Config(r2_ns=10 * SECOND))
    [sent] = host.send(connection, b"text")
    host.hear_packets(error(4, 3, 1, sent))
    host.wait(10 * SECOND)
    assert connection.error is not None
    assert connection.error.errno == errno.EHOSTUNREACH


def test_established_error_before_the_path_worked_again_is_forgotten() -> None:
    host = Scripted()
    connection = host.established(config=Config(r2_ns=10 * SECOND))
    [sent] = host.send(connection, b"text")
    host.hear_packets(error(4, 3, 1, sent))
    host.hear(host.segment(ACK, IRS + 1, ISS + 5))
    host.send(connection, b"more")
    host.wait(10 * SECOND)
    assert isinstance(connection.error, TimeoutError)


def test_syn_received_active_error_is_not_fatal() -> None:
    host = Scripted()
    connection = host.connect()
    host.hear(host.segment(SYN, IRS))
    host.hear_packets(error(4, 3, 1, host.sent[-1].segment))
    assert connection.state == st.SYN_RECEIVED
