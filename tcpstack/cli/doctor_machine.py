"""What doctor reads of this machine before it tries anything: who we are, what we may, and the node of the TUN
driver. Nothing here makes or changes anything: the node is opened, asked what it can do, and closed.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..device.tun import TUN_NODE

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""Those that matter here, with their bits."""

SYSCTLS = (
    "kernel.apparmor_restrict_unprivileged_userns",  # Ubuntu since 24.04
    "kernel.unprivileged_userns_clone",  # Debian before 11
    "user.max_user_namespaces",
    "user.max_net_namespaces",
)

_NS_GET_USERNS = 0xB701  # <linux/nsfs.h>
_TUNGETFEATURES = 0x800454CF  # <linux/if_tun.h>
_TUN_NUMBERS = (10, 200)  # the kernel's devices.txt


@dataclass(frozen=True, slots=True)
class Node:
    """/dev/net/tun.

    errno     why it can't be opened for reading and writing; 0 where it can
    mode      its permission bits, None where it is not there
    is_right  whether it is the character device 10:200; true too where it is not there
    nodev     the mount point that keeps it from working (mounted nodev), if that is so
    features  the driver's answer to TUNGETFEATURES; 0 where it gave none
    """

    errno: int
    mode: int | None
    is_right: bool
    nodev: str | None
    features: int


@dataclass(frozen=True, slots=True)
class Machine:
    """capabilities   the effective ones, a bit mask
    bounding       those that a program started from here could have, as root or otherwise, a bit mask
    rules_network  whether they count for this network namespace, and not only in a user namespace below its owner
    has_driver     whether the kernel has the TUN driver at this moment
    has_modules    whether the running kernel's modules are installed
    has_unshare    whether the program unshare is
    container      what kind of container this is in ("docker"); None where it is in none
    sysctls        those of SYSCTLS that this kernel has
    """

    uid: int
    user: str
    kernel: str
    capabilities: int
    bounding: int
    rules_network: bool
    has_driver: bool
    has_modules: bool
    has_unshare: bool
    container: str | None
    node: Node
    sysctls: Mapping[str, str]

    def lacks(self, *names: str) -> tuple[str, ...]:
        """Those of the capabilities that this process does not have."""
        return _missing(self.capabilities, names)

    def out_of_reach(self, *names: str) -> tuple[str, ...]:
        """Those of the capabilities that not even root could have here."""
        return _missing(self.bounding, names)


def _missing(mask: int, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not mask >> CAPABILITIES[name] & 1)


def look() -> Machine:
    """What there is now."""
    kernel = os.uname().release
    return Machine(
        uid=os.geteuid(),
        user=_user_name(os.geteuid()),
        kernel=kernel,
        capabilities=_capabilities("CapEff"),
        bounding=_capabilities("CapBnd"),
        rules_network=_rules_network(),
        has_driver=re.search(r"^ *\d+ tun$", _text("/proc/misc"), re.MULTILINE) is not None,
        has_modules=os.path.isdir(f"/lib/modules/{kernel}"),
        has_unshare=shutil.which("unshare") is not None,
        container=container_kind(Path("/"), os.environ),
        node=look_at_node(TUN_NODE),
        sysctls={name: _text(f"/proc/sys/{name.replace('.', '/')}").strip() for name in SYSCTLS if _has(name)},
    )


def look_at_node(path: str) -> Node:
    """The node at `path`. Opening it makes no interface: only attaching would."""
    try:
        status = os.stat(path)
    except OSError as error:
        return Node(error.errno or 0, None, True, None, 0)
    mode = stat.S_IMODE(status.st_mode)
    numbers = (os.major(status.st_rdev), os.minor(status.st_rdev))
    is_right = stat.S_ISCHR(status.st_mode) and numbers == _TUN_NUMBERS
    nodev = _mount_point(path) if os.statvfs(path).f_flag & os.ST_NODEV else None
    if not is_right:  # opening it may have any effect: a pipe's other end, a tape's motor
        return Node(0, mode, is_right, nodev, 0)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return Node(error.errno or 0, mode, is_right, nodev, 0)
    try:
        features = int.from_bytes(fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4)), sys.byteorder)
    except OSError:
        features = 0
    finally:
        os.close(fd)
    return Node(0, mode, is_right, nodev, features)


def container_kind(root: Path, environment: Mapping[str, str]) -> str | None:
    """What kind of container the system below `root` is, by the marks that each leaves; None for no container."""
    if "KUBERNETES_SERVICE_HOST" in environment:  # before the engine's own marks: there, it takes the options
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    named = _text(root / "run/systemd/container").strip()
    if named and named != "wsl":
        return named
    found = re.search(r"docker|libpod|kubepods|containerd|lxc", _text(root / "proc/1/cgroup"))
    if found is None:
        return None
    return {"libpod": "podman", "kubepods": "kubernetes"}.get(found[0], found[0])


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _capabilities(kind: str) -> int:
    found = re.search(rf"^{kind}:\s*([0-9a-f]+)$", _text("/proc/self/status"), re.MULTILINE)
    return int(found[1], 16) if found else 0


def _rules_network() -> bool:
    """Whether the user namespace that owns this network namespace is ours or one below: the kernel shows it to
    nobody else (ioctl_ns(2)), and elsewhere our capabilities mean nothing to it."""
    try:
        fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # no /proc to ask: the capabilities' word is all there is
    try:
        os.close(fcntl.ioctl(fd, _NS_GET_USERNS))
    except PermissionError:
        return False
    except OSError:
        return True
    finally:
        os.close(fd)
    return True


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _has(sysctl: str) -> bool:
    return os.path.exists(f"/proc/sys/{sysctl.replace('.', '/')}")


def _text(path: str | Path) -> str:
    """What the file says; nothing where it can't be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
