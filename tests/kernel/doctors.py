"""`tcpstack doctor` on machines that are made of namespaces, which end with the script that makes them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
DOCTOR = (sys.executable, "-P", "-m", "tcpstack", "doctor")

# Where nobody can find Python, the package and what it needs, in a mount namespace that ends with the command. The
# node of the TUN driver is one of our own, of which `mode` says who may open it.
AS_NOBODY = """
set -e
mode=$1; shift
mount -t tmpfs tmpfs /mnt
mkdir /mnt/python /mnt/project /mnt/packages
mount --bind "$BASE" /mnt/python
mount --bind "$PROJECT" /mnt/project
mount --bind "$PACKAGES" /mnt/packages
mknod -m "$mode" /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
cd /
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
doctor() { nobody "/mnt/python/bin/$PYTHON" -P -m tcpstack doctor "$@"; }
eval "$1"
"""


def environment(**changes: str) -> dict[str, str]:
    packages = [path for path in sys.path if path.endswith("-packages")]
    paths = {"PYTHONPATH": os.pathsep.join([str(PROJECT), *packages])}
    return {**{key: value for key, value in os.environ.items() if key != "TCPSTACK_DEVICE"}, **paths, **changes}


def shell(script: str, *words: str, private: str = "-mn", **env: str) -> subprocess.CompletedProcess[str]:
    """Run bash with `script` in namespaces of its own. $DOCTOR there is `tcpstack doctor`."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a machine of each kind")
    argv = ["unshare", private, "bash", "-c", script, "bash", *words]
    process = subprocess.Popen(
        argv, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
        env=environment(DOCTOR=" ".join(DOCTOR), **env),
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a failed script left behind
        process.wait()
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def as_nobody(mode: str, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `script` as root in a network namespace; `doctor` in it is nobody's, whose node has this mode."""
    packages = next(path for path in sys.path if path.endswith("-packages"))
    done = shell(
        AS_NOBODY, mode, script, BASE=sys.base_prefix, PROJECT=str(PROJECT), PACKAGES=packages,
        PYTHON=Path(sys.executable).resolve().name, PYTHONPATH="/mnt/project:/mnt/packages",
        LD_LIBRARY_PATH="/mnt/python/lib", **env,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def findings(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The reports on stdout, one after the other, each with the ways by name."""
    assert done.stdout, done.stderr
    decoder = json.JSONDecoder()
    text, reports = done.stdout, []
    while text.strip():
        report, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        reports.append({**report, **{way["name"]: way for way in report["ways"]}})
    return reports


def only(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    [report] = findings(done)
    return report
