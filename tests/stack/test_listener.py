"""A listening socket's queue."""

from __future__ import annotations

from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.stack.listener import Listener

HERE, THERE = bytes([10, 9, 0, 2]), bytes([10, 9, 0, 1])


def a_listener(backlog: int = 2) -> tuple[Listener, list[tuple[Listener, int]]]:
    closed: list[tuple[Listener, int]] = []
    return Listener(None, 80, backlog, Config(), lambda listener, now_ns: closed.append((listener, now_ns))), closed


def a_connection(port: int) -> Connection:
    return Connection((HERE, 80, THERE, port), Config(), 0, 1500)


def test_nobody_waits_at_first() -> None:
    listener, _ = a_listener()
    assert listener.accept() is None
    assert not listener.full
    assert (listener.records, listener.closed, listener.on_connection) == (0, False, None)


def test_who_waited_longest_is_accepted_first() -> None:
    listener, _ = a_listener()
    first, second = a_connection(1), a_connection(2)
    listener.queue += [first, second]
    assert (listener.accept(), listener.accept(), listener.accept()) == (first, second, None)


def test_full_is_when_the_backlog_waits() -> None:
    listener, _ = a_listener(backlog=2)
    listener.queue.append(a_connection(1))
    assert not listener.full
    listener.queue.append(a_connection(2))
    assert listener.full
    listener.accept()
    assert not listener.full


def test_backlog_of_nothing_still_takes_one() -> None:
    for backlog in (0, -5):
        listener, _ = a_listener(backlog)
        assert not listener.full
        listener.queue.append(a_connection(1))
        assert listener.full


def test_close_happens_once() -> None:
    listener, closed = a_listener()
    listener.close(7)
    listener.close(8)
    assert closed == [(listener, 7)]
    assert listener.closed
