"""The packets of a script: "< S 0:0(0) win 32792 <mss 1000,nop,wscale 7>" and ICMP errors."""

from __future__ import annotations

from ..core.segment import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG
from .script import Icmp, IpInfo, Option, Packet
from .tokens import Cursor

FLAG_LETTERS = (("S", SYN), ("F", FIN), ("R", RST), ("P", PSH), (".", ACK), ("U", URG), ("E", ECE), ("W", CWR))
_FLAGS = dict(FLAG_LETTERS)
_FLAG_RULE = "flags are letters of S F R P U E W and '.' for ACK, or '-' for none"
_OPTION_BYTES = {"nop": 1, "eol": 1, "mss": 4, "wscale": 3, "sackOK": 2, "TS": 10}
_MAX_U8, _MAX_U16, _MAX_U32 = 0xFF, 0xFFFF, 0xFFFF_FFFF
_LARGEST_SEGMENT = {4: 65_535 - 20 - 20, 6: 65_535 - 20}
"""Octets of text and options: IPv4's length is that of the packet, IPv6's that of what follows its header."""
_ECN = {"noecn": 0, "ect1": 1, "ect0": 2, "ce": 3}

_ICMP_TYPES = {"unreachable": 3, "time_exceeded": 11, "parameter_problem": 12, "source_quench": 4, "redirect": 5}
_ICMP_CODES = {
    "unreachable": {
        "net_unreachable": 0, "host_unreachable": 1, "protocol_unreachable": 2, "port_unreachable": 3,
        "frag_needed": 4, "source_route_failed": 5, "net_unknown": 6, "host_unknown": 7, "source_host_isolated": 8,
        "net_prohibited": 9, "host_prohibited": 10, "net_unreachable_for_tos": 11, "host_unreachable_for_tos": 12,
        "comm_prohibited": 13, "host_precedence_violation": 14, "precedence_cutoff": 15,
    },
    "time_exceeded": {"ttl_exceeded": 0, "frag_reassembly_time_exceeded": 1},
}  # fmt: skip
_ICMPV6_TYPES = {"unreachable": 1, "packet_too_big": 2, "time_exceeded": 3, "parameter_problem": 4}
_ICMPV6_CODES = {
    "unreachable": {
        "no_route": 0, "admin_prohibited": 1, "beyond_scope": 2, "address_unreachable": 3, "port_unreachable": 4,
        "source_policy": 5, "reject_route": 6,
        # packetdrill's names for both versions.
        "net_unreachable": 0, "host_unreachable": 3, "comm_prohibited": 1,
    },
    "time_exceeded": {"hop_limit_exceeded": 0, "ttl_exceeded": 0, "frag_reassembly_time_exceeded": 1},
}  # fmt: skip


def parse_packet(cursor: Cursor, version: int) -> Packet | Icmp:
    """The packet at the cursor, which stands at its "<" or ">". Raises ScriptError."""
    arrow = cursor.take()
    inbound = arrow.text == "<"
    ip = _ip_info(cursor, inbound)
    if cursor.accept("icmp"):
        if not inbound:
            raise cursor.error("ICMP can be injected ('<'), not expected ('>')", arrow)
        return _icmp(cursor, version)
    if cursor.token.text in ("udp", "ipv4", "ipv6", "gre", "GREv0", "mpls"):
        raise cursor.error(f"{cursor.token.text} packets are not supported: TCP and ICMP are", cursor.token)
    ports = None
    if cursor.token.kind == "integer" and cursor.ahead(1).text == ">":
        source = cursor.number("source port", _MAX_U16, smallest=1)
        cursor.expect(">")
        ports = source, cursor.number("destination port", _MAX_U16, smallest=1)
    flags = _flags(cursor)
    extent = cursor.token
    seq, size = _extent(cursor)
    ack = cursor.number("ack", _MAX_U32) if cursor.accept("ack") else None
    win = cursor.number("win", _MAX_U16) if cursor.accept("win") else None
    urg = cursor.number("urg", _MAX_U16) if cursor.accept("urg") else 0
    options: tuple[Option, ...] | None = ()
    if cursor.token.text == "<":
        options = _options(cursor, inbound)
    else:
        cursor.note("<options>")
    if inbound and (room := _LARGEST_SEGMENT[version] - sum(map(option_bytes, options or ()))) < size:
        raise cursor.error(f"{size} octets of text: one packet has room for {room}", extent)
    return Packet(inbound, flags, seq, size, ack, win, urg, options, ports, ip)


def _ip_info(cursor: Cursor, inbound: bool) -> IpInfo:
    opening = cursor.accept("[", "(")
    if opening is None:
        return IpInfo()
    word = cursor.expect(*_ECN, "ect01", "tos", "ttl")
    if word == "tos":
        info = IpInfo(tos=cursor.number("tos", _MAX_U8), tos_mask=0xFF)
    elif word == "ttl":
        info = IpInfo(ttl=cursor.number("ttl", _MAX_U8, smallest=1))
    elif word == "ect01":
        if inbound:
            raise cursor.error("ect01 can be expected, not injected", cursor.before)
        info = IpInfo(ect01=True)
    else:
        info = IpInfo(tos=_ECN[word], tos_mask=0x03)
    cursor.expect("]" if opening == "[" else ")")
    return info


