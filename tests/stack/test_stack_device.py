"""What the device does and bears, and what that makes of connections."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.segment import ACK, SYN
from tcpstack.stack.stack import Stack
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import FULL_OFFLOAD, NO_OFFLOAD, Offload
from tests.scripted import IRS, ISS, PEER, START_NS, KnownIsn, Scripted

TSO6_ONLY = Offload(checksum=True, tso4=False, tso6=True)
QUEUE, LIMIT = 500_000, 4_000_000


def active(stack: Stack, version: int) -> Connection:
    return stack.connect(PEER[version], 80, START_NS)


def passive(stack: Stack, version: int) -> Connection:
    listener = stack.listen(80)
    peer = Scripted(version=version)
    for segment in (peer.segment(SYN, IRS), peer.segment(ACK, IRS + 1, ISS + 1)):
        stack.on_packets([encode(segment)], START_NS)
    connection = listener.accept()
    assert connection is not None
    return connection


@pytest.mark.parametrize("make", [active, passive])
@pytest.mark.parametrize(
    ("offload", "version", "queue_bytes", "limit"),
    [
        (NO_OFFLOAD, 4, None, LIMIT),
        (NO_OFFLOAD, 4, QUEUE, QUEUE),
        (NO_OFFLOAD, 6, 2 * LIMIT, LIMIT),
        (FULL_OFFLOAD, 4, QUEUE, LIMIT),
        (TSO6_ONLY, 4, QUEUE, QUEUE),
        (TSO6_ONLY, 6, QUEUE, LIMIT),
    ],
)
def test_queue_of_the_device_bounds_the_receive_buffer_but_where_superpackets_come(
    make: Callable[[Stack, int], Connection], offload: Offload, version: int, queue_bytes: int | None, limit: int
) -> None:
    stack = Stack(("10.0.0.1/24", "fd00::1/64"), config=Config(receive_buffer_max_bytes=LIMIT))
    stack.isn = KnownIsn(ISS)
    stack.offload, stack.queue_bytes = offload, queue_bytes
    assert make(stack, version)._receiver.limit_bytes == limit
