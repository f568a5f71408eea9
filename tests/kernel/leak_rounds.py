"""Runs a subcommand again and again, ended in each way in turn. For test_cli_leaks.py, which starts it as process 1 of
namespaces of its own: whatever is left, of ours or of our children's, is in them.

usage: leak_rounds.py SUBCOMMAND ROUNDS. A JSON object on stdout: the statuses by way, and what is there at the end:
processes, interfaces, and whether a network namespace is, which may be one without a process.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

AT_A_TIME = 3
NAMESPACES = 8
"""That may be there at once, our own among them."""
MOST_NAMESPACES = Path("/proc/sys/user/max_net_namespaces")
PATIENCE_S = 10.0
"""How long the kernel may take over those that are on their way out, which it counts until they are wholly gone."""

RUN_WAYS = {
    "ends": "true",
    "is killed": "kill -9 $$",
    "SIGINT": "echo ready; exec sleep 100",
    "SIGTERM": "echo ready; exec sleep 100",
    "we are killed": "echo ready; exec sleep 100",
}
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "we are killed": signal.SIGKILL}


def run(number: int) -> tuple[str, int, str]:
    """`run`, with a command that is in the midst of a connection where it is ended by us."""
    way = list(RUN_WAYS)[number % len(RUN_WAYS)]
    # Where we are killed nobody answers the last FIN, for which the kernel keeps a namespace for minutes.
    connect = "" if way == "we are killed" else "exec 9<>/dev/tcp/10.9.0.2/7; "
    script = f"{connect}{RUN_WAYS[way]}"
    limit = time.monotonic() + PATIENCE_S
    while True:
        status, said = ended(["run", "--trace", "/dev/null", "--", "bash", "-c", script], SIGNALS.get(way))
        if "no more namespaces can be made" not in said or time.monotonic() > limit:
            return way, status, said
        time.sleep(0.1)


def serve(number: int) -> tuple[str, int, str]:
    """`serve`, with a connection to it."""
    way = ("SIGINT", "SIGTERM", "we are killed", "the device is deleted")[number % 4]
    name, address = f"t{number}", f"10.{number}.0.2"
    words = ["serve", "--tun", name, "--address", f"{address}/24"]
    return way, *ended(words, SIGNALS.get(way), name, address)


def ended(
    words: list[str], number: signal.Signals | None, device: str | None = None, address: str = ""
) -> tuple[int, str]:
    """The exit status, and what was said on stderr, but for what is said when it serves."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tcpstack", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace",
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    client = None
    if device is not None:
        assert process.stderr is not None
        assert "Ctrl-C ends it" in process.stderr.readline()
        client = socket.create_connection((address, 7), timeout=10)
    elif number is not None:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            number = None
    if number is not None:
        process.send_signal(number)
    elif device is not None:
        subprocess.run(["ip", "link", "delete", device], check=True)
    if client is not None:
        with client, contextlib.suppress(OSError):
            client.settimeout(0.2)
            client.recv(1)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def others() -> list[str]:
    """The processes that there are beside this one, and are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                line = (entry / "cmdline").read_text().replace("\0", " ")
                if state != "Z":
                    found.append(line)
    return found


def has_namespaces() -> bool:
    """Whether a network namespace stays beside our own, whoever holds it: then there is no room for a second one."""
    MOST_NAMESPACES.write_text("2")
    limit = time.monotonic() + PATIENCE_S
    while subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0:
        if time.monotonic() > limit:
            return True
        time.sleep(0.1)
    return False


def main(subcommand: str, rounds: int) -> dict[str, Any]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    MOST_NAMESPACES.write_text(str(NAMESPACES))
    statuses: dict[str, set[int]] = defaultdict(set)
    said: set[str] = set()
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        for way, status, text in pool.map({"run": run, "serve": serve}[subcommand], range(1, rounds + 1)):
            statuses[way].add(status)
            said.add(text)
    limit = time.monotonic() + 5
    while others() and time.monotonic() < limit:
        time.sleep(0.02)
    return {
        "statuses": {way: sorted(found) for way, found in statuses.items()},
        "said": sorted(said),
        "processes": others(),
        "namespaces": has_namespaces(),
        "interfaces": [name for _, name in socket.if_nameindex()],
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
