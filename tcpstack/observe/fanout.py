"""One tracer out of several."""

from __future__ import annotations

import logging

from ..core.events import Event, Tracer

_log = logging.getLogger(__name__)


def fan_out(*tracers: Tracer | None) -> Tracer | None:
    """A tracer that passes each event to all of `tracers`, in their order; None where there are none.

    A tracer that raises is logged and left out from then on; the others go on.
    """
    present = [tracer for tracer in tracers if tracer is not None]
    if not present:
        return None
    if len(present) == 1:
        return present[0]

    def trace(event: Event) -> None:
        for tracer in tuple(present):
            try:
                tracer(event)
            except Exception:
                present.remove(tracer)
                _log.exception("a tracer failed and is dropped: %r", tracer)

    return trace
