"""What a connection reports to its user after a segment or a timeout: a small int, bits or-ed together."""

READABLE = 1
"""Text waits to be received."""
WRITABLE = 2
"""Queued text was sent: there is room for more."""
CONNECTED = 4
"""An active open reached ESTABLISHED."""
EOF = 8
"""The peer's FIN was reached in order: all of its text is readable, no more will come."""
RESET = 16
"""The connection died; `connection.error` says of what."""
CLOSED = 32
"""The engine is done with the connection: an orderly end (TIME-WAIT counts), or after RESET."""
URGENT = 64
"""The peer says that there is urgent text up to a point that is further on than it said before, and not yet read."""
