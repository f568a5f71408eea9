"""TCP_INFO by name: struct tcp_info of <linux/tcp.h> for the kernel's, the same names for the engine's."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_OCTETS = ("state", "ca_state", "retransmits", "probes", "backoff", "options")
_WORDS = (
    "rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets", "last_data_sent",
    "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh",
    "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans",
)  # fmt: skip
_LONGS = ("pacing_rate", "max_pacing_rate", "bytes_acked", "bytes_received")
_WORDS_2 = ("segs_out", "segs_in", "notsent_bytes", "min_rtt", "data_segs_in", "data_segs_out")
_LONGS_2 = ("delivery_rate", "busy_time", "rwnd_limited", "sndbuf_limited")
_WORDS_3 = ("delivered", "delivered_ce")
_LONGS_3 = ("bytes_sent", "bytes_retrans")
_WORDS_4 = ("dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd", "rcv_wnd", "rehash")
_LAYOUT = struct.Struct("=8B24I4Q6I4Q2I2Q6I")
_NAMES = (*_WORDS, *_LONGS, *_WORDS_2, *_LONGS_2, *_WORDS_3, *_LONGS_3, *_WORDS_4)

_LINUX_STATES = {
    "CLOSED": 7, "LISTEN": 10, "SYN-SENT": 2, "SYN-RECEIVED": 3, "ESTABLISHED": 1, "FIN-WAIT-1": 4,
    "FIN-WAIT-2": 5, "CLOSE-WAIT": 8, "CLOSING": 11, "LAST-ACK": 9, "TIME-WAIT": 6,
}  # fmt: skip
_INFINITE_SSTHRESH = 0x7FFF_FFFF
_OPT_TIMESTAMPS, _OPT_SACK, _OPT_WSCALE = 1, 2, 4


_MEMORY = tuple(f"SK_MEMINFO_{name}" for name in (
    "RMEM_ALLOC", "RCVBUF", "WMEM_ALLOC", "SNDBUF", "FWD_ALLOC", "WMEM_QUEUED", "OPTMEM", "BACKLOG", "DROPS",
))  # fmt: skip
LINUX_NAMES = frozenset({f"tcpi_{name}" for name in (*_OCTETS, "snd_wscale", "rcv_wscale", *_NAMES)} | {*_MEMORY})
"""What Linux tells."""
ENGINE_NAMES = frozenset(f"tcpi_{name}" for name in (
    "state", "ca_state", "options", "snd_wscale", "rcv_wscale", "rto", "rtt", "rttvar", "snd_mss", "advmss", "unacked",
    "sacked", "retransmits", "snd_ssthresh", "snd_cwnd", "total_retrans", "bytes_acked", "bytes_received",
    "notsent_bytes", "snd_wnd", "rcv_wnd", "segs_in", "segs_out", "data_segs_in", "data_segs_out", "last_data_recv",
    "last_data_sent", "last_ack_recv",
))  # fmt: skip
"""What `of_engine` tells."""


def of_linux(octets: bytes, memory: bytes = b"") -> dict[str, int]:
    """What getsockopt() filled in for TCP_INFO and for SO_MEMINFO; a kernel older than a field leaves it 0."""
    values = _LAYOUT.unpack(octets[: _LAYOUT.size].ljust(_LAYOUT.size, b"\0"))
    info = dict(zip(_OCTETS, values, strict=False))
    info["snd_wscale"], info["rcv_wscale"] = values[6] & 0xF, values[6] >> 4
    info.update(zip(_NAMES, values[8:], strict=True))
    words = struct.unpack(f"={len(_MEMORY)}I", memory[: 4 * len(_MEMORY)].ljust(4 * len(_MEMORY), b"\0"))
    return {f"tcpi_{name}": value for name, value in info.items()} | dict(zip(_MEMORY, words, strict=True))


def of_engine(status: Mapping[str, object], ca_state: int, traffic: Mapping[str, int]) -> dict[str, int]:
    """What Connection.status() tells, as far as TCP_INFO has a name for it: times in microseconds, windows and what is
    outstanding in segments. `ca_state` is one of Linux's TCP_CA_ numbers, `traffic` what Traffic.told says."""
    mss = number(status, "snd_mss")
    ssthresh = number(status, "ssthresh_bytes")
    info = {
        "state": _LINUX_STATES[str(status["state"])],
        "ca_state": ca_state,
        "options": (
            (status["timestamps"] is True and _OPT_TIMESTAMPS)
            | (status["sack"] is True and _OPT_SACK)
            | (_OPT_WSCALE if number(status, "snd_wscale") or number(status, "rcv_wscale") else 0)
        ),
        "snd_wscale": number(status, "snd_wscale"),
        "rcv_wscale": number(status, "rcv_wscale"),
        "rto": number(status, "rto_ns") // 1000,
        "rtt": number(status, "srtt_ns") // 1000,
        "rttvar": number(status, "rttvar_ns") // 1000,
        "snd_mss": mss,
        "advmss": number(status, "rcv_mss"),
        "sacked": -(-number(status, "sacked_bytes") // mss),
        "retransmits": number(status, "timeouts"),
        "unacked": -(-number(status, "unacknowledged_bytes") // mss),
        "snd_ssthresh": _INFINITE_SSTHRESH if ssthresh >= 1 << 40 else ssthresh // mss,
        "snd_cwnd": number(status, "cwnd_bytes") // mss,
        "total_retrans": number(status, "retransmitted"),
        "bytes_acked": max(number(status, "snd_una") - 1, 0),
        "bytes_received": max(number(status, "rcv_nxt") - 1, 0),
        "notsent_bytes": number(status, "unsent_bytes"),
        "snd_wnd": number(status, "snd_wnd"),
        "rcv_wnd": number(status, "rcv_wnd"),
        **traffic,
    }
    return {f"tcpi_{name}": value for name, value in info.items()}


def number(status: Mapping[str, object], name: str) -> int:
    """An entry of a connection's status that is a number."""
    value = status[name]
    assert isinstance(value, int), name
    return value
