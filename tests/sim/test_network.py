"""Simulated hosts, links and routers: rates, delays, queues, hop limits, ICMP; the same seed, the same trace."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from ipaddress import ip_address
from itertools import pairwise

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.events import FaultHit, SegmentIn, SegmentOut
from tcpstack.core.readiness import CONNECTED, EOF, READABLE, RESET
from tcpstack.core.segment import SYN
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network
from tcpstack.wire.codec import DPKT, FAST
from tcpstack.wire.objects import OBJECTS
from tcpstack.wire.packet import Packet
from tcpstack.wire.segmentation import renew_ip_checksum

CODECS = pytest.mark.parametrize("codec", [OBJECTS, DPKT, FAST], ids=["objects", "dpkt", "fast"])
FAMILIES = pytest.mark.parametrize("prefix", ["10.0.0.{}/24", "fd00::{}/64"], ids=["v4", "v6"])


def packed(host):
    return host.stack.addresses[0].ip.packed


class Transfer:
    """The client sends `data` and half-closes; the server reads all, and closes."""

    def __init__(self, network, client, server, data, port=80):
        self.network, self.client, self.server, self.data = network, client, server, data
        self.received = bytearray()
        self.error = None
        self.connected_ns = self.finished_ns = None
        listener = server.listen(port)

        def accept():
            while (connection := listener.accept()) is not None:
                connection.user = self
                self.on_server(connection, READABLE | EOF)

        listener.on_connection = accept
        server.notify = self.on_server
        client.notify = self.on_client
        self.connection = client.connect(packed(server), port)
        self.connection.user = self

    def on_client(self, connection, mask):
        if mask & CONNECTED:
            self.connected_ns = self.network.clock.now_ns
            self.client.send(connection, self.data)
            self.client.shutdown(connection)
        if mask & RESET:
            self.error = connection.error

    def on_server(self, connection, mask):
        for chunk in self.server.receive(connection, 1 << 30):
            self.received += chunk
        if connection.eof_received:
            self.finished_ns = self.finished_ns or self.network.clock.now_ns
            self.server.close(connection)


def joined(line, back=None, *, codec=OBJECTS, prefix="10.0.0.{}/24", routers=0, seed=1, mtu=1500, **options):
    network = Network(seed, codec=codec)
    a = network.host("a", prefix.format(1), **options)
    b = network.host("b", prefix.format(2))
    nodes = [a, *(network.router(f"r{index}") for index in range(routers)), b]
    for index, (near, far) in enumerate(pairwise(nodes)):
        network.link(near, far, line, back, mtu=mtu if index else 1500)
    return network, a, b


@CODECS
@FAMILIES
@pytest.mark.parametrize("routers", [0, 2])
def test_transfer_arrives_intact_and_leaves_nothing(codec, prefix, routers):
    network, a, b = joined(Line(10_000_000, 5 * MILLISECOND_NS), codec=codec, prefix=prefix, routers=routers)
    transfer = Transfer(network, a, b, bytes(range(256)) * 1000)
    network.run()
    assert transfer.received == transfer.data
    assert a.stack.connections == b.stack.connections == ()
    assert a.stack.deadline_ns is b.stack.deadline_ns is None


def test_round_trip_is_the_delay_of_both_directions():
    network, a, b = joined(Line(delay_ns=30 * MILLISECOND_NS), Line(delay_ns=12 * MILLISECOND_NS))
    begun = network.clock.now_ns
    transfer = Transfer(network, a, b, b"")
    network.run(seconds=1)
    assert transfer.connected_ns - begun == 42 * MILLISECOND_NS


def test_rate_limits_the_throughput():
    network, a, b = joined(Line(rate_bps=8_000_000))
    begun = network.clock.now_ns
    transfer = Transfer(network, a, b, bytes(1_000_000))
    network.run(seconds=60)
    seconds = (transfer.finished_ns - begun) / SECOND_NS
    assert 1.0 < seconds < 1.1  # a megabyte of text, and 40 octets of headers for each 1,460


def test_queue_in_packets_drops_its_tail_and_tells_the_sender_tracer():
    events = []
    network, a, b = joined(Line(1_000_000, queue_packets=5), tracer=events.append)
    transfer = Transfer(network, a, b, bytes(200_000))
    network.run(seconds=120)
    assert transfer.received == transfer.data
    lost = [event for event in events if isinstance(event, FaultHit)]
    assert len(lost) == network.links[0].counters["queue full"] > 0
    assert lost[0].rule == "link a to b: queue full"
    assert (lost[0].direction, lost[0].flow) == ("out", transfer.connection.flow)


def test_queue_in_octets_never_holds_more():
    network, a, b = joined(Line(1_000_000, queue_bytes=6_000))
    Transfer(network, a, b, bytes(100_000))
    most = 0
    while network.clock.next_ns is not None and network.clock.now_ns < 60 * SECOND_NS:
        network.clock.step()
        most = max(most, network.links[0].under_way)
    assert most <= 5  # four of 1,500 octets wait, one is being sent


@CODECS
@FAMILIES
def test_hop_limit_used_up_is_told_by_icmp_and_becomes_host_unreachable(codec, prefix):
    network = Network(codec=codec)
    a, b = network.host("a", prefix.format(1)), network.host("b", prefix.format(2))
    nodes = [a, *(network.router(f"r{index}") for index in range(64)), b]
    for near, far in pairwise(nodes):
        network.link(near, far)
    transfer = Transfer(network, a, b, b"")
    network.run(seconds=1)
    assert transfer.error is not None
    assert transfer.error.errno == errno.EHOSTUNREACH


@CODECS
@FAMILIES
def test_address_that_nobody_has_is_unreachable(codec, prefix):
    network = Network(codec=codec)
    a, router = network.host("a", prefix.format(1)), network.router("r")
    network.link(a, router)
    errors = []
    a.notify = lambda connection, mask: errors.append(connection.error)
    nobody = ip_address(prefix.format(99).split("/")[0]).packed
    a.connect(nobody, 80).user = "me"
    network.run(seconds=1)
    # RFC 792: host unreachable; RFC 4443: no route to destination.
    assert [error.errno for error in errors] == [errno.EHOSTUNREACH if len(nobody) == 4 else errno.ENETUNREACH]


@pytest.mark.parametrize("routers", [0, 1])
def test_damaged_ip_header_is_not_mended_on_the_way(routers):
    """Nobody is told: whose packet it was, its header does not say."""
    network = Network(seed=1, codec=DPKT)
    a = network.host("a", "10.0.0.1/24", faults=["corrupt 100% data dir=out"])
    b = network.host("b", "10.0.0.2/24")
    router = network.router("r")
    for left, right in pairwise([a, *([router] * routers), b]):
        network.link(left, right)
    Transfer(network, a, b, b"x")
    network.run(seconds=250)
    damaged = router.counters["damaged header"] if routers else b.stack.counters["ip_bad_checksum"]
    assert damaged > 0
    assert (b.stack.counters["ip_bad_checksum"], b.stack.counters["ip_fragment"]) == (0 if routers else damaged, 0)


@CODECS
@FAMILIES
def test_router_says_too_big_and_passes_smaller_packets(codec, prefix):
    network, a, b = joined(Line(), codec=codec, prefix=prefix, routers=1, mtu=1400)
    Transfer(network, a, b, bytes(5_000))
    network.run(seconds=0.1)
    # There is no path MTU discovery yet: the segments stay as they are, and are refused again and again.
    refused = network.links[0].ends[1].counters
    assert refused["too big"] > 0
    assert a.stack.counters["icmp_error"] + a.stack.counters["icmp_ignored"] == refused["too big"]


@pytest.mark.parametrize("ecn", [0, 2], ids=["not-ECT", "ECT(0)"])
def test_queue_marks_what_it_carries_of_senders_that_understand_it(ecn):
    network, a, b = joined(Line(1_000_000, queue_bytes=8_000, mark_bytes=1_000), codec=DPKT)
    seen = []
    leave, arrive = network.links[0].send, b.interface.deliver

    def send(source, packet):
        octets = bytearray(packet.data())
        octets[1] |= ecn
        renew_ip_checksum(octets)
        return leave(source, Packet((bytes(octets),), packet.checksum, id=packet.id))

    def deliver(packet, link):
        seen.append(packet.data()[1] & 3)
        arrive(packet, link)

    network.links[0].send, b.interface.deliver = send, deliver
    Transfer(network, a, b, bytes(200_000))
    network.run(seconds=10)
    assert network.links[0].counters["queue full"] > 0  # so it was above the mark
    assert network.links[0].counters["marked"] == seen.count(3)  # and what was dropped is not counted
    assert set(seen) == ({2, 3} if ecn else {0})


def test_faults_act_at_their_host_and_heal():
    events = []
    network, a, b = joined(Line(delay_ns=MILLISECOND_NS), faults=["drop syn nth=1"], tracer=events.append)
    transfer = Transfer(network, a, b, b"text")
    network.run(seconds=5)
    assert transfer.received == b"text"
    syns = [event for event in events if isinstance(event, SegmentOut) and event.segment.flags & SYN]
    assert syns[1].time_ns - syns[0].time_ns == Config().rto_initial_ns
    assert [event.rule for event in events if isinstance(event, FaultHit)] == ["drop syn nth=1"]
    a.heal()
    again = Transfer(network, a, b, b"more", port=81)
    network.run(seconds=0.5)
    assert again.received == b"more"


def test_host_has_one_link_and_addresses_have_one_host():
    network = Network()
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    network.link(a, b)
    with pytest.raises(ValueError, match="a has a link already: put a router between them"):
        network.link(a, network.router("r"))
    with pytest.raises(ValueError, match=r"10\.0\.0\.2 is the address of b already"):
        network.host("c", "10.0.0.2/24")


@pytest.mark.tcp(line={"delay": "1ms"})
def test_pulled_cable_ends_in_timeout(tcp_pair):
    tcp_pair.client.send(bytes(100_000_000))
    tcp_pair.run(seconds=0.01)
    tcp_pair.server.host.interface.close()
    tcp_pair.run(seconds=400)
    assert isinstance(tcp_pair.client.error, TimeoutError)


def trace_digest(seed, codec=OBJECTS):
    """A hash of all that could be seen of a run with faults, jitter and full queues."""
    seen = hashlib.sha256()

    def trace(event):
        seen.update(f"{event!r}{event.segment!r}".encode() if isinstance(event, SegmentIn | SegmentOut) else b"")
        if isinstance(event, SegmentIn | SegmentOut):
            seen.update(f"{event.time_ns} {event.segment.packet_id} {event.segment!r}".encode())

    line = Line(5_000_000, 10 * MILLISECOND_NS, 5 * MILLISECOND_NS, queue_bytes=20_000)
    network, a, b = joined(line, codec=codec, seed=seed, faults=["loss 3%", "reorder 3%"], tracer=trace)
    Transfer(network, a, b, bytes(200_000))
    network.run(seconds=100)
    return seen.hexdigest()


def test_same_seed_gives_the_same_trace_in_another_process():
    program = "from tests.sim.test_network import trace_digest as t; print(t(7))"
    there = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": salt, "PYTHONPATH": "."},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for salt in ("1", "2")
    ]  # fmt: skip
    assert there[0] == there[1] == trace_digest(7)


def test_other_seed_gives_another_trace():
    assert trace_digest(7) != trace_digest(8)


def test_links_that_carry_octets_and_objects_give_the_same_trace():
    assert trace_digest(7, OBJECTS) == trace_digest(7, DPKT) == trace_digest(7, FAST)


def test_answers_from_a_turn_cost_no_events_but_their_own():
    network = Network()
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    network.link(a, b, Line(delay_ns=MILLISECOND_NS))
    rounds = []

    def answer(connection, mask):
        host = b if connection is accepted else a
        if mask & READABLE:
            host.send(connection, b"".join(host.receive(connection, 100)))
            rounds.append(network.clock.now_ns)

    a.notify = b.notify = answer
    listener = b.listen(7)
    connection = a.connect(packed(b), 7)
    network.run_until(lambda: bool(listener.queue))
    accepted = listener.accept()
    connection.user = accepted.user = answer
    network.run(seconds=1)
    a.send(connection, b"ball")
    sent, happened = network.next_packet_id(), network.clock.happened
    network.run(seconds=0.1)
    segments, events = network.next_packet_id() - sent - 1, network.clock.happened - happened
    assert len(rounds) == 100
    assert segments == 100
    assert events <= 2 * 100 + 10, "each segment arrives, and is looked at; a timer now and then"


@CODECS
def test_host_reaches_itself_at_once_whatever_its_link_and_faults_do(codec):
    network = Network(seed=1, codec=codec)
    host = network.host("a", "10.0.0.1/24", "fd00::1/64", faults=["drop any"])
    other = network.host("b", "10.0.0.2/24")
    link = network.link(host, other, Line(delay_ns=20 * MILLISECOND_NS))
    began_ns = network.clock.now_ns
    listener = host.listen(80)
    listener.on_connection = lambda: host.send(listener.accept(), b"welcome")
    for remote in ("127.0.0.1", "::1", "10.0.0.1", "fd00::1"):
        connection = host.connect(ip_address(remote).packed, 80)
        assert network.run_until(lambda connection=connection: connection.readable_bytes > 0)
        assert host.receive(connection, 100) == [b"welcome"]
        host.abort(connection)
    assert network.run_until(lambda: not host.stack.connections)
    assert network.clock.now_ns - began_ns < MILLISECOND_NS
    assert (link.under_way, link.counters) == (0, {})


def test_loopback_of_one_host_is_not_anothers():
    network = Network(seed=1)
    a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
    network.link(a, b)
    a.listen(80, address=ip_address("127.0.0.1").packed)
    for remote in ("127.0.0.1", "10.0.0.1"):
        connection = b.connect(ip_address(remote).packed, 80)
        network.run_until(lambda connection=connection: connection.error is not None)
        assert isinstance(connection.error, ConnectionRefusedError)


@pytest.mark.parametrize("mtu", ["1500", 67, 1500.0])
def test_mtu_that_is_none_is_refused_by_hosts_and_links(mtu):
    network = Network()
    with pytest.raises(ValueError, match=f"not {mtu!r}$"):
        network.host("a", "10.0.0.1/24", mtu=mtu)
    with pytest.raises(ValueError, match=f"not {mtu!r}$"):
        network.link(network.host("a", "10.0.0.1/24"), network.router("r"), mtu=mtu)
