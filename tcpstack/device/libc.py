"""Calls of the C library that Python 3.11 has no functions for: namespaces and mounts.

unshare and setns act on the calling thread alone. Each raises OSError with the call's name.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000  # <linux/sched.h>
CLONE_NEWNET = 0x4000_0000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x8_0000  # <linux/mount.h>
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move to new namespaces of these kinds (CLONE_NEW...)."""
    _check("unshare", _libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """Move to the namespace that fd stands for, which must be of this kind (CLONE_NEW...)."""
    _check("setns", _libc.setns(fd, kind))


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    kind_, options_ = (text.encode() if text is not None else None for text in (kind, options))
    _check("mount", _libc.mount(os.fsencode(source), os.fsencode(target), kind_, ctypes.c_ulong(flags), options_))


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    _check("umount", _libc.umount2(os.fsencode(target), flags))


def _check(name: str, result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
