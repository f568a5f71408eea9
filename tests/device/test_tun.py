"""TunDevice against the kernel, in a network namespace that a thread of this process enters for the test."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tcpstack.device import netlink, tun
from tcpstack.device.base import DeviceError
from tcpstack.device.tun import TunDevice
from tcpstack.wire.checksum import checksum
from tcpstack.wire.packet import CHECKSUM_PARTIAL, CHECKSUM_UNVERIFIED, FULL_OFFLOAD, NO_OFFLOAD, Packet

pytestmark = pytest.mark.tun
CLONE_NEWNET = 0x40000000
Inside = Callable[..., Any]


def enter_new_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        pytest.skip(f"a thread may not make a network namespace: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def inside() -> Iterator[Inside]:
    """Calls a function in a network namespace of the test's own (its sockets and its programs are there too)."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(enter_new_namespace).result()
        yield lambda function, *args, **kwargs: thread.submit(function, *args, **kwargs).result()


@pytest.fixture
def device(inside: Inside) -> Iterator[TunDevice]:
    """tun0, up, with the kernel at 10.9.0.1."""
    opened = inside(TunDevice.open, "tun0")
    inside(netlink.configure, "tun0", ["10.9.0.1/24"])
    yield opened
    opened.close()


def ip(*words: str) -> str:
    return subprocess.run(("ip", *words), check=True, capture_output=True, text=True).stdout


