"""What a case is, and how one is drawn from a seed. A case's repr is the Python that makes it again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ...core.config import MILLISECOND_NS, SECOND_NS, Config
from ...device.pipe import Line

US = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What one end of a conversation does.

    writes      (when_ns, octets), in order, counted from the beginning of the conversation
    read_bytes  how much it reads at a time; 0: all there is
    read_every_ns  how long it waits between reads; 0: it reads whenever there is something
    ending      what follows its writes: "shutdown" (half close), "close" (both halves), "abort", or "wait"
    urgent      all that it writes is urgent text
    paced       it waits with each write until all before it has left
    """

    writes: tuple[tuple[int, int], ...] = ()
    read_bytes: int = 0
    read_every_ns: int = 0
    ending: str = "shutdown"
    urgent: bool = False
    paced: bool = False


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation, opened at `at_ns` by host `opener` (0 or 1) to port `port` of the other.

    `both_open`: no one listens, both ends open at once, from and to that port. `nobody`: no one listens at all.
    """

    at_ns: int
    opener: int
    port: int
    plans: tuple[Plan, Plan]  # the opener's, the other's
    both_open: bool = False
    nobody: bool = False


@dataclass(frozen=True, slots=True)
class Attack:
    """A packet that comes to `host` (0 or 1) out of nowhere. `kind` says what it is (forging.py); what of it is left
    to chance comes from `seed`."""

    at_ns: int
    host: int
    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class Case:
    """Two hosts, `routers` between them, lines there and back, fault rules at each host, conversations.

    `offloads` says which hosts send and get superpackets, `mtus` what their devices carry.
    The network is as bad as this for `lasts_ns`; then it heals, or, where `heals` is not set, carries nothing any more;
    everyone reads on and finishes.
    """

    seed: int
    version: int = 4
    octets: bool = False
    routers: int = 0
    lines: tuple[Line, Line] = (Line(), Line())
    faults: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    configs: tuple[Config, Config] = (Config(), Config())
    talks: tuple[Talk, ...] = ()
    lasts_ns: int = 20 * SECOND_NS
    offloads: tuple[bool, bool] = (False, False)
    attacks: tuple[Attack, ...] = ()
    heals: bool = True
    mtus: tuple[int, int] = (1500, 1500)

    @property
    def is_clean(self) -> bool:
        """Nothing is lost, doubled, delayed out of order or bent: then nothing may be sent twice but probes."""
        return not any(self.faults) and not self.attacks and self.heals and all(
            line.queue_bytes is None and line.queue_packets is None for line in self.lines
        )

    @property
    def is_patient(self) -> bool:
        """Nobody gives up before the network heals."""
        return all(config.r2_ns > 2 * self.lasts_ns for config in self.configs)


def draw_case(seed: int) -> Case:
    """The case of this seed; the same on every machine."""
    draw = random.Random(f"tcpstack case {seed}")
    ports = draw.sample(range(1, 200), 2)
    configs = (_draw_config(draw), _draw_config(draw))
    talks = tuple(_draw_talk(draw, draw.choice(ports), configs) for _ in range(draw.choice((1, 1, 1, 2, 3, 6))))
    both_open = any(talk.both_open for talk in talks)
    return Case(
        seed=seed,
        version=draw.choice((4, 6)),
        octets=bool(seed & 1),
        routers=draw.choice((0, 0, 0, 1, 2)),
        lines=(_draw_line(draw), _draw_line(draw)),
        faults=_with_one_corrupt((_draw_faults(draw, both_open), _draw_faults(draw, both_open))),
        configs=configs,
        talks=tuple(sorted(talks, key=lambda talk: talk.at_ns)),
        lasts_ns=draw.choice((1, 5, 20, 60)) * SECOND_NS,
        offloads=(draw.random() < 0.5, draw.random() < 0.5),
        attacks=_draw_attacks(draw),
        heals=draw.random() < 0.93,
        mtus=(draw.choice(MTUS), draw.choice(MTUS)),
    )


def _draw_line(draw: random.Random) -> Line:
    rate = draw.choice((None, None, 100_000, 1_000_000, 10_000_000, 1_000_000_000))
    bounded = rate is not None and draw.random() < 0.5
    return Line(
        rate_bps=rate,
        delay_ns=draw.choice((0, 10 * US, MILLISECOND_NS, 20 * MILLISECOND_NS, 150 * MILLISECOND_NS)),
        jitter_ns=draw.choice((0, 0, 0, MILLISECOND_NS, 40 * MILLISECOND_NS)),
        queue_bytes=draw.choice((4_000, 20_000, 64_000)) if bounded else None,
        mark_bytes=draw.choice((None, 3_000)),
    )


_FAULTS = (
    lambda d: f"loss {d.choice((1, 5, 20, 40))}% seed={d.randrange(1000)}",
    lambda d: f"duplicate {d.choice((2, 20))}% seed={d.randrange(1000)}",
    lambda d: f"reorder {d.choice((2, 20))}% seed={d.randrange(1000)}",
    lambda d: f"corrupt {d.choice((1, 10))}% seed={d.randrange(1000)}",
    lambda d: f"drop {d.choice(('syn', 'synack', 'ack', 'data', 'fin', 'rst', 'any'))} nth={d.randrange(1, 6)}",
    lambda d: f"drop {d.choice(('data', 'ack', 'any'))} nth={(first := d.randrange(1, 20))}..{first + d.randrange(8)}",
    lambda d: f"burst-loss enter={d.choice((1, 5))}% leave={d.choice((10, 50))}% seed={d.randrange(1000)}",
    lambda d: f"delay {d.choice((5, 60))}ms jitter {d.choice((1, 30))}ms seed={d.randrange(1000)}",
    lambda d: f"blackhole after={d.randrange(1, 4000)}ms for={d.choice((50, 900, 5000))}ms",
    lambda d: f"rate {d.choice((300, 3000))}kbit queue {d.choice((5, 40))}kB",
    lambda d: f"strip option={d.choice(('mss', 'wscale', 'sack', 'timestamps'))}",
    lambda d: f"mtu {d.choice((1280, 1400))}",
)


def _draw_faults(draw: random.Random, both_open: bool) -> tuple[str, ...]:
    count = draw.choice((0, 0, 0, 1, 1, 2, 3))
    rules = [draw.choice(_FAULTS)(draw) + draw.choice(("", "", " dir=in", " dir=out")) for _ in range(count)]
    # Where both ends open at once, each has offered before it hears; a middlebox that then strips one direction's
    # window scale leaves them in disagreement about it, which neither can see (RFC 7323 2.2).
    return tuple(rule for rule in rules if not (both_open and "wscale" in rule))


def _with_one_corrupt(faults: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The rules, of those that corrupt only the first."""
    # Two rules could flip two bits of one packet, and where these stand in the same column of its words the sum can be
    # what it was: what is heard wrong then is the weakness of the ones'-complement checksum, not the engine's.
    corrupting = [(host, at) for host in range(2) for at, rule in enumerate(faults[host]) if rule.startswith("corrupt")]
    spared = corrupting[1:]
    first, second = (
        tuple(rule for at, rule in enumerate(faults[host]) if (host, at) not in spared) for host in range(2)
    )
    return first, second


