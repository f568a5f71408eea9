"""The requirements of RFC 9293, in the order of its labels; those without a label in the order of the text."""

from __future__ import annotations

from ..model import Requirement
from .connections import CONNECTIONS
from .data import DATA
from .eight_checks import EIGHT_CHECKS
from .events import EVENTS
from .header import HEADER
from .interfaces import INTERFACES
from .segmentation import SEGMENTATION

LABELS = {"MUST": 69, "SHLD": 31, "MAY": 18, "REC": 1}
"""How many labels of each kind RFC 9293 has; they are numbered from 1."""


def _in_order(requirement: Requirement) -> tuple[int, int]:
    kind = requirement.kind
    if not kind:
        return len(LABELS), 0
    return tuple(LABELS).index(kind), int(requirement.label.partition("-")[2])


_ALL = (*HEADER, *CONNECTIONS, *SEGMENTATION, *DATA, *INTERFACES, *EVENTS, *EIGHT_CHECKS)
REQUIREMENTS: tuple[Requirement, ...] = tuple(sorted(_ALL, key=_in_order))
