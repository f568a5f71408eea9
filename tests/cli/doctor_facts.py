"""A machine as doctor might find it, and a device on it: what tests change one thing of."""

from __future__ import annotations

import dataclasses
import errno
from ipaddress import ip_interface
from typing import Any

from tcpstack.cli.doctor_devices import TunInterface
from tcpstack.cli.doctor_machine import Machine, Node
from tcpstack.device.base import DeviceError

ALL = (1 << 12) | (1 << 21)
OPENS = Node(errno=0, mode=0o666, is_right=True, nodev=None, features=0x7173)
HERE = Machine(
    uid=1000, user="ann", kernel="6.1.0", capabilities=0, bounding=ALL, rules_network=True, has_driver=True,
    has_modules=True, has_unshare=True, container=None, node=OPENS, sysctls={},
)  # fmt: skip
DENIED = DeviceError(errno.EPERM, "this process may not make a user namespace: run as root")
SUDO = "run it as root: put `sudo` before the command"
IDLE = TunInterface(
    name="tun0", owner=1000, group=None, persistent=True, in_use=False, has_headers=False, is_plain=True,
    is_multi_queue=False, up=True,
    mtu=1500, addresses=(ip_interface("10.9.0.1/24"), ip_interface("fd09::1/64")),
)  # fmt: skip


def machine(**changes: Any) -> Machine:
    return dataclasses.replace(HERE, **changes)


def node(**changes: Any) -> Node:
    return dataclasses.replace(OPENS, **changes)
