"""What cannot be is found before anything of a script runs, with its line: on the engine and for Linux."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpstack.drill.engine import Engine
from tcpstack.drill.grammar import parse
from tcpstack.drill.preflight import KernelChecks, check
from tcpstack.drill.run import PASSED, UNSUPPORTED, Result
from tcpstack.drill.script import KERNEL, ScriptError
from tcpstack.drill.settings import Settings

Drill = Callable[..., Result]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be run."""

    def refuse(*_: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(Engine, "start_call", refuse)
    monkeypatch.setattr(Engine, "run_command", refuse)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("+0 `iptables -F`\n", "no command is run on the engine but sysctl; --kernel runs it"),
        ("+0 `sysctl -q net.ipv4.tcp_ecn=1`\n", "the engine is as with tcp_ecn=0"),
        ("+0 splice(4, NULL, 5, NULL, 10, 0) = 10\n", "splice() is not supported; supported are accept,"),
        ('+0 open("/dev/zero", O_RDONLY) = 5\n', "open() is not there on the engine"),
        ("+0 sendto(4, ..., 10, MSG_FASTOPEN, ..., ...) = 10\n", "TCP Fast Open is not there on the engine"),
        (
            "+0 sendmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags=0}, MSG_FASTOPEN) = 10\n",
            "sendmsg() with MSG_FASTOPEN is not supported: sendto() is",
        ),
        ("+0 write(4, NULL, 10) = -1 EFAULT\n", "a null pointer for the text is not there on the engine"),
        (
            "+0 epoll_create(1) = 5\n+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN|EPOLLET, fd=4}) = 0\n",
            "epoll with EPOLLET is not there on the engine",
        ),
        (
            "+0 epoll_create(1) = 5\n+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN, fd=4}) = 0\n"
            "+0 epoll_ctl(5, EPOLL_CTL_ADD, 3, {events=EPOLLIN, fd=3}) = 0\n",
            "an epoll of several descriptors is not there on the engine",
        ),
        (
            "+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags=0}, MSG_PEEK) = 0\n",
            "recvmsg() with MSG_PEEK is not there on the engine",
        ),
        ("+0 setsockopt(4, SOL_TCP, TCP_DEFER_ACCEPT, [1], 4) = 0\n", "setsockopt(TCP_DEFER_ACCEPT)"),
        ("+0 setsockopt(4, SOL_IP, IP_MTU_DISCOVER, [1], 4) = 0\n", "setsockopt(IP_MTU_DISCOVER)"),
        ("+0 setsockopt(4, SOL_SOCKET, SO_BROADCAST, [1], 4) = 0\n", "setsockopt(SO_BROADCAST)"),
        ("+0 setsockopt(4, SOL_SOCKET, SO_RCVBUF, [1], 4) = 0\n", "before listen() or connect() only"),
        ("+0 setsockopt(3, SOL_SOCKET, SO_RCVBUF, [1], 4) = 0\n", "before listen() or connect() only"),
        ("+0 getsockopt(4, SOL_SOCKET, SO_TYPE, [1], [4]) = 0\n", "getsockopt(SO_TYPE) is not there on the engine"),
        ("+0 recv(4, ..., 10, MSG_PEEK) = 0\n", "recv() with MSG_PEEK is not there on the engine"),
        ("+0 send(4, ..., 10, MSG_MORE | MSG_OOB) = 10\n", "send() with MSG_OOB is not there"),
        ("+0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 5\n", "only TCP sockets are supported"),
        ("+0 %{ assert tcpi_lost == 0 }%\n", "this side does not tell tcpi_lost; it tells tcpi_"),
        ("+0 %{ if 0: assert tcpi_lost }%\n", "this side does not tell tcpi_lost"),
        ("+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 5\n+0 %{ print(1) }%\n", "has no connection yet"),
    ],
)  # fmt: skip
def test_what_the_engine_lacks(drill: Drill, text: str, why: str) -> None:
    result = drill(text)

    assert result.verdict == UNSUPPORTED
    lines = text.splitlines()
    last = len(lines) - 1 if lines[-1].startswith("+") else 0
    assert f"script.pkt:{9 + last}: " in result.message
    assert why in result.message


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("+0 writev(4, ..., 1) = 10\n", "a list [{..., 1000}] is wanted"),
        ("+0 writev(4, [{..., 1, 2}], 1) = 10\n", "a part of a text is {..., SIZE}"),
        ("+0 writev(4, [{..., 67108864}, {..., 1}], 2) = 1\n", "a text has at most 67108864 octets, not 67108865"),
        ("+0 sendmsg(4, 5, 0) = 10\n", "a structure {msg_name(...)="),
        ("+0 epoll_wait(5, {events=EPOLLIN, nosuch=4}, 1, 0) = 1\n", "it has no nosuch"),
        ("+0 epoll_create(1) = 4\n", "4 is open already"),
        ("+0 read(4, 10) = 10\n", "read() takes 3 arguments, and has 2"),
        ("+0 listen(3, ...) = 0\n", "a number is wanted"),
        ("+0 read(4, ..., -1) = 10\n", "a text has 0 to 67108864 octets, not -1"),
        ("+0 bind(3, {sa_family=AF_INET, sin_port=htons(65536)}, ...) = 0\n", "a port is 0 to 65535, not 65536"),
        ('+0 poll([{fd=4, events=POLLIN, revents="x"}], 1, 0) = 1\n', "a number is wanted"),
        ('+0 close(4) = "x"\n', "close() returns a number"),
        ("+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 4\n", "4 is open already"),
        ("+0 %{ import os }%\n", "Import in line 1 of the snippet"),
        ("+0 %{ while True: pass }%\n", "While in line 1 of the snippet"),
        ("+0 %{ if 0: x = lambda: 1 }%\n", "snippets know assert"),
        ("+0 %{ print(1, sep='') }%\n", "snippets know assert"),
        ("+0 %{ assert tcpi_snd_cwmd }%\n", "there is no tcpi_snd_cwmd here: do you mean tcpi_snd_cwnd?"),
        ("+0 %{ assert nosuch }%\n", "there is no nosuch here"),
    ],
)
def test_mistakes(drill: Drill, text: str, why: str) -> None:
    with pytest.raises(ScriptError) as caught:
        drill(text)

    assert "script.pkt:9: " in str(caught.value)
    assert why in str(caught.value)


def test_what_is_in_order_passes(drill: Drill) -> None:
    text = (
        "+0 %{ x = tcpi_snd_cwnd }%\n+0 %{ assert x == 10 }%\n"
        "+0 setsockopt(4, SOL_TCP, TCP_CONGESTION, \"reno\", 4) = 0\n"
        "+0 close(4) = 0\n+0 > F. 1:1(0) ack 1\n"
        "+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 4\n"
        "+0 setsockopt(4, SOL_SOCKET, SO_RCVBUF, [4000], 4) = 0\n"
        "+0 getsockopt(4, SOL_TCP, TCP_MAXSEG, [536], [4]) = 0\n"
    )

    result = drill(text)

    assert result.verdict == PASSED, result.message


def test_linux_has_it_all_but_mistakes_are_mistakes() -> None:
    def checked(text: str) -> None:
        check(parse(text, "x.pkt", KERNEL), Settings(), KernelChecks())

    checked("0 `reboot`\n0 recv(4, ..., 10, MSG_PEEK) = 0\n0 %{ assert tcpi_lost == 0 }%\n")
    with pytest.raises(ScriptError, match="there is no tcpi_nosuch here"):
        checked("0 %{ assert tcpi_nosuch }%\n")
