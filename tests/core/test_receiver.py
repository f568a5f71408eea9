"""The half that we hear: acceptability, text in and out, the window that is offered, the FIN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.receive.receiver import Receiver, acceptable, window_shift

IRS = (1 << 32) - 2
MSS = 1000


def a_receiver(buffer_bytes: int = 10_000, shift: int = 0, mss: int = MSS) -> Receiver:
    """One whose SYN,ACK has offered the buffer."""
    receiver = Receiver(buffer_bytes, mss)
    receiver.synchronize(IRS)
    receiver.syn_window_field()
    receiver.shift = shift
    return receiver


def hear(receiver: Receiver, offset: int, text: bytes) -> int:
    return receiver.take_text(IRS + 1 + offset, (text,) if text else (), len(text))


def all_of(receiver: Receiver) -> bytes:
    return b"".join(receiver.read(1 << 40))


# -- Table 6 of RFC 9293


@pytest.mark.parametrize("wnd", range(6))
def test_segment_is_acceptable_where_any_octet_of_it_lies_in_the_window(wnd: int) -> None:
    nxt = 10
    window = range(nxt, nxt + wnd)
    for seq in range(20):
        assert acceptable(seq, 0, nxt, wnd) == (seq in window if wnd else seq == nxt)
        for size in range(1, 10):
            assert acceptable(seq, size, nxt, wnd) == any(octet in window for octet in range(seq, seq + size))


# -- the shift


@pytest.mark.parametrize(
    ("buffer_bytes", "shift"),
    [(1, 0), (0xFFFF, 0), (0x10000, 1), (0xFFFF << 1, 1), ((0xFFFF << 1) + 1, 2), (512 * 1024, 4), (1 << 30, 14)],
)
def test_shift_is_the_smallest_that_names_the_buffer(buffer_bytes: int, shift: int) -> None:
    assert window_shift(buffer_bytes) == shift


@given(st.integers(1, 1 << 30))
def test_shift_never_names_much_more_than_the_buffer(buffer_bytes: int) -> None:
    shift = window_shift(buffer_bytes)
    assert shift == 14 or buffer_bytes <= 0xFFFF << shift
    assert shift == 0 or buffer_bytes > 0xFFFF << (shift - 1)


# -- text


def test_text_in_order_can_be_read() -> None:
    receiver = a_receiver()
    assert hear(receiver, 0, b"ab") == 2
    assert hear(receiver, 2, b"cd") == 2
    assert receiver.queued_bytes == 4
    assert all_of(receiver) == b"abcd"
    assert receiver.queued_bytes == 0


@pytest.mark.rfc9293("SHLD-31")
def test_text_above_a_gap_is_held_until_the_gap_is_filled() -> None:
    receiver = a_receiver()
    assert hear(receiver, 2, b"cd") == 0
    assert hear(receiver, 6, b"gh") == 0
    assert hear(receiver, 0, b"ab") == 4
    assert all_of(receiver) == b"abcd"
    assert hear(receiver, 3, b"def") == 4
    assert all_of(receiver) == b"efgh"


def test_text_partly_old_gives_its_new_part() -> None:
    receiver = a_receiver()
    hear(receiver, 0, b"abcd")
    assert hear(receiver, 2, b"cdEF") == 2
    assert hear(receiver, 0, b"abcd") == 0
    assert all_of(receiver) == b"abcdEF"


def test_text_beyond_the_window_is_cut() -> None:
    receiver = a_receiver(buffer_bytes=3)
    assert hear(receiver, 0, b"abcdef") == 3
    assert all_of(receiver) == b"abc"
    assert hear(receiver, 3, b"d") == 0  # until the next segment that leaves, the peer has no leave to send it


def test_cut_falls_on_the_right_octet_of_several_chunks() -> None:
    receiver = a_receiver(buffer_bytes=6)
    hear(receiver, 0, b"ab")
    assert receiver.take_text(IRS + 1, (b"ab", memoryview(b"cde"), b"", b"fgh"), 8) == 4
    assert all_of(receiver) == b"abcdef"


@given(st.lists(st.integers(1, 3000), max_size=12), st.lists(st.integers(0, 4000), max_size=20))
def test_reads_of_any_size_give_the_text_in_order(sizes: list[int], reads: list[int]) -> None:
    text = bytes(n * 13 & 0xFF for n in range(sum(sizes)))
    receiver = a_receiver(buffer_bytes=40_000)
    offset = 0
    for size in sizes:
        hear(receiver, offset, text[offset : offset + size])
        offset += size
    got = b""
    for most in reads:
        chunks = receiver.read(most)
        assert sum(map(len, chunks)) == min(most, len(text) - len(got))
        assert all(len(chunk) for chunk in chunks)
        got += b"".join(chunks)
        assert receiver.queued_bytes == len(text) - len(got)
    assert got + all_of(receiver) == text


def test_a_peer_that_sends_octets_makes_us_keep_no_object_for_each() -> None:
    receiver = a_receiver()
    for offset in range(9000):
        hear(receiver, offset, b"x")
    assert len(receiver.read(1 << 40)) <= 3


def test_a_peer_that_sends_every_other_octet_makes_us_keep_few_ranges() -> None:
    receiver = a_receiver(buffer_bytes=5120)
    for offset in range(1, 5000, 2):
        hear(receiver, offset, b"x")
    assert len(receiver.reassembly.ranges) == 11


@pytest.mark.parametrize("shift", [1, 4, 8])
def test_octets_that_are_acknowledged_one_by_one_push_the_edge_no_further_than_the_slack(shift: int) -> None:
    """Rounding up keeps the edge from moving left, and lets it creep right: the memory is bounded all the same."""
    buffer_bytes = 8 << shift
    receiver = a_receiver(buffer_bytes, shift)
    for _ in range(3 * buffer_bytes):
        receiver.take_text(receiver.nxt, (b"x",), 1)
        wnd = receiver.window_field() << shift
    assert buffer_bytes < receiver.queued_bytes <= buffer_bytes + buffer_bytes // 8 + (1 << shift)
    assert wnd == 0  # the peer is to probe, and not to take us for dead
    receiver.read(receiver.queued_bytes)
    assert receiver.window_field() << shift == buffer_bytes


def test_small_text_outlives_the_packet_that_it_came_in() -> None:
    receiver = a_receiver()
    packet = bytearray(b"text")
    receiver.take_text(IRS + 1, (memoryview(packet),), 4)
    packet[:] = b"????"
    assert all_of(receiver) == b"text"


def test_clear_forgets_all_text() -> None:
    receiver = a_receiver()
    hear(receiver, 0, bytes(2000))
    hear(receiver, 2000, b"ab")
    hear(receiver, 4000, b"ef")
    receiver.clear()
    assert receiver.read(10) == []
    assert (receiver.queued_bytes, receiver.reassembly.bytes) == (0, 0)


# -- the window


def test_numbers_begin_with_the_peers_syn_whatever_our_own_syn_has_offered_before() -> None:
    receiver = Receiver(10_000, MSS)
    assert receiver.syn_window_field() == 10_000
    receiver.synchronize(IRS)
    assert (receiver.irs, receiver.nxt, receiver.wnd) == (IRS, IRS + 1, 0)
    assert not receiver.fin_received


def test_window_of_a_syn_is_not_scaled_and_is_cut_to_16_bits() -> None:
    receiver = Receiver(512 * 1024, MSS)
    receiver.synchronize(IRS)
    assert receiver.syn_window_field() == 0xFFFF
    assert receiver.wnd == 0xFFFF


@pytest.mark.rfc9293("SHLD-14")
def test_window_shrinks_as_text_waits_with_its_right_edge_fixed() -> None:
    receiver = a_receiver()
    for offset in range(0, 10_000, 1000):
        hear(receiver, offset, bytes(1000))
        assert receiver.window_field() == 9000 - offset
    assert receiver.wnd == 0


@pytest.mark.rfc9293("MUST-39")
def test_window_opens_by_a_segment_and_not_by_less() -> None:
    receiver = a_receiver()
    hear(receiver, 0, bytes(10_000))
    assert receiver.window_field() == 0
    receiver.read(MSS - 1)
    assert receiver.window_field() == 0
    receiver.read(1)
    assert receiver.window_field() == MSS


@pytest.mark.rfc9293("MUST-39")
def test_window_of_a_small_buffer_opens_by_half_of_it() -> None:
    receiver = a_receiver(buffer_bytes=600)
    hear(receiver, 0, bytes(600))
    assert receiver.window_field() == 0
    receiver.read(299)
    assert receiver.window_field() == 0
    receiver.read(1)
    assert receiver.window_field() == 300


def test_scaled_window_is_rounded_up_so_that_the_edge_never_moves_left() -> None:
    receiver = a_receiver(shift=4)
    receiver.window_field()
    edge = receiver.edge
    hear(receiver, 0, b"x")
    assert IRS + 1 + 1 + (receiver.window_field() << 4) >= edge
    assert receiver.edge - edge < 16


def test_buffer_larger_than_an_unscaled_field_names_offers_what_it_names() -> None:
    receiver = a_receiver(buffer_bytes=512 * 1024)
    hear(receiver, 0, bytes(1000))
    assert receiver.window_field() == 0xFFFF
    assert receiver.wnd == 0xFFFF


def test_reads_that_cannot_move_an_unscaled_window_owe_no_update() -> None:
    """An update that moves nothing is a duplicate acknowledgement: three of them and the peer sends again."""
    receiver = a_receiver(buffer_bytes=512 * 1024)
    for offset in range(0, 30_000, 1000):
        hear(receiver, offset, bytes(1000))
        receiver.window_field()
        receiver.read(1000)
        assert not receiver.update_due()


@pytest.mark.rfc9293("MUST-39")
def test_update_is_due_when_less_than_half_is_on_offer_and_a_segment_has_been_read() -> None:
    receiver = a_receiver()
    hear(receiver, 0, bytes(5000))
    receiver.window_field()
    receiver.read(2000)
    assert not receiver.update_due()  # half is on offer still
    hear(receiver, 5000, bytes(1))
    receiver.window_field()  # now a worthwhile 2,000 have been offered
    assert receiver.wnd == 6999
    hear(receiver, 5001, bytes(6999))
    receiver.window_field()
    receiver.read(999)
    assert not receiver.update_due()
    receiver.read(1)
    assert receiver.update_due()
    receiver.window_field()
    assert not receiver.update_due()


# -- the FIN


def test_fin_in_order_is_reached_once() -> None:
    receiver = a_receiver()
    hear(receiver, 0, b"ab")
    receiver.note_fin(receiver.nxt)
    assert not receiver.fin_received
    assert receiver.reach_fin()
    assert receiver.fin_received
    assert receiver.nxt == IRS + 1 + 3
    assert not receiver.reach_fin()


def test_fin_above_a_gap_is_remembered() -> None:
    receiver = a_receiver()
    receiver.note_fin(IRS + 1 + 4)
    assert not receiver.reach_fin()
    hear(receiver, 0, b"abcd")
    assert receiver.reach_fin()
    assert all_of(receiver) == b"abcd"


def test_first_fin_is_believed() -> None:
    receiver = a_receiver()
    receiver.note_fin(IRS + 1 + 4)
    receiver.note_fin(IRS + 1 + 2)
    assert receiver.fin_seq == IRS + 1 + 4


@pytest.mark.parametrize("offset", [-1, 10_000, 10_001])
def test_fin_outside_the_window_is_not_noted(offset: int) -> None:
    receiver = a_receiver()
    receiver.note_fin(IRS + 1 + offset)
    assert receiver.fin_seq is None


def test_fin_needs_an_octet_of_the_window() -> None:
    receiver = a_receiver()
    hear(receiver, 0, bytes(10_000))
    receiver.note_fin(receiver.nxt)
    assert receiver.fin_seq is None
    receiver.read(1000)
    receiver.window_field()
    receiver.note_fin(receiver.nxt)
    assert receiver.reach_fin()


def test_no_text_follows_the_fin_whether_held_before_or_come_after() -> None:
    receiver = a_receiver()
    hear(receiver, 2, b"cdefgh")  # beyond what the peer then says is its last octet
    receiver.note_fin(IRS + 1 + 4)
    hear(receiver, 3, b"dEFGH")
    assert hear(receiver, 0, b"ab") == 4
    assert receiver.reach_fin()
    assert all_of(receiver) == b"abcd"
    assert hear(receiver, 4, b"efgh") == 0
