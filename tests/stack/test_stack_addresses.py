"""Whose packets we take, and from whom: addresses of segments and of connect (RFC 9293 3.9.1.1, 3.9.2.3)."""

from __future__ import annotations

import errno
import itertools
from ipaddress import ip_address
from random import Random

import pytest

from tcpstack.core.segment import ACK, SYN, Segment
from tcpstack.stack.addresses import Addresses, packed_address
from tcpstack.stack.ports import FIRST, LAST
from tcpstack.stack.stack import Stack
from tests.network import START_NS, Network, is_syn, is_syn_ack
from tests.scripted import IRS, OURS, PEER, PEER_PORT, PORT, SECOND, Scripted

# ------------------------------------------------------------------ segments


@pytest.mark.rfc9293("MUST-63")
@pytest.mark.parametrize(
    "source",
    [
        "224.0.0.5", "255.255.255.255", "10.0.0.255", "0.0.0.0", "0.1.2.3", "127.0.0.1", "10.0.0.1",
        "ff02::1", "::", "::1", "fd00::1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("flags", [SYN, ACK, SYN | ACK, 0])
def test_segment_from_what_is_no_single_other_host_is_dropped_silently(source: str, flags: int) -> None:
    packed = ip_address(source).packed
    host = Scripted(version=4 if len(packed) == 4 else 6)
    host.listen()
    assert host.hear(host.segment(flags, IRS, src=packed)) == []
    assert host.stack.syn_records == 0
    assert sum(host.stack.counters.values()) == 1


@pytest.mark.rfc9293("MUST-57")
@pytest.mark.parametrize("target", ["224.0.0.1", "255.255.255.255", "10.0.0.255", "10.0.0.77", "ff02::1", "fd00::77"])
@pytest.mark.parametrize("flags", [SYN, ACK])
def test_segment_to_what_is_not_us_is_dropped_silently(target: str, flags: int) -> None:
    host = Scripted()
    host.listen()
    packed = ip_address(target).packed
    source = PEER[4 if len(packed) == 4 else 6]
    assert host.hear(Segment(source, PEER_PORT, packed, PORT, IRS, 0, flags, 100)) == []
    assert host.stack.syn_records == 0
    assert sum(host.stack.counters.values()) == 1


def test_land_attack_a_syn_from_ourselves_to_ourselves_is_dropped() -> None:
    host = Scripted()
    host.listen()
    for port in (PORT, PEER_PORT):
        assert host.hear(Segment(OURS[4], port, OURS[4], PORT, IRS, 0, SYN, 100)) == []
    assert (host.stack.syn_records, host.stack.deadline_ns) == (0, None)
    assert host.stack.counters["martian_source"] == 2


def test_segment_to_our_second_address_is_ours_and_answered_from_it() -> None:
    host = Scripted(version=6)
    host.listen()
    [syn_ack] = host.hear(host.segment(SYN, IRS))
    assert (syn_ack.src, syn_ack.dst) == (OURS[6], PEER[6])


@pytest.mark.parametrize("port", [0, 65535])
def test_segment_to_and_from_the_outermost_ports_is_handled(port: int) -> None:
    host = Scripted()
    host.port = port
    if port:
        host.listen(port)
    answers = host.hear(host.segment(SYN, IRS, sport=port))
    assert len(answers) == 1
    assert (answers[0].sport, answers[0].dport) == (port, port)


# ------------------------------------------------------------------ connect


def opener(*addresses: str) -> Stack:
    return Stack(addresses or ("10.0.0.1/24", "fd00::1/64"), random=Random(1))


@pytest.mark.rfc9293("MUST-46")
@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("224.0.0.1", errno.ENETUNREACH),
        ("255.255.255.255", errno.ENETUNREACH),
        ("10.0.0.255", errno.ENETUNREACH),
        ("127.255.255.255", errno.ENETUNREACH),
        ("ff02::1", errno.ENETUNREACH),
    ],
)
def test_connect_to_what_is_no_single_host_is_refused_at_once(target: str, number: int) -> None:
    stack = opener()
    with pytest.raises(OSError, match=target.replace(".", r"\.")) as caught:
        stack.connect(ip_address(target).packed, 80, START_NS)
    assert caught.value.errno == number
    assert (stack.connections, stack.deadline_ns) == ((), None)


