"""Calls in parts, control messages and epoll: what a script says against what came."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tcpstack.drill.call_values import Names
from tcpstack.drill.calls import check, request_of
from tcpstack.drill.grammar import parse
from tcpstack.drill.run import FAILED, PASSED, Result
from tcpstack.drill.script import KERNEL, Call
from tcpstack.drill.settings import Settings
from tcpstack.drill.side import Control, Outcome

Drill = Callable[..., Result]
RECVMSG = "recvmsg(4, {{msg_name(...)=..., msg_iov(1)=[{{..., 9}}], msg_flags={}, msg_control=[{}]}}, 0) = 9"
INQ = "{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=9000}"
ZEROCOPY = (
    "{cmsg_level=CMSG_LEVEL_IP, cmsg_type=CMSG_TYPE_RECVERR, cmsg_data={ee_errno=0, ee_origin=SO_EE_ORIGIN_ZEROCOPY, "
    "ee_type=0, ee_code=SO_EE_CODE_ZEROCOPY_COPIED, ee_info=1, ee_data=2}}"
)


def call(text: str, *, version: int = 4) -> Call:
    action = parse(f"0 {text}\n", "script.pkt", KERNEL, version=version).events[0].action
    assert isinstance(action, Call)
    return action


def complaint(text: str, outcome: Outcome) -> str:
    return check(call(text), outcome)


def test_parts_of_a_text_are_said_one_by_one() -> None:
    asked: list[tuple[int, int]] = []

    def text(fd: int, size: int) -> bytes:
        asked.append((fd, size))
        return bytes(range(size))

    given = call('writev(4, [{..., 2}, {"abc", 4}, {..., 1}], 3) = 7')
    request = request_of(given, Names({4: 14}), Settings(), text)

    assert (request.name, request.arguments) == ("sendmsg", (14, ("0001", "61626300", "02"), 0))
    assert asked == [(14, 3)]


def test_a_read_of_nothing_does_not_wait_as_recv_does() -> None:
    names = [
        request_of(call(text), Names({4: 14}), Settings(), lambda fd, size: b"").name
        for text in ("read(4, ..., 0) = 0", "recv(4, ..., 0, 0) = 0", "read(4, ..., 1) = 0")
    ]

    assert names == ["readv", "recv", "recv"]


@pytest.mark.parametrize(
    ("wanted", "outcome", "why"),
    [
        (("0", INQ), Outcome(9, control=(Control(6, 36, struct.pack("=i", 9000)),)), ""),
        (("0", INQ), Outcome(9, control=(Control(6, 36, struct.pack("=i", 1)),)), "(level 6, type 36, data 1), not"),
        (("0", INQ), Outcome(9), "0 control messages came, not 1: none"),
        (("0", ""), Outcome(9, control=(Control(6, 36, b"\1\0\0\0"),)), "1 control messages came, not 0"),
        (("MSG_TRUNC", ""), Outcome(9), "msg_flags are 0x0, not 0x20"),
        (("0", ZEROCOPY), Outcome(9, control=(Control(0, 11, struct.pack("=IBBBBII", 0, 5, 0, 1, 0, 1, 2)),)), ""),
        (
            ("0", ZEROCOPY),
            Outcome(9, control=(Control(0, 11, struct.pack("=IBBBBII", 0, 5, 0, 0, 0, 1, 2)),)),
            "ee_code=0, ee_info=1, ee_data=2})), not (level 0",
        ),
    ],
)
def test_control_messages(wanted: tuple[str, str], outcome: Outcome, why: str) -> None:
    found = complaint(RECVMSG.format(*wanted), outcome)

    assert found == why == "" or why.replace("))", ")") in found.replace("))", ")") != ""


def test_the_words_of_the_corpora_follow_the_version_of_ip() -> None:
    outcome = Outcome(9, control=(Control(41, 25, struct.pack("=IBBBBII", 0, 5, 0, 1, 0, 1, 2)),))

    assert check(call(RECVMSG.format(0, ZEROCOPY), version=6), outcome) == ""
    assert check(call(RECVMSG.format(0, ZEROCOPY), version=4), outcome) != ""


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [
        ("{events=EPOLLIN, fd=4}", (1, 4), ""),
        ("{events=EPOLLIN, fd=4}", (5, 4), "events are EPOLLIN | EPOLLOUT, not EPOLLIN"),
        ("{events=EPOLLIN, fd=4}", (1, 5), "the event's data is 5, not 4"),
        ("[{events=EPOLLIN, u32=9}]", (1, 9), ""),
        ("...", (1, 9), ""),
    ],
)
def test_events_that_epoll_found(wanted: str, found: tuple[int, ...], why: str) -> None:
    assert complaint(f"epoll_wait(7, {wanted}, 1, 0) = 1", Outcome(1, values=found)) == why


def test_an_epoll_that_finds_something_else_fails_the_drill(drill: Drill) -> None:
    watching = "+0 epoll_create(1) = 5\n+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLOUT, fd=4}) = 0\n"

    right = drill(watching + "+0 epoll_wait(5, {events=EPOLLOUT, fd=4}, 1, 0) = 1\n")
    wrong = drill(watching + "+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1\n")
    none = drill(watching + "+0 epoll_wait(5, {}, 1, 0) = 0\n")

    assert right.verdict == PASSED, right.message
    assert (wrong.verdict, none.verdict) == (FAILED, FAILED)
    assert "events are EPOLLOUT, not EPOLLIN" in wrong.message
    assert "epoll_wait() returned 1, not 0" in none.message


def test_a_snippet_is_about_the_latest_socket_and_not_about_an_epoll(drill: Drill) -> None:
    result = drill("+0 epoll_create(1) = 5\n+0 %{ assert tcpi_state == TCP_ESTABLISHED }%\n")

    assert result.verdict == PASSED, result.message


def test_a_text_in_parts_is_verified_where_it_is_sent_and_read(drill: Drill) -> None:
    result = drill(
        '+0 writev(4, [{..., 10}, {"end", 3}], 2) = 13\n+0 > P. 1:14(13) ack 1\n'
        "+.1 < P. 1:101(100) ack 14 win 1000\n"
        '+0 recvfrom(4, "not this", 10, 0, ..., ...) = 10\n'
    )

    assert result.verdict == FAILED
    assert "the text read is" in result.message
