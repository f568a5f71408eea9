"""Two hosts whose users do anything at any time over a network that does its worst: what must hold, holds.

Each seed is one story of some simulated minutes. On a failure the seed tells it again.
"""

from __future__ import annotations

from random import Random

import pytest

from tcpstack.core import state as st
from tcpstack.core.config import Config
from tcpstack.core.segment import ACK, RST, SYN, FourTuple, Segment
from tcpstack.wire.dpkt_codec import encode
from tcpstack.wire.packet import Packet
from tests.network import MS, SECOND, App, Crossing, Network
from tests.scripted import KnownIsn

SEEDS = range(200)


class Story:
    """One run. `sent` is what each user has written, so that what the other reads is known to be a part of it."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        delay_ns = random.choice((1_000, 1 * MS, 30 * MS, 300 * MS))
        self.net = Network(seed=seed, delay_ns=delay_ns, mtu=random.choice((576, 1500, 9000)))
        for stack in self.net.stacks:
            stack.config = self.config()
            stack.isn = KnownIsn(random.choice((random.getrandbits(32), (1 << 32) - random.randrange(1, 5_000))))
        self.net.max_batch = random.choice((1, 2, 64))
        self.harm()
        self.sent: dict[App, bytearray] = {}
        self.aborted = False
        self.attacked = random.random() < 0.3

    def config(self) -> Config:
        random = self.random
        return Config(
            receive_buffer_bytes=random.choice((1, 700, 3_000, 20_000, 65_535, 100_000, 1 << 20)),
            send_buffer_bytes=random.choice((1, 5_000, 1 << 20)),
            delayed_ack_ns=random.choice((0, 40 * MS, 200 * MS)),
            window_scaling=random.random() < 0.8,
            nagle=random.random() < 0.7,
        )

    def harm(self) -> None:
        net, random = self.net, self.random
        for rule, worst in ((net.drop, 0.3), (net.duplicate, 0.3), (net.corrupt, 0.1)):
            if random.random() < 0.5:
                rule(net.chance(random.random() * worst))
        if random.random() < 0.5:
            net.delay(net.chance(random.random() * 0.5), random.choice((1, 50, 400)) * MS)

    def tell(self) -> None:
        net, random = self.net, self.random
        version = random.choice((4, 6))
        if random.random() < 0.2:
            apps = [
                net.connect(net.a, net.b, 80, lport=4000, version=version),
                net.connect(net.b, net.a, 4000, lport=80, version=version),
            ]
        else:
            net.listen(net.b, 80)
            apps = [net.connect(net.a, net.b, 80, version=version)]
        for _ in range(random.randrange(5, 40)):
            apps += [app for app in net.accepted if app not in apps]
            self.act(random.choice(apps))
            if self.attacked:
                self.attack(random.choice(apps).connection.flow)
            net.run(for_ns=random.choice((0, 1 * MS, 100 * MS, 2 * SECOND)))
        apps += [app for app in net.accepted if app not in apps]
        self.end(apps)

    def act(self, app: App) -> None:
        random = self.random
        self.sent.setdefault(app, bytearray())
        action = random.random()
        if action < 0.5:
            size = random.choice((1, 10, 500, 1460, 5_000, 60_000))
            narrow = min(stack.config.receive_buffer_bytes for stack in self.net.stacks)
            data = random.randbytes(min(size, 300 * narrow))
            try:
                app.send(data)
            except OSError:
                return
            self.sent[app] += data
        elif action < 0.6:
            app.reading = not app.reading
            if app.reading:
                app.read()
        elif action < 0.75:
            app.read(random.choice((1, 100, 10_000)))
        elif action < 0.85:
            app.connection.nodelay = not app.connection.nodelay
        elif action < 0.95:
            self.shutdown(app)
        elif action < 0.98:
            app.close()
            self.aborted = True  # text may be unread, or arrive later
        else:
            app.abort()
            self.aborted = True

    def attack(self, flow: FourTuple) -> None:
        """Somebody knows the ports and guesses the numbers: in vain, and each guess is answered at most once."""
        net, random = self.net, self.random
        local, lport, remote, rport = flow
        for _ in range(10):
            text = random.randbytes(random.choice((0, 0, 1, 100)))
            numbers = random.getrandbits(32), random.getrandbits(32)
            segment = Segment(local, lport, remote, rport, *numbers, random.getrandbits(6), random.getrandbits(16))
            segment.payload, segment.payload_len = ((text,), len(text)) if text else ((), 0)
            victim = net.a if remote == net.address(net.a, 4 if len(remote) == 4 else 6) else net.b
            before = len(net.crossings)
            victim.on_packets([Packet((encode(segment).data(),))], net.now_ns)
            assert len(net.crossings) - before <= 1

    def end(self, apps: list[App]) -> None:
        """The network heals, everybody reads and shuts down; then nothing may be left."""
        net = self.net
        if self.random.random() < 0.7:
            net.heal()
        for app in apps:
            app.reading = True
            app.read()
            self.shutdown(app)
        net.run(until=lambda: self.late(apps), for_ns=1_000 * SECOND)
        net.run()
        for app in apps:
            app.close()  # some peer may be gone without a word: only now may FIN-WAIT-2 end
        net.run()
        check_nothing_left(net)
        self.check_texts(apps)

    def late(self, apps: list[App]) -> bool:
        """Whoever is accepted only now shuts down, too. Never true."""
        for app in self.net.accepted:
            if app not in apps:
                apps.append(app)
                self.shutdown(app)
        return False

    def shutdown(self, app: App) -> None:
        if app.connection.state == st.SYN_SENT:
            self.aborted = True  # CLOSE deletes it there, and what was queued with it (3.10.4)
        app.shutdown()

    def check_texts(self, apps: list[App]) -> None:
        pairs = [(one, two) for one in apps for two in apps if is_peer(one, two)]
        for one, two in pairs:
            written, read = self.sent.get(one, bytearray()), two.received
            assert written.startswith(bytes(read))
            if not self.aborted and one.connection.error is two.connection.error is None:
                assert read == written


def is_peer(one: App, two: App) -> bool:
    flow = one.connection.flow
    return two.connection.flow == (flow[2], flow[3], flow[0], flow[1])


def check_nothing_left(net: Network) -> None:
    assert net.next_ns is None
    for stack in net.stacks:
        assert (stack.connections, stack.syn_records, stack.time_waits) == ((), 0, 0)
        assert not stack._dirty
        assert not stack._masks
        assert not stack._ready
        assert not stack._deadlines._armed


def check_wire(crossings: list[Crossing], mtu: int) -> None:
    """What each sender's segments must obey, in the order in which they left."""
    edges: dict[tuple[object, ...], int] = {}
    acks: dict[tuple[object, ...], int] = {}
    shifts: dict[tuple[object, ...], int | None] = {}
    start: dict[tuple[object, ...], int] = {}
    incarnations: dict[tuple[object, ...], tuple[int, int]] = {}
    for crossing in crossings:
        s = crossing.segment
        key = (s.src, s.sport, s.dst, s.dport)
        peer = (s.dst, s.dport, s.src, s.sport)
        assert s.payload_len <= mtu - (40 if len(s.src) == 4 else 60)
        if s.flags & SYN:
            if incarnations.get(key) != (s.seq, s.ack):
                incarnations[key] = s.seq, s.ack
                start[key] = s.seq
                edges.pop(key, None)
                acks.pop(key, None)
            shifts[key] = s.options.wscale if s.options is not None else None
            continue
        if s.flags & RST or not s.flags & ACK or peer not in start:
            continue
        ack = (s.ack - start[peer]) % (1 << 32)
        scaled = shifts.get(key) is not None and shifts.get(peer) is not None
        edge = ack + (s.wnd << (shifts[key] or 0) if scaled else s.wnd)
        assert ack >= acks.get(key, 0), f"the acknowledgement goes back: {crossing}"
        assert edge >= edges.get(key, 0), f"the right edge moves left: {crossing}"
        acks[key], edges[key] = ack, edge
        end = (s.seq - start[key]) % (1 << 32) + s.payload_len
        if s.payload_len and peer in edges:
            # One octet beyond is a zero-window probe.
            assert end <= edges[peer] + 1, f"beyond the window of {edges[peer]}: {crossing}"


@pytest.mark.rfc9293("SHLD-14", "SHLD-15")
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_users_and_network_do_nothing_raises_spins_lies_or_is_left_over(seed: int) -> None:
    story = Story(seed)
    story.tell()
    if not story.attacked:  # a SYN that nobody sent makes the listener speak with numbers of its own
        check_wire(story.net.crossings, story.net.a.mtu)
    states = {c.connection.state for c in story.sent}
    assert states <= {st.CLOSED, st.TIME_WAIT}
