"""What a script runs with: packetdrill's options, and its defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

_LOCAL_V4, _REMOTE_V4 = IPv4Address("192.168.0.1"), IPv4Address("192.0.2.1")
_LOCAL_V6, _REMOTE_V6 = IPv6Address("fd3d:a0b:17d6::1"), IPv6Address("fd3d:fa7b:d17d::1")
_MAX_DIGITS = 20
WITHOUT_MEANING = frozenset({
    "gateway_ip", "netmask_ip", "speed", "send_omit_free", "verbose", "debug", "code_command", "code_format",
    "code_sockopt", "tcp_ts_ecr_scaled", "is_anyip",
})  # fmt: skip
"""Options of packetdrill that change nothing here: there is one TUN, snippets are Python, echoes are scaled."""
_KNOWN = ("bind_port", "connect_port", "ip_version", "local_ip", "mss", "mtu", "remote_ip", "strict_segments",
          "tcp_ts_tick_usecs", "tolerance_percent", "tolerance_usecs")  # fmt: skip


class SettingError(ValueError):
    """An option that does not exist or cannot have that value; the message says which are there, or what fits."""


@dataclass(frozen=True, slots=True)
class Settings:
    """version          of IP, 4 or 6
    local, remote    the tested side's address and the script's
    bind_port        where `bind(3, ..., ...)` binds;  connect_port: where `connect(3, ..., ...)` connects to
    mtu              of the link, in octets
    mss              what a larger packet to inject on Linux is a train of, in octets of text, as an interface joins
                     what arrives; 0: one packet is one
    tolerance_ns     how far from its time an event may be; with `tolerance_share` of the time since the event
                     before where that is more
    late_ns          how much later yet what Linux's timers do may be, whose tick is longer than scripts count on
    strict_segments  a packet that is expected must come as one, and not cut into segments of one size
    ts_tick_ns       the length of the tested side's timestamp tick; 0: timestamps are not looked at
    """

    version: int = 4
    local: IPv4Address | IPv6Address = _LOCAL_V4
    remote: IPv4Address | IPv6Address = _REMOTE_V4
    bind_port: int = 8080
    connect_port: int = 8080
    mtu: int = 1500
    mss: int = 0
    tolerance_ns: int = 4_000_000
    tolerance_share: float = 0.125
    late_ns: int = 0
    strict_segments: bool = False
    ts_tick_ns: int = 0


def settings(options: Iterable[tuple[str, str]]) -> Settings:
    """Settings from "--name=value" options, the later of one name prevailing. Raises SettingError."""
    given = dict(options)
    made = Settings()
    if "ip_version" in given:
        chosen = given["ip_version"]
        if chosen not in ("ipv4", "ipv6"):
            raise SettingError(f"--ip_version is ipv4 or ipv6, not {chosen!r}")
        if chosen == "ipv6":
            made = replace(made, version=6, local=_LOCAL_V6, remote=_REMOTE_V6)
    for name, value in given.items():
        made = _with(made, name, value)
    if made.local == made.remote:
        raise SettingError(f"--local_ip and --remote_ip are both {made.local}")
    return made


def _with(made: Settings, name: str, value: str) -> Settings:
    match name:
        case "ip_version":
            return made
        case "local_ip" | "remote_ip":
            address = _address(name, value, made.version)
            return replace(made, local=address) if name == "local_ip" else replace(made, remote=address)
        case "bind_port":
            return replace(made, bind_port=_number(name, value, 1, 65535))
        case "connect_port":
            return replace(made, connect_port=_number(name, value, 1, 65535))
        case "mtu":
            return replace(made, mtu=_number(name, value, 68 if made.version == 4 else 1280, 65535))
        case "mss":
            return replace(made, mss=_number(name, value, 0, 65535))
        case "tolerance_usecs":
            return replace(made, tolerance_ns=_number(name, value, 0, 1 << 40) * 1000)
        case "tolerance_percent":
            return replace(made, tolerance_share=_share(name, value))
        case "tcp_ts_tick_usecs":
            return replace(made, ts_tick_ns=_number(name, value, 0, 1 << 30) * 1000)
        case "strict_segments":
            return replace(made, strict_segments=True)
    if name in WITHOUT_MEANING:
        return made
    raise SettingError(f"there is no option --{name}; there are --{', --'.join(_KNOWN)}")


def _number(name: str, value: str, smallest: int, largest: int) -> int:
    if not value.isdecimal() or len(value) > _MAX_DIGITS or not smallest <= int(value) <= largest:
        raise SettingError(f"--{name} is a number from {smallest} to {largest}, not {value!r}")
    return int(value)


def _share(name: str, value: str) -> float:
    try:
        percent = float(value)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise SettingError(f"--{name} is a number from 0 to 100, not {value!r}")
    return percent / 100


def _address(name: str, value: str, version: int) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(value.partition("/")[0])
    except ValueError:
        raise SettingError(f"--{name}: {value!r} is no address") from None
    if address.version != version:
        raise SettingError(f"--{name}: {value} is no IPv{version} address, and --ip_version=ipv{version} holds")
    return address
