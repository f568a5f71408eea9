"""PacketSocketDevice at the end of a veth pair, in a network namespace that a thread of this process enters."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tcpstack.device import libc, packet_socket, virtio
from tcpstack.device.base import BATCH_BYTES, DeviceError
from tcpstack.device.packet_socket import PacketSocketDevice
from tcpstack.device.veth import open_veth
from tcpstack.wire.checksum import VALID, checksum, ones_complement_sum, pseudo_header
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, CHECKSUM_VERIFIED, Packet
from tcpstack.wire.segmentation import completed

KERNEL = ("10.9.0.1/24", "fd09::1/64")
UDP = socket.IPPROTO_UDP
Inside = Callable[..., Any]


def enter_new_namespace() -> None:
    try:
        libc.unshare(libc.CLONE_NEWNET)
    except OSError as error:
        pytest.skip(f"a thread may not make a network namespace: {error.strerror}")


@pytest.fixture
def inside() -> Iterator[Inside]:
    """Calls a function in a network namespace of the test's own (its sockets and its programs are there too)."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(enter_new_namespace).result()
        yield lambda function, *args, **kwargs: thread.submit(function, *args, **kwargs).result()


@pytest.fixture
def device(inside: Inside) -> Iterator[PacketSocketDevice]:
    """tun0, up, with the kernel at 10.9.0.1 and fd09::1."""
    opened = inside(open_veth, "tun0", KERNEL)
    yield opened
    opened.close()


@pytest.fixture
def wire() -> Iterator[tuple[PacketSocketDevice, socket.socket]]:
    """A device on a socket that is no packet socket, and the socket's other end: for any frame, from anybody."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far:
        device = PacketSocketDevice(near.detach(), "tun0", 1500, -1)
        yield device, far
        device.close()


def ip(*words: str) -> str:
    return subprocess.run(("ip", *words), check=True, capture_output=True, text=True).stdout


def kernel_sends(*texts: bytes, to: str = "10.9.0.2") -> None:
    """One datagram each, to port 9."""
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for text in texts:
            sender.sendto(text, (to, 9))


def kernel_listens(address: str = "10.9.0.1") -> socket.socket:
    receiver = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((address, 0))
    receiver.settimeout(5)
    return receiver


def switch_offload(on: bool) -> None:
    """The kernel's end leaves checksums, and with them segmentation, to hardware."""
    for command in (0x17, 0x1F):  # ETHTOOL_STXCSUM, ETHTOOL_STSO
        value = array.array("I", (command, on))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, 0x8946, struct.pack("16sP16x", b"tun0", value.buffer_info()[0]))


def datagram(port: int, text: bytes, version: int = 4, spoil: int = 0) -> bytes:
    """An IP packet from 10.9.0.2 or fd09::2 with a UDP datagram for the kernel; `spoil` is added to its checksum."""
    family, ours, theirs = (
        (socket.AF_INET6, "fd09::2", "fd09::1") if version == 6 else (socket.AF_INET, "10.9.0.2", "10.9.0.1")
    )
    src, dst = socket.inet_pton(family, ours), socket.inet_pton(family, theirs)
    length = 8 + len(text)
    header = struct.pack("!HHH", 9, port, length)
    total = checksum((pseudo_header(src, dst, length, UDP), header, b"\0\0", text))
    udp = header + struct.pack("!H", total + spoil) + text
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, length, UDP, 64) + src + dst + udp
    start = struct.pack("!BBHHHBB", version << 4 | 5, 0, 20 + length, 0, 0, 64, UDP)
    return start + struct.pack("!H", checksum((start, b"\0\0", src, dst))) + src + dst + udp


def udp_checksum_is_right(data: bytes) -> bool:
    """Of an IPv4 packet with a UDP datagram."""
    udp = data[20:]
    return ones_complement_sum((pseudo_header(data[12:16], data[16:20], len(udp), UDP), udp)) == VALID


# What is made

@pytest.mark.kernel
def test_kernels_end_is_up_with_its_addresses_and_resolves_none(inside, device):
    link = inside(ip, "-oneline", "address", "show", "dev", "tun0") + inside(ip, "link", "show", "dev", "tun0")
    assert "inet 10.9.0.1/24 " in link
    assert "inet6 fd09::1/64 " in link
    assert "fe80" not in link
    assert "tentative" not in link
    assert "NOARP" in link
    assert ",UP" in link
    assert "mtu 1500" in link
    assert (device.name, device.mtu) == ("tun0", 1500)


@pytest.mark.kernel
def test_stacks_end_is_not_seen_in_the_namespace_of_the_kernels(inside, device):
    assert [line.split(": ")[1].split("@")[0] for line in inside(ip, "-o", "link").splitlines()] == ["lo", "tun0"]


