"""A loop over a TUN descriptor that answers as a TCP would, and is none: what Python can do at best.

It completes handshakes, acknowledges what arrives in order (once a batch), sends full segments as long as the
peer's window has room, echoes, and answers FIN with FIN. There are no states, no buffers, no congestion window
and no application; nothing that arrives is verified, and the octets that it sends are summed once and for all.
It serves IPv4 without options, behind a TUN that carries bare packets.
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
_SHIFT = 4
_WINDOW = 512 * 1024 >> _SHIFT  # the same window that tcpstack offers
_HEADERS = 40
_IPV4 = 0x45
_TCP = 6

# IHL and version, total length, protocol; addresses and ports in one; SEQ, ACK, offset and flags, window.
_ARRIVING = struct.Struct("!BxH5xB2x12sIIHH")
_IP_HEADER = struct.Struct("!BBHHHBBH")
_TCP_HEADER = struct.Struct("!IIHHHH")


class Flow:
    """A connection, or what the loop needs instead of one. Sequence numbers are those of the wire."""

    __slots__ = ("constant", "heads", "kind", "mss", "nxt", "owes_ack", "ports", "rcv_nxt", "una", "wnd", "wnd_shift")

    def __init__(self, key: bytes, kind: int, mss: int, wnd_shift: int, rcv_nxt: int) -> None:
        source, destination, self.ports = key[4:8], key[0:4], key[10:12] + key[8:10]
        addresses = source + destination
        # All that stays the same in a TCP checksum: the pseudo-header and the ports.
        self.constant = int.from_bytes(addresses + self.ports, "big") % 0xFFFF + _TCP
        self.heads = {size: _ip_header(addresses, size) + self.ports for size in (0, 1, 4, mss)}
        self.kind = kind
        self.mss = mss
        self.wnd_shift = wnd_shift
        self.rcv_nxt = rcv_nxt
        self.una = 0
        self.nxt = 1
        self.wnd = 0
        self.owes_ack = False


class BareLoop:
    """Serves all addresses and ports behind `fd`, whose packets have at most `mtu` octets."""

    def __init__(self, fd: int, mtu: int) -> None:
        self._fd = fd
        self._mss = mtu - _HEADERS
        self._text = bytes(self._mss)
        self._flows: dict[bytes, Flow] = {}
        self._sources: dict[bytes, Flow] = {}
        self._owing: list[Flow] = []

    def run(self, until_fd: int) -> None:
        """Serve until something happens on descriptor `until_fd`."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(until_fd, select.POLLIN)
        timeout_ms: int | None = None
        while True:
            events = poll.poll(timeout_ms)
            for fd, _ in events:
                if fd == until_fd:
                    return
            if events:
                self._take_batch()
            elif timeout_ms:
                for flow in self._sources.values():
                    flow.nxt = flow.una
            timeout_ms = None
            if self._sources:
                timeout_ms = 0 if self._fill_windows() else _STALL_MS

    def _take_batch(self) -> None:
        fd, readv, unpack, flows, owing = self._fd, os.readv, _ARRIVING.unpack_from, self._flows, self._owing
        buffer = bytearray(65_535)
        buffers = [buffer]
        for _ in range(BATCH_PACKETS):
            try:
                readv(fd, buffers)
            except BlockingIOError:
                break
            version, length, protocol, key, seq, ack, flags, wnd = unpack(buffer)
            if version != _IPV4 or protocol != _TCP:
                continue
            flow = flows.get(key)
            if flow is None or flags & (_SYN | _RST):
                self._open_or_forget(key, seq, flags, buffer)
                continue
            flow.una = ack
            flow.wnd = wnd << flow.wnd_shift
            size = length - 20 - (flags >> 12) * 4
            if size:
                if seq == flow.rcv_nxt:
                    flow.rcv_nxt = seq + size & _MASK
                    if flow.kind == ECHO_PORT:
                        self._send(flow, _PSH | _ACK, bytes(buffer[length - size : length]))
                        continue
                if not flow.owes_ack:
                    flow.owes_ack = True
                    owing.append(flow)
            if flags & _FIN and seq + size & _MASK == flow.rcv_nxt:
                flow.rcv_nxt = flow.rcv_nxt + 1 & _MASK
                self._send(flow, _FIN | _ACK, b"")
                # What the peer says to our FIN finds no flow, and no answer.
                self._forget(key)
        for flow in owing:
            if flow.owes_ack:
                self._send(flow, _ACK, b"")
        owing.clear()

    def _open_or_forget(self, key: bytes, seq: int, flags: int, packet: bytearray) -> None:
        if flags & _RST:
            self._forget(key)
        elif flags & _SYN:
            mss, shift = _syn_options(packet, (flags >> 12) * 4)
            port = int.from_bytes(key[10:12], "big")
            flow = Flow(key, port, min(mss, self._mss), shift, seq + 1 & _MASK)
            self._flows[key] = flow
            if port == CHARGEN_PORT:
                self._sources[key] = flow
            # MSS; NOP, Window Scale.
            options = struct.pack("!BBHBBBB", 2, 4, self._mss, 1, 3, 3, _SHIFT)
            head = _ip_header(key[4:8] + key[0:4], len(options)) + flow.ports
            flow.nxt = 0
            self._write(flow, head, 7 << 12 | _SYN | _ACK, 0xFFFF, options)
            flow.nxt = 1

    def _forget(self, key: bytes) -> None:
        self._flows.pop(key, None)
        self._sources.pop(key, None)
