"""Linux in each state of a connection, its peer being the test: any number of connections at once.

Linux's end is at 10.9.0.1 and fd09::1, behind a device whose other end the test reads and writes itself. The sockets
are made by a helper in the namespace, which passes them here, so that the calls are made by the test, too. Nothing
waits: an echo request follows what was said, and Linux answers in order.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

from tcpstack.core import state as st
from tcpstack.core.segment import ACK, FIN, RST, SYN, Segment
from tcpstack.device.namespace import Namespace
from tcpstack.wire.codec import FAST
from tcpstack.wire.icmp import ECHO_REPLY, ECHO_REQUEST, V6_ECHO_REPLY, V6_ECHO_REQUEST, IcmpMessage, encode_icmp
from tests.core.letter import MOD, PEER_WND, Arrival, Tcb
from tests.core.state_bench import SENT

LINUX = {4: "10.9.0.1", 6: "fd09::1"}
PEER = {4: "10.9.0.2", 6: "fd09::2"}
IRS = {4: 3_000_000, 6: MOD - 4}  # the latter wraps within the window
BUFFER = 8192  # SO_RCVBUF: a window that is soon filled
PATIENCE_S = 10.0
DELAY_S = 0.3  # Linux delays an acknowledgement by 40 to 200 ms
FIRST_TIMEOUT_S = 0.9
"""Linux repeats a SYN after a second; other segments later, as ROUTE_OPTIONS has it."""
ROUTE_OPTIONS = ("rto_min", "20s")
SYSCTLS = {
    "net/ipv4/tcp_syncookies": "0",
    "net/ipv4/tcp_max_syn_backlog": "100000",
    "net/core/somaxconn": "100000",
    "net/ipv4/tcp_window_scaling": "0",  # a number in a window field is the number
    "net/ipv4/tcp_timestamps": "0",
    "net/ipv4/tcp_sack": "0",
    "net/ipv4/tcp_fin_timeout": "600",
    "net/ipv4/tcp_rfc1337": "0",
    "net/ipv4/tcp_challenge_ack_limit": "2147483647",
    "net/ipv4/tcp_invalid_ratelimit": "500",
    "net/ipv4/tcp_congestion_control": "reno",  # paces nothing
}
LINUX_STATES = {
    1: st.ESTABLISHED, 2: st.SYN_SENT, 3: st.SYN_RECEIVED, 4: st.FIN_WAIT_1, 5: st.FIN_WAIT_2, 6: st.TIME_WAIT,
    7: st.CLOSED, 8: st.CLOSE_WAIT, 9: st.LAST_ACK, 10: st.LISTEN, 11: st.CLOSING, 12: st.SYN_RECEIVED,
}  # fmt: skip

# Answers "FAMILY COUNT" with that many sockets, in messages of up to 250, until the other end is closed.
HELPER = """
import socket, sys
for word in sys.argv[1:]:
    name, _, value = word.partition("=")
    try:
        with open("/proc/sys/" + name, "w") as file:
            file.write(value)
    except FileNotFoundError:
        pass  # a kernel that has no such thing, or has it in the first namespace only
link = socket.socket(fileno=0)
link.send(b"ready")
while asked := link.recv(100):
    family, count = map(int, asked.split())
    while count > 0:
        made = [socket.socket(family, socket.SOCK_STREAM) for _ in range(min(count, 250))]
        socket.send_fds(link, [b"."], [each.fileno() for each in made])
        count -= len(made)
        for each in made:
            each.close()
"""


class Late(Exception):
    """The machine was busy with something else for so long that Linux's timers may have spoken."""


class Flow:
    """A connection of Linux's, its TCB as far as the letter needs to know it, and what Linux said since `forget`."""

    def __init__(self, lport: int, rport: int) -> None:
        self.lport, self.rport = lport, rport
        self.socket: socket.socket | None = None
        self.heard: list[Segment] = []
        self.edge = 0
        self.tcb = Tcb(st.CLOSED, 0, 0, 0, 0, 0, 0)

    def hear(self, segment: Segment) -> None:
        self.heard.append(segment)
        if segment.flags & (ACK | RST) == ACK:
            self.edge = (segment.ack + segment.wnd) % MOD

    def forget(self) -> None:
        self.heard.clear()


