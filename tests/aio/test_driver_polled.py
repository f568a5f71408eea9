"""The driver over a device with a descriptor: how often it reads, and who divides and joins superpackets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tcpstack.aio.driver import BATCH_PACKETS, BATCHES_PER_TURN, MOST_UNLOOKED, Driver
from tcpstack.core.segment import ACK, Segment
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import FULL_OFFLOAD, NO_OFFLOAD, Offload, Packet
from tests.aio.driver_parts import ScriptedDevice, ScriptedStack
from tests.aio.recorder import eventually

CHECKSUMS_ONLY, TSO4_ONLY = Offload(checksum=True), Offload(checksum=True, tso4=True)


class PolledDevice(ScriptedDevice):
    """Its descriptor is readable while packets wait. `looks` has how many packets each call of receive asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[int] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._fd

    def arrive(self, count: int) -> None:
        self.waiting += [Packet((b"",)) for _ in range(count)]
        os.eventfd_write(self._fd, 1)

    def receive(self, max_packets: int, now_ns: int) -> Sequence[Packet]:
        self.looks.append(max_packets)
        batch, self.waiting = self.waiting[:max_packets], self.waiting[max_packets:]
        if batch and not self.waiting:
            os.eventfd_read(self._fd)
        return batch

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def polled() -> Iterator[PolledDevice]:
    device = PolledDevice()
    yield device
    device.close()


def started(device: ScriptedDevice, stack: ScriptedStack) -> Driver:
    driver = Driver(stack, device, asyncio.get_running_loop())  # type: ignore[arg-type]
    driver.start()
    return driver


async def one_by_one(device: PolledDevice, stack: ScriptedStack, count: int) -> None:
    """As many packets, each when the one before has been taken."""
    for _ in range(count):
        before = len(stack.batches)
        device.arrive(1)
        await eventually(lambda before=before: len(stack.batches) > before)


async def test_where_packets_come_singly_fewer_and_fewer_turns_look_for_more_until_one_finds_some(
    polled: PolledDevice,
) -> None:
    stack = ScriptedStack()
    driver = started(polled, stack)
    await one_by_one(polled, stack, 21)
    look = BATCH_PACKETS
    assert stack.batches == [1] * 21
    assert polled.looks == [look, 1, look, 1, 1, 1, look, *[1] * MOST_UNLOOKED, look, *[1] * 6]
    polled.looks.clear()
    polled.arrive(3)
    await eventually(lambda: not polled.waiting)
    await one_by_one(polled, stack, 3)
    driver.stop()
    assert polled.looks == [1, look, look, 1, look], "the first reads one, and the next finds the rest"


@pytest.mark.parametrize(("singles", "rest"), list(enumerate([1, 0, 3, 2, 1, 0, 7, 6], 1)))
async def test_flood_behind_single_packets_is_soon_taken_in_batches(
    polled: PolledDevice, singles: int, rest: int
) -> None:
    stack = ScriptedStack()
    driver = started(polled, stack)
    await one_by_one(polled, stack, singles)
    polled.arrive(1000)
    await eventually(lambda: not polled.waiting)
    driver.stop()
    whole, last = divmod(1000 - rest, BATCH_PACKETS)
    assert stack.batches[singles:] == [*[1] * rest, *[BATCH_PACKETS] * whole, last]


async def test_one_packet_at_the_end_of_a_flood_is_no_single_one(polled: PolledDevice) -> None:
    stack = ScriptedStack()
    driver = started(polled, stack)
    polled.arrive(BATCH_PACKETS + 1)
    await eventually(lambda: not polled.waiting)
    polled.arrive(2)
    await eventually(lambda: not polled.waiting)
    driver.stop()
    assert stack.batches == [BATCH_PACKETS, 1, 2]


async def test_flood_on_a_descriptor_yields_to_the_loop_after_a_few_batches(polled: PolledDevice) -> None:
    stack = ScriptedStack()
    turns: list[int] = []
    driver = started(polled, stack)
    polled.arrive(BATCH_PACKETS * (BATCHES_PER_TURN + 1))
    while polled.waiting:
        await asyncio.sleep(0)
        turns.append(len(stack.batches))
    driver.stop()
    assert BATCHES_PER_TURN in turns


# Superpackets. (descriptor, offload, tracer) -> (are segments that arrive joined? are superpackets divided here?)


@pytest.mark.parametrize(
    ("has_fd", "offload", "traced", "joins", "divides"),
    [
        (True, NO_OFFLOAD, False, True, True),
        (True, CHECKSUMS_ONLY, False, True, True),
        (True, TSO4_ONLY, False, True, False),
        (True, FULL_OFFLOAD, False, True, False),
        (True, NO_OFFLOAD, True, False, False),
        (True, FULL_OFFLOAD, True, False, False),
        (False, NO_OFFLOAD, False, False, False),
        (False, FULL_OFFLOAD, False, False, False),
    ],
)
async def test_superpackets_are_joined_and_divided_where_it_saves_and_nobody_watches(
    polled: PolledDevice, has_fd: bool, offload: Offload, traced: bool, joins: bool, divides: bool
) -> None:
    device = polled if has_fd else ScriptedDevice()
    device.offload = offload
    stack: Any = ScriptedStack()
    stack.tracer = print if traced else None
    driver = started(device, stack)
    driver.stop()
    assert (stack.offload, stack.coalesces, stack.divides) == (offload, joins, divides)


def superpacket(offload: Offload) -> Packet:
    text = bytes(range(250)) * 20
    src, dst = bytes((10, 9, 0, 2)), bytes((10, 9, 0, 1))
    segment = Segment(src, 80, dst, 4000, 7, 8, ACK, 500, (text,), len(text))
    segment.gso_size = 1460
    return encode(segment, offload.checksum)


async def test_superpacket_goes_in_pieces_to_a_device_that_takes_none(polled: PolledDevice) -> None:
    stack: Any = ScriptedStack()
    driver = started(polled, stack)
    assert stack.send_packet(superpacket(NO_OFFLOAD), 0)
    driver.stop()
    segments = [decode(packet) for packet in polled.sent]
    assert [(each.seq, each.payload_len) for each in segments] == [(7, 1460), (1467, 1460), (2927, 1460), (4387, 620)]
    assert b"".join(each.text() for each in segments) == bytes(range(250)) * 20


@pytest.mark.parametrize("refused", [1, 3])
async def test_superpacket_of_which_a_piece_is_refused_was_not_sent_yet_the_other_pieces_were(
    polled: PolledDevice, refused: int
) -> None:
    polled.refused = refused
    stack: Any = ScriptedStack()
    driver = started(polled, stack)
    assert not stack.send_packet(superpacket(NO_OFFLOAD), 0)
    driver.stop()
    assert len(polled.sent) == 4


async def test_superpacket_goes_whole_to_a_device_that_takes_it(polled: PolledDevice) -> None:
    polled.offload = FULL_OFFLOAD
    stack: Any = ScriptedStack()
    driver = started(polled, stack)
    packet = superpacket(FULL_OFFLOAD)
    assert stack.send_packet(packet, 0)
    driver.stop()
    assert polled.sent == [packet]
