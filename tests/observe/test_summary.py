"""The summary line of a connection, and one tracer out of several."""

from __future__ import annotations

import errno
import logging

from tcpstack.core.events import ConnectionClosed, Event
from tcpstack.core.state import ACTIVE_OPEN, CLOSED
from tcpstack.observe import Summary, fan_out, summary_line

FLOW = (bytes([10, 9, 0, 2]), 80, bytes([10, 9, 0, 1]), 41234)


def closed(**fields) -> ConnectionClosed:
    known = {"bytes_in": 78, "bytes_out": 1234, "retransmitted": 0, "opened_ns": 1_000_000_000, "error": None}
    return ConnectionClosed(1_003_140_000, FLOW, **known | fields)


def test_orderly_close():
    assert summary_line(closed()) == "10.9.0.1:41234 -> :80  in 78 B  out 1.2 kB  3.1 ms  closed"


def test_reset_with_retransmissions():
    line = summary_line(closed(retransmitted=3, error=ConnectionResetError(errno.ECONNRESET, "x")))
    assert line == "10.9.0.1:41234 -> :80  in 78 B  out 1.2 kB  3.1 ms  3 retransmitted  reset by peer"


def test_summary_writes_one_line_a_connection_with_the_arrow_from_the_opener(script):
    lines: list[str] = []
    summary = Summary(lines.append)
    opened = script(summary)
    opened.state = CLOSED
    opened.user(ACTIVE_OPEN)
    opened.closed()
    opened.closed()  # the same name, this time opened by the peer
    assert lines[0].startswith(":80 -> 10.9.0.1:41234  ")
    assert lines[1].startswith("10.9.0.1:41234 -> :80  ")


def test_fan_out_of_none_is_none():
    assert fan_out() is None
    assert fan_out(None, None) is None


def test_fan_out_of_one_is_that_one():
    seen: list[Event] = []
    tracer = seen.append
    assert fan_out(None, tracer) is tracer


def test_fan_out_passes_each_event_to_all_in_order():
    seen: list[tuple[str, Event]] = []
    tracer = fan_out(lambda event: seen.append(("a", event)), None, lambda event: seen.append(("b", event)))
    event = closed()
    tracer(event)
    assert seen == [("a", event), ("b", event)]


def test_fan_out_drops_the_one_that_raises_and_says_so(caplog):
    seen: list[Event] = []
    calls: list[Event] = []

    def failing(event: Event) -> None:
        calls.append(event)
        raise ZeroDivisionError

    tracer = fan_out(failing, seen.append)
    with caplog.at_level(logging.ERROR):
        tracer(closed())
        tracer(closed())
    assert len(calls) == 1
    assert len(seen) == 2
    assert "a tracer failed and is dropped" in caplog.text