def kernel_sends(*texts: bytes) -> None:
    """One datagram each, to 10.9.0.2."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for text in texts:
            sender.sendto(text, ("10.9.0.2", 9))


def kernel_listens() -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("10.9.0.1", 0))
    receiver.settimeout(5)
    return receiver


def sysctl(path: str) -> str:
    with open(f"/proc/sys/{path}") as file:
        return file.read().strip()


def attach(flags: int) -> int:
    """A descriptor of a device that TUNSETIFF made with these flags."""
    fd = os.open("/dev/net/tun", os.O_RDWR)  # whose namespace is the opener's
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"x0", flags))
    return fd


def datagram(port: int, text: bytes, version: int = 4) -> bytes:
    """An IPv4 packet from 10.9.0.2 with a UDP datagram for 10.9.0.1, without UDP checksum."""
    addresses = socket.inet_aton("10.9.0.2") + socket.inet_aton("10.9.0.1")
    start = struct.pack("!BBHHHBB", version << 4 | 5, 0, 28 + len(text), 0, 0, 64, socket.IPPROTO_UDP)
    total = checksum((start + b"\0\0" + addresses,))
    return start + struct.pack("!H", total) + addresses + struct.pack("!HHHH", 9, port, 8 + len(text), 0) + text


# Attaching

@pytest.mark.kernel
def test_open_of_an_unknown_name_creates_it_and_close_removes_it(inside):
    device = inside(TunDevice.open, "tun7", mtu=1400)
    assert (device.name, device.mtu) == ("tun7", 1400)
    assert "mtu 1400" in inside(ip, "link", "show", "dev", "tun7")

    device.close()

    assert "tun7" not in inside(ip, "link", "show")


@pytest.mark.kernel
def test_open_without_a_name_lets_the_kernel_choose(inside):
    device = inside(TunDevice.open)
    assert device.name.startswith("tun")
    device.close()


@pytest.mark.kernel
def test_open_of_a_persistent_device_attaches_and_asks_its_mtu(inside):
    inside(ip, "tuntap", "add", "dev", "tun3", "mode", "tun")
    inside(ip, "link", "set", "dev", "tun3", "mtu", "1312")

    device = inside(TunDevice.open, "tun3")
    assert (device.name, device.mtu) == ("tun3", 1312)
    device.close()

    assert "tun3" in inside(ip, "link", "show")


@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("headers", [(), ("vnet_hdr",)], ids=["bare", "vnet_hdr"])
def test_open_of_a_persistent_device_takes_virtio_headers_or_not_however_it_was_made(inside, headers, offload):
    inside(ip, "tuntap", "add", "dev", "tun0", "mode", "tun", *headers)
    device = inside(TunDevice.open, "tun0", offload=offload)
    inside(netlink.configure, "tun0", ["10.9.0.1/24"])

    inside(kernel_sends, b"hello")

    assert device.receive(10, 0)[0].data()[28:] == b"hello"
    assert (device.offload == NO_OFFLOAD) is not offload
    device.close()


@pytest.mark.kernel
def test_descriptor_does_not_block_and_is_not_inherited(device):
    assert not os.get_blocking(device.fileno())
    assert not os.get_inheritable(device.fileno())


@pytest.mark.kernel
def test_open_of_a_device_in_use_says_busy(inside, device):
    with pytest.raises(DeviceError, match="another program uses tun0: stop it") as raised:
        inside(TunDevice.open, "tun0")
    assert raised.value.errno == errno.EBUSY


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["mode tap", "mode tun multi_queue"])
def test_open_of_another_kind_of_device_says_so(inside, kind):
    inside(ip, "tuntap", "add", "dev", "other0", *kind.split())
    with pytest.raises(DeviceError, match="other0 exists and is not a TUN device with a single queue") as raised:
        inside(TunDevice.open, "other0")
    assert raised.value.errno == errno.EINVAL


@pytest.mark.kernel
def test_open_with_an_impossible_mtu_says_what_is_possible_and_leaves_nothing(inside):
    with pytest.raises(DeviceError, match=r"tun0 can't have an MTU of 12 octets .*: use 68 to 65535"):
        inside(TunDevice.open, "tun0", mtu=12)
    assert "tun0" not in inside(ip, "link", "show")


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "a b", "a:b", ".", "..", "a\0b"])
def test_open_of_an_impossible_name_is_refused_before_the_kernel_is_asked(name, monkeypatch):
    monkeypatch.setattr(tun, "_check_node", lambda: pytest.fail("the kernel was asked"))
    with pytest.raises(DeviceError, match="can't name an interface: use 1 to 15 octets") as raised:
        TunDevice.open(name)
    assert raised.value.errno == errno.EINVAL


def test_open_without_the_device_node_names_the_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(tun, "TUN_NODE", str(tmp_path / "tun"))
    with pytest.raises(DeviceError, match="load its driver with `modprobe tun`") as raised:
        TunDevice.open("tun0")
    assert raised.value.errno == errno.ENOENT


# Taking a descriptor over

@pytest.mark.kernel
def test_from_fd_takes_over_the_descriptor_and_asks_the_kernel_for_the_name(inside, device):
    fd = os.dup(device.fileno())
    os.set_blocking(fd, True)

    second = TunDevice.from_fd(fd, mtu=1400)

    assert (second.name, second.mtu, second.fileno()) == ("tun0", 1400, fd)
    assert not os.get_blocking(fd)
    inside(kernel_sends, b"hello")
    assert second.receive(1, 0)[0].data().endswith(b"hello")
    second.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_from_fd_refuses_what_is_no_tun_and_leaves_it_open():
    reader, writer = os.pipe()
    with pytest.raises(DeviceError, match="is not that of an attached TUN device") as raised:
        TunDevice.from_fd(reader)
    assert raised.value.errno == errno.ENOTTY
    os.close(reader)
    os.close(writer)


@pytest.mark.kernel
def test_from_fd_refuses_a_device_whose_packets_are_not_ip(inside):
    fd = inside(attach, 0x1002)  # IFF_TAP
    with pytest.raises(DeviceError, match="doesn't carry IP packets: open it with IFF_TUN"):
        TunDevice.from_fd(fd)
    os.close(fd)


@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("flags", [0x1001, 0x5001], ids=["bare", "vnet_hdr"])
def test_from_fd_sees_whether_there_are_virtio_headers(inside, flags, offload):
    """Without any there is no offload, however much it is asked for."""
    device = TunDevice.from_fd(inside(attach, flags), offload=offload)
    inside(netlink.configure, "x0", ["10.9.0.1/24"])
    inside(kernel_sends, b"hello")
    [packet] = device.receive(10, 0)
    assert packet.data()[28:] == b"hello"
    with inside(kernel_listens) as receiver:
        assert device.send(Packet((datagram(receiver.getsockname()[1], b"answer"),)), 0)
        assert receiver.recv(100) == b"answer"
    has_offload = offload and flags == 0x5001
    assert (device.offload, packet.checksum) == (
        (FULL_OFFLOAD, CHECKSUM_PARTIAL) if has_offload else (NO_OFFLOAD, CHECKSUM_UNVERIFIED)
    )
    device.close()


# Packets in

@pytest.mark.kernel
def test_receive_gives_the_waiting_packets_in_order_with_numbers_of_their_own(inside, device):
    inside(kernel_sends, b"one", b"two")

    packets = device.receive(64, 0)

    assert [packet.data()[28:] for packet in packets] == [b"one", b"two"]
    assert 0 < packets[0].id < packets[1].id
    assert {(packet.checksum, packet.gso_size) for packet in packets} == {(CHECKSUM_PARTIAL, 0)}


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
def test_receive_of_the_largest_packet_is_not_cut_short(inside, device):
    inside(ip, "link", "set", "dev", "tun0", "mtu", "65535")
    inside(kernel_sends, b"x" * 65_507)
    assert [len(packet) for packet in device.receive(10, 0)] == [65_535]


# Packets out

@pytest.mark.kernel
@pytest.mark.parametrize("chunks", [1, 3, 1024, 1500])
def test_send_delivers_a_packet_in_any_number_of_chunks(inside, device, chunks):
    with inside(kernel_listens) as receiver:
        text = bytes(range(256)) * 6
        data = datagram(receiver.getsockname()[1], text)
        size = -(-len(data) // chunks)
        buffers = tuple(memoryview(data)[at : at + size] for at in range(0, len(data), size))
        assert device.send(Packet((*buffers, *[b""] * (chunks - len(buffers)))), 0)
        assert receiver.recv(2000) == text


@pytest.mark.kernel
def test_send_while_down_is_a_dropped_packet_and_works_again_when_up(inside, device):
    with inside(kernel_listens) as receiver:
        packet = Packet((datagram(receiver.getsockname()[1], b"hello"),))
        inside(ip, "link", "set", "dev", "tun0", "down")
        assert not device.send(packet, 0)
        device.receive(64, 0)  # no error either
        inside(ip, "link", "set", "dev", "tun0", "up")
        assert device.send(packet, 0)
        assert receiver.recv(100) == b"hello"


@pytest.mark.kernel
def test_send_of_a_packet_with_a_bent_version_is_a_dropped_packet(device):
    assert not device.send(Packet((datagram(9, b"hello", version=12),)), 0)


# The end

@pytest.mark.kernel
def test_deleted_device_raises_from_receive_and_send(inside, device):
    inside(ip, "link", "delete", "dev", "tun0")
    for use in (lambda: device.receive(1, 0), lambda: device.send(Packet((datagram(9, b""),)), 0)):
        with pytest.raises(DeviceError, match="tun0 was deleted") as raised:
            use()
        assert raised.value.errno == errno.EBADFD


@pytest.mark.kernel
async def test_deletion_wakes_a_reader_on_the_loop(inside, device):
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    loop.add_reader(device.fileno(), lambda: woken.done() or woken.set_result(None))
    inside(ip, "link", "delete", "dev", "tun0")
    await asyncio.wait_for(woken, 5)
    loop.remove_reader(device.fileno())


@pytest.mark.kernel
def test_closed_device_has_no_descriptor_and_says_so(device):
    device.close()
    device.close()
    assert device.fileno() == -1
    for use in (lambda: device.receive(1, 0), lambda: device.send(Packet((b"",)), 0)):
        with pytest.raises(DeviceError, match="tun0 was closed by this program"):
            use()


@pytest.mark.kernel
def test_device_polls_readable_when_a_packet_waits(inside, device):
    poll = select.poll()
    poll.register(device.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    inside(kernel_sends, b"hello")
    assert poll.poll(5000) == [(device.fileno(), select.POLLIN)]


# Its kernel side

@pytest.mark.kernel
def test_configure_sets_addresses_mtu_and_queue_and_brings_the_interface_up(inside):
    device = inside(TunDevice.open, "tun0")
    for _ in range(2):  # what is there already may stay
        inside(netlink.configure, "tun0", ["10.9.0.1/24", "fd09::1/64"], mtu=1400, txqueuelen=3000)

    link = inside(ip, "-oneline", "address", "show", "dev", "tun0") + inside(ip, "link", "show", "dev", "tun0")
    assert "inet 10.9.0.1/24 " in link
    assert "inet6 fd09::1/64 " in link
    assert "tentative" not in link
    assert "mtu 1400" in link
    assert "qlen 3000" in link
    assert ",UP," in link
    device.close()


@pytest.mark.kernel
def test_ipv6_address_is_in_use_as_soon_as_it_is_configured(inside):
    for number in range(1, 21):
        device = inside(TunDevice.open, "tun0")
        inside(netlink.configure, "tun0", [f"fd09:{number:x}::1/64"])
        assert f"local fd09:{number:x}::1 " in inside(ip, "-6", "route", "show", "table", "local")
        device.close()


@pytest.mark.kernel
def test_configured_interface_has_no_address_of_its_own_and_solicits_no_router(inside, device):
    inside(netlink.configure, "tun0", ["fd09::1/64"])
    assert "fe80" not in inside(ip, "address", "show", "dev", "tun0")
    assert inside(sysctl, "net/ipv6/conf/tun0/router_solicitations") == "0"
    assert inside(sysctl, "net/ipv6/conf/tun0/accept_ra") == "0"


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mtu": 12}, "tun0 can't take an MTU of 12: Invalid argument"),
        ({"mtu": 1000, "addresses": ["fd09::2/64"]}, "the MTU is under the 1280 octets that it needs"),
    ],
)
def test_configure_that_the_kernel_refuses_says_what_and_why(inside, device, arguments, message):
    with pytest.raises(DeviceError, match=message):
        inside(netlink.configure, "tun0", **arguments)


@pytest.mark.kernel
def test_configure_of_an_unknown_interface_says_so(inside):
    with pytest.raises(DeviceError, match="there is no interface tun9") as raised:
        inside(netlink.configure, "tun9")
    assert raised.value.errno == errno.ENODEV


def test_configure_with_an_impossible_address_is_a_value_error():
    with pytest.raises(ValueError, match=r"10\.9\.0\.300"):
        netlink.configure("tun0", ["10.9.0.300/24"])
