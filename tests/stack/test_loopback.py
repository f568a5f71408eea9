"""A stack that speaks to itself: on its own addresses, 127.0.0.0/8 and ::1, and never by its device."""

from __future__ import annotations

import errno
import itertools
from ipaddress import ip_address
from random import Random

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import SECOND_NS, Config
from tcpstack.core.connection import Connection
from tcpstack.core.events import Event, SegmentIn, SegmentOut, StateChange
from tcpstack.core.segment import ACK, RST, SYN, FourTuple, Segment
from tcpstack.stack.listener import Listener
from tcpstack.stack.loopback import BATCH_SEGMENTS
from tcpstack.stack.stack import Stack
from tcpstack.wire import icmp
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import FULL_OFFLOAD, Packet

T = 1_000 * SECOND_NS
PORT = 80


class Alone:
    """A stack whose device takes nothing: `sent` are the packets that left by it."""

    def __init__(self, *, mtu: int = 1500, config: Config | None = None) -> None:
        self.events: list[Event] = []
        self.sent: list[Packet] = []
        self.now_ns = T
        self.stack = Stack(
            ("10.0.0.1/24", "10.1.0.1/24", "fd00::1/64"), mtu=mtu, config=config, random=Random(1),
            tracer=self.events.append,
        )  # fmt: skip
        self.stack.send_packet = lambda packet, now_ns: self.sent.append(packet)

    def settle(self, seconds: float = 0.0) -> int:
        """Let all happen that is due now, and within so long; how many turns it took."""
        end_ns, turns = self.now_ns + round(seconds * SECOND_NS), 0
        while (due_ns := self.stack.deadline_ns) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.stack.on_timer(self.now_ns)
            turns += 1
            assert turns < 10_000, "it goes on for ever"
        self.now_ns = end_ns
        return turns

    def listen(self, address: str | None = None, port: int = PORT) -> Listener:
        return self.stack.listen(port, address=address)

    def connect(self, remote: str, port: int = PORT, local: str | None = None, lport: int = 0) -> Connection:
        connection = self.stack.connect(remote, port, self.now_ns, local=local, lport=lport)
        self.settle()
        return connection

    def pair(self, remote: str = "127.0.0.1") -> tuple[Connection, Connection]:
        listener = self.listen()
        client = self.connect(remote)
        server = listener.accept()
        assert server is not None
        return client, server

    def text(self, connection: Connection) -> bytes:
        """All that can be received, read until nothing more comes."""
        heard = bytearray()
        while chunks := self.stack.receive(connection, 1 << 30, self.now_ns):
            heard += b"".join(chunks)
            self.settle()
        return bytes(heard)

    @property
    def segments(self) -> list[Segment]:
        return [event.segment for event in self.events if isinstance(event, SegmentOut)]


@pytest.fixture
def host() -> Alone:
    return Alone()


def states(*connections: Connection) -> list[str]:
    return [st.STATE_NAMES[connection.state] for connection in connections]


def address(text: str) -> bytes:
    return ip_address(text).packed


# ------------------------------------------------------------------ where it leads, and from where


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("127.0.0.1", "127.0.0.1"), ("127.8.9.10", "127.0.0.1"), ("::1", "::1"), ("10.0.0.1", "10.0.0.1"),
        ("10.1.0.1", "10.1.0.1"), ("fd00::1", "fd00::1"),
    ],
)  # fmt: skip
def test_connection_to_ourselves_is_made_and_carries_text_both_ways(host: Alone, remote: str, source: str) -> None:
    client, server = host.pair(remote)
    assert client.flow[::2] == (address(source), address(remote))
    assert server.flow == (*client.flow[2:], *client.flow[:2])
    host.stack.send(client, b"question", host.now_ns)
    host.settle()
    host.stack.send(server, host.text(server) + b" answered", host.now_ns)
    host.settle()
    assert host.text(client) == b"question answered"
    assert states(client, server) == ["ESTABLISHED"] * 2
    assert host.sent == []


