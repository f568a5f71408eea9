"""What a case is. Its repr is the Python that makes it again."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.config import MILLISECOND_NS, SECOND_NS, Config
from ...device.pipe import Line

GENTLE = ("duplicate", "reorder", "delay", "strip")
"""Fault rules that lose nothing."""
LEAST_RATE_BPS = 1_000_000_000
"""Of a line in front of which no queue grows that anybody would notice."""
LONGEST_NS = 75 * MILLISECOND_NS
"""A round trip that is below the RTO at any rate."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one end of a conversation does.

    writes      (when_ns, octets), in order, counted from the beginning of the conversation
    read_bytes  how much it reads at a time; 0: all there is
    read_every_ns  how long it waits between reads; 0: it reads whenever there is something
    ending      what follows its writes: "shutdown" (half close), "close" (both halves), "abort", or "wait"
    urgent      all that it writes is urgent text
    paced       it waits with each write until all before it has left
    hasty       its ending does not wait for the handshake: while the connection opens, that cancels it
    """

    writes: tuple[tuple[int, int], ...] = ()
    read_bytes: int = 0
    read_every_ns: int = 0
    ending: str = "shutdown"
    urgent: bool = False
    paced: bool = False
    hasty: bool = False


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation, opened at `at_ns` by host `opener` (0 or 1) to port `port` of the other.

    `both_open`: no one listens, both ends open at once, from and to that port. `nobody`: no one listens at all.
    `lport`: the opener's port; 0: any. Several conversations may have the same, one after another.
    """

    at_ns: int
    opener: int
    port: int
    plans: tuple[Plan, Plan]  # the opener's, the other's
    both_open: bool = False
    nobody: bool = False
    lport: int = 0


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
    everyone reads on and finishes. `wraps`: sequence numbers and timestamps begin shortly before they wrap.
    Listeners have a queue of `backlog`, from which a connection is accepted after `accept_ns`.
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
    wraps: bool = False
    backlog: int = 100
    accept_ns: int = 0

    @property
    def is_clean(self) -> bool:
        """Nothing is lost, doubled, delayed out of order or bent."""
        return not any(self.faults) and self._is_whole and all(
            line.queue_bytes is None and line.queue_packets is None for line in self.lines
        )

    @property
    def is_quiet(self) -> bool:
        """It is clean, and no answer takes as long as the RTO: then nothing may be sent twice but probes."""
        rated = any(line.rate_bps is not None and line.rate_bps < LEAST_RATE_BPS for line in self.lines)
        delayed = any(config.delayed_ack_ns >= config.rto_min_ns for config in self.configs) or self.accept_ns > 0
        round_trip_ns = sum(line.delay_ns + line.jitter_ns for line in self.lines) * (1 + self.routers)
        # A full queue ignores the end of a handshake, with its text; TIME-WAIT a SYN whose number is not a higher one.
        crowded = self.backlog < len(self.talks) or any(talk.lport for talk in self.talks)
        return self.is_clean and not crowded and not rated and not delayed and round_trip_ns <= LONGEST_NS

    @property
    def is_even(self) -> bool:
        """It is quiet, and each answer takes as long as any other: then no probe of the tail comes before it."""
        steady = all(line.rate_bps is None and not line.jitter_ns for line in self.lines)
        return self.is_quiet and steady and not any(config.delayed_ack_ns for config in self.configs)

    @property
    def is_gentle(self) -> bool:
        """Nothing is lost but what finds no room in a queue: then no connection dies unless a program wants it."""
        gentle = all(rule.startswith(GENTLE) for rules in self.faults for rule in rules)
        return gentle and self._is_whole and self.is_patient

    @property
    def _is_whole(self) -> bool:
        return self.heals and not self.attacks

    @property
    def is_patient(self) -> bool:
        """Nobody gives up before the network heals, nor before a full queue has room."""
        roomy = self.backlog >= len(self.talks)
        return roomy and all(config.r2_ns > 2 * self.lasts_ns for config in self.configs)
