"""A host that speaks to itself: one tracer hears both ends, and the ladder draws the conversation once."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tcpstack.core.config import SECOND_NS
from tcpstack.observe import KnownPeers, Ladder
from tcpstack.stack.stack import Stack

T = 5 * SECOND_NS


def drawn(converse: Callable[[Stack, Callable[[], None]], object], ladder: Ladder | None = None) -> str:
    """What a ladder shows of `converse`, which gets a stack and what lets all happen that is due."""
    ladder = ladder or Ladder(us="a", peer="b", known=KnownPeers())
    stack = Stack(("10.0.0.1/24",), random=Random(7), tracer=ladder)

    def settle() -> None:
        while stack.deadline_ns == 0:
            stack.on_timer(T)

    converse(stack, settle)
    return ladder.render()


def request(stack: Stack, settle: Callable[[], None], remote: str = "127.0.0.1") -> None:
    listener = stack.listen(80)
    client = stack.connect(remote, 80, T, lport=4_000)
    settle()
    server = listener.accept()
    assert server is not None
    stack.send(client, b"GET /\n", T)
    settle()
    stack.shutdown(client, T)
    settle()
    stack.shutdown(server, T)
    settle()


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.0.0.9", "10.0.0.1"])
def test_conversation_is_drawn_once_as_its_opener_sees_it(remote: str) -> None:
    text = drawn(lambda stack, settle: request(stack, settle, remote))
    assert text.count("conversation 1 ─") == 1
    assert "conversation 2" not in text
    arrows = [line.split(maxsplit=1)[1] for line in text.splitlines() if "───" in line and "conversation" not in line]
    assert [line.rstrip("> ") for line in arrows][:3] == [
        "SYN-SENT                   ─── SYN seq 0 win 65535 ──────────────────────────> LISTEN → SYN-RECEIVED",
        "SYN-SENT → ESTABLISHED     <── SYN,ACK seq 0 ack 1 win 65535 ───────────────── SYN-RECEIVED",
        "ESTABLISHED                ─── ACK seq 1 ack 1 win 262144 ───────────────────> SYN-RECEIVED → ESTABLISHED",
    ]
    assert "FIN-WAIT-2 → TIME-WAIT     <── FIN,ACK" in text
    assert f"a {remote}:80" in text
    assert "~" not in text  # nothing is inferred


def test_only_one_of_the_ends_can_be_asked_for() -> None:
    loopback = bytes((127, 0, 0, 1))
    server = Ladder(us="a", only=(loopback, 80, loopback, 4_000))
    text = drawn(request, server)
    assert "<── SYN seq 0" in text
    assert "─── SYN,ACK seq 0 ack 1" in text
    assert drawn(request, Ladder(us="a", only=(loopback, 80, loopback, 4_001))) == ""


def test_connection_with_itself_has_each_segment_leave_and_arrive() -> None:
    text = drawn(lambda stack, settle: (stack.connect("127.0.0.1", 999, T, lport=999), settle()))
    assert "SYN-SENT                   ─── SYN seq 0" in text
    assert "SYN-SENT → SYN-RECEIVED    <── SYN seq 0" in text
    assert "SYN-RECEIVED → ESTABLISHED <── SYN,ACK seq 0 ack 1" in text
    assert "conversation 2" not in text


def test_port_where_nobody_listens_is_one_conversation_too() -> None:
    text = drawn(lambda stack, settle: (stack.connect("127.0.0.1", 81, T), settle()))
    assert "SYN-SENT → CLOSED          <── RST,ACK seq 0 ack 1" in text
    assert "conversation 2" not in text