def test_connect_to_a_family_we_have_no_address_of_is_unreachable() -> None:
    with pytest.raises(OSError, match="no IPv6 address") as caught:
        opener("10.0.0.1/24").connect(PEER[6], 80, START_NS)
    assert caught.value.errno == errno.ENETUNREACH
    with pytest.raises(OSError, match="no IPv4 address"):
        opener("fd00::1/64").connect(PEER[4], 80, START_NS)


@pytest.mark.parametrize("target", ["10.0.0.2", "fd00::2"])
def test_connect_takes_an_address_however_it_is_written(target: str) -> None:
    address = ip_address(target)
    own = "10.0.0.1" if address.version == 4 else "fd00::1"
    for remote, local in ((target, own), (address, ip_address(own)), (address.packed, ip_address(own).packed)):
        assert opener().connect(remote, 80, START_NS, local=local).flow[::2] == (ip_address(own).packed, address.packed)


@pytest.mark.parametrize("target", [None, 80, bytearray(4), ("10.0.0.2", 80), 10.5])
def test_connect_to_what_is_no_address_raises_type_error(target: object) -> None:
    with pytest.raises(TypeError, match="an address must be text such as"):
        opener().connect(target, 80, START_NS)  # type: ignore[arg-type]
    if target is not None:
        with pytest.raises(TypeError, match="an address must be text such as"):
            opener().connect(PEER[4], 80, START_NS, local=target)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["", "host", "10.0.0", "10.0.0.2:80", bytes(5), b"10.0.0.2"])
def test_connect_to_text_that_names_no_address_raises_value_error(target: str | bytes) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        opener().connect(target, 80, START_NS)


