"""How a case is drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import replace

from ...core.config import DEFAULT_RECEIVE_BUFFER_BYTES, DEFAULT_SEND_BUFFER_BYTES, MILLISECOND_NS, SECOND_NS, Config
from ...device.pipe import Line
from .case import LEAST_RATE_BPS, Attack, Case, Plan, Talk

US = 1_000
QUIET = 0.2
"""So many of the cases have nothing in their way: what is then said twice, or not at all, has no excuse."""


def draw_case(seed: int) -> Case:
    """The case of this seed; the same on every machine."""
    draw = random.Random(f"tcpstack case {seed}")
    ports = draw.sample(range(1, 200), 2)
    lport = draw.randrange(300, 400) if draw.random() < 0.2 else 0
    configs = (_draw_config(draw), _draw_config(draw))
    talks = tuple(_draw_talk(draw, draw.choice(ports), lport, configs) for _ in range(draw.choice((1, 1, 1, 2, 3, 6))))
    both_open = any(talk.both_open for talk in talks)
    case = Case(
        seed=seed,
        version=draw.choice((4, 6)),
        octets=bool(seed & 1),
        routers=draw.choice((0, 0, 0, 1, 2)),
        lines=(_draw_line(draw), _draw_line(draw)),
        faults=_with_one_corrupt((_draw_faults(draw, both_open), _draw_faults(draw, both_open))),
        configs=configs,
        talks=tuple(sorted(talks, key=lambda talk: talk.at_ns)),
        lasts_ns=draw.choice((2, 5, 20, 60)) * SECOND_NS,
        offloads=(draw.random() < 0.5, draw.random() < 0.5),
        attacks=_draw_attacks(draw),
        heals=draw.random() < 0.95,
        mtus=(draw.choice(MTUS), draw.choice(MTUS)),
        wraps=draw.random() < 0.25,
        backlog=draw.choice((100, 100, 100, 1)),
        accept_ns=0 if lport else draw.choice((0, 0, 0, 50, 3_000)) * MILLISECOND_NS,  # so each has its program
    )
    return _quieted(case, draw) if draw.random() < QUIET else case


def _quieted(case: Case, draw: random.Random) -> Case:
    """The case without what would make anybody say something again."""
    even = draw.random() < 0.5
    line = Line(
        rate_bps=None if even else draw.choice((None, LEAST_RATE_BPS)),
        delay_ns=draw.choice((0, 10 * US, MILLISECOND_NS, 10 * MILLISECOND_NS)),
        jitter_ns=0 if even else draw.choice((0, MILLISECOND_NS)),
    )
    delayed_ack_ns = 0 if even else 40 * MILLISECOND_NS
    first, second = case.configs
    return replace(
        case,
        lines=(line, line),
        faults=((), ()),
        configs=(replace(first, delayed_ack_ns=delayed_ack_ns), replace(second, delayed_ack_ns=delayed_ack_ns)),
        attacks=(),
        talks=tuple(replace(talk, lport=0) for talk in case.talks),
        heals=True,
        backlog=100,
        accept_ns=0,
    )


def _draw_line(draw: random.Random) -> Line:
    rate = draw.choice((None, None, 100_000, 1_000_000, 10_000_000, 1_000_000_000))
    bounded = rate is not None and draw.random() < 0.5
    return Line(
        rate_bps=rate,
        delay_ns=draw.choice((0, 10 * US, MILLISECOND_NS, 20 * MILLISECOND_NS, 150 * MILLISECOND_NS)),
        jitter_ns=draw.choice((0, 0, 0, MILLISECOND_NS, 40 * MILLISECOND_NS)),
        queue_bytes=draw.choice((4_000, 20_000, 64_000)) if bounded else None,
        queue_packets=draw.choice((None, 3, 30)) if bounded else None,
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
    # A middlebox that strips the window scale of the SYN,ACK only, or one direction's where both ends open at once,
    # leaves them in disagreement about it, which neither can see (RFC 7323 2.2).
    return tuple(rule for rule in rules if "wscale" not in rule or not (both_open or "dir=" in rule))


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
    receive_bytes = draw.choices((1, 500, 2_000, 20_000, 100_000, 512 * 1024, DEFAULT_RECEIVE_BUFFER_BYTES), _ROOM)[0]
    grows = draw.random() < 0.2 and receive_bytes >= 2_000  # in less, the scale of the limit is coarse
    return Config(
        receive_buffer_bytes=receive_bytes,
        receive_buffer_max_bytes=max(4 * receive_bytes, 100_000) if grows else None,
        send_buffer_bytes=draw.choices((1, 3_000, 64_000, DEFAULT_SEND_BUFFER_BYTES), (1, 2, 5, 8))[0],
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


_ROOM = (1, 1, 2, 4, 4, 3, 3)  # how often each receive buffer: through the smallest nothing gets


def _draw_talk(draw: random.Random, port: int, lport: int, configs: tuple[Config, Config]) -> Talk:
    opener = draw.randrange(2)
    # Through the smallest buffer a megabyte would take weeks, octet by octet: so much, and no more, at a time.
    room = min(min(config.receive_buffer_bytes, config.send_buffer_bytes) for config in configs)
    return Talk(
        at_ns=draw.choice((0, 0, 1, 10, 1_000)) * MILLISECOND_NS,
        opener=opener,
        port=port,
        plans=(_draw_plan(draw, 40 * room), _draw_plan(draw, 40 * room)),
        both_open=(kind := draw.random()) < 0.15,
        nobody=kind > 0.97,
        lport=lport,
    )


MTUS = (1500, 1500, 1500, 1400, 1280)
ATTACKS = (
    "replay", "replay", "reset in the window", "reset elsewhere", "SYN in the window", "text with a wrong ACK",
    "ACK of what was not sent", "text without ACK", "old text", "stray ACK", "stray text", "stray RST", "old ACK",
)  # fmt: skip


def _draw_attacks(draw: random.Random) -> tuple[Attack, ...]:
    if draw.random() < 0.6:
        return ()
    # Not at the instant at which a program writes: what was not sent as it left would have been as it comes.
    times = sorted(round(draw.random() ** 3 * 3_000) * MILLISECOND_NS + 1 for _ in range(draw.choice((1, 3, 10, 30))))
    return tuple(Attack(at_ns, draw.randrange(2), draw.choice(ATTACKS), draw.getrandbits(32)) for at_ns in times)


def _draw_plan(draw: random.Random, most_bytes: int) -> Plan:
    writes, at_ns = [], 0
    left_bytes = draw.choice((1_000, 30_000, 100_000, 100_000, 300_000))
    for _ in range(draw.choice((0, 1, 1, 2, 5, 20))):
        at_ns += draw.choice((0, 0, 1, 30, 500)) * MILLISECOND_NS
        size = min(draw.choice((1, 10, 700, 1_460, 4_000, 30_000, 100_000, 300_000)), most_bytes, left_bytes)
        if size:
            writes.append((at_ns, size))
            left_bytes -= size
    slow = draw.random() < 0.2
    return Plan(
        writes=tuple(writes),
        read_bytes=draw.choice((1, 100, 3_000, 0)) if slow else 0,
        read_every_ns=draw.choice((1, 50, 700, 30_000)) * MILLISECOND_NS if slow else 0,
        ending=draw.choices(("shutdown", "close", "wait", "abort"), (7, 1, 2, 1))[0],
        urgent=draw.random() < 0.1,
        paced=draw.random() < 0.2,
        hasty=draw.random() < 0.05,
    )
