"""A Sender with its handshake behind it, driven as a connection drives it, on a clock that the test turns."""

from __future__ import annotations

from typing import Any

from tcpstack.core.config import MILLISECOND_NS, Config
from tcpstack.core.send.chunk import Chunk
from tcpstack.core.send.departures import next_chunk
from tcpstack.core.send.sender import GIVE_UP, IDLE, Sender
from tcpstack.core.timers import NEVER

ISS = 0xFFFF_F000  # so that the first 4 KB of each test cross 2^32
FIRST = ISS + 1
MSS = 1000
START_NS = 50 * 1_000_000_000
_OCTETS = bytes(range(251))
Sent = tuple[int, int, bool]  # offset of the first octet (the first text octet is 0), size, FIN


def ms(value: float) -> int:
    return int(value * MILLISECOND_NS)


def stream(offset: int, size: int) -> bytes:
    """The text that every test sends: octet n is n modulo 251."""
    skip = offset % 251
    return (_OCTETS * ((skip + size) // 251 + 1))[skip : skip + size]


class LoneSender:
    """Offsets count octets of text from 0. `log` has the chunks that left, with the time at which."""

    def __init__(
        self, *, wnd: int = 1 << 20, mss: int = MSS, rtt_ms: float = 100, retransmitted: bool = False, **config: Any
    ) -> None:
        self.config = Config(**config)
        self.sender = Sender(ISS, self.config)
        self.sender.mss = self.sender.chunk_bytes = mss
        self.now_ns = START_NS
        self.log: list[tuple[int, Chunk]] = []
        self.written = 0
        self.sender.on_syn_sent(self.now_ns)
        self.now_ns += ms(rtt_ms)
        self.sender.establish(wnd, 1, FIRST, retransmitted, self.now_ns)

    @property
    def una(self) -> int:
        return self.sender.una - FIRST

    @property
    def nxt(self) -> int:
        return self.sender.nxt - FIRST

    @property
    def timer_in_ms(self) -> float | None:
        """When the timer goes off, in ms from now; None where none runs."""
        timer_ns = self.sender.timer_ns
        return None if timer_ns == NEVER else (timer_ns - self.now_ns) / MILLISECOND_NS

    def write(self, size: int, fin: bool = False) -> list[Sent]:
        """The user queues `size` octets (and closes); what leaves."""
        self.sender.buffer.append(stream(self.written, size))
        self.written += size
        if fin:
            self.sender.queue_fin()
        return self.transmit()

    def transmit(self) -> list[Sent]:
        """All that may leave now, as Output.transmit has it."""
        chunks: list[Chunk] = []
        while (chunk := next_chunk(self.sender, self.now_ns)) is not None:
            chunks.append(chunk)
            assert len(chunks) < 10_000, "a sender that never stops"
        self.sender.arm(self.now_ns)
        self.log += [(self.now_ns, chunk) for chunk in chunks]
        return [(chunk.seq - FIRST, chunk.size, chunk.fin) for chunk in chunks]

    def hear(self, ack: int, wnd: int | None = None) -> int:
        """An empty segment that acknowledges up to the offset `ack` arrives: the fifth check of 3.10.7.4."""
        sender, number = self.sender, ack + FIRST
        assert sender.una <= number <= sender.nxt
        wnd = sender.wnd if wnd is None else wnd
        found = 0
        if number > sender.una:
            found = sender.on_ack(number, self.now_ns)
        else:
            sender.on_probe_answered(self.now_ns)
            if sender.nxt > number and wnd == sender.wnd:
                found = sender.on_duplicate_ack(self.now_ns)
        sender.set_window(wnd, sender.wl1, number)
        return found

    def ack(self, ack: int, wnd: int | None = None, after_ms: float = 0) -> list[Sent]:
        """The same, `after_ms` from now, and what leaves on it. The timer must not be due before that."""
        self.wait(after_ms)
        self.hear(ack, wnd)
        return self.transmit()

    def wait(self, after_ms: float) -> None:
        """Time passes, and no timer with it."""
        self.now_ns += ms(after_ms)
        assert self.sender.timer_ns >= self.now_ns, "the timer went off before"

    def timeout(self) -> list[Sent]:
        """Time passes until the timer goes off; what leaves then. Raises TimeoutError where the sender gives up."""
        assert self.sender.timer_ns != NEVER, "no timer runs"
        self.now_ns = max(self.sender.timer_ns, self.now_ns)
        found = self.sender.on_timer(self.now_ns)
        if found == GIVE_UP:
            raise TimeoutError
        assert found != IDLE
        return self.transmit()

    def wait_until_given_up(self) -> None:
        """The timer goes off again and again until the sender gives up. Nothing arrives."""
        try:
            for _ in range(1000):
                self.timeout()
        except TimeoutError:
            return
        raise AssertionError("the sender never gives up")

    def timeout_after_ms(self) -> float:
        """Time passes until the timer goes off: how long that was."""
        before_ns = self.now_ns
        self.timeout()
        return (self.now_ns - before_ns) / MILLISECOND_NS

    @property
    def last(self) -> Chunk:
        return self.log[-1][1]
