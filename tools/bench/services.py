"""What every server under test offers, by port."""

from __future__ import annotations

ECHO_PORT = 5007
"""Sends back what it gets."""
DISCARD_PORT = 5009
"""Reads until the peer closes, then closes too."""
CHARGEN_PORT = 5019
"""Sends until the connection ends."""
CONNECT_PORTS = tuple(range(5100, 5116))
"""As DISCARD_PORT. Several, because each connection leaves a TIME-WAIT of 60 s at the peer, which has 28,000
ports for each port that it connects to."""
ALL_PORTS = (ECHO_PORT, DISCARD_PORT, CHARGEN_PORT, *CONNECT_PORTS)

CHUNK = bytes(256 * 1024)
"""What the programs behind CHARGEN_PORT write at once."""

REQUEST_BYTES = 100
"""What is asked, and answered, by way of ECHO_PORT where small requests are measured."""
