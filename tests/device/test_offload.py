"""What devices leave to the kernel, and the kernel to them: checksums and superpackets, on a TUN and a veth pair.

A connection of the kernel's is opened with hand-made segments, so that nothing but a device and the kernel is there.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tcpstack.core.segment import ACK, CWR, ECE, FIN, PSH, RST, SYN, Options, Segment
from tcpstack.device import _namespace_helper as helper
from tcpstack.device import libc, netlink, tun, virtio
from tcpstack.device.namespace import OFFLOAD_VARIABLE, Namespace
from tcpstack.device.packet_socket import PacketSocketDevice
from tcpstack.device.tun import TunDevice
from tcpstack.device.veth import open_veth
from tcpstack.wire.dpkt_codec import decode, encode
from tcpstack.wire.packet import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNVERIFIED,
    FULL_OFFLOAD,
    NO_OFFLOAD,
    Offload,
    Packet,
)
from tcpstack.wire.segmentation import wire_packets

KERNEL = ("10.9.0.1/24", "fd09::1/64")
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
OURS, THEIRS = {4: "10.9.0.2", 6: "fd09::2"}, {4: "10.9.0.1", 6: "fd09::1"}
MTU = 1500
MSS = {4: MTU - 40, 6: MTU - 60}
ISS = 2**32 - 10_000  # a superpacket goes beyond the end of sequence space
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
AnyDevice = TunDevice | PacketSocketDevice
Inside = Callable[..., Any]

on_either = pytest.mark.parametrize("kind", [pytest.param("tun", marks=pytest.mark.tun), "veth"])
of_each_version = pytest.mark.parametrize("version", [4, 6])


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
def opened(inside: Inside) -> Iterator[Callable[..., AnyDevice]]:
    """`opened(kind, offload)`: tun0 of that kind, up, with the kernel at 10.9.0.1 and fd09::1."""
    devices: list[AnyDevice] = []

    def open_one(kind: str, offload: bool = True) -> AnyDevice:
        if kind == "veth":
            devices.append(inside(open_veth, "tun0", KERNEL, offload=offload))
        else:
            devices.append(inside(TunDevice.open, "tun0", offload=offload))
            inside(netlink.configure, "tun0", KERNEL)
        return devices[-1]

    yield open_one
    for device in devices:
        device.close()


class Conversation:
    """A connection between hand-made segments and a socket of the kernel's, `kernels`."""

    def __init__(self, device: AnyDevice, inside: Inside, version: int) -> None:
        self.device = device
        self.version = version
        with inside(socket.create_server, (THEIRS[version], 0), family=FAMILIES[version]) as listening:
            # Its whole initial window leaves at once, as no algorithm that paces would have it.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
            self.port = listening.getsockname()[1]
            self.seq, self.ack = ISS, 0
            self.send(SYN, options=Options(mss=MSS[version]))
            [(_, syn_ack)] = self.hear(1)
            assert syn_ack.flags == SYN | ACK
            self.seq, self.ack, self.window = ISS + 1, syn_ack.seq + 1, syn_ack.wnd
            self.send(ACK)
            listening.settimeout(5)
            self.kernels, _ = listening.accept()
        self.kernels.settimeout(5)

    def segment(self, flags: int, text: bytes = b"", options: Options | None = None) -> Segment:
        src, dst = (socket.inet_pton(FAMILIES[self.version], each[self.version]) for each in (OURS, THEIRS))
        payload = (text,) if text else ()
        seq = self.seq & 0xFFFFFFFF
        return Segment(src, 4000, dst, self.port, seq, self.ack & 0xFFFFFFFF, flags, 65535, payload, len(text), options)

    def send(self, flags: int, text: bytes = b"", gso_size: int = 0, options: Options | None = None) -> Packet:
        segment = self.segment(flags, text, options)
        segment.gso_size = gso_size
        packet = encode(segment, self.device.offload.checksum)
        assert self.device.send(packet, 0)
        return packet

    def hear(self, octets: int) -> list[tuple[Packet, Segment]]:
        """What the kernel sends until so many octets of sequence space have come, each acknowledged."""
        poll = select.poll()
        poll.register(self.device.fileno(), select.POLLIN)
        heard: list[tuple[Packet, Segment]] = []
        while sum(segment.len for _, segment in heard) < octets:
            assert poll.poll(5000), f"the kernel is silent after {heard}"
            for packet in self.device.receive(64, 0):
                segment = decode(packet)
                if isinstance(segment, Segment) and segment.dport == 4000:
                    heard.append((packet, segment))
                    if not segment.flags & SYN and segment.len:
                        self.ack += segment.len
                        self.send(ACK)
        return heard

    def close(self) -> None:
        if self.device.fileno() >= 0:
            self.send(RST)
        self.kernels.close()


