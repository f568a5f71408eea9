"""Congestion controllers by name: `CONTROLLERS[name](mss_bytes, initial_bytes)` makes one."""

from __future__ import annotations

from collections.abc import Callable

from .base import AckSample, CongestionControl
from .newreno import NewReno

CONTROLLERS: dict[str, Callable[[int, int | None], CongestionControl]] = {"newreno": NewReno}

__all__ = ["CONTROLLERS", "AckSample", "CongestionControl"]