@pytest.mark.parametrize(("remote", "meant"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_unspecified_address_means_this_host(host: Alone, remote: str, meant: str) -> None:
    client, _ = host.pair(remote)
    assert client.flow[::2] == (address(meant), address(meant))


def test_loopback_of_a_family_that_the_stack_has_no_address_of_is_there() -> None:
    stack = Stack(("10.0.0.1/24",), random=Random(1))
    assert stack.connect("::1", PORT, T).flow[0] == address("::1")


def test_source_is_the_one_asked_for_where_it_is_here(host: Alone) -> None:
    host.listen()
    for local, remote in itertools.permutations(("127.0.0.1", "127.0.0.2", "10.0.0.1", "10.1.0.1"), 2):
        assert states(host.connect(remote, local=local)) == ["ESTABLISHED"]
    with pytest.raises(OSError, match=r"127\.0\.0\.1 reaches this stack alone, not 10\.0\.0\.2") as caught:
        host.connect("10.0.0.2", local="127.0.0.1")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="not an address of this stack for"):
        host.connect("127.0.0.1", local="::1")


# ------------------------------------------------------------------ who listens


@pytest.mark.parametrize(
    ("listening", "reached"),
    [
        (None, {"127.0.0.1", "127.0.0.2", "::1", "10.0.0.1", "fd00::1"}),
        ("0.0.0.0", {"127.0.0.1", "127.0.0.2", "10.0.0.1"}),
        ("::", {"::1", "fd00::1"}),
        ("127.0.0.1", {"127.0.0.1"}),
        ("127.0.0.2", {"127.0.0.2"}),
        ("::1", {"::1"}),
        ("10.0.0.1", {"10.0.0.1"}),
    ],
)
def test_listener_is_reached_at_the_addresses_it_listens_on_and_no_others(
    host: Alone, listening: str | None, reached: set[str]
) -> None:
    host.listen(listening)
    everywhere = ("127.0.0.1", "127.0.0.2", "::1", "10.0.0.1", "fd00::1")
    opened = {remote for remote in everywhere if states(host.connect(remote)) == ["ESTABLISHED"]}
    assert opened == reached


@pytest.mark.parametrize(
    ("first", "second"),
    [(None, "0.0.0.0"), ("0.0.0.0", None), ("0.0.0.0", "127.0.0.1"), ("10.0.0.1", "0.0.0.0"), ("::", "::1"),
     ("0.0.0.0", "0.0.0.0")],
)  # fmt: skip
def test_two_listeners_that_would_claim_the_same_are_refused(host: Alone, first: str | None, second: str) -> None:
    host.listen(first)
    with pytest.raises(OSError, match="listened on already"):
        host.listen(second)


@pytest.mark.parametrize(("first", "second"), [("0.0.0.0", "::"), ("127.0.0.1", "10.0.0.1"), ("::1", "0.0.0.0")])
def test_two_listeners_on_one_port_where_they_have_nothing_in_common(host: Alone, first: str, second: str) -> None:
    host.listen(first)
    host.listen(second).close(T)
    host.listen(second)


def test_listener_of_a_family_takes_its_records_along(host: Alone) -> None:
    listener = host.listen("0.0.0.0")
    client = host.stack.connect("127.0.0.1", PORT, T)
    host.stack.on_timer(T)
    assert host.stack.syn_records == 1
    listener.close(T)
    assert host.stack.syn_records == 0
    host.settle()
    assert isinstance(client.error, ConnectionResetError)


def test_nobody_listens_is_refused_by_a_rst(host: Alone) -> None:
    client = host.connect("127.0.0.1", 81)
    assert isinstance(client.error, ConnectionRefusedError)
    assert [segment.flags for segment in host.segments] == [SYN, RST | ACK]
    assert host.stack.connections == ()
    assert host.sent == []


# ------------------------------------------------------------------ turns


def test_what_is_said_to_ourselves_comes_back_in_the_next_turn_not_in_this_one(host: Alone) -> None:
    host.listen()
    client = host.stack.connect("127.0.0.1", PORT, T)
    assert states(client) == ["SYN-SENT"]
    for expected in ("SYN-SENT", "ESTABLISHED"):
        assert host.stack.deadline_ns == 0
        host.stack.on_timer(T)
        assert states(client) == [expected]
    host.stack.on_timer(T)
    assert host.stack.deadline_ns not in (0, T)
    [syn_in] = [event for event in host.events if isinstance(event, SegmentIn) and event.segment.flags == SYN]
    assert syn_in.time_ns == T


def test_turn_takes_a_batch_and_no_more(host: Alone) -> None:
    for _ in range(BATCH_SEGMENTS + 10):
        host.stack.connect("127.0.0.1", 81, T)
    host.stack.on_timer(T)
    refused = [segment for segment in host.segments if segment.flags & RST]
    assert len(refused) == BATCH_SEGMENTS
    assert host.stack.deadline_ns == 0
    host.settle()
    assert host.stack.connections == ()


def test_segments_are_as_long_as_the_loopback_takes_whatever_the_device(host: Alone) -> None:
    text = bytes(range(256)) * 4_000
    for remote, mss in (("127.0.0.1", 65_495), ("::1", 65_475)):
        client, server = host.pair(remote)
        host.stack.offload = FULL_OFFLOAD
        host.stack.send(client, text, host.now_ns)
        host.settle()
        assert host.text(server) == text
        syns = [each.options for each in host.segments if each.flags & SYN]
        assert {options.mss for options in syns if options is not None} == {mss}
        assert max(segment.payload_len for segment in host.segments) == mss - 12  # for the timestamps
        assert not any(segment.gso_size for segment in host.segments)
        host.events.clear()
        host.stack._listener(address(remote), PORT).close(host.now_ns)  # type: ignore[union-attr]


def test_small_receive_buffer_slows_nothing_down() -> None:
    host = Alone(config=Config(receive_buffer_bytes=4_096))
    client, server = host.pair()
    host.stack.send(client, bytes(40_000), host.now_ns)
    host.settle()
    assert len(host.text(server)) == 40_000
    assert host.now_ns == T


# ------------------------------------------------------------------ endings


def test_close_ends_in_one_time_wait_that_ends_by_itself(host: Alone) -> None:
    client, server = host.pair()
    host.stack.shutdown(client, T)
    host.settle()
    assert states(client, server) == ["FIN-WAIT-2", "CLOSE-WAIT"]
    host.stack.shutdown(server, T)
    host.settle()
    assert states(client, server) == ["TIME-WAIT", "CLOSED"]
    assert (host.stack.has_connections, host.stack.time_waits) == (False, 1)
    host.settle(60)
    assert (host.stack.time_waits, host.stack.deadline_ns) == (0, None)


@pytest.mark.parametrize("closes_first", ["client", "server"])
def test_name_in_time_wait_can_be_taken_by_a_new_connection_of_its_other_end(host: Alone, closes_first: str) -> None:
    listener = host.listen()
    client = host.connect("127.0.0.1", lport=4_000)
    server = listener.accept()
    assert server is not None
    ends = (client, server) if closes_first == "client" else (server, client)
    for end in ends:
        host.stack.shutdown(end, T)
        host.settle()
    host.settle(1)
    if closes_first == "client":
        with pytest.raises(OSError, match="port 4000 already has a connection"):
            host.connect("127.0.0.1", lport=4_000)
    else:
        assert states(host.connect("127.0.0.1", lport=4_000)) == ["ESTABLISHED"]
        assert host.stack.time_waits == 0


def test_abort_resets_the_other_end(host: Alone) -> None:
    client, server = host.pair()
    host.stack.abort(client, T)
    assert states(client, server) == ["CLOSED", "ESTABLISHED"]
    host.settle()
    assert isinstance(server.error, ConnectionResetError)
    assert not host.stack.has_connections


# ------------------------------------------------------------------ both ends open


def test_connection_with_itself_is_a_simultaneous_open_and_hears_what_it_says(host: Alone) -> None:
    alone = host.connect("10.0.0.1", 5_000, lport=5_000)
    moves = [event.after for event in host.events if isinstance(event, StateChange)]
    assert moves == [st.SYN_SENT, st.SYN_RECEIVED, st.ESTABLISHED]
    assert host.stack.connections == (alone,)
    host.stack.send(alone, b"hello me", T)
    host.settle()
    assert host.text(alone) == b"hello me"
    host.stack.shutdown(alone, T)
    host.settle()
    assert states(alone) == ["TIME-WAIT"]
    assert alone.eof_received
    assert (host.stack.connections, host.stack.time_waits) == ((), 1)


def test_connection_with_itself_comes_before_whoever_listens_there(host: Alone) -> None:
    listener = host.listen()
    alone = host.connect("127.0.0.1", PORT, lport=PORT)
    assert states(alone) == ["ESTABLISHED"]
    assert listener.accept() is None


def test_chosen_port_is_never_the_one_connected_to(host: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux such a connection is with itself, by chance, where nobody listens."""
    monkeypatch.setattr("tcpstack.stack.ports.FIRST", 40_000)
    monkeypatch.setattr("tcpstack.stack.ports.LAST", 40_001)
    for _ in range(20):
        assert isinstance(host.connect("127.0.0.1", 40_000).error, ConnectionRefusedError)


def test_two_ends_that_open_at_once_are_one_connection(host: Alone) -> None:
    one = host.stack.connect("127.0.0.1", 2_000, T, lport=1_000)
    other = host.stack.connect("127.0.0.1", 1_000, T, lport=2_000)
    host.settle()
    assert states(one, other) == ["ESTABLISHED"] * 2
    host.stack.send(one, b"crossed", T)
    host.settle()
    assert host.text(other) == b"crossed"


# ------------------------------------------------------------------ the device has no part in it


def hear(host: Alone, segment: Segment) -> None:
    host.stack.on_packets([encode(segment)], host.now_ns)
    host.settle()


def forged(flow: FourTuple, seq: int, ack: int, flags: int) -> Segment:
    """A segment for the connection of this name, with all the right numbers."""
    local, lport, remote, rport = flow
    return Segment(remote, rport, local, lport, seq, ack, flags, 65_535)


@pytest.mark.parametrize("remote", ["127.0.0.1", "10.0.0.1", "fd00::1", "::1"])
@pytest.mark.parametrize("flags", [RST, SYN, ACK])
def test_packet_of_the_device_does_not_get_into_a_connection_with_ourselves(
    host: Alone, remote: str, flags: int
) -> None:
    client, server = host.pair(remote)
    sent = len(host.segments)
    for end, other in ((client, server), (server, client)):
        hear(host, forged(end.flow, other._sender.nxt & 0xFFFFFFFF, other._receiver.nxt & 0xFFFFFFFF, flags))
    assert states(client, server) == ["ESTABLISHED"] * 2
    assert (len(host.segments), host.sent) == (sent, [])
    counter = "martian_source" if remote in ("10.0.0.1", "fd00::1") else "not_for_us"
    assert host.stack.counters == {counter: 2}


def test_packet_of_the_device_does_not_get_into_a_record_nor_a_time_wait_of_ours(host: Alone) -> None:
    host.listen()
    client = host.stack.connect("10.0.0.1", PORT, T)
    host.stack.on_timer(T)
    assert host.stack.syn_records == 1
    record = (*client.flow[2:], *client.flow[:2])
    host.stack.on_packets([encode(forged(record, (client._sender.iss + 1) & 0xFFFFFFFF, 0, RST))], T)
    assert (host.stack.syn_records, host.stack.counters["martian_source"]) == (1, 1)


def test_icmp_of_the_device_does_not_end_a_connection_to_ourselves(host: Alone) -> None:
    client = host.stack.connect("10.0.0.1", 81, T)
    [syn] = host.segments
    error = icmp.error(
        address("10.0.0.9"), address("10.0.0.1"), icmp.UNREACHABLE, icmp.CODE_PORT, encode(syn).data()
    )
    host.stack.on_packets([icmp.encode_icmp(error)], T)
    assert states(client) == ["SYN-SENT"]
    assert host.stack.counters == {"icmp_ignored": 1}


def test_each_segment_is_traced_once_at_each_end_with_its_number_and_reason(host: Alone) -> None:
    client, _ = host.pair()
    host.stack.send(client, b"text", T)
    host.settle(1)
    left = [event for event in host.events if isinstance(event, SegmentOut)]
    came = [event for event in host.events if isinstance(event, SegmentIn)]
    assert [event.segment.packet_id for event in left] == [event.segment.packet_id for event in came]
    assert len({event.segment.packet_id for event in left}) == len(left) > 3
    assert all(event.segment.reason for event in left)
    assert all(event.flow == (e.dst, e.dport, e.src, e.sport) for event in came for e in (event.segment,))


@pytest.mark.parametrize("sack", [True, False])
def test_process_that_stands_still_is_no_reason_for_a_timer_of_a_connection_to_ourselves(sack: bool) -> None:
    """Nothing but this process can be late: the answer is here already, or about to leave."""
    host = Alone(config=Config(sack=sack))
    client, server = host.pair()
    host.stack.set_user_timeout(client, SECOND_NS // 3, host.now_ns)
    for text in (b"one", b"two", bytes(200_000)):
        host.stack.send(client, text, host.now_ns)
        host.now_ns += SECOND_NS
        host.settle()
        assert host.text(server) == text
        host.now_ns += SECOND_NS
        host.settle()
    assert states(client, server) == ["ESTABLISHED"] * 2
    assert (client.retransmitted, client.status()["timeouts"]) == (0, 0)


def test_what_we_send_to_ourselves_can_take_its_time() -> None:
    host = Alone()
    host.stack.loopback_delay_ns = 10_000
    listener = host.listen()
    client = host.connect("127.0.0.1")
    assert client.state == st.SYN_SENT
    assert host.stack.deadline_ns == T + 10_000
    host.settle(seconds=0.00003)
    assert client.state == st.ESTABLISHED
    assert listener.accept() is not None