@pytest.fixture
def talk(inside: Inside) -> Iterator[Callable[[AnyDevice, int], Conversation]]:
    begun: list[Conversation] = []

    def begin(device: AnyDevice, version: int) -> Conversation:
        begun.append(Conversation(device, inside, version))
        return begun[-1]

    yield begin
    for conversation in begun:
        conversation.close()


def some_text(length: int) -> bytes:
    return bytes(n * n % 251 for n in range(length))


# --- in -----------------------------------------------------------------------------------------------------


@pytest.mark.kernel
@on_either
@of_each_version
def test_what_the_kernel_sends_comes_in_superpackets_with_partial_checksums(opened, talk, kind, version):
    device = opened(kind)
    assert device.offload == FULL_OFFLOAD
    conversation = talk(device, version)
    text = some_text(10 * MSS[version])

    conversation.kernels.sendall(text)
    heard = conversation.hear(len(text))

    assert b"".join(segment.text() for _, segment in heard) == text
    assert {packet.checksum for packet, _ in heard} == {CHECKSUM_PARTIAL}
    large = [(packet, segment) for packet, segment in heard if packet.gso_size]
    assert {packet.gso_size for packet, _ in large} == {MSS[version]}
    assert max(len(packet) for packet, _ in large) > MTU
    for packet, segment in heard:
        assert segment.gso_size == packet.gso_size
        pieces = [decode(piece) for piece in wire_packets(packet)]
        assert len(pieces) == segment.segments
        assert b"".join(piece.text() for piece in pieces if isinstance(piece, Segment)) == segment.text()


@pytest.mark.kernel
@on_either
@of_each_version
def test_without_offload_what_the_kernel_sends_is_complete_and_within_the_mtu(opened, talk, kind, version):
    device = opened(kind, offload=False)
    assert device.offload == NO_OFFLOAD
    check_complete(talk(device, version))


def check_complete(conversation: Conversation) -> None:
    text = some_text(10 * MSS[conversation.version])
    conversation.kernels.sendall(text)
    heard = conversation.hear(len(text))  # decode has verified each checksum
    assert b"".join(segment.text() for _, segment in heard) == text
    assert {(packet.checksum, packet.gso_size) for packet, _ in heard} == {(CHECKSUM_UNVERIFIED, 0)}
    assert max(len(packet) for packet, _ in heard) == MTU


# --- out ----------------------------------------------------------------------------------------------------


@pytest.mark.kernel
@on_either
@of_each_version
@pytest.mark.parametrize("flags", [ACK, ACK | PSH | FIN, ACK | CWR | ECE])
def test_superpacket_reaches_the_kernels_socket_whole(opened, talk, kind, version, flags):
    conversation = talk(opened(kind), version)
    text = some_text(min(conversation.window, 43 * MSS[version]) - 7)

    assert len(conversation.send(flags, text, MSS[version])) > 40 * MSS[version]

    received = bytearray()
    while len(received) < len(text):
        received += conversation.kernels.recv(100_000)
    assert received == text
    if flags & FIN:
        assert conversation.kernels.recv(1) == b""


@pytest.mark.kernel
@on_either
@of_each_version
@pytest.mark.parametrize("length", [1, 7, 1400])
def test_superpacket_of_one_segment_is_taken_as_that_segment(opened, talk, kind, version, length):
    conversation = talk(opened(kind), version)
    conversation.send(ACK | PSH, some_text(length), 1400)
    assert conversation.kernels.recv(10_000) == some_text(length)


@pytest.mark.kernel
@on_either
@of_each_version
def test_superpacket_in_more_chunks_than_one_write_takes_arrives(opened, talk, kind, version):
    conversation = talk(opened(kind), version)
    text = some_text(20 * MSS[version])
    segment = conversation.segment(ACK | PSH)
    segment.payload = tuple(memoryview(text)[at : at + 7] for at in range(0, len(text), 7))
    segment.payload_len, segment.gso_size = len(text), MSS[version]
    assert len(segment.payload) > os.sysconf("SC_IOV_MAX")
    assert conversation.device.send(encode(segment, True), 0)
    assert conversation.kernels.recv(len(text), socket.MSG_WAITALL) == text


@pytest.mark.kernel
@on_either
@of_each_version
def test_complete_packet_is_verified_by_the_kernel_all_the_same(opened, talk, kind, version):
    """With offload too, a checksum that does not say that it is partial must hold: a fault rule may have bent it."""
    conversation = talk(opened(kind), version)
    spoiled = bytearray(encode(conversation.segment(ACK | PSH, b"spoiled")).data())
    spoiled[-1] ^= 1
    assert conversation.device.send(Packet((bytes(spoiled),)), 0)
    assert conversation.device.send(encode(conversation.segment(ACK | PSH, b"right")), 0)
    assert conversation.kernels.recv(100) == b"right"


