"""The process inside a private network namespace; `namespace.py` started it and is the socket's other end.

    request   {"device", "name", "addresses", "mtu", "txqueuelen", "offload", "names"}, one message
    answer    {"device", "name", "mtu", "fallback_reason", "names_problem"} with the device's descriptors, or
              {"errno", "message"} and the end
    go        {"argv", "env", "parent"} in as many messages as it takes, the first with descriptors for stdin,
              stdout and stderr; then the parent shuts its side down. No go before that: the end
    answer    nothing, the socket closes as COMMAND takes this process over; or {"errno", "message"}

Until the go it holds the namespace, and of the device nothing: that lives as long as the parent's descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sys
from typing import Any

from . import names, netlink, veth
from .base import DeviceError
from .packet_socket import PacketSocketDevice
from .tun import NoTunError, TunDevice

_CHUNK_BYTES = 65_536
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(fd: int) -> None:
    """Serve the parent behind the SEQPACKET socket fd."""
    # The terminal's Ctrl-C reaches all of the foreground group, but what becomes of the namespace is for the
    # parent to say. Where it was ignored before us (nohup, a shell's `&`), COMMAND is to inherit that.
    inherited = signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=fd)
    link.set_inheritable(False)
    try:
        _set_up(link, json.loads(link.recv(_CHUNK_BYTES)))
        go, stdio = _wait_for_go(link)
        if go is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN if inherited is signal.SIG_IGN else signal.SIG_DFL)
            _become(go, stdio)
    except OSError as error:
        answer = {"errno": error.errno, "message": error.strerror or str(error)}
        link.send(json.dumps(answer).encode())


def _set_up(link: socket.socket, request: dict[str, Any]) -> None:
    device, fallback_reason = _open_device(request)
    netlink.configure("lo")
    answer = {
        "device": "tun" if isinstance(device, TunDevice) else "veth",
        "name": device.name,
        "mtu": request["mtu"],
        "fallback_reason": fallback_reason,
        "names_problem": _install(request["names"]),
    }
    ends = [device.fileno()] if isinstance(device, TunDevice) else [device.fileno(), device.kernels_fd]
    fds = [os.dup(fd) for fd in ends]
    device.close()  # this takes offload back, so not after the parent may have asked for it
    socket.send_fds(link, [json.dumps(answer).encode()], fds)
    for fd in fds:
        os.close(fd)


def _open_device(request: dict[str, Any]) -> tuple[TunDevice | PacketSocketDevice, str | None]:
    """The device, its kernel's end configured; and why it is not the one that "auto" would rather have."""
    name, addresses = request["name"], request["addresses"]
    sizes = {key: request[key] for key in ("mtu", "txqueuelen")}
    offload = request["offload"]
    if request["device"] == "veth":
        return veth.open_veth(name, addresses, **sizes, offload=offload), None
    try:
        device = TunDevice.open(name, offload=offload)
    except NoTunError as no_tun:
        if request["device"] == "tun":
            raise
        try:
            return veth.open_veth(name, addresses, **sizes, offload=offload), no_tun.problem
        except DeviceError as no_veth:
            # The TUN's remedy is the one to tell: it is the device that works best. But where capabilities are
            # denied in here, none helps against that, and the parent knows what to say of EPERM.
            code = errno.EPERM if no_veth.errno == errno.EPERM else no_tun.errno
            message = f"{no_tun.strerror} (nor is a veth pair to be had: {no_veth.strerror})"
            raise DeviceError(code, message) from None
    netlink.configure(name, addresses, **sizes)
    return device, None


def _install(wanted: dict[str, list[str]]) -> str | None:
    """See to it that COMMAND knows these names; or say why it does not."""
    if wanted:
        try:
            names.install(wanted)
        except OSError as error:
            return error.strerror or str(error)
    return None


def _wait_for_go(link: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The parent's go and the descriptors that came with it, or None where the parent went away instead."""
    text = bytearray()
    stdio: list[int] = []
    while True:
        chunk, fds, _, _ = socket.recv_fds(link, _CHUNK_BYTES, 3)
        if not chunk:
            break
        text += chunk
        stdio += fds
    try:
        return json.loads(text), stdio
    except ValueError:  # nothing, or half of it: the parent ended
        return None, stdio


def _become(go: dict[str, Any], stdio: list[int]) -> None:
    """Turn into COMMAND; raises OSError where there is no such thing. Returns where the parent is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != go["parent"]:
        return  # it died before the line above could say what follows from that
    for target, fd in enumerate(stdio):
        os.dup2(fd, target)
        os.close(fd)
    # What Python ignores for its own sake is not for COMMAND to inherit.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execvpe(go["argv"][0], go["argv"], go["env"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
