"""A loop over a TUN descriptor that answers as a TCP would, and is none: what Python can do at best.

It completes handshakes, acknowledges what arrives in order (once a batch), sends full packets as long as the
peer's window has room, echoes, and answers FIN with FIN. There are no states, no buffers, no congestion window,
no timers to speak of and no application; nothing that arrives is verified, and the octets that it sends in bulk
are summed once and for all. It serves IPv4 without options, behind a TUN that carries bare packets or, with offload,
superpackets behind virtio headers (tcpstack/device/virtio.py).
"""

from __future__ import annotations

import os
import select
import struct

from .services import CHARGEN_PORT, ECHO_PORT

BATCH_PACKETS = 64  # as in tcpstack's driver
_STALL_MS = 200  # the kernel had to drop a packet: everything from there on goes again

_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_MASK = 0xFFFFFFFF
_SHIFT = 7
# Octets. Of bare packets, ten such windows fit the device's queue, and larger ones were no faster. With superpackets
# 512 KiB took 1.4 times the CPU time an octet, and 4 MiB as much as this.
_WINDOW_BYTES, _OFFLOAD_WINDOW_BYTES = 256 * 1024, 2048 * 1024
_IP_HEADER_BYTES = _TCP_HEADER_BYTES = 20
_IPV4 = 0x45
_PROTOCOL_TCP = 6
_SUPERPACKET_SEGMENTS = 44  # at an MTU of 1500, the most that 65,535 octets hold

# Version and IHL, total length, protocol; addresses and ports in one; SEQ, ACK, offset and flags, window.
_ARRIVING = struct.Struct("!BxH5xB2x12sIIHH")
_IP_HEADER = struct.Struct("!BBHHHBBH8s")
_TCP_HEADER = struct.Struct("!4sIIHHHH")
_VIRTIO_HEADER = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_NEEDS_CSUM = 1
_GSO_TCPV4 = 1
_TCP_CHECKSUM_OFFSET = 16


class Flow:
    """What the loop has instead of a connection. Sequence numbers are those of the wire; ours begin at 0."""

    __slots__ = (
        "addresses", "heads", "mss", "nxt", "offload", "owes_ack", "port", "ports", "rcv_nxt", "text", "una", "wnd",
        "wnd_shift",
    )  # fmt: skip

    def __init__(self, key: bytes, mss: int, wnd_shift: int, rcv_nxt: int, offload: bool) -> None:
        self.addresses = key[4:8] + key[0:4]
        self.ports = key[10:12] + key[8:10]
        self.port = int.from_bytes(key[10:12], "big")
        self.heads: dict[int, tuple[bytes, int]] = {}
        self.mss = mss
        self.offload = offload
        self.text = bytes(mss * _SUPERPACKET_SEGMENTS if offload else mss)
        self.wnd_shift = wnd_shift
        self.rcv_nxt = rcv_nxt
        self.una = self.nxt = 0
        self.wnd = 0
        self.owes_ack = False

    def head(self, size: int) -> tuple[bytes, int]:
        """What stands before the TCP header of a packet with `size` octets of TCP, and what is constant in their
        sum."""
        found = self.heads.get(size)
        if found is None:
            fields = (_IPV4, 0, _IP_HEADER_BYTES + size, 0, 0x4000, 64, _PROTOCOL_TCP)
            sum_ = int.from_bytes(_IP_HEADER.pack(*fields, 0, self.addresses), "big")
            header = self._virtio_header(size) + _IP_HEADER.pack(*fields, -sum_ % 0xFFFF, self.addresses)
            pseudo_header = int.from_bytes(self.addresses, "big") + _PROTOCOL_TCP + size
            if not self.offload:
                pseudo_header += int.from_bytes(self.ports, "big")
            found = self.heads[size] = header, pseudo_header % 0xFFFF
        return found

    def _virtio_header(self, size: int) -> bytes:
        if not self.offload:
            return b""
        partial = (_IP_HEADER_BYTES, _TCP_CHECKSUM_OFFSET)
        if size <= _TCP_HEADER_BYTES + self.mss:
            return _VIRTIO_HEADER.pack(_NEEDS_CSUM, 0, 0, 0, *partial)
        return _VIRTIO_HEADER.pack(_NEEDS_CSUM, _GSO_TCPV4, _IP_HEADER_BYTES + _TCP_HEADER_BYTES, self.mss, *partial)