class Linux:
    """In a namespace of its own. `version` is the IP version that is spoken."""

    def __init__(self) -> None:
        self.version = 4
        self._namespace = Namespace.open(txqueuelen=10_000, offload=False)
        self._device = self._namespace.device
        self._flows: dict[tuple[int, int], Flow] = {}
        self._rport = 1024
        self._lport = 20_000
        self._listener: socket.socket | None = None
        self._echo = 0
        self._started_s = time.monotonic()
        try:
            self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._link.settimeout(PATIENCE_S)
            words = [f"{name}={value}" for name, value in SYSCTLS.items()]
            with theirs:
                self._namespace.start((sys.executable, "-I", "-c", HELPER, *words), stdio=(theirs.fileno(), 1, 2))
            assert self._link.recv(100) == b"ready"
            environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
            for peer in PEER.values():
                route = ("ip", "route", "add", peer, "dev", self._device.name, *ROUTE_OPTIONS)
                subprocess.run((*self._namespace.exec_prefix, *route), env=environment, check=True)
        except BaseException:
            self._namespace.close()
            raise

    def close(self) -> None:
        self.end()
        self._link.close()
        self._namespace.close()

    # -- what one does with it

    def make(self, state: str, count: int) -> list[Flow]:
        """So many connections in that state."""
        self._started_s = time.monotonic()
        flows = MAKERS[state](self, count)
        for flow in flows:
            tcb = flow.tcb
            if flow.edge and not acknowledged(flow) and tcb.state != st.SYN_SENT:
                raise Late
            tcb.rcv_wnd = (flow.edge - tcb.rcv_nxt) % MOD if flow.edge else BUFFER
            flow.forget()
        return flows

    def say(self, flow: Flow, seq: int, ack: int, flags: int, text: bytes = b"") -> None:
        segment = Segment(
            ip_address(PEER[self.version]).packed, flow.rport, ip_address(LINUX[self.version]).packed, flow.lport,
            seq % MOD, ack % MOD, flags, PEER_WND, (text,) if text else (), len(text), up=7,
        )  # fmt: skip
        assert self._device.send(FAST.encode(segment, False, 64, 0), 0)

    def tell(self, flow: Flow, seg: Arrival) -> None:
        self.say(flow, seg.seq, seg.ack, seg.flags, seg.text)

    def settle(self) -> None:
        """Hear all that Linux has said by now."""
        self._echo += 1
        v4 = self.version == 4
        src, dst = ip_address(PEER[self.version]).packed, ip_address(LINUX[self.version]).packed
        body = struct.pack("!HH", 1, self._echo & 0xFFFF)
        ask = IcmpMessage(src, dst, ECHO_REQUEST if v4 else V6_ECHO_REQUEST, 0, body)
        assert self._device.send(encode_icmp(ask), 0)
        answered = False
        while not answered:
            packets = self._device.receive(64, 0)
            for packet in packets:  # all of them: a delayed ACK may follow the reply
                item = FAST.decode(packet)
                if isinstance(item, Segment):
                    flow = self._flows.get((item.sport, item.dport))
                    if flow is not None:
                        flow.hear(item)
                elif isinstance(item, IcmpMessage) and item.type == (ECHO_REPLY if v4 else V6_ECHO_REPLY):
                    answered = answered or item.body == body
            if not packets:
                ready, _, _ = select.select([self._device], [], [], PATIENCE_S)
                assert ready, "Linux does not answer an echo request"

    def owed(self, flows: Sequence[Flow]) -> None:
        """Have Linux send the acknowledgements that it delays, which takes an accepted socket with nothing unread."""
        self._accept()
        for flow in flows:
            if flow.socket is not None:
                with contextlib.suppress(OSError):  # what fills a window stays
                    while flow.tcb.rcv_wnd and flow.socket.recv(65536):
                        pass
                with contextlib.suppress(OSError):
                    flow.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.settle()

    def wait_for(self, flows: Sequence[Flow], done: Callable[[Flow], bool]) -> None:
        """Until that is so of all of them, or Linux has said all that it had delayed."""
        until_s = time.monotonic() + DELAY_S
        self.settle()
        while not all(map(done, flows)) and (left_s := until_s - time.monotonic()) > 0:
            select.select([self._device], [], [], left_s)
            self.settle()

    def states(self, flows: Sequence[Flow]) -> list[int]:
        """Where each of them is now: LISTEN where there is nothing but a listener, CLOSED where there is nothing."""
        name = "tcp" if self.version == 4 else "tcp6"
        found: dict[tuple[int, int], int] = {}
        for line in Path(f"/proc/{self._namespace.pid}/net/{name}").read_text().splitlines()[1:]:
            _, local, remote, state, _ = line.split(None, 4)
            found[int(local[-4:], 16), int(remote[-4:], 16)] = LINUX_STATES[int(state, 16)]
        return [found.get((flow.lport, flow.rport), found.get((flow.lport, 0), st.CLOSED)) for flow in flows]

    def end(self) -> None:
        """Of all connections, aloud."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for flow in self._flows.values():
            if flow.socket is not None:
                with contextlib.suppress(OSError):
                    flow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                flow.socket.close()
        self._flows.clear()
        self.settle()

    def check_time(self) -> None:
        """Raises Late where Linux may have spoken by itself since `make`."""
        if time.monotonic() - self._started_s > FIRST_TIMEOUT_S:
            raise Late

    # -- the ways into the states

    def closed(self, count: int) -> list[Flow]:
        flows = self._new(count)
        for flow in flows:
            flow.tcb = self._tcb(st.CLOSED, 1_000_000)
        return flows

    def listen(self, count: int) -> list[Flow]:
        self._lport += 1
        self._listener = self._sockets(1)[0]
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener.bind((LINUX[self.version], self._lport))
        self._listener.listen(100_000)
        self._listener.setblocking(False)
        flows = self._new(count)
        for flow in flows:
            flow.tcb = self._tcb(st.LISTEN, 1_000_000)
        return flows

    def syn_sent(self, count: int) -> list[Flow]:
        flows = []
        made = self._sockets(count)
        self._lport += 1
        for each in made:
            self._rport += 1
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setblocking(False)
            each.bind((LINUX[self.version], self._lport))
            flow = Flow(self._lport, self._rport)
            flow.socket = each
            self._flows[flow.lport, flow.rport] = flow
            flows.append(flow)
            with contextlib.suppress(BlockingIOError):
                each.connect((PEER[self.version], flow.rport))
        self.settle()
        for flow in flows:
            [syn] = flow.heard
            assert syn.flags == SYN
            flow.tcb = self._tcb(st.SYN_SENT, syn.seq)
            flow.edge = (flow.tcb.rcv_nxt + syn.wnd) % MOD
        return flows

    def syn_received_passive(self, count: int) -> list[Flow]:
        flows = self.listen(count)
        for flow in flows:
            self.say(flow, flow.tcb.irs, 0, SYN)
        self.settle()
        for flow in flows:
            [syn_ack] = flow.heard
            flow.tcb = self._tcb(st.SYN_RECEIVED, syn_ack.seq)
            flow.tcb.passive = True
        return flows

    def syn_received_active(self, count: int) -> list[Flow]:
        flows = self.syn_sent(count)
        for flow in flows:
            self.say(flow, flow.tcb.irs, 0, SYN)
            flow.tcb.state = st.SYN_RECEIVED
        self.settle()
        return flows

    def established(self, count: int) -> list[Flow]:
        """By accept(); the listener goes on."""
        flows = self.syn_received_passive(count)
        for flow in flows:
            tcb = flow.tcb
            tcb.una = tcb.nxt
            self.say(flow, tcb.rcv_nxt, tcb.nxt, ACK)
        self._accept()
        for flow in flows:
            assert flow.socket is not None
            flow.socket.send(SENT)
            flow.tcb.nxt = (flow.tcb.nxt + len(SENT)) % MOD
            flow.tcb.state, flow.tcb.listening = st.ESTABLISHED, True
        self.settle()
        return flows

    def deaf(self, flows: list[Flow]) -> list[Flow]:
        """Nobody listens any more."""
        assert self._listener is not None
        self._listener.close()
        self._listener = None
        for flow in flows:
            flow.tcb.listening = False
        return flows

    def filled(self, flows: list[Flow]) -> list[Flow]:
        """The window is closed."""
        open_ = list(flows)
        while open_:
            for flow in open_:
                tcb = flow.tcb
                while tcb.rcv_nxt != flow.edge:
                    size = min((flow.edge - tcb.rcv_nxt) % MOD, 1000)
                    self.say(flow, tcb.rcv_nxt, tcb.una, ACK, bytes(size))
                    tcb.rcv_nxt = (tcb.rcv_nxt + size) % MOD
            self.wait_for(open_, acknowledged)
            open_ = [flow for flow in open_ if flow.edge != flow.tcb.rcv_nxt]
        return flows

    def shut_down(self, flows: list[Flow], state: int) -> list[Flow]:
        for flow in flows:
            assert flow.socket is not None
            flow.socket.shutdown(socket.SHUT_WR)
            tcb = flow.tcb
            tcb.nxt, tcb.fin_sent, tcb.state = (tcb.nxt + 1) % MOD, True, state
        self.settle()
        return flows

    def peer_acknowledges(self, flows: list[Flow], state: int) -> list[Flow]:
        for flow in flows:
            tcb = flow.tcb
            tcb.una, tcb.state = tcb.nxt, state
            self.say(flow, tcb.rcv_nxt, tcb.nxt, ACK)
        self.settle()
        return flows

    def peer_shuts_down(self, flows: list[Flow], state: int) -> list[Flow]:
        for flow in flows:
            tcb = flow.tcb
            self.say(flow, tcb.rcv_nxt, tcb.una, FIN | ACK)
            tcb.rcv_nxt, tcb.state = (tcb.rcv_nxt + 1) % MOD, state
        self.owed(flows)
        self.wait_for(flows, acknowledged)
        return flows

    # -- inside

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._listener is not None:
                accepted, (_, rport, *_) = self._listener.accept()
                accepted.setblocking(False)
                self._flows[self._lport, rport].socket = accepted

    def _tcb(self, state: int, iss: int) -> Tcb:
        irs = IRS[self.version]
        una = iss if state in (st.SYN_SENT, st.SYN_RECEIVED) else (iss + 1) % MOD
        return Tcb(state, iss, una, (iss + 1) % MOD, irs, (irs + 1) % MOD, BUFFER)

    def _new(self, count: int) -> list[Flow]:
        flows = []
        for _ in range(count):
            self._rport += 1
            flow = Flow(self._lport, self._rport)
            self._flows[flow.lport, flow.rport] = flow
            flows.append(flow)
        return flows

    def _sockets(self, count: int) -> list[socket.socket]:
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        self._link.send(f"{int(family)} {count}".encode())
        made: list[socket.socket] = []
        while len(made) < count:
            _, fds, _, _ = socket.recv_fds(self._link, 10, 250)
            made += [socket.socket(fileno=fd) for fd in fds]
        return made


def acknowledged(flow: Flow) -> bool:
    """Nothing that was said to Linux is left to acknowledge."""
    return flow.heard[-1].ack == flow.tcb.rcv_nxt


MAKERS: dict[str, Callable[[Linux, int], list[Flow]]] = {
    "CLOSED": Linux.closed,
    "LISTEN": Linux.listen,
    "SYN-SENT": Linux.syn_sent,
    "SYN-RECEIVED, passive": Linux.syn_received_passive,
    "SYN-RECEIVED, active": Linux.syn_received_active,
    "ESTABLISHED": Linux.established,
    "ESTABLISHED, zero window": lambda x, n: x.filled(x.established(n)),
    "FIN-WAIT-1": lambda x, n: x.shut_down(x.established(n), st.FIN_WAIT_1),
    "FIN-WAIT-2": lambda x, n: x.peer_acknowledges(MAKERS["FIN-WAIT-1"](x, n), st.FIN_WAIT_2),
    "CLOSE-WAIT": lambda x, n: x.peer_shuts_down(x.established(n), st.CLOSE_WAIT),
    "CLOSING": lambda x, n: x.peer_shuts_down(MAKERS["FIN-WAIT-1"](x, n), st.CLOSING),
    "LAST-ACK": lambda x, n: x.shut_down(MAKERS["CLOSE-WAIT"](x, n), st.LAST_ACK),
    "TIME-WAIT": lambda x, n: x.deaf(MAKERS["TIME-WAIT, listening"](x, n)),
    "TIME-WAIT, listening": lambda x, n: x.peer_shuts_down(MAKERS["FIN-WAIT-2"](x, n), st.TIME_WAIT),
}
