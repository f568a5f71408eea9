"""Keep-alives (RFC 9293 3.8.4): when a silent peer is asked whether it is there, and what its silence comes to."""

from __future__ import annotations

import errno
from itertools import cycle

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.events import ConnectionClosed
from tcpstack.core.keepalive import KeepAliveSettings
from tcpstack.core.readiness import CLOSED, RESET
from tcpstack.core.segment import ACK, FIN, RST, SYN, Segment
from tcpstack.core.timers import NEVER
from tests.network import Network, sent_by
from tests.scripted import IRS, ISS, MS, SECOND, Scripted, shape

IDLE, INTERVAL, PROBES = 100 * SECOND, 10 * SECOND, 3
HOUR = 3600 * SECOND
ON = Config(keepalive=True, keepalive_idle_ns=IDLE, keepalive_interval_ns=INTERVAL, keepalive_probes=PROBES)
PROBE = (ACK, ISS, IRS + 1, 0)
"""Of a connection on which nothing was said: SND.NXT is ISS+1."""


def switch(host: Scripted, connection: Connection, *, on: bool) -> None:
    host.stack.set_keepalive(connection, connection.keepalive._replace(on=on), host.now_ns)


def answer(host: Scripted) -> Segment:
    return host.segment(ACK, IRS + 1, ISS + 1)