def test_connect_to_or_from_a_port_that_is_no_int_raises_type_error() -> None:
    with pytest.raises(TypeError, match="the remote port must be an int, not '80'"):
        opener().connect(PEER[4], "80", START_NS)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the local port must be an int, not None"):
        opener().connect(PEER[4], 80, START_NS, lport=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("port", [-1, 65536])
def test_connect_from_a_port_that_is_none_raises_value_error(port: int) -> None:
    with pytest.raises(ValueError, match="local port must be 0 to 65535"):
        opener().connect(PEER[4], 80, START_NS, lport=port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_connect_to_a_port_that_is_none_raises_value_error(port: int) -> None:
    with pytest.raises(ValueError, match="port must be 1 to 65535"):
        opener().connect(PEER[4], port, START_NS)


@pytest.mark.rfc9293("MUST-43")
def test_connect_from_an_address_that_is_not_ours_is_refused() -> None:
    for local in (bytes((10, 0, 0, 9)), OURS[6]):
        with pytest.raises(OSError, match="is not an address of this stack") as caught:
            opener().connect(PEER[4], 80, START_NS, local=local)
        assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.rfc9293("MUST-43", "MUST-44", "MUST-45")
def test_connect_speaks_from_the_address_asked_for_or_that_of_the_peers_subnet() -> None:
    stack = opener("10.0.0.1/24", "10.1.0.1/24", "fd00::1/64")
    subnet = bytes((10, 1, 0, 7))
    far = bytes((192, 0, 2, 1))
    assert stack.connect(subnet, 80, START_NS).flow[0] == bytes((10, 1, 0, 1))
    assert stack.connect(far, 80, START_NS).flow[0] == bytes((10, 0, 0, 1))
    assert stack.connect(subnet, 80, START_NS, local=bytes((10, 0, 0, 1))).flow[0] == bytes((10, 0, 0, 1))


def test_connect_the_same_connection_twice_is_refused_another_is_not() -> None:
    stack = opener()
    stack.connect(PEER[4], 80, START_NS, lport=4000)
    with pytest.raises(OSError, match="port 4000 already has a connection") as caught:
        stack.connect(PEER[4], 80, START_NS, lport=4000)
    assert caught.value.errno == errno.EADDRINUSE
    stack.connect(PEER[4], 81, START_NS, lport=4000)
    stack.connect(PEER[6], 80, START_NS, lport=4000)


def test_connect_chooses_ports_that_are_free_and_hard_to_guess() -> None:
    stack = opener()
    listened = {stack.listen(0).port for _ in range(50)}
    ports = [stack.connect(PEER[4], 80, START_NS).flow[1] for _ in range(500)]
    assert len(set(ports)) == 500
    assert not listened & set(ports)
    assert min(ports) >= FIRST
    assert max(ports) <= LAST
    steps = {b - a for a, b in itertools.pairwise(ports)}
    assert len(steps) > 400


def test_connect_no_port_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcpstack.stack.ports.LAST", FIRST + 9)
    stack = opener()
    for _ in range(10):
        stack.connect(PEER[4], 80, START_NS)
    with pytest.raises(OSError, match="no ephemeral port is free") as caught:
        stack.connect(PEER[4], 80, START_NS)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    stack.connect(PEER[4], 81, START_NS)


def test_stack_without_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        Stack(())


# ------------------------------------------------------------------ initial sequence numbers


@pytest.mark.rfc9293("MUST-8")
def test_isn_of_one_connection_advances_with_the_clock_4_us_a_step() -> None:
    stack = opener()
    flow = (OURS[4], 4000, PEER[4], 80)
    first = stack.isn.choose(flow, START_NS)
    for us in (4, 8, 4_000, 1_000_000):
        assert (stack.isn.choose(flow, START_NS + us * 1000) - first) % (1 << 32) == us // 4


@pytest.mark.rfc9293("MUST-9", "SHLD-1")
def test_isns_of_different_connections_and_hosts_have_nothing_in_common() -> None:
    def isns(seed: int) -> list[int]:
        stack = Stack(("10.0.0.1/24",), random=Random(seed))
        return [stack.isn.choose((OURS[4], 4000, PEER[4], port), START_NS) for port in range(1, 201)]

    one, two = isns(1), isns(2)
    assert len(set(one) | set(two)) == 400
    assert len({b - a for a, b in itertools.pairwise(one)}) == 199
    assert isns(1) == one
    assert max(one) - min(one) > 1 << 31


def test_connections_one_after_another_start_at_numbers_that_do_not_overlap() -> None:
    net = Network()
    net.listen(net.b, 80)
    numbers = []
    for _ in range(3):
        client = net.connect(net.a, net.b, 80, lport=4000)
        net.run(until=lambda client=client: client.connected)
        client.abort()
        net.run(for_ns=SECOND)
    numbers = [c.segment.seq for c in net.crossings if is_syn(c)]
    assert [(b - a) % (1 << 32) for a, b in itertools.pairwise(numbers)] == [255_000, 255_000]
    assert len({c.segment.seq for c in net.crossings if is_syn_ack(c)}) == 3


def test_ipv4_address_in_the_form_of_an_ipv6_one_is_the_ipv4_address_to_users_and_no_host_on_the_wire() -> None:
    assert packed_address("::ffff:10.0.0.1") == packed_address(bytes(10) + b"\xff\xff\x0a\0\0\1") == b"\x0a\0\0\1"
    own = Addresses(("10.0.0.1/24", "fd00::1/64"))
    for mapped in ("127.0.0.1", "10.0.0.1", "10.0.0.9"):
        source = bytes(10) + b"\xff\xff" + packed_address(mapped)
        assert own.refusal(packed_address("fd00::1"), source) == "martian_source"