def _flags(cursor: Cursor) -> int:
    """The control bits. "S." is two tokens, "." alone one; ".5" (the ACE field) would be a number."""
    start = cursor.token
    if cursor.accept("-"):
        return 0
    letters = ""
    if start.kind == "word":
        letters = cursor.take().text
    if cursor.token.text == "." and (not letters or cursor.token.start == start.end):
        letters += cursor.take().text
    if not letters:
        cursor.note("flags")
        raise cursor.unexpected()
    bits = 0
    for index, letter in enumerate(letters):
        if letter not in _FLAGS:
            raise cursor.error(f"{letter!r} is no flag: {_FLAG_RULE}", start.start + index)
        bits |= _FLAGS[letter]
    return bits


def _extent(cursor: Cursor) -> tuple[int, int]:
    first = cursor.token
    start = cursor.number("sequence number", _MAX_U32)
    cursor.expect(":")
    end = cursor.number("end sequence number", _MAX_U32)
    cursor.expect("(")
    size = cursor.number("octets of text", _MAX_U16)
    cursor.expect(")")
    if (start + size) & _MAX_U32 != end:
        raise cursor.error(f"{start}:{end}({size}) contradicts itself: {start} + {size} is not {end}", first)
    return start, size


def _options(cursor: Cursor, inbound: bool) -> tuple[Option, ...] | None:
    first = cursor.take()
    if inbound:
        if cursor.token.text == "...":
            raise cursor.error("<...> can be expected, not injected", first)
    elif cursor.accept("..."):
        cursor.expect(">")
        return None
    found: list[Option] = []
    while True:
        found.append(_option(cursor))
        if cursor.expect(",", ">") == ">":
            break
    length = sum(map(option_bytes, found))
    if length % 4:
        raise cursor.error(f"these options take {length} octets: add nop or eol to a multiple of 4", first)
    if length > 40:
        raise cursor.error(f"these options take {length} octets, and a TCP header has room for 40", first)
    return tuple(found)


def _option(cursor: Cursor) -> Option:
    name = cursor.expect("mss", "nop", "eol", "wscale", "sackOK", "sack", "TS", "FO", "FOEXP", "md5")
    if name == "mss":
        return Option(name, (cursor.number("mss", _MAX_U16),))
    if name == "wscale":
        return Option(name, (cursor.number("wscale", _MAX_U8),))
    if name == "TS":
        cursor.expect("val")
        value = cursor.number("val", _MAX_U32)
        cursor.expect("ecr")
        return Option(name, (value, cursor.number("ecr", _MAX_U32)))
    if name == "sack":
        edges: list[int] = []
        while cursor.token.kind == "integer" or not edges:
            edges.append(cursor.number("left edge", _MAX_U32))
            cursor.expect(":")
            edges.append(cursor.number("right edge", _MAX_U32))
        return Option(name, tuple(edges))
    if name in ("FO", "FOEXP", "md5"):
        return Option(name, blob=_blob(cursor))
    return Option(name)


def _blob(cursor: Cursor) -> bytes:
    token = cursor.accept_kind("word", "integer", name="hexadecimal octets")
    if token is None:
        return b""
    try:
        return bytes.fromhex(token.text)
    except ValueError:
        given = f": a word is given a value with -D {token.text}=..." if token.text.isupper() else ""
        raise cursor.error(f"{token.text!r} is no row of hexadecimal octets{given}", token) from None


def option_bytes(option: Option) -> int:
    """How many octets the option takes in a header."""
    if option.name == "sack":
        return 2 + 4 * len(option.numbers)
    if option.name == "FOEXP":
        return 4 + len(option.blob)
    return _OPTION_BYTES.get(option.name, 2 + len(option.blob))


def _icmp(cursor: Cursor, version: int) -> Icmp:
    types, codes = (_ICMP_TYPES, _ICMP_CODES) if version == 4 else (_ICMPV6_TYPES, _ICMPV6_CODES)
    name = cursor.expect(*types)
    code = 0
    if name in codes:
        code = codes[name][cursor.expect(*codes[name])]
    mtu_told = cursor.accept("mtu")
    mtu = cursor.number("mtu", _MAX_U16) if mtu_told else 0
    seq = size = 0
    if cursor.accept("["):
        extent = cursor.token
        seq, size = _extent(cursor)
        if size > _LARGEST_SEGMENT[version]:
            raise cursor.error(f"a quoted packet has room for {_LARGEST_SEGMENT[version]} octets of text", extent)
        cursor.expect("]")
    return Icmp(types[name], code, mtu, seq, size)
