"""The kernel's conversation for the ladder: its states are inferred from all that it was seen to send."""

from __future__ import annotations

import pytest

from tcpstack.core.events import Event, SegmentIn, SegmentOut
from tcpstack.core.segment import ACK, RST, SYN, Segment
from tcpstack.core.state import CLOSED, LISTEN, SYN_RECEIVED
from tcpstack.drill.kernel_view import KernelView
from tcpstack.drill.side import Arrived
from tcpstack.wire.dpkt_codec import encode

US, THEM = (bytes((10, 0, 0, 1)), 80), (bytes((10, 0, 0, 2)), 4000)


@pytest.mark.parametrize(
    ("answer", "before", "after"), [(SYN | ACK, LISTEN, SYN_RECEIVED), (RST | ACK, CLOSED, CLOSED)]
)
def test_a_syn_finds_what_its_answer_shows(answer: int, before: int, after: int) -> None:
    events: list[Event] = []
    view = KernelView(events.append)
    asked = encode(Segment(*THEM, *US, 7, 0, SYN, 1000)).data()
    answered = Arrived(2, bytes(encode(Segment(*US, *THEM, 9, 8, answer, 1000)).data()))
    view.expect(answered)
    view.received(bytes(asked), 1)
    view.sent(answered)
    came, left = events
    assert isinstance(came, SegmentIn)
    assert (came.before, came.after) == (before, after)
    assert isinstance(left, SegmentOut)
    assert left.state == after
