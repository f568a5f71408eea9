"""A network namespace of one's own with a network device in it, whose other end is here.

    with Namespace.open() as namespace:           # 10.9.0.1 and fd09::1 inside
        ...                                       # a stack on namespace.device: the engine stays in this process
        subprocess.run([*namespace.exec_prefix, "ping", "-c1", "10.9.0.2"])
        namespace.start(["bash"])                 # the helper that has held the namespace becomes bash

util-linux's `unshare` makes the namespace and runs a helper in it (_namespace_helper.py), which opens the
device, passes its descriptor here, and waits. Nothing forks: a child would share this process's epoll. The device
is a TUN or, where this user can have none, one end of a veth pair (veth.py). With CAP_SYS_ADMIN and CAP_NET_ADMIN
a network namespace is enough; anybody else gets a user namespace around it, with their own uid and ambient
capabilities, so that COMMAND may be tcpdump or ping.

No event loop is needed here, and `open` and `close` block: from a coroutine, use `asyncio.to_thread`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import site
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .base import DeviceError
from .netlink import TXQUEUELEN
from .packet_socket import PacketSocketDevice
from .tun import TunDevice

KERNEL_ADDRESSES = ("10.9.0.1/24", "fd09::1/64")
"""The kernel's side of the device unless told otherwise."""
DEVICES = ("auto", "tun", "veth")
"""The kinds of device that may be asked for: "auto" is a TUN, or where /dev/net/tun can't be opened a veth pair."""
DEVICE_VARIABLE = "TCPSTACK_DEVICE"
"""The environment variable that says which, where the caller does not."""

OFFLOAD_VARIABLE = "TCPSTACK_OFFLOAD"
"""The environment variable that says "off" where each packet is to cross by itself, unless the caller decides."""

NOT_EXECUTABLE = "this user may not execute this Python in a namespace"

_CHUNK_BYTES = 65_536  # a SEQPACKET message must fit the socket's buffer; a whole environment may not
_SET_UP_S = 30.0
_END_S = 1.0
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21

# The switches that keep ordinary users from having user namespaces, each with the value that does so.
_USER_NAMESPACE_SWITCHES = (
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),  # Ubuntu since 24.04
    ("kernel.unprivileged_userns_clone", "0"),  # Debian before 11
)


class NamespaceError(DeviceError):
    """No private namespace with a device can be had here; the message says why, and what to do."""


