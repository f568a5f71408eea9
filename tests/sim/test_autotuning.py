"""Receive buffers that grow, on a long fat link in virtual time: 100 Mbit/s and 100 ms hold 1.25 MB."""

from __future__ import annotations

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.readiness import CONNECTED
from tcpstack.device.pipe import Line
from tcpstack.sim.network import Network

RATE_BPS = 100_000_000
LINK = Line(RATE_BPS, 50 * MILLISECOND_NS)
ROUND_TRIP_BYTES = RATE_BPS // 8 // 10
SIZE = 20_000_000
BLOCK = bytes(range(256)) * 256
BEGIN_BYTES = 256 * 1024
BIG = Config(send_buffer_bytes=16 << 20)


class Download:
    """`a` sends SIZE octets to `b`, which reads what is there each time that it is told, or, where `nap_ns` is given,
    up to `read_bytes` each time that so much time has passed."""

    def __init__(self, config, *, size=SIZE, nap_ns=0, read_bytes=1 << 30, line=LINK):
        self.network = Network(1)
        self.clock = self.network.clock
        self.sender = self.network.host("a", "10.0.0.1/24", config=BIG)
        self.reader = self.network.host("b", "10.0.0.2/24", config=config)
        self.network.link(self.sender, self.reader, line)
        self.size, self.nap_ns, self.read_bytes = size, nap_ns, read_bytes
        self.times_ns = []  # when each tenth of the text had been read
        self.got = self.largest_buffer = 0
        self.connection = None
        listener = self.reader.listen(80)
        listener.on_connection = lambda: self.accept(listener.accept())
        self.reader.notify = lambda connection, mask: self.nap_ns or self.read()
        self.sender.notify = self.write
        self.sender.connect(self.reader.stack.addresses[0].ip.packed, 80).user = self

    def write(self, connection, mask):
        if mask & CONNECTED:
            for _ in range(-(-self.size // len(BLOCK))):
                self.sender.send(connection, BLOCK)

    def accept(self, connection):
        self.connection = connection
        self.connection.user = self
        self.read()

    def read(self):
        chunks = self.reader.receive(self.connection, self.read_bytes)
        self.got += sum(map(len, chunks))
        status = self.connection.status()
        self.largest_buffer = max(self.largest_buffer, status["rcv_wnd"] + status["readable_bytes"])
        while self.got * 10 >= (len(self.times_ns) + 1) * self.size:
            self.times_ns.append(self.clock.now_ns)
        if self.nap_ns:
            self.clock.call_at(self.clock.now_ns + self.nap_ns, self.read)

    def run(self, seconds):
        self.network.run_until(lambda: len(self.times_ns) == 10, seconds)
        return self

    @property
    def share_of_the_link(self):
        """In the second half, when slow start is over."""
        return (self.size // 2) * 8 * SECOND_NS / (self.times_ns[9] - self.times_ns[4]) / RATE_BPS


@pytest.fixture(scope="module")
def grown():
    return Download(Config(receive_buffer_bytes=BEGIN_BYTES, receive_buffer_max_bytes=8 << 20)).run(10)


def test_buffer_that_grows_fills_the_link(grown):
    assert grown.share_of_the_link > 0.9
    assert ROUND_TRIP_BYTES < grown.largest_buffer < 8 * ROUND_TRIP_BYTES


def test_fixed_buffer_of_64_kb_does_not():
    fixed = Download(Config(receive_buffer_bytes=65_535), size=SIZE // 10).run(10)
    assert 0.03 < fixed.share_of_the_link < 0.06  # 64 KB each 100 ms


def test_slow_start_is_held_back_little(grown):
    """From the first octet to the last it takes hardly longer than with a window that never holds back."""
    ample = Download(Config(receive_buffer_bytes=8 << 20)).run(10)
    assert grown.times_ns[9] < ample.times_ns[9] + 100 * MILLISECOND_NS


def test_default_grows_alike(grown):
    assert Download(Config()).run(10).times_ns == grown.times_ns


def test_limit_bounds_the_buffer():
    bounded = Download(Config(receive_buffer_bytes=BEGIN_BYTES, receive_buffer_max_bytes=600_000)).run(10)
    assert 590_000 < bounded.largest_buffer < 600_000 * 9 // 8
    assert 0.4 < bounded.share_of_the_link < 0.5


@pytest.mark.parametrize(
    ("nap_ns", "read_bytes"),
    [(0, 0), (10 * MILLISECOND_NS, 10_000), (SECOND_NS, 1 << 30), (300 * MILLISECOND_NS, 100_000)],
    ids=["never", "a little, often", "all, now and then", "half, now and then"],
)
def test_slow_reader_keeps_the_buffer_that_it_began_with(nap_ns, read_bytes):
    slow = Download(Config(), nap_ns=nap_ns, read_bytes=read_bytes).run(10)
    assert slow.largest_buffer >= BEGIN_BYTES
    assert slow.largest_buffer < BEGIN_BYTES * 9 // 8
