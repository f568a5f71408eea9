"""The window through any sequence of arrivals, reads and segments that leave, for each shift."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpstack.core.receive.receiver import Receiver
from tests.core.lone_sender import stream

IRS = (1 << 32) - 1000


def a_receiver(buffer_bytes: int, mss: int, shift: int) -> Receiver:
    receiver = Receiver(buffer_bytes, mss)
    receiver.synchronize(IRS)
    receiver.syn_window_field()
    receiver.shift = shift
    return receiver


# The reach of a step is in eighths of the buffer, so that each shift and size is put through the same.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.integers(-2, 10), st.integers(0, 12), st.integers(-3, 3)),
        st.tuples(st.just("next"), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("read"), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("leave")),
        st.tuples(st.just("octets"), st.integers(1, 40)),
    ),
    max_size=50,
)


@settings(deadline=None, max_examples=300)
@given(
    shift=st.integers(0, 14),
    size=st.integers(1, 40),
    odd=st.integers(0, 30),
    mss=st.sampled_from([1, 100, 536, 1460, 9000]),
    script=steps,
)
@pytest.mark.rfc9293("SHLD-14", "MUST-39")
def test_edge_moves_neither_left_nor_by_slivers_and_memory_is_bounded(
    shift: int, size: int, odd: int, mss: int, script: list[tuple[Any, ...]]
) -> None:
    buffer_bytes = (size << shift) * 4 + odd
    receiver = a_receiver(buffer_bytes, mss, shift)
    largest = min(buffer_bytes, 0xFFFF << shift)
    worthwhile = min(mss, largest // 2)
    first, edge = IRS + 1, receiver.edge  # `edge`: as whoever reads the wire has it
    delivered = b""
    eighth = max(buffer_bytes // 8, 1)

    def leaves() -> None:
        nonlocal edge
        wire_edge = receiver.nxt + (receiver.window_field() << shift)
        if wire_edge < edge:  # by less than the field can say, and only beyond the slack
            assert edge - wire_edge < 1 << shift
            assert edge - receiver.nxt > buffer_bytes - receiver.queued_bytes + buffer_bytes // 8
            return
        assert wire_edge == receiver.edge
        # By nothing, by the rounding, or by what is worth it.
        assert wire_edge - edge < 1 << shift or wire_edge - edge >= worthwhile
        edge = wire_edge

    def arrives(seq: int, count: int) -> None:
        """Of text that the peer has leave to send."""
        seq = max(seq, first)
        count = min(count, edge - seq)
        if count > 0:
            receiver.take_text(seq, (stream(seq - first, count),), count)

    for step in script:
        match step:
            case ("text", at, count, off):
                arrives(receiver.nxt + at * eighth + off, count * eighth)
            case ("next", count, off):
                arrives(receiver.nxt, count * eighth + off)
            case ("octets", count):
                for _ in range(count):
                    arrives(receiver.nxt, 1)
                    leaves()
            case ("read", count, off):
                delivered += b"".join(receiver.read(count * eighth + off))
            case _:
                leaves()
        assert edge == receiver.edge >= receiver.nxt
        assert receiver.nxt - first == len(delivered) + receiver.queued_bytes
        held = receiver.queued_bytes + receiver.reassembly.bytes
        assert held <= buffer_bytes + buffer_bytes // 8 + (1 << shift)
        opened = min(buffer_bytes - receiver.queued_bytes, 0xFFFF << shift) - (edge - receiver.nxt)
        if receiver.update_due():
            assert opened >= worthwhile
            before = edge
            leaves()
            assert edge - before >= worthwhile  # it was worth a segment
    delivered += b"".join(receiver.read(1 << 40))
    assert delivered == stream(0, receiver.nxt - first)


@settings(deadline=None, max_examples=200)
@given(
    shift=st.integers(0, 14),
    size=st.integers(1, 30),
    odd=st.integers(0, 30),
    ours=st.sampled_from([100, 536, 1460]),
    theirs=st.sampled_from([1, 37, 100, 536, 1460]),
    avoids_silly_windows=st.booleans(),
    reads=st.lists(st.integers(0, 12), min_size=1, max_size=30),
)
@pytest.mark.rfc9293("MUST-39")
def test_peer_that_only_the_window_holds_back_never_waits_for_ever(
    shift: int, size: int, odd: int, ours: int, theirs: int, avoids_silly_windows: bool, reads: list[int]
) -> None:
    """The peer has no timer: it must get on by acknowledgements and window updates alone, once the user reads all."""
    buffer_bytes = (size << shift) * 4 + odd
    receiver = a_receiver(buffer_bytes, min(ours, 0xFFFF), shift)
    total = 5 * buffer_bytes + 17
    mss = min(ours, max(theirs, buffer_bytes // 500))
    una = nxt = 0  # the peer's, as offsets
    wnd = largest = receiver.wnd
    delivered = 0

    def hears() -> None:
        nonlocal una, wnd, largest
        una, wnd = receiver.nxt - IRS - 1, receiver.window_field() << shift
        largest = max(largest, wnd)

    def may_send() -> int:
        usable, left = una + wnd - nxt, total - nxt
        if not avoids_silly_windows:
            return min(usable, left, mss)
        full = min(left, usable) >= mss
        rest = left <= usable
        half = nxt == una and 2 * min(left, usable) >= largest
        return min(usable, left, mss) if full or rest or half else 0

    rounds = 0
    while delivered < total:
        while (count := may_send()) > 0:
            receiver.take_text(IRS + 1 + nxt, (bytes(count),), count)
            nxt += count
        hears()  # the delayed acknowledgement comes in the end
        if una < nxt:
            nxt = una  # of what found no room, the peer's retransmission comes in the end
        eighths = reads[rounds] if rounds < len(reads) else 8
        got = sum(map(len, receiver.read(buffer_bytes * 2 if eighths >= 8 else buffer_bytes * eighths // 8)))
        delivered += got
        if receiver.update_due():
            hears()
        if rounds >= len(reads):
            assert got or may_send() > 0, "nothing to read, and the peer may not send"
        rounds += 1
    assert receiver.queued_bytes == 0


@settings(deadline=None, max_examples=200)
@given(
    shift=st.integers(0, 14),
    size=st.integers(1, 40),
    growth=st.integers(0, 20),
    srtt=st.sampled_from([0, 1, 20]),
    script=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 16), st.integers(0, 30)), max_size=60),
)
@pytest.mark.rfc9293("SHLD-14")
def test_buffer_that_grows_keeps_its_promises_and_its_limit(
    shift: int, size: int, growth: int, srtt: int, script: list[tuple[int, int, int]]
) -> None:
    begin = (size << shift) * 4
    limit = begin * growth
    receiver = Receiver(begin, 1000, limit)
    receiver.synchronize(IRS)
    receiver.syn_window_field()
    receiver.shift = shift
    most = max(begin, limit)
    edge = receiver.edge
    now = read = 0
    buffer_bytes = begin
    for arriving, eighths, passing in script:
        now += passing
        count = receiver.wnd * arriving // 8
        if count:
            receiver.take_text(receiver.nxt, (bytes(count),), count)
        waiting = receiver.queued_bytes
        receiver.read(waiting * eighths // 8)
        read += waiting - receiver.queued_bytes
        if waiting > receiver.queued_bytes:
            receiver.on_read(waiting - receiver.queued_bytes, now, srtt)
        assert buffer_bytes <= receiver.buffer_bytes <= most
        assert receiver.buffer_bytes == begin or receiver.buffer_bytes <= 4 * read + 16 * 1000
        buffer_bytes = receiver.buffer_bytes
        wire_edge = receiver.nxt + (receiver.window_field() << shift)
        assert wire_edge == receiver.edge >= edge
        edge = wire_edge
        assert receiver.queued_bytes + receiver.wnd <= buffer_bytes + buffer_bytes // 8 + (2 << shift)
