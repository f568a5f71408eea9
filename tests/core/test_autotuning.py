"""Dynamic right-sizing: what an application takes in a round trip, and the buffer that it earns."""

from __future__ import annotations

import pytest

from tcpstack.core.config import Config
from tcpstack.core.handshake import Negotiated, syn_options
from tcpstack.core.receive.autotune import Autotune
from tcpstack.core.receive.receiver import Receiver
from tcpstack.core.segment import Options

MS = 1_000_000
RTT_NS = 100 * MS
BUFFER = 100_000
MSS = 1_000
LIMIT = 5_000_000
IRS = (1 << 32) - 2
V4 = bytes(4)


class Measured:
    """An Autotune and the time."""

    def __init__(self, srtt_ns: int = RTT_NS) -> None:
        self.now_ns = 7_000 * MS
        self.srtt_ns = srtt_ns
        self.autotune = Autotune(BUFFER, MSS, self.now_ns)

    def read(self, size: int, after_ns: int = 0, unread: int = 0, buffer: int = BUFFER) -> int:
        self.now_ns += after_ns
        return self.autotune.on_read(size, unread, buffer, self.now_ns, self.srtt_ns)


# -- the measure


def test_half_the_buffer_in_a_round_trip_earns_nothing() -> None:
    it = Measured()
    assert [it.read(BUFFER // 2, RTT_NS) for _ in range(5)] == [0] * 5


def test_more_in_a_round_trip_earns_twice_what_it_grew_to_and_16_segments() -> None:
    it = Measured()
    assert it.read(60_000, RTT_NS) == 2 * 60_000 * 6 // 5 + 16 * MSS  # by a fifth above half the buffer
    assert it.read(90_000, RTT_NS) == 2 * 90_000 * 3 // 2 + 16 * MSS


def test_growth_counts_for_a_doubling_at_most() -> None:
    """Slow start does no more; what looks like more began in the middle."""
    assert Measured().read(90_000, RTT_NS) == 2 * 90_000 * 9 // 5 + 16 * MSS
    assert Measured().read(105_000, RTT_NS) == 4 * 105_000 + 16 * MSS


def test_same_again_earns_nothing_more() -> None:
    it = Measured()
    assert it.read(80_000, RTT_NS) > 0
    assert [it.read(80_000, RTT_NS), it.read(79_000, RTT_NS)] == [0, 0]
    assert it.read(81_000, RTT_NS) > 0


def test_before_a_round_trip_is_over_nothing_is_said() -> None:
    it = Measured()
    assert [it.read(10_000, RTT_NS // 10) for _ in range(9)] == [0] * 9
    assert it.read(10_000, RTT_NS // 10) == 4 * 100_000 + 16 * MSS


def test_what_is_taken_over_several_round_trips_counts_for_one() -> None:
    it = Measured()
    assert it.read(BUFFER, 2 * RTT_NS) == 0
    assert it.read(BUFFER, 10 * RTT_NS) == 0
    assert it.read(BUFFER * 6 // 5, 2 * RTT_NS) == 2 * 60_000 * 6 // 5 + 16 * MSS


def test_while_text_waits_unread_the_measure_goes_on() -> None:
    it = Measured()
    assert it.read(90_000, RTT_NS, unread=BUFFER // 8 + 1) == 0
    assert it.read(10_000, 0, unread=BUFFER // 8) == 4 * 100_000 + 16 * MSS


def test_fast_reads_of_what_came_slowly_count_as_slowly_as_it_came() -> None:
    """The clock stops only where nothing is left, not between two reads of one batch."""
    it = Measured(srtt_ns=MS)
    for _ in range(20):
        it.now_ns += 9 * MS
        for unread in (75_000, 50_000, 25_000, 0):
            assert it.read(25_000, MS // 4, unread) == 0


def test_without_a_round_trip_time_a_window_and_an_eighth_takes_one() -> None:
    it = Measured(srtt_ns=0)
    assert it.read(BUFFER * 9 // 8, RTT_NS) == 0  # no more than what the peer had leave to send
    assert it.read(1, 0) == 4 * (BUFFER * 9 // 8 + 1) + 16 * MSS
    assert it.read(BUFFER, RTT_NS, buffer=4 * BUFFER) == 0
    assert it.read(BUFFER // 2, RTT_NS // 2, buffer=4 * BUFFER) == 0
    assert it.read(BUFFER, RTT_NS // 2, buffer=4 * BUFFER) > 0


def test_window_in_less_than_the_srtt_shows_that_the_srtt_is_inflated() -> None:
    """It was measured when a host was busy, or with a queue in the way: the octets of so long a time are too many."""
    it = Measured(srtt_ns=100 * RTT_NS)
    assert it.read(120_000, RTT_NS) == 4 * 120_000 + 16 * MSS
    assert it.read(120_000, RTT_NS) == 0


def test_window_at_once_divides_by_no_zero() -> None:
    assert Measured(srtt_ns=0).read(2 * BUFFER) == 0
    assert Measured(srtt_ns=0).read(2 * BUFFER, 1) == 4 * 2 * BUFFER + 16 * MSS


# -- the buffer


def a_receiver(buffer_bytes: int = BUFFER, limit_bytes: int = LIMIT, shift: int = 7) -> Receiver:
    receiver = Receiver(buffer_bytes, MSS, limit_bytes)
    receiver.synchronize(IRS)
    receiver.syn_window_field()
    receiver.shift = shift
    return receiver


def a_round_trip(receiver: Receiver, now_ns: int, reads: bool = True) -> None:
    """The peer sends a window, the user reads it."""
    receiver.window_field()
    size = receiver.wnd
    receiver.take_text(receiver.nxt, (bytes(size),), size)
    if reads:
        waiting = receiver.queued_bytes
        receiver.read(1 << 30)
        receiver.on_read(waiting, now_ns, RTT_NS)


def sizes(receiver: Receiver, rounds: int, reads: bool = True) -> list[int]:
    found = []
    for number in range(rounds):
        a_round_trip(receiver, number * RTT_NS, reads)
        found.append(receiver.buffer_bytes)
    return found


def test_buffer_doubles_at_least_while_each_window_is_read_and_ends_at_the_limit() -> None:
    found = sizes(a_receiver(), 8)
    assert found[0] == BUFFER
    growing = [size for size in found[1:] if size < LIMIT]
    assert all(after >= 2 * before for before, after in zip([BUFFER, *growing], growing, strict=False))
    assert found[-1] == LIMIT


def test_window_names_the_whole_grown_buffer() -> None:
    receiver = a_receiver()
    sizes(receiver, 8)
    field = receiver.window_field()
    assert LIMIT <= field << 7 < LIMIT + 128


def test_buffer_that_nobody_reads_stays_as_it_began() -> None:
    assert sizes(a_receiver(), 8, reads=False) == [BUFFER] * 8


@pytest.mark.parametrize("limit_bytes", [0, BUFFER - 1, BUFFER])
def test_buffer_at_its_limit_stays_and_nothing_is_measured(limit_bytes: int) -> None:
    receiver = a_receiver(limit_bytes=limit_bytes)
    assert sizes(receiver, 8) == [BUFFER] * 8
    assert receiver._autotune is None


def test_buffer_grows_no_further_than_an_unscaled_field_names() -> None:
    assert sizes(a_receiver(20_000, shift=0), 8)[-1] == 0xFFFF
    assert sizes(a_receiver(BUFFER, shift=0), 8)[-1] == BUFFER


def test_connection_that_carries_little_measures_nothing() -> None:
    receiver = a_receiver()
    for number in range(BUFFER // 8 // 100 - 1):
        receiver.take_text(receiver.nxt, (bytes(100),), 100)
        receiver.read(100)
        receiver.on_read(100, number * RTT_NS, RTT_NS)
    assert receiver._autotune is None


def test_measuring_ends_at_the_limit() -> None:
    receiver = a_receiver()
    sizes(receiver, 8)
    assert receiver._autotune is None


def test_edge_never_moves_left_as_the_buffer_grows_and_more_ranges_are_held() -> None:
    receiver = a_receiver()
    receiver.take_text(receiver.nxt + 1, (b"x",), 1)  # above a gap: held
    ranges = receiver.reassembly.limit
    assert ranges == 1 + BUFFER // 512
    edge = receiver.edge
    for number in range(8):
        a_round_trip(receiver, number * RTT_NS)
        assert receiver.edge >= edge
        edge = receiver.edge
    assert receiver.reassembly.limit == 1 + LIMIT // 512 > ranges


def test_text_above_a_gap_after_the_buffer_has_grown_may_be_as_many_ranges_as_that_bears() -> None:
    receiver = a_receiver()
    sizes(receiver, 8)
    receiver.window_field()
    receiver.take_text(receiver.nxt + 1, (b"x",), 1)
    assert receiver.reassembly.limit == 1 + LIMIT // 512


# -- the handshake


def test_scale_names_the_limit_and_not_the_beginning() -> None:
    config = Config(receive_buffer_bytes=1000, receive_buffer_max_bytes=0xFFFF << 5)
    assert syn_options(config, 1460, None, answering=False).wscale == 5
    assert Negotiated(config, 1460, Options(wscale=0), V4).rcv_shift == 5
    assert Negotiated(config, 1460, Options(), V4).rcv_shift == 0
