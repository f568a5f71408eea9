"""What a network keeps where it is asked to: the ladder of its connections and the capture of its packets."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import shutil
import subprocess
from ipaddress import ip_address

import dpkt
import pytest

from tcpstack import Simulation
from tcpstack.core.config import MILLISECOND_NS
from tcpstack.core.connection import Connection
from tcpstack.core.events import Event, FaultHit
from tcpstack.core.segment import Segment
from tcpstack.core.state import ESTABLISHED
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network, SimHost
from tcpstack.wire import dpkt_codec
from tcpstack.wire.codec import DPKT
from tcpstack.wire.objects import OBJECTS
from tcpstack.wire.packet import Packet

TSHARK = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
DELAY = Line(delay_ns=20 * MILLISECOND_NS)


def star(*, offload: bool = False, **options) -> tuple[Network, SimHost, SimHost, SimHost]:
    """a, b and c around a router."""
    network = Network(7, **options)
    a = network.host("a", "10.0.0.1/24", faults=["drop syn nth=1"], offload=offload)
    faults = ["drop data dir=in nth=2", "duplicate 100% fin dir=out"]
    b = network.host("b", "10.0.1.1/24", faults=faults, offload=offload)
    c = network.host("c", "10.0.2.1/24", "fd00::1/64")
    router = network.router("r")
    for host in (a, b, c):
        network.link(host, router, DELAY)
    return network, a, b, c


def talk(network: Network, client: SimHost, server: SimHost, size: int = 5000) -> None:
    """A connection from client to server, `size` octets of text that way, and its end."""
    listener = server.listen(80)

    def read(connection: Connection, mask: int) -> None:
        server.receive(connection, 1 << 20)
        if connection.eof_received:
            server.close(connection)

    server.notify = read

    def accept() -> None:
        accepted = listener.accept()
        accepted.user = server  # so that the host is notified
        read(accepted, 0)

    listener.on_connection = accept
    connection = client.connect(server.stack.addresses[0].ip.packed, 80)
    assert network.run_until(lambda: connection.state is ESTABLISHED)
    client.send(connection, bytes(size))
    client.close(connection)
    network.run(seconds=30)
    listener.close(network.clock.now_ns)


def states(ladder: str) -> list[str]:
    """The states of the right-hand column that moved, in order."""
    return re.findall(r"[>─X] +([A-Z0-9-]+ → [A-Z0-9-]+)$", ladder, re.MULTILINE)


def titles(ladder: str) -> list[str]:
    return re.findall(r"^── (conversation .*?) ─", ladder, re.MULTILINE)


def test_ladder_has_the_hosts_names_and_the_states_of_both():
    network, a, b, _ = star(ladder=True)
    talk(network, a, b)
    ladder = network.ladder()
    assert titles(ladder) == ["conversation 1: a and b"]
    assert re.search(r"^ +ms  a 10\.0\.0\.1:\d+ +b 10\.0\.1\.1:80$", ladder, re.MULTILINE)
    assert states(ladder) == [
        "LISTEN → SYN-RECEIVED",
        "SYN-RECEIVED → ESTABLISHED",
        "ESTABLISHED → CLOSE-WAIT",
        "CLOSE-WAIT → LAST-ACK",
        "LAST-ACK → CLOSED",
    ]
    assert "~" not in ladder
    assert not ladder.endswith("\n")


def test_segment_that_dies_at_the_other_end_is_dead_where_it_was_sent():
    network, a, b, _ = star(ladder=True)
    talk(network, a, b)
    ladder = network.ladder()
    (dead,) = re.findall(r"─── (.*) ─X.*\n(?: {41}.*\n)*? {41}.*“drop data dir=in nth=2”", ladder)
    assert dead.startswith("ACK seq 1449 ack 1 len 1448")
    assert "is killed by the fault rule “drop data" not in ladder
    assert "FIN,ACK" in ladder.partition("is duplicated by the fault rule “duplicate 100%")[2]


def test_several_conversations_are_whole_and_chosen_by_their_hosts():
    network, a, b, c = star(ladder=True)
    talk(network, a, b)
    talk(network, b, c)
    network.run(seconds=60)
    talk(network, a, c)
    assert titles(network.ladder()) == [
        "conversation 1: a and b", "conversation 2: b and c", "conversation 3: a and c",
    ]  # fmt: skip
    assert titles(network.ladder(a)) == ["conversation 1: a and b", "conversation 3: a and c"]
    assert titles(network.ladder(c, "b")) == ["conversation 2: b and c"]
    assert network.ladder("a", "b", "c") == "(no connection)"
    last = network.ladder(last_lines=4)
    assert titles(last) == ["conversation 3: a and c"]
    assert last.startswith("(2 conversations, 1 to 2: ")
    assert "state → state" in last
    with pytest.raises(ValueError, match="there is no host 'd': it is a or b or c"):
        network.ladder("d")


def test_last_lines_are_whole_rows_of_the_chosen_conversations():
    network, a, b, c = star(ladder=True)
    talk(network, a, b)
    talk(network, b, c)
    whole = network.ladder(a, b).splitlines()
    rows = whole.index(next(line for line in whole if line.startswith("      ms"))) + 1
    for count in range(1, len(whole) - rows):
        cut = network.ladder(a, b, last_lines=count).splitlines()
        assert cut[:rows] == whole[:rows]
        missing = len(whole) - len(cut) + 1
        assert cut[rows].strip() == f"({missing} line{'s' if missing > 1 else ''} left out)"
        shown = cut[rows + 1 :]
        assert shown == whole[-len(shown) :]
        assert re.match(r" *\d+\.\d+  ", shown[0])  # where a row begins
        # No row more would fit.
        above = whole[rows : len(whole) - len(shown)]
        row_above = len(above) - max(i for i, line in enumerate(above) if re.match(r" *\d+\.\d+  ", line))
        alone = sum(bool(re.match(r" *\d+\.\d+  ", line)) for line in shown) == 1
        assert len(shown) <= count or alone
        assert len(shown) + row_above > count
    assert network.ladder(a, b, last_lines=len(whole)) == "\n".join(whole)
    for count in (0, -1):
        with pytest.raises(ValueError, match=f"1 or more: not {count}"):
            network.ladder(last_lines=count)


def test_conversations_without_a_line_among_the_last_are_named():
    network, a, b, c = star(ladder=True)
    talk(network, a, b)
    talk(network, a, c)
    talk(network, b, c)
    last = network.ladder(last_lines=1)  # the end of the TIME-WAIT of the second
    assert re.findall(r"conversation \d.*?(?=:)|\d+ lines left out", last) == [
        "conversation 1", "51 lines left out", "conversation 2", "31 lines left out",
        "conversation 3", "32 lines left out",
    ]  # fmt: skip


def drawn_with(*faults: str) -> list[str]:
    """The lines of a conversation from a to b, with faults at a."""
    network = Network(3, ladder=True)
    a, b = network.host("a", "10.0.0.1/24", faults=faults), network.host("b", "10.0.1.1/24")
    network.link(a, b, DELAY)
    talk(network, a, b)
    return network.ladder().splitlines()


@pytest.mark.parametrize("fault", ["drop synack nth=1", "drop synack dir=out nth=1"])
def test_what_is_in_force_is_told_where_the_opener_knows_it(fault: str):
    lines = drawn_with(fault)
    (agreed,) = (i for i, line in enumerate(lines) if "— in force" in line)
    before = [line for line in lines[:agreed] if re.search("<──|X──|──>", line)]
    assert "SYN-SENT → ESTABLISHED" in before[-1]
    assert "<── SYN,ACK" in before[-1]


def test_rows_of_the_other_end_have_its_reason_where_they_do_not_tell_it():
    lost_answer = drawn_with("drop synack nth=1")
    assert any("why: SYN,ACK again: " in line for line in lost_answer)
    assert not any("why: SYN,ACK: answers the SYN" in line for line in lost_answer)
    lines = drawn_with("drop fin dir=in nth=1..2")
    timeout = next(i for i, line in enumerate(lines) if "— b: retransmission timeout: " in line)
    again = next(i for i, line in enumerate(lines) if i > timeout and "<── FIN,ACK" in line)
    assert any("why: retransmission: timeout" in line for line in lines[again : again + 3])


def test_numbers_in_notes_count_from_the_isn_before_the_syn_has_been_told():
    lines = drawn_with("duplicate 100% synack dir=in")
    assert any("the segment with seq 0, len 0, from b is duplicated" in line for line in lines)


@pytest.mark.parametrize("remote", ["127.0.0.1", "10.0.0.1"])
def test_conversation_of_a_host_with_itself_has_its_name_and_its_states(remote: str):
    async def server() -> None:
        async def answer(reader, writer):
            writer.write(await reader.read())
            writer.close()

        await asyncio.start_server(answer, remote, 80)

    async def client() -> None:
        reader, writer = await asyncio.open_connection(remote, 80)
        writer.write(b"GET /\n")
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    with Simulation(seed=3, ladder=True) as sim:
        a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
        sim.link(a, b)
        a.spawn(server())
        a.run(client())
    text = sim.ladder(a)
    assert titles(text) == ["conversation 1: a with itself"]
    assert f"a {remote}:80" in text
    assert sim.ladder(b) == sim.ladder(a, b) == "(no connection)"
    assert "".join(f"{state}, " for state in states(text)) == (
        "LISTEN → SYN-RECEIVED, SYN-RECEIVED → ESTABLISHED, ESTABLISHED → CLOSE-WAIT, CLOSE-WAIT → LAST-ACK, "
        "LAST-ACK → CLOSED, "
    )
    column = re.findall(r"[>─] +([A-Z0-9-]+)(?: → ([A-Z0-9-]+))?(?: \(2 MSL\))?$", text, re.MULTILINE)
    for (before, after), (then, _) in itertools.pairwise(column):
        assert then == (after or before)


def test_ladder_shows_conversations_that_interleave_as_it_does_one_alone():
    ladders = []
    for both in (False, True):
        network, a, b, c = star(ladder=True)
        b.listen(80)
        c.listen(80)
        connections = [a.connect(ip_address("10.0.1.1").packed, 80, lport=1000)]
        if both:
            connections.append(b.connect(ip_address("10.0.2.1").packed, 80, lport=1000))
        for connection, host in zip(connections, (a, b), strict=False):
            host.send(connection, b"hello")
        network.run(seconds=5)
        ladders.append(re.sub(r"ISN \d+", "ISN", network.ladder("a", "b")))
    assert ladders[0] == ladders[1]


def test_nothing_is_recorded_unless_it_is_asked_for():
    network, a, b, _ = star()
    assert a.stack.tracer is None
    talk(network, a, b)
    with pytest.raises(RuntimeError, match="ask for it first, by ladder=True"):
        network.ladder()


def test_own_tracer_of_a_host_takes_nothing_from_the_ladder():
    events: list[Event] = []
    drawn = []
    for tracer in (None, events.append):
        network = Network(1, ladder=True)
        a, b = network.host("a", "10.0.0.1/24", tracer=tracer), network.host("b", "10.0.0.2/24")
        network.link(a, b, Line(rate_bps=10_000_000, queue_packets=2))
        talk(network, a, b, 20_000)
        drawn.append(network.ladder())
    assert drawn[0] == drawn[1]
    lost = [event for event in events if isinstance(event, FaultHit)]
    assert 0 < len(lost) == drawn[0].count("“link a to b: queue full”")


# Captures


def capture(codec=OBJECTS, *, offload: bool = False) -> bytes:
    stream = io.BytesIO()
    network, a, b, c = star(codec=codec, offload=offload, pcapng=stream)
    with network:
        talk(network, a, b)
        talk(network, c, b)
    return stream.getvalue()


def test_same_seed_gives_the_same_file_with_objects_and_with_octets():
    assert capture() == capture() == capture(DPKT)
    assert capture() != capture(offload=True)


@pytest.mark.parametrize("offload", [False, True])
def test_dpkt_reads_the_packets_as_the_hosts_had_them(offload: bool):
    reader = dpkt.pcapng.Reader(io.BytesIO(capture(offload=offload)))
    assert reader.datalink() == 101  # LINKTYPE_RAW
    packets = list(reader)
    assert packets[0][0] == 1767225601.0  # the first SYN is dropped by a rule: its retransmission is the first to leave
    assert [at for at, _ in packets] == sorted(at for at, _ in packets)
    segments = [dpkt_codec.decode(Packet((octets,))) for _, octets in packets]  # checks the checksums
    assert all(isinstance(each, Segment) for each in segments)
    texts = {(each.seq, each.payload_len) for each in segments if each.payload_len}
    assert (max(length for _, length in texts) > 1460) is offload


@TSHARK
def test_tshark_reads_interfaces_times_directions_and_comments(tmp_path):
    path = tmp_path / "run.pcapng"
    network, a, b, _ = star(pcapng=path)
    with network:
        talk(network, a, b)
    command = [
        "tshark", "-r", str(path), "-T", "json", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
        "-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction",
        "-e", "frame.comment", "-e", "tcp.seq", "-e", "tcp.len", "-e", "tcp.flags.str", "-e", "ip.ttl",
        "-e", "tcp.checksum.status", "-e", "ip.checksum.status", "-e", "_ws.malformed",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [
        {name.partition(".")[2]: values for name, values in each["_source"]["layers"].items()}
        for each in json.loads(done.stdout)
    ]
    for row in rows:
        assert row["checksum.status"] == ["1"]
        assert "malformed" not in row
    first, second = rows[:2]
    assert (first["interface_name"], first["time_epoch"], first["ttl"]) == (["a"], ["1767225601.000000000"], ["64"])
    assert (second["interface_name"], second["time_epoch"], second["ttl"]) == (["b"], ["1767225601.040000000"], ["63"])
    assert first["comment"] == ["retransmission: timeout, our SYN is unanswered"]
    assert "comment" not in second
    hit = [row for row in rows if row.get("comment") == ["dropped by the fault rule “drop data dir=in nth=2”"]]
    assert [(row["interface_name"], row["len"]) for row in hit] == [(["b"], ["1448"])]
    of_b = [row for row in rows if (row["interface_name"], row["ttl"]) == (["b"], ["64"])]
    fins = [row["comment"] for row in of_b if "F" in row["flags.str"][0]]
    assert len(fins) == 2
    assert fins[0] == fins[1]
    assert fins[0][1].startswith("duplicated by the fault rule “duplicate 100% fin dir=out")
    assert {row["interface_name"][0] for row in rows} == {"a", "b"}


def test_what_a_link_loses_says_so_where_it_was_sent():
    stream = io.BytesIO()
    with Network(1, pcapng=stream) as network:
        a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
        network.link(a, b, Line(rate_bps=10_000_000, queue_packets=2))
        talk(network, a, b, 20_000)
        lost = network.links[0].counters["queue full"]
    said = "dropped by the fault rule “link a to b: queue full”".encode()
    assert stream.getvalue().count(said) == lost > 0


def test_hit_segments_of_a_superpacket_are_named_in_its_comment():
    text = capture(offload=True).decode("utf-8", "replace")
    assert text.count("dropped by the fault rule “drop data dir=in nth=2”") == 1


def test_capture_that_cannot_be_written_is_told_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        Network(pcapng=tmp_path / "none" / "run.pcapng")