@pytest.mark.kernel
def test_name_mtu_and_queue_length_are_as_asked(inside):
    device = inside(open_veth, "wire7", ["192.0.2.1/30"], mtu=9000, txqueuelen=7)
    link = inside(ip, "link", "show", "dev", "wire7")
    assert "mtu 9000" in link
    assert "qlen 7" in link
    assert (device.name, device.mtu) == ("wire7", 9000)
    device.close()


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mtu": 12}, "tun0 can't take an MTU of 12: Invalid argument"),
        ({"name": "lo"}, r"no veth pair can be made for lo \(File exists\)"),
        ({"mtu": 1000, "addresses": ["fd09::1/64"]}, "the MTU is under the 1280 octets that it needs"),
    ],
)
def test_pair_that_the_kernel_refuses_says_why_and_leaves_nothing(inside, arguments, message):
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(DeviceError, match=message):
        inside(open_veth, **{"name": "tun0", "addresses": [], **arguments})
    assert sorted(os.listdir("/proc/self/fd")) == before
    wait_until(lambda: "tun0" not in inside(ip, "link"))


def wait_until(condition: Callable[[], bool]) -> None:
    """The kernel takes namespaces down in its own time."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.kernel
def test_close_removes_the_pair(inside, device):
    device.close()
    wait_until(lambda: "tun0" not in inside(ip, "link"))


@pytest.mark.kernel
def test_descriptors_do_not_block_and_are_not_inherited(device):
    assert not os.get_blocking(device.fileno())
    assert not os.get_inheritable(device.fileno())
    assert not os.get_inheritable(device.kernels_fd)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EPERM, "takes CAP_NET_RAW: run as root"),
        (errno.ENODEV, "there is no interface wire9"),
        (errno.EAFNOSUPPORT, "`modprobe af_packet`"),
        (errno.ENOMEM, "no packet socket can be had on wire9 "),
    ],
)
def test_open_that_the_kernel_refuses_says_what_to_do(monkeypatch, code, remedy):
    def refuse(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(packet_socket.socket, "socket", refuse)
    with pytest.raises(DeviceError, match=remedy) as raised:
        PacketSocketDevice.open("wire9")
    assert raised.value.errno == code


# Taking a socket over

@pytest.mark.kernel
def test_from_fd_takes_over_the_socket_and_asks_for_name_and_mtu(inside):
    device = inside(open_veth, "tun0", KERNEL, mtu=1400)
    fd = os.dup(device.fileno())
    device.close()

    second = PacketSocketDevice.from_fd(fd)  # in another namespace than the interface

    assert (second.name, second.mtu, second.fileno()) == ("wire0", 1400, fd)
    second.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("kind", ["pipe", "UDP socket"])
def test_from_fd_refuses_what_is_no_packet_socket_and_leaves_it_open(kind):
    if kind == "pipe":
        fd, *others = os.pipe()
    else:
        fd, *others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()]
    with pytest.raises(DeviceError, match="is not that of a packet socket with PACKET_VNET_HDR"):
        PacketSocketDevice.from_fd(fd)
    for each in (fd, *others):
        os.close(each)


@pytest.mark.kernel
def test_from_fd_refuses_a_packet_socket_without_virtio_headers(inside, device):
    with inside(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as plain:
        with pytest.raises(DeviceError, match="is not that of a packet socket with PACKET_VNET_HDR"):
            PacketSocketDevice.from_fd(plain.fileno())
        os.fstat(plain.fileno())


# Packets in

@pytest.mark.kernel
def test_receive_gives_the_waiting_packets_in_order_with_numbers_of_their_own(inside, device):
    inside(kernel_sends, b"one", b"two")

    packets = device.receive(64, 0)

    assert [packet.data()[28:] for packet in packets] == [b"one", b"two"]
    assert 0 < packets[0].id < packets[1].id
    assert {(packet.checksum, packet.gso_size) for packet in packets} == {(CHECKSUM_PARTIAL, 0)}
    assert all(udp_checksum_is_right(completed(packet).data()) for packet in packets)


@pytest.mark.kernel
@pytest.mark.parametrize("address", ["10.9.0.2", "10.9.0.77", "fd09::2", "fd09::77"])
def test_packet_for_any_neighbour_arrives_with_nothing_before_it(inside, device, address):
    inside(kernel_sends, b"hello", to=address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    [packet] = device.receive(64, 0)
    assert packet.data().endswith(b"hello")
    assert socket.inet_pton(family, address) in packet.data()


@pytest.mark.kernel
def test_receive_takes_no_more_than_it_is_asked_for(inside, device):
    inside(kernel_sends, b"one", b"two", b"three")
    assert [len(device.receive(2, 0)) for _ in range(3)] == [2, 1, 0]


@pytest.mark.kernel
def test_received_packet_outlives_the_next_receive(inside, device):
    inside(kernel_sends, b"first", b"second")
    [first] = device.receive(1, 0)
    device.receive(1, 0)
    assert first.data().endswith(b"first")


@pytest.mark.kernel
def test_receive_of_the_largest_packet_is_not_cut_short(inside):
    device = inside(open_veth, "tun0", KERNEL, mtu=65_535)
    inside(kernel_sends, b"x" * 65_507)
    assert [len(packet) for packet in device.receive(10, 0)] == [65_535]
    device.close()


@pytest.mark.kernel
def test_more_wait_than_a_socket_has_room_for_by_default(inside, device):
    inside(kernel_sends, *[b"x" * 1472] * 150)
    first, rest, after = (device.receive(1000, 0) for _ in range(3))
    frame_bytes = 1500 + 14 + virtio.HEADER_BYTES
    assert (len(first), len(rest), len(after)) == (-(-BATCH_BYTES // frame_bytes), 150 - len(first), 0)


@pytest.mark.kernel
def test_checksum_that_the_kernel_left_undone_is_partial(inside, device):
    inside(switch_offload, True)
    inside(kernel_sends, b"hello")
    inside(switch_offload, False)
    inside(kernel_sends, b"again")
    partial, complete = device.receive(10, 0)
    assert (partial.checksum, udp_checksum_is_right(partial.data())) == (CHECKSUM_PARTIAL, False)
    assert (complete.checksum, udp_checksum_is_right(complete.data())) == (CHECKSUM_UNVERIFIED, True)


def frame(type_: int, data: bytes, *, flags: int = 0, gso_type: int = 0, gso_size: int = 0) -> bytes:
    return struct.pack("=BBHHHH", flags, gso_type, 54, gso_size, 34, 16) + bytes(12) + type_.to_bytes(2, "big") + data


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (0, CHECKSUM_UNVERIFIED),
        (1, CHECKSUM_PARTIAL),
        (2, CHECKSUM_VERIFIED),
        (3, CHECKSUM_PARTIAL),
        (4, CHECKSUM_UNVERIFIED),  # VIRTIO_NET_HDR_F_RSC_INFO: not about checksums
    ],
)
def test_virtio_flags_say_what_is_known_of_the_checksum(wire, flags, said):
    device, far = wire
    far.send(frame(0x0800, b"packet", flags=flags))
    [packet] = device.receive(10, 0)
    assert (packet.data(), packet.checksum) == (b"packet", said)


@pytest.mark.parametrize(("gso_type", "said"), [(0, 0), (1, 1448), (4, 1448), (0x81, 1448)])
def test_virtio_gso_size_counts_where_there_is_a_gso_type(wire, gso_type, said):
    device, far = wire
    far.send(frame(0x86DD, b"x" * 60_000, flags=1, gso_type=gso_type, gso_size=1448))
    [packet] = device.receive(10, 0)
    assert (len(packet), packet.gso_size) == (60_000, said)


def test_frames_that_carry_no_ip_are_passed_over(wire):
    device, far = wire
    for type_ in (0x0806, 0x8100, 0x88CC, 0x0800, 0x0806, 0x86DD):  # ARP, VLAN, LLDP
        far.send(frame(type_, type_.to_bytes(2, "big")))
    assert [packet.data() for packet in device.receive(10, 0)] == [b"\x08\x00", b"\x86\xdd"]


def test_frames_that_carry_no_ip_cannot_hold_up_a_turn(wire):
    device, far = wire
    for _ in range(3):
        far.send(frame(0x0806, b"arp"))
    far.send(frame(0x0800, b"packet"))
    assert device.receive(3, 0) == []
    assert len(device.receive(3, 0)) == 1


# Packets out

@pytest.mark.kernel
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("chunks", [1, 3, 1024, 1500])
def test_send_delivers_a_packet_in_any_number_of_chunks(inside, device, chunks, version):
    with inside(kernel_listens, "fd09::1" if version == 6 else "10.9.0.1") as receiver:
        text = bytes(range(200)) * 6
        data = datagram(receiver.getsockname()[1], text, version)
        size = -(-len(data) // chunks)
        buffers = tuple(memoryview(data)[at : at + size] for at in range(0, len(data), size))
        assert device.send(Packet((*buffers, *[b""] * (chunks - len(buffers)))), 0)
        assert receiver.recv(2000) == text


@pytest.mark.kernel
@pytest.mark.parametrize(("version", "address"), [(4, "10.9.0.1"), (6, "fd09::1")])
def test_what_is_sent_as_soon_as_the_pair_is_there_arrives(inside, version, address):
    def open_and_send() -> bytes:
        libc.unshare(libc.CLONE_NEWNET)
        device = open_veth("tun0", KERNEL)
        with kernel_listens(address) as receiver:
            device.send(Packet((datagram(receiver.getsockname()[1], b"early", version),)), 0)
            text = receiver.recv(100)
        device.close()
        return text

    assert [inside(open_and_send) for _ in range(20)] == 20 * [b"early"]


@pytest.mark.kernel
def test_send_with_an_empty_chunk_first_delivers_the_packet(inside, device):
    with inside(kernel_listens) as receiver:
        assert device.send(Packet((b"", datagram(receiver.getsockname()[1], b"hello"))), 0)
        assert receiver.recv(100) == b"hello"


@pytest.mark.kernel
def test_sent_packets_do_not_come_back(inside, device):
    with inside(kernel_listens) as receiver:
        device.send(Packet((datagram(receiver.getsockname()[1], b"hello"),)), 0)
        receiver.recv(100)
    assert device.receive(10, 0) == []


@pytest.mark.kernel
@pytest.mark.parametrize("version", [4, 6])
def test_packet_with_a_bad_checksum_is_not_vouched_for(inside, device, version):
    with inside(kernel_listens, "fd09::1" if version == 6 else "10.9.0.1") as receiver:
        port = receiver.getsockname()[1]
        assert device.send(Packet((datagram(port, b"spoiled", version, spoil=1),)), 0)
        assert device.send(Packet((datagram(port, b"sound", version),)), 0)
        assert receiver.recv(100) == b"sound"


@pytest.mark.kernel
@pytest.mark.parametrize(
    "data",
    [b"", b"\x0f" * 40, datagram(9, b"hello", version=12), datagram(9, b"x" * 1473)],
    ids=["empty", "version 0", "version 12", "above the MTU"],
)
def test_send_of_what_can_not_be_sent_is_a_dropped_packet(inside, device, data):
    assert not device.send(Packet((data,)), 0)
    with inside(kernel_listens) as receiver:
        assert device.send(Packet((datagram(receiver.getsockname()[1], b"next"),)), 0)
        assert receiver.recv(100) == b"next"


@pytest.mark.kernel
def test_send_while_the_kernels_end_is_down_is_a_dropped_packet_and_works_again_when_up(inside, device):
    with inside(kernel_listens) as receiver:
        packet = Packet((datagram(receiver.getsockname()[1], b"hello"),))
        inside(ip, "link", "set", "dev", "tun0", "down")
        assert not device.send(packet, 0)
        device.receive(64, 0)  # no error either
        inside(ip, "link", "set", "dev", "tun0", "up")
        assert device.send(packet, 0)
        assert receiver.recv(100) == b"hello"


# The end

@pytest.mark.kernel
@pytest.mark.parametrize("first", ["receive", "send"])
def test_deleted_pair_raises_from_receive_and_send_each_time(inside, device, first):
    inside(ip, "link", "delete", "dev", "tun0")
    uses = [lambda: device.receive(1, 0), lambda: device.send(Packet((datagram(9, b""),)), 0)]
    for use in 2 * (uses if first == "receive" else uses[::-1]):
        with pytest.raises(DeviceError, match="tun0 was deleted") as raised:
            use()
        assert raised.value.errno == errno.ENXIO


@pytest.mark.kernel
async def test_deletion_wakes_a_reader_on_the_loop(inside, device):
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    loop.add_reader(device.fileno(), lambda: woken.done() or woken.set_result(None))
    inside(ip, "link", "delete", "dev", "tun0")
    await asyncio.wait_for(woken, 5)
    loop.remove_reader(device.fileno())


def test_failure_of_another_kind_is_told(wire):
    device, far = wire
    far.close()
    with pytest.raises(DeviceError, match=r"tun0 failed \(Broken pipe\)") as raised:
        device.send(Packet((datagram(9, b""),)), 0)
    assert raised.value.errno == errno.EPIPE


@pytest.mark.kernel
def test_closed_device_has_no_descriptor_and_says_so(device):
    device.close()
    device.close()
    assert (device.fileno(), device.kernels_fd) == (-1, -1)
    for use in (lambda: device.receive(1, 0), lambda: device.send(Packet((datagram(9, b""),)), 0)):
        with pytest.raises(DeviceError, match="tun0 was closed by this program"):
            use()


@pytest.mark.kernel
def test_device_polls_readable_when_a_packet_waits(inside, device):
    poll = select.poll()
    poll.register(device.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    inside(kernel_sends, b"hello")
    assert poll.poll(5000) == [(device.fileno(), select.POLLIN)]
