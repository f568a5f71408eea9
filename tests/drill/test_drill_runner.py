"""The runner against a host that sends what it is told to: packets that stand for several segments of the wire, cut and
joined as a script expects them; and a clock that goes on while it works, as a real one does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tcpstack.core.segment import ACK, FIN, PSH, SYN, Segment
from tcpstack.drill.failure import Failed
from tcpstack.drill.flows import pattern
from tcpstack.drill.grammar import parse
from tcpstack.drill.octets import cut, ip_packet, tcp_segment
from tcpstack.drill.runner import Runner
from tcpstack.drill.script import KERNEL
from tcpstack.drill.settings import settings
from tcpstack.drill.side import Arrived, Outcome, Request
from tcpstack.wire.dpkt_codec import decode
from tcpstack.wire.packet import CHECKSUM_PARTIAL, Packet

LOCAL, REMOTE = bytes((192, 168, 0, 1)), bytes((192, 0, 2, 1))
ISN, REMOTE_ISN = 7000, 0xFFFF_F000


class Sender:
    """A Side whose tested host takes a connection, and then sends what it is told to."""

    name = "a sender"

    def __init__(self, packets: Iterable[Arrived], late_ns: int = 0) -> None:
        self.now_ns = 0
        self.injected_ns: list[int] = []
        self._late_ns = late_ns  # how long it takes to inject a packet, to be called, and to tell of a packet
        self._packets = [arrived(flags=SYN | ACK, seq=-1, size=0), *packets]
        self._outcome = Outcome(0)

    def start_clock(self) -> None: ...
    def close(self) -> None: ...

    def wait_until(self, at_ns: int) -> None:
        self.now_ns = max(self.now_ns, at_ns)

    def inject(self, octets: bytes) -> None:
        self.injected_ns.append(self.now_ns)
        self.now_ns += self._late_ns

    def run_command(self, text: str) -> str:
        return ""

    def next_packet(self, until_ns: int) -> Arrived | None:
        self.now_ns += self._late_ns
        return self._packets.pop(0) if self._packets else None

    def start_call(self, request: Request) -> None:
        self.now_ns += self._late_ns
        sizes = {"send": lambda: len(request.arguments[1]) // 2}
        self._outcome = Outcome(sizes.get(request.name, lambda: 3 if request.name == "socket" else 0)())

    def finish_call(self, until_ns: int) -> Outcome:
        return self._outcome

    def tcp_info(self, fd: int) -> dict[str, int]:
        return {}

    def ladder(self) -> str:
        return ""


def arrived(*, flags: int = ACK, seq: int, size: int, gso_size: int = 0, time_ns: int = 0) -> Arrived:
    """What the host sends from `seq` on of its text, with its checksum left open as it is where hardware makes it."""
    text = pattern(seq, size) if size else b""
    body = tcp_segment(
        LOCAL, 8080, REMOTE, 40_001, seq=ISN + 1 + seq, ack=REMOTE_ISN + 1, flags=flags, win=1000, text=text
    )
    broken = body[:16] + b"\x12\x34" + body[18:]
    return Arrived(time_ns, ip_packet(LOCAL, REMOTE, 6, broken), CHECKSUM_PARTIAL, gso_size)


def run(
    expected: str, packets: Iterable[Arrived], *options: tuple[str, str], late_ns: int = 0, tick_ns: int = 0
) -> list[int]:
    """Run a script that goes on with this once the text is written; when it injected its packets."""
    script = parse(
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
        "+0 listen(3, 1) = 0\n"
        "+0 < S 0:0(0) win 1000\n"
        "+0 > S. 0:0(0) ack 1\n"
        "+0 write(3, ..., 5000) = 5000\n" + expected,
        "script.pkt", KERNEL,
    )  # fmt: skip
    sender = Sender(packets, late_ns)
    Runner(script, replace(settings(options), late_ns=tick_ns), sender, real_time=True).run()
    return sender.injected_ns


def test_a_train_is_what_is_expected_with_its_flags() -> None:
    run("+0 > P. 1:3001(3000) ack 1\n", [arrived(flags=PSH | ACK, seq=0, size=3000, gso_size=1000)])
    with pytest.raises(Failed, match="flags"):
        run("+0 > . 1:3001(3000) ack 1\n", [arrived(flags=PSH | ACK, seq=0, size=3000, gso_size=1000)])


def test_a_train_is_cut_where_single_segments_are_expected() -> None:
    expected = "+0 > . 1:1001(1000) ack 1\n+0 > . 1001:3001(2000) ack 1\n+0 > FP. 3001:3501(500) ack 1\n"
    train = arrived(flags=FIN | PSH | ACK, seq=0, size=3500, gso_size=1000)

    run(expected, [train])
    with pytest.raises(Failed, match="seq"):
        run(expected, [train], ("strict_segments", ""))


def test_a_train_is_not_cut_within_a_segment() -> None:
    with pytest.raises(Failed, match="seq"):
        run("+0 > . 1:501(500) ack 1\n", [arrived(seq=0, size=3000, gso_size=1000)])


def test_trains_of_different_lengths_are_one_large_packet() -> None:
    trains = [
        arrived(seq=0, size=2000, gso_size=1000),
        arrived(seq=2000, size=1000),
        arrived(flags=PSH | ACK, seq=3000, size=1500, gso_size=1000),
    ]

    run("+0 > P. 1:4501(4500) ack 1\n", trains)
    with pytest.raises(Failed, match="seq"):
        run("+0 > P. 1:4501(4500) ack 1\n", trains, ("strict_segments", ""))


def test_what_follows_a_short_segment_is_a_packet_of_its_own() -> None:
    trains = [arrived(seq=0, size=1500, gso_size=1000), arrived(seq=1500, size=1000)]

    with pytest.raises(Failed, match="seq"):
        run("+0 > . 1:2501(2500) ack 1\n", trains)
    run("+0 > . 1:1501(1500) ack 1\n+0 > . 1501:2501(1000) ack 1\n", trains)


@pytest.mark.parametrize("version", [4, 6])
def test_both_parts_of_a_packet_that_is_cut_are_packets(version: int) -> None:
    local, remote = (LOCAL, REMOTE) if version == 4 else (bytes(15) + b"\1", bytes(15) + b"\2")
    body = tcp_segment(
        local, 80, remote, 90, seq=0xFFFF_FF00, ack=5, flags=FIN | PSH | ACK, win=9, options=b"\1\1\1\0",
        text=pattern(0, 900),
    )  # fmt: skip

    parts = [
        decode(Packet((part,), CHECKSUM_PARTIAL)) for part in cut(ip_packet(local, remote, 6, body, tos=3), 600)
    ]

    first, rest = parts
    assert isinstance(first, Segment)
    assert isinstance(rest, Segment)
    assert (first.seq, first.text(), first.flags) == (0xFFFF_FF00, pattern(0, 600), ACK)
    assert (rest.seq, rest.text(), rest.flags) == (0x158, pattern(600, 300), FIN | PSH | ACK)
    assert first.ack == rest.ack == 5


ACKNOWLEDGED = "+0 > . 1:1001(1000) ack 1\n+0 < . 1:1(0) ack 1001 win 1000\n+0 > . 1001:2001(1000) ack 1\n"
MS = 1_000_000


def test_how_late_the_runner_was_is_no_fault_of_the_packets() -> None:
    """Each event takes 3 ms, of a tolerance of 4: both packets left long before."""
    run(ACKNOWLEDGED, [arrived(seq=0, size=1000), arrived(seq=1000, size=1000)], late_ns=3 * MS)


def test_a_packet_that_is_early_by_the_script_is_told_of_however_late_the_runner_was() -> None:
    packets = [arrived(seq=0, size=1000), arrived(seq=1000, size=1000)]

    with pytest.raises(Failed, match=r"the packet came at 0\.000000 s"):
        run(ACKNOWLEDGED.replace("+0 > . 1001", "+.1 > . 1001"), packets, late_ns=3 * MS)


def test_a_packet_that_is_late_is_told_of() -> None:
    with pytest.raises(Failed, match=r"the packet came at 0\.020000 s"):
        run("+0 > . 1:1001(1000) ack 1\n", [arrived(seq=0, size=1000, time_ns=20 * MS)], late_ns=MS)


def test_a_long_tick_makes_packets_later_and_never_earlier() -> None:
    late, early = ([arrived(seq=0, size=1000, time_ns=time_ns)] for time_ns in (6 * MS, 94 * MS))
    expecting = "{} > . 1:1001(1000) ack 1\n"

    run(expecting.format("+0"), late, tick_ns=3 * MS)
    with pytest.raises(Failed, match=r"came at 0\.006000 s"):
        run(expecting.format("+0"), late, tick_ns=MS)
    with pytest.raises(Failed, match=r"came at 0\.094000 s"):
        run(expecting.format("+.1"), early, ("tolerance_percent", "0"), tick_ns=3 * MS)


def test_packets_to_inject_count_from_when_the_one_before_was_due_and_other_events_from_when_it_was() -> None:
    ack = "< . 1:1(0) ack 1 win 1000\n"

    injected_ns = run(f"+.01 {ack}+.01 {ack}+.01 {ack}+0 read(3, ..., 0) = 0\n+.01 {ack}", [], late_ns=3 * MS)

    first_ns = injected_ns[1]
    assert [at_ns - first_ns for at_ns in injected_ns[1:]] == [0, 10 * MS, 20 * MS, 36 * MS]


def test_what_follows_a_packet_at_once_does_however_late_that_was_seen() -> None:
    run("+0 > . 1:1001(1000) ack 1\n+0 read(3, ..., 0) = 0\n", [arrived(seq=0, size=1000)], late_ns=6 * MS)


def test_an_event_that_is_too_late_is_told_of() -> None:
    ack = "< . 1:1(0) ack 1 win 1000\n"

    with pytest.raises(Failed, match="too late: the script's"):
        run(f"+.01 {ack}+0 {ack}+0 {ack}", [], late_ns=3 * MS)