def times(host: Scripted, since_ns: int) -> list[int]:
    """When what was sent left, in seconds."""
    return [(sent.time_ns - since_ns) // SECOND for sent in host.sent]


# ------------------------------------------------------------------ the probe


@pytest.mark.rfc9293("SHLD-12", "MAY-5")
@pytest.mark.parametrize("version", [4, 6])
def test_established_silent_for_the_interval_sends_an_old_number_without_text(version: int) -> None:
    host = Scripted(config=ON, version=version)
    host.established()
    assert host.wait(IDLE - 1) == []
    [probe] = host.wait(1)
    assert shape(probe) == PROBE
    assert host.sent[-1].reason == "keep-alive probe: nothing heard for 1 min 40 s"


@pytest.mark.rfc9293("MUST-25", "MUST-28")
def test_established_by_default_is_silent_for_ever_and_switched_on_for_two_hours() -> None:
    host = Scripted()
    connection = host.established()
    assert host.wait(1000 * HOUR) == []
    assert host.stack.deadline_ns is None
    switch(host, connection, on=True)
    assert host.wait(2 * HOUR - 1) == []
    assert [shape(s) for s in host.wait(1)] == [PROBE]
    assert host.sent[-1].reason == "keep-alive probe: nothing heard for 2 h"


@pytest.mark.rfc9293("MUST-24")
def test_established_each_connection_is_switched_on_and_off_by_itself() -> None:
    host = Scripted(config=ON)
    first = host.established()
    switch(host, first, on=False)
    host.port += 1
    second = host.established()
    assert host.stack.connections == (first, second)
    assert {probe.sport for probe in host.wait(IDLE)} == {host.port}
    switch(host, second, on=False)
    assert host.wait(HOUR) == []
    switch(host, first, on=True)
    assert [probe.sport for probe in host.wait(IDLE)] == [host.port - 1]


@pytest.mark.rfc9293("MUST-27")
def test_established_a_new_interval_counts_from_the_last_arrival() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    host.wait(40 * SECOND)
    host.stack.set_keepalive(connection, connection.keepalive._replace(idle_ns=50 * SECOND), host.now_ns)
    assert host.wait(10 * SECOND - 1) == []
    assert [shape(s) for s in host.wait(1)] == [PROBE]
    host.hear(answer(host))
    host.wait(40 * SECOND)
    host.stack.set_keepalive(connection, connection.keepalive._replace(idle_ns=20 * SECOND), host.now_ns)
    assert [shape(s) for s in host.wait(0)] == [PROBE], "it is overdue"


def test_established_switched_on_late_counts_from_then() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    switch(host, connection, on=False)
    host.wait(HOUR)
    switch(host, connection, on=True)
    assert host.wait(IDLE - 1) == []
    assert len(host.wait(1)) == 1


def test_syn_sent_switched_on_or_off_stays_so_when_established() -> None:
    for on in (True, False):
        host = Scripted(config=Config(keepalive=not on))
        connection = host.connect()
        switch(host, connection, on=on)
        host.hear(host.segment(SYN | ACK, IRS, ISS + 1))
        host.sent.clear()
        assert len(host.wait(2 * HOUR)) == int(on)


def test_syn_sent_waits_for_its_syn_and_sends_no_probe() -> None:
    host = Scripted(config=Config(keepalive=True, keepalive_idle_ns=1 * SECOND))
    host.connect()
    host.wait(100 * SECOND)
    assert {sent.segment.flags for sent in host.sent} == {SYN}


def test_listener_s_config_is_its_connections_and_changes_for_those_to_come() -> None:
    host = Scripted()
    listener = host.listen(config=ON)
    settings = (True, IDLE, INTERVAL, PROBES)
    for port in (1, 2):
        host.hear(host.segment(SYN, IRS, sport=port))
        host.hear(host.segment(ACK, IRS + 1, ISS + 1, sport=port))
        connection = listener.accept()
        assert connection is not None
        assert connection.keepalive == settings
        settings = (True, 7 * SECOND, 8 * SECOND, 9)
        listener.keepalive = KeepAliveSettings(*settings)
    host.sent.clear()
    host.wait(7 * SECOND)
    assert [sent.segment.dport for sent in host.sent] == [2]
    assert host.sent[0].reason == "keep-alive probe: nothing heard for 7 s"


# ------------------------------------------------------------------ when there is none


@pytest.mark.rfc9293("MUST-26")
def test_established_whatever_arrives_starts_the_interval_anew() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    arrivals = (
        host.segment(ACK, IRS + 1, ISS + 1, text=b"text"),  # by header prediction
        host.segment(ACK, IRS + 5, ISS + 1),
        host.segment(ACK, IRS + 1, ISS + 1, text=b"text"),  # old
        host.segment(ACK, IRS + 4, ISS + 1),  # a keep-alive of the peer's
        host.segment(ACK, IRS + 9, ISS + 1, text=b"above a gap"),
    )
    for segment in arrivals:
        host.wait(IDLE - 1)
        host.hear(segment)
        host.wait(SECOND)
    host.sent.clear()
    assert host.wait(IDLE - SECOND - 1) == []
    assert len(host.wait(1)) == 1
    assert connection.state == st.ESTABLISHED


@pytest.mark.rfc9293("MUST-26")
def test_established_while_text_is_outstanding_only_the_text_goes_again() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    host.send(connection, b"unanswered")
    host.wait(2 * IDLE)
    assert {shape(sent.segment)[1:] for sent in host.sent} == {(ISS + 1, IRS + 1, 10)}
    host.hear(host.segment(ACK, IRS + 1, ISS + 11))
    assert host.wait(IDLE - 1) == []
    assert [shape(s) for s in host.wait(1)] == [(ACK, ISS + 10, IRS + 1, 0)]


@pytest.mark.rfc9293("MUST-26")
@pytest.mark.parametrize("held", ["text", "FIN"])
def test_what_a_closed_window_holds_back_is_probed_for_its_own_sake(held: str) -> None:
    host = Scripted(config=Config(keepalive=True, keepalive_idle_ns=200 * MS, keepalive_interval_ns=200 * MS))
    connection = host.established(wnd=0)
    if held == "text":
        host.send(connection, b"held back")
    else:
        host.stack.shutdown(connection, host.now_ns)
    for _ in range(20):
        if host.wait(SECOND):
            host.hear(host.segment(ACK, IRS + 1, ISS + 1, wnd=0))
    assert {sent.reason for sent in host.sent} == {"zero-window probe"}


@pytest.mark.rfc9293("MUST-26")
def test_fin_wait_1_fin_unanswered_has_no_keepalives_and_r2() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    host.stack.shutdown(connection, host.now_ns)
    host.wait(HOUR)
    assert {shape(sent.segment) for sent in host.sent} == {(FIN | ACK, ISS + 1, IRS + 1, 0)}
    assert host.changes[-1] == (st.FIN_WAIT_1, st.USER_TIMEOUT, st.CLOSED)


@pytest.mark.parametrize("first", ["released", "fin acknowledged"])
def test_fin_wait_2_orphan_has_its_limit_and_no_keepalives(first: str) -> None:
    host = Scripted(config=Config(keepalive=True, keepalive_idle_ns=SECOND, keepalive_interval_ns=SECOND))
    connection = host.established()
    if first == "fin acknowledged":
        host.stack.shutdown(connection, host.now_ns)
        host.hear(host.segment(ACK, IRS + 1, ISS + 2))
    host.stack.close(connection, host.now_ns)
    if first == "released":
        host.hear(host.segment(ACK, IRS + 1, ISS + 2))
    host.sent.clear()
    switch(host, connection, on=True)
    assert host.wait(60 * SECOND - 1) == []
    assert connection.state == st.FIN_WAIT_2
    assert host.wait(1) == []
    assert host.changes[-1] == (st.FIN_WAIT_2, st.ORPHAN_TIMEOUT, st.CLOSED)
    assert host.stack.connections == ()


def test_connection_that_has_ended_cannot_be_switched_on_any_more() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    host.hear(host.segment(RST, IRS + 1))
    switch(host, connection, on=True)
    assert connection.deadline_ns == NEVER
    assert host.wait(HOUR) == []


# ------------------------------------------------------------------ answers and silence


@pytest.mark.rfc9293("MUST-29")
def test_established_probes_lost_but_the_last_keep_the_connection_and_count_anew() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    begin_ns = host.now_ns
    for _ in range(3):
        host.wait(IDLE + 2 * INTERVAL)
        host.wait(INTERVAL - 1)
        host.hear(answer(host))
    assert connection.state == st.ESTABLISHED
    assert times(host, begin_ns) == [100, 110, 120, 229, 239, 249, 359, 369, 379]
    assert [sent.reason for sent in host.sent[:3]] == [
        "keep-alive probe: nothing heard for 1 min 40 s",
        "keep-alive probe 2 of 3: nothing heard for 1 min 50 s",
        "keep-alive probe 3 of 3: nothing heard for 2 min",
    ]
    assert host.sent[3].reason == "keep-alive probe: nothing heard for 1 min 40 s"


def test_established_interval_longer_than_the_idle_time_an_answer_counts_all_the_same() -> None:
    config = Config(keepalive=True, keepalive_idle_ns=SECOND, keepalive_interval_ns=INTERVAL, keepalive_probes=2)
    host = Scripted(config=config)
    connection = host.established()
    for _ in range(10):
        host.wait(INTERVAL)
        host.hear(answer(host))
    assert connection.state == st.ESTABLISHED
    assert not [sent.reason for sent in host.sent if " of " in sent.reason]


@pytest.mark.rfc9293("MUST-29", "MAY-5")
@pytest.mark.parametrize("state", [st.ESTABLISHED, st.CLOSE_WAIT, st.FIN_WAIT_2])
def test_each_probe_unanswered_times_the_connection_out_and_resets_the_peer(state: int) -> None:
    host = Scripted(config=ON)
    connection = host.established()
    seq, ack = ISS + 1, IRS + 1
    if state == st.CLOSE_WAIT:
        host.hear(host.segment(FIN | ACK, IRS + 1, ISS + 1))
        ack += 1
    elif state == st.FIN_WAIT_2:
        host.stack.shutdown(connection, host.now_ns)
        host.hear(host.segment(ACK, IRS + 1, ISS + 2))
        seq += 1
    host.sent.clear()
    host.told.clear()
    begin_ns = host.now_ns

    host.wait(IDLE + PROBES * INTERVAL - 1)
    assert [shape(sent.segment) for sent in host.sent] == [(ACK, seq - 1, ack, 0)] * PROBES
    assert connection.state == state
    assert [shape(s) for s in host.wait(1)] == [(RST, seq, 0, 0)]

    assert times(host, begin_ns) == [100, 110, 120, 130]
    assert host.changes[-1] == (state, st.KEEPALIVE_TIMEOUT, st.CLOSED)
    assert isinstance(connection.error, TimeoutError)
    assert connection.error.errno == errno.ETIMEDOUT
    assert host.masks(connection) == RESET | CLOSED
    [end] = [event for event in host.events if isinstance(event, ConnectionClosed)]
    assert end.error is connection.error
    assert host.stack.connections == ()
    assert host.wait(HOUR) == []
    assert host.stack.deadline_ns is None


def test_established_peer_that_has_forgotten_the_connection_resets_it() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    host.wait(IDLE)
    host.hear(host.segment(RST, IRS + 1))
    assert isinstance(connection.error, ConnectionResetError)
    assert host.wait(HOUR) == []


def test_established_text_sent_while_probes_go_unanswered_is_the_retransmission_timer_s() -> None:
    host = Scripted(config=ON)
    connection = host.established()
    host.wait(IDLE + 2 * INTERVAL)
    assert len(host.sent) == 3
    host.sent.clear()
    host.send(connection, b"text")
    host.wait(299 * SECOND)
    assert connection.state == st.ESTABLISHED
    assert {sent.segment.payload_len for sent in host.sent} == {4}
    host.wait(SECOND)
    assert host.changes[-1] == (st.ESTABLISHED, st.USER_TIMEOUT, st.CLOSED)


# ------------------------------------------------------------------ two hosts


@pytest.mark.rfc9293("MAY-5", "MUST-29")
def test_network_one_end_asks_and_hears_for_days_though_each_second_probe_is_lost() -> None:
    net = Network(config=ON, delay_ns=30 * MS)
    client, server = net.pair()
    server.connection.set_keepalive(Config().keepalive_settings, net.now_ns)
    lost = cycle((True, False))
    net.drop(sent_by(net.a, lambda probe: next(lost)))
    net.run(for_ns=48 * HOUR)
    assert (client.connection.state, server.connection.state) == (st.ESTABLISHED, st.ESTABLISHED)
    asked = [c for c in net.sent(net.a) if c.reason.startswith("keep-alive probe")]
    assert len(asked) // 2 == 48 * HOUR // (IDLE + INTERVAL + 60 * MS)
    assert not [c for c in net.sent(net.b) if c.reason.startswith("keep-alive probe")]


def test_network_both_ends_ask_the_probe_of_one_is_news_to_the_other() -> None:
    net = Network(config=ON, delay_ns=30 * MS)
    client, server = net.pair()
    net.run(for_ns=HOUR)
    assert (client.connection.state, server.connection.state) == (st.ESTABLISHED, st.ESTABLISHED)
    asked = [c for stack in (net.a, net.b) for c in net.sent(stack) if c.reason.startswith("keep-alive probe")]
    assert 30 <= len(asked) <= 2 * HOUR // IDLE


def test_network_cut_both_ends_give_up_by_themselves() -> None:
    net = Network(config=ON)
    client, server = net.pair()
    net.drop()
    net.run()
    for app in (client, server):
        assert isinstance(app.connection.error, TimeoutError)
    assert net.stacks[0].connections == net.stacks[1].connections == ()
