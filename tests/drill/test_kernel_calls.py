"""The link to the process that makes a script's calls on the kernel."""

from __future__ import annotations

import socket

import pytest

from tcpstack.drill._kernel_calls import read, write


def test_message_crosses_whole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        write(theirs, {"info": True, "text": "x" * 100_000})
        assert read(ours) == {"info": True, "text": "x" * 100_000}


@pytest.mark.parametrize("unread", [b"", b"unread"])
def test_other_end_is_gone_whether_or_not_it_had_read_all(unread: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(unread)
        theirs.close()
        assert read(ours) is None
