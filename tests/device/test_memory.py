"""A joined pair: what one end sends the other receives, within the bounds of its queue."""

from __future__ import annotations

import pytest

from tcpstack.device.base import Device, DeviceError, next_packet_id
from tcpstack.device.memory import MemoryDevice, pair
from tcpstack.wire.packet import CHECKSUM_PARTIAL, Packet


def a_packet(octet: int = 0, **fields: int) -> Packet:
    return Packet((bytes([octet]) * 40,), **fields)


def drain(device: MemoryDevice, most: int = 100) -> list[bytes]:
    return [packet.data() for packet in device.receive(most, 0)]


def test_pair_is_two_devices_without_descriptor_or_deadline() -> None:
    devices: tuple[Device, Device] = pair(mtu=1280, name="link")
    assert [(d.name, d.mtu, d.fileno(), d.deadline_ns, d.on_ready) for d in devices] == [
        ("link-a", 1280, -1, None, None),
        ("link-b", 1280, -1, None, None),
    ]


def test_packets_arrive_at_the_other_end_in_order_and_only_there() -> None:
    a, b = pair()
    assert all(a.send(a_packet(n), 0) for n in range(3))
    assert drain(a) == []
    assert drain(b) == [bytes([n]) * 40 for n in range(3)]
    assert drain(b) == []
    assert b.send(a_packet(9), 0)
    assert drain(a) == [bytes([9]) * 40]


def test_receive_gives_at_most_what_was_asked_for() -> None:
    a, b = pair()
    for n in range(5):
        a.send(a_packet(n), 0)
    assert [len(b.receive(2, 0)) for _ in range(4)] == [2, 2, 1, 0]


def test_arriving_packet_is_one_buffer_that_later_changes_of_the_chunks_do_not_reach() -> None:
    a, b = pair()
    text = bytearray(b"before")
    a.send(Packet((b"header", memoryview(text)), CHECKSUM_PARTIAL, 1400, 33), 0)
    text[:] = b"after!"
    (packet,) = b.receive(1, 0)
    assert packet.buffers == (b"headerbefore",)
    assert (packet.checksum, packet.gso_size, packet.id) == (CHECKSUM_PARTIAL, 1400, 33)


def test_packet_without_number_gets_one_of_its_own() -> None:
    a, b = pair()
    a.send(a_packet(), 0)
    a.send(a_packet(), 0)
    first, second = b.receive(2, 0)
    assert 0 < first.id < second.id < next_packet_id()


def test_send_to_a_full_queue_drops_and_counts() -> None:
    a, b = pair(queue_packets=2)
    assert [a.send(a_packet(n), 0) for n in range(3)] == [True, True, False]
    assert a.dropped == {"queue_full": 1, "too_big": 0, "peer_closed": 0}
    assert drain(b) == [bytes([n]) * 40 for n in range(2)]
    assert a.send(a_packet(), 0)


def test_send_above_the_mtu_drops_and_counts_but_for_superpackets() -> None:
    a, b = pair(mtu=100)
    assert a.send(Packet((bytes(60), bytes(40))), 0)
    assert not a.send(Packet((bytes(60), bytes(41))), 0)
    assert a.dropped["too_big"] == 1
    assert a.send(Packet((bytes(3000),), gso_size=60), 0)
    assert len(b.receive(9, 0)) == 2


def test_on_ready_is_called_once_until_packets_are_received() -> None:
    a, b = pair()
    calls: list[int] = []
    b.on_ready = lambda: calls.append(1)
    a.send(a_packet(), 0)
    a.send(a_packet(), 0)
    assert len(calls) == 1
    b.receive(9, 0)
    a.send(a_packet(), 0)
    assert len(calls) == 2


def test_on_ready_is_called_again_where_receive_leaves_packets() -> None:
    a, b = pair()
    calls: list[int] = []
    b.on_ready = lambda: calls.append(1)
    for _ in range(3):
        a.send(a_packet(), 0)
    b.receive(2, 0)
    assert len(calls) == 2
    b.receive(2, 0)
    assert len(calls) == 2


def test_packets_sent_before_on_ready_was_set_are_announced_with_the_next() -> None:
    a, b = pair()
    a.send(a_packet(), 0)
    calls: list[int] = []
    b.on_ready = lambda: calls.append(1)
    a.send(a_packet(), 0)
    assert len(calls) == 1
    assert len(b.receive(9, 0)) == 2


def test_closed_end_raises_and_the_other_end_loses_what_it_sends() -> None:
    a, b = pair()
    a.send(a_packet(), 0)
    b.close()
    b.close()
    with pytest.raises(DeviceError, match="memory-b is closed"):
        b.receive(1, 0)
    with pytest.raises(DeviceError, match="memory-b is closed"):
        b.send(a_packet(), 0)
    assert not a.send(a_packet(), 0)
    assert a.dropped["peer_closed"] == 1


def test_pair_with_senseless_bounds_raises_value_error() -> None:
    with pytest.raises(ValueError, match="MTU below 68"):
        pair(mtu=67)
    with pytest.raises(ValueError, match="queue of 0"):
        pair(queue_packets=0)
