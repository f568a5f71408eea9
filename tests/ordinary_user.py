"""A command as an ordinary user (uid 65534), whatever the modes of the places where Python and the project are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Everything is put where one may look: Python, the package, and a TUN node of the mode that is asked for, on a tmpfs
# and by bind mounts in a mount namespace that ends with the command.
_SCRIPT = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/python /mnt/root /mnt/packages
mount --bind "$1" /mnt/python
mount --bind "$2" /mnt/root
mount --bind "$3" /mnt/packages
mknod -m "$4" /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
shift 4
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"""

PYTHON = f"/mnt/python/bin/{Path(sys.executable).resolve().name}"
"""Where such a command finds this Python, which finds the package."""

ENVIRONMENT = {
    "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    "PYTHONPATH": "/mnt/root:/mnt/packages",
    # A shared libpython would be looked for where Python was installed, which the user may not see.
    "LD_LIBRARY_PATH": "/mnt/python/lib",
}
"""What the command's environment must have."""


def as_ordinary_user(*argv: str, node_mode: str) -> tuple[str, ...]:
    """The command line that runs `argv` so, with a /dev/net/tun of this mode ("0666")."""
    packages = next(path for path in sys.path if path.endswith("-packages"))
    return ("unshare", "-m", "sh", "-c", _SCRIPT, "sh", sys.base_prefix, str(ROOT), packages, node_mode, *argv)


def needs_root() -> None:
    """Skip the test where root's own powers can't be given away, since there are none."""
    if os.geteuid() != 0:
        pytest.skip("only root can take its own capabilities away, or mount")
