"""What both ends of a handshake do alike: the options of a SYN, and what they come to (RFC 9293 3.7.1, RFC 7323 2)."""

from __future__ import annotations

from .config import Config
from .receive.receiver import window_shift
from .segment import Options, SegmentOptions

TCP_HEADER_BYTES = 20
LONGEST_TCP_HEADER_BYTES = 60
TIMESTAMPS_BYTES = 12  # the option, padded (RFC 7323 appendix A)
MAX_SHIFT = 14  # RFC 7323 2.3


def ip_header_bytes(address: bytes) -> int:
    """Octets of the IP header that we send to such an address (we send no IP options, no extension headers)."""
    return 20 if len(address) == 4 else 40


def mss_for(mtu_bytes: int, address: bytes) -> int:
    """The MSS that a link's MTU allows: MTU less the fixed headers, never less for options (SHLD-6, RFC 6691)."""
    return mtu_bytes - ip_header_bytes(address) - TCP_HEADER_BYTES


def chunk_bytes_for(superpacket_bytes: int, mss: int, address: bytes) -> int:
    """Octets of text in the largest chunk that leaves at once: whole segments, as many as a superpacket of
    `superpacket_bytes` octets (0: there are none) has room for behind the longest TCP header; at least one."""
    room = superpacket_bytes - ip_header_bytes(address) - LONGEST_TCP_HEADER_BYTES
    return max(room - room % mss, mss)


def syn_options(
    config: Config,
    our_mss: int,
    peer: SegmentOptions | None,
    answering: bool,
    timestamps: tuple[int, int] | None = None,
) -> Options:
    """The options of our SYN; `answering` one, of our SYN,ACK: then only what `peer` offered is offered back.

    `timestamps` are (TSval, TSecr) as the option would have them, if it goes along.
    """
    scale = config.window_scaling and (not answering or (peer is not None and peer.wscale is not None))
    sack = config.sack and (not answering or (peer is not None and peer.sack_permitted))
    stamp = config.timestamps and (not answering or (peer is not None and peer.timestamps is not None))
    return Options(
        our_mss, window_shift(config.receive_limit_bytes) if scale else None, sack, timestamps if stamp else None
    )


class Negotiated:
    """What a handshake came to.

    mss         Eff.snd.MSS: octets of text in the largest segment that we send
    full_segment_bytes  the same of the peer's, as far as is known: its own MSS tells of the link that it sends by
    snd_shift   Snd.Wind.Shift; rcv_shift  Rcv.Wind.Shift: both 0 unless both ends offered scaling
    sack        both ends have offered SACK-Permitted
    timestamps  Snd.TS.OK: both ends have offered timestamps, which from now on are in each segment
    """

    __slots__ = ("full_segment_bytes", "mss", "rcv_shift", "sack", "snd_shift", "timestamps")

    def __init__(self, config: Config, our_mss: int, peer: SegmentOptions | None, address: bytes) -> None:
        default = config.mss_default_v4 if len(address) == 4 else config.mss_default_v6
        # MUST-15: absent means the default. A zero or absurd MSS must not make us send empty segments (Linux: 48).
        offered = default if peer is None or peer.mss is None else max(peer.mss, 48)
        self.timestamps = config.timestamps and peer is not None and peer.timestamps is not None
        padding = TIMESTAMPS_BYTES if self.timestamps else 0
        self.mss = min(offered, our_mss) - padding
        self.full_segment_bytes = our_mss - padding if peer is None or peer.mss is None else self.mss
        self.sack = config.sack and peer is not None and peer.sack_permitted
        self.snd_shift = 0
        self.rcv_shift = 0
        if config.window_scaling and peer is not None and peer.wscale is not None:
            self.snd_shift = min(peer.wscale, MAX_SHIFT)
            self.rcv_shift = window_shift(config.receive_limit_bytes)
