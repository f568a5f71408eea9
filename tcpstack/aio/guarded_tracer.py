"""A tracer that may fail without hurting anybody: a picture is not worth a connection."""

from __future__ import annotations

import logging

from ..core.events import Event, Tracer

logger = logging.getLogger("tcpstack")


class GuardedTracer:
    """Passes events to `tracer` until it raises; then it is dropped, with one logged warning."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Tracer | None = tracer

    def __call__(self, event: Event) -> None:
        if self._tracer is None:
            return
        try:
            self._tracer(event)
        except Exception:
            dropped, self._tracer = self._tracer, None
            logger.warning("the tracer %r raised and is not called again", dropped, exc_info=True)
