"""What a connection consists of: the transmission control block of RFC 9293 3.3.1, and what is done to it everywhere.

What happens to it, and in which order, is connection.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from . import state as st
from .config import Config, checked_ip_fields
from .events import CongestionChange, LossDetected, StateChange, Tracer
from .handshake import Negotiated, chunk_bytes_for, mss_for, syn_options
from .keepalive import KeepAlive, KeepAliveSettings, checked
from .output import Output
from .readiness import CLOSED, RESET
from .receive.acks import AckPolicy
from .receive.receiver import Receiver
from .receive.timestamps import Timestamps
from .segment import ACK, FourTuple, Segment, SegmentOptions
from .send.recovery import ENTERED, NOTHING, PARTIAL, RECOVERED
from .send.sack_recovery import PROBE_REPAIRED, UNDONE
from .send.sender import Sender
from .timers import NEVER

CONGESTION_CHANGES = {
    ENTERED: "recovery", RECOVERED: "recovered", UNDONE: "undone: nothing was lost", PROBE_REPAIRED: "recovered",
}  # fmt: skip

Emit: TypeAlias = Callable[[Segment, int, int, tuple[int, int]], None]


def _nowhere(segment: Segment, state: int, now_ns: int, ip_fields: tuple[int, int]) -> None:
    """Of a connection that no stack has."""


class TransmissionControlBlock:
    """The variables of a connection.

    flow      its name: (local address, local port, remote address, remote port)
    state     one of state.py's constants
    error     the OSError that the user is to see, once the connection has died; None before and after an orderly end
    aborted   whether it ended by our own RST: the user asked for it, or was gone when text was to be had
    user      whoever the connection serves; the engine never looks at it
    emit      whoever takes its segments: (segment, state that it leaves in, now_ns, ip_fields); the stack's, likewise
    awaits_sent  whether the user is to hear (WRITABLE) that queued text has left
    ip_fields  (hop_limit, traffic_class) of the packets that leave
    """

    __slots__ = (
        "_acks", "_challenged_ns", "_close_queued", "_config", "_full_segment_bytes", "_keepalive", "_orphan_timer_ns",
        "_orphaned", "_our_mss", "_output", "_peer_options", "_receiver", "_sender", "_soft_error",
        "_superpacket_bytes", "_syn_attempts", "_timestamps", "_tracer", "aborted", "awaits_sent", "emit", "error",
        "flow", "ip_fields", "opened_ns", "state", "user",
    )  # fmt: skip

    def __init__(
        self,
        flow: FourTuple,
        config: Config,
        iss: int,
        mtu: int,
        tracer: Tracer | None = None,
        superpacket_bytes: int = 0,
        receive_limit_bytes: int | None = None,
        timestamps: Timestamps | None = None,
    ) -> None:
        self.flow = flow
        self.state = st.CLOSED
        self.error: OSError | None = None
        self.aborted = False
        self.user: object = None
        self.emit: Emit = _nowhere
        self.awaits_sent = True
        self.opened_ns = 0
        self.ip_fields = config.ip_fields
        self._config = config
        self._tracer = tracer
        self._our_mss = self._full_segment_bytes = mss_for(mtu, flow[2])
        self._superpacket_bytes = superpacket_bytes
        limit_bytes = config.receive_limit_bytes
        if receive_limit_bytes is not None:  # what the device's queue bears
            limit_bytes = min(limit_bytes, receive_limit_bytes)
        self._sender = Sender(iss, config)
        self._receiver = Receiver(config.receive_buffer_bytes, self._our_mss, limit_bytes)
        self._acks = AckPolicy(config.delayed_ack_ns)
        self._output = Output(flow, self._sender, self._receiver, self._acks)
        self._timestamps = timestamps
        self._peer_options: SegmentOptions | None = None
        self._close_queued = False  # CLOSE was called in SYN-RECEIVED with text queued (3.10.4)
        self._orphaned = False
        self._orphan_timer_ns = NEVER
        self._keepalive: KeepAlive | None = None
        self._challenged_ns = 0
        self._syn_attempts = 0
        self._soft_error: OSError | None = None

    # ------------------------------------------------------------------ 3.10.6 STATUS

    def status(self) -> dict[str, object]:
        """The connection's variables by name: sizes in octets, times in ns, sequence numbers relative to the ISNs."""
        sender, receiver = self._sender, self._receiver
        return {
            "state": st.STATE_NAMES[self.state],
            "snd_una": sender.una - sender.iss,
            "snd_nxt": sender.nxt - sender.iss,
            "snd_wnd": sender.wnd,
            "snd_mss": sender.mss,
            "snd_wscale": sender.shift,
            "rcv_nxt": receiver.nxt - receiver.irs,
            "rcv_wnd": receiver.wnd,
            "rcv_wscale": receiver.shift,
            "rcv_mss": self._our_mss,
            "unsent_bytes": sender.unsent_bytes,
            "unacknowledged_bytes": sender.nxt - sender.una,
            "sacked_bytes": sender.recovery.sacked_bytes,
            "readable_bytes": receiver.queued_bytes,
            "urgent_bytes": receiver.urgent_bytes,
            "receive_buffer_bytes": receiver.buffer_bytes,
            "out_of_order_bytes": receiver.reassembly.bytes,
            "cwnd_bytes": sender.congestion.cwnd_bytes,
            "ssthresh_bytes": sender.congestion.ssthresh_bytes,
            "congestion": sender.congestion.name,
            "sack": sender.sack is not None,
            "timestamps": self._output.timestamps is not None,
            "srtt_ns": sender.rtt.srtt_ns,
            "rttvar_ns": sender.rtt.rttvar_ns,
            "rto_ns": sender.rtt.rto_ns,
            "timeouts": sender.rtt.backoff,
            "retransmitted": self.retransmitted,
        }

    @property
    def readable_bytes(self) -> int:
        """Octets that `receive` would give now."""
        return self._receiver.queued_bytes

    @property
    def urgent_bytes(self) -> int:
        """Octets that are left to receive, arrived or not, up to where the peer says that urgent text ends; 0 where
        there is no urgent text (MUST-33)."""
        return self._receiver.urgent_bytes

    @property
    def unsent_bytes(self) -> int:
        """Octets queued by `send` that have not left yet; none once the connection has ended."""
        return self._sender.unsent_bytes if self.state != st.CLOSED else 0

    @property
    def eof_received(self) -> bool:
        """The peer's FIN was reached: no text will follow what is readable."""
        return self._receiver.fin_received

    @property
    def bytes_in(self) -> int:
        """Octets of text received in order."""
        receiver = self._receiver
        return max(receiver.nxt - receiver.irs - 1 - receiver.fin_received, 0)

    @property
    def bytes_out(self) -> int:
        """Octets of text that the peer has acknowledged."""
        sender = self._sender
        return max(sender.una - sender.iss - 1 - sender.fin_acknowledged, 0)

    @property
    def retransmitted(self) -> int:
        """Segments sent again, SYNs included."""
        return self._sender.retransmitted + self._syn_attempts

    @property
    def nodelay(self) -> bool:
        """True switches the Nagle algorithm off (MUST-17)."""
        return self._sender.nodelay

    @nodelay.setter
    def nodelay(self, value: bool) -> None:
        self._sender.nodelay = value

    @property
    def corked(self) -> bool:
        """True: more text will come, so what fills no segment waits for it, up to the override timeout
        (Config.swnd_override_ns). TCP_CORK of other stacks; it prevails over `nodelay`."""
        return self._sender.corked

    @corked.setter
    def corked(self, value: bool) -> None:
        self._sender.corked = value

    @property
    def user_timeout_ns(self) -> int:
        """How long text may go unacknowledged before the connection is given up (Config.r2_ns)."""
        return self._sender.r2_ns

    def set_user_timeout(self, timeout_ns: int | None, now_ns: int) -> None:
        """Change it, also for what is outstanding (SEND's timeout in RFC 9293 3.9.1.2, TCP_USER_TIMEOUT); None: to the
        Config's. Raises ValueError as Config does. Our SYN has syn_r2_ns all the same."""
        if timeout_ns is None:
            timeout_ns = self._config.r2_ns
        if not 0 < timeout_ns < NEVER:
            raise ValueError(f"the user timeout must be a positive number of nanoseconds below 2^63, not {timeout_ns}")
        self._sender.set_r2(timeout_ns, now_ns)

    @property
    def traffic_class(self) -> int:
        """Of the packets that leave from now on (Config.traffic_class, SHLD-21). Setting it can raise ValueError."""
        return self.ip_fields[1]

    @traffic_class.setter
    def traffic_class(self, value: int) -> None:
        self.ip_fields = checked_ip_fields(self.hop_limit, value)

    @property
    def hop_limit(self) -> int:
        """Of the packets that leave from now on (Config.hop_limit). Setting it can raise ValueError."""
        return self.ip_fields[0]

    @hop_limit.setter
    def hop_limit(self, value: int) -> None:
        self.ip_fields = checked_ip_fields(value, self.traffic_class)

    @property
    def keepalive(self) -> KeepAliveSettings:
        """Whether and when a peer that says nothing is asked whether it is still there (Config.keepalive, MAY-5)."""
        return self._config.keepalive_settings if self._keepalive is None else self._keepalive.settings

    def set_keepalive(self, settings: KeepAliveSettings, now_ns: int) -> None:
        """Switch it on or off, or change its numbers (MUST-24). Raises ValueError as Config does; changes nothing where
        there is no connection, or no application any more."""
        checked(settings)
        if self._orphaned or self.state in (st.CLOSED, st.TIME_WAIT):
            return
        if self._keepalive is None:
            self._keepalive = KeepAlive(settings, now_ns)
        else:
            self._keepalive.set(settings, now_ns)
    # ------------------------------------------------------------------ inside

    def _send_syn(self, flags: int, reason: str, now_ns: int) -> None:
        output = self._output
        output.syn_flags = flags
        output.syn_reason = reason
        stamps = None if self._timestamps is None else self._timestamps.option(now_ns)
        output.syn_options = syn_options(self._config, self._our_mss, self._peer_options, bool(flags & ACK), stamps)

    def _negotiate(self, negotiated: Negotiated) -> None:
        sender = self._sender
        sender.mss = negotiated.mss
        self._full_segment_bytes = negotiated.full_segment_bytes
        sender.chunk_bytes = chunk_bytes_for(self._superpacket_bytes, negotiated.mss, self.flow[2])
        sender.shift = negotiated.snd_shift
        self._receiver.shift = negotiated.rcv_shift
        if negotiated.sack:
            self._receiver.reports = True
            sender.recover_by_sack()
        if negotiated.timestamps:
            self._output.timestamps = self._timestamps
        else:
            self._timestamps = None

    def _challenge(self, reason: str, now_ns: int) -> None:
        """An acknowledgement that tells a blind attacker nothing and a confused peer all (RFC 5961), limited."""
        if self._challenged_ns and now_ns - self._challenged_ns < self._config.challenge_ack_ns:
            return
        self._challenged_ns = now_ns
        self._acks.owe_duplicate(self._receiver.nxt, reason)

    def _move(self, cause: str, now_ns: int) -> None:
        before = self.state
        self.state = after = st.TRANSITIONS[before, cause]
        if self._tracer is not None:
            self._tracer(StateChange(now_ns, self.flow, before, after, cause))

    def _delete(self, cause: str, error: OSError | None, now_ns: int) -> int:
        """Enter CLOSED: queues flushed, timers off. What has been received in order can still be read."""
        self._move(cause, now_ns)
        self.error = error
        sender = self._sender
        sender.buffer.clear()
        sender.stop_timers()
        self._orphan_timer_ns = self._acks.timer_ns = NEVER
        self._keepalive = None
        self._receiver.reassembly.trim(0)
        return CLOSED if error is None else CLOSED | RESET

    def _trace_recovery(self, found: int, now_ns: int) -> None:
        if self._tracer is None or found == NOTHING:
            return
        sender = self._sender
        if found in (ENTERED, PARTIAL):
            by_count = "third duplicate ACK" if found == ENTERED else "partial ACK"
            trigger = by_count if sender.sack is None else "RACK: what was sent later has arrived"
            self._tracer(LossDetected(now_ns, self.flow, sender.una - sender.iss, trigger))
        if found != PARTIAL:
            self._trace_congestion(CONGESTION_CHANGES[found], now_ns)

    def _trace_congestion(self, why: str, now_ns: int) -> None:
        control = self._sender.congestion
        if self._tracer is not None:
            self._tracer(CongestionChange(now_ns, self.flow, control.cwnd_bytes, control.ssthresh_bytes, why))
