"""Names in a private namespace: a /etc/hosts of its own, and no name server to wait for.

Files bound over the real ones, in a mount namespace of the calling process: nothing of it is seen outside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from . import libc

_HOSTS = "/etc/hosts"
_RESOLVER = "/etc/resolv.conf"

# A name server on a subnet of the stack's would be asked, never answer, and cost 10 to 20 s a name. Nobody serves
# names on the loopback device in here, and the kernel says so at once.
_NO_RESOLVER = b"# tcpstack: no name server can be reached from this namespace\nnameserver 127.0.0.1\n"

_SCRATCH = "/tmp"  # covered while the files are made, before anybody else is in this mount namespace


def install(names: Mapping[str, Sequence[str]]) -> None:
    """From now on, to this process and those that it becomes or starts, these names mean these addresses, as well
    as what /etc/hosts had; any other is unknown at once.

    Takes CAP_SYS_ADMIN. Raises OSError where that, or a mount, is denied; then no name has changed.
    """
    ours = "".join(f"{address}\t{name}\n" for name, addresses in names.items() for address in addresses)
    theirs = Path(_HOSTS).read_bytes()
    libc.unshare(libc.CLONE_NEWNS)
    # What is mounted here is not seen outside; what is unmounted outside is not held by us.
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_SLAVE)
    libc.mount("tmpfs", _SCRATCH, "tmpfs", 0, "mode=0755")
    try:
        _replace(_HOSTS, f"# tcpstack's own, for this namespace\n{ours}\n".encode() + theirs)
        with suppress(OSError):  # it need not be there
            _replace(_RESOLVER, _NO_RESOLVER)
    finally:
        libc.umount(_SCRATCH, libc.MNT_DETACH)


def _replace(path: str, content: bytes) -> None:
    made = Path(_SCRATCH, Path(path).name)
    made.write_bytes(content)
    made.chmod(0o644)  # whatever the umask: COMMAND may be another user's
    libc.mount(str(made), os.path.realpath(path), None, libc.MS_BIND)
