"""Events carry their time and connection first, and cost no dictionary."""

from __future__ import annotations

import inspect

import pytest

from tcpstack.core import events
from tcpstack.core.segment import ACK, Segment

KINDS = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, events.Event)]
FLOW = (bytes(4), 1, bytes(4), 2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_starts_with_time_and_flow_and_has_slots(kind: type[events.Event]) -> None:
    names = list(inspect.signature(kind).parameters)
    assert names[:2] == ["time_ns", "flow"]
    event = kind(5, FLOW, *[None] * (len(names) - 2))
    assert (event.time_ns, event.flow) == (5, FLOW)
    assert not hasattr(event, "__dict__")


def test_equal_events_compare_equal_so_that_runs_can_be_compared() -> None:
    segment = Segment(bytes(4), 1, bytes(4), 2, 0, 0, ACK, 0)
    assert events.SegmentIn(5, FLOW, segment, 4, 4) == events.SegmentIn(5, FLOW, segment, 4, 4)
    assert events.StateChange(5, FLOW, 4, 7, "FIN arrives") != events.StateChange(5, FLOW, 4, 7, "RST arrives")