def _draw_config(draw: random.Random) -> Config:
    return Config(
        receive_buffer_bytes=draw.choice((1, 500, 2_000, 20_000, 100_000, 512 * 1024)),
        send_buffer_bytes=draw.choice((1, 3_000, 64_000, 1024 * 1024)),
        window_scaling=draw.random() < 0.8,
        sack=draw.random() < 0.8,
        timestamps=draw.random() < 0.7,
        nagle=draw.random() < 0.5,
        delayed_ack_ns=draw.choice((0, 40 * MILLISECOND_NS, 200 * MILLISECOND_NS)),
        slow_start_after_idle=draw.random() < 0.7,
        keepalive=draw.random() < 0.2,
        keepalive_idle_ns=draw.choice((1, 5)) * SECOND_NS,
        keepalive_interval_ns=draw.choice((1, 20)) * SECOND_NS,
        r2_ns=draw.choice((300, 300, 150, 20)) * SECOND_NS,
    )


def _draw_talk(draw: random.Random, port: int, configs: tuple[Config, Config]) -> Talk:
    opener = draw.randrange(2)
    # Through the smallest buffer a megabyte would take weeks, octet by octet: so much, and no more, at a time.
    room = min(min(config.receive_buffer_bytes, config.send_buffer_bytes) for config in configs)
    return Talk(
        at_ns=draw.choice((0, 0, 1, 10, 1_000)) * MILLISECOND_NS,
        opener=opener,
        port=port,
        plans=(_draw_plan(draw, 40 * room), _draw_plan(draw, 40 * room)),
        both_open=(kind := draw.random()) < 0.15,
        nobody=kind > 0.95,
    )


MTUS = (1500, 1500, 1500, 1400, 1280)
ATTACKS = (
    "replay", "replay", "reset in the window", "reset elsewhere", "SYN in the window", "text with a wrong ACK",
    "ACK of what was not sent", "text without ACK", "old text", "stray ACK", "stray text", "stray RST", "old ACK",
)  # fmt: skip


def _draw_attacks(draw: random.Random) -> tuple[Attack, ...]:
    if draw.random() < 0.6:
        return ()
    times = sorted(round(draw.random() ** 3 * 3_000) * MILLISECOND_NS for _ in range(draw.choice((1, 3, 10, 30))))
    return tuple(Attack(at_ns, draw.randrange(2), draw.choice(ATTACKS), draw.getrandbits(32)) for at_ns in times)


def _draw_plan(draw: random.Random, most_bytes: int) -> Plan:
    writes, at_ns = [], 0
    for _ in range(draw.choice((0, 1, 1, 2, 5, 20))):
        at_ns += draw.choice((0, 0, 1, 30, 500)) * MILLISECOND_NS
        size = draw.choice((1, 1, 10, 700, 1_460, 4_000, 30_000, 100_000))
        writes.append((at_ns, min(size, most_bytes)))
    slow = draw.random() < 0.3
    return Plan(
        writes=tuple(writes),
        read_bytes=draw.choice((1, 100, 3_000, 0)) if slow else 0,
        read_every_ns=draw.choice((1, 50, 700, 30_000)) * MILLISECOND_NS if slow else 0,
        ending=draw.choice(("shutdown", "shutdown", "shutdown", "close", "wait", "abort")),
        urgent=draw.random() < 0.1,
        paced=draw.random() < 0.2,
    )
