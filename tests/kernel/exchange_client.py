"""A program for the kernel's side: sends a file and receives a stream at the same time, over one connection.

Usage: exchange_client.py HOST PORT FILE. Prints the sha256 of what it received up to the other side's FIN.
"""

from __future__ import annotations

import hashlib
import socket
import sys
import threading
from pathlib import Path


def main(host: str, port: str, file: str) -> None:
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        data = Path(file).read_bytes()

        def send() -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        digest = hashlib.sha256()
        while chunk := connection.recv(1 << 16):
            digest.update(chunk)
        sender.join()
    print(digest.hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
