"""What is said of one requirement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How we stand to a requirement."""

    MET = "met"
    IN_PART = "met in part"
    APPLICATION = "the application's"
    NOT_MET = "not met"


@dataclass(frozen=True, slots=True)
class Requirement:
    """label    the RFC's (MUST-13), or ours where it has none: the section and a name (3.10.7.4-rst-exact)
    section  of RFC 9293
    text     what is required, in our words
    where    names of what implements it, as Class.method or function, with "path:" before it where two share a name
    note     what of it is missing, or why all of it is
    """

    label: str
    section: str
    text: str
    where: tuple[str, ...] = ()
    status: Status = Status.MET
    note: str = ""

    @property
    def kind(self) -> str:
        """MUST, SHLD, MAY, REC; "" where the RFC gives no label."""
        kind = self.label.partition("-")[0]
        return kind if kind.isalpha() else ""

    @property
    def needs_test(self) -> bool:
        return self.status in (Status.MET, Status.IN_PART)


def met(label: str, section: str, text: str, *where: str) -> Requirement:
    """Met."""
    return Requirement(label, section, text, where)


def in_part(label: str, section: str, text: str, *where: str, but: str) -> Requirement:
    """Met, but for what `but` says."""
    return Requirement(label, section, text, where, Status.IN_PART, but)


def unmet(label: str, section: str, text: str, why: str) -> Requirement:
    """Not met; for a MAY: not taken."""
    return Requirement(label, section, text, (), Status.NOT_MET, why)


def applications(label: str, section: str, text: str) -> Requirement:
    """Binds who uses a TCP, not the TCP."""
    return Requirement(label, section, text, (), Status.APPLICATION)
