"""A program for the kernel's side: many connections to an echo service, one after another or at once.

Usage: echo_client.py HOST PORT COUNT sequential|parallel. Prints how many got their own octets back.
"""

from __future__ import annotations

import selectors
import socket
import sys


def sequential(host: str, port: int, count: int) -> int:
    good = 0
    for index in range(count):
        with socket.create_connection((host, port), timeout=20) as connection:
            message = b"number %d" % index
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(1000):
                answer += chunk
            good += answer == message
    return good


def parallel(host: str, port: int, count: int) -> int:
    """All are opened before the first is read: they are alive at the same time."""
    selector = selectors.DefaultSelector()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for index in range(count):
        connection = socket.socket(family)
        connection.setblocking(False)
        connection.connect_ex((host, port))
        selector.register(connection, selectors.EVENT_WRITE, [b"number %d" % index, b""])
    writing, good = count, 0
    while selector.get_map():
        events = selector.select(20)
        if not events:
            raise SystemExit(f"stalled with {len(selector.get_map())} connections open, {good} good")
        for key, mask in events:
            connection, (message, answer) = key.fileobj, key.data
            if mask & selectors.EVENT_WRITE:
                connection.sendall(message)
                writing -= 1
                selector.modify(connection, 0 or selectors.EVENT_READ, key.data)
            elif writing:
                continue  # nobody says goodbye before all are there
            elif chunk := connection.recv(1000):
                key.data[1] = answer + chunk
                if key.data[1] == message:
                    connection.shutdown(socket.SHUT_WR)
            else:
                good += answer == message
                selector.unregister(connection)
                connection.close()
    return good


if __name__ == "__main__":
    host, port, count, how = sys.argv[1:]
    print({"sequential": sequential, "parallel": parallel}[how](host, int(port), int(count)))
