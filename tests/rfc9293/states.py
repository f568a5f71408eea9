"""A host in each state of a connection, its peer being the test: what RFC 9293 3.10.7 begins with.

    case = in_state(ESTABLISHED)
    [ack] = case.hear(RST, case.nxt + 1)
"""

from __future__ import annotations

from collections.abc import Callable

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.connection import Connection
from tcpstack.core.segment import ACK, FIN, SYN, Segment
from tests.scripted import IRS, ISS, Scripted, shape

BUFFER = 4096  # our window: never scaled here, so that any number in a test is the one on the wire
PEER_WND = 10_000
SENT = b"0123456789"  # ours, outstanding in each synchronized state that is reached from ESTABLISHED


class Case:
    """una, snd_nxt  what the peer may acknowledge, from and to;  nxt  RCV.NXT;  edge  the window's right edge

    connection  None in LISTEN and after a passive open that is not established
    """

    def __init__(self, *, version: int = 4) -> None:
        # Nothing delays an acknowledgement: it leaves in the instant in which it is due.
        config = Config(receive_buffer_bytes=BUFFER, delayed_ack_ns=0, window_scaling=False)
        self.host = Scripted(config=config, version=version)
        self.connection: Connection | None = None
        self.una = ISS
        self.snd_nxt = ISS + 1
        self.nxt = IRS + 1
        self.edge = IRS + 1 + BUFFER

    @property
    def live(self) -> Connection:
        assert self.connection is not None
        return self.connection

    @property
    def state(self) -> int:
        """Of the connection, whatever the stack keeps of it; CLOSED where it keeps nothing."""
        stack = self.host.stack
        if stack.time_waits:
            return st.TIME_WAIT
        if stack.syn_records:
            return st.SYN_RECEIVED
        return stack.connections[0].state if stack.connections else st.CLOSED

    @property
    def told(self) -> int:
        return self.host.masks(self.live)

    def hear(
        self, flags: int, seq: int, ack: int | None = None, *, text: bytes = b"", up: int = 0, wnd: int = PEER_WND
    ) -> list[Segment]:
        """A segment of the peer's arrives; its ACK field is SND.UNA unless it is said. What we send in that instant."""
        count = len(self.host.sent)
        number = self.una if ack is None else ack
        self.host.hear(self.host.segment(flags, seq, number if flags & ACK else 0, text=text, up=up, wnd=wnd))
        self.host.wait(0)
        return self.host.since(count)

    def read(self) -> bytes:
        return self.host.read(self.live)

    def quiet(self) -> Case:
        """Forget what was said until now."""
        self.host.sent.clear()
        self.host.told.clear()
        return self


def listen(case: Case) -> None:
    case.host.listen()


def syn_sent(case: Case) -> None:
    case.connection = case.host.connect()


def syn_received_passive(case: Case) -> None:
    case.host.listen()
    case.hear(SYN, IRS)


def syn_received_active(case: Case) -> None:
    case.connection = case.host.connect()
    case.hear(SYN, IRS)


def established(case: Case) -> None:
    syn_sent(case)
    case.hear(SYN | ACK, IRS, ISS + 1)
    case.host.send(case.live, SENT)
    case.una, case.snd_nxt = ISS + 1, ISS + 1 + len(SENT)


def zero_window(case: Case) -> None:
    established(case)
    case.hear(ACK, case.nxt, text=bytes(BUFFER))
    case.nxt = case.edge


def fin_wait_1(case: Case) -> None:
    established(case)
    case.host.stack.shutdown(case.live, case.host.now_ns)
    case.snd_nxt += 1


def fin_wait_2(case: Case) -> None:
    fin_wait_1(case)
    case.hear(ACK, case.nxt, case.snd_nxt)
    case.una = case.snd_nxt


def close_wait(case: Case) -> None:
    established(case)
    case.hear(FIN | ACK, case.nxt)
    case.nxt += 1


def closing(case: Case) -> None:
    fin_wait_1(case)
    case.hear(FIN | ACK, case.nxt)
    case.nxt += 1


def last_ack(case: Case) -> None:
    close_wait(case)
    case.host.stack.shutdown(case.live, case.host.now_ns)
    case.snd_nxt += 1


def time_wait(case: Case) -> None:
    fin_wait_2(case)
    case.hear(FIN | ACK, case.nxt)
    case.nxt += 1


MAKERS: dict[str, tuple[int, Callable[[Case], None]]] = {
    "LISTEN": (st.CLOSED, listen),
    "SYN-SENT": (st.SYN_SENT, syn_sent),
    "SYN-RECEIVED passive": (st.SYN_RECEIVED, syn_received_passive),
    "SYN-RECEIVED active": (st.SYN_RECEIVED, syn_received_active),
    "ESTABLISHED": (st.ESTABLISHED, established),
    "ESTABLISHED zero window": (st.ESTABLISHED, zero_window),
    "FIN-WAIT-1": (st.FIN_WAIT_1, fin_wait_1),
    "FIN-WAIT-2": (st.FIN_WAIT_2, fin_wait_2),
    "CLOSE-WAIT": (st.CLOSE_WAIT, close_wait),
    "CLOSING": (st.CLOSING, closing),
    "LAST-ACK": (st.LAST_ACK, last_ack),
    "TIME-WAIT": (st.TIME_WAIT, time_wait),
}
SYN_RECEIVED = ("SYN-RECEIVED passive", "SYN-RECEIVED active")
OPEN = ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2")  # where text can arrive
FIN_RECEIVED = ("CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT")
SYNCHRONIZED = OPEN + FIN_RECEIVED


def in_state(name: str, *, version: int = 4) -> Case:
    """A host in that state. Nothing of how it got there is left in what was sent and told."""
    case = Case(version=version)
    state, make = MAKERS[name]
    make(case)
    assert case.state == state
    return case.quiet()


def is_ack(case: Case, answers: list[Segment], ack: int | None = None) -> bool:
    """Whether the one answer is <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, RCV.NXT being `ack` where it has moved."""
    return [shape(a) for a in answers] == [(ACK, case.snd_nxt, case.nxt if ack is None else ack, 0)]