# --- negotiation --------------------------------------------------------------------------------------------

CSUM, TSO4, TSO6, TSO_ECN = 1, 2, 4, 8


def refuse(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """A kernel that knows none of these of TUNSETOFFLOAD; -1: nor the ioctl itself."""
    real = fcntl.ioctl

    def ioctl(fd: int, request: int, argument: Any = 0, *more: Any) -> Any:
        if request == TUNSETOFFLOAD and (bits < 0 or argument & bits):
            raise OSError(22, "Invalid argument")
        return real(fd, request, argument, *more)

    monkeypatch.setattr(tun.fcntl, "ioctl", ioctl)


@pytest.mark.kernel
@pytest.mark.tun
@pytest.mark.parametrize(
    ("refused", "granted", "missing"),
    [
        (TSO_ECN, Offload(checksum=True, tso4=True, tso6=True), "tso_ecn"),
        (TSO6 | TSO_ECN, Offload(checksum=True, tso4=True), "tso6, tso_ecn"),
        (TSO4 | TSO6 | TSO_ECN, Offload(checksum=True), "tso4, tso6, tso_ecn"),
        (CSUM | TSO4 | TSO6 | TSO_ECN, NO_OFFLOAD, "checksum, tso4, tso6, tso_ecn"),
        (-1, NO_OFFLOAD, "checksum, tso4, tso6, tso_ecn"),
    ],
)
@of_each_version
def test_kernel_that_offers_less_is_taken_at_that_with_one_log_line(
    opened, talk, monkeypatch, caplog, refused, granted, missing, version
):
    refuse(monkeypatch, refused)
    device = opened("tun")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("tcpstack.device.tun", logging.WARNING)
    assert record.getMessage() == f"tun0: this kernel takes no {missing} off us: more packets cross, and slower"
    assert device.offload == granted

    conversation = talk(device, version)
    text = some_text(8 * MSS[version])
    conversation.kernels.sendall(text)
    heard = conversation.hear(len(text))
    has_superpackets = granted.takes_superpackets(conversation.segment(0).dst)
    assert b"".join(segment.text() for _, segment in heard) == text
    assert any(packet.gso_size for packet, _ in heard) == has_superpackets
    assert {packet.checksum for packet, _ in heard} == {CHECKSUM_PARTIAL if granted.checksum else CHECKSUM_UNVERIFIED}
    conversation.send(ACK | PSH, b"answer")
    assert conversation.kernels.recv(10) == b"answer"


@pytest.mark.kernel
@pytest.mark.tun
def test_kernel_that_offers_all_or_is_asked_for_nothing_is_not_logged(opened, caplog):
    for offload in (True, False):
        opened("tun", offload).close()
    assert caplog.records == []


# --- one device after the other -----------------------------------------------------------------------------


def make_persistent(*flags: str) -> None:
    subprocess.run(("ip", "tuntap", "add", "dev", "tun0", "mode", "tun", *flags), check=True)


@pytest.mark.kernel
@pytest.mark.tun
@of_each_version
@pytest.mark.parametrize("flags", [(), ("vnet_hdr",)], ids=["bare", "vnet_hdr"])
def test_persistent_device_that_had_offload_has_none_when_opened_without(inside, opened, talk, version, flags):
    inside(make_persistent, *flags)
    for offload in (True, False, True, False):
        device = opened("tun", offload)
        conversation = talk(device, version)
        if offload:
            text = some_text(4 * MSS[version])
            conversation.kernels.sendall(text)
            assert any(packet.gso_size for packet, _ in conversation.hear(len(text)))
        else:
            check_complete(conversation)
        conversation.close()
        device.close()


@pytest.mark.kernel
@pytest.mark.tun
@of_each_version
def test_program_that_knows_nothing_of_offload_finds_complete_packets_on_a_device_that_had_it(
    inside, opened, talk, version
):
    inside(make_persistent)
    opened("tun").close()

    def attach() -> int:
        fd = os.open(tun.TUN_NODE, os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tun0", 0x1001))  # IFF_TUN | IFF_NO_PI, and no more
        return fd

    class Bare(TunDevice):
        def _negotiate(self, wanted: bool) -> Offload:
            return NO_OFFLOAD

    device = Bare(inside(attach), "tun0", MTU, False, False)
    check_complete(talk(device, version))
    device.close()


@pytest.mark.kernel
@on_either
def test_helper_has_taken_its_own_offload_back_before_the_device_changes_hands(inside, monkeypatch, kind):
    """Closing sets the device back: after the new owner has asked for offload that would undo it unseen."""
    done: list[str] = []
    real_ioctl, real_send = fcntl.ioctl, socket.send_fds

    def ioctl(fd: int, request: int, *argument: Any) -> Any:
        if request == TUNSETOFFLOAD:
            done.append(f"offload {argument[0]}")
        return real_ioctl(fd, request, *argument)

    def send_fds(*arguments: Any) -> Any:
        done.append("handed over")
        return real_send(*arguments)

    monkeypatch.setattr(tun.fcntl, "ioctl", ioctl)
    monkeypatch.setattr(helper.socket, "send_fds", send_fds)
    request = {
        "device": kind, "offload": True, "name": "tun0", "addresses": list(KERNEL), "mtu": 1500, "txqueuelen": 500,
        "names": {},
    }  # fmt: skip
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        inside(helper._set_up, its, request)
        answer, fds, _, _ = socket.recv_fds(ours, 65536, 2)
    assert done == (["offload 15", "offload 0", "handed over"] if kind == "tun" else ["handed over"])
    assert json.loads(answer)["device"] == kind
    assert len(fds) == (1 if kind == "tun" else 2)
    for fd in fds:
        os.fstat(fd)
        os.close(fd)


# --- a namespace's device -----------------------------------------------------------------------------------


@pytest.mark.kernel
@on_either
@pytest.mark.parametrize(
    ("argument", "variable", "has_offload"),
    [
        (None, None, True),
        (None, "", True),
        (None, "on", True),
        (None, "off", False),
        (True, "off", True),
        (False, "on", False),
    ],
)
def test_namespace_s_device_has_offload_as_the_caller_or_else_the_environment_says(
    monkeypatch, kind, argument, variable, has_offload
):
    if variable is None:
        monkeypatch.delenv(OFFLOAD_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(OFFLOAD_VARIABLE, variable)
    with Namespace.open(device=kind, offload=argument) as namespace:
        assert namespace.device.offload == (FULL_OFFLOAD if has_offload else NO_OFFLOAD)
        code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hello', ('10.9.0.2', 9))"
        subprocess.run([*namespace.exec_prefix, "python3", "-c", code], check=True, timeout=30)
        [packet] = namespace.device.receive(10, 0)
    assert packet.data().endswith(b"hello")
    assert packet.checksum == (CHECKSUM_PARTIAL if has_offload else CHECKSUM_UNVERIFIED)


def test_unknown_value_of_the_environment_variable_is_a_value_error(monkeypatch):
    monkeypatch.setenv(OFFLOAD_VARIABLE, "perhaps")
    with pytest.raises(ValueError, match="TCPSTACK_OFFLOAD can be on or off, not 'perhaps'"):
        Namespace.open()


# --- struct virtio_net_hdr ----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 14])
@pytest.mark.parametrize(
    ("v6", "gso_size", "flags", "expected"),
    [
        (False, 0, ACK, (1, 0, 0, 0, 20, 16)),
        (True, 0, ACK, (1, 0, 0, 0, 40, 16)),
        (False, 1000, ACK, (1, 1, 52, 1000, 20, 16)),
        (True, 1000, ACK, (1, 4, 72, 1000, 40, 16)),
        (False, 1000, ACK | CWR, (1, 0x81, 52, 1000, 20, 16)),
        (True, 1000, ACK | CWR, (1, 0x84, 72, 1000, 40, 16)),
        (False, 0, ACK | CWR, (1, 0, 0, 0, 20, 16)),
    ],
)
def test_header_tells_where_the_checksum_belongs_and_how_to_divide(v6, gso_size, flags, expected, before):
    src, dst = (bytes(15) + b"\1", bytes(15) + b"\2") if v6 else (b"\x0a\0\0\1", b"\x0a\0\0\2")
    segment = Segment(src, 1, dst, 2, 3, 4, flags, 5, (bytes(3000),), 3000, Options(timestamps=(1, 2)))
    segment.gso_size = gso_size
    header = struct.unpack("=BBHHHH", virtio.header_for(encode(segment, True), before))
    flags_, kind, length, size, start, offset = expected
    assert header == (flags_, kind, length + before if length else 0, size, start + before, offset)


def test_header_of_a_complete_packet_says_nothing():
    segment = Segment(b"\x0a\0\0\1", 1, b"\x0a\0\0\2", 2, 3, 4, ACK, 5, (b"text",), 4)
    assert virtio.header_for(encode(segment)) == bytes(10)