class Namespace:
    """device           our end of the device; closed with the namespace
    process          the helper, and after `start` COMMAND: for waiting, and for signals
    fallback_reason  why the device is a veth pair although a TUN would have been preferred; None where it is not
    names_problem    why COMMAND does not know the names that were asked for; None where it does
    """

    __slots__ = ("_link", "_rootless", "_started", "device", "fallback_reason", "names_problem", "process")

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        link: socket.socket,
        device: TunDevice | PacketSocketDevice,
        answer: Mapping[str, Any],
        rootless: bool,
    ) -> None:
        """Not for callers: see `open`."""
        self.process = process
        self.device = device
        self.fallback_reason: str | None = answer["fallback_reason"]
        self.names_problem: str | None = answer["names_problem"]
        self._link = link
        self._rootless = rootless
        self._started = False

    @classmethod
    def open(
        cls,
        addresses: Sequence[str] = KERNEL_ADDRESSES,
        *,
        mtu: int = 1500,
        txqueuelen: int = TXQUEUELEN,
        tun_name: str = "tun0",
        device: str | None = None,
        offload: bool | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        rootless: bool | None = None,
    ) -> Namespace:
        """A new namespace in which `lo` and a device with these addresses are up, and nothing else is: without a
        route to anywhere else, looking up a name fails at once.

        mtu in octets, txqueuelen in packets. device is one of DEVICES, and by default what the environment variable
        TCPSTACK_DEVICE says, or else "auto". offload says whether checksums and the division of superpackets are left
        to the kernel, by default as TCPSTACK_OFFLOAD says ("on" or "off"), or else yes. names are those that COMMAND is
        to know, with their addresses, besides what /etc/hosts has; where that can't be done, `names_problem` says why.
        rootless says whether a user namespace goes around it; None: where this process lacks the capabilities to do
        without. Takes 0.1 to 0.3 s.
        Raises NamespaceError, and ValueError where an address or the kind of device is none.
        """
        if rootless is None:
            rootless = not _has_capabilities()
        kind = device or os.environ.get(DEVICE_VARIABLE) or "auto"
        if kind not in DEVICES:
            raise ValueError(f"{DEVICE_VARIABLE} can be {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, not {kind!r}")
        if offload is None:
            offload = offload_by_default()
        request = {
            "device": kind,
            "offload": offload,
            "name": tun_name,
            "addresses": [str(ip_interface(address)) for address in addresses],
            "mtu": mtu,
            "txqueuelen": txqueuelen,
            "names": {name: list(hosts) for name, hosts in (names or {}).items()},
        }
        link, helper_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.settimeout(_SET_UP_S)
        try:
            with helper_link:
                process = _start_helper(helper_link.fileno(), rootless)
            try:
                end, answer = _receive_device(link, process, request, rootless)
            except BaseException:
                process.kill()
                _reap(process)
                raise
        except BaseException:
            link.close()
            raise
        if isinstance(end, TunDevice):
            end.queue_packets = txqueuelen
        return cls(process, link, end, answer, rootless)

    @property
    def pid(self) -> int:
        """The process that holds the namespace."""
        return self.process.pid

    @property
    def rootless(self) -> bool:
        """Whether a user namespace is around the network namespace."""
        return self._rootless

    @property
    def exec_prefix(self) -> tuple[str, ...]:
        """Before a command line, it runs that in the namespace; good until the helper (or COMMAND) ends. The names
        that `open` was given are COMMAND's alone."""
        user = ("-U", "--preserve-credentials") if self._rootless else ()
        return ("nsenter", "-t", str(self.pid), *user, "-n", "--")

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
    ) -> subprocess.Popen[bytes]:
        """Let the helper become COMMAND, which is searched for in PATH; once only. Returns when it runs.

        It has this process's environment and standard descriptors unless told otherwise, and is killed when
        the thread that called `open` ends, so at the latest with this process: the kernel counts a child as
        its thread's (PR_SET_PDEATHSIG).
        Raises FileNotFoundError, PermissionError or another OSError where COMMAND can't be run.
        """
        assert not self._started, "a namespace starts one COMMAND; others run behind exec_prefix"
        self._started = True
        go = {"argv": list(argv), "env": dict(os.environ if env is None else env), "parent": os.getpid()}
        text = json.dumps(go).encode()
        socket.send_fds(self._link, [text[:_CHUNK_BYTES]], stdio)
        for at in range(_CHUNK_BYTES, len(text), _CHUNK_BYTES):
            self._link.send(text[at : at + _CHUNK_BYTES])
        self._link.shutdown(socket.SHUT_WR)
        answer = self._link.recv(_CHUNK_BYTES)
        if answer:
            code = json.loads(answer)["errno"]
            raise OSError(code, os.strerror(code), argv[0])
        return self.process

    def close(self) -> None:
        """End the device, and the helper or COMMAND (SIGTERM, a second later SIGKILL). Programs run behind
        exec_prefix are not ended, and hold the namespace until they do. Idempotent."""
        self.device.close()
        self._link.close()
        if self._started and self.process.poll() is None:
            self.process.terminate()
        _reap(self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _has_capabilities() -> bool:
    """Whether this process may make and configure a network namespace, whatever its uid."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return bool((effective >> _CAP_NET_ADMIN) & (effective >> _CAP_SYS_ADMIN) & 1)
    return False


def _start_helper(fd: int, rootless: bool) -> subprocess.Popen[bytes]:
    unshare = shutil.which("unshare")
    if unshare is None:
        raise NamespaceError(errno.ENOENT, "there is no program unshare: install the package util-linux")
    kind = ("-U", "-n", "-c", "--keep-caps") if rootless else ("-n",)
    # -P: the directory that somebody happens to be in is not searched for modules.
    helper = (sys.executable, "-P", "-m", "tcpstack.device._namespace_helper", str(fd))
    return subprocess.Popen(
        (unshare, *kind, "--", *helper),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(fd,),
        env=_helper_environment(),
    )


def _helper_environment() -> dict[str, str]:
    """This process's environment, but the helper finds this very package and unshare's errors are in English.

    COMMAND sees none of that: its environment comes with the go."""
    environment = {**os.environ, "LC_ALL": "C"}
    root = str(Path(__file__).parents[2])
    if root not in (*site.getsitepackages(), site.getusersitepackages()):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return environment


def _receive_device(
    link: socket.socket, process: subprocess.Popen[bytes], request: dict[str, Any], rootless: bool
) -> tuple[TunDevice | PacketSocketDevice, dict[str, Any]]:
    """The device, and the helper's answer that came with it."""
    try:
        link.send(json.dumps(request).encode())
        # Not socket.recv_fds, which ignores its flags: another thread may be starting a child just now.
        text, ancillary, _, _ = link.recvmsg(_CHUNK_BYTES, socket.CMSG_SPACE(2 * 4), socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        raise NamespaceError(errno.ETIMEDOUT, f"no namespace came up within {_SET_UP_S:.0f} s") from None
    except ConnectionError:
        text = b""
    if not text:
        raise _death(process, rootless)
    answer = json.loads(text)
    if not ancillary:
        raise _helper_error(answer["errno"], answer["message"], rootless)
    data = ancillary[0][2]
    fds = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
    try:
        offload = bool(request["offload"])
        if answer["device"] == "veth":
            return PacketSocketDevice.from_fd(fds[0], answer["name"], kernels_fd=fds[1], offload=offload), answer
        return TunDevice.from_fd(fds[0], answer["name"], answer["mtu"], offload=offload), answer
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def offload_by_default() -> bool:
    """What TCPSTACK_OFFLOAD says; raises ValueError where that is neither "on" nor "off"."""
    said = os.environ.get(OFFLOAD_VARIABLE) or "on"
    if said not in ("on", "off"):
        raise ValueError(f"{OFFLOAD_VARIABLE} can be on or off, not {said!r}")
    return said == "on"


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _death(process: subprocess.Popen[bytes], rootless: bool) -> NamespaceError:
    """What to say of a helper that ended without an answer, from what it (or unshare before it) wrote."""
    assert process.stderr is not None
    lines = process.stderr.read().decode(errors="replace").strip().splitlines()
    status = process.wait()
    for line in lines:
        if line.startswith("unshare: "):
            return _unshare_error(line, rootless)
    last = lines[-1] if lines else f"it ended with status {status} and without a message"
    return NamespaceError(errno.ECHILD, f"the helper in the namespace died: {last}")


def _unshare_error(line: str, rootless: bool) -> NamespaceError:
    kind = "user" if rootless else "network"
    if "failed to execute" in line:
        why = line.rpartition(": ")[2]
        remedy = "install tcpstack for a Python that everybody may execute, outside any user's private directory"
        return NamespaceError(errno.EACCES, f"{NOT_EXECUTABLE} ({sys.executable}, {why}): {remedy}")
    if os.strerror(errno.ENOSPC) in line:
        names = ("user.max_user_namespaces", "user.max_net_namespaces")
        limits = " and ".join(f"{name} is {_sysctl(name)}" for name in names)
        return NamespaceError(errno.ENOSPC, f"no more namespaces can be made ({limits}): raise the limit")
    if os.strerror(errno.EPERM) in line:
        remedy = "run as root, or start the container that this is in with `--privileged`"
        denied = NamespaceError(errno.EPERM, f"this process may not make a {kind} namespace: {remedy}")
        return (_user_namespaces_are_off() if rootless else None) or denied
    return NamespaceError(errno.EINVAL, f"no {kind} namespace could be made ({line})")


def _helper_error(code: int, message: str, rootless: bool) -> NamespaceError:
    # AppArmor lets the user namespace be made, and then denies every capability in it.
    off = _user_namespaces_are_off() if rootless and code == errno.EPERM else None
    return off or NamespaceError(code, message)


def _user_namespaces_are_off() -> NamespaceError | None:
    for name, off in _USER_NAMESPACE_SWITCHES:
        if _sysctl(name) == off:
            remedy = f"run as root, or allow them with `sudo sysctl {name}={1 - int(off)}`"
            return NamespaceError(errno.EPERM, f"ordinary users get no user namespaces here: {remedy}")
    return None


def _sysctl(name: str) -> str:
    """A sysctl's value; "unknown" where this kernel has no such thing."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return "unknown"
