"""What `tcpstack doctor` is told, and what its help tells: the JSON is documented here. Loads nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = """\
Try each way of getting a TUN device on this machine: as root, with CAP_NET_ADMIN, a persistent device that is
this user's, a user namespace, a container that was given the device; and a veth pair, which serves where there
is none. Say which work, what would make the others work (fix:), and what `tcpstack run` and `tcpstack serve`
would do. It takes a second, makes no interface outside of namespaces of its own, and leaves nothing behind.
"""
EPILOG = """\
example:
  tcpstack doctor                       the exit status is 0 where `tcpstack run` works, else 1
  tcpstack doctor --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["run"]["command"])'

--json prints one object. Within a schema keys may be added, but none goes or changes its meaning.
  schema            1
  version, python, kernel, user   strings;  uid   a number
  container         what kind of container this is in ("docker", "podman", "kubernetes", ...), or null
  ways              a list of {name, status, tried, found, fix}
                    name: root, cap_net_admin, persistent_device, user_namespace, veth, container
                    status: "ok"; "no", and then fix is the one command or setting that changes that;
                    "skipped" where the way makes no sense here. tried, found: sentences for people
  run, serve        {works, way, does, command, fix}: works is true or false, way the name of the way
                    that is taken, command a command line that works (both null where there is none),
                    fix what would make it work (null where it does)
  offload           {vnet_hdr, multi_queue, csum, tso4, tso6, tso_ecn, uso}, each true or false: what the
                    kernel's TUN driver can do; null where no TUN device could be made to ask it
  missing_programs  {program: package} of what the documentation's examples use and is not installed
"""


def add_doctor_parser(commands: Any) -> None:
    """Declare the subcommand `doctor`: `parsed.tun` is the name that was given or None, `parsed.json` a bool."""
    parser = commands.add_parser(
        "doctor",
        help="try each way of getting a TUN device here, and say what would make the others work",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tun", metavar="NAME", help="the device that serve is to use (default: tun0)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, for scripts")
