"""What ICMP errors come to for the user: the errno that Linux gives (net/ipv4/icmp.c, net/ipv6/icmp.c)."""

from __future__ import annotations

import errno
import os

import pytest

from tcpstack.stack.icmp import error_of
from tcpstack.wire.icmp import IcmpMessage

V4 = (bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]))
V6 = (bytes(15) + b"\1", bytes(15) + b"\2")


def number(ends: tuple[bytes, bytes], type_: int, code: int) -> int | None:
    error = error_of(IcmpMessage(*ends, type_, code, bytes(8)))
    if error is not None:
        assert error.strerror == os.strerror(error.errno)
    return None if error is None else error.errno


LINUX_V4 = [
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.ECONNREFUSED, None, errno.EOPNOTSUPP,
    errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENONET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.EHOSTUNREACH,
]  # fmt: skip
LINUX_V6 = [
    errno.ENETUNREACH, errno.EACCES, errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EACCES,
    errno.EACCES,
]  # fmt: skip


@pytest.mark.rfc9293("MUST-54", "SHLD-26")
@pytest.mark.parametrize(("code", "expected"), tuple(enumerate(LINUX_V4)))
def test_v4_unreachable_is_linuxs_errno(code: int, expected: int | None) -> None:
    """None for code 4, "fragmentation needed": that is a matter of the path's MTU, not an error of the user's."""
    assert number(V4, 3, code) == expected


@pytest.mark.rfc9293("MUST-54", "SHLD-26")
@pytest.mark.parametrize(("code", "expected"), tuple(enumerate(LINUX_V6)))
def test_v6_unreachable_is_linuxs_errno(code: int, expected: int | None) -> None:
    assert number(V6, 1, code) == expected


@pytest.mark.rfc9293("MUST-54", "MUST-56")
@pytest.mark.parametrize("code", [0, 1])
def test_time_exceeded_and_parameter_problem_have_an_errno(code: int) -> None:
    assert number(V4, 11, code) == number(V6, 3, code) == errno.EHOSTUNREACH
    assert number(V4, 12, code) == number(V6, 4, code) == errno.EPROTO


@pytest.mark.rfc9293("MUST-55")
def test_source_quench_is_ignored() -> None:
    assert number(V4, 4, 0) is None


@pytest.mark.parametrize(
    ("ends", "type_", "code"),
    [(V4, 5, 0), (V4, 0, 0), (V4, 8, 0), (V4, 3, 16), (V4, 1, 0), (V6, 2, 0), (V6, 1, 7), (V6, 128, 0), (V6, 100, 3)],
)
def test_what_is_no_error_of_the_users_has_no_errno(ends: tuple[bytes, bytes], type_: int, code: int) -> None:
    assert number(ends, type_, code) is None