class BareLoop:
    """Serves all addresses and ports behind the non-blocking descriptor `fd`, with packets of up to `mtu` octets on
    the wire; with `offload`, each behind a virtio header, and with superpackets in both directions."""

    def __init__(self, fd: int, mtu: int, offload: bool) -> None:
        self._fd = fd
        self._mss = mtu - _IP_HEADER_BYTES - _TCP_HEADER_BYTES
        self._offload = offload
        self._at = _VIRTIO_HEADER.size if offload else 0
        self._window = (_OFFLOAD_WINDOW_BYTES if offload else _WINDOW_BYTES) >> _SHIFT
        self._buffer = bytearray(self._at + 65_535)
        self._flows: dict[bytes, Flow] = {}
        self._sources: dict[bytes, Flow] = {}

    def run(self, until_fd: int) -> None:
        """Serve until descriptor `until_fd` has something to read, or its end."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(until_fd, select.POLLIN)
        timeout_ms: int | None = None
        while True:
            ready = poll.poll(timeout_ms)
            if any(fd == until_fd for fd, _ in ready):
                return
            if ready:
                self._take_batch()
            elif timeout_ms:
                for flow in self._sources.values():
                    flow.nxt = flow.una
            timeout_ms = None
            if self._sources:
                timeout_ms = 0 if self._fill_windows() else _STALL_MS

    def _take_batch(self) -> None:
        fd, readv, unpack, flows = self._fd, os.readv, _ARRIVING.unpack_from, self._flows
        buffer, at = self._buffer, self._at
        buffers = (buffer,)
        owing: list[Flow] = []
        for _ in range(BATCH_PACKETS):
            try:
                readv(fd, buffers)
            except BlockingIOError:
                break
            version, length, protocol, key, seq, ack, flags, wnd = unpack(buffer, at)
            if version != _IPV4 or protocol != _PROTOCOL_TCP:
                continue
            flow = flows.get(key)
            if flow is None or flags & (_SYN | _RST):
                self._begin_or_forget(key, seq, flags)
                continue
            flow.una = ack
            flow.wnd = wnd << flow.wnd_shift
            size = length - _IP_HEADER_BYTES - (flags >> 12) * 4
            if size:
                if seq == flow.rcv_nxt:
                    flow.rcv_nxt = (seq + size) & _MASK
                if flow.port == ECHO_PORT:
                    self._send(flow, _PSH | _ACK, bytes(buffer[at + length - size : at + length]))
                elif not flow.owes_ack:
                    flow.owes_ack = True
                    owing.append(flow)
            if flags & _FIN and (seq + size) & _MASK == flow.rcv_nxt:
                flow.rcv_nxt = (flow.rcv_nxt + 1) & _MASK
                flow.owes_ack = False
                self._send(flow, _FIN | _ACK, b"")
                self._forget(key)  # what the peer says to our FIN finds no flow, and no answer
        for flow in owing:
            if flow.owes_ack:
                flow.owes_ack = False
                self._send(flow, _ACK, b"")

    def _begin_or_forget(self, key: bytes, seq: int, flags: int) -> None:
        if flags & _RST:
            self._forget(key)
        elif flags & _SYN:
            mss, wnd_shift = _syn_options(self._buffer, self._at + _IP_HEADER_BYTES, (flags >> 12) * 4)
            flow = Flow(key, min(mss, self._mss), wnd_shift, (seq + 1) & _MASK, self._offload)
            self._flows[key] = flow
            if flow.port == CHARGEN_PORT:
                self._sources[key] = flow
            # MSS, NOP, Window Scale: 2 words of options, which travel as text does but don't count as such.
            options = struct.pack("!BBHBBBB", 2, 4, self._mss, 1, 3, 3, _SHIFT)
            self._send(flow, 2 << 12 | _SYN | _ACK, options)
            flow.una, flow.nxt = 0, 1

    def _forget(self, key: bytes) -> None:
        self._flows.pop(key, None)
        self._sources.pop(key, None)

    def _fill_windows(self) -> bool:
        """Send a batch to each flow that wants text. Whether there is more to send."""
        more = False
        for flow in self._sources.values():
            room = flow.wnd - ((flow.nxt - flow.una) & _MASK)
            packets = room // len(flow.text)
            for _ in range(min(packets, BATCH_PACKETS)):
                self._send(flow, _ACK, flow.text, 0)
            if not packets and flow.nxt == flow.una:
                # There is less window than one superpacket takes, and nothing under way that will open it.
                self._send(flow, _ACK, flow.text[: room // flow.mss * flow.mss], 0)
            more |= packets > BATCH_PACKETS
        return more

    def _send(self, flow: Flow, flags: int, text: bytes, sum_: int | None = None) -> None:
        header, checksum = flow.head(_TCP_HEADER_BYTES + len(text))
        offset_and_flags, window = flags + 0x5000, self._window
        if not self._offload:
            if sum_ is None:
                sum_ = int.from_bytes(text if len(text) % 2 == 0 else text + b"\0", "big")
            # 2^16 is 1 modulo 65,535: 32-bit fields may be added as they are.
            checksum = -(checksum + flow.nxt + flow.rcv_nxt + offset_and_flags + window + sum_) % 0xFFFF
        tcp = _TCP_HEADER.pack(flow.ports, flow.nxt, flow.rcv_nxt, offset_and_flags, window, checksum, 0)
        try:
            os.writev(self._fd, (header + tcp, text))
        except OSError:
            return  # the kernel has no room just now
        flow.nxt = (flow.nxt + len(text)) & _MASK


def _syn_options(packet: bytearray, tcp_at: int, header_bytes: int) -> tuple[int, int]:
    """The peer's MSS and window shift. The peer is the kernel: its options are well-formed."""
    mss, wnd_shift = 536, 0
    at, end = tcp_at + _TCP_HEADER_BYTES, tcp_at + header_bytes
    while at < end and packet[at]:
        kind = packet[at]
        if kind == 2:
            mss = int.from_bytes(packet[at + 2 : at + 4], "big")
        elif kind == 3:
            wnd_shift = packet[at + 2]
        at += 1 if kind == 1 else packet[at + 1]
    return mss, wnd_shift
