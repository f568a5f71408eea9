"""A connection's name as octets: smaller than the tuple, which costs 150 octets and more."""

from __future__ import annotations

from struct import Struct

from ..core.segment import FourTuple

_V4 = Struct("!4s4sHH")
_V6 = Struct("!16s16sHH")


def pack_flow(flow: FourTuple) -> bytes:
    """Both addresses and both ports, the local ones first: 12 octets, 36 for IPv6."""
    local, lport, remote, rport = flow
    return (_V4 if len(local) == 4 else _V6).pack(local, remote, lport, rport)


def unpack_flow(key: bytes) -> FourTuple:
    """The name that `pack_flow` made these octets of."""
    local, remote, lport, rport = (_V4 if len(key) == _V4.size else _V6).unpack(key)
    return local, lport, remote, rport
