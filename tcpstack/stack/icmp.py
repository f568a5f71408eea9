"""What ICMP errors mean to a TCP user: the errno that Linux gives for each."""

from __future__ import annotations

import errno
import os

from ..wire import icmp
from ..wire.icmp import IcmpMessage

# Codes of "destination unreachable" (RFC 792, RFC 1122 3.2.2.1), as Linux's icmp_err_convert has them.
_UNREACHABLE_V4 = {
    0: errno.ENETUNREACH,
    1: errno.EHOSTUNREACH,
    2: errno.ENOPROTOOPT,
    3: errno.ECONNREFUSED,
    5: errno.EOPNOTSUPP,
    6: errno.ENETUNREACH,
    7: errno.EHOSTDOWN,
    8: errno.ENONET,
    9: errno.ENETUNREACH,
    10: errno.EHOSTUNREACH,
    11: errno.ENETUNREACH,
    12: errno.EHOSTUNREACH,
    13: errno.EHOSTUNREACH,
    14: errno.EHOSTUNREACH,
    15: errno.EHOSTUNREACH,
}
# RFC 4443 3.1, as Linux's icmpv6_err_convert.
_UNREACHABLE_V6 = {
    0: errno.ENETUNREACH,
    1: errno.EACCES,
    2: errno.EHOSTUNREACH,
    3: errno.EHOSTUNREACH,
    4: errno.ECONNREFUSED,
    5: errno.EACCES,
    6: errno.EACCES,
}


def error_of(message: IcmpMessage) -> OSError | None:
    """The error that a user sees for an ICMP error about one of our segments; None where it tells the user nothing
    ("fragmentation needed" is for path MTU discovery, redirects and source quenches are ignored, RFC 6633)."""
    if message.version == 4:
        number = {
            icmp.UNREACHABLE: _UNREACHABLE_V4.get(message.code),
            icmp.TIME_EXCEEDED: errno.EHOSTUNREACH,
            icmp.PARAMETER_PROBLEM: errno.EPROTO,
        }.get(message.type)
    else:
        number = {
            icmp.V6_UNREACHABLE: _UNREACHABLE_V6.get(message.code),
            icmp.V6_TIME_EXCEEDED: errno.EHOSTUNREACH,
            icmp.V6_PARAMETER_PROBLEM: errno.EPROTO,
        }.get(message.type)
    return None if number is None else OSError(number, os.strerror(number))
