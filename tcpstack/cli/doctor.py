"""`tcpstack doctor`: which ways to a device work on this machine, and what would make the others work."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from .. import __version__
from ..device.tun import TUN_NODE, is_interface_name
from . import doctor_checks as checks
from .doctor_checks import NO, OK, SKIPPED, Way
from .doctor_choice import DEFAULT_TUN, Choice, run_choice, serve_choice
from .doctor_devices import tun_interfaces
from .doctor_machine import Machine, look

SCHEMA = 1
"""Of the JSON: grows when a script that reads it would have to change."""

PROGRAMS = {
    "curl": "curl", "ip": "iproute2", "nc": "netcat-openbsd", "nsenter": "util-linux", "ping": "iputils-ping",
    "tshark": "tshark", "unshare": "util-linux",
}  # fmt: skip
"""What the documentation's examples run, and the package that has it."""

WAY_TITLES = {
    "root": "root",
    "cap_net_admin": "CAP_NET_ADMIN",
    "persistent_device": "persistent device",
    "user_namespace": "user namespace",
    "veth": "veth pair, no TUN",
    "container": "container",
}
_MARKS = {OK: "ok", NO: "no", SKIPPED: "-"}
_WIDEST = 100


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found. offload says what the kernel's TUN driver takes over; None where no device could be made
    to ask it."""

    machine: Machine
    ways: tuple[Way, ...]
    run: Choice
    serve: Choice
    offload: dict[str, bool] | None
    missing_programs: dict[str, str]

    def as_json(self) -> dict[str, object]:
        """What `--json` prints; DOCTOR_JSON in cli/__init__.py documents it."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "python": platform.python_version(),
            "kernel": self.machine.kernel,
            "uid": self.machine.uid,
            "user": self.machine.user,
            "container": self.machine.container,
            "ways": [asdict(way) for way in self.ways],
            "run": asdict(self.run),
            "serve": asdict(self.serve),
            "offload": self.offload,
            "missing_programs": self.missing_programs,
        }

    def as_text(self, width: int) -> str:
        """The same for people, in lines of up to `width` columns."""
        return "\n".join(_lines(self, width)) + "\n"


def doctor(tun: str | None = None, *, as_json: bool = False) -> int:
    """Examine the machine and print what was found. Returns 0 where `tcpstack run` would work, else 1.

    Raises ValueError where `tun` can't name an interface."""
    if tun is not None and not is_interface_name(tun):
        raise ValueError(f"--tun: {tun!r} can't name an interface: use 1 to 15 octets without '/', ':' or spaces")
    report = examine(tun)
    if as_json:
        print(json.dumps(report.as_json(), indent=2), flush=True)
    else:
        columns = shutil.get_terminal_size((_WIDEST, 24)).columns if sys.stdout.isatty() else _WIDEST
        sys.stdout.write(report.as_text(min(columns, _WIDEST)))
        sys.stdout.flush()
    return 0 if report.run.works else 1


def examine(tun: str | None = None) -> Report:
    """Try every way; `tun` is the device to consider for `serve`, tun0 where it is None. Takes about a second.

    Nothing stays behind. For a thread in which no event loop is running.
    """
    machine = look()
    attached = checks.attach_to_each(tun_interfaces(), tun or DEFAULT_TUN)
    as_run = checks.try_namespace()
    privileged = checks.try_namespace("tun", False, known=as_run)
    rootless = checks.try_namespace("tun", True, known=as_run)
    veth = checks.try_namespace("veth", checks.needs_user_namespace(machine), known=as_run)
    new_device = checks.cap_net_admin_way(machine)
    ways = (
        checks.root_way(machine, privileged),
        new_device,
        checks.persistent_device_way(machine, attached),
        checks.user_namespace_way(machine, rootless),
        checks.veth_way(machine, veth),
        checks.container_way(machine),
    )
    offload = privileged.offload or rootless.offload
    return Report(
        machine=machine,
        ways=ways,
        run=run_choice(machine, as_run),
        serve=serve_choice(machine, attached, new_device, tun),
        offload={**checks.driver_features(machine), **offload} if offload else None,
        missing_programs=_missing_programs(),
    )


def _missing_programs() -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # where Debian keeps ip
    return {name: package for name, package in PROGRAMS.items() if shutil.which(name, path=path) is None}


def _lines(report: Report, width: int) -> Iterator[str]:
    machine = report.machine
    here = f"Python {platform.python_version()}, Linux {machine.kernel}, as user {machine.user}"
    yield f"tcpstack {__version__} on {here}" + (f", in a container ({machine.container})" if machine.container else "")
    yield ""
    yield "ways to a device"
    for way in report.ways:
        found = f"{way.found} (tried: {way.tried})"
        yield from _entry(_MARKS[way.status], WAY_TITLES[way.name], found, way.fix, width)
    yield ""
    yield "what would happen"
    for name, choice in (("tcpstack run", report.run), ("tcpstack serve", report.serve)):
        mark = _MARKS[OK if choice.works else NO]
        yield from _entry(mark, name, choice.does, choice.fix, width, command=choice.command)
    yield ""
    yield from textwrap.wrap(_offload_sentence(report), width, subsequent_indent="  ")
    if report.missing_programs:
        missing = ", ".join(f"{name} (package {package})" for name, package in report.missing_programs.items())
        hint = f"hint: the examples in the documentation also use {missing}"
        yield from textwrap.wrap(hint, width, subsequent_indent="  ")


def _offload_sentence(report: Report) -> str:
    if report.offload is None:
        return f"offload: not known, since no TUN device could be made to ask {TUN_NODE} for it"
    yes = ", ".join(name for name, there in report.offload.items() if there) or "nothing"
    no = ", ".join(name for name, there in report.offload.items() if not there)
    return f"offload (asked of a TUN device in a namespace of its own): {yes}" + (f"; not {no}" if no else "")


def _entry(mark: str, title: str, text: str, fix: str | None, width: int, command: str | None = None) -> Iterator[str]:
    indent = " " * 25
    first = f"  {mark:<4}{title:<19}"
    yield from textwrap.wrap(
        text, max(width, 60), initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
    # For copying: these stay in one line, however long that gets.
    if command is not None:
        yield f"{indent}try: {command}"
    if fix is not None:
        yield f"{indent}fix: {fix}"
