"""Every state x every combination of SYN, RST, FIN, ACK and text x sequence edges x acknowledgement edges.

What ought to happen comes from letter.py, which departs from RFC 9293 3.10.7 only under the names of DEPARTURES; each
of those must come up.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tcpstack.core import events
from tcpstack.core import state as st
from tcpstack.core.readiness import CONNECTED, EOF, READABLE, URGENT
from tcpstack.core.segment import Buffer
from tests.core.letter import DEPARTURES, MOD, Arrival, Outcome, Tcb, letter
from tests.core.matrix import cases
from tests.core.state_bench import LISTENING, MAKERS, Bench
from tests.scripted import MS, SECOND, START_NS

CHALLENGE_NS = 500 * MS

VARIANTS = {
    "v4": (4, 1_000_000, 3_000_000),
    "v6": (6, 1_000_000, 3_000_000),
    "v4-wrap": (4, MOD - 6, MOD - 4),  # both spaces wrap within what is outstanding, or within the window
    "v6-wrap": (6, MOD - 1, MOD - 1),
}


def fresh(bench: Bench, make: Callable[[Bench], Tcb]) -> Tcb:
    """A connection of its own in the wanted state, nothing left to say."""
    bench.sport += 1
    bench.connection = None
    tcb = make(bench)
    assert bench.state == tcb.state
    bench.sent.clear()
    bench.told = 0
    bench.traced.clear()
    for name in ("iss", "una", "nxt", "irs", "rcv_nxt"):
        setattr(tcb, name, getattr(tcb, name) % MOD)
    return tcb


def observe(bench: Bench, seg: Arrival, tcb: Tcb) -> Outcome:
    """What the engine makes of it."""
    stack, flow = bench.stack, bench.flow
    before = bench.state
    entry = stack._time_waits.get(flow)
    held = 0 if bench.connection is None else bench.connection.readable_bytes
    if entry is not None:
        entry.expires_ns -= SECOND  # so that a restart shows
        stack._time_waits.update(entry)
    bench.hear(seg.seq, seg.ack, seg.flags, seg.text)
    out = Outcome(bench.state, [(s.flags, s.seq, s.ack) for s in bench.sent])
    connection = bench.connection
    if connection is None and before == st.SYN_RECEIVED and bench.listener.queue:
        connection = bench.listener.accept()
        assert connection is not None
        # It was told of nothing, having had no user: what it would have been told can be read off.
        bench.told = CONNECTED
        bench.told |= READABLE if connection.readable_bytes else 0
        bench.told |= EOF if connection.eof_received else 0
        bench.told |= URGENT if connection.urgent_bytes else 0
    if connection is not None:
        chunks: list[Buffer] = []
        while more := connection.receive(1 << 30, START_NS):  # urgent text comes by itself
            chunks += more
        out.text = b"".join(chunks)[held:]
        out.error = type(connection.error) if connection.error else None
    out.told = bench.told
    found = stack._time_waits.get(flow)
    out.restarts = entry is not None and found is not None and found.expires_ns == START_NS + 60 * SECOND
    check_events(bench, before)
    return out


def check_events(bench: Bench, before: int) -> None:
    """The trace tells the same story: each move is in the table, and together they lead from SegmentIn to SegmentIn."""
    moves = [e for e in bench.traced if isinstance(e, events.StateChange)]
    [seen] = [e for e in bench.traced if isinstance(e, events.SegmentIn)]
    # From TIME-WAIT a newer SYN leads to CLOSED, and is then the listener's.
    newer = bool(moves) and moves[0].cause == st.RCV_NEWER_SYN
    assert seen.before == (st.LISTEN if newer else before)
    path = [(m.before, m.after) for m in moves if m.cause != st.RCV_NEWER_SYN]
    for move in moves:
        assert st.TRANSITIONS[move.before, move.cause] == move.after
    for (_, after), (then, _) in pairwise(path):
        assert after == then
    if path:
        assert path[-1][1] == seen.after
    # An active open that ends in CLOSED and a record that is gone look alike to `Bench.state` on a listening port.
    assert seen.after in (bench.state, st.CLOSED)


def differences(expected: Outcome, found: Outcome) -> list[str]:
    names = ("state", "answers", "text", "told", "error", "restarts")
    return [
        f"{name}: the letter says {getattr(expected, name)!r}, the engine {getattr(found, name)!r}"
        for name in names
        if getattr(expected, name) != getattr(found, name)
    ]


@pytest.mark.rfc9293("MUST-66", "MAY-12")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("state", MAKERS)
def test_each_state_each_segment_does_what_the_letter_says(state: str, variant: str) -> None:
    make, (version, iss, irs) = MAKERS[state], VARIANTS[variant]
    bench = Bench(version, iss, irs)
    wrong: list[str] = []
    count = 0
    for case in cases(fresh(bench, make)):
        tcb = fresh(bench, make)
        seg = case.at(tcb)
        found = observe(bench, seg, tcb)
        expected = letter(tcb, seg)
        if found.state == st.LISTEN and expected.state == st.CLOSED and bench.lport == LISTENING:
            found.state = st.CLOSED  # the port is the listener's again
        if different := differences(expected, found):
            wrong.append(f"{state}: {case} ({seg}): {'; '.join(different)}")
        count += 1
    assert not wrong, f"{len(wrong)} of {count} cases:\n" + "\n".join(wrong[:20])
    assert count > 900


@pytest.mark.rfc9293("3.10.7.4-seq-unacceptable", "3.10.7.4-rst-challenge", "3.10.7.4-syn-challenge")
@pytest.mark.parametrize("variant", ["v4", "v6-wrap"])
@pytest.mark.parametrize("state", MAKERS)
def test_each_connection_is_challenged_once_in_500_ms_and_no_other_connection_counts(state: str, variant: str) -> None:
    make, (version, iss, irs) = MAKERS[state], VARIANTS[variant]
    bench = Bench(version, iss, irs)
    wrong: list[str] = []
    template = fresh(bench, make)
    for case in cases(template):
        seg, tcb = case.at(template), Tcb(**vars(template))
        expected = letter(tcb, seg)
        if not expected.answers or (tcb, expected.state) != (template, tcb.state):
            continue  # it would be another connection the second time
        fresh(bench, make)
        always = expected.answers
        limited = [] if expected.limited else always
        found = [repeated(bench, seg, after_ns) for after_ns in (0, 0, CHALLENGE_NS - 1, CHALLENGE_NS)]
        if found != [always, limited, limited, always]:
            wrong.append(f"{state}: {case} ({seg}): {always} limited={expected.limited}, but {found}")
    assert not wrong, f"{len(wrong)} cases:\n" + "\n".join(wrong[:20])


def repeated(bench: Bench, seg: Arrival, after_ns: int) -> list[tuple[int, int, int]]:
    """What the segment is answered with at that time."""
    bench.sent.clear()
    bench.arrive(seg.seq, seg.ack, seg.flags, seg.text, START_NS + after_ns)
    return [(s.flags, s.seq, s.ack) for s in bench.sent]


def test_each_departure_from_the_letter_comes_up_and_is_explained() -> None:
    met: set[str] = set()
    for make in MAKERS.values():
        bench = Bench(4, 1_000_000, 3_000_000)
        template = fresh(bench, make)
        for case in cases(template):
            met |= letter(Tcb(**vars(template)), case.at(template)).departures
    assert met == set(DEPARTURES)
