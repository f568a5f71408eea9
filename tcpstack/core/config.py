"""The engine's parameters, with their defaults and where each comes from. Times in ns, sizes in octets."""

from __future__ import annotations

from dataclasses import dataclass, field

from .congestion import CONTROLLERS
from .keepalive import KeepAliveSettings, checked
from .timers import NEVER

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000

DEFAULT_RECEIVE_BUFFER_BYTES = 256 * 1024
DEFAULT_SEND_BUFFER_BYTES = 1024 * 1024
_DEFAULT_LIMIT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """One connection's parameters; `dataclasses.replace` makes a variant.

    Raises ValueError on construction where a value makes no sense, naming it.
    """

    receive_buffer_bytes: int = DEFAULT_RECEIVE_BUFFER_BYTES
    """RCV.BUFF as a connection begins: what is set here is kept, the default grows (receive_buffer_max_bytes)."""
    receive_buffer_max_bytes: int | None = None
    """How far RCV.BUFF may grow while the application reads as fast as the peer sends (core/receive/autotune.py). None:
    8 MiB where receive_buffer_bytes is its default, else no further than that. Without offload a device bounds it too:
    a TUN queue holds txqueuelen packets (the kernel's default is 500), and a window far above that overflows it."""
    send_buffer_bytes: int = DEFAULT_SEND_BUFFER_BYTES
    """The most octets that may be sent and not yet acknowledged (SO_SNDBUF in other stacks) while cwnd is small: what
    is set here is kept, the default grows (send_buffer_max_bytes)."""
    send_buffer_max_bytes: int | None = None
    """How far the octets sent and not yet acknowledged may grow, with twice cwnd. None: 8 MiB where send_buffer_bytes
    is its default, else no further than that."""
    mss_default_v4: int = 536
    """SendMSS where the peer's SYN had no MSS option (RFC 9293 3.7.1, MUST-15)."""
    mss_default_v6: int = 1220
    window_scaling: bool = True
    """Offer the Window Scale option (RFC 7323 2)."""

    sack: bool = True
    """Offer selective acknowledgements (RFC 2018); where the peer does too, losses are found by RACK-TLP (RFC 8985)
    instead of NewReno's counting of duplicates."""

    timestamps: bool = True
    """Offer timestamps (RFC 7323): old segments of a fast connection are told from new ones (PAWS), and an
    acknowledgement from one that a retransmission was not needed for."""

    nagle: bool = True
    """SHLD-7; a connection can turn it off (MUST-17, TCP_NODELAY)."""
    delayed_ack_ns: int = 40 * MILLISECOND_NS
    """SHLD-18, MUST-40 (less than 0.5 s). 40 ms as Linux has it."""

    rto_initial_ns: int = SECOND_NS
    """RFC 6298 2.1."""
    rto_min_ns: int = 200 * MILLISECOND_NS
    """Deviates from RFC 6298 2.4, which asks for a second: 200 ms as Linux does; a second makes each tail loss felt."""
    rto_max_ns: int = 120 * SECOND_NS
    """RFC 6298 2.5 allows a cap of 60 s or more."""
    syn_r2_ns: int = 180 * SECOND_NS
    """How long an active open goes on: at least 3 minutes (MUST-23)."""
    syn_received_r2_ns: int = 60 * SECOND_NS
    """How long a SYN-RECEIVED record is kept. Shorter than MUST-23's three minutes, as Linux's 63 s: the peer
    is unproven and will send its SYN again."""
    r1_retransmissions: int = 3
    """After how many retransmissions of the same segment the tracer hears that the path is in doubt (R1, SHLD-10: at
    least 3)."""
    r2_ns: int = 300 * SECOND_NS
    """How long data may go unacknowledged before the connection is given up (RFC 9293 3.8.3 and the default
    of five minutes of 3.9.1.1; SHLD-11 asks for 100 s or more)."""
    persist_max_ns: int = 60 * SECOND_NS
    """The longest interval between zero-window probes (RFC 9293 3.8.6.1)."""
    swnd_override_ns: int = 200 * MILLISECOND_NS
    """The sender's silly-window override timeout: 0.1 to 1.0 s (RFC 9293 3.8.6.2.1)."""

    keepalive: bool = False
    """Ask a peer that has said nothing for long whether it is still there (RFC 9293 3.8.4, MUST-25). A connection can
    switch it and change the numbers below while it lasts (SO_KEEPALIVE and TCP_KEEP*, Connection.set_keepalive)."""
    keepalive_idle_ns: int = 7200 * SECOND_NS
    """How long nothing must have come, with nothing of ours outstanding, before the first probe (MUST-27, MUST-28)."""
    keepalive_interval_ns: int = 75 * SECOND_NS
    """Between probes that bring nothing, as Linux's tcp_keepalive_intvl."""
    keepalive_probes: int = 9
    """After so many that brought nothing the connection is given up, as Linux's tcp_keepalive_probes. With 1 a lost
    segment ends it, against MUST-29."""

    time_wait_ns: int = 60 * SECOND_NS
    """2 MSL, with an MSL of 30 s as Linux and BSD (RFC 9293 3.4.2 proposes 2 minutes)."""
    fin_wait_2_ns: int = 60 * SECOND_NS
    """How long an orphan (its application is gone) waits for the peer's FIN, as Linux's tcp_fin_timeout."""
    challenge_ack_ns: int = 500 * MILLISECOND_NS
    """At most one challenge ACK a connection in this time (RFC 5961 7, per connection: no host-wide counter)."""

    congestion: str = "newreno"
    """Name of a controller in core/congestion/."""
    slow_start_after_idle: bool = True
    """Where nothing was sent for longer than the RTO, begin again with the initial window (RFC 5681 4.1)."""

    hop_limit: int = 64
    """Of the packets that leave, IPv4's Time to Live (MUST-49): 1 to 255."""
    traffic_class: int = 0
    """Of the packets that leave, IPv4's Type of Service octet: the DSCP, times 4 (MUST-48). Its two lowest bits are
    ECN's (RFC 3168 5) and must be 0. A connection's can change while it lasts (Connection.traffic_class)."""

    receive_limit_bytes: int = field(init=False, repr=False, compare=False)
    """receive_buffer_max_bytes, or what its None comes to."""
    send_limit_bytes: int = field(init=False, repr=False, compare=False)
    """send_buffer_max_bytes, or what its None comes to."""
    keepalive_settings: KeepAliveSettings = field(init=False, repr=False, compare=False)
    """The four of keepalive, as a connection has them."""
    ip_fields: tuple[int, int] = field(init=False, repr=False, compare=False)
    """(hop_limit, traffic_class), as each packet needs them."""

    def __post_init__(self) -> None:
        self._check_buffers()
        object.__setattr__(self, "receive_limit_bytes", _limit(
            self.receive_buffer_bytes, self.receive_buffer_max_bytes, DEFAULT_RECEIVE_BUFFER_BYTES
        ))  # fmt: skip
        object.__setattr__(self, "send_limit_bytes", _limit(
            self.send_buffer_bytes, self.send_buffer_max_bytes, DEFAULT_SEND_BUFFER_BYTES
        ))  # fmt: skip
        object.__setattr__(self, "ip_fields", checked_ip_fields(self.hop_limit, self.traffic_class))
        object.__setattr__(self, "keepalive_settings", checked(KeepAliveSettings(
            self.keepalive, self.keepalive_idle_ns, self.keepalive_interval_ns, self.keepalive_probes
        )))  # fmt: skip
        if not 0 <= self.delayed_ack_ns < SECOND_NS // 2:
            raise ValueError(f"delayed_ack_ns must be 0 to under 500,000,000 (MUST-40), not {self.delayed_ack_ns}")
        if not 0 < self.rto_min_ns <= self.rto_initial_ns <= self.rto_max_ns:
            raise ValueError("the retransmission timeouts must obey 0 < rto_min_ns <= rto_initial_ns <= rto_max_ns")
        if self.r1_retransmissions < 1:
            raise ValueError(f"r1_retransmissions must be at least 1, not {self.r1_retransmissions}")
        if self.congestion not in CONTROLLERS:
            raise ValueError(f"congestion must be one of {', '.join(CONTROLLERS)}, not {self.congestion!r}")
        for name in (
            "rto_max_ns", "syn_r2_ns", "syn_received_r2_ns", "r2_ns", "persist_max_ns", "swnd_override_ns",
            "time_wait_ns", "fin_wait_2_ns",
        ):  # fmt: skip
            if not 0 < getattr(self, name) < NEVER:
                raise ValueError(
                    f"{name} must be a positive number of nanoseconds below 2^63, not {getattr(self, name)}"
                )
        if self.challenge_ack_ns >= NEVER:
            raise ValueError(f"challenge_ack_ns must be below 2^63 nanoseconds, not {self.challenge_ack_ns}")

    def _check_buffers(self) -> None:
        for begin, most in (
            ("receive_buffer_bytes", "receive_buffer_max_bytes"), ("send_buffer_bytes", "send_buffer_max_bytes"),
        ):  # fmt: skip
            begin_bytes, most_bytes = getattr(self, begin), getattr(self, most)
            if not 1 <= begin_bytes <= 1 << 30:
                raise ValueError(f"{begin} must be 1 to 2^30 octets, not {begin_bytes}")
            if most_bytes is not None and not begin_bytes <= most_bytes <= 1 << 30:
                raise ValueError(f"{most} must be {begin} ({begin_bytes}) to 2^30 octets, not {most_bytes}")


def checked_ip_fields(hop_limit: int, traffic_class: int) -> tuple[int, int]:
    """Both, as a pair. Raises ValueError for what they can't be (Config.hop_limit, Config.traffic_class)."""
    if not 1 <= hop_limit <= 255:
        raise ValueError(f"hop_limit must be 1 to 255, not {hop_limit}")
    if not 0 <= traffic_class <= 255 or traffic_class & 3:
        raise ValueError(f"traffic_class must be 0 to 252 with the two bits of ECN 0, not {traffic_class}")
    return hop_limit, traffic_class


def _limit(begin_bytes: int, most_bytes: int | None, default_bytes: int) -> int:
    if most_bytes is not None:
        return most_bytes
    return _DEFAULT_LIMIT_BYTES if begin_bytes == default_bytes else begin_bytes
